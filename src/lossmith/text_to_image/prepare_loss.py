"""Preparation of a loss for text-to-image: gates over the log-SNR, groups of captions and the network's settings."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.snr_gate import Gate, apply_gates, find_gates
from lossmith.formula.term import Term
from lossmith.lens import Features
from lossmith.losses import ContrastiveFlow, DenoisingMSE, TextAlignment, TextContrast
from lossmith.losses.diffusion import denoising_weight
from lossmith.models import Network
from lossmith.text_to_image.models.denoiser import Denoiser

__all__ = ["find_gate_logsnr", "prepare_text_to_image_loss"]

NETWORK_GATE_LOGSNR, PIXEL_GATE_LOGSNR = -1.7, 1.0
"""The default gates of mode-seeking terms on network features (as LPIPS in PixelGen) and on pixels (as in LPL and
ControlNet++)."""

PREDICTED_INPUTS = {"pred", "prediction", "velocity"}
"""The inputs that depend on the network's prediction from a noisy image."""

BATCH_INPUTS = {"groups": "group", "conditioned": "conditioned"}
"""Parameter and input that describe each image of a batch; captions of one group are never negatives of each other."""


def prepare_text_to_image_loss(loss: Loss, model: Network) -> tuple[Loss, list[str]]:
    """Return the loss as it is trained, written out in full, and warnings.

    For a denoiser, a term on the predicted image whose minimizer is not the mean of all plausible images gets a gate
    over the log-SNR unless the formula has one; terms that compare the images of a batch get the groups of the
    captions; and DenoisingMSE gets the network's `sigma_data`.

    Args:
        loss: The loss of the formula.
        model: The network.

    Raises:
        ValueError: DenoisingMSE has another prediction than the network, or a term reads an input that the network
            does not provide.
    """
    for name, term in zip(loss.names, loss.terms, strict=True):
        if isinstance(term.distance, TextAlignment | TextContrast) and "text" in term.inputs.values():
            raise ValueError(
                f"The term '{name}' compares images with texts in one feature space, but the input 'text' is an "
                "embedding by this network's own text encoder. Use InfoNCE, or pass CLIP's embeddings in your own "
                "loop."
            )
    if not isinstance(model, Denoiser):
        return loss, []
    terms, warnings = [], []
    for name, term in zip(loss.names, loss.terms, strict=True):
        prepared, warning = _prepare_term(name, term, model)
        terms.append(prepared)
        warnings += [warning] if warning else []
    if not any(isinstance(term.distance, DenoisingMSE) for term in terms):
        warnings.append("Warning: no term is DenoisingMSE; the samples will not follow the distribution of the images.")
    if (logsnr := find_unbounded_logsnr(terms)) is not None:
        warnings.append(
            f"Warning: ContrastiveFlow outweighs DenoisingMSE at log-SNR {logsnr:g}, where the loss is unbounded "
            "below. Use DenoisingMSE with weighting='flow', or a smaller weight or a gate for ContrastiveFlow."
        )
    return Hybrid(terms), warnings


def _prepare_term(name: str, term: Term, model: Denoiser) -> tuple[Term, str]:
    """Return a term with batch inputs, settings and gate, and a warning or ""."""
    inputs = {p: v for p, v in BATCH_INPUTS.items() if p in term.optional and p not in term.input_renames}
    term = term.on(inputs) if inputs else term
    if "prior" in term.inputs.values() and model.prior_decoder is None:
        raise ValueError(
            f"The term '{name}' reads the input 'prior', but the network has no prior; add "
            "--model-option prior_width=1024."
        )
    if isinstance(term.distance, DenoisingMSE):
        term = replace(term, distance=_match_denoising_term(term.distance, model))
    opens, gates = find_gate_logsnr(term), find_gates(term.weight)
    if opens is not None and not gates:
        return replace(term, weight=term.weight * Gate(opens)), ""
    if opens is not None and (earliest := min(gate.opens for gate in gates)) < opens:
        return term, (
            f"Warning: {name} is mode-seeking and its gate opens at log-SNR {earliest:g}; the default is {opens:g}. "
            "Below the default the term asks for detail that the noise hides, at the cost of diversity."
        )
    return term, ""


def find_unbounded_logsnr(terms: Sequence[Term]) -> float | None:
    """Return the lowest log-SNR at which ContrastiveFlow outweighs DenoisingMSE; None if there is none."""
    logsnr = torch.arange(-14.0, 14.5, 0.5, dtype=torch.float64)
    curvature, has_contrast = torch.zeros_like(logsnr), False
    for term in terms:
        distance = term.distance
        if isinstance(distance, DenoisingMSE | ContrastiveFlow) and term.weight.share is not None:
            return None  # the weight is only known during training
        if isinstance(distance, DenoisingMSE):
            weighting = distance.prediction if distance.weighting == "none" else distance.weighting
            part = denoising_weight(weighting, logsnr, "x0", gamma=distance.gamma, sigma_data=distance.sigma_data)
        elif isinstance(distance, ContrastiveFlow):
            part, has_contrast = -denoising_weight("flow", logsnr, "x0"), True
        else:
            continue
        curvature += term.weight.final_value * apply_gates(part, term.weight, {"logsnr": logsnr})
    unbounded = logsnr[curvature < 0]
    return float(unbounded[0]) if has_contrast and len(unbounded) else None


def find_gate_logsnr(term: Term) -> float | None:
    """Return the log-SNR at which a term's default gate opens; None for a term that acts at every noise level."""
    is_mean_seeking = term.distance.is_mean_seeking and all(stage.is_linear for _, stage in term.path)
    if is_mean_seeking or not PREDICTED_INPUTS & set(term.inputs.values()):
        return None
    if term.distance.default_gate_logsnr is not None:
        return term.distance.default_gate_logsnr
    return NETWORK_GATE_LOGSNR if any(isinstance(stage, Features) for _, stage in term.path) else PIXEL_GATE_LOGSNR


def _match_denoising_term(distance: DenoisingMSE, model: Denoiser) -> DenoisingMSE:
    """Return DenoisingMSE with the network's `sigma_data`, if the term depends on it."""
    if distance.prediction != model.prediction:
        raise ValueError(
            f"The network predicts {model.prediction!r}, but {distance!r} is for {distance.prediction!r}. Use "
            f"DenoisingMSE({model.prediction!r}, weighting=...), or train with --prediction {distance.prediction}."
        )
    if "edm" not in (distance.prediction, distance.weighting) or distance.sigma_data == model.sigma_data:
        return distance
    return DenoisingMSE(
        distance.prediction, weighting=distance.weighting, gamma=distance.gamma, sigma_data=model.sigma_data
    )
