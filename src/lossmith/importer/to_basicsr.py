"""Losses as a configuration of BasicSR: the inverse of :mod:`lossmith.importer.basicsr`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from lossmith.formula.loss import Loss
from lossmith.formula.term import Term
from lossmith.importer.recipe import LeftOut
from lossmith.lenses.gram import Gram
from lossmith.lenses.vgg import VGG
from lossmith.losses.adversarial import Adversarial
from lossmith.losses.pixel import L1, L2, Charbonnier
from lossmith.losses.smoothness import TV

__all__ = ["BasicSRConfig", "to_basicsr"]

GAN_TYPES = {"vanilla": ("vanilla", 1.0), "lsgan": ("lsgan", 2.0), "hinge": ("hinge", 1.0)}
GAN_TYPES |= {"wasserstein": ("wgan", 1.0), "relativistic": ("vanilla", 0.5)}
"""BasicSR's name of each adversarial loss, and how many of ours its loss of weight 1 is."""
READ_BY_MODELS = ("pixel_opt", "perceptual_opt", "gan_opt")
"""The losses that the models of BasicSR read."""


@final
@dataclass
class BasicSRConfig:
    """The part of a configuration of BasicSR that its loss determines.

    Args:
        options: The options.
        left_out: The reason for each term that BasicSR cannot express, by its name.
        notes: What differs from the loss, or needs a change of BasicSR.
    """

    options: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The options as YAML, after comments with the terms that are left out and the notes."""
        import yaml

        comments = [f"# {name} is not expressible: {reason}." for name, reason in self.left_out.items()]
        comments += [f"# {note}" for note in self.notes]
        body = yaml.safe_dump(self.options, sort_keys=False, allow_unicode=True, width=1000) if self.options else ""
        return "\n".join([*comments, body]).rstrip() + "\n"


def to_basicsr(loss: Loss) -> BasicSRConfig:
    """Convert a loss to the options of BasicSR that give the same values and gradients.

    Pixel distances, total variation, features and Gram matrices of VGG, and adversarial losses have a class there, with
    numbers as weights. :func:`lossmith.importer.read_recipe` reads the options back as the same loss.

    Args:
        loss: The loss.

    Example:
        >>> from lossmith import L1, SSIM
        >>> config = to_basicsr(0.5 * L1() + SSIM())
        >>> config.options["train"]
        {'pixel_opt': {'type': 'L1Loss', 'loss_weight': 0.5, 'reduction': 'mean'}}
        >>> config.left_out
        {'SSIM': 'BasicSR has no class for SSIM()'}
    """
    config = BasicSRConfig()
    sections: dict[str, dict[str, Any]] = {}
    for name, term in zip(loss.names, loss.terms, strict=True):
        try:
            _add_term(config, sections, term)
        except LeftOut as reason:
            config.left_out[name] = str(reason)
    if not sections:
        return config
    optimizer = config.options.pop("optim_d", None)
    head = {"model_type": config.options.pop("model_type", "SRModel"), "network_g": {"type": "YOUR_NETWORK"}}
    config.options = {**head, **config.options, "train": {**({"optim_d": optimizer} if optimizer else {}), **sections}}
    config.notes += [
        f"{key}: no model of BasicSR reads it; add its class to yours." for key in sections if key not in READ_BY_MODELS
    ]
    return config


def _add_term(config: BasicSRConfig, sections: dict[str, dict[str, Any]], term: Term) -> None:
    """Add a term to the sections of a configuration.

    Raises:
        LeftOut: BasicSR cannot express the term.
    """
    if term.weight.share is not None:
        raise LeftOut("its weight is a share of the gradient; calibrate the loss first")
    if not term.weight.is_constant:
        raise LeftOut(f"its weight is {term.weight!r}, and BasicSR has numbers only")
    if term.input_renames:
        raise LeftOut("it reads other inputs than the prediction and the target")
    weight = term.weight.scale
    stages = [stage for _, stage in reversed(term.path)]
    match (term.distance, stages):
        case (L1() | L2() | Charbonnier() as distance, []):
            _add(sections, "pixel", _pixel_options(distance, weight))
        case (TV() as distance, []):
            if repr(distance) != "TV()":
                raise LeftOut("WeightedTVLoss is the mean of absolute differences")
            _add(sections, "tv", {"type": "WeightedTVLoss", "loss_weight": weight, "reduction": "mean"})
        case (L1() | L2() as distance, [VGG() as features]):
            _add_perceptual(sections, distance, features, "perceptual_weight", weight)
        case (L1() | L2() as distance, [Gram(norm="chw"), VGG() as features]):
            _add_perceptual(sections, distance, features, "style_weight", weight)
        case (Adversarial() as distance, []):
            _add_adversarial(config, sections, distance, weight)
        case _:
            text = f"{term.distance!r} @ {term.lens!r}" if term.lens else repr(term.distance)
            raise LeftOut(f"BasicSR has no class for {text}")


def _pixel_options(distance: L1 | L2 | Charbonnier, weight: float) -> dict[str, Any]:
    if isinstance(distance, Charbonnier):
        if distance.bands != "each":
            raise LeftOut("CharbonnierLoss takes each band by itself")
        eps = float(f"{distance.eps**2:.12g}")  # there under the root without its square
        return {"type": "CharbonnierLoss", "loss_weight": weight, "reduction": "mean", "eps": eps}
    return {"type": "L1Loss" if isinstance(distance, L1) else "MSELoss", "loss_weight": weight, "reduction": "mean"}


def _add_perceptual(
    sections: dict[str, dict[str, Any]], distance: L1 | L2, features: VGG, kind: str, weight: float
) -> None:
    """Add a term of features or Gram matrices; one of each, of the same layers, are one PerceptualLoss."""
    if features.backbone.weights is not None:
        raise LeftOut("PerceptualLoss has torchvision's weights only")
    if weight < 0:
        raise LeftOut("PerceptualLoss leaves out a negative weight")
    options = {
        "type": "PerceptualLoss",
        "layer_weights": {layer: float(value) for layer, value in features.layers.items()},
        "vgg_type": features.backbone.name,
        "use_input_norm": True,
        "range_norm": False,
        "perceptual_weight": 0.0,
        "style_weight": 0.0,
        "criterion": "l1" if isinstance(distance, L1) else "l2",
    }
    for section in sections.values():
        same = all(section.get(key) == options[key] for key in ("type", "layer_weights", "vgg_type", "criterion"))
        if same and not section[kind]:
            section[kind] = weight
            return
    _add(sections, "perceptual", {**options, kind: weight})


def _add_adversarial(
    config: BasicSRConfig, sections: dict[str, dict[str, Any]], distance: Adversarial, weight: float
) -> None:
    """Add an adversarial term with its discriminator; BasicSR trains one."""
    if "gan_opt" in sections:
        raise LeftOut("the models of BasicSR train one discriminator")
    given: Mapping[str, Any] = distance.options
    penalty = given.get("penalty")
    if unknown := given.keys() - {"penalty", "width", "lr", "betas", "seed", "channels"}:
        raise LeftOut(f"{', '.join(sorted(unknown))} of its discriminator has no option in BasicSR")
    if penalty is not None:
        if distance.kind != "wasserstein" or penalty != "gp":
            raise LeftOut(f"the models of BasicSR have no penalty {penalty!r}")
        config.notes.append("gan_opt: the critic needs a gradient penalty, which the models of BasicSR do not add.")
    kind, factor = GAN_TYPES[distance.kind]
    channels, width = given.get("channels", 3), given.get("width", 64)
    if distance.positional[:1] == ["patch"] or type(distance.discriminator).__name__.startswith("Patch"):
        network = {"type": "VGGStyleDiscriminator", "num_in_ch": channels, "num_feat": width}
        config.notes.append("network_d: VGGStyleDiscriminator, for crops of 128 px, stands in place of 'patch'.")
    else:
        network = {"type": "UNetDiscriminatorSN", "num_in_ch": channels, "num_feat": width}
    config.options["model_type"] = "ESRGANModel" if distance.kind == "relativistic" else "SRGANModel"
    config.options["network_d"] = network
    betas = [float(beta) for beta in given.get("betas", (0.9, 0.99))]
    config.options["optim_d"] = {"type": "Adam", "lr": given.get("lr", 1e-4), "betas": betas}
    options = {"type": "GANLoss", "gan_type": kind, "real_label_val": 1.0, "fake_label_val": 0.0}
    _add(sections, "gan", {**options, "loss_weight": weight / factor})


def _add(sections: dict[str, dict[str, Any]], kind: str, options: dict[str, Any]) -> None:
    """Add a section under a key that is free."""
    keys = [f"{kind}_opt", *(f"{kind}{number}_opt" for number in range(2, len(sections) + 2))]
    sections[next(key for key in keys if key not in sections)] = options
