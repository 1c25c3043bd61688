"""The losses of BasicSR and Real-ESRGAN, and those that traiNNer-redux and neosr share with them.

Each function takes the options of a loss in a configuration, and returns lossmith's loss with its weight and in what it
differs. The defaults are those of the classes, which configurations leave out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, final

from lossmith.formula.loss import Loss
from lossmith.importer.recipe import ImportedTerm, LeftOut, Section
from lossmith.lenses.gram import Gram
from lossmith.lenses.vgg import VGG
from lossmith.losses.adversarial import Adversarial
from lossmith.losses.pixel import L1, L2, Charbonnier
from lossmith.losses.smoothness import TV

__all__ = ["LOSSES", "Context", "Translate", "adversarial", "translate_loss"]


@final
@dataclass(frozen=True)
class Context:
    """The settings of a recipe on which its losses depend beside their own options.

    Args:
        crop: The side of the crops in pixels of the target; 0 if unknown.
        batch: The number of images in a batch of a process; 0 if unknown.
        channels: The number of image channels.
        image_range: The width of the range of the images: 1 for [0, 1], 2 for [-1, 1].
        is_relativistic: Whether the adversarial loss compares real and generated logits.
        discriminator: The options of the discriminator.
        discriminator_optimizer: The options of its optimiser.
    """

    crop: int
    batch: int
    channels: int
    image_range: float
    is_relativistic: bool
    discriminator: Mapping[str, Any]
    discriminator_optimizer: Mapping[str, Any]


Translate = Callable[[Section, Context], tuple[Loss, list[str]]]


def translate_loss(
    name: str, options: Mapping[str, Any], context: Context, losses: Mapping[str, Translate]
) -> ImportedTerm:
    """Return a loss of a recipe as a term.

    Args:
        name: The name of the loss in the recipe, for messages.
        options: Its options, with its type.
        context: What it depends on beside its options.
        losses: The functions that translate losses, by their type in lower case.

    Raises:
        LeftOut: The loss cannot be carried over.
    """
    section = Section(name, options)
    kind = section.text("type", "").replace("_", "")
    if kind not in losses:
        raise LeftOut(NO_COUNTERPART.get(kind, "no loss of lossmith is known to be equal to it"))
    try:
        loss, deviations = losses[kind](section, context)
    except ValueError as error:  # an option that the loss here refuses
        raise LeftOut(str(error).splitlines()[0].rstrip(".")) from None
    if section.unread:
        deviations.append(f"options that are not carried over: {', '.join(section.unread)}")
    return ImportedTerm(name, loss, tuple(deviations))


def translate_pixel(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate L1Loss, MSELoss and CharbonnierLoss; a sum depends on the size of the batch."""
    kind, weight = section.text("type", "").replace("_", ""), section.number("loss_weight", 1.0)
    factor, deviations = _reduction(section, context)
    scale = context.image_range
    if kind == "charbonnierloss":
        eps = sqrt(section.number("eps", 1e-12))
        return weight * factor * scale * Charbonnier(eps / scale), deviations
    return (weight * factor * scale * L1() if kind == "l1loss" else weight * factor * scale**2 * L2()), deviations


