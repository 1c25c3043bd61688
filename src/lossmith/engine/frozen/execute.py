"""Execution of a frozen network whose backward pass needs packed bits instead of activations.

The gradient of a convolution with frozen weights needs only these weights; that of a ReLU needs one bit per element,
whether it was active; that of a max-pool needs the index of each maximum, two bits per window of 2 x 2. No activation
is kept, except for requested layers that the caller holds.

One autograd function runs all steps. The requested layers are its outputs: in the backward pass, the gradient of each
is added to the gradient from deeper layers, and nothing is computed beyond the deepest layer with a gradient.
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.engine.frozen.bits import (
    INT_DTYPES,
    apply_pool_argmax,
    apply_relu_mask,
    pack_pool_argmax,
    pack_relu_mask,
)
from lossmith.engine.frozen.convolution import (
    restore_features,
    run_conv,
    run_conv_backward,
    run_conv_with_all_derivatives,
)
from lossmith.engine.frozen.cost import count_images_per_pass
from lossmith.engine.frozen.precision import choose_compute_dtype, compute_gradient_scale
from lossmith.engine.frozen.steps import PreparedConv, check_layers, compute_shapes, prepare_steps, truncate_steps
from lossmith.engine.layers import Conv, MaxPool, ReLU, Step
from lossmith.engine.second_derivatives import is_transformed, link_to, refuse_second_derivative
from lossmith.lens import autocast_disabled

__all__ = ["run_frozen"]


def run_frozen(
    steps: Sequence[Step],
    image: Tensor,
    layers: Collection[str],
    *,
    dtype: torch.dtype | None = None,
    fp32_until: str | None = None,
) -> dict[str, Tensor]:
    r"""Compute the features of a frozen network at some layers.

    The result is differentiable with respect to the image only; weights get no gradient. If no gradient is requested
    (the image does not require one, or under `no_grad`), nothing is kept. On a CPU a large batch is split.

    Half precision applies to the convolutions only: features are returned in float32, and their gradients arrive in
    float32. Features and gradients of fp16 are scaled into its range, since the gradient of a mean over a million
    elements lies below it. Features from 1,048,064 on overflow in fp16, but not in bf16. Most of the gradient's error
    in half precision comes from the first layers, where images are smooth and rounding decides the state of a ReLU or
    the maximum of a window. A forward pass with `fp32_until` at the end of these layers restores the direction of the
    gradient.

    Args:
        steps: The network. One that was prepared by :func:`prepare_steps` runs with the options given there.
        image: The images (N, C, H, W), normalised as the network expects.
        layers: The names of steps.
        dtype: The precision of the convolutions; None for that of autocast, or fp16 in place of bf16 where
            it is as fast (:func:`choose_compute_dtype`).
        fp32_until: The last step whose forward pass stays in float32. The backward pass does not.

    Returns:
        The features (N, C, H, W) by layer, first to last, channels last.

    Raises:
        ValueError: An unknown layer, an unsupported precision, or images of a wrong number of channels or size.
        RuntimeError: In a second derivative, unless by a transform of `torch.func`, which runs PyTorch's own operators.
    """
    work = truncate_steps(steps, layers)
    compute_shapes(work, image.shape)
    prepared = next((step for step in work if isinstance(step, PreparedConv)), None)
    if prepared is not None:
        dtype = prepared.backward_weight.dtype
    elif dtype is None:
        dtype = choose_compute_dtype(image)
    if dtype not in INT_DTYPES:
        raise ValueError(f"images of a frozen network must be one of {', '.join(map(str, INT_DTYPES))}; got {dtype}.")
    if prepared is None:
        if fp32_until is not None and check_layers(steps, {fp32_until}).index(fp32_until) >= len(work):
            fp32_until = work[-1].name
        work = prepare_steps(work, device=image.device, dtype=dtype, fp32_until=fp32_until)
    order = [step.name for step in work if step.name in layers]
    if is_transformed():
        return _forward_plain(image, work, order)
    if torch.is_grad_enabled() and image.requires_grad:
        maps = _Frozen.apply(image, work, order, dtype, [link_to([image])])
    else:
        maps, _ = _forward(image, work, order, dtype, keep=False)
    return dict(zip(order, maps, strict=True))


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, image: Tensor, work: tuple[Step, ...], order: list[str], dtype: torch.dtype, link: list[Tensor | None]
    ) -> tuple[Tensor, ...]:
        maps, kept = _forward(image, work, order, dtype, keep=True)
        ctx.save_for_backward(*kept)
        ctx.set_materialize_grads(False)
        ctx.work, ctx.order, ctx.dtype, ctx.like = work, order, dtype, (image.shape, image.dtype)
        ctx.link = link[0]
        return maps

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None, None, None, None]:
        grad_outputs = {name: g for name, g in zip(ctx.order, grads, strict=True) if g is not None}
        if not grad_outputs:
            return None, None, None, None, None
        image_grad = _backward(grad_outputs, ctx.work, ctx.saved_tensors, ctx.dtype, *ctx.like)
        return refuse_second_derivative(image_grad, *grad_outputs.values(), ctx.link), None, None, None, None


def _forward_plain(image: Tensor, work: Sequence[Step], order: Sequence[str]) -> dict[str, Tensor]:
    """Return the requested layers by operators with all derivatives, which keep all activations."""
    maps: dict[str, Tensor] = {}
    x = image
    with autocast_disabled(image):
        for step in work:
            x = run_conv_with_all_derivatives(x, step) if isinstance(step, PreparedConv) else step(x)
            if step.name in order:
                maps[step.name] = restore_features(x)
    return maps


def _forward(
    image: Tensor, work: Sequence[Step], order: Sequence[str], dtype: torch.dtype, *, keep: bool
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Run all steps; return the requested layers, and the packed bits for the backward pass if they are to be kept."""
    int_dtype = INT_DTYPES[dtype]
    maps: dict[str, Tensor] = {}
    kept: list[Tensor] = []
    with torch.no_grad(), autocast_disabled(image):
        for part in _split_batch(image.shape, work, image.device):
            x = image[part].contiguous(memory_format=torch.channels_last)
            is_own = False  # whether nothing else holds x, so that it may be overwritten
            for step in work:
                match step:
                    case PreparedConv():
                        x = run_conv(x, step)
                    case ReLU():
                        x = x.relu_() if is_own else x.relu()
                        if keep:
                            kept.append(pack_relu_mask(x, int_dtype))
                    case MaxPool() if keep:
                        x, words = pack_pool_argmax(x, step, int_dtype)
                        kept.append(words)
                    case MaxPool():
                        x = F.max_pool2d(x, step.kernel, step.stride, ceil_mode=step.ceil)
                is_own = True
                if step.name in order:
                    is_own = _store_features(maps, step.name, x, part, len(image))
    return tuple(maps[name] for name in order), kept


