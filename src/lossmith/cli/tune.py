"""`lossmith tune`: a search for weights, layers and learning rate, by metrics that the loss does not contain."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossmith._format import print_text
from lossmith.cli.cache import CacheOptions, cache_from_options
from lossmith.cli.help_format import CommandApp
from lossmith.cli.task_commands import build_command, merge_options, task_group, task_settings
from lossmith.cli.train import NetworkOptions, network_arguments
from lossmith.tasks import task_options
from lossmith.tasks.options import option, option_annotations
from lossmith.train.settings import DATA, MACHINE, OPTIMIZER, RUN, Schedule, Settings

if TYPE_CHECKING:
    from rich.console import Console

    from lossmith.tune.search import Search

__all__ = ["register"]

HELP = """Search for weights, layers and learning rate.

Each trial is a training in a run folder of its own, evaluated on validation images. The result is the Pareto front,
the trials that no other trial surpasses in all metrics, and its knee point. Workers may be killed at any time."""

EPILOG = """Examples:

  lossmith tune super-resolution "L1 + a*perceptual" --range a=0.03:30 --images photos/ --val held_out/ --steps 2000
  --out studies/a

  lossmith tune denoising "L1 + a*perceptual('vgg19', layer)" --range a=0.03:30 --choice layer=conv3_4,conv5_4
  --lr 1e-4:1e-3 --objectives psnr_y,lpips_alex,dists --constraint psnr_y=27 --images photos/ --val held_out/
  --steps 2000 --workers 2 --out studies/b

  lossmith tune super-resolution "L1 + 0.5*Every(k)*perceptual('vgg16')" --choice k=1,2,4,8 --equal-cost --grid 1
  --images photos/ --val held_out/ --steps 2000 --out studies/c

Rerun the command to resume the study. The same command on another machine, with the same folder and storage, adds
workers to the study."""

SEARCH = "Search"


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The options of a study, which replace those of a single training."""

    loss: Annotated[str, typer.Argument(help='Formula with free names: "L1 + a*perceptual + b*SSIM".')]
    steps: Annotated[int, option("Optimizer steps of a complete trial.", panel=SEARCH, min=1)]
    out: Annotated[Path, option("Study folder; an existing study with the same settings resumes.", panel=SEARCH)]
    ranges: Annotated[
        list[str] | None, option("Range of a free name, a=0.01:10; may be repeated.", "--range", panel=SEARCH)
    ] = None
    choice: Annotated[
        list[str] | None,
        option("Choices of a free name, layer=conv3_4,conv1_2+conv5_4; may be repeated.", panel=SEARCH),
    ] = None
    objectives: Annotated[str, option("Two or three metrics to optimize.", panel=SEARCH)] = "psnr_y,lpips_alex"
    trials: Annotated[int, option("Number of trials; may grow when the study resumes.", panel=SEARCH, min=1)] = 20
    prune_at: Annotated[
        str, option("Fractions of a trial after which it may be pruned; 1 disables pruning.", panel=SEARCH)
    ] = "1/3,1"
    constraint: Annotated[
        list[str] | None,
        option("Bound of a metric that a trial must satisfy, psnr_y=27; may be repeated.", panel=SEARCH),
    ] = None
    grid: Annotated[
        int,
        option("Points per range of a grid search, which replaces the sampler; 0 disables it.", panel=SEARCH, min=0),
    ] = 0
    sampler: Annotated[str, option("Sampler: tpe, or nsga2 for hundreds of short trials.", panel=SEARCH)] = "tpe"
    equal_cost: Annotated[
        bool,
        option("Give trials with a cheaper step more steps, so that all cost the same operations.", panel=SEARCH),
    ] = False
    uncalibrated: Annotated[
        bool, option("Use weights as written, not scaled to equal gradient norms.", "--uncalibrated", panel=SEARCH)
    ] = False

    images: Annotated[str, option("Folder of training images, or shards (.tar, or a URL).", panel=DATA)]
    val: Annotated[str, option("Folder of validation images, or shards; none may be a training image.", panel=DATA)]
    range: Annotated[
        str | None, option("Range of the stored values, as --range of lossmith train.", "--data-range", panel=DATA)
    ] = None
    checkpoint_every: Annotated[int, option("Steps between checkpoints \\[a tenth of a trial].", panel=RUN, min=0)] = 0
    lr: Annotated[str, option("Learning rate of AdamW, or its range, 1e-4:1e-3.", panel=OPTIMIZER)] = "5e-4"
    schedule: Annotated[
        Schedule, option("Learning-rate schedule: constant, or cosine with --prune-at 1.", panel=OPTIMIZER)
    ] = "constant"
    device: Annotated[str, option("auto, cpu, cuda, cuda:1 or mps.", panel=MACHINE, metavar="DEVICE")] = "auto"
    workers: Annotated[
        int, option("Worker processes on this machine; accelerators are assigned in turn.", panel=MACHINE, min=1)
    ] = 1
    data_workers: Annotated[
        int | None, option("Data-loading processes of each worker \\[as many as fit].", panel=MACHINE, min=0)
    ] = None
    storage: Annotated[
        str | None,
        option("Storage of the trials: journal:FILE or a database URL \\[OUT/study.db].", panel=MACHINE),
    ] = None
    heartbeat: Annotated[int, option("Seconds between heartbeats of a worker.", panel=MACHINE, min=1)] = 20


