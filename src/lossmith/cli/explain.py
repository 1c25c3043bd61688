"""`lossmith explain`: the meaning, the cost and the references of a formula."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lossmith._format import print_table
from lossmith.cli.common_options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from lossmith.doctor import FormulaExplanation
    from lossmith.formula.cost import CostPlan
    from lossmith.formula.loss import Loss

__all__ = ["register"]

Language = Literal["python", "command", "basicsr"]

EPILOG = """Examples:

  lossmith explain "L1 + 0.002*perceptual" --size 192 --batch 16

  lossmith explain "esrgan()" --as basicsr

  lossmith explain "L1 + 0.002*perceptual" --device cuda"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain", epilog=EPILOG, rich_help_panel="Formulas")(explain_formula)


def explain_formula(
    formula: Annotated[str, typer.Argument(help='Loss formula, such as "L1 + 0.002*perceptual".')],
    size: Annotated[int, typer.Option(min=1, help="Side of the images in pixels, for the cost.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Number of images, for the cost.")] = 8,
    language: Annotated[
        Language | None,
        typer.Option("--as", help="Print the formula only, as Python, a command, or a configuration of BasicSR."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="Measure a step on a device: auto, cpu, cuda, cuda:1, mps or xpu."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain a formula: its terms, their networks and weights, cost, typical values, and papers to cite.

    The values are measured on noise images: a pair of equal images, a pair that differs by noise of 5 % of the range,
    and a pair of unrelated images. They show the magnitude of each term beside the others. Masks select the whole
    image. Terms that read vectors, latents or attention have no values.
    """
    from rich.console import Console

    from lossmith import parse
    from lossmith.device import resolve_device
    from lossmith.doctor import explain

    place = None if device is None else resolve_device(device)
    loss = parse(formula)
    if language is not None:
        print(write_formula(loss, language))
        return
    explanation = explain(loss, size=size, batch=batch, device=place)
    if as_json:
        print(json.dumps(explanation.as_dict()))
        return
    console = Console(soft_wrap=True)
    print_terms(console, explanation)
    print_gradient_shares(console, explanation)
    for text, where in explanation.networks.items():
        console.print(f"{text}: {where}", markup=False, highlight=False)
    print_cost(console, explanation)
    if place is not None:
        print_step_costs(console, explanation, str(place))
    console.print(f"\n{explanation.citation}" if explanation.citation else "", markup=False, highlight=False)


def write_formula(loss: "Loss", language: Language) -> str:
    """Return the formula in another language."""
    from lossmith.importer import to_basicsr
    from lossmith.parser import format_command, format_python

    if language == "basicsr":
        return to_basicsr(loss).text.rstrip()
    return format_python(loss) if language == "python" else format_command(loss)


def print_terms(console: "Console", explanation: "FormulaExplanation") -> None:
    """Print each term in full, then its weight, its inputs, its range and its values."""
    from rich.table import Table

    from lossmith.doctor.explanation import PAIRS

    table = Table("term", "weight", "reads", "range", *PAIRS, title="Terms and their values", title_justify="left")
    for term in explanation.terms:
        console.print(f"{term.name}: {term.text}", markup=False, highlight=False)
        cells = [format_value(term.values[pair]) if pair in term.values else "none" for pair in PAIRS]
        table.add_row(term.name, term.weight, ", ".join(term.inputs), term.range, *cells)
    print_table(console, table)
    if others := [term.name for term in explanation.terms if not term.values]:
        console.print(f"No values for {', '.join(others)}: the inputs are not images.", highlight=False)


def format_value(value: float | None) -> str:
    """Return a value of a term with four digits; None is that of a network without weights."""
    return "no weights" if value is None else f"{value:.4g}"


def print_gradient_shares(console: "Console", explanation: "FormulaExplanation") -> None:
    """Print the shares of the terms in the gradient at the prediction, and the terms with hardly any effect."""
    from lossmith.doctor.balance_checks import find_imbalances, find_preset

    report, loss = explanation.shares, explanation.loss
    if report is None:  # also without the weights of a network, which are listed below
        return
    knobs = f" with {', '.join(f'{name}=1' for name in loss.knobs)}" if loss.knobs else ""
    console.print(f"At the prediction of made-up images{knobs}: {report.proportion}.", markup=False, highlight=False)
    if loss.knobs:
        console.print("With train --calibrate, a knob of 1 gives equal gradient norms.", highlight=False)
        return
    for finding in find_imbalances(report, find_preset(loss)):
        console.print(str(finding), markup=False, highlight=False)


def print_cost(console: "Console", explanation: "FormulaExplanation") -> None:
    """Print one row per network pass, the memory, and the saving of a shared network."""
    from rich.table import Table

    plan = explanation.plan
    shape = plan.shape
    if plan.passes:
        table = Table("network", "input", "layers", "terms", "GFLOP forward", "GFLOP backward", title_justify="left")
        table.title = f"Cost of a step, {shape[0]} images of {shape[2]}x{shape[3]} px"
        for row in plan.passes:
            network = f"{row.network} @ {row.preceding_lenses}" if row.preceding_lenses else row.network
            network += "" if row.shape == shape else f", {row.shape[0]} images of {row.shape[2]}x{row.shape[3]} px"
            flops = (f"{each / 1e9:.1f}" for each in (row.forward_flops, row.backward_flops))
            table.add_row(network, row.input_name, ", ".join(row.layers), ", ".join(row.terms), *flops)
        print_table(console, table)
        mean, largest = plan.mean_forward_flops + plan.mean_backward_flops, plan.forward_flops + plan.backward_flops
        if mean < largest:
            console.print(f"On average over steps: {mean / 1e9:.1f} GFLOP; this step: {largest / 1e9:.1f} GFLOP.")
    elif not explanation.reads_images:
        console.print("The loss reads no images, so its cost does not depend on an image size.")
        return
    else:
        console.print("The loss uses no network; its cost is that of pixel operations.")
    console.print(
        f"Saved for the backward pass: {plan.saved_bytes / 1e6:.1f} MB. Peak memory: {plan.peak_bytes / 1e6:.1f} MB. "
        "Both in float32 on a CPU, without the images and the weights of the networks."
    )
    if shared := explanation.shared_plan:
        print_shared_cost(console, explanation, shared)


def print_step_costs(console: "Console", explanation: "FormulaExplanation", device: str) -> None:
    """Print the measured cost of a step in each precision."""
    from rich.table import Table

    table = Table("precision", "ms", "kept MB", "peak MB", title=f"Measured step on {device}", title_justify="left")
    for cost in explanation.step_costs:
        kept, peak = cost.saved_bytes / 1e6, cost.peak_bytes / 1e6
        table.add_row(cost.precision, f"{cost.milliseconds:.2f}", f"{kept:.1f}", f"{peak:.1f}")
    print_table(console, table)


def print_shared_cost(console: "Console", explanation: "FormulaExplanation", shared: "CostPlan") -> None:
    """Print the cost of a loss whose terms share one VGG-16, and its formula."""
    flops = explanation.plan.forward_flops + explanation.plan.backward_flops
    shared_flops = shared.forward_flops + shared.backward_flops
    console.print(
        f"One VGG-16 for all terms: {1e-9 * shared_flops:.1f} GFLOP instead of {1e-9 * flops:.1f}, "
        f"{flops / shared_flops:.1f} times fewer. The values differ slightly; retune the weights:"
    )
    console.print(f"  {explanation.shared!r}", markup=False, highlight=False)
