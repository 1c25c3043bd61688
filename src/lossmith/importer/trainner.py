"""The losses of traiNNer-redux, and of neosr, which differ from those of BasicSR."""

from lossmith.formula.loss import Loss
from lossmith.importer import basicsr
from lossmith.importer.basicsr import Context, Translate, adversarial
from lossmith.importer.recipe import LeftOut, Section
from lossmith.lens import Lens
from lossmith.lenses.colour import YCbCr
from lossmith.lenses.edges import Sobel
from lossmith.lenses.fourier import Fourier
from lossmith.lenses.lowpass import Blur, Downsample
from lossmith.losses.dists import dists
from lossmith.losses.frequency import FocalFrequency
from lossmith.losses.pixel import L1, L2, Charbonnier, Huber
from lossmith.losses.ssim import MSSSIM

__all__ = ["NEOSR_LOSSES", "TRAINNER_LOSSES"]

PERCEPTUAL_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
"""The layers of both projects if a configuration names none."""
STUDIO_CHROMA = 224 / 255
"""The chroma of BT.601 in 16..240 of 255, relative to that of JPEG."""
ZERO_PADDING = "images are padded with zeros there, which affects their borders"


def _criterion(section: Section, default: str = "l1") -> Loss:
    """Return the distance of a criterion."""
    distances: dict[str, Loss] = {"l1": L1(), "l2": L2(), "charbonnier": Charbonnier(1e-6)}
    if (kind := section.text("criterion", default)) not in distances:
        raise LeftOut(f"criterion {kind!r} is none of lossmith's")
    return distances[kind]


