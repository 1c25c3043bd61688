"""The pictures of several runs, matched, made small enough to travel inside one page."""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, ImageChops

from lossmith.report.folder import Run

__all__ = ["Picture", "Shot", "collect", "inline"]

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises on a broken file


@dataclass(frozen=True)
class Shot:
    """One image of a comparison: its role (input, bicubic, run or truth), and of which run and step it is."""

    role: str
    file: Path
    run: int | None = None
    step: int | None = None
    uri: str = ""
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Picture:
    """One validation picture with all that the runs made of it."""

    name: str
    shots: list[Shot] = field(default_factory=list)
    place: tuple[float, float] = (0.5, 0.5)  # where the loupe starts, as parts of width and height


@dataclass(frozen=True)
class _Level:
    """How pictures are stored: WebP quality (None is lossless), steps a run, the longest side that is kept."""

    quality: int | None
    steps: int
    side: int | None

    def words(self, cropped: bool) -> str:
        stored = "without loss" if self.quality is None else f"as WebP of quality {self.quality}"
        return f"Stored {stored}{', cropped to the middle' if cropped else ''}."


LEVELS = (
    _Level(None, 9, None),
    _Level(95, 9, None),
    _Level(90, 9, None),
    _Level(90, 5, None),
    _Level(90, 5, 1024),
    _Level(90, 5, 768),
    _Level(85, 4, 512),
    _Level(80, 2, 384),
)


def collect(runs: Mapping[int, Run]) -> list[Picture]:
    """Match the sheets of the runs: one picture is what has one name and one truth, byte for byte."""
    pictures: dict[tuple[str, str], Picture] = {}
    for index, run in runs.items():
        sheets = run.folder / "sheets"
        for sheet in sorted(path for path in sheets.iterdir() if path.is_dir()) if sheets.is_dir() else []:
            steps = {int(m[1]): f for f in sorted(sheet.iterdir()) if (m := re.fullmatch(r"step_(\d+)\.png", f.name))}
            truth = sheet / "truth.png"
            if not steps and not truth.is_file():
                continue
            digest = hashlib.sha256(truth.read_bytes()).hexdigest() if truth.is_file() else str(index)
            name = (
                sheet.name
                if not any(n == sheet.name and d != digest for n, d in pictures)
                else f"{sheet.name} ({run.name})"
            )
            picture = pictures.setdefault((sheet.name, digest), Picture(name))
            for role in ("input", "bicubic", "truth"):
                if (file := sheet / f"{role}.png").is_file() and not any(shot.role == role for shot in picture.shots):
                    picture.shots.append(Shot(role, file))
            picture.shots.extend(Shot("run", steps[step], index, step) for step in sorted(steps))
    order = {"input": 0, "bicubic": 1, "run": 2, "truth": 3}
    for picture in pictures.values():
        picture.shots.sort(key=lambda shot: (order[shot.role], shot.run or 0, shot.step or 0))
    return list(pictures.values())


def inline(pictures: Sequence[Picture], budget: int) -> tuple[list[Picture], list[str]]:
    """Put the pictures into data URIs that together stay under a budget.

    All pictures are stored in one way, the best that fits: a comparison of textures must not compare encoders. Where
    even the last way is too large, the last pictures are left out.

    Returns:
        The pictures with their URIs, and remarks for the page on how they are stored and what was left out.
    """
    for level in LEVELS:
        made, remarks, cropped = _encode(pictures, level, budget)
        if len(made) == len(pictures):
            break
    made = [picture for picture in made if picture.shots]
    count = sum(bool(picture.shots) for picture in pictures)
    if len(made) < count:
        remarks.append(f"{len(made)} of {count} pictures are shown: others are broken, or too large for one page.")
    return made, [level.words(cropped), *remarks] if made else remarks


def _few(shots: Sequence[Shot], most: int) -> list[Shot]:
    """At most so many steps of each run, evenly spread, the first and the last among them."""
    chosen = [shot for shot in shots if shot.role != "run"]
    for run in {shot.run for shot in shots if shot.role == "run"}:
        steps = [shot for shot in shots if shot.role == "run" and shot.run == run]
        if len(steps) > most:
            steps = [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]
        chosen += steps
    return [shot for shot in shots if shot in chosen]


def _encode(pictures: Sequence[Picture], level: _Level, budget: int) -> tuple[list[Picture], list[str], bool]:
    """The pictures as a level stores them, up to the one that would break the budget; and whether any was cropped."""
    made: list[Picture] = []
    remarks, cropped, weight = [], False, 0
    for picture in pictures:
        images: dict[Shot, Image.Image] = {}
        for shot in _few(picture.shots, level.steps):
            try:
                with Image.open(shot.file) as opened:
                    images[shot] = opened.convert("RGB")
            except UNREADABLE:
                remarks.append(f"{shot.file.parent.name}/{shot.file.name} is not readable and was left out.")
        if not images:
            made.append(replace(picture, shots=[]))
            continue
        width, height = max((image.size for image in images.values()), key=lambda size: size[0] * size[1])
        side = level.side or max(width, height)
        parts = {shot: _middle(image, (width, height), side) for shot, image in images.items()}
        shots = []
        for shot, part in parts.items():
            shots.append(replace(shot, uri=_uri(part, level.quality), size=part.size))
            weight += len(shots[-1].uri)
            if weight > budget:
                return made, remarks, cropped
        cropped |= max(width, height) > side
        made.append(Picture(picture.name, shots, _telling(list(parts.values()))))
    return made, remarks, cropped


def _middle(image: Image.Image, full: tuple[int, int], side: int) -> Image.Image:
    """The same middle part of an image, whatever its scale: cut at places that the smallest of them has as well."""
    unit = max(1, 24 // max(1, full[0] // image.width))  # 24 is a multiple of each scale 1, 2, 3, 4, 6, 8
    box = []
    for length, whole in zip(image.size, full, strict=True):
        kept = length if whole <= side else side * length // whole // unit * unit
        start = (length - kept) // 2 // unit * unit
        box.append((start, start + kept))
    (left, right), (top, bottom) = box
    return image.crop((left, top, right, bottom))


def _telling(images: Sequence[Image.Image]) -> tuple[float, float]:
    """The place where the first image (the input) and the last (the truth) differ most: what a method has to invent."""
    last = images[-1].convert("L")
    first = images[0].convert("L").resize(last.size, Image.Resampling.BICUBIC)
    cells = ImageChops.difference(first, last).resize((9, 9), Image.Resampling.BOX).tobytes()
    down, across = divmod(cells.index(max(cells)), 9)
    return (across + 0.5) / 9, (down + 0.5) / 9


def _uri(image: Image.Image, quality: int | None) -> str:
    buffer = io.BytesIO()
    if quality is None:
        image.save(buffer, "WEBP", lossless=True, quality=50, method=2)
    else:
        image.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