def _store_features(maps: dict[str, Tensor], name: str, x: Tensor, part: slice, n: int) -> bool:
    """Store some images' features of a layer; return whether they were copied."""
    features = restore_features(x)
    if len(x) == n:
        maps[name] = features
        return features is not x
    if name not in maps:
        shape = (n, *x.shape[1:])
        maps[name] = torch.empty(shape, dtype=features.dtype, device=x.device, memory_format=torch.channels_last)
    maps[name][part] = features
    return True


def _backward(
    grad_outputs: dict[str, Tensor],
    work: Sequence[Step],
    kept: Sequence[Tensor],
    dtype: torch.dtype,
    shape: torch.Size,
    image_dtype: torch.dtype,
) -> Tensor:
    """Return the gradient of the image from the gradients of some layers."""
    names = [step.name for step in work]
    live = work[: max(names.index(name) for name in grad_outputs) + 1]  # deeper layers have no gradient
    device = grad_outputs[live[-1].name].device
    sizes = [(h, w) for _, _, h, w in (shape, *compute_shapes(live[:-1], shape))]  # of each step's input
    parts = _split_batch(shape, work, device)
    kept_per_part, live_per_part = len(kept) // len(parts), sum(not isinstance(step, Conv) for step in live)
    grad_image = torch.empty(shape, dtype=image_dtype, device=device, memory_format=torch.channels_last)
    with torch.no_grad(), autocast_disabled(grad_image):
        for i, part in enumerate(parts):
            words = list(kept[i * kept_per_part : i * kept_per_part + live_per_part])
            given = grad_outputs[live[-1].name][part]
            g, scale = _add_gradient(None, None, given, dtype)
            is_own = dtype != given.dtype  # whether nothing else holds g, so that it may be overwritten
            for step, size in zip(reversed(live), reversed(sizes), strict=True):
                if step.name in grad_outputs and step is not live[-1]:
                    g, scale = _add_gradient(g, scale, grad_outputs[step.name][part], dtype)
                if isinstance(step, PreparedConv):
                    g = run_conv_backward(g, step, size)
                elif isinstance(step, MaxPool):
                    g = apply_pool_argmax(g, words.pop(), step, size)
                else:
                    g = apply_relu_mask(g if is_own else g.clone(memory_format=torch.channels_last), words.pop())
                is_own = True
            grad_image[part] = g if scale is None else g.to(image_dtype) * scale
    return grad_image


def _add_gradient(
    g: Tensor | None, scale: Tensor | None, given: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Return the sum of the gradient from deeper layers and that of a layer, and each image's scale in fp16.

    Args:
        g: The gradient from deeper layers, which may be overwritten; None for none.
        scale: The factor that it lacks, (N, 1, 1, 1); None for 1.
        given: The layer's gradient.
        dtype: The precision of the backward pass.
    """
    if dtype != torch.float16:
        converted = given.to(dtype=dtype, memory_format=torch.channels_last)
        return (converted if g is None else g.add_(converted)), None
    total = given if g is None or scale is None else (g * scale).add_(given)  # in float32
    scale = compute_gradient_scale(total)
    return (total / scale).to(dtype=dtype, memory_format=torch.channels_last), scale


def _split_batch(shape: Sequence[int], work: Sequence[Step], device: torch.device) -> list[slice]:
    n = shape[0]
    per_pass = n if torch.compiler.is_compiling() else count_images_per_pass(work, shape, device)
    return [slice(start, min(start + per_pass, n)) for start in range(0, n, per_pass)]
