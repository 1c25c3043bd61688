"""Writes the tables of docs/embedded.md from the results beside this file, so that no figure stands there by hand.

python experiments/embedded_network/tables.py
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "embedded.md"
NAMES = {
    "embedded": "embedded",
    "lpips_alex": "LPIPS-Alex",
    "ssim": "SSIM",
    "psnr": "PSNR",
    "random": "untrained",
}
SETS = ("Set5", "Set14", "Kodak24")


def main() -> None:
    text = PAGE.read_text("utf-8")
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        if begin not in text or end not in text:
            raise SystemExit(f"{PAGE.name} has no marks for the table {name!r}: {begin.strip()} and {end}.")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table()}\n{end}{rest.split(end, 1)[1]}"
    PAGE.write_text(text, "utf-8")


def read(name: str) -> dict:
    return json.loads((HERE / f"{name}.json").read_text())


def lined(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A table, its first columns to the left."""
    rule = ["---" if i < words else "---:" for i in range(len(head))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def short(value: float, digits: int = 3) -> str:
    """A number without the nought before its point."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def judged() -> str:
    """Rank correlations with LPIPS-VGG."""
    (about,) = read("judged")["sets"].items()
    folder, found = about
    columns = [found if name == "embedded" else found[name] for name in NAMES]
    rows = [
        [f"{folder}, all", *(short(each["srocc_lpips_vgg"]) for each in columns)],
        [f"{folder}, mean over kinds", *(short(each["srocc_mean_over_kinds"]) for each in columns)],
    ]
    rows += [[kind, *(short(each["srocc_by_kind"][kind]) for each in columns)] for kind in found["srocc_by_kind"]]
    return lined(["", *NAMES.values()], rows)


def human() -> str:
    """Rank correlations with people."""
    found = sorted(read("human")["agreement"].items(), key=lambda row: -row[1]["spearman"])
    columns = list(found[0][1])
    rows = [[name, *(short(row[column]) for column in columns)] for name, row in found]
    heads = ["", *(column.replace("spearman", "all").replace("kendall", "Kendall") for column in columns)]
    return lined(heads, rows)


def cost() -> str:
    """Time and memory of a step, by the side of the pictures."""
    told = []
    for row in read("cost")["rows"]:
        ratios = [f"{row[key]:.1f}x" for key in ("vgg16's step / its own", "vgg16, plain's step / its own")]
        kept = "" if row["network"].endswith("plain") else f"{row['kept MB']:.2f}"  # there the engine's would stand
        size = f"{row['batch']} x {row['side']} px, {row['precision']}"
        told.append([size, row["network"], f"{row['forward ms']:.0f}", f"{row['step ms']:.0f}", kept, *ratios])
    heads = [
        "images",
        "network",
        "forward, ms",
        "step, ms",
        "kept, MB",
        "speed-up over VGG-16 here",
        "over plain VGG-16",
    ]
    return lined(heads, told, words=2)


def used(task: str) -> Callable[[], str]:
    """What each arm of a task made of the three sets."""

    def table() -> str:
        rows = []
        for name, arm in read("use")[task]["arms"].items():
            told = [str(arm["steps"]), f"{arm['seconds']:.1f}"] if "steps" in arm else ["", ""]
            for folder in SETS:
                told += [f"{arm['scores'][folder]['psnr_y']:.2f}", short(arm["scores"][folder]["lpips_alex"])]
            rows.append([name, *told, short(arm["scores"]["Kodak24"]["dists"])])
        heads = [head for folder in SETS for head in (f"{folder} PSNR-Y", "LPIPS")]
        return lined(["arm", "steps", "CPU s", *heads, "DISTS"], rows)

    return table


def gains() -> str:
    """What each arm brings of what VGG-16 brings over L1, and what it costs of what VGG-16 costs."""
    columns = {f"LPIPS, {folder}": f"{folder}, lpips_alex" for folder in SETS}
    columns |= {"DISTS, Kodak24": "Kodak24, dists", "share of its PSNR loss": "Kodak24, psnr_y"}
    rows = []
    for task, found in read("use").items():
        for name, told in found["share of VGG-16's gain, at equal steps"].items():
            cells = []
            for share, least, most in (told[key] for key in columns.values()):
                among = f" ({short(least, 2)} to {short(most, 2)})" if most > least else ""
                cells.append(short(share, 2) + among)
            plain = name.removeprefix("L1 + ").removesuffix(", longer")
            rows.append([f"{task}, {plain}", str(found["arms"][name]["steps"]), *cells])
    return lined(["share of VGG-16's gain over L1", "steps", *columns], rows)


def look() -> str:
    """Pixels optimised under a loss alone."""
    found = read("look")["found"]
    names = {
        "perceptual, embedded": '`perceptual("embedded")`',
        "distilled_lpips": "`distilled_lpips`",
        "perceptual, VGG-16": '`perceptual("vgg16")`',
        "perceptual, SqueezeNet": '`perceptual("squeezenet")`',
        "LPIPS, AlexNet": '`lpips("alex")`',
    }
    begun = [short(found[f"distilled_lpips, from {start}"]["lpips_vgg before"]) for start in ("blur", "noise")]
    rows = [["the start", "", begun[0], "", "", begun[1], ""]]
    for name, told in names.items():
        both = [found[f"{name}, from {start}"] for start in ("blur", "noise")]
        cells = [(f"{each['psnr']:.1f}", short(each["lpips_vgg"]), f"{each['grid']:.1f}") for each in both]
        rows.append([told, *cells[0], *cells[1]])
    return lined(["from blur, 2 px", "PSNR", "LPIPS-VGG", "grid", "from noise: PSNR", "LPIPS-VGG", "grid"], rows)


def grids() -> str:
    """By how much a loss rises with a pattern over a blurred picture."""
    found = read("grids")["rows"]
    patterns = ("2 px", "4 px", "8 px", "noise")
    blurs = sorted({row["blur"] for row in found})
    rows = {}
    for row in found:
        rows.setdefault(row["loss"], {})[row["blur"]] = [f"{100 * row[pattern][0]:+.1f}%" for pattern in patterns]
    heads = ["", *(f"blur {blur}, {pattern}" for blur in blurs for pattern in patterns)]
    return lined(heads, [[loss, *(cell for blur in blurs for cell in cells[blur])] for loss, cells in rows.items()])


TABLES: dict[str, Callable[[], str]] = {
    "judged": judged,
    "human": human,
    "cost": cost,
    "super-resolution": used("super-resolution"),
    "denoising": used("denoising"),
    "gains": gains,
    "look": look,
    "grids": grids,
}

if __name__ == "__main__":
    main()
