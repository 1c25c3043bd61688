"""The command that trains with a recipe of another trainer."""

from collections.abc import Mapping
from typing import Any

from lossmith.importer.networks import format_literal_option, network_words
from lossmith.importer.recipe import ImportedRecipe, LeftOut, Section
from lossmith.importer.setup import TrainingSetup
from lossmith.train.settings import OPTIMIZERS

__all__ = ["add_command"]


def add_command(recipe: ImportedRecipe, setup: TrainingSetup, images: str | None) -> None:
    """Add to a recipe the words of the command that trains with it, and what it cannot express.

    Args:
        recipe: The recipe, with its loss.
        setup: Its settings.
        images: A folder of images, in place of the one in the configuration.
    """
    notes = recipe.notes
    if setup.is_video:
        notes.append("The network is trained there on image sequences; here on single images.")
    task = _task_words(setup, images, notes)
    if not task:
        return
    words = ["train", *task, "--loss", repr(recipe.loss), "--steps", str(setup.steps)]
    words += network_words(setup, recipe.framework, notes)
    if setup.crop >= 8 and setup.crop % setup.scale == 0:
        words += ["--crop", str(setup.crop)]
    if setup.batch > 0:
        words += ["--batch", str(setup.batch)]
    words += _optimizer_words(setup, notes)
    if setup.channels == 1:
        words += ["--channels", "1"]
    recipe.command = [*words, "--out", "runs/imported"]


def _task_words(setup: TrainingSetup, images: str | None, notes: list[str]) -> list[str]:
    """Return the task with its data; an empty list if no task fits."""
    folder = images or _folder(setup.data, ("dataroot_gt", "dataroot_H"), notes) or "IMAGES"
    inputs = _folder(setup.data, ("dataroot_lq", "dataroot_L"), notes)
    if setup.scale not in (1, 2, 3, 4):
        notes.append(f"The scale {setup.scale} is not available; scales are 1, 2, 3 and 4.")
        return []
    kind = setup.dataset
    if kind in ("dncnn", "dnpatch", "fdncnn", "ffdnet", "drunet"):
        return ["denoising", "--images", folder, "--sigma", _level(setup.data.get("sigma"), 25)]
    if kind == "jpeg":
        return ["jpeg", "--images", folder, "--quality", _level(setup.data.get("quality_factor"), 40)]
    if kind in ("realesrgandataset", "blindsr", "otf", "realesrganpaireddataset") or kind.startswith("otf"):
        if setup.scale == 1 or inputs is not None:
            return ["paired", "--images", folder, "--inputs", inputs or "INPUTS", "--scale", str(setup.scale)]
        notes.append("The degradation is lossmith's blind one, Real-ESRGAN's with its published ranges.")
        return ["super-resolution", "--images", folder, "--degradation", "blind", "--scale", str(setup.scale)]
    if inputs is not None or setup.scale == 1:
        return ["paired", "--images", folder, "--inputs", inputs or "INPUTS", "--scale", str(setup.scale)]
    return ["super-resolution", "--images", folder, "--scale", str(setup.scale)]


def _level(value: Any, default: int) -> str:
    """Return a number, or the two ends of a range, as the value of an option."""
    numbers = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, int | float)]
    numbers = [each for each in numbers if 0 <= each <= 1000] or [default]
    return ":".join(f"{each:g}" for each in numbers[:2])


def _folder(data: Mapping[str, Any], keys: tuple[str, ...], notes: list[str]) -> str | None:
    """Return a folder of a dataset, the first if there are several."""
    for key in keys:
        value = data.get(key)
        if isinstance(value, list) and value:
            if len(value) > 1:
                notes.append(f"{key} names {len(value)} folders; the command has the first.")
            value = value[0]
        if isinstance(value, str) and value.strip().startswith("-"):
            notes.append(f"{key} begins with a dash and is left out of the command.")  # it would be another option
        elif isinstance(value, str) and value.strip():
            if value.rstrip("/").endswith(".lmdb"):
                notes.append(f"{key} is an LMDB database; give the folder of its images.")
            return value.strip()
    return None


def _optimizer_words(setup: TrainingSetup, notes: list[str]) -> list[str]:
    """Return the options of optimiser, schedule, averaging and precision."""
    optimizer, words = Section("optim_g", setup.optimizer), []
    kind = str(setup.optimizer.get("type", "Adam"))
    try:
        rate, decay = optimizer.number("lr", 1e-4), optimizer.number("weight_decay", 0)
        if rate < 0:
            raise LeftOut(f"lr must be at least 0; got {rate:g}")
    except LeftOut as reason:
        notes.append(f"The optimiser is not carried over: {reason}.")
        rate, decay = 1e-4, 0.0
    words += _optimizer_name(setup, kind, notes)
    words += ["--lr", f"{rate:g}"]
    if decay > 0:
        words += ["--weight-decay", f"{decay:g}"]
    words += _schedule_words(setup, notes)
    if setup.warmup:
        words += ["--warmup", str(setup.warmup)]
    if setup.accumulate > 1:
        words += ["--accumulate", str(setup.accumulate)]
    if setup.clip > 0:
        words += ["--clip", f"{setup.clip:g}"]
    words += ["--ema", f"{setup.ema if 0 <= setup.ema < 1 else 0:g}"]
    if setup.precision != "32":
        words += ["--precision", setup.precision]
    return words + (["--seed", str(setup.seed)] if setup.seed is not None else [])


def _schedule_words(setup: TrainingSetup, notes: list[str]) -> list[str]:
    """Return the learning-rate schedule that is nearest to the recipe's."""
    kind = str(setup.schedule.get("type", ""))
    plain = kind.lower()
    milestones = setup.schedule.get("milestones")
    if not plain or (plain.startswith("multistep") and not _before(milestones, setup.steps)):
        return ["--schedule", "constant"]
    if "cosine" in plain:
        periods = setup.schedule.get("periods")
        if isinstance(periods, list) and len(periods) > 1:
            notes.append("The cosine schedule restarts there; here it has one period.")
        return ["--schedule", "cosine"]
    if plain.startswith("multistep"):
        gamma = Section("scheduler", setup.schedule).number("gamma", 0.5)
        if not 0 <= gamma <= 1:
            raise LeftOut(f"gamma must be at least 0 and at most 1; got {gamma:g}")
        steps = ",".join(f"{each:.0f}" for each in _before(milestones, setup.steps))
        return ["--schedule", "multistep", "--milestones", steps, "--gamma", f"{gamma:g}"]
    notes.append(f"The learning-rate schedule {kind[:40]} is not available; the command uses a cosine.")
    return ["--schedule", "cosine"]


def _optimizer_name(setup: TrainingSetup, kind: str, notes: list[str]) -> list[str]:
    """Return --optimizer and its betas."""
    plain = kind.lower()
    if plain not in OPTIMIZERS:
        notes.append(f"The optimiser {kind[:40]} is not available; the command uses AdamW with its learning rate.")
        return []
    words = [] if plain == "adamw" else ["--optimizer", plain]
    betas = setup.optimizer.get("betas")
    if isinstance(betas, list) and len(betas) == 2 and betas != [0.9, 0.999]:
        words += ["--optimizer-option", f"betas={format_literal_option(betas)}"]
    return words


def _before(milestones: Any, steps: int) -> list[float]:
    """Return the milestones within a training, increasing."""
    numbers = milestones if isinstance(milestones, list) else []
    return sorted({each for each in numbers if isinstance(each, int | float) and 0 < each < steps})
