"""`lossmith train`: one command a task."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from lossmith.cli.examples import examples
from lossmith.cli.tasks import COMMANDS, SAID, STANDS_FOR, USUAL
from lossmith.train import Settings

__all__ = ["register"]

WRITES = """It writes a run folder: settings, log.jsonl with every term, validations, picture sheets, TensorBoard, \
checkpoints, the averaged weights (model.safetensors) and report.html. Ctrl-C saves."""

D: dict[str, Any] = {f.name: f.default for f in fields(Settings) if f.default is not MISSING}
RUN, DATA, MODEL, STEP, MACHINE = "The run", "Pictures", "Network", "Optimiser", "Machine"


def option(panel: str, text: str, **limits: Any) -> Any:
    """An option of a panel."""
    return typer.Option(help=text, rich_help_panel=panel, **limits)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    tasks = typer.Typer(no_args_is_help=True, help="Train a network on a loss that is written as a formula.")
    for task, own in COMMANDS.items():
        tasks.command(task, epilog=examples(task))(command(task, own))
    app.add_typer(tasks, name="train", rich_help_panel="Networks")


def command(task: str, own: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """The command of a task, which takes the options of its own and those that all tasks have.

    Args:
        task: The task's name.
        own: A function of the task's own options that gives the settings they come to; its docstring is the help's
            first line.
    """
    mine, usual, stands_for = inspect.signature(own).parameters, USUAL.get(task, {}), STANDS_FOR.get(task, {})
    shared = [p for p in inspect.signature(trained).parameters.values() if p.kind is not p.POSITIONAL_ONLY]
    common = [
        p.replace(default=usual.get(p.name, p.default), annotation=SAID.get(task, {}).get(p.name, p.annotation))
        for p in shared
        if p.name not in stands_for
    ]

    def run(**given: Any) -> None:
        asked = {name: given.pop(name) for name in mine}
        trained(task, own(**asked), **given, **{name: asked[by] for name, by in stands_for.items()})

    taken = sorted([*mine.values(), *common], key=lambda parameter: parameter.default is not parameter.empty)
    run.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in taken])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in taken}
    run.__doc__ = f"{own.__doc__}\n\n{WRITES}"
    return run


def trained(
    task: str,
    of_task: dict[str, Any],
    /,
    images: Annotated[str, option(DATA, "Folder of pictures to train on; broken files are skipped and listed.")],
    loss: Annotated[str, option(RUN, 'The formula, such as "L1 + 0.1*perceptual"; see lossmith explain.')],
    steps: Annotated[int, option(RUN, "Optimiser steps of the whole run.", min=1)],
    out: Annotated[Path, option(RUN, "The run's folder; if it holds this run, the run goes on.")],
    knob: Annotated[
        list[str] | None, option(RUN, "The range of an open weight, lam=0.03:30: trains all of it; may be repeated.")
    ] = None,
    balance: Annotated[
        str | None, option(RUN, "What keeps the weights in proportion: share, uncertainty, gradnorm, adaptive, ...")
    ] = None,
    calibrate: Annotated[bool, option(RUN, "Weights in units of equal gradient norms, measured at the start.")] = False,
    seed: Annotated[int, option(RUN, "Of the weights, the crops and their order.", min=0)] = D["seed"],
    val: Annotated[str | None, option(DATA, "Folder of pictures to judge by; without it, some are held out.")] = None,
    val_count: Annotated[int, option(DATA, "Pictures in a validation, at most.", min=1)] = D["val_count"],
    batch: Annotated[int, option(DATA, "Pictures in a pass, over all devices.", min=1)] = D["batch"],
    crop: Annotated[int, option(DATA, "Side of a crop of the large picture, px.", min=8)] = D["crop"],
    model: Annotated[
        str | None, option(MODEL, "A network's name, see lossmith models, or a checkpoint to fine-tune \\[the task's].")
    ] = None,
    model_option: Annotated[
        list[str] | None, option(MODEL, "An argument of the network, name=value; may be repeated.")
    ] = None,
    init: Annotated[Path | None, option(MODEL, "A run or checkpoint whose weights to begin with.")] = None,
    lr: Annotated[float, option(STEP, "Learning rate of AdamW at its highest.", min=0)] = D["lr"],
    schedule: Annotated[str, option(STEP, "Learning rate: cosine or constant.")] = D["schedule"],
    warmup: Annotated[int, option(STEP, "Steps over which it rises.", min=0)] = D["warmup"],
    weight_decay: Annotated[float, option(STEP, "AdamW's weight decay; 0 is Adam.", min=0)] = D["weight_decay"],
    clip: Annotated[float, option(STEP, "Largest norm of the gradient; 0 for any.", min=0)] = D["clip"],
    accumulate: Annotated[int, option(STEP, "Passes in a step.", min=1)] = D["accumulate"],
    ema: Annotated[float, option(STEP, "Decay of the averaged weights; 0 for none.", min=0)] = D["ema"],
    log_every: Annotated[int, option(RUN, "Steps between log lines.", min=1)] = D["log_every"],
    val_every: Annotated[int, option(RUN, "Steps between validations.", min=1)] = D["val_every"],
    checkpoint_every: Annotated[int, option(RUN, "Steps between checkpoints.", min=1)] = D["checkpoint_every"],
    precision: Annotated[str, option(MACHINE, "32, bf16-mixed or 16-mixed.")] = D["precision"],
    accelerator: Annotated[str, option(MACHINE, "auto, cpu, gpu, ... as Lightning names them.")] = "auto",
    devices: Annotated[str, option(MACHINE, "How many devices, or auto.")] = "1",
    workers: Annotated[
        int | None, option(MACHINE, "Processes that read pictures [4 beside a GPU, else 0].", min=0)
    ] = None,
) -> None:
    """Trains as a command line asks: its task, what the task's own options came to, and the options that all have."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only
    from rich.console import Console

    from lossmith.report import page
    from lossmith.tasks import TASKS
    from lossmith.train import train

    if init is not None:
        model = str(init / "model.safetensors" if init.is_dir() else init)
    usual = {} if model else of_task.get("model", {})
    network = {"name": model or TASKS[task].network, **usual, **dict(argument(text) for text in model_option or [])}
    given = {name: value for name, value in locals().items() if name in {f.name for f in fields(Settings)}}
    given |= {"task": task, "knobs": dict(ranged(text) for text in knob or []), **of_task, "model": network}
    settings = Settings(**given)
    console = Console(highlight=False, soft_wrap=True)
    reached = train(settings, out, console=console, accelerator=accelerator, devices=devices, workers=workers)

    @rank_zero_only  # of several processes the first has the folder
    def told() -> None:
        console.print(f"{out}: {page([out], out / 'report.html')}")
        if reached < steps:
            console.print(f"Stopped and saved at step {reached} of {steps}; the same command goes on from there.")

    told()


def ranged(text: str) -> tuple[str, tuple[float, float]]:
    """A knob and its range from name=low:high."""
    name, _, ends = text.partition("=")
    try:
        low, high = (float(end) for end in ends.split(":"))
    except ValueError:
        raise ValueError(f"--knob wants name=low:high, such as lam=0.03:30; got {text!r}.") from None
    return name, (low, high)


def argument(text: str) -> tuple[str, Any]:
    """A network's argument from name=value, the value as JSON has it, or text."""
    import json

    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise ValueError(f"--model-option wants name=value, such as channels=32; got {text!r}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
