"""The figure of bench/device.py: the step of each contender, in each precision, at the first size."""

OURS, OTHERS, FLOOR = "#0b6e6e", "#6b7280", "#b45309"


def draw(result, path):
    """Draw a bar for each contender and precision of each load."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in result.get("loads", []) if "ms" in row]
    if not rows:
        raise SystemExit("device: the figure needs the part loads; the result does not have it.")
    batch, side = rows[0]["batch"], rows[0]["side"]
    rows = [row for row in rows if (row["batch"], row["side"]) == (batch, side)]
    loads = list(dict.fromkeys(row["load"] for row in rows))
    figure, axes = plt.subplots(
        1, len(loads), figsize=(3.6 * len(loads), 5), dpi=130, layout="constrained", squeeze=False
    )
    for axis, load in zip(axes[0], loads, strict=True):
        among = [row for row in rows if row["load"] == load]
        labels = [f"{row['contender'].removeprefix('lossmith, ')} {row['precision']}" for row in among]
        colours = [choose_colour(row["contender"]) for row in among]
        axis.barh(range(len(among)), [row["ms"] for row in among], color=colours)
        axis.set_yticks(range(len(among)), labels, fontsize=7)
        axis.invert_yaxis()
        axis.set_title(load, fontsize=10)
        axis.set_xlabel("ms a step")
        axis.spines[["top", "right"]].set_visible(False)
    about = result["about"]
    figure.suptitle(f"{batch} images of {side} px, {about['device']}, torch {about['torch']}", fontsize=10)
    figure.savefig(path)
    plt.close(figure)


def choose_colour(contender):
    """Return the colour of lossmith, of its convolutions alone, or of another library."""
    return OURS if contender.startswith("lossmith") else FLOOR if "convolutions" in contender else OTHERS
