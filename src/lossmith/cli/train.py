"""`lossmith train`: one command per task."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lossmith._format import print_text
from lossmith._plugin_files import load_plugin
from lossmith.cli.cache import CacheOptions, cache_from_options
from lossmith.cli.config_file import use_config_file
from lossmith.cli.help_format import CommandApp
from lossmith.cli.task_commands import build_command, merge_options, task_group, task_settings
from lossmith.tasks import TASKS, task_options
from lossmith.tasks.options import option, option_annotations
from lossmith.train.settings import MACHINE, NETWORK, OPTIMIZER, RUN, Settings

__all__ = ["NetworkOptions", "network_arguments", "register"]

FILES = """Writes a run folder: settings, log.jsonl with every term, validation metrics, image sheets, TensorBoard,
checkpoints, the averaged weights (model.safetensors) and report.html. Ctrl-C saves a checkpoint."""
RESUME = "Rerun the command to resume after Ctrl-C or kill -9, or with larger --steps to continue."


def load_named_network(context: typer.Context, model: str | None) -> str | None:
    """Run the code that ``--model MODULE:CLASS`` names on the command line, and not in a file of options.

    Raises:
        ValueError: The code cannot be run.
    """
    from lossmith.models.spandrel_model import SPANDREL_PREFIX

    source = context.get_parameter_source("model")
    is_code = model and ":" in Path(model).name and not model.startswith(SPANDREL_PREFIX) and not Path(model).exists()
    if model and is_code and source is not None and source.name == "COMMANDLINE":
        load_plugin(model.rpartition(":")[0])
    return model


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The options from which :func:`network_arguments` derives the network."""

    model: Annotated[
        str | None,
        option(
            "Network name (lossmith models lists them), MODULE:CLASS of your own, or a checkpoint to fine-tune "
            "\\[the task's].",
            panel=NETWORK,
            callback=load_named_network,
        ),
    ] = None
    model_option: Annotated[
        list[str] | None, option("Argument of the network, name=value; may be repeated.", panel=NETWORK)
    ] = None
    init: Annotated[Path | None, option("Run or checkpoint whose weights initialize the network.", panel=NETWORK)] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of a training that are no settings, since a run may resume with other values of them."""

    out: Annotated[Path, option("Run folder; a run with the same settings resumes.", panel=RUN)]
    knob: Annotated[
        list[str] | None,
        option("Training range of a knob, such as lam=0.03:30 with --calibrate; may be repeated.", panel=RUN),
    ] = None
    optimizer_option: Annotated[
        list[str] | None,
        option('Argument of the optimizer, name=value, such as "betas=[0.9,0.99]"; may be repeated.', panel=OPTIMIZER),
    ] = None
    config: Annotated[
        Path | None,
        option(
            "File of options, run.toml or the config.json of a run; options of the command line replace its values.",
            panel=RUN,
            callback=use_config_file,
            is_eager=True,
        ),
    ] = None
    device: Annotated[str, option("auto, cpu, cuda, cuda:1 or mps.", panel=MACHINE, metavar="DEVICE")] = "auto"
    devices: Annotated[int, option("Number of processes, each with a device of its own.", panel=MACHINE, min=1)] = 1
    nodes: Annotated[
        int, option("Number of machines, each of which runs this command under torchrun or srun.", panel=MACHINE, min=1)
    ] = 1
    strategy: Annotated[
        Literal["auto", "ddp", "fsdp"],
        option("Copies of the network on all devices (auto, ddp), or shards of it (fsdp).", panel=MACHINE),
    ] = "auto"
    logger: Annotated[
        list[str] | None,
        option("Logger: tensorboard, wandb, trackio, mlflow or csv; may be repeated \\[tensorboard].", panel=RUN),
    ] = None
    workers: Annotated[
        int | None, option("Data-loading processes; docs/data.md \\[as many as fit].", panel=MACHINE, min=0)
    ] = None


def register(app: typer.Typer) -> None:
    """Add the commands, one per task."""
    tasks = CommandApp(cls=task_group(build_train_command), no_args_is_help=True, help="Train a network with a loss.")
    app.add_typer(tasks, name="train", rich_help_panel="Networks")


def build_train_command(name: str) -> Any:
    """Return the command that trains a network for a task."""
    own = task_options(name)
    lines = [f"  lossmith train {name} {words}" for words in own.examples]
    examples = ["Examples:" if len(lines) > 1 else "Example:", *lines] if lines else []
    sources = Settings, NetworkOptions, RunOptions, CacheOptions, own
    options = merge_options(*sources, execute=partial(run_training, name))
    return build_command(name, options, help=f"{own.help}\n\n{FILES}", epilog="\n\n".join([*examples, RESUME]))


def run_training(name: str, options: Any) -> None:
    """Train a network for a task with the options of its command."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only
    from rich.console import Console

    from lossmith.report import write_report
    from lossmith.train import train

    settings = settings_from_options(name, options)
    console = Console(highlight=False, soft_wrap=True)
    step = train(
        settings,
        options.out,
        console=console,
        device=options.device,
        devices=options.devices,
        nodes=options.nodes,
        strategy=options.strategy,
        loggers=options.logger or ["tensorboard"],
        workers=options.workers,
        cache=cache_from_options(options),
    )

    @rank_zero_only  # the first process owns the folder
    def report() -> None:
        print_text(console, f"Report: {write_report([options.out], options.out / 'report.html')}")
        if step < settings.steps:
            console.print(f"Stopped and saved at step {step} of {settings.steps}. Rerun the command to resume.")

    report()
    if step < settings.steps:
        raise KeyboardInterrupt


def settings_from_options(name: str, options: Any) -> Settings:
    """Return the settings that the options of a task's command stand for."""
    given: dict[str, Any] = {each: getattr(options, each) for each in option_annotations(Settings)}
    of_task = task_settings(name, options)
    given |= {"task": name, "knobs": dict(parse_knob(text) for text in options.knob or [])}
    given["optimizer_options"] = dict(
        parse_argument(text, "--optimizer-option") for text in options.optimizer_option or []
    )
    return Settings(**{**given, **of_task, "model": network_arguments(name, options, of_task.get("model", {}))})


def network_arguments(name: str, options: NetworkOptions, of_task: dict[str, Any]) -> dict[str, Any]:
    """Return the name of a network, or its file, and its arguments.

    Args:
        name: The name of the task.
        options: The options of the network.
        of_task: Arguments that the task decides; unused for a network that is named or loaded.
    """
    model = options.model
    if model and ".py:" in model:
        model = Path(model).name  # by which the plugin is known
    if options.init is not None:
        model = str(options.init / "model.safetensors" if options.init.is_dir() else options.init)
    given = dict(parse_argument(text) for text in options.model_option or [])
    return {"name": model or TASKS[name].default_model, **({} if model else of_task), **given}


def parse_knob(text: str) -> tuple[str, tuple[float, float]]:
    """Return a knob and its range from ``name=low:high``."""
    name, _, ends = text.partition("=")
    try:
        low, high = (float(end) for end in ends.split(":"))
    except ValueError:
        raise ValueError(f"--knob must be name=low:high, such as lam=0.03:30; got {text!r}.") from None
    return name, (low, high)


def parse_argument(text: str, flag: str = "--model-option") -> tuple[str, Any]:
    """Return an argument of a network or an optimizer from ``name=value``; the value is JSON, or a string."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise ValueError(f"{flag} must be name=value, such as channels=32; got {text!r}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
