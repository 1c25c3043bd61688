"""`lossmith evaluate --captions`: the metrics of a text-to-image network on held-out captions."""

from pathlib import Path
from typing import Any

from lossmith._format import print_table, print_text

__all__ = ["evaluate_on_captions", "print_caption_metrics"]


def evaluate_on_captions(
    network: str,
    captions: str,
    *,
    guidance: str,
    count: int,
    steps: int,
    sampler: str,
    seed: int,
    device: str,
    judge: Path | None = None,
    val: str | None = None,
) -> dict[str, Any]:
    """Return the metrics of a network on captions that were held out from its training, or on a separate set.

    A run folder also keeps the metrics, as captions.json.
    """
    from lossmith.cli.sample import load_pipeline
    from lossmith.device import resolve_device
    from lossmith.text_to_image.metrics.caption_judge import CaptionJudge
    from lossmith.text_to_image.models.sampler import SamplerConfig
    from lossmith.text_to_image.run_evaluation import evaluate_run

    return evaluate_run(
        Path(network),
        load_pipeline(Path(network)),
        captions,
        val,
        guidance=parse_guidance(guidance),
        config=SamplerConfig(solver=sampler, steps=steps),  # type: ignore[arg-type]  # checked by the class
        count=count,
        seed=seed,
        device=resolve_device(device),
        judge=None if judge is None else CaptionJudge.load(judge),
    )


def parse_guidance(text: str) -> list[float]:
    """Return the guidance weights of a comma-separated list."""
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise ValueError(f"--guidance must be weights such as 1,2,3; got {text!r}.") from None


def print_caption_metrics(record: dict[str, Any]) -> None:
    """Print a table with one row per guidance weight, and the remarks."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    names = list(record.get("chance", {}))
    source = record["val_source"] or record["captions_source"]
    title = f"{record['what']}, {record['n']} samples of {record['captions']} held-out captions of {source}"
    columns = ["guidance", *names, "KID", "diversity", "train/held", "copies"]
    table = Table(*columns, title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for row in record["guidance"]:
        cells = [f"{row[name]:.3f}" for name in names]
        cells += [f"{row['kid']['value']:.4f}", f"{row['diversity']['vendi']:.2f}"]
        cells += [f"{row['memorisation'][name]:.3f}" for name in ("ratio", "copies")]
        table.add_row(f"{row['guidance']:g}", *cells)
    table.add_section()
    for line in ("ceiling", "chance"):
        if line in record:
            table.add_row(line, *(f"{record[line].get(name, float('nan')):.3f}" for name in names), "", "", "", "")
    table.add_row("real", *("" for _ in names), f"{record['floor']['value']:.4f}", "", "", "")
    print_table(console, table)
    console.print(
        "train/held: distance to the nearest training image over the distance to the nearest held-out image; copies: "
        "fraction of samples as near to a training image as the nearest 1 % of training images are to each other."
    )
    for remark in record["remarks"]:
        print_text(console, remark)
    if "denoising" in record:
        pairs = zip(record["denoising"]["logsnr"], record["denoising"]["error"], strict=True)
        errors = ", ".join(f"{low:g}..{high:g} {error:.4f}" for (low, high), error in pairs)
        console.print(f"Error by log-SNR: {errors}")
