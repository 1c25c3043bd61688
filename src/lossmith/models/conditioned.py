"""A knob on a network: one set of weights for a whole range of losses, turned when it is used."""

import functools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.formula.weight import Knob, WeightValue
from lossmith.models.base import Restorer
from lossmith.models.slider import Slider, to_fraction

__all__ = ["ConditionedNetwork"]

OCTAVES = 4  # of the Fourier features; the finest has a wave over a quarter of the range
PACE = 10.0  # with Adam each weight moves by about the learning rate a step, and the heads have all the way to go
SLACK = 1e-6  # relative; what a float32 makes of an end of the range


@final
class ConditionedNetwork(Restorer):
    r"""A network that can be turned between losses while it is used, by knobs that its training turned at random.

    After the first convolution of each block the features are scaled and shifted, channel by channel, by what a small
    network makes of the knobs:

    .. math:: h \leftarrow (1 + \gamma) h + \beta, \quad
        (\gamma, \beta) = 10 \, A_b f\big(u, \sin 2^k \tfrac{\pi}{2} u, \cos 2^k \tfrac{\pi}{2} u\big)_{k<4}, \quad
        u = 2 \frac{\log \lambda - \log \lambda_\text{low}}{\log \lambda_\text{high} - \log \lambda_\text{low}} - 1

    where :math:`f` is two layers of 1 x 1 convolutions for all blocks together and each :math:`A_b` begins at zero, so
    that it begins as the network itself, to the bit. The factor 10 has it learn at the network's own learning rate:
    with 1, a fine-tuning of a thousand steps comes short of both ends of the range. As all of it is 1 x 1, a knob may
    be a number, a number for each picture, or a map. The network's own weights keep their names under ``network.``.

    A block is an element of a ``ModuleList`` or ``Sequential`` that holds a convolution larger than 1 x 1 and no
    smaller block; of several kinds of blocks it is the commonest. In a network without any, each convolution but the
    first and the last is one. A map is padded with the picture and brought to the size of the features; in a network
    that pads its input once more by itself, as SwinIR does, it is stretched by as much.

    References:
        | FiLM: Visual Reasoning with a General Conditioning Layer (Perez et al., 2018)
        | https://arxiv.org/abs/1709.07871
        | You Only Train Once: Loss-Conditional Training of Deep Networks (Dosovitskiy & Djolonga, 2020)
        | https://openreview.net/forum?id=HyxY6JHKwr

    Args:
        network: The network, trained or not.
        knobs: For each knob the lowest and the highest value, both above 0; it moves evenly in their logarithm.
        where: Names of modules after which to turn instead, with ``*`` and ``?``; each must give (N, C, h, w), and hold
            the convolution that its channels come from.
        width: Channels of :math:`f`.

    Raises:
        ValueError: No knob, a range that is none, a name that is no knob's, or no place to turn at.

    Example:
        >>> from lossmith.models import EDSR
        >>> model = ConditionedNetwork(EDSR(2, channels=8, blocks=2), {"lam": (0.03, 30.0)})
        >>> model.where
        ('body.0.0', 'body.1.0')
        >>> model(torch.rand(1, 3, 8, 8), lam=0.5).shape
        torch.Size([1, 3, 16, 16])
    """

    def __init__(
        self,
        network: Restorer,
        knobs: Mapping[str, Sequence[float]],
        *,
        where: str | Sequence[str] | None = None,
        width: int = 64,
    ) -> None:
        if isinstance(network, ConditionedNetwork):
            raise ValueError(f"The network has the knobs {', '.join(network.knobs)} already; give the one inside.")
        if not knobs:
            raise ValueError("ConditionedNetwork wants at least one knob and its range, such as {'lam': (0.03, 30.0)}; got none.")
        if "image" in knobs:
            raise ValueError("A knob of a network cannot be called 'image', as its input is; give it another name.")
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ValueError(f"ConditionedNetwork wants width as a whole number of at least 1; got {width!r}.")
        ranges = {name: span(name, ends) for name, ends in knobs.items()}
        places = blocks(network) if where is None else named(network, [where] if isinstance(where, str) else where)
        spec = {"name": "knob", "network": network.spec, "where": list(places), "width": width}
        super().__init__(network.scale, network.receptive_radius, {**spec, "knobs": {k: list(v) for k, v in ranges.items()}})
        self.network, self.where, self.in_channels = network, tuple(places), network.in_channels
        self.knobs: dict[str, tuple[float, float]] = ranges
        self.channels = tuple(places.values())
        self.slider: Slider | None = None
        """What equal moves of a slider are in the knobs, once it was measured."""
        self.interpolation_slider: Slider | None = None
        """The same where its ends are mixed, see :class:`lossmith.models.output_interpolation.OutputInterpolation`."""
        self.code = nn.Sequential(
            nn.Conv2d(len(self.knobs) * (1 + 2 * OCTAVES), width, 1), nn.SiLU(), nn.Conv2d(width, width, 1), nn.SiLU()
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, 2 * channels, 1) for channels in self.channels)
        for head in self.heads:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        for index, place in enumerate(self.where):
            network.get_submodule(place).register_forward_hook(functools.partial(self._turn, index))
        self._now: tuple[Tensor, dict[tuple[int, ...], Tensor], list[int]] | None = None

    def forward(self, image: Tensor, **knobs: WeightValue) -> Tensor:
        """The image restored, with each knob at a number, one a picture (N,), or a map (N, 1, H, W) of its size.

        Raises:
            ValueError: A knob is missing or unknown, has another shape, or stands outside of its range. In training and
                in compiled code the values of a tensor are not looked at, since a GPU would have to be waited for.
        """
        passed: list[int] = []
        self._now = self.network.pad(self.normalize_knobs(image, knobs)), {}, passed
        try:
            answer: Tensor = self.network(image)
        finally:
            self._now = None
        if missed := [place for index, place in enumerate(self.where) if index not in passed]:
            raise ValueError(
                f"The knob sits after {missed[0]!r}, which the network does not call "
                f"{'in training' if self.training else 'in use'}; name other places with where=."
            )
        return answer

    def train(self, mode: bool = True) -> Self:
        """As of any module; a network that is trained on has no slider any more, whose table is of its old weights."""
        if mode:
            self.slider = self.interpolation_slider = None
        return super().train(mode)

    def knobs_at(self, t: WeightValue) -> dict[str, WeightValue]:
        """What each knob is at a place of the slider, from 0 (all low) to 1 (all high): a number, or a tensor for one.

        Equal moves look equally large once the slider was equalised, and are equal in the knobs' logarithms before.

        Raises:
            ValueError: The place is not in [0, 1].
        """
        return self.knobs_at_fraction(to_fraction(t, self.slider))

    def knobs_at_fraction(self, place: WeightValue) -> dict[str, WeightValue]:
        """What each knob is at a part of the way from all low to all high, in the knobs' logarithms."""
        ends = {name: (math.log(low), math.log(high)) for name, (low, high) in self.knobs.items()}
        return {name: _exp(low + (high - low) * place) for name, (low, high) in ends.items()}

    def normalize_knobs(self, image: Tensor, knobs: Mapping[str, WeightValue]) -> Tensor:
        """Where the knobs stand in their ranges, in [-1, 1]: (1 or N, knobs, 1 or H, 1 or W)."""
        for name, (low, high) in self.knobs.items():
            if name not in knobs:
                raise ValueError(
                    f"The network has the knob '{name}', {low:g} to {high:g}; call it with "
                    f"{name}={math.sqrt(low * high):.3g}, one value a picture, or a map."
                )
        if unknown := [name for name in knobs if name not in self.knobs]:
            raise ValueError(f"The network has no knob '{unknown[0]}'; it has {', '.join(self.knobs)}.")
        columns = [self._place(name, knobs[name], image) for name in self.knobs]
        return torch.cat(torch.broadcast_tensors(*columns), dim=1)  # type: ignore[no-untyped-call]

    def _place(self, name: str, value: WeightValue, image: Tensor) -> Tensor:
        low, high = self.knobs[name]
        if not isinstance(value, Tensor):
            self._inside(name, value, value)
            value = torch.full((), value, device=image.device)
        elif not (self.training or torch.compiler.is_compiling()):
            self._inside(name, *(end.item() for end in value.detach().aminmax()))
        count, side = image.shape[0], image.shape[-2:]
        if value.shape in ((), (1,), (count,)):
            value = value.reshape(-1, 1, 1, 1)
        elif value.shape not in ((1, 1, *side), (count, 1, *side)):
            raise ValueError(
                f"The knob '{name}' wants a number, one value a picture ({count},), or a map ({count}, 1, "
                f"{side[0]}, {side[1]}) of the picture's size; got {tuple(value.shape)}."
            )
        logarithm = value.to(image.device, torch.float32).log()
        return (2 / math.log(high / low)) * (logarithm - math.log(low)) - 1

    def _inside(self, name: str, least: float, most: float) -> None:
        low, high = self.knobs[name]
        for value in (least, most):
            if not low * (1 - SLACK) <= value <= high * (1 + SLACK):  # nor NaN
                raise ValueError(
                    f"The knob '{name}' was trained from {low:g} to {high:g}; it cannot be turned to {value:g}."
                )

    def _turn(self, index: int, module: nn.Module, inputs: object, features: Tensor) -> Tensor:
        """After a module: the features turned."""
        if self._now is None:
            raise ValueError(
                "A network inside a ConditionedNetwork is called through that alone, and recomputes nothing behind it."
            )
        if features.ndim != 4 or features.shape[1] != self.channels[index]:
            raise ValueError(
                f"The knob wants feature maps (N, {self.channels[index]}, h, w) after {self.where[index]!r}; "
                f"got {tuple(features.shape)}. Name other places with where=."
            )
        places, codes, passed = self._now
        passed.append(index)
        size = (1, 1) if places.shape[-2:] == (1, 1) else tuple(features.shape[-2:])
        if size not in codes:
            codes[size] = self._code(places, size)
        scale, shift = (PACE * self.heads[index](codes[size])).to(features.dtype).chunk(2, dim=1)
        return torch.addcmul(shift, features, 1 + scale)

    def _code(self, places: Tensor, size: tuple[int, ...]) -> Tensor:
        if places.shape[-2:] != size:
            places = F.interpolate(places, size=size, mode="bilinear", align_corners=False)
        waves = [2**k * (math.pi / 2) * places for k in range(OCTAVES)]
        features = torch.cat([places, *(wave.sin() for wave in waves), *(wave.cos() for wave in waves)], dim=1)
        code: Tensor = self.code(features.to(next(self.code.parameters()).dtype))
        return code


