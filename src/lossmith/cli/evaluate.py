"""`lossmith evaluate`: what a network is worth on a folder of pictures."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["register"]

EPILOG = """Examples:

  lossmith evaluate runs/x4 --images Set5/

  lossmith evaluate bicubic --scale 4 --images Set5/ --json

  lossmith evaluate runs/shapes --captions shapes --guidance 1,2,3 --json"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("evaluate", epilog=EPILOG, rich_help_panel="Networks")(evaluate)


def evaluate(
    what: Annotated[
        str, typer.Argument(metavar="RUN|CHECKPOINT|bicubic", help="A run folder, a file of weights, or no network.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of large pictures, or one with HR/ and LRx4/ in it.")
    ] = None,
    captions: Annotated[
        str | None, typer.Option(help="For a network that makes pictures of texts: shapes, or captioned pictures.")
    ] = None,
    val: Annotated[
        str | None,
        typer.Option(help="For captions: those to judge by, if training had its own --val.", show_default=False),
    ] = None,
    guidance: Annotated[str, typer.Option(help="For captions: weights of guidance, such as 1,1.5,2,3,5.")] = "1,2,3",
    count: Annotated[int, typer.Option(min=8, help="For captions: how many pictures.")] = 96,
    steps: Annotated[int, typer.Option(min=1, help="For captions: steps of the sampling.")] = 25,
    judge: Annotated[
        Path | None, typer.Option(help="For captions: a file of a CaptionJudge, which then ranks 100 of each picture.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="For captions: euler, heun, ddim or dpm++.")] = "euler",
    seed: Annotated[int, typer.Option(min=0, help="For captions: which, and of what noise.")] = 0,
    scale: Annotated[
        int | None, typer.Option(min=2, max=4, help="By how much to enlarge \\[the checkpoint's; bicubic: 4].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: mean, pictures, protocol, skipped.")] = False,
    at: Annotated[
        list[str] | None, typer.Option(help="Where to turn a knob, as lossmith restore has it.", show_default=False)
    ] = None,
    mix_ends: Annotated[
        bool, typer.Option("--mix-ends", help="Turn it by mixing its answers at both ends, for twice the work.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
) -> None:
    """Score a network, or bicubic enlargement, on pictures: the mean and each one.

    PSNR and SSIM on Y, PSNR on RGB, LPIPS, DISTS and texture. Pictures are spoilt as the network was trained to mend
    them; in super-resolution a border of as many pixels as the scale is left out, as the papers do it.
    """
    if captions is not None:
        from lossmith.cli.evaluate_captions import evaluated

        evaluated(
            what,
            captions,
            guidance=guidance,
            count=count,
            steps=steps,
            sampler=sampler,
            seed=seed,
            as_json=as_json,
            device=device,
            judge=judge,
            val=val,
        )
        return
    if images is None:
        raise ValueError("evaluate wants --images FOLDER, or --captions for a network that makes pictures of texts.")
    import sys
    from contextlib import redirect_stdout
    from functools import partial

    from lossmith.cli.knob_options import mixed, turned
    from lossmith.cli.networks import chosen, device_of, task_in
    from lossmith.metrics import DEFAULT_METRICS, find_missing_metrics, describe_protocol
    from lossmith.tasks import Batch
    from lossmith.train.evaluation import evaluate_images as judging
    from lossmith.train.evaluation import mean_metrics

    model = None if what == "bicubic" else chosen(what, scale)
    task = task_in(what, model.scale if model else scale or 4)
    place = device_of(device)
    examples = task.evaluation_set(images)
    left_out = find_missing_metrics()
    which = [metric for metric in DEFAULT_METRICS if metric not in left_out]

    if model:
        model.to(place)
        model = mixed(model, what) if mix_ends else model
        with redirect_stdout(sys.stderr):  # where the slider stands; standard output is for the figures
            knobs = turned(model, at or [], what)
    elif at or mix_ends:
        raise ValueError(f"bicubic has no knob; leave {'--at' if at else '--mix-ends'} out.")

    def restore(batch: Batch) -> Any:
        return task.predict(partial(model, **knobs(batch["input"])), batch) if model else task.baseline_output(batch)

    judged = {
        row.name: row.metrics for row in judging(examples, restore, border=task.border, which=which, device=place)
    }
    record = {
        "what": what,
        "images": str(images),
        "task": task.name,
        "scale": task.scale,
        **({"at": at} if at else {}),
        **({"mix_ends": True} if mix_ends else {}),
        "n": len(judged),
        "mean": mean_metrics(list(judged.values())),
        "pictures": judged,
        "protocol": describe_protocol(task.border, which),
        "missing": left_out,
        "skipped": [file._asdict() for file in examples.skipped],
    }
    if as_json:
        print(json.dumps(finite(record), indent=2, allow_nan=False))
    else:
        show(record)


def finite(value: Any) -> Any:
    """The same with null for what JSON has no number for: the PSNR of equal pictures."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def show(record: dict[str, Any]) -> None:
    """Prints a table, and what was left out."""
    from rich.console import Console
    from rich.table import Table

    from lossmith.cli.tables import whole

    console = Console(highlight=False, soft_wrap=True)
    names = list(record["mean"])
    table = Table("picture", title=f"{record['what']}, x{record['scale']}, {record['images']}", title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for picture, figures in record["pictures"].items():
        table.add_row(picture, *(written(name, figures[name]) for name in names))
    table.add_section()
    table.add_row(f"mean of {record['n']}", *(written(name, record["mean"][name]) for name in names), style="bold")
    whole(console, table)
    for metric, why in record["missing"].items():
        console.print(f"Without {metric}. {why}", markup=False)
    for file in record["skipped"]:
        console.print(f"Skipped {file['file']}: {file['reason']}", markup=False)


def written(name: str, value: float) -> str:
    """A figure with the digits that mean something."""
    return f"{value:.{2 if name.startswith('psnr') else 4}f}"
