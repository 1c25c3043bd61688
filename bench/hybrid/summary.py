"""The summary of the first workload: ratios of time and memory, and the cost of one more term."""

from itertools import pairwise

import torch

from hybrid.contender import Contender, cosine
from hybrid.measure import build_step, median_time_ratio, time_steps
from hybrid.workloads import AS_ASKED, SHARED_LAYERS, SUGGESTED, blur, coarsen, list_photographs, read_photograph
from lossmith import L1, VGG, Gram, lpips, perceptual

OTHERS = {"piq": "piq", "basicsr_lpips": "BasicSR + lpips"}
FORMULAS = {"": SUGGESTED, "_as_asked": AS_ASKED}
"""lossmith's formulas by the suffix of their keys."""


def compute_ratios(rows):
    """Return the ratios of other libraries to lossmith from the rows of one workload and size.

    A ratio is None if a contender is absent or fails.
    """
    by_contender = {(row["precision"], row["contender"]): row for row in rows}

    def ratio(quantity, precision, numerator, denominator):
        a, b = (by_contender.get((precision, name), {}).get(quantity) for name in (numerator, denominator))
        return round(a / b, 3) if a and b else None

    ratios = {}
    for suffix, ours in FORMULAS.items():
        for precision in ("fp32", "bf16"):
            for key, other in OTHERS.items():
                ratios[f"speedup_{key}_{precision}{suffix}"] = ratio("step", precision, other, ours)
                tail = f"{key}{'' if precision == 'fp32' else '_bf16'}{suffix}"
                ratios[f"kept_ratio_{tail}"] = ratio("kept", precision, other, ours)
                ratios[f"peak_ratio_{tail}"] = ratio("peak", precision, other, ours)
            ratios[f"floor_ratio_{precision}{suffix}"] = ratio("step", precision, ours, f"convolutions of {ours}")
    return ratios


def measure_term_costs(inputs, repetitions, weights, log):
    """Measure the relative cost of another term on a network that already runs, and of the terms' gradient norms.

    The first term is LPIPS, which runs VGG-16 to its last layer; the workload's perceptual and Gram terms and Johnson's
    content term follow. Each sum is compared with the sum without its last term, in the same repetition.
    """
    loss = lpips("vgg", weights=weights)
    sums = {"LPIPS": loss}
    for name, term in (
        ("perceptual", perceptual("vgg16", SHARED_LAYERS, weights=weights)),
        ("Gram", L1() @ Gram() @ VGG("vgg16", SHARED_LAYERS, weights=weights)),
        ("content", perceptual("vgg16", "relu3_3", "l2", weights=weights)),
    ):
        loss = loss + term
        sums[name] = loss
    hybrid = L1() + sums["Gram"]
    with_norms = Contender("with norms", lambda inputs: [evaluate_with_gradient_norms(hybrid, inputs)], hybrid)
    steps = {name: build_step(build_contender(loss), inputs) for name, loss in sums.items()}
    steps["without norms"] = build_step(build_contender(hybrid), inputs)
    steps["with norms"] = build_step(with_norms, inputs)
    seconds = time_steps(steps, repetitions, log)
    costs = {name: median_time_ratio(seconds[name], seconds[before]) - 1 for before, name in pairwise(sums)}
    return {
        "extra_term_cost": round(max(costs.values()), 4),
        "extra_term_costs": {name: round(cost, 4) for name, cost in costs.items()},
        "norms_cost": round(median_time_ratio(seconds["with norms"], seconds["without norms"]) - 1, 4),
    }


def evaluate_with_gradient_norms(loss, inputs):
    values, _ = loss.evaluate_with_gradient_norms(inputs)
    return loss.weighted_sum(values)


def build_contender(loss):
    return Contender(repr(loss), lambda inputs: [loss(**inputs)], loss)


def measure_bf16_cosines(loss, side, log):
    """Return the minimum cosine of the bf16 gradient with the fp32 gradient, over coarse and blurred photographs."""
    contender, cosines = build_contender(loss), {}
    for name in list_photographs():
        target = read_photograph(name, side)
        for kind, degrade in (("coarse", coarsen), ("blurred", blur)):
            inputs = {"pred": degrade(target), "target": target}
            cosines[f"{name}, {kind}"] = cosine(*(contender.gradient(inputs, bf16) for bf16 in (False, True)))
        log(f"cosine {name}")
    lowest = min(cosines, key=cosines.get)
    return {
        "gradient_cosine_bf16": round(cosines[lowest], 5),
        "gradient_cosine_bf16_at": lowest,
        "gradient_cosine_bf16_mean": round(torch.tensor(list(cosines.values())).mean().item(), 5),
    }
