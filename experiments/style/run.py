"""Paints photographs in the style of public-domain paintings, and writes sheets and figures beside this file.

    python experiments/style/run.py ASSETS RUN

ASSETS holds images/samples and images/style; RUN is a run of `lossmith train style` on starry_night.jpg, see README.
"""

import json
import os
import platform
import resource
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import lossmith
from lossmith import parse
from lossmith.data import read
from lossmith.image import scaled
from lossmith.models import load
from lossmith.report.sheets import sheet
from lossmith.tasks.style_transfer import sized
from lossmith.train.painting import Brush, Painted, paint, posed, shifted
from lossmith.train.painting_loss import formula

HERE = Path(__file__).parent
PAIRS = (("china.jpg", "starry_night.jpg"), ("chelsea.png", "munch.jpg"), ("coffee.png", "udnie.jpg"))


def figures(net: str, pair: tuple[str, str], painted: Painted, seconds: float) -> dict[str, object]:
    """What a painting cost, for the record."""
    stages = [{**stage._asdict(), "picture": list(stage.picture.shape)} for stage in painted.stages]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row = {"net": net, "content": pair[0], "style": pair[1], "seconds": round(seconds, 1), "stages": stages}
    return {**row, "peak MB of the process so far": peak}


def jpeg(pictures: dict[str, Tensor], name: str) -> None:
    """A sheet as a JPEG."""
    path = sheet(pictures, HERE / "sheet.png")
    with Image.open(path) as image:
        image.save(HERE / name, quality=88)
    path.unlink()


def main(assets: Path, run: Path) -> None:
    """Paints, one after the other."""
    record: dict[str, object] = {
        "command": "python experiments/style/run.py ASSETS RUN",
        "hardware": f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} thread, shared with other work",
        "versions": {"lossmith": lossmith.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "seed": 0,
    }
    rows: list[dict[str, object]] = []

    def picture(folder: str, name: str) -> Tensor:
        return scaled(read(assets / "images" / folder / name))[None]

    def painting(net: str, pair: tuple[str, str], brush: Brush) -> Painted:
        begun = time.monotonic()
        made = paint(picture("samples", pair[0]), [picture("style", pair[1])], parse(formula(net)), brush=brush)
        rows.append({**figures(net, pair, made, time.monotonic() - begun), "optimizer": brush.optimizer})
        record["paintings"] = rows
        (HERE / "result.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        print(rows[-1]["net"], pair, rows[-1]["seconds"], flush=True)
        return made

    shown: dict[str, Tensor] = {}
    vgg = painting("vgg19", PAIRS[0], Brush(side=256, steps=40, optimizer="lbfgs"))
    for pair in PAIRS:
        made = painting("embedded", pair, Brush(side=256))
        shown[f"{pair[0]}\n{pair[1]}\nembedded, {rows[-1]['seconds']:.0f} s"] = made.picture[0]
        if pair is PAIRS[0]:
            gatys = made
    jpeg(shown, "paintings.jpg")

    content, style = sized(picture("samples", PAIRS[0][0]), 256), picture("style", PAIRS[0][1])
    begun = time.monotonic()
    with torch.inference_mode():
        once = load(run / "model.safetensors")[0](content).clamp(0, 1)
    seconds = time.monotonic() - begun
    views, _ = posed(content, [style], [1.0], Brush(side=256), 32)
    judged = {}
    for name, pred in (("content", views["content"]), ("Gatys", gatys.picture), ("Johnson", once)):
        with torch.no_grad():
            judged[name] = float(gatys.loss(**shifted({"pred": pred, **views}, (0, 0))))
    record["the embedded loss of the painting, its numbers"] = {"loss": repr(gatys.loss), **judged}
    record["Johnson, seconds a picture"] = round(seconds, 3)
    jpeg(
        {
            "photograph": content[0],
            f"Gatys, VGG-19\n{rows[0]['seconds']} s": vgg.picture[0],
            f"Gatys, embedded\nloss {judged['Gatys']:.4f}": gatys.picture[0],
            f"Johnson, embedded\nloss {judged['Johnson']:.4f}, {seconds:.1f} s": once[0].clone(),
        },
        "networks.jpg",
    )
    (HERE / "result.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    large = painting("embedded", PAIRS[0], Brush(side=1024))
    jpeg(
        {f"{s.side} px, {s.steps} steps\n{s.seconds:.0f} s": sized(s.picture, 384)[0] for s in large.stages},
        "stages.jpg",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
