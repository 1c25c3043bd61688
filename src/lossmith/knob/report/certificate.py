"""The certificate of a knob as text."""

from collections.abc import Mapping
from typing import Any

__all__ = ["certified_ways", "describe_certification", "format_certificate"]


def format_certificate(record: Mapping[str, Any]) -> str:
    """Return a certificate as text: first the results, then for each way to use the knob one line for each check.

    Args:
        record: The record of :func:`lossmith.knob.verification.verify_knob`.
    """
    lines = _format_results(record)
    if record["training_images"]:
        lines.append(f"The run was trained on {record['training_images']} of the images; use other images.")
    for way, found in certified_ways(record).items():
        lines += ["", f"{way.capitalize()}{', at twice the cost' * (found is not record)}:"]
        lines += [f"{'yes' if check['passes'] else 'no ':3} {check['text']}" for check in found["checks"]]
        ratios = {metric: each.get("range_ratio") for metric, each in found["realism"].items()}
        lines += [
            f"    it reaches {ratio:.0%} of the networks' range in {metric}"
            for metric, ratio in ratios.items()
            if ratio is not None
        ]
    if record["interpolation_error"]:
        lines += ["", f"The outputs were not interpolated. {record['interpolation_error']}"]
    for metric, found in record["realism"].items():
        if network := found["shared_network"]:
            lines += ["", f"{metric} uses {network}, as the loss does, so it is not independent."]
    if record["published"]["networks"]:
        lines += ["", f"Published results in the figure: {record['published']['note']}."]
    return "\n".join(lines)


def _format_results(record: Mapping[str, Any]) -> list[str]:
    knob = record["knob"]
    subject = f"The knob {knob['name']}, {knob['low']:g} to {knob['high']:g}, on {record['image_count']} images"
    if record["certified"] is not None:
        ways = certified_ways(record).items()
        return [f"{subject}.", *(f"{way.capitalize()}: {describe_certification(found)}." for way, found in ways)]
    lines = [f"{subject}: without separate networks to compare with, nothing is certified."]
    if record["untrained"]:
        lines.append(f"Not trained yet: {', '.join(record['untrained'])}. --train trains them.")
    return lines


def certified_ways(record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the results for each way to use the knob: its conditioned layers, or interpolation of its outputs."""
    interpolated = record.get("interpolated_outputs")
    return {"conditioned layers": record} | ({"interpolated outputs": interpolated} if interpolated else {})


def describe_certification(found: Mapping[str, Any]) -> str:
    """Return the result for one way to use the knob."""
    if found["certified"]:
        return "certified"
    if not found["meets_thresholds"]:
        return "NOT certified"
    failed = [check["name"] for check in found["checks"] if not check["passes"]]
    metrics = [metric for metric in found["realism"] if any(name.endswith(f" {metric}") for name in failed)]
    return f"meets the thresholds, but in {' and '.join(metrics)} interpolation between two networks covers more"
