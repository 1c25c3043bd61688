"""Which terms of a loss act at which noise levels of a diffusion, and what they must know of the network."""

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

__all__ = ["prepare_diffusion_loss", "find_gate_logsnr"]

NETWORK_GATE_LOGSNR, PIXEL_GATE_LOGSNR = -1.7, 1.0
"""Where terms that prefer one answer of many open by default: PixelGen's gate for LPIPS, LPL's and ControlNet++'s."""

PREDICTED_INPUTS = {"pred", "prediction", "velocity"}
"""The views that say what a network sees in a noisy picture."""

BATCH_INPUTS = {"groups": "group", "conditioned": "conditioned"}
"""What a diffusion step tells of every picture: equal captions are no negatives of each other, whatever the loss."""


def prepare_diffusion_loss(loss: Loss, model: Network) -> tuple[Loss, list[str]]:
    """The loss as a network that takes noise off is trained on it, written out, and what is to be said of it.

    A term on the predicted picture whose minimiser is not the mean of all right answers gets a gate, unless it has one;
    what compares pictures of a batch is told which of them have equal captions.

    Raises:
        ValueError: A denoising term is for another prediction than the network's, or a term reads what is not there.
    """
    for name, term in zip(loss.names, loss.terms, strict=True):
        if isinstance(term.distance, TextAlignment | TextContrast) and "text" in term.inputs.values():
            raise ValueError(
                f"The term '{name}' compares pictures with texts in one space, and the view 'text' is what this "
                "network's own text encoder says. Take InfoNCE, or give CLIP's vectors in your own loop."
            )
    if not isinstance(model, Denoiser):
        return loss, []
    terms, remarks = [], []
    for name, term in zip(loss.names, loss.terms, strict=True):
        views = {p: v for p, v in BATCH_INPUTS.items() if p in term.optional and p not in term.input_renames}
        term = term.on(views) if views else term
        if "sketch" in term.inputs.values() and model.sketch is None:
            raise ValueError(
                f"The term '{name}' reads a sketch, and this network draws none: add --model-option sketch=1024."
            )
        if isinstance(term.distance, DenoisingMSE):
            term = replace(term, distance=match_denoising_term(term.distance, model))
        opens, gates = find_gate_logsnr(term), find_gates(term.weight)
        if opens is not None and not gates:
            term = replace(term, weight=term.weight * Gate(opens))
        elif opens is not None and (early := min(gate.opens for gate in gates)) < opens:
            remarks.append(
                f"Warning: {name} prefers one answer where many are right, and acts from log-SNR {early:g} on, where "
                f"{opens:g} is usual: it asks for detail that the noise still hides, at the cost of diversity."
            )
        terms.append(term)
    if not any(isinstance(term.distance, DenoisingMSE) for term in terms):
        remarks.append("Warning: no term is DenoisingMSE; what is sampled will not be spread as the pictures are.")
    if (where := find_unbounded_logsnr(terms)) is not None:
        remarks.append(
            f"Warning: ContrastiveFlow outweighs the denoising at log-SNR {where:g}, and the loss has no least value "
            "there. Give DenoisingMSE weighting='flow', or the contrast a smaller weight or a gate."
        )
    return Hybrid(terms), remarks


def find_unbounded_logsnr(terms: Sequence[Term]) -> float | None:
    """A log-SNR at which the flows that are driven away count for more than the one that is learnt; None if none is."""
    levels = torch.arange(-14.0, 14.5, 0.5, dtype=torch.float64)
    sum_of_squares, driven = torch.zeros_like(levels), False
    for term in terms:
        loss = term.distance
        if isinstance(loss, DenoisingMSE | ContrastiveFlow) and term.weight.share is not None:
            return None  # it is weighed as the training goes
        if isinstance(loss, DenoisingMSE):
            which = loss.prediction if loss.weighting == "none" else loss.weighting
            part = denoising_weight(which, levels, "x0", gamma=loss.gamma, sigma_data=loss.sigma_data)
        elif isinstance(loss, ContrastiveFlow):
            part, driven = -denoising_weight("flow", levels, "x0"), True
        else:
            continue
        sum_of_squares += term.weight.final_value * apply_gates(part, term.weight, {"logsnr": levels})
    below = levels[sum_of_squares < 0]
    return float(below[0]) if driven and len(below) else None


def find_gate_logsnr(term: Term) -> float | None:
    """The log-SNR at which a term opens by default; None for one that may act at every noise level."""
    kept = term.distance.is_mean_seeking and all(stage.is_linear for _, stage in term.path)
    if kept or not PREDICTED_INPUTS & set(term.inputs.values()):
        return None
    if term.distance.default_gate_logsnr is not None:
        return term.distance.default_gate_logsnr
    return NETWORK_GATE_LOGSNR if any(isinstance(stage, Features) for _, stage in term.path) else PIXEL_GATE_LOGSNR


def match_denoising_term(loss: DenoisingMSE, model: Denoiser) -> DenoisingMSE:
    """The denoising loss with the deviation of the network's pictures, where it matters."""
    if loss.prediction != model.prediction:
        raise ValueError(
            f"The network predicts {model.prediction!r} and {loss!r} is for {loss.prediction!r}: write "
            f"DenoisingMSE({model.prediction!r}, weighting=...), or train with --prediction {loss.prediction}."
        )
    if "edm" not in (loss.prediction, loss.weighting) or loss.sigma_data == model.sigma_data:
        return loss
    return DenoisingMSE(loss.prediction, weighting=loss.weighting, gamma=loss.gamma, sigma_data=model.sigma_data)