def register(app: typer.Typer) -> None:
    """Add the commands, one per task."""
    tasks = CommandApp(
        cls=task_group(build_tune_command),
        no_args_is_help=True,
        help="Search for weights, layers and learning rate.",
    )
    app.add_typer(tasks, name="tune", rich_help_panel="Networks")


def build_tune_command(name: str) -> Any:
    """Return the command that tunes a loss for a task."""
    sources = Settings, NetworkOptions, CacheOptions, task_options(name), StudyOptions
    options = merge_options(*sources, without=("calibrate", "val_every", "metrics"), execute=partial(run_study, name))
    return build_command(name, options, help=HELP, epilog=EPILOG)


def run_study(name: str, options: Any) -> None:
    """Run or resume a study with the options of its command, and write its report."""
    from rich.console import Console

    from lossmith.tasks import TASKS
    from lossmith.tune.findings import has_findings
    from lossmith.tune.study import tune
    from lossmith.tune.trial import Hardware

    if TASKS[name].is_generative:
        raise ValueError(
            f"tune compares restored images with their originals, and {name} has samples: train one run per loss, and "
            "compare them with lossmith evaluate --captions and lossmith report."
        )
    search = build_search(name, options)
    console = Console(highlight=False, soft_wrap=True)
    try:
        tune(
            search,
            options.out,
            hardware=Hardware(options.device, options.data_workers, cache_from_options(options)),
            console=console,
            trials=options.trials,
            workers=options.workers,
            storage=options.storage,
            heartbeat=options.heartbeat,
        )
    finally:
        if has_findings(options.out):
            report_study(options.out, console)


def build_search(name: str, options: Any) -> "Search":
    """Return the search that the options of a task's command stand for."""
    from lossmith.data.shards.locate import absolute_source
    from lossmith.tune.options import search_from_options

    return search_from_options(
        options.loss,
        absolute_source(options.images),
        absolute_source(options.val),
        steps=options.steps,
        objectives=options.objectives,
        ranges=options.ranges or [],
        choices=options.choice or [],
        lr=options.lr,
        prune_at=options.prune_at,
        constraints=options.constraint or [],
        grid=options.grid,
        sampler=options.sampler,
        equal_cost=options.equal_cost,
        training=trial_settings(name, options),
    )


def trial_settings(name: str, options: Any) -> dict[str, Any]:
    """Return the settings that all trials of a study share."""
    of_trial = {"loss", "images", "val", "steps", "lr"}
    shared = option_annotations(Settings).keys() - of_trial - {"calibrate", "val_every", "metrics", "checkpoint_every"}
    of_task = task_settings(name, options)
    of_task["options"] = absolute_folders(of_task["options"], task_options(name).folders, options.out)
    model = network_arguments(name, options, of_task.get("model", {}))
    if options.init is not None or Path(model["name"]).is_file():
        model["name"] = str(Path(model["name"]).resolve())  # trials may run in another working folder
    settings: dict[str, Any] = {each: getattr(options, each) for each in shared}
    settings |= {"task": name, **of_task, "model": model, "calibrate": not options.uncalibrated}
    return settings | ({"checkpoint_every": options.checkpoint_every} if options.checkpoint_every else {})


def absolute_folders(of_task: dict[str, Any], folders: Sequence[str], study: Path) -> dict[str, Any]:
    """Return the options of a task with absolute folders, since workers may run in another working folder.

    Args:
        of_task: The options.
        folders: The names of those that are folders.
        study: The study's folder; a study that was started with relative folders keeps them.
    """
    from lossmith.tune.search import read_search

    with suppress(ValueError):  # a new study
        if read_search(study / "study.json").training.get("options") == of_task:
            return of_task
    return of_task | {name: str(Path(of_task[name]).resolve()) for name in folders if of_task.get(name)}


def report_study(folder: Path, console: "Console") -> None:
    """Write the findings and the report of a study, and print a summary."""
    from lossmith.tune.files import file_lock
    from lossmith.tune.findings import read_findings
    from lossmith.tune.report import write_study_report
    from lossmith.tune.summary import print_summary

    with file_lock(folder / "study"):  # workers may end at the same time
        findings = read_findings(folder)
        findings.export()
        report = write_study_report(folder, folder / "report.html")
    print_summary(findings, console)
    print_text(console, f"{folder}: {report}")
