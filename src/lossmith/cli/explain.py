"""`lossmith explain`: the meaning, the cost and the references of a formula."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from lossmith._format import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from lossmith.formula.loss import Loss
    from lossmith.formula.term import Term

__all__ = ["register"]

EPILOG = """Example:

  lossmith explain "L1 + 0.002*perceptual" --size 192 --batch 16"""

PAIRS = ("equal", "noisy", "unrelated")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain", epilog=EPILOG, rich_help_panel="Formulas")(explain_formula)


def explain_formula(
    formula: Annotated[str, typer.Argument(help='Loss formula, such as "L1 + 0.002*perceptual".')],
    size: Annotated[int, typer.Option(min=1, help="Side of the images in pixels, for the cost.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Number of images, for the cost.")] = 8,
) -> None:
    """Explain a formula: its terms, their networks and weights, cost, typical values, and papers to cite.

    The values are measured on noise images: a pair of equal images, a pair that differs by noise of 5 % of the range,
    and a pair of unrelated images. They show the magnitude of each term beside the others. Masks select the whole
    image. Terms that read vectors, latents or attention have no values.
    """
    from rich.console import Console

    from lossmith import parse

    console, loss = Console(soft_wrap=True), parse(formula)
    print_terms(console, loss, size)
    print_gradient_shares(console, loss)
    print_network_weights(console, loss)
    print_cost(console, loss, (batch, max(3, loss.min_channels), size, size))
    console.print(f"\n{loss.citation()}" if loss.citation() else "", markup=False, highlight=False)


def print_terms(console: "Console", loss: "Loss", size: int) -> None:
    """Print each term in full, then its weight, its inputs, its range and its values."""
    from rich.table import Table

    table = Table("term", "weight", "reads", "range", *PAIRS, title="Terms and their values", title_justify="left")
    values = [measure_terms(loss, size, kind) for kind in PAIRS]
    named = list(zip(loss.names, loss.terms, strict=True))
    for name, term in named:
        text = f"{term.distance!r} @ {term.lens!r}" if term.lens else repr(term.distance)
        console.print(f"{name}: {text}", markup=False, highlight=False)
        cells = (each[name] for each in values)
        table.add_row(name, repr(term.weight), ", ".join(term.inputs.values()), format_range(term), *cells)
    print_table(console, table)
    if others := [name for name, term in named if not term.reads_only_images]:
        console.print(f"No values for {', '.join(others)}: the inputs are not images.", highlight=False)


def format_range(term: "Term") -> str:
    """Return the range of a term's values; features of a network are unbounded."""
    low, high = term.distance.value_range
    return f"from {low:g}" if term.lens or high == float("inf") else f"{low:g} to {high:g}"


def measure_terms(loss: "Loss", size: int, kind: str) -> dict[str, str]:
    """Return each term's value on a pair of noise images, or the reason why there is none."""
    import torch

    from lossmith import Hybrid, MissingWeightsError, Weight

    generator = torch.Generator().manual_seed(0)
    shape = (1, max(3, loss.min_channels), max(size, 32), max(size, 32))
    image, other = (torch.rand(shape, generator=generator) for _ in range(2))
    noisy = (image + 0.05 * torch.randn(shape, generator=generator)).clamp(0, 1)
    inputs = dict.fromkeys(loss.input_names, image)
    inputs["pred"] = {"equal": image, "noisy": noisy, "unrelated": other}[kind]
    inputs |= {term.inputs["mask"]: torch.ones_like(image[:, :1]) for term in loss.terms if "mask" in term.inputs}
    values = {}
    for name, term in zip(loss.names, loss.terms, strict=True):
        if not term.reads_only_images:
            values[name] = "none"
            continue
        unweighted = Hybrid([replace(term, weight=Weight())])
        try:
            with torch.no_grad():
                values[name] = f"{float(unweighted(**{key: inputs[key] for key in unweighted.input_names})):.4g}"
        except MissingWeightsError:
            values[name] = "no weights"
    return values


def print_gradient_shares(console: "Console", loss: "Loss") -> None:
    """Print the shares of the terms in the gradient at the prediction, and the terms with hardly any effect."""
    from lossmith.doctor.balance_checks import bind_knobs, find_imbalances, find_preset, measure_gradient_shares

    if len(loss.terms) < 2:
        return
    report = measure_gradient_shares(bind_knobs(loss, dict.fromkeys(loss.knobs, 1.0)))
    if report is None:  # also without the weights of a network, which are listed below
        return
    knobs = f" with {', '.join(f'{name}=1' for name in loss.knobs)}" if loss.knobs else ""
    console.print(f"At the prediction of made-up images{knobs}: {report.proportion}.", markup=False, highlight=False)
    if loss.knobs:
        console.print("With train --calibrate, a knob of 1 gives equal gradient norms.", highlight=False)
        return
    for finding in find_imbalances(report, find_preset(loss)):
        console.print(str(finding), markup=False, highlight=False)


def print_network_weights(console: "Console", loss: "Loss") -> None:
    """Print one line per network: the file of its weights, or how to get one."""
    from lossmith import MissingWeightsError

    for text, network in loss.networks.items():
        try:
            where = "untrained, as requested"
            if network.weights != "random":
                found = network.find_weights()
                where = f"weights {found.sha256[:12]} in {str(found.path)!r}"
        except MissingWeightsError as error:
            where = str(error)
        console.print(f"{text}: {where}", markup=False, highlight=False)


def print_cost(console: "Console", loss: "Loss", shape: tuple[int, int, int, int]) -> None:
    """Print one row per network pass, the memory, and the saving of a shared network."""
    from rich.table import Table

    from lossmith.formula.cost import unify_vgg

    plan = loss.plan(shape)
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
    elif not any(term.reads_only_images for term in loss.terms):
        console.print("The loss reads no images, so its cost does not depend on an image size.")
        return
    else:
        console.print("The loss uses no network; its cost is that of pixel operations.")
    console.print(
        f"Saved for the backward pass: {plan.saved_bytes / 1e6:.1f} MB. Peak memory: {plan.peak_bytes / 1e6:.1f} MB. "
        "Both in float32 on a CPU, without the images and the weights of the networks."
    )
    if shared := unify_vgg(loss.terms):
        print_shared_cost(console, shared, shape, plan.forward_flops + plan.backward_flops)


def print_shared_cost(
    console: "Console", terms: "tuple[Term, ...]", shape: tuple[int, int, int, int], flops: float
) -> None:
    """Print the cost of a loss whose terms share one VGG-16, and its formula."""
    from lossmith import Hybrid

    shared = Hybrid(terms)
    plan = shared.plan(shape)
    shared_flops = plan.forward_flops + plan.backward_flops
    console.print(
        f"One VGG-16 for all terms: {1e-9 * shared_flops:.1f} GFLOP instead of {1e-9 * flops:.1f}, "
        f"{flops / shared_flops:.1f} times fewer. The values differ slightly; retune the weights:"
    )
    console.print(f"  {shared!r}", markup=False, highlight=False)
