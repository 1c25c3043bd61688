"""`lossmith explain`: what a formula means, costs and comes from."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from lossmith.formula.loss import Loss
    from lossmith.formula.term import Term

__all__ = ["register"]

EPILOG = """Example:

  lossmith explain "L1 + 0.1*perceptual('vgg19', 'conv5_4')" --size 192 --batch 16"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("explain", epilog=EPILOG, rich_help_panel="Formulas")(explain)


def explain(
    formula: Annotated[str, typer.Argument(help='The loss, such as "L1 + 0.1*perceptual".')],
    size: Annotated[int, typer.Option(min=1, help="Side of the pictures that the cost is counted for, px.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="How many of them.")] = 8,
) -> None:
    """What a formula means: its terms, networks and their weights, cost, values, and what to cite.

    The values are measured on pictures of noise: a pair of equal ones, one pair that differs by 5 % of the range, and
    one that has nothing in common. They tell how large a term is beside the others; one that reads vectors, latents or
    attention has none. Masks keep all of a picture.
    """
    from rich.console import Console

    from lossmith import parse

    console, loss = Console(soft_wrap=True), parse(formula)
    terms(console, loss, size)
    networks(console, loss)
    cost(console, loss, (batch, 3, size, size))
    console.print(f"\n{loss.citation()}" if loss.citation() else "", markup=False, highlight=False)


def terms(console: "Console", loss: "Loss", size: int) -> None:
    """Each term in full, then its weight, what it reads, and its values."""
    from rich.table import Table

    table = Table("term", "weight", "reads", "range", *PAIRS, title="Terms and their values", title_justify="left")
    values = [measured(loss, size, kind) for kind in PAIRS]
    for name, term in zip(loss.names, loss.terms, strict=True):
        through = f"{term.distance!r} @ {term.lens!r}" if term.lens else repr(term.distance)
        console.print(f"{name}: {through}", markup=False, highlight=False)
        shown = (each[name] for each in values)
        table.add_row(name, repr(term.weight), ", ".join(term.inputs.values()), ranged(term), *shown)
    console.print(table)
    if apart := [name for name, term in zip(loss.names, loss.terms, strict=True) if not term.reads_only_images]:
        console.print(f"No value on pictures: {', '.join(apart)}, which read what is no picture.", highlight=False)


def ranged(term: "Term") -> str:
    """Between which values a term lies; what a network shows has no upper end."""
    low, high = term.distance.value_range
    return f"from {low:g}" if term.lens or high == float("inf") else f"{low:g} to {high:g}"


PAIRS = ("equal", "noisy", "unrelated")


def measured(loss: "Loss", size: int, kind: str) -> dict[str, str]:
    """Each term's value on a pair of made-up pictures, or why there is none."""
    import torch

    from lossmith import MissingWeightsError

    chance = torch.Generator().manual_seed(0)
    shape = (1, 3, max(size, 32), max(size, 32))
    picture, other = (torch.rand(shape, generator=chance) for _ in range(2))
    noisy = (picture + 0.05 * torch.randn(shape, generator=chance)).clamp(0, 1)
    views = dict.fromkeys(loss.input_names, picture)
    views["pred"] = {"equal": picture, "noisy": noisy, "unrelated": other}[kind]
    views |= {term.inputs["mask"]: torch.ones_like(picture[:, :1]) for term in loss.terms if "mask" in term.inputs}
    from dataclasses import replace

    from lossmith import Hybrid, Weight

    values = {}
    for name, term in zip(loss.names, loss.terms, strict=True):
        if not term.reads_only_images:
            values[name] = "none"
            continue
        plain = Hybrid([replace(term, weight=Weight())])
        try:
            with torch.no_grad():
                values[name] = f"{float(plain(**{view: views[view] for view in plain.input_names})):.4g}"
        except MissingWeightsError:
            values[name] = "no weights"
    return values


def networks(console: "Console", loss: "Loss") -> None:
    """One line a network: where its weights are, or how to get them."""
    from lossmith import MissingWeightsError

    for text, network in loss.networks.items():
        try:
            where = "untrained, as asked"
            if network.weights != "random":
                found = network.find_weights()
                where = f"weights {found.sha256[:12]} in {str(found.path)!r}"
        except MissingWeightsError as error:
            where = str(error)
        console.print(f"{text}: {where}", markup=False, highlight=False)


def cost(console: "Console", loss: "Loss", shape: tuple[int, int, int, int]) -> None:
    """One row a pass of a network; the bytes; and what sharing a network would save."""
    from rich.table import Table

    from lossmith import Hybrid
    from lossmith.formula.cost import unify_vgg

    plan = loss.plan(shape)
    if plan.passes:
        table = Table("network", "view", "layers", "terms", "GFLOP forward", "GFLOP backward", title_justify="left")
        table.title = f"Cost of a step, {shape[0]} pictures of {shape[2]}x{shape[3]} px"
        for row in plan.passes:
            network = f"{row.network} @ {row.preceding_lenses}" if row.preceding_lenses else row.network
            figures = (f"{flops / 1e9:.1f}" for flops in (row.forward_flops, row.backward_flops))
            table.add_row(network, row.input_name, ", ".join(row.layers), ", ".join(row.terms), *figures)
        console.print(table)
    elif not any(term.reads_only_images for term in loss.terms):
        console.print("It looks at no picture: there is no cost to count for any size of them.")
        return
    else:
        console.print("No network: the step costs what the pictures' pixels cost.")
    console.print(
        f"It keeps {plan.saved_bytes / 1e6:.1f} MB for the backward pass and holds {plan.peak_bytes / 1e6:.1f} MB at most, "
        "in float32 on a CPU, besides the pictures and the networks' weights."
    )
    if shared := unify_vgg(loss.terms):
        other = Hybrid(shared).plan(shape)
        less = (plan.forward_flops + plan.backward_flops) / (other.forward_flops + other.backward_flops)
        console.print(
            f"VGG-16 could serve all terms: {1e-9 * (other.forward_flops + other.backward_flops):.1f} GFLOP instead of "
            f"{1e-9 * (plan.forward_flops + plan.backward_flops):.1f}, {less:.1f} times fewer. The values differ a little, so look "
            "at tuned weights again:"
        )
        console.print(f"  {Hybrid(shared)!r}", markup=False, highlight=False)
