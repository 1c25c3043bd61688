"""`lossmith evaluate --captions`: what a network that makes pictures of texts is worth."""

import json
from pathlib import Path
from typing import Any

__all__ = ["evaluated"]


def evaluated(
    what: str,
    captions: str,
    *,
    guidance: str,
    count: int,
    steps: int,
    sampler: str,
    seed: int,
    as_json: bool,
    device: str,
    judge: Path | None = None,
    val: str | None = None,
) -> None:
    """Prints the figures of a network on captions that it was not trained on, a part of its own or a set apart."""
    from lossmith.cli.networks import device_of
    from lossmith.cli.sample import prompted_in
    from lossmith.cli.validation_split import held_out
    from lossmith.text_to_image.evaluation import evaluate_captions
    from lossmith.text_to_image.metrics.caption_judge import CaptionJudge
    from lossmith.text_to_image.models.direct_decoder import DirectDecoder
    from lossmith.text_to_image.models.sampler import SamplerConfig
    from lossmith.train.folder import RunFolder

    try:
        weights = [float(each) for each in guidance.split(",")]
    except ValueError:
        raise ValueError(f"--guidance wants weights such as 1,2,3; got {guidance!r}.") from None
    prompted, ranks = prompted_in(Path(what)), None if judge is None else CaptionJudge.load(judge)
    share = prompted.facts.get("options", {}).get("share", 0.15)
    train, held, val, remarks = held_out(Path(what), captions, val, share=share, side=prompted.side)
    if isinstance(prompted.model, DirectDecoder) and len(weights) > 1:
        weights = [1.0]
        remarks = [*remarks, f"{what} draws in one pass, which no guidance changes: one row is all rows."]
    how = SamplerConfig(solver=sampler, steps=steps)  # type: ignore[arg-type]  # which checks it
    place = device_of(device)
    found = evaluate_captions(
        prompted, train, held, count=count, guidance=weights, sampler=how, seed=seed, device=place, judge=ranks
    )
    record = {
        "what": what,
        "captions_of": captions,
        "held": val,
        "remarks": remarks,
        "steps": steps,
        "sampler": sampler,
        "seed": seed,
        **found,
    }
    if Path(what).is_dir():
        RunFolder(what).write("captions.json", record)
    if as_json:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        show(record)


def show(record: dict[str, Any]) -> None:
    """Prints tables."""
    from rich.console import Console
    from rich.table import Table

    from lossmith.cli.tables import whole

    console = Console(highlight=False, soft_wrap=True)
    names = list(record.get("chance", {}))
    place = record["held"] or record["captions_of"]
    title = f"{record['what']}, {record['n']} pictures of {record['captions']} held-out captions of {place}"
    columns = ["guidance", *names, "KID", "diversity", "train/held", "copies"]
    table = Table(*columns, title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for row in record["guidance"]:
        figures = [f"{row[name]:.3f}" for name in names]
        figures += [f"{row['kid']['value']:.4f}", f"{row['diversity']['vendi']:.2f}"]
        figures += [f"{row['memorisation'][name]:.3f}" for name in ("ratio", "copies")]
        table.add_row(f"{row['guidance']:g}", *figures)
    table.add_section()
    for line in ("ceiling", "chance"):
        if line in record:
            table.add_row(line, *(f"{record[line].get(name, float('nan')):.3f}" for name in names), "", "", "", "")
    table.add_row("real", *("" for _ in names), f"{record['floor']['value']:.4f}", "", "", "")
    whole(console, table)
    console.print(
        "train/held: distance to the nearest picture that was trained on, over that to the nearest that was not; "
        "copies: the share that lies as near to one as the nearest hundredth of these lie to each other."
    )
    for remark in record["remarks"]:
        console.print(remark, markup=False)
    if "denoising" in record:
        pairs = zip(record["denoising"]["logsnr"], record["denoising"]["error"], strict=True)
        console.print(
            "Error by log-SNR: " + ", ".join(f"{low:g}..{high:g} {error:.4f}" for (low, high), error in pairs)
        )
