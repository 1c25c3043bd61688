"""`lossmith sample`: images of a text prompt."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossmith._checks import MAX_SEED
from lossmith.cli.common_options import Device
from lossmith.cli.options_command import OptionsCommand

if TYPE_CHECKING:
    from torch import Tensor

    from lossmith.text_to_image.pipeline import TextToImagePipeline

__all__ = ["SampleOptions", "load_pipeline", "register"]

EPILOG = """Examples:

  lossmith sample runs/shapes "a small red star on the left" --guidance 3 --grid 4x4 --out red.png

  lossmith sample runs/base "a fox" "a boat" --upscale runs/later --steps 40 --sampler heun

  lossmith sample runs/base "a fox" --upscale runs/x4"""

HELP = """Sample images of text prompts from a trained network; the same seed gives the same image.

With several prompts the images of the first prompt come first. An empty prompt samples unconditionally."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sample", cls=OptionsCommand, help=HELP, epilog=EPILOG, rich_help_panel="Networks")(SampleOptions)


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The options of ``lossmith sample``."""

    network: Annotated[
        Path, typer.Argument(metavar="RUN|FILE", help="Run of lossmith train text-to-image, or its weights.")
    ]
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="One or more prompts.")]
    out: Annotated[Path, typer.Option(help="Image to write, a grid of several images.")] = Path("sample.png")
    grid: Annotated[str | None, typer.Option(help="Rows x columns \\[a row of 4 for each prompt].")] = None
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="Random seed of the first image; each further image adds 1.")
    ] = 0
    guidance: Annotated[float, typer.Option(min=0, help="Weight of classifier-free guidance; 1 disables guidance.")] = (
        2.0
    )
    guidance_interval: Annotated[str, typer.Option(help="Times with guidance, from 0 (image) to 1 (noise).")] = "0:1"
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Sampling steps.")] = 25
    sampler: Annotated[str, typer.Option(help="Sampler: euler, heun, ddim or dpm++.")] = "euler"
    threshold: Annotated[
        float, typer.Option(help="Quantile of dynamic thresholding, the values kept in [0, 1]; 1 disables it.")
    ] = 0.995
    threshold_max: Annotated[float, typer.Option(help="Maximum divisor of dynamic thresholding.")] = 2.0
    upscale: Annotated[
        Path | None,
        typer.Option(help="Network of a super-resolution stage: a run with --scale or of super-resolution, or a file."),
    ] = None
    noise_augmentation: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Noise level of the inputs of a diffusion stage of --upscale \\[0.2]."),
    ] = None
    zoom: Annotated[
        int, typer.Option(min=1, max=16, help="Integer magnification of the output, by repeated pixels.")
    ] = 1
    device: Device = "auto"

    def execute(self) -> None:
        """Sample the images, and write them to a file."""
        from lossmith.image import to_pil
        from lossmith.inference.output_images import check_output_file, write_image
        from lossmith.text_to_image.pipeline import make_image_grid

        check_output_file(self.out, [])
        if self.noise_augmentation is not None and self.upscale is None:
            raise ValueError("--noise-augmentation needs a super-resolution stage; add --upscale, or omit the option.")
        rows, columns = parse_grid(self.grid, len(self.prompts))
        images = self.sample(rows * columns)
        zoomed = images.repeat_interleave(self.zoom, dim=2).repeat_interleave(self.zoom, dim=3)
        write_image(to_pil(make_image_grid(zoomed, columns)), self.out)
        last = self.seed + len(images) - 1
        print(f"{self.out}: {len(images)} images of {images.shape[-1]} px, seeds {self.seed} to {last}")

    def sample(self, count: int) -> "Tensor":
        """Return images (N, 3, S, S) of the prompts, equally many for each, upscaled by a second network if given."""
        from lossmith.device import resolve_device
        from lossmith.inference.networks import find_weights_file
        from lossmith.inference.output_images import check_finite_output
        from lossmith.text_to_image.models.sampler import SamplerConfig
        from lossmith.text_to_image.pipeline import load_upscaler

        config = SamplerConfig(
            solver=self.sampler,  # type: ignore[arg-type]  # checked by the class
            steps=self.steps,
            guidance_scale=self.guidance,
            guidance_interval=parse_interval(self.guidance_interval),
            threshold_quantile=self.threshold,
            threshold_max=self.threshold_max,
        )
        pipeline, device = load_pipeline(self.network), resolve_device(self.device)
        upscaler = None if self.upscale is None else load_upscaler(find_weights_file(self.upscale))
        prompts = [self.prompts[k * len(self.prompts) // count] for k in range(count)]
        seeds = range(self.seed, self.seed + count)
        images = pipeline.generate(prompts, seeds, config, device=device)
        if upscaler is not None:
            images = upscaler.upscale(
                images, prompts, seeds, config, noise_level=self.noise_augmentation, device=device
            )
        for image, prompt, seed in zip(images, prompts, seeds, strict=True):
            check_finite_output(image, f"{prompt}, seed {seed}")
        return images


def parse_interval(text: str) -> tuple[float, float]:
    """Return the two times of --guidance-interval."""
    from lossmith.tasks.options import parse_number_or_range

    ends = parse_number_or_range("--guidance-interval", text)
    if isinstance(ends, float):
        raise ValueError(f"--guidance-interval must be two times, such as 0.1:0.9; got {text!r}.")
    return ends[0], ends[1]


def parse_grid(text: str | None, prompts: int) -> tuple[int, int]:
    """Return the rows and columns of --grid.

    Raises:
        ValueError: The grid is invalid, or has fewer cells than there are prompts.
    """
    if text is None:
        return prompts, 4
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and 0 < int(rows) * int(columns) <= 1024):
        raise ValueError(f"--grid must be rows x columns, such as 4x4, with at most 1024 images; got {text!r}.")
    if int(rows) * int(columns) < prompts:
        raise ValueError(f"--grid must have a cell for each of the {prompts} prompts; got {text}.")
    return int(rows), int(columns)


def load_pipeline(network: Path) -> "TextToImagePipeline":
    """Return the text-to-image pipeline of a run or of a file of weights.

    Raises:
        ValueError: The file is not a text-to-image network.
    """
    from lossmith.inference.networks import find_weights_file
    from lossmith.text_to_image.pipeline import TextToImagePipeline

    return TextToImagePipeline.from_file(find_weights_file(network))
