"""`lossmith tune`: which weights, layers and learning rate to take, judged by pictures that the loss never saw."""

import inspect
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossmith.cli.train import DATA, MACHINE, RUN, STEP, argument, option, trained
from lossmith.train import Settings

if TYPE_CHECKING:
    from lossmith.tune.search import Search

__all__ = ["register"]

EPILOG = """Examples:

  lossmith tune "L1 + a*perceptual" --range a=0.03:30 --images photos/ --val held_out/ --steps 2000 --out studies/a

  lossmith tune "L1 + a*perceptual('vgg19', layer)" --range a=0.03:30 --choice layer=conv3_4,conv5_4 --lr 1e-4:1e-3
  --axes psnr_y,lpips_alex,dists --floor psnr_y=27 --images photos/ --val held_out/ --steps 2000 --workers 2 --out b

The same line again goes on where the study stands; given elsewhere, on the same folder and storage, it joins in."""

SEARCH = "The study"
OWN = {"loss", "images", "val", "out", "steps", "lr", "knob", "calibrate", "schedule", "val_every", "checkpoint_every"}
OWN |= {"devices", "workers"}  # options of `lossmith train` that a study sets itself, or means otherwise


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("tune", epilog=EPILOG, rich_help_panel="Networks")(command())


def command() -> Any:
    """The command: its own options, and those of `lossmith train` that it leaves as they are."""
    mine = list(inspect.signature(tuned).parameters.values())[:-1]
    theirs = [p for p in inspect.signature(trained).parameters.values() if p.kind is not p.POSITIONAL_ONLY]
    taken = [*mine, *(p for p in theirs if p.name not in OWN)]
    taken = sorted(taken, key=lambda parameter: parameter.default is not parameter.empty)

    def run(**given: Any) -> None:
        tuned(**given)

    run.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in taken])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in taken}
    run.__doc__ = tuned.__doc__
    return run


