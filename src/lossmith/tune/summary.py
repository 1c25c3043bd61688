"""What a study found, in a table and in sentences."""

from rich.console import Console
from rich.table import Table

from lossmith.tune.findings import Findings

__all__ = ["describe_findings", "print_summary"]


def print_summary(found: Findings, console: Console) -> None:
    """Prints the front as a table, its knee, and what can be said of them."""
    names, metrics = list(found.search.space), [axis.metric for axis in found.axes]
    table = Table("trial", *names, *metrics, "knee in", "run", title="The front", title_justify="left")
    for trial in found.front:
        values = found.search.values(trial.drawn)
        row = [str(trial.number), *(f"{values[name]}" for name in names)]
        row += [f"{trial.figures[metric]:.4g}" for metric in metrics]
        style = "bold" if trial is found.knee else None
        table.add_row(*row, f"{found.shares.get(trial.number, 0):.0%}", trial.run, style=style)
    if found.front:
        console.print(table)
    for text in describe_findings(found):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def describe_findings(found: Findings) -> list[str]:
    """What there is to know about the figures, a sentence each."""
    states = [trial.state for trial in found.trials]
    counts = f"{states.count('complete')} trials trained to their end, {states.count('pruned')} given up at a rung"
    said = [counts + (f", {failed} not trainable." if (failed := states.count("failed")) else ".")]
    if below := [trial for trial in found.trials if trial.state == "complete" and found.missed(trial)]:
        said.append(f"{len(below)} of them below a floor, and so not on the front.")
    if knee := found.knee:
        share = found.shares.get(knee.number, 0)
        drawn = ", ".join(f"{name} {value}" for name, value in found.search.values(knee.drawn).items())
        said.append(
            f"Nearest to the best of everything: trial {knee.number} ({drawn}); it is so in {share:.0%} of draws of "
            "the validation pictures."
        )
    unit = " x ".join(axis.metric for axis in found.axes)
    said.append(f"Hypervolume beyond {found.baseline}: {found.hypervolume:.4g} ({unit}).")
    if found.front and not found.hypervolume:
        said[-1] += (
            f" No trial beats {found.baseline} on every axis; the trials are too short, or the weights too large."
        )
    said += [
        f"{metric} looks through {network}, as the loss does: it is no independent judge."
        for metric, network in found.sharing.items()
    ]
    for metric, shares in found.importance.items():
        decided = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        said.append(f"What sets good trials apart on {metric}: {decided}.")
    return said
