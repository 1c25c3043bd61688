"""Terms that are not finite: left out where they are, counted, named, and a reason to stop when they stay so.

All of it is kept on the device, as a few small tensors, and read together with the values of a logged step.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.engine.nonfinite import Guard, rows

__all__ = ["CURE", "NotFinite", "Quarantine", "Reading", "mended", "sound"]

PATIENCE = 10
"""Steps in a row that a term may be left out: what is still not finite then is no single bad picture any more, as
pictures are drawn at random, and the user would rather know than train without the term."""

COLLAPSE = 3
"""Steps in a row in which nothing may be finite: with all terms gone nothing can lead the weights back, but a single
step may have had bad pictures alone, which are few where a batch is small."""

NAMED = 64
"""The pictures of a pass on each device that can be named, so that what is kept has one size."""

SHOWN = 3
"""The files that a message names."""

Kept = dict[str, list[float]]

NETWORK, NOTHING = -2, -1  # rows behind those of the terms
CURE = "the last checkpoint is from before; look at its pictures, or lower the learning rate or that term's weight."


class NotFinite(ValueError):
    """Something was infinite or no number for too long; the message names it and the step."""


@final
@dataclass(frozen=True)
class Reading:
    """What has been left out so far.

    Args:
        totals: For each term, and the network's gradient, the steps without it, on the device that had most.
        news: Whoever was left out, in words: where, when and for which pictures.
        adrift: Whether nothing at all was finite in the last step.
        stop: Why the run cannot go on, if it cannot.
    """

    totals: dict[str, int] = field(default_factory=dict)
    news: dict[str, str] = field(default_factory=dict)
    adrift: bool = False
    stop: str | None = None


@final
class Quarantine:
    """Counts for each term the steps without it, and remembers how that began.

    Args:
        names: The terms.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.sources: Callable[[int, int], Sequence[str]] | None = None
        """The files of the pictures of a pass, counted from 0 over the whole run, on a device."""
        self.layers: tuple[tuple[str, str], ...] = ()
        self.state: dict[str, Tensor] = {}
        self.now: Tensor | None = None
        """What was not finite in the step so far."""
        self.live: tuple[str, ...] = ()

    def passed(self, guard: Guard, live: Sequence[str], number: int) -> None:
        """Takes in one pass, forward and backward.

        Args:
            guard: What was seen in it.
            live: The terms whose weight was not the number 0; others do no harm.
            number: Which pass of the run, from 0.
        """
        self.live = tuple(live)
        none = torch.zeros_like(next(iter(guard.broken.values())))
        values = {name: guard.broken[name] if name in live else none for name in self.names}
        spoilt = rows([_with(values[name], guard.hits(name)) if name in live else none for name in self.names])
        by_value = rows(list(values.values())).any(dim=1)
        nothing = torch.cat([values[name] for name in live]).all() if live else none.any()
        bad = torch.cat([spoilt.any(dim=1), none.any().view(1), nothing.view(1)])
        layers = {key: ~torch.cat(found).isfinite().all() for key, found in guard.layers.items()}
        if not self.state:
            self._begin(tuple(layers), bad.device)
        state = self.state
        if joined := tuple(key for key in layers if key not in self.layers):  # of a term that rested until now
            self.layers += joined
            state["layers"] = F.pad(state["layers"], (0, len(joined)))
        begins = bad & (state["streak"] == 0) & (state["longest"] < PATIENCE)
        if self.now is not None:
            begins = begins & ~self.now
        new = {"number": torch.full_like(state["number"], number), "by_value": by_value}
        new["pictures"] = F.pad(spoilt, (0, NAMED - spoilt.shape[1]))
        new["layers"] = torch.stack([layers.get(key, none.any()) for key in self.layers])
        whose = {"number": begins, "by_value": begins[:NETWORK], "pictures": begins[:NETWORK, None]}
        whose["layers"] = torch.stack([begins[self.names.index(name)] for name, _ in self.layers])
        for what, now in new.items():
            state[what] = torch.where(whose[what], now, state[what])
        if self.now is not None:  # nothing is finite in a step if it is in none of its passes
            bad = torch.cat([(self.now | bad)[:NOTHING], (self.now & bad)[NOTHING:]])
        self.now = bad

    def stepped(self, broken: Tensor | None, number: int) -> None:
        """Takes in that all passes of a step are done.

        Args:
            broken: Whether the gradient of the network's weights is not finite, though all that came into it was; None
                if somebody else sees to that.
            number: The last pass.
        """
        if self.now is None:
            return
        state, bad = self.state, self.now
        if broken is not None:
            bad[NETWORK] = broken
            begins = broken & (state["streak"][NETWORK] == 0)
            state["number"][NETWORK] = torch.where(begins, number, state["number"][NETWORK])
        state["count"] = state["count"] + bad
        state["streak"] = (state["streak"] + 1) * bad
        state["longest"] = torch.maximum(state["longest"], state["streak"])
        self.now = None

    def _begin(self, layers: tuple[tuple[str, str], ...], device: torch.device) -> None:
        self.layers = layers
        terms, every = len(self.names), len(self.names) + 2
        for what in ("count", "streak", "longest", "number"):
            self.state[what] = torch.zeros(every, dtype=torch.long, device=device)
        self.state["by_value"] = torch.zeros(terms, dtype=torch.bool, device=device)
        self.state["pictures"] = torch.zeros(terms, NAMED, dtype=torch.bool, device=device)
        self.state["layers"] = torch.zeros(len(layers), dtype=torch.bool, device=device)

    def packed(self) -> list[Tensor]:
        """All that is kept, flat, for one trip to the host."""
        return [each.flatten() for each in self.state.values()]

    def read(self, devices: Sequence[Sequence[float]], passes: int) -> Reading:
        """What :meth:`packed` says, as it came from each device.

        Args:
            devices: The numbers of each device.
            passes: Passes in a step.
        """
        if not self.state:
            return Reading()
        found = [self._unpacked(numbers) for numbers in devices]
        rows = [*self.names, "network"]
        worst = [max(found, key=lambda one: (one["longest"][i], one["count"][i])) for i in range(len(rows))]
        totals = {name: int(one["count"][i]) for i, (name, one) in enumerate(zip(rows, worst, strict=True))}
        news = {name: self._told(i, worst[i], found, passes) for i, name in enumerate(rows) if totals[name]}
        stop = ""
        if (gone := min(int(one["longest"][NOTHING]) for one in found)) >= COLLAPSE:
            one = len(self.live) == 1
            who = f"The term '{self.live[0]}' was not" if one else f"None of the terms {', '.join(self.live)} was"
            step = min(int(one["number"][NOTHING]) for one in found) // passes + 1
            stop = f"{who} a finite number for any picture in {gone} steps in a row, from step {step} on"
        for i, name in enumerate(rows):
            limit = COLLAPSE if i == len(self.names) else PATIENCE
            if not stop and (longest := int(worst[i]["longest"][i])) >= limit:
                stop = f"{news[name]}; so it went in {longest} steps in a row"
        adrift = all(one["streak"][NOTHING] for one in found)
        return Reading(totals, news, adrift=adrift, stop=f"{stop}; {CURE}" if stop else None)

    def _unpacked(self, numbers: Sequence[float]) -> Kept:
        left, kept = list(numbers), {}
        for what, each in self.state.items():
            kept[what], left = left[: each.numel()], left[each.numel() :]
        return kept

    def _told(self, row: int, mine: Kept, found: Sequence[Kept], passes: int) -> str:
        """What was not finite, at which step, and for which layers and pictures, in words."""
        number = int(mine["number"][row])
        step = number // passes + 1
        if row == len(self.names):
            return f"The gradient of the network's weights was not a finite number at step {step}"
        name = self.names[row]
        layers = [n for (term, n), bad in zip(self.layers, mine["layers"], strict=True) if bad and term == name]
        files: list[str] = []
        for device, one in enumerate(found):
            if one["count"][row] and one["number"][row] == number:
                pictures = one["pictures"][row * NAMED :][:NAMED]
                files += self._files([i for i, bad in enumerate(pictures) if bad], number, device)
        places = [", ".join(layers)] if layers != ["pixels"] else []
        places += [", ".join(files[:SHOWN]) + (f" and {len(files) - SHOWN} more" if len(files) > SHOWN else "")]
        where = f" ({'; '.join(filter(None, places))})" if any(places) else ""
        if mine["by_value"][row]:
            return f"The term '{name}' was not a finite number at step {step}{where}"
        mates = [n for i, n in enumerate(self.names) if mine["number"][i] == number and not mine["by_value"][i]]
        mates = [n for n in mates if mine["count"][self.names.index(n)]]
        who = f"The term '{name}'" if len(mates) == 1 else f"One of the terms {', '.join(mates)}"
        return f"{who} had a finite value, but no finite gradient, at step {step}{where}"

    def _files(self, pictures: Sequence[int], number: int, device: int) -> list[str]:
        if self.sources is None or not pictures:
            return [f"picture {i + 1} of the batch" for i in pictures]
        files = self.sources(number, device)
        return list(dict.fromkeys(files[i] for i in pictures if i < len(files)))