def tuned(
    loss: Annotated[str, typer.Argument(help='The formula, with free names: "L1 + a*perceptual + b*SSIM".')],
    images: Annotated[Path, option(DATA, "Folder of pictures to train on.")],
    val: Annotated[Path, option(DATA, "Folder of pictures to judge by; none may be trained on.")],
    steps: Annotated[int, option(SEARCH, "Optimiser steps of a whole trial.", min=1)],
    out: Annotated[Path, option(SEARCH, "The study's folder; if it holds this study, it goes on.")],
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", help="A free name's range, a=0.01:10; may be repeated.", rich_help_panel=SEARCH),
    ] = None,
    choice: Annotated[
        list[str] | None, option(SEARCH, "A free name's choices, layer=conv3_4,conv1_2+conv5_4; may be repeated.")
    ] = None,
    lr: Annotated[str, option(STEP, "Learning rate of AdamW, or its range, 1e-4:1e-3.")] = "5e-4",
    axes: Annotated[str, option(SEARCH, "Two or three figures to judge by.")] = "psnr_y,lpips_alex",
    trials: Annotated[int, option(SEARCH, "Trials in all; may grow.", min=1)] = 20,
    workers: Annotated[int, option(MACHINE, "Processes on this machine; one a GPU, taken in turn.", min=1)] = 1,
    storage: Annotated[
        str | None, option(MACHINE, "Where workers meet [OUT/study.db]: journal:FILE, or a database's URL.")
    ] = None,
    heartbeat: Annotated[int, option(MACHINE, "Seconds between a worker's signs of life.", min=1)] = 20,
    rungs: Annotated[str, option(SEARCH, "Parts of a trial after which it may be given up; 1 for none.")] = "1/3,1",
    floor: Annotated[
        list[str] | None, option(SEARCH, "A figure that a trial must not be worse than, psnr_y=27; may be repeated.")
    ] = None,
    grid: Annotated[int, option(SEARCH, "All combinations of so many steps of each range, instead.", min=0)] = 0,
    sampler: Annotated[str, option(SEARCH, "tpe, or nsga2 for hundreds of short trials.")] = "tpe",
    raw: Annotated[bool, option(SEARCH, "Weights as written, not in units of equal gradient norms.")] = False,
    schedule: Annotated[str, option(STEP, "Learning rate: constant, or cosine with --rungs 1.")] = "constant",
    checkpoint_every: Annotated[int, option(RUN, "Steps between checkpoints [a tenth of a trial].", min=0)] = 0,
    task: Annotated[str, option(RUN, "What is trained for.")] = "super-resolution",
    task_option: Annotated[list[str] | None, option(RUN, "An option of the task, name=value; may be repeated.")] = None,
    scale: Annotated[int, option(RUN, "By how much to enlarge: 2, 3 or 4.", min=1, max=4)] = 4,
    readers: Annotated[int | None, option(MACHINE, "Processes of a worker that read pictures.", min=0)] = None,
    **training: Any,
) -> None:
    """Find out which weights, layers and learning rate to take.

    Each trial is a training in a run folder of its own, judged on pictures that none is trained on. What comes out is a
    front: the trials that no other beats on all figures, and the knee of it. Workers may be killed at any moment.
    """
    from rich.console import Console

    from lossmith.report import page
    from lossmith.tune.findings import findings
    from lossmith.tune.study import tune
    from lossmith.tune.summary import summary
    from lossmith.tune.trial import Machine

    init, model = training.pop("init"), training.pop("model")
    weights = Path(model) if init is None else init / "model.safetensors" if init.is_dir() else init
    name = str(weights.resolve()) if init or weights.is_file() else model
    network = {"name": name, **dict(argument(text) for text in training.pop("model_option") or [])}
    settings = {name: value for name, value in training.items() if name in {f.name for f in fields(Settings)}}
    settings |= {"model": network, "task": task, "scale": scale, "schedule": schedule, "calibrate": not raw}
    settings |= {"checkpoint_every": checkpoint_every} if checkpoint_every else {}
    settings |= {"options": dict(argument(text) for text in task_option)} if task_option else {}
    search = asked(loss, images, val, steps, axes, ranges, choice, lr, rungs, floor, grid, sampler, settings)
    console = Console(highlight=False, soft_wrap=True)
    machine = Machine(training["accelerator"], 1, readers)
    meeting: dict[str, Any] = {"trials": trials, "workers": workers, "storage": storage, "heartbeat": heartbeat}
    try:
        tune(search, out, machine=machine, console=console, **meeting)
    finally:
        if (out / "marks.json").is_file():
            found = findings(out)
            found.export()
            summary(found, console)
            console.print(f"{out}: {page([out], out / 'report.html')}")


def asked(
    loss: str,
    images: Path,
    val: Path,
    steps: int,
    figures: str,
    ranges: list[str] | None,
    choices: list[str] | None,
    lr: str,
    rungs: str,
    floors: list[str] | None,
    grid: int,
    sampler: Any,
    training: dict[str, Any],
) -> "Search":
    """The study that these texts ask for."""
    from lossmith.tune.axes import axes, bounds
    from lossmith.tune.search import Search
    from lossmith.tune.space import choice, given, range_of

    space = given(ranges or [], "--range", range_of) | given(choices or [], "--choice", choice)
    if ":" in lr:
        space |= given([f"lr={lr}"], "--lr", range_of)
    try:
        training = training if ":" in lr else {**training, "lr": float(lr)}
        parts = tuple(float(Fraction(part)) for part in rungs.split(","))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"--lr wants a number or LOW:HIGH, --rungs such as 1/3,1; got {lr!r}, {rungs!r}.") from None
    judges = axes(figures)
    return Search(
        loss=loss,
        images=str(images.resolve()),
        val=str(val.resolve()),
        steps=steps,
        axes=judges,
        space=space,
        rungs=parts,
        floors=bounds(floors or [], judges, "--floor"),
        grid=grid,
        sampler=sampler,
        seed=training["seed"],
        training=training,
    )
