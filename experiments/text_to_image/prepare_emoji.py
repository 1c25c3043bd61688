"""Write a folder of captioned images, in Hugging Face's imagefolder format, from a set of emoji.

    python experiments/text_to_image/prepare_emoji.py FROM TO [--side 64] [--artist google] [--part train|held-out] \\
        [--exclude DIR]

FROM is a folder of images that are named by their code points, with a captions.json (Microsoft's Fluent 3D), or an
unpacked npm package: emoji-datasource-google or -twitter, with drawings by Google (Apache 2.0) and Twitter (CC BY 4.0),
or @iconify-json/openmoji (CC BY-SA 4.0), /emojione (CC BY 4.0), /noto-v1 (Apache 2.0), /fxemoji (Apache 2.0) and
/streamline-emojis (CC BY 4.0), which resvg-py renders. Flags and skin tones are omitted.

Every name and alternative name is a caption, followed by the artist if one is given: "penguin by google". The split
group is the family of code points, so that a woman, a man and a person of one profession, or all clock faces, are on
one side of a split; in iconify's sets, which have names only, each name is a group. The part "held-out" is what
lossmith holds out of such a folder, 15 % of the groups, and "train" is the rest. --exclude omits the groups of another
folder that this script wrote. Transparency is kept: it is the mask, and the reader composites the image on white.
"""

import argparse
import io
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.captions.discovery import METADATA, CaptionEntry

SKIN_TONES = {f"1f3f{digit}" for digit in "bcdef"}
VARIANT_CODES = {"fe0f", "200d", "2640", "2642"} | SKIN_TONES
"""Code points that distinguish variants and not families: the emoji style, joiners, gender signs and skin tones."""
PEOPLE = dict.fromkeys(("1f468", "1f469", "1f9d1", "1f466", "1f467"), "person")
CLOCKS = {f"{code:x}" for code in range(0x1F550, 0x1F568)}
PARTS, HELD_OUT_FRACTION = ("train", "held-out"), 0.15
SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {} {}">{}</svg>'


class Emoji(NamedTuple):
    """An emoji of a set.

    Args:
        code: Its code points, such as "1f468-200d-1f373", or its name.
        source: Its image file, or its SVG.
        names: Its names.
    """

    code: str
    source: Path | str
    names: list[str]


def family(code: str) -> str:
    """Return the family of an emoji from its code points.

    >>> family("1f468-200d-1f373") == family("1f469-200d-1f373") != family("1f468-200d-1f393")
    True
    """
    points = [PEOPLE.get(point, point) for point in code.split("-") if point not in VARIANT_CODES]
    if points and points[-1] == "20e3":
        return "keycap"
    if any(point in CLOCKS for point in points):
        return "clock"
    if points.count("person") > 1 or points == ["1f46a"]:
        return "family"
    return "-".join(points) or code


def to_captions(names: list[str]) -> list[str]:
    """Return names as captions: lower-case words, without codes such as "clock6"."""
    captions = [" ".join(re.sub(r"[_\-:.,()!“”\u2019*#]+", " ", name.lower()).split()) for name in names]
    words = [name for name in captions if re.search(r"[a-z]{2}", name) and not re.search(r"[a-z]\d", name)]
    return list(dict.fromkeys(words)) or captions[:1]


def list_emoji(folder: Path) -> Iterator[Emoji]:
    """Yield the emoji of a set."""
    package = folder / "package" if (folder / "package").is_dir() else folder
    if (folder / "captions.json").is_file():
        for row in json.loads((folder / "captions.json").read_text("utf-8")):
            yield Emoji(Path(row["file"]).stem, folder / row["file"], [row["caption"], *row["alt"]])
    elif (package / "icons.json").is_file():
        yield from list_icons(package)
    else:
        (drawings,) = (package / "img").iterdir()
        for row in json.loads((package / "emoji.json").read_text("utf-8")):
            if row["category"] not in ("Flags", "Component"):
                file = drawings / "64" / row["image"]
                yield Emoji(file.stem, file, [row["name"] or "", *row["short_names"]])


def list_icons(package: Path) -> Iterator[Emoji]:
    """Yield the emoji of an iconify package."""
    icon_set = json.loads((package / "icons.json").read_text("utf-8"))
    metadata = package / "metadata.json"
    flags = json.loads(metadata.read_text("utf-8"))["categories"].get("Flags", []) if metadata.is_file() else []
    for name, icon in icon_set["icons"].items():
        if name not in flags and not re.search("skin-tone|flag-|^letter-|^keycap-", name):
            size = (icon.get(key, icon_set.get(key, 16)) for key in ("width", "height"))
            yield Emoji(name, SVG.format(*size, icon["body"]), [re.sub(r"-\d$", "", name)])


def render(source: Path | str, side: int) -> Image.Image:
    """Return an image file or an SVG as an RGBA image of one size."""
    file: Path | io.BytesIO
    if isinstance(source, str):
        file = io.BytesIO(import_module("resvg_py").svg_to_bytes(source, width=4 * side))
    else:
        file = source
    with Image.open(file) as image:
        return image.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)


def read_groups(folder: Path) -> set[str]:
    """Return the split groups of a folder that this script wrote."""
    lines = (folder / METADATA).read_text("utf-8").splitlines()
    return {json.loads(line)["group"] for line in lines}


def write_images(source: Path, target: Path, side: int, artist: str | None, excluded: set[str]) -> list[CaptionEntry]:
    """Write the images of a set, except the families `excluded`, and return their entries."""
    entries = []
    for emoji in list_emoji(source):
        if family(emoji.code) in excluded:
            continue
        captions = to_captions([name for name in emoji.names if name])
        if not captions or (isinstance(emoji.source, Path) and not emoji.source.is_file()):
            print(f"omitted: {emoji.code}, {'no image' if captions else 'no caption'}")
            continue
        file = target / f"{emoji.code}.png"
        render(emoji.source, side).save(file)
        captions = [f"{caption} by {artist}" for caption in captions] if artist else captions
        entries.append(CaptionEntry(file.name, file, tuple(captions), family(emoji.code)))
    return entries


def keep_part(entries: list[CaptionEntry], part: str) -> list[CaptionEntry]:
    """Return the entries of one part, and delete the images of the other."""
    kept = CaptionedImages(entries).split(HELD_OUT_FRACTION)[PARTS.index(part)].entries
    for entry in set(entries) - set(kept):
        entry.source.unlink()
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="FROM", help="folder of the set of emoji")
    parser.add_argument("target", type=Path, metavar="TO", help="folder to write")
    parser.add_argument("--side", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--artist", help="name to append to each caption")
    parser.add_argument("--part", choices=PARTS, help="write only this part of the set")
    parser.add_argument("--exclude", type=Path, help="folder of this script whose groups are omitted")
    args = parser.parse_args()
    args.target.mkdir(parents=True, exist_ok=True)
    excluded = read_groups(args.exclude) if args.exclude else set()
    entries = write_images(args.source, args.target, args.side, args.artist, excluded)
    if args.part:
        entries = keep_part(entries, args.part)
    rows = ({"file_name": entry.name, "text": entry.captions, "group": entry.split_group} for entry in entries)
    (args.target / METADATA).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    print(f"{len(entries)} images of {len({entry.split_group for entry in entries})} families in {args.target}")


if __name__ == "__main__":
    main()
