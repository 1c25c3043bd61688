"""What the lenses of all terms have seen in one step.

Each view passes each network once, for the union of the layers that are asked for. :class:`Looks` dies with the step,
hence nothing in it grows stale.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, final

from torch import Tensor

from lossmith.lens import Features, Lens, Maps, full, the_image, unhalved

if TYPE_CHECKING:
    from lossmith.engine.nonfinite import Post

__all__ = ["Looks", "path_of", "shown", "wanted_layers"]


@final
class Looks:
    """What the lenses of a loss have seen of the views of one step.

    Args:
        views: The views by name.
        wanted: For each view and each network on the chains that it passes, by the text of that part of the chain: the
            layers that any term wants there. See :func:`wanted_layers`.
        kept: What has been seen before of views that stay the same, as :attr:`seen` has it.
    """

    guard: "Post | None" = None
    """What stops gradients that are no numbers on their way back to the views; nothing if it is None."""

    def __init__(
        self,
        views: Mapping[str, Tensor],
        wanted: Mapping[tuple[str, str], Sequence[str]],
        kept: Mapping[tuple[str, bool, str], Maps] | None = None,
    ) -> None:
        self.views = views
        self.wanted = wanted
        self.kept = kept or {}
        self.seen: dict[tuple[str, bool, str], Maps] = {}

    def under(self, guard: "Post") -> "Looks":
        """The same looks, and all that has been seen in them, as one term sees them behind a guard."""
        guarded = Looks(self.views, self.wanted, self.kept)
        guarded.seen, guarded.guard = self.seen, guard
        return guarded

    def __call__(self, view: str, path: Sequence[tuple[str, Lens]], *, detached: bool) -> Maps:
        """One view through a chain of lenses.

        Args:
            view: The view's name.
            path: The chain, see :func:`path_of`.
            detached: Whether no gradient shall reach the view through this look.
        """
        if (found := self.already(view, path, detached=detached)) is not None:
            return found
        image = self.views[view].detach() if detached else self.views[view]
        if self.guard is not None:
            image = self.guard(view, path[0][0] if path else "", image)
        maps = {"pixels": image}
        for text, lens in path:
            key = (view, detached, text)
            if key not in self.seen:
                if isinstance(lens, Features):
                    self.seen[key] = lens.backbone(the_image(lens, maps), self.wanted[view, text])
                else:
                    self.seen[key] = shown(lens, maps)
            maps = self.seen[key]
            if isinstance(lens, Features):
                maps = {layer: maps[layer] for layer in lens.layers}
        return maps

    def already(self, view: str, path: Sequence[tuple[str, Lens]], *, detached: bool) -> Maps | None:
        """What is kept of such a look, if all of it is."""
        if not path or (found := self.kept.get((view, detached, path[-1][0]))) is None:
            return None
        last = path[-1][1]
        if not isinstance(last, Features):
            return found
        return {layer: found[layer] for layer in last.layers} if found.keys() >= last.layers.keys() else None


def shown(lens: Lens, maps: Maps) -> Maps:
    """What a lens that is no network shows of some maps: in float32 at least, whatever autocast says."""
    with unhalved(next(iter(maps.values()))):
        return lens.forward({name: full(each) for name, each in maps.items()})  # tools' module hooks expect no leaves


def path_of(lens: Lens | None) -> tuple[tuple[str, Lens], ...]:
    """The stages of a lens, each with a text that is the same for all that show the same.

    A network's text leaves out the layers, so that terms which look at other layers of it share its pass; what comes
    after a network includes them.
    """
    path: list[tuple[str, Lens]] = []
    shown = ""
    for stage in lens.stages if lens is not None else ():
        if isinstance(stage, Features):
            path.append((f"{stage.backbone!r} @ {shown}", stage))
        else:
            path.append((f"{stage!r} @ {shown}", stage))
        shown = f"{stage!r} @ {shown}"
    return tuple(path)


def wanted_layers(
    looks: Iterable[tuple[str, Sequence[tuple[str, Lens]]]],
) -> dict[tuple[str, str], tuple[str, ...]]:
    """For each view and each network on its paths, by its text there, the union of the layers asked, first to last.

    Args:
        looks: Pairs of a view and a path that it takes.
    """
    union: dict[tuple[str, str], set[str]] = {}
    order: dict[str, tuple[str, ...]] = {}
    for view, path in looks:
        for text, lens in path:
            if isinstance(lens, Features):
                union.setdefault((view, text), set()).update(lens.layers)
                order[text] = lens.backbone.layers
    return {key: tuple(layer for layer in order[key[1]] if layer in layers) for key, layers in union.items()}
