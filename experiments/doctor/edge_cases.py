"""Draw the edge-case table: every public loss on every edge case.

    python experiments/doctor/edge_cases.py

Writes edge_cases.json beside this file and docs/images/edge_cases.png; the numbers are those of lossmith doctor --all
--json.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from lossmith.doctor.edge_case_table import EdgeCaseTable, public_losses
from lossmith.doctor.edge_cases import EDGE_CASES

HERE = Path(__file__).parent
FIGURE = HERE.parents[1] / "docs" / "images" / "edge_cases.png"
OUTCOMES = {
    "finite": ("#cfe8d5", "value and gradient are finite"),
    "rejected": ("#cfdcf0", "rejected with one clear line"),
    "nan": ("#f3e3b3", "NaN only in the value of this image"),
    "unaffected": ("#f7f7f7", "does not change the inputs"),
    "failed": ("#d1495b", "failed"),
}


def main() -> None:
    table = EdgeCaseTable.of(*public_losses())
    (HERE / "edge_cases.json").write_text(json.dumps(table.as_dict(), indent=1) + "\n", encoding="utf-8")
    names, cases = list(dict.fromkeys(cell.loss for cell in table.cells)), list(EDGE_CASES)
    figure, axes = plt.subplots(figsize=(0.3 * len(cases) + 3, 0.21 * len(names) + 2.2), dpi=150)
    for cell in table.cells:
        position = cases.index(cell.case), names.index(cell.loss)
        axes.add_patch(plt.Rectangle(position, 0.94, 0.94, color=OUTCOMES[cell.outcome][0]))
    axes.set(xlim=(0, len(cases)), ylim=(len(names), 0))
    axes.set_xticks([i + 0.5 for i in range(len(cases))], cases, rotation=60, ha="left", fontsize=7)
    axes.set_yticks([i + 0.5 for i in range(len(names))], names, fontsize=7)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    shown = {cell.outcome for cell in table.cells}
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for name, (colour, _) in OUTCOMES.items() if name in shown]
    labels = [label for name, (_, label) in OUTCOMES.items() if name in shown]
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=7)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE)


if __name__ == "__main__":
    main()
