"""The README's figure: the first workload, its time forward and backward, and the bytes kept for backward."""

from hybrid.workloads import AS_ASKED, SUGGESTED

OURS, OTHERS = ("#0b6e6e", "#5fb3a8"), ("#6b7280", "#b6bcc6")
"""Colours of forward and backward: lossmith's, and the others'."""
FLOOR = {"color": "#b45309", "lw": 1.4, "ls": (0, (3, 2))}
CONTENDERS = [SUGGESTED, AS_ASKED, "BasicSR + lpips", "piq"]


def draw(result, path):
    """Draw the figure of a result."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    side = result["summary"].get("side")
    rows = {
        (row["precision"], row["contender"]): row
        for row in result["rows"]
        if row["load"] == "hybrid" and row["side"] == side and "step" in row
    }
    precisions = [p for p in ("fp32", "bf16") if (p, SUGGESTED) in rows]
    if not precisions:
        raise SystemExit("hybrid_step: the figure needs the load hybrid; the result does not have it.")
    figure, axes = plt.subplots(1, 1 + len(precisions), figsize=(11, 3.1), dpi=160, layout="constrained")
    for axis, precision in zip(axes, precisions, strict=False):
        draw_times(axis, select(rows, precision), precision)
        for position, name in enumerate((SUGGESTED, AS_ASKED)):  # the first two contenders
            floor = rows[precision, f"convolutions of {name}"]["step"]
            axis.plot([floor, floor], [position - 0.45, position + 0.45], **FLOOR)
    draw_memory(axes[-1], select(rows, precisions[0]))
    for axis in axes[1:]:
        axis.set_yticklabels([])
    threads = result["about"]["threads"]
    figure.suptitle(
        f"L1 + perceptual + Gram + LPIPS-VGG, 2 images of {side} px, {threads} threads of a CPU",
        x=0.01, ha="left", fontsize=10, weight="bold",
    )  # fmt: skip
    figure.legend(
        [Patch(color=OURS[0]), Patch(color=OURS[1]), plt.Line2D([], [], **FLOOR)],
        ["forward", "backward", "its convolutions alone"],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path)
    plt.close(figure)


def select(rows, precision):
    """Return the rows of one precision by contender."""
    return {name: rows[precision, name] for name in CONTENDERS if (precision, name) in rows}


def draw_times(axis, rows, precision):
    for position, (name, row) in enumerate(rows.items()):
        dark, light = colours_of(name)
        axis.barh(position, row["forward"], color=dark, height=0.66)
        axis.barh(position, row["backward"], left=row["forward"], color=light, height=0.66)
        draw_label(axis, position, row["step"], f"{row['step']:,.0f} ms", row["step"] / rows[SUGGESTED]["step"])
    format_axis(axis, rows, f"one step, {precision}", max(row["step"] for row in rows.values()))


def draw_memory(axis, rows):
    for position, (name, row) in enumerate(rows.items()):
        axis.barh(position, row["kept"], color=colours_of(name)[0], height=0.66)
        text = f"{row['kept'] / 1e6:,.0f} MB"
        draw_label(axis, position, row["kept"], text, row["kept"] / rows[SUGGESTED]["kept"])
    format_axis(axis, rows, "kept for the backward pass, fp32", max(row["kept"] for row in rows.values()))


def colours_of(name):
    return OURS if name.startswith("lossmith") else OTHERS


def draw_label(axis, position, length, text, ratio):
    text = text if ratio < 1.05 else f"{text}  ({ratio:.1f}x)"
    axis.annotate(text, (length, position), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)


def format_axis(axis, rows, title, longest):
    axis.set_yticks(range(len(rows)), [name.replace(", ", ",\n") for name in rows], fontsize=9)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, longest * 1.42)
    axis.set_xticks([])
    axis.set_title(title, fontsize=10, loc="left")
    axis.tick_params(length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
