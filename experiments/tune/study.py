"""A study of more than 20 trials on real features, one of whose two workers is killed: result.json and plane.png.

    LOSSMITH_WEIGHTS=ASSETS/weights python experiments/tune/study.py --assets ASSETS --out WORK

A small EDSR enlarges four times. It is trained with L1 on BSDS500's training set, and every trial goes on from there
with a perceptual term on VGG-16, whose weight, layer and learning rate the study draws. It is judged on photographs of
another collection, by PSNR on Y and by LPIPS with AlexNet.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from lossmith.report.plot.png_scatter import MUTED, HIGHLIGHT, ScatterPoint, ScatterPanel, draw_scatter
from lossmith.tune.findings import read_findings

HERE = Path(__file__).parent
SIDE, JUDGES = 256, 8
FORMULA = "L1 + a*perceptual('vgg16', layer)"
SMALL = ["--model-option", "channels=24", "--model-option", "blocks=4"]
QUICK = ["--batch", "4", "--crop", "64", "--accelerator", "cpu", "--precision", "bf16-mixed"]


def judges(assets: Path, out: Path) -> Path:
    """The middle of some photographs, evenly spread over the collection."""
    folder = out / "val"
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(p for p in (assets / "images" / "photos").iterdir() if p.suffix in (".jpg", ".png", ".webp"))
    for file in files[:: max(1, len(files) // JUDGES)][:JUDGES]:
        with Image.open(file) as image:
            left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
            image.convert("RGB").crop((left, top, left + SIDE, top + SIDE)).save(folder / f"{file.stem}.png")
    return folder


def lossmith(*arguments: object) -> list[str]:
    """A command line."""
    return [sys.executable, "-c", "from lossmith.cli import main; raise SystemExit(main())", *map(str, arguments)]


def workers(boss: int) -> list[int]:
    """The worker processes that a study has started; Linux keeps the list."""
    children = Path(f"/proc/{boss}/task/{boss}/children").read_text().split()
    return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def under_way(study: Path) -> list[Path]:
    """The trials that have a checkpoint and no result."""
    found = (file.parent.parent for file in study.glob("trials/*/checkpoints/last.ckpt"))
    return [place for place in found if not (place / "result.json").exists()]


def studied(command: list[str], study: Path, after: int) -> dict[str, object]:
    """Runs the study, kills one of its two workers in mid-trial after some trials, and says what became of that."""
    boss, killed = subprocess.Popen(command), {}
    while boss.poll() is None:
        time.sleep(0.1)
        if (
            not killed
            and len(list(study.glob("trials/*/result.json"))) >= after
            and len(there := under_way(study)) == 2
        ):
            victim = workers(boss.pid)[0]
            os.kill(victim, signal.SIGKILL)
            killed = {"trials_done": after, "trials_under_way": sorted(place.name for place in there)}
    if boss.returncode:
        raise SystemExit(f"The study ended with {boss.returncode}.")
    sessions = {log.stem: log.read_text().count("pictures, 0 skipped") for log in (study / "logs").glob("*.log")}
    usual = min(sessions.values())
    again = [run for run in killed["trials_under_way"] if sessions[run] > usual]
    return {**killed, "taken_up_again": again, "trials_with_results": len(read_findings(study).trials)}


def draw(record: dict[str, Any], file: Path) -> None:
    """The plane as a figure, from what result.json keeps."""
    front = {row["number"] for row in record["front"]}
    start = record["marks"]["start"]
    dots = [ScatterPoint(start["psnr_y"], start["lpips_alex"], "start (L1)")]
    for row in record["all"]:
        if row["state"] != "complete" or row["why"]:
            continue
        knee = row["number"] == record["knee"]["number"]
        words = f"a = {row['a']:.2g}, {row['layer']}"
        on_front = {"label": f"knee: {words}" if knee else words, "colour": HIGHLIGHT} if row["number"] in front else {}
        dots.append(
            ScatterPoint(row["psnr_y"], row["lpips_alex"], **{"colour": MUTED, "has_ring": knee, "is_label_optional": not knee, **on_front})
        )
    panel = ScatterPanel(f"{record['loss']}: {len(dots) - 1} whole trials", dots, front=[d for d in dots if d.colour == HIGHLIGHT])
    draw_scatter([panel], file)


def main() -> None:
    """Trains the start, runs the study, and writes what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--start", type=int, default=1500)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    start, study, val = given.out / "start", given.out / "study", judges(given.assets, given.out)
    images = given.assets / "images" / "train_bsds"
    common = ["--images", images, "--val", val, *QUICK]
    first = ["train", "super-resolution", "--loss", "L1", "--steps", given.start, "--out", start, "--lr", "1e-3"]
    began = time.monotonic()
    subprocess.run(lossmith(*first, *common, *SMALL, "--val-every", given.start, "--log-every", 250), check=True)
    trained = time.monotonic() - began
    asked = ["tune", "super-resolution", FORMULA, "--range", "a=0.01:10"]
    asked += ["--choice", "layer=conv2_2,conv3_3,conv4_3", "--lr", "1e-4:1e-3"]
    asked += ["--init", start, "--steps", given.steps, "--trials", given.trials]
    asked += ["--workers", 2, "--heartbeat", 10, "--out", study]
    began = time.monotonic()
    killed = studied(lossmith(*asked, *common), study, after=6)
    took = time.monotonic() - began
    found = read_findings(study)
    record = {
        "command": "lossmith " + " ".join("START" if word is start else str(word) for word in asked[:-1]) + " STUDY",
        "start_steps": given.start,
        "seconds": {
            "start": round(trained),
            "study_wall": round(took),
            "trials": round(sum(t.seconds for t in found.trials)),
        },
        "killed": killed,
        **found.record,
        "all": [{**found.row(t), "state": t.state, "why": found.remark(t)} for t in found.trials],
    }
    (HERE / "result.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(record, HERE / "plane.png")


if __name__ == "__main__":
    main()
