"""Compare exported networks with ONNX Runtime: the worst absolute error at 5 sizes and 5 settings of a knob.

    python bench/export.py [--only NAME ...] [--out bench/export.json]

The networks are small and untrained; weights that begin at zero are drawn at random, so that every layer acts. Those of
spandrel are built with the arguments below. A network that cannot be exported has the reason instead of a number. The
rows replace those of the same networks in the file, and the table of docs/export.md is printed.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from lossmith.export import export_network
from lossmith.models import ConditionedNetwork, Network, OutputInterpolation, build_network

KNOB = {"lam": (0.03, 30.0)}
WINDOWS = {"depths": [2], "embed_dim": 12, "num_heads": [2], "window_size": 8}
SMALL_EDSR = {"channels": 8, "blocks": 2}
OWN = {
    "edsr": lambda: build_network("edsr", 4, **SMALL_EDSR),
    "inpainter": lambda: build_network("inpainter", 1, channels=8, blocks=2),
    "autoencoder, kl": lambda: build_network("autoencoder", 1, channels=8, blocks=1),
    "autoencoder, vq": lambda: build_network("autoencoder", 1, channels=8, blocks=1, latent="vq"),
    "style-network": lambda: build_network("style-network", 1, channels=8, blocks=1),
    "textured-edsr": lambda: build_network("textured-edsr", 2, **SMALL_EDSR, texture_channels=4, texture_blocks=1),
    "conditioned edsr": lambda: conditioned(),
    "conditioned edsr, map": lambda: conditioned(),
    "conditioned autoencoder": lambda: ConditionedNetwork(OWN["autoencoder, kl"](), KNOB),
    "conditioned inpainter, map": lambda: ConditionedNetwork(OWN["inpainter"](), KNOB),
    "output interpolation": lambda: OutputInterpolation(conditioned()),
    "output interpolation, map": lambda: OutputInterpolation(conditioned()),
}
SPANDREL = {
    "Compact": (4, {"num_feat": 8, "num_conv": 2}),
    "ESRGAN": (4, {"num_filters": 8, "num_blocks": 2}),
    "SPAN": (4, {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16}),
    "PLKSR": (4, {"dim": 16, "n_blocks": 2}),
    "RealPLKSR": (4, {"dim": 16, "n_blocks": 2}),
    "SwiftSRGAN": (4, {"num_channels": 16, "num_blocks": 2}),
    "MoSR": (2, {"n_block": 1, "dim": 16}),
    "MoESR": (2, {"dim": 16, "n_blocks": 1, "n_block": 1, "upsample_dim": 16}),
    "RCAN": (2, {"n_resgroups": 1, "n_resblocks": 2, "n_feats": 16, "reduction": 4}),
    "SAFMN": (2, {"dim": 16, "n_blocks": 2}),
    "SAFMNBCIE": (1, {"dim": 16, "n_blocks": 2, "num_layers": 2}),
    "NAFNet": (1, {"width": 8, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}),
    "MixDehazeNet": (1, {"embed_dims": [8, 16, 32, 16, 8]}),
    "RetinexFormer": (1, {"n_feat": 8, "stage": 1}),
    "DITN": (2, {"dim": 16, "ITL_blocks": 1, "SAL_blocks": 1}),
    "UpCunet2x": (2, {}),
    "UpCunet2x_fast": (2, {}),
    "UpCunet3x": (3, {}),
    "OmniSR": (2, {"num_feat": 16, "up_scale": 2}),
    "SwinIR": (2, {**WINDOWS, "upsampler": "pixelshuffledirect"}),
    "Swin2SR": (2, {**WINDOWS, "upsampler": "pixelshuffledirect"}),
    "HAT": (2, {**WINDOWS, "num_feat": 16, "squeeze_factor": 4}),
    "KBNet_s": (1, {"width": 8, "middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}),
    "SeemoRe": (2, {"num_layers": 1, "embedding_dim": 16}),
    "FDAT": (2, {"embed_dim": 16, "num_groups": 1, "depth_per_group": 2, "num_heads": 2, "mid_dim": 16}),
    "DRCT": (2, {**WINDOWS, "upsampler": "pixelshuffle", "gc": 8}),
    "UpCunet4x": (4, {}),
    "HVICIDNet": (1, {"channels": [8, 8, 16, 32], "heads": [1, 2, 4, 8]}),
}


def conditioned() -> ConditionedNetwork:
    network = build_network("edsr", 2, **SMALL_EDSR)
    return ConditionedNetwork(network, KNOB)


def build(name: str) -> Network:
    torch.manual_seed(0)
    model = OWN[name]() if name in OWN else build_network(f"spandrel:{name}", SPANDREL[name][0], **SPANDREL[name][1])
    for weight in model.parameters():
        if not weight.detach().any():
            nn.init.normal_(weight, std=0.05)
    return model


def measure(name: str) -> dict[str, object]:
    started = time.perf_counter()
    row: dict[str, object] = {"network": name, "source": "lossmith" if name in OWN else "spandrel"}
    with tempfile.TemporaryDirectory() as folder:
        try:
            knob_input = "map" if name.endswith(", map") else "image"
            report = export_network(build(name), Path(folder) / "model.onnx", knob_input=knob_input)
        except ValueError as error:
            return {**row, "refused": str(error), "seconds": round(time.perf_counter() - started)}
    checked, metadata = report.verification, report.metadata
    row |= {"worst_absolute_error": checked.worst_error, "sizes": len(checked.sizes), "knobs": len(checked.places)}
    row |= {"batch": "free" if metadata["input"]["shape"][0] == "batch" else "1", "opset": metadata["opset"]}
    return {**row, "runtime": checked.runtime, "seconds": round(time.perf_counter() - started)}


def table(rows: list[dict[str, object]]) -> str:
    """Return the table of the docs."""
    lines = ["| network | worst absolute error | sizes x knob settings | batch |", "|---|---|---|---|"]
    for row in rows:
        if "refused" not in row:
            knobs = f"{row['sizes']} x {row['knobs']}" if row["knobs"] else str(row["sizes"])
            prefix = "spandrel:" if row["source"] == "spandrel" else ""
            lines.append(f"| {prefix}{row['network']} | {row['worst_absolute_error']:.1e} | {knobs} | {row['batch']} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*OWN, *SPANDREL], metavar="NAME", default=[*OWN, *SPANDREL])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"] if options.out.is_file() else []
    found = {row["network"]: row for row in rows}
    for name in options.only:
        found[name] = measure(name)
        print(json.dumps(found[name]), flush=True)
        ordered = [found[each] for each in (*OWN, *SPANDREL) if each in found]
        record = {"torch": torch.__version__.partition("+")[0], "rows": ordered}
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(ordered))


if __name__ == "__main__":
    main()
