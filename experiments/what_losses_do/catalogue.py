"""The rows of the loss tables and the formulas of the figures, with their pages and units."""

from dataclasses import dataclass
from typing import Literal

Goal = Literal["nearer", "smoother", "apart", "real", "together", "agreed", "denoised", "styled", "normal", "coded"]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        text: The formula.
        page: The page of its family.
        units: The units of its value.
        goal: The meaning of a lower value.
        bounds: The range of its value, if the loss does not define one because of a lens.
    """

    text: str
    page: str
    units: str
    goal: Goal = "nearer"
    bounds: tuple[float, float] | None = None


GOALS: dict[Goal, str] = {
    "nearer": "closer to the target",
    "smoother": "smoother, not better",
    "apart": "samples are further apart",
    "real": "the discriminator rates it more real",
    "together": "pairs are closer than non-pairs",
    "agreed": "the maps agree",
    "away": "flows are further apart",
    "denoised": "closer to the denoising target",
    "styled": "closer to content and style",
    "normal": "latents are closer to N(0, 1)",
    "coded": "latents and codes are closer",
}

RANGE, SQUARE, LAYERS = "image range", "squared image range", "features"
ROWS = [
    Row("L1()", "pixel", RANGE),
    Row("L2()", "pixel", SQUARE),
    Row("Lp(3)", "pixel", "p-th power of image range"),
    Row("Charbonnier()", "pixel", RANGE),
    Row("Huber()", "pixel", SQUARE),
    Row("SquaredNorm()", "pixel", "squared image range, summed"),
    Row("SSIM()", "structure", "1 - similarity"),
    Row("MSSSIM(4)", "structure", "1 - similarity"),
    Row("0.84 * MSSSIM(4) + 0.16 * L1()", "structure", "mixed"),
    Row("perceptual()", "perceptual", LAYERS),
    Row("perceptual('squeezenet')", "perceptual", LAYERS),
    Row("perceptual('vgg16')", "perceptual", LAYERS),
    Row("perceptual('vgg19')", "perceptual", LAYERS),
    Row("perceptual('vgg19', 'conv5_4')", "perceptual", LAYERS),
    Row("perceptual('alexnet')", "perceptual", LAYERS),
    Row("style()", "style", "squared Gram entries"),
    Row("style('squeezenet')", "style", "squared Gram entries"),
    Row("style('vgg19')", "style", "squared Gram entries"),
    Row("gatys()", "style", "mixed", "styled"),
    Row("johnson()", "style", "mixed", "styled"),
    Row("lpips()", "lpips-dists", "fitted to human choices"),
    Row("lpips('vgg')", "lpips-dists", "fitted to human choices"),
    Row("distilled_lpips()", "lpips-dists", "distilled from LPIPS"),
    Row("dists()", "lpips-dists", "fitted to human scores", bounds=(0.0, 2.0)),
    Row("fft_l1()", "frequency", RANGE),
    Row("fft_l1('amplitude')", "frequency", RANGE),
    Row("FocalFrequency()", "frequency", SQUARE),
    Row("wavelet_l1()", "frequency", RANGE),
    Row("gradient()", "gradient", "image range per pixel"),
    Row("gradient('laplacian')", "gradient", "image range per squared pixel"),
    Row("spsr_gradient()", "gradient", "(image range per pixel)², weighted"),
    Row("colour()", "colour", "CIELAB; 2.3 is just noticeable"),
    Row("colour('ycbcr')", "colour", RANGE),
    Row("TV()", "smoothness", "image range per pixel", "smoother"),
    Row("TV(squared=True)", "smoothness", "(image range per pixel)²", "smoother"),
    Row("EdgeAwareTV()", "smoothness", "image range per pixel", "smoother"),
    Row("contextual()", "contextual", "nats"),
    Row("sliced_wasserstein()", "contextual", "squared features"),
    Row("InfoNCE()", "contrastive", "nats", "together", (0.0, float("inf"))),
    Row("CLIPLoss()", "contrastive", "nats", "together"),
    Row("ContrastiveFlow()", "contrastive", "squared flow", "away"),
    Row("TextAlignment()", "contrastive", "1 - cosine", "together"),
    Row("TextContrast()", "contrastive", "nats", "together"),
    Row("PatchNCE() @ VGG('vgg16', 'relu3_1')", "contrastive", "nats", "together"),
    Row("ModeSeeking()", "diversity", "noise distance / image distance", "apart"),
    Row("PairwiseDiversity()", "diversity", RANGE, "apart", (0.0, 0.1)),
    Row("MemoryDiversity()", "diversity", RANGE, "apart", (0.0, 0.1)),
    Row("Dispersive()", "diversity", "nats", "apart"),
    Row("HiddenAlignment()", "attention", "squared cosine", "agreed"),
    Row("AttentionConsistency()", "attention", "nats", "agreed"),
    Row("AttentionMask()", "attention", "share of attention", "agreed", (0.0, 1.0)),
    Row("Adversarial()", "adversarial", "nats", "real"),
    Row("Adversarial('patch', 'hinge')", "adversarial", "logits", "real"),
    Row("FeatureMatching()", "adversarial", "discriminator features"),
    Row("srgan()", "adversarial", "mixed"),
    Row("esrgan()", "adversarial", "mixed"),
    Row("real_esrgan()", "adversarial", "mixed"),
    Row("KL()", "vae", "nats", "normal"),
    Row("VQCommitment()", "vae", "squared latents", "coded"),
    Row("vqgan()", "vae", "mixed"),
    Row("DenoisingMSE()", "diffusion", "squared noise", "denoised"),
    Row("imagen()", "diffusion", "squared flow", "denoised"),
    Row("imagen_fused()", "diffusion", "mixed", "denoised"),
    Row("LRConsistency()", "consistency", RANGE),
    Row("SpectralAngle()", "bands", "radians"),
    Row("Charbonnier(bands='joint')", "bands", RANGE),
    Row("TV('isotropic', bands='joint')", "bands", "image range per pixel", "smoother"),
    Row("L1().on(mask='mask')", "masks", RANGE),
    Row("pconv()", "masks", "mixed"),
    Row("aot_gan()", "masks", "mixed"),
]

FIGURES: dict[str, str] = {
    "l1": "L1()",
    "l2": "L2()",
    "ssim": "SSIM()",
    "msssim": "MSSSIM(4)",
    "ms_ssim_l1": "0.84 * MSSSIM(4) + 0.16 * L1()",
    "gradient": "gradient()",
    "laplacian": "gradient('laplacian')",
    "fft": "fft_l1()",
    "amplitude": "fft_l1('amplitude')",
    "focal": "FocalFrequency()",
    "wavelet": "wavelet_l1()",
    "colour": "colour()",
    "tv": "TV()",
    "tv_squared": "TV(squared=True)",
    "edge_tv": "EdgeAwareTV()",
    "consistency": "LRConsistency()",
    "masked_l1": "L1().on(mask='mask')",
    "embedded": "perceptual()",
    "squeezenet": "perceptual('squeezenet')",
    "vgg19": "perceptual('vgg19')",
    "conv5_4": "perceptual('vgg19', 'conv5_4')",
    "masked_vgg19": "perceptual('vgg19').on(mask='mask')",
    "style": "style('vgg19')",
    "lpips_alex": "lpips()",
    "lpips_vgg": "lpips('vgg')",
    "dists": "dists()",
    "contextual": "contextual()",
    "wasserstein": "sliced_wasserstein(layers=['relu1_1', 'relu2_1', 'relu3_1', 'relu4_1'])",
    "patchnce": "PatchNCE() @ VGG('vgg16', 'relu3_1')",
}
"""The losses under which a photograph is optimised, by the name of the figure; slow networks are last."""
