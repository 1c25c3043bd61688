"""Configurations of other trainers as recipes: which trainer wrote one, its losses, and its settings."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lossmith.importer.basicsr import LOSSES, Context, Translate, translate_loss
from lossmith.importer.command import add_command
from lossmith.importer.config_files import read_config_file
from lossmith.importer.kair import translate_kair
from lossmith.importer.recipe import Framework, ImportedRecipe, LeftOut, Section
from lossmith.importer.setup import read_setup
from lossmith.importer.trainner import NEOSR_LOSSES, TRAINNER_LOSSES

__all__ = ["read_recipe"]

TABLES: dict[Framework, Mapping[str, Translate]] = {
    "BasicSR": LOSSES,
    "Real-ESRGAN": LOSSES,
    "traiNNer-redux": TRAINNER_LOSSES,
    "neosr": NEOSR_LOSSES,
}


def read_recipe(path: str | Path, *, images: str | None = None) -> ImportedRecipe:
    """Read the configuration of a training of BasicSR, Real-ESRGAN, traiNNer-redux, neosr or KAIR.

    Args:
        path: The file, which ends in .yml, .yaml, .toml or .json.
        images: A folder of training images, in place of the one in the configuration.

    Raises:
        ValueError: The file cannot be read, or is no configuration of a training by one of these trainers.
    """
    config = read_config_file(path)
    framework = find_framework(config, str(path))
    train = config["train"]
    setup = read_setup(config, framework)
    recipe = ImportedRecipe(framework, setup.scale, setup.crop)
    context = Context(
        crop=setup.crop,
        batch=setup.batch,
        channels=setup.channels,
        image_range=setup.image_range,
        is_relativistic=setup.is_relativistic,
        discriminator=setup.discriminator,
        discriminator_optimizer=setup.discriminator_optimizer,
    )
    if framework == "KAIR":
        recipe.terms, recipe.left_out = translate_kair(train, context)
    else:
        translate_sections(recipe, train, context, TABLES[framework])
    recipe.notes = setup.notes
    try:
        if recipe.loss is not None:
            add_command(recipe, setup, images)
    except LeftOut as reason:
        recipe.notes.append(f"There is no command: {reason}.")
    return recipe


def find_framework(config: Mapping[str, Any], source: str) -> Framework:
    """Return the trainer that a configuration is for.

    Raises:
        ValueError: No trainer is known that reads such a configuration.
    """
    train = config.get("train")
    if isinstance(train, Mapping):
        if "netG" in config and "G_lossfn_type" in train:
            return "KAIR"
        if isinstance(train.get("losses"), list):
            return "traiNNer-redux"
        if "network_g" in config:
            model = str(config.get("model_type", ""))
            if model in ("image", "otf", "default") or any(name.endswith("_loss") for name in _types(train)):
                return "neosr"
            return "Real-ESRGAN" if model.startswith("RealESR") else "BasicSR"
    tests = " It holds no training: use the file by which the network was trained." if "network_g" in config else ""
    raise ValueError(
        f"{source!r} is no configuration of a training by BasicSR, Real-ESRGAN, traiNNer-redux, neosr or KAIR.{tests}"
    )


def translate_sections(
    recipe: ImportedRecipe, train: Mapping[str, Any], context: Context, losses: Mapping[str, Translate]
) -> None:
    """Add the losses of the section "train" to a recipe, or the reason why one is left out."""
    for name, options in _loss_sections(train):
        try:
            section = Section(name, options)
            if section.number("loss_weight", 1.0) == 0:
                continue
            recipe.terms.append(translate_loss(name, options, context, losses))
        except LeftOut as reason:
            recipe.left_out[name] = str(reason)
    for name in ("r1_reg_weight", "path_reg_weight"):
        if train.get(name):
            recipe.left_out[name] = "a penalty of StyleGAN2"


def _loss_sections(train: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the name and the options of each loss."""
    listed = train.get("losses")
    for options in listed if isinstance(listed, list) else []:
        if isinstance(options, Mapping):
            yield str(options.get("type", "?"))[:60], options
    for name, options in train.items():
        if isinstance(options, Mapping) and "type" in options and str(name).endswith(("_opt", "_loss")):
            yield str(name)[:60], options


def _types(train: Mapping[str, Any]) -> list[str]:
    return [str(options["type"]) for options in train.values() if isinstance(options, Mapping) and "type" in options]
