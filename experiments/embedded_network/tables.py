"""Write the tables of docs/embedded.md from the results beside this file.

python experiments/embedded_network/tables.py
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "embedded.md"
METRIC_NAMES = {
    "embedded": "embedded",
    "lpips_alex": "LPIPS-Alex",
    "ssim": "SSIM",
    "psnr": "PSNR",
    "random": "untrained",
}
TEST_SETS = ("Set5", "Set14", "Kodak24")


def main() -> None:
    text = PAGE.read_text("utf-8")
    for name, make_table in TABLES.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        if begin not in text or end not in text:
            raise SystemExit(f"{PAGE.name} must contain the marks of the table {name!r}: {begin.strip()} and {end}.")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{make_table()}\n{end}{rest.split(end, 1)[1]}"
    PAGE.write_text(text, "utf-8")


def read_result(name: str) -> dict:
    return json.loads((HERE / f"{name}.json").read_text())


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left_columns: int = 1) -> str:
    """Return a Markdown table whose first columns are left-aligned."""
    rule = ["---" if i < left_columns else "---:" for i in range(len(head))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def format_number(value: float, digits: int = 3) -> str:
    """Format a number without a leading zero."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def make_lpips_table() -> str:
    """Return the table of rank correlations with LPIPS-VGG."""
    ((folder, result),) = read_result("judged")["sets"].items()
    columns = [result if name == "embedded" else result[name] for name in METRIC_NAMES]
    rows = [
        [f"{folder}, all", *(format_number(each["srocc_lpips_vgg"]) for each in columns)],
        [f"{folder}, mean over kinds", *(format_number(each["srocc_mean_over_kinds"]) for each in columns)],
    ]
    rows += [
        [name, *(format_number(each["srocc_by_kind"][name]) for each in columns)] for name in result["srocc_by_kind"]
    ]
    return format_table(["", *METRIC_NAMES.values()], rows)


def make_human_table() -> str:
    """Return the table of rank correlations with human scores."""
    agreement = sorted(read_result("human_agreement")["agreement"].items(), key=lambda row: -row[1]["spearman"])
    columns = list(agreement[0][1])
    rows = [[name, *(format_number(row[column]) for column in columns)] for name, row in agreement]
    head = ["", *(column.replace("spearman", "all").replace("kendall", "Kendall") for column in columns)]
    return format_table(head, rows)


def make_cost_table() -> str:
    """Return the table of the time and memory of a step, by the size of the images."""
    rows = []
    for row in read_result("cost")["rows"]:
        ratios = [f"{row[key]:.1f}x" for key in ("vgg16's step / its own", "vgg16, plain's step / its own")]
        # the recorded bytes of "plain" are those of lossmith's engine
        kept = "" if row["network"].endswith("plain") else f"{row['kept MB']:.2f}"
        size = f"{row['batch']} x {row['side']} px, {row['precision']}"
        rows.append([size, row["network"], f"{row['forward ms']:.0f}", f"{row['step ms']:.0f}", kept, *ratios])
    head = [
        "images",
        "network",
        "forward, ms",
        "step, ms",
        "kept, MB",
        "speed-up over VGG-16 here",
        "over plain VGG-16",
    ]
    return format_table(head, rows, left_columns=2)


def make_scores_table(task: str) -> str:
    """Return the table of the scores of a task's arms on the test sets."""
    rows = []
    for name, arm in read_result("train_restorers")[task]["arms"].items():
        row = [name, *([str(arm["steps"]), f"{arm['seconds']:.1f}"] if "steps" in arm else ["", ""])]
        for folder in TEST_SETS:
            scores = arm["scores"][folder]
            row += [f"{scores['psnr_y']:.2f}", format_number(scores["lpips_alex"])]
        rows.append([*row, format_number(arm["scores"]["Kodak24"]["dists"])])
    head = [title for folder in TEST_SETS for title in (f"{folder} PSNR-Y", "LPIPS")]
    return format_table(["arm", "steps", "CPU s", *head, "DISTS"], rows)


def make_gains_table() -> str:
    """Return the table of each arm's gain and cost relative to those of VGG-16."""
    columns = {f"LPIPS, {folder}": f"{folder}, lpips_alex" for folder in TEST_SETS}
    columns |= {"DISTS, Kodak24": "Kodak24, dists", "share of its PSNR loss": "Kodak24, psnr_y"}
    rows = []
    for task, result in read_result("train_restorers").items():
        for name, shares in result["share of VGG-16's gain, at equal steps"].items():
            cells = []
            for share, lowest, highest in (shares[key] for key in columns.values()):
                interval = f" ({format_number(lowest, 2)} to {format_number(highest, 2)})" if highest > lowest else ""
                cells.append(format_number(share, 2) + interval)
            network = name.removeprefix("L1 + ").removesuffix(", longer")
            rows.append([f"{task}, {network}", str(result["arms"][name]["steps"]), *cells])
    return format_table(["share of VGG-16's gain over L1", "steps", *columns], rows)


def make_optimised_table() -> str:
    """Return the table of images that were optimised under one loss alone."""
    results = read_result("optimise_images")["found"]
    losses = {
        "perceptual, embedded": '`perceptual("embedded")`',
        "distilled_lpips": "`distilled_lpips`",
        "perceptual, VGG-16": '`perceptual("vgg16")`',
        "perceptual, SqueezeNet": '`perceptual("squeezenet")`',
        "LPIPS, AlexNet": '`lpips("alex")`',
    }
    starts = [
        format_number(results[f"distilled_lpips, from {start}"]["lpips_vgg before"]) for start in ("blur", "noise")
    ]
    rows = [["the start", "", starts[0], "", "", starts[1], ""]]
    for name, text in losses.items():
        both = [results[f"{name}, from {start}"] for start in ("blur", "noise")]
        cells = [(f"{each['psnr']:.1f}", format_number(each["lpips_vgg"]), f"{each['grid']:.1f}") for each in both]
        rows.append([text, *cells[0], *cells[1]])
    head = ["from blur, 2 px", "PSNR", "LPIPS-VGG", "grid", "from noise: PSNR", "LPIPS-VGG", "grid"]
    return format_table(head, rows)


def make_grids_table() -> str:
    """Return the table of the increase of each loss by a pattern that is added to a blurred image."""
    results = read_result("grids")["rows"]
    patterns = ("2 px", "4 px", "8 px", "noise")
    blurs = sorted({row["blur"] for row in results})
    rows = {}
    for row in results:
        rows.setdefault(row["loss"], {})[row["blur"]] = [f"{100 * row[pattern][0]:+.1f}%" for pattern in patterns]
    head = ["", *(f"blur {blur}, {pattern}" for blur in blurs for pattern in patterns)]
    return format_table(
        head, [[loss, *(cell for blur in blurs for cell in cells[blur])] for loss, cells in rows.items()]
    )


TABLES: dict[str, Callable[[], str]] = {
    "judged": make_lpips_table,
    "human_agreement": make_human_table,
    "cost": make_cost_table,
    "super-resolution": lambda: make_scores_table("super-resolution"),
    "denoising": lambda: make_scores_table("denoising"),
    "gains": make_gains_table,
    "optimise_images": make_optimised_table,
    "grids": make_grids_table,
}
"""The functions of the tables, by the marks in the page."""

if __name__ == "__main__":
    main()
