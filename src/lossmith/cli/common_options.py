"""Options that several commands share."""

from typing import Annotated, Literal

import typer

__all__ = ["AsJson", "At", "Device", "Inputs", "InterpolateOutputs", "Metrics", "Scale", "WhichWeights"]

Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps or xpu.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Scale = Annotated[int | None, typer.Option(min=2, max=4, help="Upscaling factor \\[the checkpoint's; bicubic: 4].")]
At = Annotated[
    list[str] | None,
    typer.Option(
        help="Knob setting: 0.5 (slider), lam=0.7, psnr>=28, or map.png; may be repeated for further knobs.",
        show_default=False,
    ),
]
InterpolateOutputs = Annotated[
    bool,
    typer.Option(
        "--interpolate-outputs",
        help="Turn the knob by interpolating the outputs at both ends of its range, at twice the cost.",
    ),
]
WhichWeights = Annotated[
    Literal["best", "last"] | None,
    typer.Option("--weights", help="Weights of a run \\[best if it has a rule, --select; otherwise last]."),
]
Inputs = Annotated[
    str | None,
    typer.Option(help="Folder of the degraded images of --images, matched by name \\[degraded as in the training]."),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        help="Metrics, comma-separated or repeated: psnr_y, lpips_vgg, dists, swd, ...; docs/metrics.md lists them "
        "\\[psnr_y,psnr_rgb,ssim_y,lpips_alex,texture; of upscalers grid,grid_p90,colour too].",
        show_default=False,
    ),
]
