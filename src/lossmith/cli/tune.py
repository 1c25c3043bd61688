"""`lossmith tune`: which weights, layers and learning rate to take, judged by pictures that the loss never saw."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from lossmith.cli.tasks import COMMANDS
from lossmith.cli.train import DATA, MACHINE, RUN, STEP, argument, option, trained
from lossmith.train import Settings

__all__ = ["register"]

EPILOG = """Examples:

  lossmith tune super-resolution "L1 + a*perceptual" --range a=0.03:30 --images photos/ --val held_out/ --steps 2000
  --out studies/a

  lossmith tune denoising "L1 + a*perceptual('vgg19', layer)" --range a=0.03:30 --choice layer=conv3_4,conv5_4
  --lr 1e-4:1e-3 --axes psnr_y,lpips_alex,dists --floor psnr_y=27 --images photos/ --val held_out/ --steps 2000
  --workers 2 --out studies/b

The same line again goes on where the study stands; given elsewhere, on the same folder and storage, it joins in."""

SEARCH = "The study"
OWN = {"loss", "images", "val", "out", "steps", "lr", "knob", "calibrate", "schedule", "val_every", "checkpoint_every"}
OWN |= {"devices", "workers"}  # options of `lossmith train` that a study sets itself, or means otherwise


def register(app: typer.Typer) -> None:
    """Adds the commands, one a task, as those of `lossmith train`."""
    tasks = typer.Typer(no_args_is_help=True, help="Find out which weights, layers and learning rate to take.")
    for task, own in COMMANDS.items():
        tasks.command(task, epilog=EPILOG)(command(task, own))
    app.add_typer(tasks, name="tune", rich_help_panel="Networks")


def command(task: str, own: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """The command of a task: the study's options, the task's own, and those of `lossmith train` that stay as they are.

    Args:
        task: The task's name.
        own: A function of the task's own options that gives the settings they come to.
    """
    mine = inspect.signature(own).parameters
    study = [p for p in inspect.signature(tuned).parameters.values() if p.kind is p.KEYWORD_ONLY]
    common = [p for p in inspect.signature(trained).parameters.values() if p.kind is not p.POSITIONAL_ONLY]

    def run(**given: Any) -> None:
        of_task = own(**{name: given.pop(name) for name in mine})
        tuned({"task": task, **of_task}, **given)

    taken = [*mine.values(), *study, *(p for p in common if p.name not in OWN)]
    taken = sorted(taken, key=lambda parameter: parameter.default is not parameter.empty)
    run.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in taken])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in taken}
    run.__doc__ = tuned.__doc__
    return run


def tuned(
    of_task: dict[str, Any],
    /,
    *,
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
    checkpoint_every: Annotated[int, option(RUN, "Steps between checkpoints \\[a tenth of a trial].", min=0)] = 0,
    readers: Annotated[int | None, option(MACHINE, "Processes of a worker that read pictures.", min=0)] = None,
    **training: Any,
) -> None:
    """Find out which weights, layers and learning rate to take.

    Each trial is a training in a run folder of its own, judged on pictures that none is trained on. What comes out is a
    front: the trials that no other beats on all figures, and the knee of it. Workers may be killed at any moment.
    """
    from rich.console import Console

    from lossmith.tasks import TASKS
    from lossmith.tune.findings import findings
    from lossmith.tune.options import asked
    from lossmith.tune.report import study_page
    from lossmith.tune.study import tune
    from lossmith.tune.summary import summary
    from lossmith.tune.trial import Machine, alone

    init, model = training.pop("init"), training.pop("model") or TASKS[of_task["task"]].network
    weights = Path(model) if init is None else init / "model.safetensors" if init.is_dir() else init
    name = str(weights.resolve()) if init or weights.is_file() else model
    network = {"name": name, **dict(argument(text) for text in training.pop("model_option") or [])}
    settings = {name: value for name, value in training.items() if name in {f.name for f in fields(Settings)}}
    settings |= {"model": network, "schedule": schedule, "calibrate": not raw, **of_task}
    settings |= {"checkpoint_every": checkpoint_every} if checkpoint_every else {}
    search = asked(
        loss,
        images.resolve(),
        val.resolve(),
        steps=steps,
        figures=axes,
        ranges=ranges or [],
        choices=choice or [],
        lr=lr,
        rungs=rungs,
        floors=floor or [],
        grid=grid,
        sampler=sampler,
        training=settings,
    )
    console = Console(highlight=False, soft_wrap=True)
    machine = Machine(training["accelerator"], 1, readers)
    meeting: dict[str, Any] = {"trials": trials, "workers": workers, "storage": storage, "heartbeat": heartbeat}
    try:
        tune(search, out, machine=machine, console=console, **meeting)
    finally:
        if (out / "marks.json").is_file():
            with alone(out / "study"):  # workers end together, and one file is written by one at a time
                found = findings(out)
                found.export()
                written = study_page(out, out / "report.html")
            summary(found, console)
            console.print(f"{out}: {written}")
