"""The section on what a training logs beside its terms: balancing, discriminators, and metrics of the task."""

from collections.abc import Mapping

from lossmith.report.groups import Group
from lossmith.report.plot.charts import Curve, line_chart
from lossmith.tasks import TASKS

__all__ = ["diagnostics_section"]

DISCRIMINATOR_SERIES = {
    "real_accuracy": ("accuracy on real images", "fraction of decisions"),
    "fake_accuracy": ("accuracy on generated images", "fraction of decisions"),
    "gradient_norm": ("gradient norm at the image", "relative to L1"),
    "logit_std": ("standard deviation of the logits", ""),
    "loss": ("discriminator loss", ""),
    "gradient_penalty": ("gradient penalty", "unweighted"),
}
"""The title and the unit of each logged quantity of a discriminator, in the order of the charts."""

SHOWN_WAIT = 0.05
"""The fraction of the time from which waiting for data is drawn."""


def diagnostics_section(group: Group) -> str:
    """Return the charts of what was logged beside the terms; "" if there is nothing."""
    charts = [*_weight_charts(group), *_discriminator_charts(group), *_task_charts(group), *_wait_charts(group)]
    if not charts:
        return ""
    return f'<section><h2>Training diagnostics</h2><div class="charts">{"".join(charts)}</div></section>'


def _weight_charts(group: Group) -> list[str]:
    """Return the charts of the weights that a balancer or a schedule changed; a knob's weights differ by image."""
    weights: dict[str, list[Curve]] = {}
    for index, run in group.runs.items():
        for name, points in ({} if run.config.get("knobs") else run.diagnostics("weights")).items():
            if len({value for _, value in points}) > 1:
                weights.setdefault(name, []).append(Curve(run.name, index, points))
    return [line_chart(f"Weight of {name}", curves, note="as used") for name, curves in weights.items()]


def _discriminator_charts(group: Group) -> list[str]:
    curves: dict[tuple[str, str], list[Curve]] = {}
    for index, run in group.runs.items():
        for key, points in run.diagnostics("discriminators").items():
            term, _, quantity = key.rpartition(".")
            if quantity in DISCRIMINATOR_SERIES:
                curves.setdefault((term, quantity), []).append(Curve(run.name, index, points))
    order = list(DISCRIMINATOR_SERIES)
    charts = []
    for term, quantity in sorted(curves, key=lambda key: (key[0], order.index(key[1]))):
        title, unit = DISCRIMINATOR_SERIES[quantity]
        is_noisy = quantity not in ("real_accuracy", "fake_accuracy")
        charts.append(line_chart(f"{term}: {title}", curves[term, quantity], note=unit, is_noisy=is_noisy))
    return charts


def _task_charts(group: Group) -> list[str]:
    titles: Mapping[str, str] = {key: title for name in group.tasks for key, title in TASKS[name].metric_titles.items()}
    curves: dict[str, list[Curve]] = {}
    for index, run in group.runs.items():
        for name, points in run.diagnostics("extra_metrics").items():
            curves.setdefault(name, []).append(Curve(run.name, index, points))
    return [line_chart(titles.get(name, name), each, is_noisy=True) for name, each in curves.items()]


def _wait_charts(group: Group) -> list[str]:
    """Return the chart of the time that trainings waited for data, if one of them did."""
    curves = [Curve(run.name, index, run.data_wait()) for index, run in group.runs.items()]
    if max((value for curve in curves for _, value in curve.points), default=0.0) < SHOWN_WAIT:
        return []
    return [line_chart("Waiting for data", curves, note="fraction of the time", is_noisy=True)]
