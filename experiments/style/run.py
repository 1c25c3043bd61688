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
import torch.nn.functional as F
from torch import Tensor

import lossmith
from lossmith import parse
from lossmith.data import decode_image
from lossmith.image import to_float
from lossmith.models import load_restorer
from lossmith.report.image_sheet import save_image_sheet, stack_sheets
from lossmith.style_transfer import StyleTransferConfig, StyleTransferResult, build_style_formula, stylize
from lossmith.style_transfer.image_sizes import resize_longer_side

HERE = Path(__file__).parent
PAIRS = (("china.jpg", "starry_night.jpg"), ("chelsea.png", "munch.jpg"), ("coffee.png", "udnie.jpg"))


def figures(
    net: str, pair: tuple[str, str], painted: StyleTransferResult, seconds: float, core: float
) -> dict[str, object]:
    """What a painting cost, for the record."""
    stages = [{**stage._asdict(), "image": list(stage.image.shape)} for stage in painted.stages]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row = {"net": net, "content": pair[0], "style": pair[1], "seconds": round(seconds, 1), "stages": stages}
    # the seconds of the core do not count what other work takes
    return {**row, "cpu seconds": round(core, 1), "peak MB of the process so far": peak}


def jpeg(rows: list[dict[str, Tensor]], name: str) -> None:
    """Sheets one below the other as a JPEG."""
    stack_sheets([save_image_sheet(row, HERE / f"sheet{i}.png") for i, row in enumerate(rows)]).save(
        HERE / name, quality=88
    )


def inset(content: Tensor, style: Tensor) -> Tensor:
    """The photograph with the painting in its lower right corner."""
    small, shown = resize_longer_side(style, 112)[0], content[0].clone()
    framed = F.pad(small, (3, 3, 3, 3), value=1.0)
    shown[:, -framed.shape[1] :, -framed.shape[2] :] = framed
    return shown


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
        return to_float(decode_image(assets / "images" / folder / name))[None]

    def painting(net: str, pair: tuple[str, str], brush: StyleTransferConfig) -> StyleTransferResult:
        begun, core = time.monotonic(), time.process_time()
        made = stylize(
            picture("samples", pair[0]), [picture("style", pair[1])], parse(build_style_formula(net)), config=brush
        )
        rows.append(
            {
                **figures(net, pair, made, time.monotonic() - begun, time.process_time() - core),
                "optimizer": brush.optimizer,
            }
        )
        record["paintings"] = rows
        (HERE / "result.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        print(rows[-1]["net"], pair, rows[-1]["seconds"], flush=True)
        return made

    looked: list[dict[str, Tensor]] = [{}, {}, {}]
    made: dict[str, list[StyleTransferResult]] = {"vgg19": [], "embedded": []}
    for pair in PAIRS:
        content, style = resize_longer_side(picture("samples", pair[0]), 320), picture("style", pair[1])
        looked[0][f"{pair[0]}\n{pair[1]}"] = inset(content, style)
        for row, net, brush in (
            (1, "vgg19", StyleTransferConfig(side=320, steps=40, optimizer="lbfgs")),
            (2, "embedded", StyleTransferConfig(side=256)),
        ):
            made[net].append(painting(net, pair, brush))
            looked[row][f"{net}, {brush.side} px\n{pair[0]}, {rows[-1]['cpu seconds']:.0f} s of a core"] = made[net][
                -1
            ].image[0]
    jpeg(looked, "paintings.jpg")

    network, facts = load_restorer(run / "model.safetensors")
    trained: list[dict[str, Tensor]] = [{}, {}]
    for content_name in (pair[0] for pair in PAIRS):
        content = resize_longer_side(picture("samples", content_name), 256)
        begun = time.monotonic()
        with torch.inference_mode():
            once = network(content).clamp(0, 1)
        seconds = time.monotonic() - begun
        trained[0][content_name] = content[0]
        trained[1][f"{content_name}\nstylist, {seconds:.1f} s"] = once[0].clone()
    by = {key: facts[key] for key in ("loss", "model", "step")}
    record["stylist"] = {"last seconds a picture": round(seconds, 2), "what it was trained by": by}
    jpeg(trained, "networks.jpg")
    (HERE / "result.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    painting("embedded", PAIRS[0], StyleTransferConfig(side=1024))
    large = painting("vgg19", PAIRS[0], StyleTransferConfig(side=1024, steps=100, optimizer="lbfgs"))
    stages = {
        f"{s.side} px, {s.steps} steps\n{s.seconds:.0f} s": resize_longer_side(s.image, 384)[0] for s in large.stages
    }
    jpeg([stages], "stages.jpg")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