def _with(broken: Tensor, hits: Sequence[Tensor]) -> Tensor:
    """The pictures that are broken, or were hit; where a hit is not told by picture, all."""
    for hit in hits:
        broken = broken | (hit if hit.shape == broken.shape else hit.any())
    return broken


def mended(weights: Iterable[nn.Parameter]) -> Tensor | None:
    """Whether the gradients of some weights are not finite, which are then all set to zero; None if there are none.

    What a network makes of a picture for which it is not finite itself spoils them though nothing bad comes into it.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not gradients:
        return None
    broken = ~torch.nn.utils.get_total_norm(gradients, torch.inf).isfinite()
    for gradient in gradients:
        gradient.masked_fill_(broken, 0.0)
    return broken


def sound(views: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The views with a sound picture in the place of each that is not finite in some of them, for a critic to learn."""
    count = max((len(view) for view in views.values() if view.dim()), default=0)
    whole = {name: view for name, view in views.items() if view.dim() and len(view) == count}
    if not whole:
        return dict(views)
    finite = torch.stack([view.reshape(count, -1).isfinite().all(dim=1) for view in whole.values()]).all(dim=0)
    first = finite.float().argmax().view(1)

    def mend(view: Tensor) -> Tensor:
        other = view.index_select(0, first).nan_to_num(0.0, 0.0, 0.0)  # no picture may be sound
        return torch.where(finite.view(-1, *(1,) * (view.dim() - 1)), view, other)

    return {**views, **{name: mend(view) for name, view in whole.items()}}
