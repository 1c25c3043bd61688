"""Store the slider of a network with a texture branch: the metrics at eleven places on the selection photographs.

    python experiments/realism/store_slider.py MODEL --select DIR

A position of the slider is the same value of the knob, since the output is linear in it: equal moves change the output
by equal root mean squared errors. `lossmith restore --at "psnr>=28"` reads the metrics. --select is the folder of
train.py, of whose photographs the squares of 240 px are used. Needs the weights of LPIPS and DISTS (LOSSMITH_WEIGHTS).
Writes the slider into MODEL.
"""

import argparse
from pathlib import Path

import torch
from train import SELECT_SIDE, central_square

from lossmith.data import decode_image, downsample, list_images
from lossmith.image import quantize_8bit, to_float
from lossmith.metrics import DEFAULT_METRICS, compute_metrics
from lossmith.models import TexturedEDSR, load_restorer
from lossmith.models.files import save_sliders
from lossmith.models.slider import Slider

PLACES = tuple(place / 10 for place in range(11))
METRIC_NAMES = (*DEFAULT_METRICS, "dists", "swd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="weight file of the network, to which the slider is written")
    parser.add_argument("--select", type=Path, required=True, help="folder of the photographs")
    parser.add_argument("--source", default="BSDS500", help="where the photographs are from [%(default)s]")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_restorer(args.model)[0]
    assert isinstance(model, TexturedEDSR)
    files = list_images(args.select)
    sums = {name: [0.0] * len(PLACES) for name in METRIC_NAMES}
    for file in files:
        target = to_float(central_square(decode_image(file), SELECT_SIDE))[None]
        with torch.no_grad():
            accurate, realistic = model.forward_ends(quantize_8bit(downsample(target, model.scale)))
        for i, place in enumerate(PLACES):
            output = torch.lerp(accurate, realistic, place)
            row = compute_metrics(output, target, border=model.scale, scale=model.scale, metrics=METRIC_NAMES)
            for name in METRIC_NAMES:
                sums[name][i] += row[name]
    means = {name: tuple(value / len(files) for value in values) for name, values in sums.items()}
    model.slider = Slider(
        PLACES, PLACES, means, "root mean squared error", f"{len(files)} photographs of {args.source}"
    )
    save_sliders(model, args.model)


if __name__ == "__main__":
    main()
