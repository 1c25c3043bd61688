"""The figures of the first load in short: how much faster, how much less, what one more term costs."""

from itertools import pairwise

import torch

from hybrid.contender import Contender, cosine
from hybrid.loads import AS_ASKED, SHARED, SUGGESTED, blurred, coarse, photograph, photographs
from hybrid.measure import paired, step, turns
from lossmith import L1, VGG, Gram, lpips, perceptual

THEIRS = {"piq": "piq", "basicsr_lpips": "BasicSR + lpips"}
FORMS = {"": SUGGESTED, "_as_asked": AS_ASKED}


def ratios(rows):
    """Theirs by ours, from the rows of one load at one size; None where somebody is absent or fails."""
    found = {(row["precision"], row["contender"]): row for row in rows}

    def of(quantity, precision, a, b):
        a, b = (found.get((precision, name), {}).get(quantity) for name in (a, b))
        return round(a / b, 3) if a and b else None

    keys = {}
    for ending, ours in FORMS.items():
        for precision in ("fp32", "bf16"):
            for short, theirs in THEIRS.items():
                keys[f"speedup_{short}_{precision}{ending}"] = of("step", precision, theirs, ours)
                tail = f"{short}{'' if precision == 'fp32' else '_bf16'}{ending}"
                keys[f"kept_ratio_{tail}"] = of("kept", precision, theirs, ours)
                keys[f"peak_ratio_{tail}"] = of("peak", precision, theirs, ours)
            keys[f"floor_ratio_{precision}{ending}"] = of("step", precision, ours, f"convolutions of {ours}")
    return keys


def costs(given, repetitions, weights, say):
    """What another term on a network that is there already costs, and what the terms' gradient norms cost, relatively.

    The first term is LPIPS, which runs VGG-16 to its end; then come the load's perceptual and Gram terms, and Johnson's
    content. Each is compared with the sum without it, in the same repetition.
    """
    loss = lpips("vgg", weights=weights)
    chain = {"LPIPS": loss}
    for name, term in (
        ("perceptual", perceptual("vgg16", SHARED, weights=weights)),
        ("Gram", L1() @ Gram() @ VGG("vgg16", SHARED, weights=weights)),
        ("content", perceptual("vgg16", "relu3_3", "l2", weights=weights)),
    ):
        loss = loss + term
        chain[name] = loss
    load = L1() + chain["Gram"]
    steps = {name: step(contender(sum_), given) for name, sum_ in chain.items()}
    steps["plain"] = step(contender(load), given)
    steps["watched"] = step(Contender("watched", lambda views: [watched(load, views)], load), given)
    taken = turns(steps, repetitions, say)
    names = list(chain)
    terms = {b: paired(taken[b], taken[a]) - 1 for a, b in pairwise(names)}
    return {
        "extra_term_cost": round(max(terms.values()), 4),
        "extra_term_costs": {name: round(cost, 4) for name, cost in terms.items()},
        "norms_cost": round(paired(taken["watched"], taken["plain"]) - 1, 4),
    }


def watched(loss, views):
    values, _ = loss.evaluate_with_gradient_norms(views)
    return loss.weighted_sum(values)


def contender(loss):
    return Contender(repr(loss), lambda views: [loss(**views)], loss)


def cosines(loss, side, say):
    """The least cosine of the gradient in bf16 with that in fp32, over photographs made coarse or blurred."""
    found = {}
    for name in photographs():
        truth = photograph(name, side)
        for kind, made in (("coarse", coarse), ("blurred", blurred)):
            views = {"pred": made(truth), "target": truth}
            found[f"{name}, {kind}"] = cosine(*(contender(loss).gradient(views, bf16) for bf16 in (False, True)))
        say(f"cosine {name}")
    least = min(found, key=found.get)
    return {
        "gradient_cosine_bf16": round(found[least], 5),
        "gradient_cosine_bf16_at": least,
        "gradient_cosine_bf16_mean": round(torch.tensor(list(found.values())).mean().item(), 5),
    }
