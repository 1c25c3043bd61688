"""Running a frozen network so that its backward pass keeps bits, not activations.

The gradient of a convolution with frozen weights needs these weights alone; that of a ReLU needs where it was on, one
bit an element; that of a pool needs which element it chose, two bits a window of 2 x 2. No activation is needed, and
none is kept, except for what the caller holds of the taps.

One autograd function runs all steps. The taps are its outputs: what arrives at one in the backward pass is added there
to what comes from deeper, and nothing is computed beyond the deepest tap that has a gradient.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.engine.cpu import packed_kernels, winograd
from lossmith.engine.frozen.bits import (
    INT_DTYPES,
    apply_pool_argmax,
    apply_relu_mask,
    pack_pool_argmax,
    pack_relu_mask,
)
from lossmith.engine.frozen.cost import count_images_per_pass
from lossmith.engine.frozen.steps import (
    PreparedConv,
    check_layers,
    compute_shapes,
    prepare_steps,
    truncate_steps,
)
from lossmith.engine.layers import (
    Conv,
    MaxPool,
    ReLU,
    Step,
)
from lossmith.lens import autocast_disabled

__all__ = ["NoDoubleBackward", "get_compute_dtype", "run_frozen"]


def run_frozen(
    steps: Sequence[Step],
    image: Tensor,
    taps: Collection[str],
    *,
    dtype: torch.dtype | None = None,
    fp32_until: str | None = None,
) -> dict[str, Tensor]:
    r"""What a frozen network shows of a picture at some of its layers, as deep as the deepest of them.

    Differentiable in the picture alone; weights never get a gradient. With no gradient asked for (the picture carries
    none, or under `no_grad`), nothing is kept at all. On CPU a large batch passes a few pictures at a time.

    Half precision is for the convolutions alone: taps are handed out in float32, and gradients come in so. On the way
    those of fp16 are scaled into its range, for the gradient of a mean over a million elements lies below it. Features
    from 65,504 on overflow in fp16, and do not in bf16. What half precision costs the gradient, it costs in the first
    layers, where a picture is smooth: there rounding decides which ReLU is on and which element a pool takes. A forward
    pass that is `fine` up to there gives the gradient its direction back.

    Args:
        steps: The network. One that :func:`cast` made ready runs as it was asked to there.
        image: (N, C, H, W), normalised as the network wants it.
        taps: Names of steps.
        dtype: The precision of the convolutions; that of :func:`inner_dtype` unless given.
        fine: The step up to which the forward pass, but not the backward pass, takes float32 all the same.

    Returns:
        The taps by name, first to last, each (N, C, H, W), channels last.

    Raises:
        ValueError: An unknown tap, a precision that there is not, or a picture whose channels or size do not fit.
        RuntimeError: In a second derivative.
    """
    work = truncate_steps(steps, taps)
    compute_shapes(work, image.shape)
    ready = next((step for step in work if isinstance(step, PreparedConv)), None)
    if ready is not None:
        dtype = ready.back.dtype
    elif dtype is None:
        dtype = get_compute_dtype(image)
    if dtype not in INT_DTYPES:
        raise ValueError(f"A frozen network runs in {', '.join(map(str, LANES))}; got pictures of {dtype}.")
    if ready is None:
        if fp32_until is not None and check_layers(steps, {fp32_until}).index(fp32_until) >= len(work):
            fp32_until = work[-1].name
        work = prepare_steps(work, device=image.device, dtype=dtype, fp32_until=fp32_until)
    order = [step.name for step in work if step.name in taps]
    if torch.is_grad_enabled() and image.requires_grad:
        maps = _Frozen.apply(image, work, order, dtype)
    else:
        maps, _ = _forward(image, work, order, dtype, keep=False)
    return dict(zip(order, maps, strict=True))


def get_compute_dtype(image: Tensor) -> torch.dtype:
    """The precision that autocast asks of a convolution of this picture; without autocast, the picture's own."""
    device = image.device.type
    if image.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return image.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else image.dtype


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, image: Tensor, work: tuple[Step, ...], order: list[str], dtype: torch.dtype
    ) -> tuple[Tensor, ...]:
        maps, kept = _forward(image, work, order, dtype, keep=True)
        ctx.save_for_backward(*kept)
        ctx.set_materialize_grads(False)
        ctx.work, ctx.order, ctx.dtype, ctx.like = work, order, dtype, (image.shape, image.dtype)
        return maps

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        arriving = {name: g for name, g in zip(ctx.order, grads, strict=True) if g is not None}
        if not arriving:
            return None, None, None, None
        image_grad = _backward(arriving, ctx.work, ctx.saved_tensors, ctx.dtype, *ctx.like)
        if torch.is_grad_enabled():  # create_graph=True
            image_grad = NoDoubleBackward.apply(image_grad, *arriving.values())
        return image_grad, None, None, None


class NoDoubleBackward(torch.autograd.Function):
    """Refuses the derivative of a derivative, by name."""

    @staticmethod
    def forward(ctx: Any, image_grad: Tensor, *_: Tensor) -> Tensor:
        """The gradient, and behind it whatever its own derivative would need."""
        return image_grad.view_as(image_grad)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        """Refuses."""
        raise RuntimeError(
            "A frozen network keeps what one backward pass needs, and gives no second derivative; "
            "take gradient penalties through a network of your own, such as a critic."
        )


