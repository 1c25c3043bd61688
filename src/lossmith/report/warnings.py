"""The section on what a training noticed beside its terms: of its critics, of its latents, and of its balancing."""

from collections.abc import Sequence

from lossmith.report.charts import Curve, curves, shares
from lossmith.report.figures import Group
from lossmith.report.folder import Points

__all__ = ["noticed"]

CRITIC = {
    "real": ("right about real pictures", "share of its verdicts"),
    "fake": ("right about what was made", "share of its verdicts"),
    "pull": ("pull at the picture", "in units of L1's gradient"),
    "spread": ("spread of its verdicts", "standard deviation"),
    "critic": ("value that it lowers", ""),
    "penalty": ("penalty", "unweighted"),
}
"""What each figure of a critic is called, in the order in which they are drawn, and its unit."""
LATENTS = {
    "perplexity": "Codes in use, as the exponential of their entropy",
    "codes": "Codes in use, by number",
    "revived": "Codes that began again",
    "kl": "Divergence of the latents, nats a picture",
    "active": "Channels of the latents in use",
}


def noticed(group: Group) -> str:
    """Charts of what is in the log beside the terms; nothing if there is nothing."""
    parts = [*_balances(group), *_critics(group), *_latents(group)]
    if not parts:
        return ""
    return f'<section><h2>Beside the terms</h2><div class="charts">{"".join(parts)}</div></section>'


def _balances(group: Group) -> list[str]:
    """What part of the gradient each term had, where the run measured it, stacked; and the weights that moved."""
    parts: list[str] = []
    weights: dict[str, list[Curve]] = {}
    for index, run in group.runs.items():
        found = run.noticed("balance")
        names = [name for name in run.terms if f"share.{name}" in found]
        rows = _rows([found[f"share.{name}"] for name in names])
        if len(names) > 1 and rows:
            title = "Measured share of the gradient" + (f", {run.name}" if len(group.runs) > 1 else "")
            parts.append(shares(title, index, names, rows))
        for name in run.terms:
            points = found.get(f"weight.{name}", [])
            if len({value for _, value in points}) > 1:
                weights.setdefault(name, []).append(Curve(run.name, index, points))
    return parts + [curves(f"Weight of {name}", lines, note="as balanced") for name, lines in weights.items()]


def _rows(found: Sequence[Points]) -> list[tuple[float, list[float]]]:
    """All values of each step that has them all."""
    at = [dict(points) for points in found]
    steps = sorted(set.intersection(*map(set, at))) if at else []
    return [(step, [each[step] for each in at]) for step in steps]


def _critics(group: Group) -> list[str]:
    lines: dict[tuple[str, str], list[Curve]] = {}
    for index, run in group.runs.items():
        for name, points in run.noticed("critics").items():
            term, _, figure = name.rpartition(".")
            if figure in CRITIC:
                lines.setdefault((term, figure), []).append(Curve(run.name, index, points))
    order = list(CRITIC)
    drawn = sorted(lines, key=lambda key: (key[0], order.index(key[1])))
    return [
        curves(f"{term}: {CRITIC[f][0]}", lines[term, f], note=CRITIC[f][1], noisy=f not in ("real", "fake"))
        for term, f in drawn
    ]


def _latents(group: Group) -> list[str]:
    lines: dict[str, list[Curve]] = {}
    for index, run in group.runs.items():
        for name, points in run.noticed("observed").items():
            lines.setdefault(name, []).append(Curve(run.name, index, points))
    return [curves(LATENTS.get(name, name), each, noisy=True) for name, each in lines.items()]