def span(name: str, ends: Sequence[float]) -> tuple[float, float]:
    """The range of a knob, or one line on what is wrong with it."""
    Knob(name)
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low = high = math.nan
    if not 0 < low < high < math.inf:
        raise ValueError(f"The knob '{name}' wants a range from above 0 to more, such as (0.03, 30.0); got {ends!r}.")
    return low, high


def blocks(network: nn.Module) -> dict[str, int]:
    """The first convolution larger than 1 x 1 of each block, and its channels."""
    elements = {
        f"{name}.{child}" if name else child: module
        for name, holder in network.named_modules()
        if isinstance(holder, nn.ModuleList | nn.Sequential)
        for child, module in holder.named_children()
        if not isinstance(module, nn.Conv2d)
    }
    wide = {name: found for name, module in elements.items() if (found := [*convolutions(module, least=2)])}
    inner = [name for name in wide if not any(other.startswith(f"{name}.") for other in wide)]
    if inner:
        kind = Counter(type(elements[name]) for name in inner).most_common(1)[0][0]
        firsts = {name: wide[name][0] for name in inner if type(elements[name]) is kind}
        return {f"{name}.{first}": conv.out_channels for name, (first, conv) in firsts.items()}
    every = {name: conv.out_channels for name, conv in convolutions(network)}
    if len(every) < 3:
        raise ValueError("The network has no block with a convolution to turn at; name places with where=.")
    return dict(list(every.items())[1:-1])


def named(network: nn.Module, patterns: Sequence[str]) -> dict[str, int]:
    """The modules that some patterns name, and the channels that they give."""
    found: dict[str, int] = {}
    for pattern in patterns:
        fits = [name for name, _ in network.named_modules() if name and fnmatchcase(name, pattern)]
        if not fits:
            some = ", ".join(name for name, _ in islice(convolutions(network), 4))
            raise ValueError(f"The network has no module {pattern!r} to turn at; its convolutions are {some}, ...")
        for name in fits:
            inside = [conv.out_channels for _, conv in convolutions(network.get_submodule(name))]
            if not inside:
                raise ValueError(
                    f"{name!r} holds no convolution, whose channels a knob could scale; name one that does."
                )
            found[name] = inside[-1]
    return found


def convolutions(module: nn.Module, least: int = 1) -> Iterator[tuple[str, nn.Conv2d]]:
    """Its convolutions of at least a side, in the order in which it holds them."""
    found = ((name, each) for name, each in module.named_modules() if isinstance(each, nn.Conv2d))
    return ((name, conv) for name, conv in found if max(conv.kernel_size) >= least)


def _exp(value: WeightValue) -> WeightValue:
    return value.exp() if isinstance(value, Tensor) else math.exp(value)
