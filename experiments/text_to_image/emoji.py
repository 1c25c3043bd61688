"""Makes a folder of captioned pictures, as Hugging Face's imagefolder has it, of a set of emoji.

    python experiments/text_to_image/emoji.py FROM TO [--side 64]

FROM is a folder of pictures that are called by their code points, with a captions.json beside them (Microsoft's Fluent
3D), or an unpacked npm package emoji-datasource-google or -twitter, whose drawings are Google's (Apache 2.0) and
Twitter's (CC BY 4.0): npm pack emoji-datasource-google@16.0.0. Flags and skin tones are left out.

Every name and alternative name is a caption. The group is the family of code points, so that a woman, a man and a
person of one profession, or the faces of the clock, stand on one side of a split. Transparency is kept: it is the mask,
and the reader lays the picture on white.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

TONES = {f"1f3f{digit}" for digit in "bcdef"}
SILENT = {"fe0f", "200d", "2640", "2642"} | TONES
"""Code points that make variants and no families: the emoji style, joiners, gender signs and skin tones."""
PEOPLE = dict.fromkeys(("1f468", "1f469", "1f9d1", "1f466", "1f467"), "person")
CLOCKS = {f"{code:x}" for code in range(0x1F550, 0x1F568)}


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


def listed(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """The pictures of a set, and their names."""
    if (folder / "captions.json").is_file():
        for row in json.loads((folder / "captions.json").read_text("utf-8")):
            yield folder / row["file"], [row["caption"], *row["alt"]]
        return
    package = folder / "package" if (folder / "package").is_dir() else folder
    (drawings,) = (package / "img").iterdir()
    for row in json.loads((package / "emoji.json").read_text("utf-8")):
        if row["category"] not in ("Flags", "Component"):
            yield drawings / "64" / row["image"], [row["name"] or "", *row["short_names"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--side", type=int, default=64)
    asked = parser.parse_args()
    asked.target.mkdir(parents=True, exist_ok=True)
    rows = []
    for file, names in listed(asked.source):
        captions = phrases([name for name in names if name])
        if not file.is_file() or not captions:
            print(f"left out: {file.name}, {'no caption' if file.is_file() else 'no picture'}")
            continue
        with Image.open(file) as image:
            small = image.convert("RGBA").resize((asked.side, asked.side), Image.Resampling.LANCZOS)
        small.save(asked.target / f"{file.stem}.png")
        rows.append({"file_name": f"{file.stem}.png", "text": captions, "group": family(file.stem)})
    (asked.target / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    print(f"{len(rows)} pictures of {len({row['group'] for row in rows})} families in {asked.target}")


if __name__ == "__main__":
    main()
