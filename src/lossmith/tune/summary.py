"""The findings of a study as a table and as sentences."""

from rich.console import Console
from rich.table import Table

from lossmith._format import print_table
from lossmith.tune.findings import Findings

__all__ = ["describe_findings", "print_summary"]


def print_summary(findings: Findings, console: Console) -> None:
    """Print the Pareto front as a table, and the findings as sentences."""
    names, metrics = list(findings.search.space), [objective.metric for objective in findings.objectives]
    table = Table("trial", *names, *metrics, "knee frequency", "run", title="Pareto front", title_justify="left")
    for trial in findings.front:
        params = findings.search.literals(trial.params)
        row = [str(trial.number), *(f"{params[name]}" for name in names)]
        row += [f"{trial.metrics[metric]:.4g}" for metric in metrics]
        style = "bold" if trial is findings.knee else None
        table.add_row(*row, f"{findings.knee_frequencies.get(trial.number, 0):.0%}", trial.run, style=style)
    if findings.front:
        print_table(console, table)
    for text in describe_findings(findings):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def describe_findings(findings: Findings) -> list[str]:
    """Return what the trials show, one sentence each."""
    states = [trial.state for trial in findings.trials]
    counts = f"{states.count('complete')} trials completed, {states.count('pruned')} pruned"
    sentences = [counts + (f", {failed} failed." if (failed := states.count("failed")) else ".")]
    if infeasible := sum(bool(findings.violated_constraints(trial)) for trial in findings.trials):
        sentences.append(f"{infeasible} of them violate a constraint and are not on the front.")
    if knee := findings.knee:
        frequency = findings.knee_frequencies.get(knee.number, 0)
        params = ", ".join(f"{name} {value}" for name, value in findings.search.literals(knee.params).items())
        sentences.append(
            f"Knee, the trial nearest to the best of all objectives: trial {knee.number} ({params}), in "
            f"{frequency:.0%} of bootstrap resamples of the validation images."
        )
    unit = " x ".join(objective.metric for objective in findings.objectives)
    hypervolume = f"Hypervolume beyond {findings.baseline_name}: {findings.hypervolume:.4g} ({unit})."
    if findings.front and not findings.hypervolume:
        hypervolume += (
            f" No trial surpasses {findings.baseline_name} in every objective; the trials are too short, or the "
            "weights too large."
        )
    sentences.append(hypervolume)
    sentences += [
        f"{metric} uses {network}, as the loss does, so it is not independent."
        for metric, network in findings.shared_networks.items()
    ]
    for metric, importances in findings.importance.items():
        parts = ", ".join(f"{name} {importance:.0%}" for name, importance in importances.items())
        sentences.append(f"Parameter importance for {metric}: {parts}.")
    return sentences
