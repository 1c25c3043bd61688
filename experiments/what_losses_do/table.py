"""Write the table of all losses: range, direction, units, inputs, growth with the image size, cost.

    LOSSMITH_WEIGHTS=DIR python experiments/what_losses_do/table.py

Writes table.json beside this file, and its rows between the marks in docs/losses/index.md and on the page of each
family. The meaning of a lower value and the units are written by hand in catalogue.py; the rest is computed from the
losses.
"""

import json
from pathlib import Path

import torch
from catalogue import GOALS, ROWS, Row

import lossmith
from lossmith import Loss, parse

HERE = Path(__file__).parent
PAGES = HERE.parents[1] / "docs" / "losses"
SHAPE = (8, 3, 128, 128)
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = ["loss", "range", "lower means", "units", "inputs", "grows", "GFLOP", "MB kept"]


def describe(row: Row) -> dict[str, object]:
    """Return the properties of a loss."""
    loss = parse(row.text)
    plan = loss.plan(SHAPE)
    on_images = [
        t.distance.reads_images and not (t.distance.unlensed_inputs & t.inputs.keys()) - {"mask"} for t in loss.terms
    ]
    return {
        "loss": row.text,
        "page": row.page,
        "range": row.bounds or compute_range(loss),
        "lower means": GOALS[row.goal],
        "units": row.units,
        "inputs": sorted(loss.input_names),
        "grows": describe_growth(loss) if all(on_images) else None,
        "gflop": round((plan.forward_flops + plan.backward_flops) / 1e9, 1),
        "discriminator": any(term.distance.discriminator_step for term in loss.terms),
        "mb": round(plan.saved_bytes / 1e6, 1) if any(on_images) else None,
    }


def compute_range(loss: Loss) -> tuple[float, float]:
    """Return the range of a loss on images; a term with a lens has no upper bound."""
    low = sum(term.weight.value_at() * term.distance.value_range[0] for term in loss.terms)
    high = sum(
        term.weight.value_at() * (float("inf") if term.lens else term.distance.value_range[1]) for term in loss.terms
    )
    return float(low), float(high)


def describe_growth(loss: Loss) -> str:
    """Return "yes", "in part" or "no": whether the terms grow more than 2.5 times on noise of twice the side."""
    values = []
    for side in (64, 128) if loss.networks else (96, 192):
        generator = torch.Generator().manual_seed(0)
        inputs = {
            name: torch.rand(3, 3, side, side, generator=generator) for name in ["pred", *sorted(loss.input_names)]
        }
        inputs = {name: image[:, :1].round() if name == "mask" else image for name, image in inputs.items()}
        first = min(loss.input_names, key=lambda name: (name != "pred", name))
        inputs[first] = 0.3 + 0.4 * inputs[first]  # another texture, not another sample of the same
        with torch.no_grad():
            values.append([value.mean().item() for value in loss.evaluate(inputs).values()])
    terms = [large > 2.5 * small for small, large in zip(*values, strict=True)]
    return "yes" if all(terms) else "in part" if any(terms) else "no"


def format_cells(row: dict[str, object]) -> list[str]:
    """Return a row of the table as text."""
    low, high = row["range"]
    flops = f"{row['gflop']:.0f}" + (" + discriminator" if row["discriminator"] else "")
    return [
        f"`{row['loss']}`",
        "any" if low == -float("inf") else f"{low:g}.." + ("" if high == float("inf") else f"{high:g}"),
        row["lower means"],
        row["units"],
        ", ".join(row["inputs"]),
        row["grows"] or "",
        "" if row["mb"] is None else flops,
        "" if row["mb"] is None else f"{row['mb']:.1f}",
    ]


def to_markdown(rows: list[dict[str, object]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [HEAD, ["---"] * (len(HEAD) - 2) + ["---:"] * 2, *map(format_cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_table(page: Path, table: str) -> None:
    """Replace the text between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> None:
    rows = []
    for row in ROWS:
        rows.append(describe(row))
        print(" | ".join(format_cells(rows[-1])), flush=True)
    result = {"command": "python experiments/what_losses_do/table.py", "shape": SHAPE}
    result |= {"lossmith": lossmith.__version__, "torch": torch.__version__, "rows": rows}
    (HERE / "table.json").write_text(json.dumps(result, indent=1) + "\n")
    replace_table(PAGES / "index.md", to_markdown(rows))
    for page in dict.fromkeys(row.page for row in ROWS):
        replace_table(PAGES / f"{page}.md", to_markdown([row for row in rows if row["page"] == page]))


if __name__ == "__main__":
    main()
