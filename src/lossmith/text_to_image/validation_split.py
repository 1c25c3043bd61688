"""The captions that a text-to-image network is evaluated on, which exclude those that its run trained on."""

from pathlib import Path
from typing import NamedTuple

from lossmith.data.shards.locate import is_url
from lossmith.text_to_image.caption_data import CaptionData, Source, identify_images, open_caption_source
from lossmith.train.settings import Settings

__all__ = ["ValidationSplit", "split_as_trained"]


class ValidationSplit(NamedTuple):
    """The captioned images of an evaluation.

    Args:
        train: The images that samples are compared with: the training images, if they are known.
        held_out: The captions that are sampled.
        val: The source of the held-out captions, if they are not part of the training source.
        remarks: Caveats about the two sets, one line each.
    """

    train: Source
    held_out: Source
    val: str | None
    remarks: list[str]


def split_as_trained(network: Path, captions: str, val: str | None, *, fraction: float, side: int) -> ValidationSplit:
    """Hold out the captions that the run of a network held out.

    Args:
        network: The run of the network, or its weights.
        captions: The source of captioned images.
        val: The source of validation captions; None for those of the run.
        fraction: The fraction that the run held out if it had no validation source.
        side: The side of the images in pixels.

    Raises:
        ValueError: The validation images include training images, or the validation source of the run is not readable.
    """
    split, run = CaptionData(val_fraction=fraction).split, read_run_settings(network)
    if run is None:
        condition = ", without --val." if val is None else "."
        remark = f"{network} does not name its training data; the results hold only if it was trained on {captions}"
        return ValidationSplit(*split(captions, val, side), val, [remark + condition])

    remarks: list[str] = []
    trained: Source | None = None
    has_moved = not can_read(run.images) and Path(captions).name == Path(run.images).name
    if has_moved or is_same_source(captions, run.images):
        val = run.val if val is None else val
        if val is not None and val == run.val and not can_read(val):
            raise ValueError(f"The validation data of {str(network)!r}, {val!r}, is not readable; give --val DIR.")
        train, held_out = split(captions, None if run.val is None else val, side)
        held_out = open_caption_source(val, side) if val is not None and run.val is None else held_out
        trained = train
        if has_moved:
            remarks.append(f"The training data of {network}, {run.images}, is not readable; {captions} replaces it.")
    else:
        train, held_out = split(captions, val, side)
        if can_read(run.images):
            trained = split(run.images, None, side)[0] if run.val is None else open_caption_source(run.images, side)
        remarks.append(
            f"{network} was trained on {run.images}, not on {captions}: KID, train/held and copies compare with the "
            f"other images of {captions}, and do not measure memorization."
        )
    if trained is not None:
        remarks += check_overlap(str(network), trained, held_out)
    return ValidationSplit(train, held_out, val, remarks)


def check_overlap(network: str, trained: Source, held_out: Source) -> list[str]:
    """Return a remark if training and validation images share captions.

    Raises:
        ValueError: They share images.
    """
    images = identify_images(held_out)
    if both := images & identify_images(trained):
        raise ValueError(
            f"{network!r} was trained on {len(both)} of the {len(images)} validation images; give others with "
            "--val DIR."
        )
    known = len({*held_out.captions} & {*trained.captions})
    total = len(held_out.captions)
    return [f"{network} was trained on {known} of the {total} captions, with other images."] if known else []


def read_run_settings(network: Path) -> Settings | None:
    """Return the settings of the run of a network; None for a file outside of a run folder."""
    config = (network if network.is_dir() else network.parent) / "config.json"
    return Settings.read(config) if config.is_file() else None


def can_read(source: str) -> bool:
    """Return whether a source of captioned images is readable; shapes are, and URLs are taken to be."""
    return source.partition(":")[0] == "shapes" or is_url(source) or Path(source).exists()


def is_same_source(first: str, second: str) -> bool:
    """Return whether two names denote the same source."""
    names = [f"{name}:1" if name == "shapes" else name for name in (first, second)]
    return names[0] == names[1] or (Path(first).exists() and Path(first).resolve() == Path(second).resolve())
