"""Makes a folder of captioned pictures, as Hugging Face's imagefolder has it, of a set of emoji.

    python experiments/text_to_image/emoji.py FROM TO [--side 64] [--artist google] [--part train|held] [--but DIR]

FROM is a folder of pictures that are called by their code points, with a captions.json beside them (Microsoft's Fluent
3D), or an unpacked npm package: emoji-datasource-google or -twitter, whose drawings are Google's (Apache 2.0) and
Twitter's (CC BY 4.0), or @iconify-json/openmoji (CC BY-SA 4.0), /emojione (CC BY 4.0), /noto-v1 (Apache 2.0), /fxemoji
(Apache 2.0) and /streamline-emojis (CC BY 4.0), which resvg-py draws. Flags and skin tones are left out.

Every name and alternative name is a caption, with the artist's behind it if one is given: "penguin by google". The
group is the family of code points, so that a woman, a man and a person of one profession, or the faces of the clock,
stand on one side of a split; of iconify's sets, which go by names, each name is one. Of the two parts "held"
is what lossmith holds out of such a folder, 15 % of the families, and "train" the rest; --but leaves out the families
of a folder that was made so. Transparency is kept: it is the mask, and the reader lays the picture on white.
"""

import argparse
import io
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from PIL import Image

from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.captions.discovery import METADATA, CaptionEntry

TONES = {f"1f3f{digit}" for digit in "bcdef"}
SILENT = {"fe0f", "200d", "2640", "2642"} | TONES
"""Code points that make variants and no families: the emoji style, joiners, gender signs and skin tones."""
PEOPLE = dict.fromkeys(("1f468", "1f469", "1f9d1", "1f466", "1f467"), "person")
CLOCKS = {f"{code:x}" for code in range(0x1F550, 0x1F568)}
PARTS, SHARE = ("train", "held"), 0.15
SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {} {}">{}</svg>'


def family(name: str) -> str:
    """The family of an emoji by its code points, "1f468-200d-1f373" or such.

    >>> family("1f468-200d-1f373") == family("1f469-200d-1f373") != family("1f468-200d-1f393")
    True
    """
    points = [PEOPLE.get(point, point) for point in name.split("-") if point not in SILENT]
    if points and points[-1] == "20e3":
        return "keycap"
    if any(point in CLOCKS for point in points):
        return "clock"
    if points.count("person") > 1 or points == ["1f46a"]:
        return "family"
    return "-".join(points) or name


def phrases(names: list[str]) -> list[str]:
    """Names as captions: in small letters, words apart, without the codes among them such as "clock6"."""
    found = [" ".join(re.sub(r"[_\-:.,()!“”\u2019*#]+", " ", name.lower()).split()) for name in names]
    good = [name for name in found if re.search(r"[a-z]{2}", name) and not re.search(r"[a-z]\d", name)]
    return list(dict.fromkeys(good)) or found[:1]


def listed(folder: Path) -> Iterator[tuple[str, Path | str, list[str]]]:
    """The pictures of a set: what each is called, its file or its SVG, and its names."""
    if (folder / "captions.json").is_file():
        for row in json.loads((folder / "captions.json").read_text("utf-8")):
            yield Path(row["file"]).stem, folder / row["file"], [row["caption"], *row["alt"]]
        return
    package = folder / "package" if (folder / "package").is_dir() else folder
    if (package / "icons.json").is_file():
        whole = json.loads((package / "icons.json").read_text("utf-8"))
        sorts = package / "metadata.json"
        flags = json.loads(sorts.read_text("utf-8"))["categories"].get("Flags", []) if sorts.is_file() else []
        for name, icon in whole["icons"].items():
            if name not in flags and not re.search("skin-tone|flag-|^letter-|^keycap-", name):
                size = (icon.get(each, whole.get(each, 16)) for each in ("width", "height"))
                yield name, SVG.format(*size, icon["body"]), [re.sub(r"-\d$", "", name)]
        return
    (drawings,) = (package / "img").iterdir()
    for row in json.loads((package / "emoji.json").read_text("utf-8")):
        if row["category"] not in ("Flags", "Component"):
            file = drawings / "64" / row["image"]
            yield file.stem, file, [row["name"] or "", *row["short_names"]]


def drawn(picture: Path | str, side: int) -> Image.Image:
    """A picture at one size, with what is transparent in it."""
    source: Path | io.BytesIO
    if isinstance(picture, str):
        source = io.BytesIO(import_module("resvg_py").svg_to_bytes(picture, width=4 * side))
    else:
        source = picture
    with Image.open(source) as image:
        return image.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--artist", help="A name to put behind each caption.")
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--but", type=Path, help="A folder of this kind whose families are left out.")
    asked = parser.parse_args()
    asked.target.mkdir(parents=True, exist_ok=True)
    told = (asked.but / METADATA).read_text("utf-8").splitlines() if asked.but else []
    apart = {json.loads(line)["group"] for line in told}
    found = []
    for name, picture, names in listed(asked.source):
        if family(name) in apart:
            continue
        captions = phrases([each for each in names if each])
        if not captions or (isinstance(picture, Path) and not picture.is_file()):
            print(f"left out: {name}, {'no picture' if captions else 'no caption'}")
            continue
        file = asked.target / f"{name}.png"
        drawn(picture, asked.side).save(file)
        said = [f"{each} by {asked.artist}" for each in captions] if asked.artist else captions
        found.append(CaptionEntry(file.name, file, tuple(said), family(name)))
    if asked.part:
        kept = CaptionedImages(found).split(SHARE)[PARTS.index(asked.part)].entries
        for entry in set(found) - set(kept):
            (asked.target / entry.name).unlink()
        found = kept
    rows = ({"file_name": each.name, "text": each.captions, "group": each.split_group} for each in found)
    (asked.target / METADATA).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    print(f"{len(found)} pictures of {len({each.split_group for each in found})} families in {asked.target}")


if __name__ == "__main__":
    main()
