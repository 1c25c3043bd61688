"""The base of losses with a discriminator that is trained beside the network."""

from abc import ABC
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from lossmith._checks import check_integer
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.losses.discriminator_objectives import AdversarialKind
from lossmith.losses.discriminator_trainer import DiscriminatorTrainer, GradientPenalty
from lossmith.losses.discriminators import Discriminator, DiscriminatorName

__all__ = ["AdversarialBase"]

_DEFAULTS: dict[str, Any] = {
    "penalty": None,
    "gamma": 10.0,
    "penalty_every": 1,
    "spectral_norm": True,
    "width": 64,
    "channels": 3,
    "lr": 1e-4,
    "betas": (0.9, 0.99),
    "seed": 0,
    "discriminator_start_step": None,
    "discriminator_every": 1,
}
_CITATION_KEYS = {
    "vanilla": "goodfellow2014",
    "lsgan": "mao2017",
    "hinge": "lim2017",
    "wasserstein": "arjovsky2017",
    "relativistic": "jolicoeur2019",
    "patch": "isola2017",
    "unet": "wang2021",
    "spectral_norm": "miyato2018",
    "r1": "mescheder2018",
    "r2": "mescheder2018",
    "gp": "gulrajani2017",
    "feature_matching": "wang2018",
}
_RENAMED_STATE = {
    "learner.critic.": "discriminator_trainer.discriminator.",
    "learner.mean": "discriminator_trainer.exp_avg",
    "learner.square": "discriminator_trainer.exp_avg_sq",
    "learner._extra_state": "discriminator_trainer._extra_state",
}
"""Prefixes of state-dict keys in checkpoints of lossmith 0.1 and their present names."""


class AdversarialBase(Distance, ABC):
    """A loss with a trained discriminator."""

    citation_keys = tuple(dict.fromkeys(_CITATION_KEYS.values()))  # an instance has those that it uses
    _method: ClassVar[str] = ""

    def __init__(
        self,
        discriminator: DiscriminatorName = "unet",
        kind: AdversarialKind = "vanilla",
        *,
        penalty: GradientPenalty | None = None,
        gamma: float = 10.0,
        penalty_every: int = 1,
        spectral_norm: bool = True,
        width: int = 64,
        channels: int = 3,
        lr: float = 1e-4,
        betas: Sequence[float] = (0.9, 0.99),
        seed: int = 0,
        discriminator_start_step: int | None = None,
        discriminator_every: int = 1,
    ) -> None:
        super().__init__()
        self.discriminator_every = check_integer("discriminator_every", discriminator_every, low=1)
        if discriminator_start_step is not None:
            check_integer("discriminator_start_step", discriminator_start_step, low=0)
        options: dict[str, Any] = {"penalty": penalty, "gamma": gamma, "penalty_every": penalty_every}
        options |= {"spectral_norm": spectral_norm, "width": width, "channels": channels}
        options |= {"lr": lr, "betas": betas, "seed": seed}
        self.discriminator_trainer = DiscriminatorTrainer(discriminator, kind, **options)
        options |= {"betas": tuple(betas), "discriminator_start_step": discriminator_start_step}
        options |= {"discriminator_every": discriminator_every}
        self.options = {name: value for name, value in options.items() if value != _DEFAULTS[name]}
        self.positional: list[Any] = [] if discriminator == "unet" and kind == "vanilla" else [discriminator]
        self.positional += [] if kind == "vanilla" else [kind]
        self.discriminator_start_step = discriminator_start_step
        self.kind = kind
        parts = (self._method, discriminator, kind, "spectral_norm" if spectral_norm else "", penalty or "")
        self.citation_keys = tuple(_CITATION_KEYS[part] for part in parts if part)  # type: ignore[misc]

    @property
    def discriminator(self) -> Discriminator:
        """The discriminator."""
        return self.discriminator_trainer.discriminator

    def discriminator_step(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Train the discriminator for one step and return its metrics, see :meth:`DiscriminatorTrainer.step`."""
        self._check_image(target)
        self._check_image(pred)
        return self.discriminator_trainer.step(real=target, fake=pred)

    def _check_image(self, image: Tensor) -> None:
        """Raise ValueError if the discriminator cannot process the image."""
        discriminator = self.discriminator
        if image.ndim != 4 or image.shape[1] != discriminator.channels:
            cure = f"Set channels={image.shape[1]}" if image.ndim == 4 else "Pass a batch of images"
            raise ValueError(
                f"{self!r} needs images (N, {discriminator.channels}, H, W); got {tuple(image.shape)}. {cure}, or use "
                "another lens, such as ... @ Bands(3, 2, 1)."
            )
        height, width = image.shape[-2:]
        if min(height, width) < discriminator.min_size:
            raise ValueError(
                f"{self!r} needs images of at least {discriminator.min_size} px a side; got {height}x{width}."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for old, new in _RENAMED_STATE.items():
            for key in [key for key in state_dict if key.startswith(prefix + old)]:
                state_dict[prefix + new + key.removeprefix(prefix + old)] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        options = {name: list(value) if name == "betas" else value for name, value in self.options.items()}
        return repr_of(self, *self.positional, **options)
