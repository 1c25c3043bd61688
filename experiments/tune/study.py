"""Run a study of more than 20 trials and kill one of its two workers; write result.json and plane.png.

    LOSSMITH_WEIGHTS=ASSETS/weights python experiments/tune/study.py --assets ASSETS --out WORK

A small EDSR for 4x super-resolution is trained with L1 on BSDS500's training set. Every trial continues from these
weights with a perceptual term on VGG-16, whose weight, layer and learning rate the study searches. The objectives are
PSNR on Y and LPIPS with AlexNet, on photographs of another collection.
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

from lossmith.report.plot.png_scatter import HIGHLIGHT, MUTED, ScatterPanel, ScatterPoint, draw_scatter
from lossmith.tune.findings import read_findings

HERE = Path(__file__).parent
SIDE, VAL_COUNT = 256, 8
FORMULA = "L1 + a*perceptual('vgg16', layer)"
SMALL = ["--model-option", "channels=24", "--model-option", "blocks=4"]
QUICK = ["--batch", "4", "--crop", "64", "--device", "cpu", "--precision", "bf16-mixed"]


def write_val_images(assets: Path, out: Path) -> Path:
    """Write the centres of some photographs, evenly spread over the collection, and return their folder."""
    folder = out / "val"
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(p for p in (assets / "images" / "photos").iterdir() if p.suffix in (".jpg", ".png", ".webp"))
    for file in files[:: max(1, len(files) // VAL_COUNT)][:VAL_COUNT]:
        with Image.open(file) as image:
            left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
            image.convert("RGB").crop((left, top, left + SIDE, top + SIDE)).save(folder / f"{file.stem}.png")
    return folder


def lossmith_command(*arguments: object) -> list[str]:
    """Return the command line of a lossmith command."""
    return [sys.executable, "-c", "from lossmith.cli import main; raise SystemExit(main())", *map(str, arguments)]


def worker_pids(parent: int) -> list[int]:
    """Return the ids of the worker processes of a study, from Linux's process table."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def unfinished_runs(study: Path) -> list[Path]:
    """Return the run folders that have a checkpoint and no result."""
    runs = (file.parent.parent for file in study.glob("trials/*/checkpoints/last.ckpt"))
    return [run for run in runs if not (run / "result.json").exists()]


def run_and_kill(command: list[str], study: Path, after: int) -> dict[str, object]:
    """Run the study, kill one of its two workers during a trial, and return which trials were resumed.

    Args:
        command: The command of the study.
        study: The study's folder.
        after: The number of finished trials after which the worker is killed.
    """
    parent, killed = subprocess.Popen(command), {}
    while parent.poll() is None:
        time.sleep(0.1)
        if (
            not killed
            and len(list(study.glob("trials/*/result.json"))) >= after
            and len(runs := unfinished_runs(study)) == 2
        ):
            os.kill(worker_pids(parent.pid)[0], signal.SIGKILL)
            killed = {"finished_trials": after, "running_trials": sorted(run.name for run in runs)}
    if parent.returncode:
        raise SystemExit(f"The study ended with {parent.returncode}.")
    sessions = {log.stem: log.read_text().count("images, 0 skipped") for log in (study / "logs").glob("*.log")}
    resumed = [run for run in killed["running_trials"] if sessions[run] > min(sessions.values())]
    return {**killed, "resumed_trials": resumed, "trials_with_results": len(read_findings(study).trials)}


def draw(record: dict[str, Any], file: Path) -> None:
    """Draw the trials in the plane of the two objectives, from the content of result.json."""
    front = {row["number"] for row in record["front"]}
    start = record["baselines"]["start"]
    points = [ScatterPoint(start["psnr_y"], start["lpips_alex"], "start (L1)")]
    for row in record["all"]:
        if row["state"] != "complete" or row["reason"]:
            continue
        is_knee = row["number"] == record["knee"]["number"]
        label = f"{'knee: ' * is_knee}a = {row['a']:.2g}, {row['layer']}"
        style = {"label": label, "colour": HIGHLIGHT} if row["number"] in front else {"colour": MUTED}
        style |= {"has_ring": is_knee, "is_label_optional": not is_knee}
        points.append(ScatterPoint(row["psnr_y"], row["lpips_alex"], **style))
    on_front = [point for point in points if point.colour == HIGHLIGHT]
    panel = ScatterPanel(f"{record['loss']}: {len(points) - 1} complete trials", points, front=on_front)
    draw_scatter([panel], file)


def main() -> None:
    """Train the initial network, run the study, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the initial network and the study")
    parser.add_argument("--trials", type=int, default=24, help="number of trials")
    parser.add_argument("--steps", type=int, default=90, help="steps of a trial")
    parser.add_argument("--start", type=int, default=1500, help="steps of the initial network")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    start, study, val = args.out / "start", args.out / "study", write_val_images(args.assets, args.out)
    images = args.assets / "images" / "train_bsds"
    common = ["--images", images, "--val", val, *QUICK]
    first = ["train", "super-resolution", "--loss", "L1", "--steps", args.start, "--out", start, "--lr", "1e-3"]
    started = time.monotonic()
    subprocess.run(lossmith_command(*first, *common, *SMALL, "--val-every", args.start, "--log-every", 250), check=True)
    trained = time.monotonic() - started
    command = ["tune", "super-resolution", FORMULA, "--range", "a=0.01:10"]
    command += ["--choice", "layer=conv2_2,conv3_3,conv4_3", "--lr", "1e-4:1e-3"]
    command += ["--init", start, "--steps", args.steps, "--trials", args.trials]
    command += ["--workers", 2, "--heartbeat", 10, "--out", study]
    started = time.monotonic()
    killed = run_and_kill(lossmith_command(*command, *common), study, after=6)
    took = time.monotonic() - started
    findings = read_findings(study)
    record = {
        "command": "lossmith " + " ".join("START" if word is start else str(word) for word in command[:-1]) + " STUDY",
        "start_steps": args.start,
        "seconds": {
            "start": round(trained),
            "study_wall": round(took),
            "trials": round(sum(t.seconds for t in findings.trials)),
        },
        "killed": killed,
        **findings.to_record(),
        "all": [{**findings.trial_record(t), "state": t.state, "reason": findings.reason(t)} for t in findings.trials],
    }
    (HERE / "result.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(record, HERE / "plane.png")


if __name__ == "__main__":
    main()
