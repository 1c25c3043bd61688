"""`lossmith sample`: pictures of a text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lossmith.text_to_image.pipeline import TextToImagePipeline

__all__ = ["prompted_in", "register"]

EPILOG = """Examples:

  lossmith sample runs/shapes "a small red star on the left" --guidance 3 --grid 4x4 --out red.png

  lossmith sample runs/base "a fox" "a boat" --upscale runs/later --steps 40 --sampler heun

  lossmith sample runs/base "a fox" --upscale runs/x4"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("sample", epilog=EPILOG, rich_help_panel="Networks")(sample)


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run of train text-to-image, or its weights.")],
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What shall be seen; one or more.")],
    out: Annotated[Path, typer.Option(help="The picture to write, a sheet if there are several.")] = Path("sample.png"),
    grid: Annotated[str | None, typer.Option(help="Rows x columns \\[a row of 4 for each prompt].")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture's noise; the next one's is one more.")] = 0,
    guidance: Annotated[float, typer.Option(min=0, help="How much the text is exaggerated; 1 is not at all.")] = 2.0,
    interval: Annotated[str, typer.Option(help="Between which times it acts, 0 (picture) to 1 (noise).")] = "0:1",
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Steps from noise to picture.")] = 25,
    sampler: Annotated[str, typer.Option(help="euler, heun, ddim or dpm++.")] = "euler",
    threshold: Annotated[float, typer.Option(help="Part of the values kept within [0, 1]; 1 leaves all.")] = 0.995,
    cap: Annotated[float, typer.Option(help="How far larger ones are followed before they are cut.")] = 2.0,
    upscale: Annotated[
        Path | None, typer.Option(help="A later stage: a run with --scale, or of train super-resolution; or a file.")
    ] = None,
    spoilt: Annotated[
        float | None, typer.Option(min=0, max=1, help="Noise on what a later stage sees that is a diffusion [0.2].")
    ] = None,
    zoom: Annotated[int, typer.Option(min=1, max=16, help="How often each pixel is repeated, to see small ones.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
) -> None:
    """Make pictures of prompts with a trained network; the same seed gives the same picture.

    With several prompts the pictures of the first come first. An empty prompt asks for any picture.
    """
    from lossmith.cli.networks import device_of, file_of
    from lossmith.cli.restore import WRITES, write
    from lossmith.tasks.options import parse_number_or_range
    from lossmith.image import to_pil
    from lossmith.text_to_image.pipeline import load_upscaler
    from lossmith.text_to_image.models.sampler import SamplerConfig
    from lossmith.text_to_image.sample_callback import make_grid as laid_out

    if out.suffix.lower() not in WRITES:
        raise ValueError(f"--out wants a name that ends in one of {', '.join(WRITES)}; got {str(out)!r}.")
    between = parse_number_or_range("--interval", interval)
    if isinstance(between, float):
        raise ValueError(f"--interval wants two times, such as 0.1:0.9; got {interval!r}.")
    how = SamplerConfig(
        solver=sampler,  # type: ignore[arg-type]  # which checks it
        steps=steps,
        guidance=guidance,
        interval=(between[0], between[1]),
        threshold=threshold,
        cap=cap,
    )
    if spoilt is not None and upscale is None:
        raise ValueError("--spoilt is the noise on what a later stage sees; give one with --upscale, or leave it out.")
    rows, columns = shaped(grid, len(prompts))
    place, first = device_of(device), prompted_in(run)
    later = None if upscale is None else load_upscaler(file_of(upscale))
    count = rows * columns
    texts = [prompts[k * len(prompts) // count] for k in range(count)]
    seeds = range(seed, seed + count)
    made = first.make(texts, seeds, how, device=place)
    if later is not None:
        made = later.enlarge(made, texts, seeds, how, spoilt=spoilt, device=place)
    shown = made.repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    write(to_pil(laid_out(shown, columns)), out)
    print(f"{out}: {count} pictures of {made.shape[-1]} px, seeds {seed} to {seed + count - 1}")


def shaped(grid: str | None, prompts: int) -> tuple[int, int]:
    """The rows and columns of a sheet.

    Raises:
        ValueError: It is no such shape, or has no room for all prompts.
    """
    if grid is None:
        return prompts, 4
    rows, _, columns = grid.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and 0 < int(rows) * int(columns) <= 1024):
        raise ValueError(f"--grid wants rows x columns, such as 4x4, of at most 1024 pictures; got {grid!r}.")
    if int(rows) * int(columns) < prompts:
        raise ValueError(f"A grid of {grid} has no room for {prompts} prompts; take a larger one.")
    return int(rows), int(columns)


def prompted_in(what: Path) -> "Prompted":
    """The network that makes pictures of texts in a run or a file.

    Raises:
        ValueError: There is none.
    """
    from lossmith.cli.networks import file_of
    from lossmith.text_to_image.pipeline import TextToImagePipeline

    return TextToImagePipeline.of(file_of(what))
