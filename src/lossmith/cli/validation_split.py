"""Which captions a network is judged by, and which of them it was trained on: its run knows."""

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lossmith.text_to_image.caption_data import Source
    from lossmith.train import Settings

__all__ = ["Sides", "held_out"]


class Sides(NamedTuple):
    """What a network is judged by.

    Args:
        train: What its pictures are compared with: what it was trained on, wherever that is known.
        held: The captions that it is asked for.
        val: Where those are from, if they are no part of the others.
        remarks: What must be known of the two, each a line.
    """

    train: "Source"
    held: "Source"
    val: str | None
    remarks: list[str]


def held_out(what: Path, captions: str, val: str | None, *, share: float, side: int) -> Sides:
    """Holds out what the training of a network held out.

    Args:
        what: Its run, or its weights.
        captions: Where the pictures with captions are.
        val: Where those to judge by are; None for those that the run was judged by.
        share: The part that the run held out if it had none to judge by.
        side: Of the pictures, in pixels.

    Raises:
        ValueError: It would be judged by pictures that it was trained on, or the run's own are not here.
    """
    from lossmith.text_to_image.caption_data import CaptionData, open_caption_source

    split, run = CaptionData(share=share).split, settings_of(what)
    if run is None:
        remark = f"{what} does not say what it was trained on: all this holds only if it was {captions}"
        rest = ", and without --val." if val is None else "."
        return Sides(*split(captions, val, side), val, [remark + rest])

    remarks: list[str] = []
    seen: Source | None = None
    moved = not here(run.images) and Path(captions).name == Path(run.images).name
    if moved or same(captions, run.images):
        val = run.val if val is None else val
        if val is not None and val == run.val and not here(val):
            raise ValueError(f"{str(what)!r} was judged by {val!r}, which is not here; give the place with --val DIR.")
        train, held = split(captions, None if run.val is None else val, side)
        held = open_caption_source(val, side) if val is not None and run.val is None else held
        seen = train
        if moved:
            remarks.append(f"{run.images}, which {what} was trained on, is not here; {captions} is taken for it.")
    else:
        train, held = split(captions, val, side)
        if here(run.images):
            seen = split(run.images, None, side)[0] if run.val is None else open_caption_source(run.images, side)
        remarks.append(
            f"{what} was trained on {run.images}, not on {captions}: KID, train/held and copies compare with what else "
            f"{captions} holds, and do not tell what it has by heart."
        )
    if seen is not None:
        remarks += overlap(str(what), seen, held)
    return Sides(train, held, val, remarks)


def overlap(what: str, seen: "Source", held: "Source") -> list[str]:
    """A remark if a network was trained on captions that it is to be judged by.

    Raises:
        ValueError: It was trained on such pictures.
    """
    pictures = identities(held)
    if both := pictures & identities(seen):
        raise ValueError(
            f"{what!r} was trained on {len(both)} of the {len(pictures)} pictures to judge by; give some that "
            "it was not trained on, with --val DIR."
        )
    known = len({*held.captions} & {*seen.captions})
    return (
        [f"{what} was trained on {known} of the {len(held.captions)} captions, with other pictures."] if known else []
    )


def identities(pictures: "Source") -> set[Hashable]:
    """What tells pictures apart: the files, or the scenes that are drawn."""
    from lossmith.text_to_image.shapes.dataset import ShapesDataset

    if isinstance(pictures, ShapesDataset):
        return {(pictures.level, scene) for scene in pictures.scenes}
    places = (entry.source for entry in pictures.entries)
    return {place.resolve() if isinstance(place, Path) else (place.file.resolve(), place.start) for place in places}


def settings_of(what: Path) -> "Settings | None":
    """What the training of a network was asked to do; None for a file that lies in no run."""
    from lossmith.train import Settings

    config = (what if what.is_dir() else what.parent) / "config.json"
    return Settings.read(config) if config.is_file() else None


def here(where: str) -> bool:
    """Whether pictures can be read there: shapes always can."""
    return where.partition(":")[0] == "shapes" or Path(where).exists()


def same(first: str, second: str) -> bool:
    """Whether two names are those of one place."""
    named = [f"{name}:1" if name == "shapes" else name for name in (first, second)]
    return named[0] == named[1] or (Path(first).exists() and Path(first).resolve() == Path(second).resolve())
