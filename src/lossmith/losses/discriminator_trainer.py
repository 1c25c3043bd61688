"""How a critic learns inside a loss: its verdicts' value, its penalty, its optimiser, several processes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lossmith._repr import quoted
from lossmith.distributed import (
    averaged,
    joint,
    place,
    summed,
)
from lossmith.image import area
from lossmith.lens import unhalved
from lossmith.losses.discriminators import CRITICS, CriticName

__all__ = ["Kind", "Learner", "Penalty"]

Kind = Literal["vanilla", "lsgan", "hinge", "wasserstein", "relativistic"]
Penalty = Literal["r1", "r2", "gp"]


@final
class Learner(nn.Module):
    r"""A critic, and the Adam that trains it.

    The critic's weights are buffers, replaced at each step: no optimiser, `requires_grad_` or DDP of a parent finds
    them, no gradient of what they judge reaches them, and a backward pass that is still to come keeps those that it
    began with. They and Adam's moments move with `to`, stay in float32 when a parent is cast, and are saved and loaded
    as any state. A step with a gradient that is not finite is left out.

    Args:
        critic: "patch" or "unet".
        kind: What the critic's value is, see :class:`lossmith.Adversarial`.
        penalty: "r1", "r2", "gp" or None.
        gamma: The penalty's weight.
        every: The penalty is taken each so many steps, and counts as often.
        spectral: Whether the critic's layers have spectral norm 1.
        width: Channels of the critic's first layer.
        channels: Channels of a picture.
        lr: Adam's learning rate.
        betas: Adam's decays.
        seed: Of the critic's first weights and of what is random in its steps.

    Raises:
        ValueError: A bad argument.
    """

    mean: Tensor
    square: Tensor

    def __init__(
        self,
        critic: CriticName,
        kind: Kind,
        *,
        penalty: Penalty | None,
        gamma: float,
        every: int,
        spectral: bool,
        width: int,
        channels: int,
        lr: float,
        betas: Sequence[float],
        seed: int,
    ) -> None:
        super().__init__()
        known("critic", critic, CriticName)
        known("kind", kind, Kind)
        if penalty is not None:
            known("penalty", penalty, Penalty)
        within("every", every, isinstance(every, int) and every >= 1, "a whole number of at least 1")
        within("seed", seed, isinstance(seed, int) and seed >= 0, "a whole number of at least 0")
        within("gamma", gamma, isinstance(gamma, int | float) and 0 < gamma < float("inf"), "a number above 0")
        within("lr", lr, isinstance(lr, int | float) and 0 < lr < float("inf"), "a number above 0")
        sound = isinstance(betas, list | tuple) and all(
            isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas
        )
        within("betas", betas, sound and len(betas) == 2, "two numbers in [0, 1)")
        if kind == "wasserstein" and penalty is None:  # spectral norm leaves the first and the last layer free
            raise ValueError('A wasserstein critic wants penalty="gp" or another; nothing else bounds its slope.')
        self.kind, self.penalty, self.gamma, self.every, self.seed = kind, penalty, gamma, every, seed
        self.lr, self.betas = lr, betas
        self.steps = 0
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
            self.critic = CRITICS[critic](channels, width, spectral=spectral)
        shapes = {name: weight.shape for name, weight in self.critic.named_parameters()}
        for part in self.critic.modules():
            for name in tuple(part._parameters):
                weight = part._parameters.pop(name)
                part.register_buffer(name, weight if weight is None else weight.detach())
        self.shapes = shapes
        for name in ("mean", "square"):
            self.register_buffer(name, torch.zeros(sum(shape.numel() for shape in shapes.values())))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def kept(tensor: Tensor) -> Tensor:  # in half precision, Adam's steps would be lost in rounding
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(kept, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def get_extra_state(self) -> dict[str, int]:
        """What of its state is no tensor: the steps taken."""
        return {"steps": self.steps}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Takes the steps up again."""
        self.steps = int(state["steps"])

    def step(self, real: Tensor, fake: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """One step of the critic.

        Args:
            real: Pictures (N, C, H, W) that it shall call real.
            fake: As many that it shall not.
            mask: How much of each place of these it shall not, (N, 1, H, W); the rest it shall call real.

        Returns:
            Scalars: "critic", the value that it lowers; "real" and "fake", the share of its verdicts that is right;
            "spread", the standard deviation of all verdicts; "penalty", unweighted, in steps that take it. Of the joint
            batch, where several processes learn together.
        """
        real, fake = real.detach().float(), fake.detach().float()
        with torch.enable_grad(), unhalved(real):
            self.critic.iterate()
            weights = {name: self.critic.get_buffer(name).detach().requires_grad_() for name in self.shapes}

            def judge(images: Tensor) -> Tensor:
                verdicts: Tensor = functional_call(self.critic, weights, (images,))
                return verdicts

            ours = judge(fake)
            made = None if mask is None else joint(area(mask.detach(), ours))
            verdicts = joint(judge(real)), joint(ours)
            value = taught(self.kind, *verdicts, made)
            right_real, right_fake = margins(self.kind, *verdicts)
            right_fake = right_fake if made is None else (2 * made - 1) * right_fake
            figures = {
                "critic": value.detach(),
                "real": (right_real > 0).float().mean(),
                "fake": (right_fake > 0).float().mean(),
                "spread": torch.cat(verdicts).detach().std(correction=0),
            }
            if self.penalty and self.steps % self.every == 0:
                slope = joint(self.slope(judge, real, fake)).mean()
                figures["penalty"] = slope.detach()
                value = value + (self.gamma if self.penalty == "gp" else self.gamma / 2) * self.every * slope
            gradients = torch.autograd.grad(value, list(weights.values()))
        self.adam(summed(torch.cat([gradient.flatten() for gradient in gradients])))
        return figures

    def slope(self, judge: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        """How steep the critic is at each picture, (N,): the penalty without its weight."""
        images = {"r1": real, "r2": fake}.get(self.penalty or "")
        if images is None:
            chance = torch.Generator(real.device).manual_seed(hash((self.seed, self.steps)) % 2**63)
            rank, world = place()
            share = torch.rand(world * len(real), generator=chance, device=real.device)
            share = share[rank::world].view(-1, 1, 1, 1)  # as in one batch whose pictures are dealt out in turn
            images = share * real + (1 - share) * fake
        images = images.detach().requires_grad_()
        verdicts = judge(images)
        (gradient,) = torch.autograd.grad(verdicts.sum(), images, create_graph=True)
        squares = gradient.flatten(1).square().sum(dim=1) / verdicts[0].numel()
        # the root's own derivative at 0 is infinite
        return squares if self.penalty != "gp" else (squares.clamp_min(1e-12).sqrt() - 1).square()

    @torch.no_grad()
    def adam(self, gradient: Tensor) -> None:
        """Adam's step along the gradient of all weights in one row."""
        self.steps += 1
        sound = gradient.isfinite().all()
        slow, fast = self.betas
        self.mean = torch.where(sound, slow * self.mean + (1 - slow) * gradient, self.mean)
        self.square = torch.where(sound, fast * self.square + (1 - fast) * gradient.square(), self.square)
        root = (self.square / (1 - fast**self.steps)).sqrt() + 1e-8
        change = torch.where(sound, self.lr / (1 - slow**self.steps) * self.mean / root, 0)
        parts = torch.split(change, [shape.numel() for shape in self.shapes.values()])
        for (name, shape), part in zip(self.shapes.items(), parts, strict=True):
            owner, _, weight = name.rpartition(".")
            holder = self.critic.get_submodule(owner)
            setattr(holder, weight, getattr(holder, weight) - part.view(shape))


def known(what: str, value: object, choice: object) -> None:
    """Refuses a string that is none of a Literal's."""
    if value not in get_args(choice):
        raise ValueError(f"A critic wants {what}={', '.join(map(quoted, get_args(choice)))}; got {value!r}.")


def within(what: str, value: object, sound: bool, wanted: str) -> None:
    """Refuses a number that is out of its range."""
    if isinstance(value, bool) or not sound:
        raise ValueError(f"A critic wants {what} as {wanted}; got {value!r}.")


def taught(kind: Kind, real: Tensor, fake: Tensor, made: Tensor | None = None) -> Tensor:
    """The value that the critic lowers, from its verdicts on what is real and on what is not, or is so in part."""
    if kind == "relativistic":
        return F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()
    wrong = against(kind, fake, real=False)
    if made is not None:
        wrong = made * wrong + (1 - made) * against(kind, fake, real=True)
    return against(kind, real, real=True).mean() + wrong.mean()


def against(kind: Kind, verdicts: Tensor, *, real: bool) -> Tensor:
    """What each verdict costs on a place that is real, or is not."""
    if kind == "lsgan":
        return (verdicts - 1 if real else verdicts).square() / 2
    right = verdicts if real else -verdicts
    if kind == "wasserstein":
        return -right
    return F.softplus(-right) if kind == "vanilla" else F.relu(1 - right)


def margins(kind: Kind, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """By how much each verdict is right; verdicts of a kind that only compares are compared."""
    if kind in ("wasserstein", "relativistic"):
        return real - fake.mean(), real.mean() - fake
    middle = 0.5 if kind == "lsgan" else 0.0
    return real - middle, middle - fake


class _Mean(torch.autograd.Function):
    """The mean over all processes; on the way back the mean of their gradients, whose mean is then the joint one's."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return averaged(part)

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> Tensor:
        return averaged(arriving)


def typical(verdicts: Tensor, *, training: bool) -> Tensor:
    """The mean verdict on the batch; in a training that of all processes, which then must all come here."""
    mean = verdicts.mean()
    if not training or place()[1] == 1:
        return mean
    found: Tensor = _Mean.apply(mean)  # type: ignore[no-untyped-call]
    return found
