"""The README's figure: the first load, its time forward and backward, and the bytes that it keeps."""

from hybrid.loads import AS_ASKED, SUGGESTED

OURS, OTHERS = ("#0b6e6e", "#5fb3a8"), ("#6b7280", "#b6bcc6")
"""Forward and backward: ours, and the others'."""
FLOOR = {"color": "#b45309", "lw": 1.4, "ls": (0, (3, 2))}
WHO = [SUGGESTED, AS_ASKED, "BasicSR + lpips", "piq"]


def draw(result, path):
    """Draws the figure from a result."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    side = result["summary"].get("side")
    found = {
        (row["precision"], row["contender"]): row
        for row in result["rows"]
        if row["load"] == "hybrid" and row["side"] == side and "step" in row
    }
    precisions = [p for p in ("fp32", "bf16") if (p, SUGGESTED) in found]
    if not precisions:
        raise SystemExit("The figure wants the first load, which this result has not.")
    figure, axes = plt.subplots(1, 1 + len(precisions), figsize=(11, 3.1), dpi=160, layout="constrained")
    for axis, precision in zip(axes, precisions, strict=False):
        times(axis, {name: found[precision, name] for name in WHO if (precision, name) in found}, precision)
        for at, name in enumerate((SUGGESTED, AS_ASKED)):  # the first two of WHO
            floor = found[precision, f"convolutions of {name}"]["step"]
            axis.plot([floor, floor], [at - 0.45, at + 0.45], **FLOOR)
    memory(axes[-1], {name: found[precisions[0], name] for name in WHO if (precisions[0], name) in found})
    for axis in axes[1:]:
        axis.set_yticklabels([])
    handles = [Patch(color=OURS[0]), Patch(color=OURS[1])]
    about = result["about"]
    figure.suptitle(
        f"L1 + perceptual + Gram + LPIPS-VGG, 2 pictures of {side} px, {about['threads']} threads of a CPU",
        x=0.01, ha="left", fontsize=10, weight="bold",
    )  # fmt: skip
    figure.legend(
        [*handles, plt.Line2D([], [], **FLOOR)],
        ["forward", "backward", "its convolutions alone"],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path)
    plt.close(figure)


def times(axis, rows, precision):
    for at, (name, row) in enumerate(rows.items()):
        dark, light = colours(name)
        axis.barh(at, row["forward"], color=dark, height=0.66)
        axis.barh(at, row["backward"], left=row["forward"], color=light, height=0.66)
        label(axis, at, row["step"], f"{row['step']:,.0f} ms", row["step"] / rows[SUGGESTED]["step"])
    finish(axis, rows, f"one step, {precision}", max(row["step"] for row in rows.values()))


def memory(axis, rows):
    for at, (name, row) in enumerate(rows.items()):
        axis.barh(at, row["kept"], color=colours(name)[0], height=0.66)
        label(axis, at, row["kept"], f"{row['kept'] / 1e6:,.0f} MB", row["kept"] / rows[SUGGESTED]["kept"])
    finish(axis, rows, "kept for the backward pass, fp32", max(row["kept"] for row in rows.values()))


def colours(name):
    return OURS if name.startswith("lossmith") else OTHERS


def label(axis, at, length, text, ratio):
    text = text if ratio < 1.05 else f"{text}  ({ratio:.1f}x)"
    axis.annotate(text, (length, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)


def finish(axis, rows, title, longest):
    axis.set_yticks(range(len(rows)), [name.replace(", ", ",\n") for name in rows], fontsize=9)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, longest * 1.42)
    axis.set_xticks([])
    axis.set_title(title, fontsize=10, loc="left")
    axis.tick_params(length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