def translate_tv(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate WeightedTVLoss: means of the differences, or their sum over the batch."""
    weight = section.number("loss_weight", 1.0) * context.image_range
    if section.text("reduction", "mean") == "mean":
        return weight * TV(), []
    if not context.batch:
        raise LeftOut("its sum over the batch needs the size of the batch, which the configuration does not have")
    return weight * context.batch * TV(per="image"), [
        f"the sum over a batch of {context.batch} images is in the weight"
    ]


def translate_perceptual(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate PerceptualLoss: features and Gram matrices of VGG, each with a weight per layer."""
    criterion = section.text("criterion", "l1")
    distances: dict[str, Loss] = {"l1": L1(), "l2": L2()}
    perceptual, style = section.number("perceptual_weight", 1.0), section.number("style_weight", 0.0)
    layers, network = section.weights("layer_weights", {}), section.text("vgg_type", "vgg19")
    if criterion not in distances:
        raise LeftOut(
            f"criterion {criterion!r} is the norm of the whole batch, not its square, so that the gradient of an image "
            "depends on the others"
            if criterion == "fro"
            else f"criterion {criterion!r} is not known"
        )
    features = features_of(section, network, layers, context)
    terms = [perceptual * distances[criterion] @ features] if perceptual > 0 else []
    terms += [style * distances[criterion] @ Gram() @ features] if style > 0 else []
    if not terms:
        raise LeftOut("both its weights are 0")
    return sum(terms[1:], start=terms[0]), []


def features_of(section: Section, network: str, layers: Mapping[str, float], context: Context) -> VGG:
    """Return the features of VGG with BasicSR's options of the input."""
    if network not in ("vgg16", "vgg19"):
        raise LeftOut(f"vgg_type {network!r} is neither vgg16 nor vgg19")
    if not section.flag("use_input_norm", True):
        raise LeftOut("use_input_norm is off, and lossmith normalises images as the network was trained")
    if section.flag("range_norm", False) != (context.image_range == 2):
        raise LeftOut("range_norm does not fit the range of the images, so that the network sees wrong colours")
    if not layers:
        raise LeftOut("it names no layers")
    known = {name: weight for name, weight in layers.items() if weight > 0}
    try:
        return VGG(network, known)  # type: ignore[arg-type]
    except ValueError as error:
        raise LeftOut(str(error).rstrip(".")) from None


def translate_gan(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate GANLoss of the generator's step; the discriminator's loss has weight 1 in both."""
    for key, value in (("real_label_val", 1.0), ("fake_label_val", 0.0)):
        if section.number(key, value) != value:
            raise LeftOut(f"{key} is not {value:g}")
    return adversarial(section.text("gan_type", "vanilla"), section.number("loss_weight", 1.0), context)


def adversarial(kind: str, weight: float, context: Context) -> tuple[Loss, list[str]]:
    """Return the adversarial loss of a kind by its name in BasicSR.

    Args:
        kind: "vanilla", "lsgan", "hinge", "wgan" or "wgan_softplus".
        weight: The weight of the generator's loss.
        context: The discriminator and its optimiser.
    """
    factors = {"vanilla": ("vanilla", 1.0), "wgan_softplus": ("vanilla", 1.0), "lsgan": ("lsgan", 2.0)}
    factors |= {"hinge": ("hinge", 1.0), "wgan": ("wasserstein", 1.0)}
    if kind not in factors:
        raise LeftOut(f"gan_type {kind!r} is not known")
    ours, factor = factors[kind]
    if context.is_relativistic:
        if kind != "vanilla":
            raise LeftOut(f"the relativistic form of gan_type {kind!r} is not known")
        ours, factor = "relativistic", 0.5  # the mean of the two parts
    options, deviations = _discriminator(context)
    name = options.pop("discriminator")
    if kind == "wgan":
        options["penalty"] = "gp"
        deviations.append("the critic has a gradient penalty, since nothing else bounds its slope")
    return weight * factor * Adversarial(name, ours, **options), deviations  # type: ignore[arg-type]


def _discriminator(context: Context) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of Adversarial for a discriminator and its optimiser, and in what it differs."""
    network = Section("network_d", context.discriminator)
    optimizer = Section("optim_d", context.discriminator_optimizer)
    kind = network.text("type", "").replace("_", "")
    options: dict[str, Any] = {"discriminator": "patch" if "vgg" in kind or "patch" in kind else "unet"}
    width = int(network.number("num_feat", network.number("base_nc", 64)))
    if width != 64:
        options["width"] = width
    if context.discriminator_optimizer:
        options["lr"] = optimizer.number("lr", 1e-4)
        betas = optimizer.value("betas")
        if isinstance(betas, list) and len(betas) == 2:
            options["betas"] = [float(beta) for beta in betas]
    if kind in ("unetdiscriminatorsn", "discriminatorunet", "unet"):
        return options, []
    name = context.discriminator.get("type", "its default")
    return options, [f"the discriminator is {options['discriminator']!r} in place of {name}"]


def _reduction(section: Section, context: Context) -> tuple[float, list[str]]:
    """Return the factor from the mean to the reduction of a loss, and what it depends on."""
    reduction = section.text("reduction", "mean")
    if reduction == "mean":
        return 1.0, []
    if reduction != "sum":
        raise LeftOut(f"reduction {reduction!r} gives no number")
    if not (context.crop and context.batch):
        raise LeftOut("its sum over the batch needs crop and batch, which the configuration does not have")
    count = context.batch * context.channels * context.crop**2
    return float(count), [f"the sum over {context.batch} crops of {context.crop} px is in the weight"]


NO_COUNTERPART = {
    "hsluvloss": "a distance of hue, saturation and lightness in HSLuv; the nearest is colour()",
    "consistencyloss": "a distance of chroma in Oklab and of lightness; the nearest is colour()",
    "ldlloss": "it needs the output of the averaged network in each step",
    "fdlloss": "a sliced Wasserstein distance of the features' spectra; the nearest is sliced_wasserstein()",
    "msswdloss": "a sliced Wasserstein distance at several scales; the nearest is sliced_wasserstein()",
    "psnrloss": "the logarithm of the mean squared error of each image; the nearest is L2()",
    "cosimloss": "one minus the cosine of colours; the nearest is SpectralAngle()",
    "ganfeatloss": "it compares layers of discriminators at several scales; the nearest is FeatureMatching()",
    "multiscaleganloss": "its discriminators work at several scales; the nearest is Adversarial('patch')",
}
"""The reasons why losses have no counterpart, with the nearest loss, by their type in lower case."""

LOSSES: dict[str, Translate] = {
    "l1loss": translate_pixel,
    "mseloss": translate_pixel,
    "charbonnierloss": translate_pixel,
    "weightedtvloss": translate_tv,
    "perceptualloss": translate_perceptual,
    "ganloss": translate_gan,
}
"""The losses of BasicSR by their class in lower case."""