def translate_vgg_features(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate perceptualloss on convolutions of VGG-19; its projected distributions have no counterpart."""
    layers, weight = section.weights("layer_weights", PERCEPTUAL_LAYERS), section.number("loss_weight", 1.0)
    distance = _criterion(section, "charbonnier")
    for key in ("w_lambda", "alpha", "num_proj_fd", "phase_weight_fd", "stride_fd", "clip_min", "verbose_logging"):
        section.value(key)  # of the other criteria
    if section.flag("antialiased", False):
        raise LeftOut("antialiased is on, which is another network")
    return weight * distance @ basicsr.features_of(section, "vgg19", layers, context), []


def translate_msssim(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate mssimloss: MS-SSIM of Y."""
    for key, value in (("is_prod", True), ("downsample", False)):
        if section.flag(key, value) != value:
            raise LeftOut(f"{key} is {not value}")
    section.value("channels")
    loss: Loss = MSSSIM(odd_sides="zeros", bands="joint")
    if section.flag("test_y_channel", True):
        if (space := section.text("color_space", "yiq")) != "yiq":
            raise LeftOut(f"color_space {space!r} is not carried over")
        loss = MSSSIM(odd_sides="zeros") @ YCbCr("brightness")
    is_equal = section.flag("include_luminance", False)
    note = "the luminance of the coarsest scale is left out there"
    return section.number("loss_weight", 1.0) * loss, [] if is_equal else [note]


def translate_ssim(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Refuse ssimloss, which is the similarity itself and not one minus it."""
    raise LeftOut("the class returns the similarity itself, which a training would lower")


def translate_colour(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate colorloss: chroma, averaged over squares."""
    kind, scale = section.text("criterion", "l1"), int(section.number("scale", 4))
    factor = {"l1": STUDIO_CHROMA, "l2": STUDIO_CHROMA**2}
    if kind not in factor:
        raise LeftOut(f"criterion {kind!r} is not reduced to a number there")
    lens = Downsample(scale, "area") @ YCbCr("chroma")
    return section.number("loss_weight", 1.0) * factor[kind] * _criterion(section) @ lens, []


def translate_downsampled(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate averageloss and bicubicloss: a distance of downsampled images."""
    is_average, scale = section.text("type", "").startswith("average"), int(section.number("scale", 4))
    if section.text("criterion", "l1") == "charbonnier":
        raise LeftOut("criterion 'charbonnier' is not reduced to a number there")
    lens: Lens = Downsample(scale, "area") if is_average else Blur(0.5) @ Downsample(scale)
    deviations = [] if is_average else ["the borders of downsampled images differ"]
    return section.number("loss_weight", 1.0) * _criterion(section) @ lens, deviations


def translate_sobel(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate sobeledgeloss, whose kernels are twice ours."""
    return section.number("loss_weight", 1.0) * 4 * L2() @ Sobel() @ YCbCr("brightness"), [ZERO_PADDING]


def translate_fft(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate fftloss."""
    if section.text("reduction", "mean") != "mean":
        raise LeftOut("a sum over frequencies is not carried over")
    return section.number("loss_weight", 1.0) * L1() @ Fourier(norm="backward", onesided=True), []


def translate_focal_frequency(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate ffloss, which is multiplied by 50 and averages spectra over the batch by default."""
    loss = FocalFrequency(
        section.number("alpha", 1.0),
        int(section.number("patch_factor", 1)),
        ave_spectrum=section.flag("ave_spectrum", True),
        log_matrix=section.flag("log_matrix", False),
        batch_matrix=section.flag("batch_matrix", False),
    )
    return section.number("loss_weight", 1.0) * 50 * loss, []


def translate_dists(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate distsloss with the published weights."""
    for key, value in (("as_loss", True), ("load_weights", True), ("use_input_norm", True)):
        if section.flag(key, value) != value:
            raise LeftOut(f"{key} is {not value}")
    section.value("clip_min")
    return section.number("loss_weight", 1.0) * dists(), []


def translate_neosr_dists(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate dists_loss, whose network sees images without the normalisation of its training."""
    loss, _ = translate_dists(section, context)
    return loss, ["images are not normalised for VGG there"]


def translate_neosr_perceptual(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate vgg_perceptual_loss, whose features are divided by 10."""
    layers, kind = section.weights("layer_weights", PERCEPTUAL_LAYERS), section.text("criterion", "chc")
    scaled: dict[str, Loss] = {
        "l1": 0.1 * L1(),
        "l2": 0.01 * L2(),
        "huber": 0.01 * Huber(10.0),
        "chc": 0.1 * Charbonnier(1e-5),
    }
    if kind not in scaled:
        raise LeftOut(f"criterion {kind!r} is not known")
    for key in ("ipk", "patch_weight"):
        section.value(key)  # of patchloss
    deviations = ["differences of more than 10 between features are clipped there"] if kind == "chc" else []
    if section.flag("patchloss", False):
        deviations.append("patchloss, which has no gradient there, is left out")
    features = basicsr.features_of(section, section.text("vgg_type", "vgg19"), layers, context)
    return section.number("loss_weight", 1.0) * scaled[kind] @ features, deviations


def translate_neosr_msssim(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate mssim_loss: MS-SSIM of RGB."""
    window, sigma = int(section.number("window_size", 11)), section.number("sigma", 1.5)
    section.value("in_channels")
    if section.number("L", 1) != 1:
        raise LeftOut("L, the range of the images, is not 1")
    k1, k2 = section.number("K1", 0.01), section.number("K2", 0.03)
    deviations = ["the mean over the batch is taken before the product of scales there"]
    if section.value("padding") != 0:
        deviations.append(ZERO_PADDING)
    loss = MSSSIM(window=window, sigma=sigma, k1=k1, k2=k2, odd_sides="zeros", bands="joint")
    return section.number("loss_weight", 1.0) * loss, deviations


def translate_huber(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate HuberLoss."""
    if section.text("reduction", "mean") != "mean":
        raise LeftOut("a sum is not carried over")
    return section.number("loss_weight", 1.0) * Huber(section.number("delta", 1.0)), []


def translate_chc(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate chc_loss without its term of cosine similarity."""
    if section.text("reduction", "mean") != "mean" or section.number("loss_lambda", 0.0) != 0:
        raise LeftOut("a sum, or loss_lambda, is not carried over")
    low, high = section.number("clip_min", 0.003921), section.number("clip_max", 0.996078)
    loss = Charbonnier(1e-6) if section.text("criterion", "huber") == "huber" else L1()
    deviations = [f"errors below {low:g} and above {high:g} have no gradient there"]
    return section.number("loss_weight", 1.0) * loss, deviations


def translate_neosr_gan(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate gan_loss, whose default weight is 0.1."""
    kinds = {"bce": "vanilla", "mse": "lsgan"}
    if (kind := section.text("gan_type", "bce")) not in kinds:
        raise LeftOut(f"gan_type {kind!r} is none of lossmith's")
    if section.number("real_label_val", 1.0) != 1 or section.number("fake_label_val", 0.0) != 0:
        raise LeftOut("its labels are not 1 and 0")
    return adversarial(kinds[kind], section.number("loss_weight", 0.1), context)


TRAINNER_LOSSES: dict[str, Translate] = {
    **basicsr.LOSSES,
    "perceptualloss": translate_vgg_features,
    "perceptualfp16loss": translate_vgg_features,
    "mssimloss": translate_msssim,
    "ssimloss": translate_ssim,
    "colorloss": translate_colour,
    "averageloss": translate_downsampled,
    "bicubicloss": translate_downsampled,
    "sobeledgeloss": translate_sobel,
    "fftloss": translate_fft,
    "ffloss": translate_focal_frequency,
    "distsloss": translate_dists,
}
"""The losses of traiNNer-redux by their type in lower case."""

NEOSR_LOSSES: dict[str, Translate] = {
    "l1loss": basicsr.translate_pixel,
    "mseloss": basicsr.translate_pixel,
    "huberloss": translate_huber,
    "chcloss": translate_chc,
    "vggperceptualloss": translate_neosr_perceptual,
    "mssimloss": translate_neosr_msssim,
    "ffloss": translate_focal_frequency,
    "distsloss": translate_neosr_dists,
    "ganloss": translate_neosr_gan,
}
"""The losses of neosr by their type in lower case, without underscores."""
