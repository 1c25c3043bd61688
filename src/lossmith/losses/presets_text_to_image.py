"""Losses for text-to-image diffusion: the published Imagen's, and the fusion that this project's origin describes."""

from lossmith.formula.loss import Hybrid
from lossmith.formula.snr_gate import Gate
from lossmith.formula.weight import GradientShare
from lossmith.lenses.edges import Central
from lossmith.losses.attention import AttentionMask
from lossmith.losses.contrastive_flow import ContrastiveFlow
from lossmith.losses.diffusion import DenoisingMSE
from lossmith.losses.hidden_alignment import Dispersive
from lossmith.losses.pixel import L2
from lossmith.losses.recipes import perceptual
from lossmith.noise_levels import Prediction

__all__ = ["imagen", "imagen_fused"]

WEIGHTINGS = {"x0": "flow", "eps": "min-snr", "v": "min-snr", "flow": "none", "edm": "none"}


def imagen(prediction: Prediction = "x0") -> Hybrid:
    r"""The published Imagen's loss: the weighted error of the noise that is taken off, and nothing else.

    .. math:: w(\lambda) \, \lVert \hat x - x \rVert^2

    A network that says the picture is weighted by the error of its flow, one that says the noise or v by min-SNR.

    References:
        | Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding (Saharia et al., 2022)
        | https://arxiv.org/abs/2205.11487

    Args:
        prediction: What the network says: "x0", "eps", "v", "flow" or "edm".

    Raises:
        ValueError: Another prediction.

    Example:
        >>> imagen()
        DenoisingMSE("x0", weighting="flow")
    """
    if prediction not in WEIGHTINGS:
        raise ValueError(f"imagen knows the predictions {', '.join(WEIGHTINGS)}; got {prediction!r}.")
    return Hybrid(DenoisingMSE(prediction, weighting=WEIGHTINGS[prediction]).terms)  # type: ignore[arg-type]


def imagen_fused(prediction: Prediction = "x0", *, shares: bool = False) -> Hybrid:
    r"""The denoising error, fused with the terms by which the origin of this project trains its image decoder.

    .. math:: L = L_\text{denoising} + \alpha L_\text{contrastive} + \beta L_\text{perceptual} + \gamma L_\text{smooth}
        + \delta L_\text{diversity} + \eta L_\text{attention}

    The pixel error is the denoising itself, weighted by the error of the flow whatever the network says, which the
    contrast, that of flows, cannot outweigh then; smoothness is the error of slopes, which
    keeps the mean; diversity that of the features of the network's middle; attention is held to the masks, where the
    data has any. Contrastive flow matching has its authors' weight; the others are such that each term's gradient at
    the weights of a small network, half trained on shapes, was 5 to 30 % of the denoising's where the term acts
    (``lossmith calibrate --captions`` measures that).

    As shares, for ``--balance share`` or as the numbers that they come to before the first step: 75 % denoising, 5 %
    contrast, 10 % perceptual, 10 % slopes. Diversity and attention do not meet the others at the picture, and stay
    numbers; a hundredth of them, since shares bring the norms of all gradients together down to L1's, and that of the
    denoising is 50 to 200 times as large.

    References:
        | Contrastive Flow Matching (Stoica et al., 2025)
        | TokenCompose (Wang et al., 2024), for the attention
        | Diffuse and Disperse (Wang and He, 2025), for the diversity

    Args:
        prediction: "x0", "v", "flow" or "edm". A network that says the noise sees no picture where there is much of it:
            what acts on the picture is multiplied there by what the noise hides.
        shares: Whether weights are shares of the gradient.

    Raises:
        ValueError: Another prediction, or `shares` is no truth value.

    Example:
        >>> imagen_fused().names
        ('DenoisingMSE', 'ContrastiveFlow', 'perceptual', 'edges', 'Dispersive', 'AttentionMask')
    """
    if not isinstance(shares, bool):
        raise ValueError(f"imagen_fused wants shares to be True or False; got {shares!r}.")
    if prediction == "eps":
        raise ValueError(
            'imagen_fused acts on the picture that a network sees, and one that says the noise, "eps", sees none where '
            'there is much of it: take "v" or "x0", or add terms to imagen("eps") behind gates.'
        )
    noise, flow, slopes = imagen(prediction), ContrastiveFlow(), L2() @ Central()
    if prediction == "v":
        noise = Hybrid(DenoisingMSE("v", weighting="flow").terms)
    eye = perceptual("squeezenet") * Gate()  # with which the weights were measured
    spread, looks = Dispersive(), AttentionMask("squared")
    if shares:
        shared = noise * GradientShare(75) + flow * GradientShare(5) + eye * GradientShare(10) + slopes * GradientShare(10)
        return shared + 1e-4 * spread + 2e-4 * looks
    return noise + 0.05 * flow + 0.002 * eye + 5 * slopes + 0.01 * spread + 0.02 * looks
