"""What the lenses of a loss see of the views of one step, under Keras: each view passes each network once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from keras import ops

from lossmith.keras.lenses import calibrated, distilled, gram
from lossmith.keras.networks import features
from lossmith.keras.inputs import Tensor
from lossmith.lens import Features, Lens
from lossmith.lenses import Applications, Calibrated, Distilled, Gram
from lossmith.lenses.applications import ApplicationsNetwork
from lossmith.lenses.sequential_network import SequentialNetwork

__all__ = ["KerasFeatureCache", "refuse_unseen"]

Maps = dict[str, Tensor]

SHOWN: dict[type[Lens], Callable[[Any, Maps], Maps]] = {Gram: gram, Calibrated: calibrated, Distilled: distilled}
"""How each lens that is no network shows some maps (N, H, W, C)."""


def refuse_unseen(lens: Lens) -> None:
    """Raises if Keras cannot look through a lens."""
    if isinstance(lens, Features):
        if not isinstance(lens.backbone, SequentialNetwork | ApplicationsNetwork):
            raise ValueError(
                f"{lens!r} is a network of PyTorch's; under Keras look through one of keras.applications, such as "
                f'L1() @ {Applications.__name__}("ResNet50", "conv4_block6_out"), or through VGG.'
            )
    elif type(lens) not in SHOWN:
        known = ", ".join(each.__name__ for each in SHOWN)
        raise ValueError(f"{lens!r} runs under PyTorch alone; under Keras there are {known} and the networks.")


@final
class KerasFeatureCache:
    """What has been seen in one step; it dies with the step.

    Args:
        views: The views by name, channels last.
        wanted: For each view and each network on the paths, by its text, the layers that any term wants there.
    """

    def __init__(self, views: Mapping[str, Tensor], wanted: Mapping[tuple[str, str], Sequence[str]]) -> None:
        self.views = views
        self.wanted = wanted
        self.seen: dict[tuple[str, bool, str], Maps] = {}

    def __call__(self, view: str, path: Sequence[tuple[str, Lens]], *, detached: bool) -> Maps:
        """One view through a chain of lenses, with or without a gradient."""
        image = self.views[view]
        maps = {"pixels": ops.stop_gradient(image) if detached else image}
        for text, lens in path:
            key = (view, detached, text)
            if key not in self.seen:
                self.seen[key] = self.through(lens, maps, self.wanted.get((view, text), ()))
            maps = self.seen[key]
            if isinstance(lens, Features):
                maps = {layer: maps[layer] for layer in lens.layers}
        return maps

    def through(self, lens: Lens, maps: Maps, layers: Sequence[str]) -> Maps:
        """What one lens shows of some maps."""
        if not isinstance(lens, Features):
            return SHOWN[type(lens)](lens, maps)
        (image,) = maps.values()
        if isinstance(lens.backbone, ApplicationsNetwork):
            return lens.backbone.extract_features(image, layers)
        assert isinstance(lens.backbone, SequentialNetwork)
        return features(lens.backbone, image, layers)