def _forward(
    image: Tensor, work: Sequence[Step], order: Sequence[str], dtype: torch.dtype, *, keep: bool
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    lane = INT_DTYPES[dtype]
    maps: dict[str, Tensor] = {}
    kept: list[Tensor] = []
    with torch.no_grad(), autocast_disabled(image):
        for part in _parts(image.shape, work, image.device):
            x = image[part].contiguous(memory_format=torch.channels_last)
            free = False  # whether x is nobody else's, and may be overwritten
            for step in work:
                match step:
                    case PreparedConv():
                        x = _convolved(x, step)
                    case ReLU():
                        x = x.relu_() if free else x.relu()
                        if keep:
                            kept.append(pack_relu_mask(x, lane))
                    case MaxPool() if keep:
                        x, word = pack_pool_argmax(x, step, lane)
                        kept.append(word)
                    case MaxPool():
                        x = F.max_pool2d(x, step.kernel, step.stride, ceil_mode=step.ceil)
                free = True
                if step.name in order:
                    free = _hand_out(maps, step.name, x, part, len(image))
    return tuple(maps[name] for name in order), kept


def _hand_out(maps: dict[str, Tensor], name: str, x: Tensor, part: slice, n: int) -> bool:
    """Puts some pictures' features into a tap; whether that made a copy of them."""
    outer = torch.promote_types(x.dtype, torch.float32)
    if len(x) == n:
        maps[name] = x.to(outer)
        return maps[name] is not x
    if name not in maps:
        maps[name] = torch.empty((n, *x.shape[1:]), dtype=outer, device=x.device, memory_format=torch.channels_last)
    maps[name][part] = x
    return True


def _backward(
    arriving: dict[str, Tensor],
    work: Sequence[Step],
    kept: Sequence[Tensor],
    dtype: torch.dtype,
    shape: torch.Size,
    image_dtype: torch.dtype,
) -> Tensor:
    names = [step.name for step in work]
    live = work[: max(names.index(name) for name in arriving) + 1]  # nothing comes from deeper
    device = arriving[live[-1].name].device
    sizes = [(h, w) for _, _, h, w in (shape, *compute_shapes(live[:-1], shape))]  # before each step
    parts = _parts(shape, work, device)
    bits, live_bits = len(kept) // len(parts), sum(not isinstance(step, Conv) for step in live)
    back = torch.empty(shape, dtype=image_dtype, device=device, memory_format=torch.channels_last)
    with torch.no_grad(), autocast_disabled(back):
        scale = _scale(arriving.values()) if dtype == torch.float16 else None
        for turn, part in enumerate(parts):
            words = list(kept[turn * bits : turn * bits + live_bits])
            g = _arrived(arriving[live[-1].name][part], scale, dtype)
            free = False  # whether g is nobody else's, and may be overwritten
            for step, size in zip(reversed(live), reversed(sizes), strict=True):
                if step.name in arriving and step is not live[-1]:
                    g = g.add_(_arrived(arriving[step.name][part], scale, dtype))
                if isinstance(step, PreparedConv):
                    g = _convolved_back(g, step, size)
                elif isinstance(step, MaxPool):
                    g = apply_pool_argmax(g, words.pop(), step, size)
                else:
                    g = apply_relu_mask(g if free else g.clone(memory_format=torch.channels_last), words.pop())
                free = True
            back[part] = g if scale is None else g.to(image_dtype) * scale
    return back


def _arrived(g: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    g = g if scale is None else g / scale
    return g.to(dtype=dtype, memory_format=torch.channels_last)


def _scale(gradients: Iterable[Tensor]) -> Tensor:
    """The largest absolute value of some gradients, or 1 where all are 0."""
    largest = torch.stack([g.abs().amax() for g in gradients]).amax()
    return torch.where(largest > 0, largest, 1.0)


def _convolved(x: Tensor, conv: PreparedConv) -> Tensor:
    if x.is_meta:
        return _shaped(x, conv.weight.dtype, len(conv.weight), *map(conv.output_size, x.shape[2:]))
    x = x.to(conv.weight.dtype)
    free = packed_kernels.can_use_fast_path(x)
    if free and winograd.is_winograd_faster(x, conv):
        x = winograd.winograd_conv2d(x, conv.planes, conv.bias)
    elif free and packed_kernels.is_packing_faster(x, conv.weight):
        x = packed_kernels.packed_conv2d(x, conv.laid, conv.bias, conv.padding, conv.stride)
    else:
        x = F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)
    return x.contiguous(memory_format=torch.channels_last)


def _convolved_back(g: Tensor, conv: PreparedConv, size: tuple[int, int]) -> Tensor:
    if g.is_meta:
        return _shaped(g, conv.back.dtype, conv.back.shape[1], *size)
    free = packed_kernels.can_use_fast_path(g)
    if free and winograd.is_winograd_faster(g, conv):
        g = winograd.winograd_conv2d(g, conv.planes, None, back=True)
    elif free and conv.stride == 1 and conv.padding < conv.back.shape[-1] and packed_kernels.is_packing_faster(g, conv.back):
        g = packed_kernels.packed_conv2d(g, conv.laid_back, None, conv.back.shape[-1] - 1 - conv.padding)
    else:
        rest = [
            have - ((cells - 1) * conv.stride - 2 * conv.padding + side)  # pixels at the end that no stride reached
            for have, cells, side in zip(size, g.shape[2:], conv.weight.shape[2:], strict=True)
        ]
        g = F.conv_transpose2d(g, conv.back, None, conv.stride, conv.padding, rest)
    return g.contiguous(memory_format=torch.channels_last)


def _shaped(like: Tensor, dtype: torch.dtype, *size: int) -> Tensor:
    """What a convolution makes of a tensor without data; PyTorch's own forgets the layout there."""
    return torch.empty((len(like), *size), dtype=dtype, device=like.device, memory_format=torch.channels_last)


def _parts(shape: Sequence[int], work: Sequence[Step], device: torch.device) -> list[slice]:
    n = shape[0]
    few = n if torch.compiler.is_compiling() else count_images_per_pass(work, shape, device)
    return [slice(at, min(at + few, n)) for at in range(0, n, few)]
