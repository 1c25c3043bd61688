"""Losses of text-to-image diffusion: Imagen's published loss, and a sum of it with auxiliary terms."""

from lossmith._checks import check_bool, check_choice
from lossmith.formula.loss import Hybrid
from lossmith.formula.snr_gate import Gate
from lossmith.formula.weight import GradientShare
from lossmith.lenses.edges import Central
from lossmith.losses.attention import AttentionMask
from lossmith.losses.contrastive_flow import ContrastiveFlow
from lossmith.losses.diffusion import DenoisingMSE, Weighting
from lossmith.losses.hidden_alignment import Dispersive
from lossmith.losses.pixel import L2
from lossmith.losses.recipes import perceptual
from lossmith.noise_levels import PredictionType

__all__ = ["imagen", "imagen_fused"]

_WEIGHTINGS: dict[PredictionType, Weighting] = {
    "x0": "flow",
    "eps": "min-snr",
    "v": "min-snr",
    "flow": "none",
    "edm": "none",
}


def imagen(prediction: PredictionType = "x0") -> Hybrid:
    r"""Build Imagen's published loss: the weighted denoising error.

    .. math:: w(\lambda) \, \lVert \hat x - x \rVert^2

    A prediction of the image has the weighting of a flow, a prediction of the noise or of v has min-SNR.

    References:
        | Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding (Saharia et al., 2022)
        | https://arxiv.org/abs/2205.11487

    Args:
        prediction: The kind of prediction: "x0", "eps", "v", "flow" or "edm".

    Raises:
        ValueError: If the prediction is unknown.

    Example:
        >>> imagen()
        DenoisingMSE("x0", weighting="flow")
    """
    check_choice("imagen prediction", prediction, PredictionType)
    return Hybrid(DenoisingMSE(prediction, weighting=_WEIGHTINGS[prediction]).terms)


def imagen_fused(prediction: PredictionType = "x0", *, shares: bool = False) -> Hybrid:
    r"""Build the denoising error plus contrastive, perceptual, smoothness, diversity and attention terms.

    .. math:: L = L_\text{denoising} + \alpha L_\text{contrastive} + \beta L_\text{perceptual} + \gamma L_\text{smooth}
        + \delta L_\text{diversity} + \eta L_\text{attention}

    The denoising error is the pixel loss. It has the weighting of a flow for every kind of prediction, so that the
    contrastive term, which compares flows, cannot outweigh it. The smoothness term is the squared error of image
    gradients, which preserves the mean; the diversity term acts on the network's hidden features; the attention term
    applies where the data has masks. The weight of contrastive flow matching is its authors'. The other weights give
    each term a gradient norm of 5 to 30 % of the denoising error's where the term acts, measured at the weights of a
    small network in the middle of its training on shapes (``lossmith calibrate --captions`` measures these norms).

    With `shares`, for ``--balance share`` or resolution before the first step: 75 % denoising, 5 % contrastive, 10 %
    perceptual, 10 % image gradients. Diversity and attention have no gradient at the image and keep numbers. These are
    100 times smaller, since shares scale the sum of all gradient norms to L1's, and the gradient norm of the denoising
    error is 50 to 200 times as large.

    References:
        | Contrastive Flow Matching (Stoica et al., 2025)
        | TokenCompose (Wang et al., 2024), for the attention term
        | Diffuse and Disperse (Wang and He, 2025), for the diversity term

    Args:
        prediction: The kind of prediction: "x0", "v", "flow" or "edm". "eps" is not supported: its estimate of the
            image is unusable at high noise levels, where the factor of the conversion is large.
        shares: Whether the weights are shares of the gradient.

    Raises:
        ValueError: If the prediction is not supported, or `shares` is not a bool.

    Example:
        >>> imagen_fused().names
        ('DenoisingMSE', 'ContrastiveFlow', 'perceptual', 'edges', 'Dispersive', 'AttentionMask')
    """
    check_bool("imagen_fused shares", shares)
    if prediction == "eps":
        raise ValueError(
            'imagen_fused needs an estimate of the image, which a prediction of the noise, "eps", does not give at '
            'high noise levels: use "v" or "x0", or add gated terms to imagen("eps").'
        )
    denoising, contrastive, edges = imagen(prediction), ContrastiveFlow(), L2() @ Central()
    if prediction == "v":
        denoising = Hybrid(DenoisingMSE("v", weighting="flow").terms)
    features = perceptual("squeezenet") * Gate()  # the network for which the weights were measured
    diversity, attention = Dispersive(), AttentionMask("squared")
    if shares:
        shared = denoising * GradientShare(75) + contrastive * GradientShare(5)
        shared += features * GradientShare(10) + edges * GradientShare(10)
        return shared + 1e-4 * diversity + 2e-4 * attention
    return denoising + 0.05 * contrastive + 0.002 * features + 5 * edges + 0.01 * diversity + 0.02 * attention
