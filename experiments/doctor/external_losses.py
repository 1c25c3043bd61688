"""Run the doctor on the losses of other installed libraries.

    python experiments/doctor/external_losses.py [--weights DIR]

DIR holds torchvision's VGG-16 and AlexNet, see docs/weights.md; without it the networks have random weights.
Writes result.json beside this file and the table in docs/doctor.md.
"""

import argparse
import json
import platform
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torchvision

from lossmith import External
from lossmith.doctor import check
from lossmith.pretrained.locate import find_weights

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "doctor.md"
LIBRARIES = ("piq", "lpips", "torchmetrics", "kornia", "pytorch-msssim", "focal-frequency-loss", "DISTS-pytorch")


def offline_builder(name: str, folder: str | None) -> Callable[..., torch.nn.Module]:
    """Return a builder of torchvision's network that downloads nothing."""
    build = getattr(torchvision.models, name)

    def build_offline(*args: object, **options: object) -> torch.nn.Module:
        torch.manual_seed(0)
        network = build(weights=None)
        if folder is not None:
            file = Path(folder) / f"{name}_torchvision_features.safetensors"
            network.features.load_state_dict(find_weights(name, str(file)).state)
        return network

    return build_offline


def list_losses() -> dict[str, tuple[Callable[[], Any], dict[str, Any]]]:
    """Return the builder and the options of each loss, by library and name."""
    import kornia.losses as kornia
    import lpips
    import piq
    import pytorch_msssim
    import torchmetrics.functional.image as tm
    from DISTS_pytorch import DISTS
    from focal_frequency_loss import FocalFrequencyLoss

    signed, large = {"data_range": (-1, 1)}, {"side": 176}

    def only_pred(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda x, y: function(x)

    def dists() -> torch.nn.Module:
        return DISTS(load_weights=(Path(sys.prefix) / "weights.pt").is_file())

    return {
        "piq SSIMLoss()": (lambda: piq.SSIMLoss(), {}),
        "piq MultiScaleSSIMLoss()": (lambda: piq.MultiScaleSSIMLoss(), large),
        "piq InformationWeightedSSIMLoss()": (lambda: piq.InformationWeightedSSIMLoss(), large),
        "piq VIFLoss()": (lambda: piq.VIFLoss(), {}),
        "piq FSIMLoss()": (lambda: piq.FSIMLoss(), {}),
        "piq SRSIMLoss()": (lambda: piq.SRSIMLoss(), large),
        "piq GMSDLoss()": (lambda: piq.GMSDLoss(), {}),
        "piq MultiScaleGMSDLoss()": (lambda: piq.MultiScaleGMSDLoss(), {}),
        "piq VSILoss()": (lambda: piq.VSILoss(), {}),
        "piq DSSLoss()": (lambda: piq.DSSLoss(), {}),
        "piq HaarPSILoss()": (lambda: piq.HaarPSILoss(), {}),
        "piq MDSILoss()": (lambda: piq.MDSILoss(), {}),
        "piq TVLoss()": (lambda: only_pred(piq.TVLoss()), {}),
        'piq ContentLoss(layers=["relu3_3"])': (lambda: piq.ContentLoss(), {}),
        'piq ContentLoss(layers=["conv3_3"])': (lambda: piq.ContentLoss(layers=["conv3_3"]), {}),
        "piq StyleLoss()": (lambda: piq.StyleLoss(), {}),
        "piq LPIPS()": (lambda: piq.LPIPS(), {}),
        "piq DISTS()": (lambda: piq.DISTS(), {}),
        'lpips LPIPS(net="alex")': (lambda: lpips.LPIPS(net="alex", verbose=False), signed),
        'lpips LPIPS(net="vgg")': (lambda: lpips.LPIPS(net="vgg", verbose=False), signed),
        "torchmetrics 1 - structural_similarity_index_measure": (
            lambda: lambda x, y: 1 - tm.structural_similarity_index_measure(x, y, data_range=1.0),
            {},
        ),
        "torchmetrics 1 - multiscale_structural_similarity_index_measure": (
            lambda: lambda x, y: 1 - tm.multiscale_structural_similarity_index_measure(x, y, data_range=1.0),
            large,
        ),
        "torchmetrics 1 - universal_image_quality_index": (
            lambda: lambda x, y: 1 - tm.universal_image_quality_index(x, y),
            {},
        ),
        "torchmetrics 1 - visual_information_fidelity": (
            lambda: lambda x, y: 1 - tm.visual_information_fidelity(x, y),
            {},
        ),
        "torchmetrics spectral_angle_mapper": (lambda: tm.spectral_angle_mapper, {}),
        "torchmetrics error_relative_global_dimensionless_synthesis": (
            lambda: tm.error_relative_global_dimensionless_synthesis,
            {},
        ),
        "torchmetrics total_variation": (lambda: only_pred(tm.total_variation), {}),
        'torchmetrics learned_perceptual_image_patch_similarity("alex")': (
            lambda: lambda x, y: tm.learned_perceptual_image_patch_similarity(x, y, net_type="alex"),
            signed,
        ),
        "kornia SSIMLoss(11)": (lambda: kornia.SSIMLoss(11), {}),
        "kornia MS_SSIMLoss()": (lambda: kornia.MS_SSIMLoss(), {}),
        "kornia PSNRLoss(1.0)": (lambda: kornia.PSNRLoss(1.0), {}),
        "kornia TotalVariation()": (lambda: only_pred(lambda x: kornia.TotalVariation()(x).sum()), {}),
        'kornia CharbonnierLoss("mean")': (lambda: kornia.CharbonnierLoss("mean"), {}),
        'kornia WelschLoss("mean")': (lambda: kornia.WelschLoss("mean"), {}),
        'kornia CauchyLoss("mean")': (lambda: kornia.CauchyLoss("mean"), {}),
        'kornia GemanMcclureLoss("mean")': (lambda: kornia.GemanMcclureLoss("mean"), {}),
        "pytorch-msssim 1 - ssim": (lambda: lambda x, y: 1 - pytorch_msssim.ssim(x, y, data_range=1.0), {}),
        "pytorch-msssim 1 - ms_ssim": (lambda: lambda x, y: 1 - pytorch_msssim.ms_ssim(x, y, data_range=1.0), large),
        "focal-frequency-loss FocalFrequencyLoss()": (lambda: FocalFrequencyLoss(), {}),
        "DISTS-pytorch DISTS()": (dists, {}),
        "DISTS-pytorch DISTS()(require_grad=True)": (lambda: partial(dists(), require_grad=True), {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="folder of torchvision's VGG-16 and AlexNet")
    folder = parser.parse_args().weights
    for name in ("vgg16", "alexnet"):
        setattr(torchvision.models, name, offline_builder(name, folder))  # before the libraries import the functions
    warnings.simplefilter("ignore")
    rows = []
    for name, (build, options) in list_losses().items():
        try:
            loss = External(build(), options.get("data_range", 1.0))
        except Exception as error:  # some libraries need files that may be missing
            print(f"{name} is skipped: {error}", file=sys.stderr)
            continue
        side = options.get("side", 64)
        report = check(loss, shape=(2, 3, side, side))
        rows.append({"loss": name, "side": side, "findings": report.as_dict()["findings"]})
        print(name, *report.findings, sep="\n    ", flush=True)
    versions = {name: version(name) for name in LIBRARIES}
    facts = {"versions": versions, "torch": torch.__version__, "python": platform.python_version()}
    facts["networks"] = "torchvision's weights" if folder else "untrained"
    (HERE / "result.json").write_text(json.dumps({**facts, "losses": rows}, indent=1) + "\n", encoding="utf-8")
    begin, end = "<!-- external_losses: begin -->\n", "<!-- external_losses: end -->"
    if PAGE.is_file() and begin in (page := PAGE.read_text(encoding="utf-8")):
        head, _, rest = page.partition(begin)
        table = format_table(rows) + "\n"
        PAGE.write_text(head + begin + table + end + rest.partition(end)[2], encoding="utf-8")


def format_table(rows: list[dict[str, Any]]) -> str:
    """Return the findings as a table with one row per loss."""
    lines = ["| loss | error | warning | note |", "|---|---|---|---|"]
    for row in rows:
        library, _, loss = row["loss"].partition(" ")
        messages: dict[str, list[str]] = {"error": [], "warning": [], "note": []}
        for finding in row["findings"]:
            messages[finding["severity"]].append(finding["message"].replace("|", "/"))
        lines.append(f"| {library} `{loss}` | {' '.join(messages['error'])} | {' '.join(messages['warning'])} | ")
        lines[-1] += f"{' '.join(messages['note'])} |"
    return "\n".join(lines)


if __name__ == "__main__":
    main()
