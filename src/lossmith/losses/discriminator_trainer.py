"""The training of a discriminator inside a loss: objective, gradient penalty, optimiser, several processes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lossmith._checks import check_choice, check_integer, check_number
from lossmith.distributed import all_gather_with_own_gradient, all_reduce_sum, rank_and_world_size
from lossmith.image import resize_mask
from lossmith.lens import autocast_disabled
from lossmith.losses.discriminator_objectives import AdversarialKind, correctness_margins, discriminator_loss
from lossmith.losses.discriminators import DISCRIMINATORS, DiscriminatorName

__all__ = ["DiscriminatorTrainer", "GradientPenalty"]

GradientPenalty = Literal["r1", "r2", "gp"]


@final
class DiscriminatorTrainer(nn.Module):
    r"""A discriminator and the Adam optimiser that trains it.

    The discriminator's weights are buffers that each step replaces: an optimiser, `requires_grad_` or DDP of a parent
    does not find them, the generator's loss sends them no gradient, and a pending backward pass keeps the weights of
    its forward pass. The weights and Adam's moments follow `to` to a device, stay in float32 when a parent is cast, and
    are part of the `state_dict`. A step with a non-finite gradient is skipped.

    ``torch.optim.Adam`` is not used: it updates leaf parameters in place.

    Args:
        discriminator: "patch" or "unet".
        kind: The kind of adversarial loss, see :class:`lossmith.Adversarial`.
        penalty: The gradient penalty: "r1", "r2", "gp" or None.
        gamma: The weight of the penalty.
        penalty_every: The number of steps from one penalty to the next; the penalty is multiplied by it.
        spectral_norm: Whether the discriminator's layers have spectral norm 1.
        width: The number of channels of the discriminator's first layer.
        channels: The number of image channels.
        lr: The learning rate of Adam.
        betas: The decay rates of Adam.
        seed: The random seed of the discriminator's initial weights and of the "gp" penalty.

    Raises:
        ValueError: If an argument is out of range.
    """

    exp_avg: Tensor
    exp_avg_sq: Tensor

    def __init__(
        self,
        discriminator: DiscriminatorName,
        kind: AdversarialKind,
        *,
        penalty: GradientPenalty | None,
        gamma: float,
        penalty_every: int,
        spectral_norm: bool,
        width: int,
        channels: int,
        lr: float,
        betas: Sequence[float],
        seed: int,
    ) -> None:
        super().__init__()
        check_choice("discriminator", discriminator, DiscriminatorName)
        check_choice("kind of adversarial loss", kind, AdversarialKind)
        if penalty is not None:
            check_choice("discriminator penalty", penalty, GradientPenalty)
        check_integer("discriminator penalty_every", penalty_every, low=1)
        check_integer("discriminator seed", seed, low=0)
        check_number("discriminator gamma", gamma, low=0, open_low=True)
        check_number("discriminator lr", lr, low=0, open_low=True)
        _check_betas(betas)
        if kind == "wasserstein" and penalty is None:  # spectral norm leaves the first and the last layer free
            raise ValueError(
                'The kind "wasserstein" needs a gradient penalty, such as penalty="gp": nothing else bounds the '
                "critic's slope."
            )
        self.kind, self.penalty, self.gamma, self.penalty_every, self.seed = kind, penalty, gamma, penalty_every, seed
        self.lr, self.betas = lr, betas
        self.steps = 0
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
            self.discriminator = DISCRIMINATORS[discriminator](channels, width, spectral_norm=spectral_norm)
        self.shapes = {name: weight.shape for name, weight in self.discriminator.named_parameters()}
        _parameters_to_buffers(self.discriminator)
        for name in ("exp_avg", "exp_avg_sq"):
            self.register_buffer(name, torch.zeros(sum(shape.numel() for shape in self.shapes.values())))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def move_without_cast(tensor: Tensor) -> Tensor:  # half precision would round Adam's updates away
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move_without_cast, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def get_extra_state(self) -> dict[str, int]:
        """Return the number of steps, the part of the state that is not a tensor."""
        return {"steps": self.steps}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the number of steps."""
        self.steps = int(state["steps"])

    def step(self, real: Tensor, fake: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Train the discriminator for one step.

        Args:
            real: Real images (N, C, H, W).
            fake: Generated images, of the same shape.
            mask: The generated part of each pixel of `fake`, in [0, 1], (N, 1, H, W); None for all of it.

        Returns:
            Scalars, over the joint batch of all processes: "loss", without the penalty; "real_accuracy" and
            "fake_accuracy" on real and on generated images, in [0, 1]; "logit_std", the standard deviation of all
            logits; and "gradient_penalty", unweighted, in steps that compute one.
        """
        real, fake = real.detach().float(), fake.detach().float()
        with torch.enable_grad(), autocast_disabled(real):
            self.discriminator.update_spectral_norm()
            weights = {name: self.discriminator.get_buffer(name).detach().requires_grad_() for name in self.shapes}

            def discriminate(images: Tensor) -> Tensor:
                logits: Tensor = functional_call(self.discriminator, weights, (images,))
                return logits

            own_fake = discriminate(fake)
            fake_fraction = None if mask is None else all_gather_with_own_gradient(resize_mask(mask.detach(), own_fake))
            logits = all_gather_with_own_gradient(discriminate(real)), all_gather_with_own_gradient(own_fake)
            loss = discriminator_loss(self.kind, *logits, fake_fraction)
            metrics = {"loss": loss.detach(), **self._metrics(*logits, fake_fraction)}
            if self.penalty and self.steps % self.penalty_every == 0:
                penalty = all_gather_with_own_gradient(self.gradient_penalty(discriminate, real, fake)).mean()
                metrics["gradient_penalty"] = penalty.detach()
                weight = self.gamma if self.penalty == "gp" else self.gamma / 2
                loss = loss + weight * self.penalty_every * penalty
            gradients = torch.autograd.grad(loss, list(weights.values()))
        self.adam_step(all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients])))
        return metrics

    def _metrics(self, real: Tensor, fake: Tensor, fake_fraction: Tensor | None) -> dict[str, Tensor]:
        real_margin, fake_margin = correctness_margins(self.kind, real, fake)
        if fake_fraction is not None:
            fake_margin = (2 * fake_fraction - 1) * fake_margin
        return {
            "real_accuracy": (real_margin > 0).float().mean(),
            "fake_accuracy": (fake_margin > 0).float().mean(),
            "logit_std": torch.cat([real, fake]).detach().std(correction=0),
        }

    def gradient_penalty(self, discriminate: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        """Compute the unweighted gradient penalty of each image, (N,)."""
        images = {"r1": real, "r2": fake}.get(self.penalty or "")
        if images is None:
            generator = torch.Generator(real.device).manual_seed(hash((self.seed, self.steps)) % 2**63)
            rank, world_size = rank_and_world_size()
            mix = torch.rand(world_size * len(real), generator=generator, device=real.device)
            mix = mix[rank::world_size].view(-1, 1, 1, 1)  # as in one batch whose images are dealt out in turn
            images = mix * real + (1 - mix) * fake
        images = images.detach().requires_grad_()
        logits = discriminate(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        squares = gradient.flatten(1).square().sum(dim=1) / logits[0].numel()
        # the derivative of the root at 0 is infinite, hence the clamp
        return squares if self.penalty != "gp" else (squares.clamp_min(1e-12).sqrt() - 1).square()

    @torch.no_grad()
    def adam_step(self, gradient: Tensor) -> None:
        """Update the weights by Adam.

        Args:
            gradient: The gradient of all weights, flattened and concatenated.
        """
        self.steps += 1
        is_finite = gradient.isfinite().all()
        beta1, beta2 = self.betas
        self.exp_avg = torch.where(is_finite, beta1 * self.exp_avg + (1 - beta1) * gradient, self.exp_avg)
        self.exp_avg_sq = torch.where(
            is_finite, beta2 * self.exp_avg_sq + (1 - beta2) * gradient.square(), self.exp_avg_sq
        )
        denominator = (self.exp_avg_sq / (1 - beta2**self.steps)).sqrt() + 1e-8
        update = torch.where(is_finite, self.lr / (1 - beta1**self.steps) * self.exp_avg / denominator, 0)
        parts = torch.split(update, [shape.numel() for shape in self.shapes.values()])
        for (name, shape), part in zip(self.shapes.items(), parts, strict=True):
            module_name, _, weight_name = name.rpartition(".")
            module = self.discriminator.get_submodule(module_name)
            setattr(module, weight_name, getattr(module, weight_name) - part.view(shape))


def _parameters_to_buffers(network: nn.Module) -> None:
    for module in network.modules():
        for name in tuple(module._parameters):
            weight = module._parameters.pop(name)
            module.register_buffer(name, weight if weight is None else weight.detach())


def _check_betas(betas: Sequence[float]) -> None:
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise ValueError(f"discriminator betas must be two numbers in [0, 1); got {betas!r}.")
    for beta in betas:
        if check_number("discriminator betas", beta, low=0, high=1) == 1:
            raise ValueError(f"discriminator betas must be two numbers in [0, 1); got {betas!r}.")
