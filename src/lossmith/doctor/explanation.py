"""The explanation of a formula: its terms and their values, its networks, its cost, its shares of the gradient."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, final

import torch
from torch import Tensor

from lossmith.balance import CalibrationReport
from lossmith.doctor.balance_checks import bind_knobs, measure_gradient_shares
from lossmith.doctor.step_cost import StepCost, measure_step_cost
from lossmith.formula.cost import CostPlan, unify_vgg
from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.term import Term
from lossmith.formula.weight import Weight
from lossmith.pretrained.locate import MissingWeightsError

__all__ = ["PAIRS", "FormulaExplanation", "TermExplanation", "explain"]

Pair = Literal["equal", "noisy", "unrelated"]
PAIRS: tuple[Pair, ...] = ("equal", "noisy", "unrelated")
"""The pairs of images on which terms are evaluated."""
MIN_SIDE = 32
"""The smallest side in pixels of these images."""


@final
@dataclass(frozen=True)
class TermExplanation:
    """A term of a formula.

    Args:
        name: Its name.
        text: The distance and the lens.
        weight: The weight.
        inputs: The names of the inputs that it reads.
        range: The range of its values, as text.
        values: The value by the kind of pair, None without the weights of its network; empty if the inputs are not
            images.
    """

    name: str
    text: str
    weight: str
    inputs: tuple[str, ...]
    range: str
    values: Mapping[Pair, float | None]


@final
@dataclass(frozen=True)
class FormulaExplanation:
    """The explanation of a formula.

    Args:
        loss: The loss.
        terms: Its terms.
        networks: The file of the weights of each network, or how to get one.
        shares: The gradient shares at made-up images, with knobs at 1; None for a single term, or without weights.
        plan: The cost of a step.
        shared: The loss with one VGG-16 in place of VGG-16 and VGG-19; None unless it uses both.
        citation: The BibTeX entries.
        step_costs: The measured cost of a step on a device, by precision; empty without a device.
    """

    loss: Loss
    terms: tuple[TermExplanation, ...]
    networks: Mapping[str, str]
    shares: CalibrationReport | None
    plan: CostPlan
    shared: Hybrid | None
    citation: str
    step_costs: tuple[StepCost, ...] = ()

    @property
    def shared_plan(self) -> CostPlan | None:
        """The cost of a step of the loss with one VGG-16."""
        return None if self.shared is None else self.shared.plan(self.plan.shape)

    @property
    def reads_images(self) -> bool:
        """Whether any term reads only images, so that the cost depends on their size."""
        return bool(self.plan.passes) or any(term.reads_only_images for term in self.loss.terms)

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as plain values for JSON."""
        plan = self.plan
        return {
            "loss": repr(self.loss),
            "knobs": self.loss.knobs,
            "terms": [asdict(term) for term in self.terms],
            "networks": dict(self.networks),
            "shares": self.shares and {term.name: term.share for term in self.shares.terms},
            "shape": plan.shape,
            "passes": [asdict(each) for each in plan.passes],
            "flops": plan.forward_flops + plan.backward_flops,
            "mean_flops": plan.mean_forward_flops + plan.mean_backward_flops,
            "saved_bytes": plan.saved_bytes,
            "peak_bytes": plan.peak_bytes,
            "step_costs": [asdict(each) for each in self.step_costs],
            "shared": self.shared and repr(self.shared),
            "citation": self.citation,
        }


def explain(
    loss: Loss, *, size: int = 128, batch: int = 8, device: torch.device | str | None = None
) -> FormulaExplanation:
    """Explain a loss: its terms, their networks and values, the cost of a step, and the papers to cite.

    The values are measured on noise images: a pair of equal images, a pair that differs by noise of 5 % of the range,
    and a pair of unrelated images. Masks select the whole image.

    Args:
        loss: The loss.
        size: The side of the images in pixels.
        batch: The number of images of a step, for the cost.
        device: The device on which to measure a step; None to predict its cost only.

    Raises:
        ValueError: The device has too little memory for the step.

    Example:
        >>> from lossmith import L1
        >>> explained = explain(L1(), size=32)
        >>> explained.terms[0].values["equal"], round(explained.terms[0].values["unrelated"], 1)
        (0.0, 0.3)
    """
    values = {pair: measure_terms(loss, size, pair) for pair in PAIRS}
    terms = [
        TermExplanation(
            name=name,
            text=f"{term.distance!r} @ {term.lens!r}" if term.lens else repr(term.distance),
            weight=repr(term.weight),
            inputs=tuple(term.inputs.values()),
            range=format_range(term),
            values={pair: of_pair[name] for pair, of_pair in values.items() if name in of_pair},
        )
        for name, term in zip(loss.names, loss.terms, strict=True)
    ]
    bound = bind_knobs(loss, dict.fromkeys(loss.knobs, 1.0))
    unified = unify_vgg(loss.terms)
    return FormulaExplanation(
        loss=loss,
        terms=tuple(terms),
        networks=_locate_weights(loss),
        shares=measure_gradient_shares(bound) if len(terms) > 1 else None,
        plan=loss.plan((batch, max(3, loss.min_channels), size, size)),
        shared=Hybrid(unified) if unified else None,
        citation=loss.citation(),
        step_costs=() if device is None else measure_step_cost(loss, size=size, batch=batch, device=device),
    )


def measure_terms(loss: Loss, size: int, pair: Pair) -> dict[str, float | None]:
    """Return the value of each term that reads images, on a pair of noise images; None without a network's weights."""
    generator = torch.Generator().manual_seed(0)
    side = max(size, MIN_SIDE)
    shape = (1, max(3, loss.min_channels), side, side)
    image, other = (torch.rand(shape, generator=generator) for _ in range(2))
    noisy = (image + 0.05 * torch.randn(shape, generator=generator)).clamp(0, 1)
    inputs: dict[str, Tensor] = dict.fromkeys(loss.input_names, image)
    inputs["pred"] = {"equal": image, "noisy": noisy, "unrelated": other}[pair]
    inputs |= {term.inputs["mask"]: torch.ones_like(image[:, :1]) for term in loss.terms if "mask" in term.inputs}
    values: dict[str, float | None] = {}
    for name, term in zip(loss.names, loss.terms, strict=True):
        if not term.reads_only_images:
            continue
        unweighted = Hybrid([replace(term, weight=Weight())])
        try:
            with torch.no_grad():
                values[name] = float(unweighted(**{key: inputs[key] for key in unweighted.input_names}))
        except MissingWeightsError:
            values[name] = None
    return values


def format_range(term: Term) -> str:
    """Return the range of a term's values; features of a network are unbounded."""
    low, high = term.distance.value_range
    return f"from {low:g}" if term.lens or high == float("inf") else f"{low:g} to {high:g}"


def _locate_weights(loss: Loss) -> dict[str, str]:
    """Return the file of each network's weights, or how to get one."""
    found = {}
    for text, network in loss.networks.items():
        if network.weights == "random":
            found[text] = "untrained, as requested"
            continue
        try:
            weights = network.find_weights()
            found[text] = f"weights {weights.sha256[:12]} in {str(weights.path)!r}"
        except MissingWeightsError as error:
            found[text] = str(error)
    return found
