"""The table of all losses: range, direction, units, what they read, whether they grow, what they cost.

    LOSSMITH_WEIGHTS=DIR python experiments/what_losses_do/table.py

Writes table.json beside this file, and its rows between the marks in docs/losses/index.md and on each family's page.
Everything but the units is asked of the losses: no number stands in the documents by hand.
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
HEAD = ["loss", "range", "lower is", "units", "reads", "grows", "GFLOP", "MB kept"]


def asked(row: Row) -> dict[str, object]:
    """What a loss says of itself."""
    loss = parse(row.text)
    plan = loss.plan(SHAPE)
    pictures = [t.distance.pictures and not (t.distance.bare & t.reads.keys()) - {"mask"} for t in loss.terms]
    return {
        "loss": row.text,
        "page": row.page,
        "range": row.bounds or bounds(loss),
        "lower is": GOALS[row.goal],
        "units": row.units,
        "reads": sorted(loss.reads),
        "grows": grows(loss) if all(pictures) else None,
        "gflop": round((plan.forward + plan.backward) / 1e9, 1),
        "critic": any(term.distance.study for term in loss.terms),
        "mb": round(plan.kept / 1e6, 1) if any(pictures) else None,
    }


def bounds(loss: Loss) -> tuple[float, float]:
    """Between what the values of a sum lie for pictures; through a lens there is no upper bound."""
    low = sum(term.weight.at() * term.distance.bounds[0] for term in loss.terms)
    high = sum(term.weight.at() * (float("inf") if term.lens else term.distance.bounds[1]) for term in loss.terms)
    return float(low), float(high)


def grows(loss: Loss) -> str:
    """Whether noise of twice the side gives more than 2.5 times the value, as the contract's test has it."""
    values = []
    for side in (64, 128) if loss.networks else (96, 192):
        generator = torch.Generator().manual_seed(0)
        views = {name: torch.rand(3, 3, side, side, generator=generator) for name in ["pred", *sorted(loss.reads)]}
        views = {name: view[:, :1].round() if name == "mask" else view for name, view in views.items()}
        first = min(loss.reads, key=lambda name: (name != "pred", name))
        views[first] = 0.3 + 0.4 * views[first]  # another texture, not another sample of one
        with torch.no_grad():
            values.append([value.mean().item() for value in loss.evaluate(views).values()])
    terms = [large > 2.5 * small for small, large in zip(*values, strict=True)]
    return "yes" if all(terms) else "in part" if any(terms) else "no"


def cells(row: dict[str, object]) -> list[str]:
    """A line of the table as text."""
    low, high = row["range"]
    flops = f"{row['gflop']:.0f}" + (" + critic" if row["critic"] else "")
    return [
        f"`{row['loss']}`",
        "any" if low == -float("inf") else f"{low:g}.." + ("" if high == float("inf") else f"{high:g}"),
        row["lower is"],
        row["units"],
        ", ".join(row["reads"]),
        row["grows"] or "",
        "" if row["mb"] is None else flops,
        "" if row["mb"] is None else f"{row['mb']:.1f}",
    ]


def written(rows: list[dict[str, object]]) -> str:
    """The rows as a table of Markdown."""
    lines = [HEAD, ["---"] * (len(HEAD) - 2) + ["---:"] * 2, *map(cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put(page: Path, table: str) -> None:
    """Replaces what stands between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> None:
    rows = []
    for row in ROWS:
        rows.append(asked(row))
        print(" | ".join(cells(rows[-1])), flush=True)
    facts = {"command": "python experiments/what_losses_do/table.py", "shape": SHAPE}
    facts |= {"lossmith": lossmith.__version__, "torch": torch.__version__, "rows": rows}
    (HERE / "table.json").write_text(json.dumps(facts, indent=1) + "\n")
    put(PAGES / "index.md", written(rows))
    for page in dict.fromkeys(row.page for row in ROWS):
        put(PAGES / f"{page}.md", written([row for row in rows if row["page"] == page]))


if __name__ == "__main__":
    main()
