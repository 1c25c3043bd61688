"""The script that writes a folder of captioned emoji."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from lossmith.text_to_image import CaptionedImages

SCRIPTS = Path(__file__).parents[2] / "experiments" / "text_to_image"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import prepare_emoji

    yield prepare_emoji
    del sys.modules["prepare_emoji"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1f468-200d-1f373", "1f469-200d-1f373"),  # a man and a woman cooking
        ("1f482-200d-2640-fe0f", "1f482"),  # a guard
        ("1f44b-1f3fd", "1f44b"),  # a hand of another skin tone
        ("1f550", "1f567"),  # clocks
        ("0030-fe0f-20e3", "0031-fe0f-20e3"),  # keys
        ("1f468-200d-1f469-200d-1f466", "1f46a"),  # families
    ],
)
def test_variants_belong_to_one_family(script, one, other):
    assert script.family(one) == script.family(other)


def test_other_objects_belong_to_other_families(script):
    names = ["1f98a", "1f431", "1f468-200d-1f373", "1f468-200d-1f393", "2764-fe0f", "0030-fe0f-20e3"]
    assert len({script.family(name) for name in names}) == len(names)


def test_codes_among_the_names_are_omitted(script):
    assert script.to_captions(["clock face six oclock", "clock6"]) == ["clock face six oclock"]
    assert script.to_captions(["FOX_FACE", "fox face", "fox"]) == ["fox face", "fox"]


def test_the_written_folder_is_read(script, tmp_path, monkeypatch):
    (tmp_path / "from").mkdir()
    rows = []
    for name, caption in (("1f98a", "fox face"), ("1f431", "cat face")):
        Image.new("RGBA", (40, 40), (255, 0, 0, 128)).save(tmp_path / "from" / f"{name}.webp")
        rows.append({"file": f"{name}.webp", "caption": caption, "alt": [caption.split()[0]]})
    rows.append({"file": "gone.webp", "caption": "gone", "alt": []})
    (tmp_path / "from" / "captions.json").write_text(json.dumps(rows))
    monkeypatch.setattr(sys, "argv", ["prepare_emoji.py", str(tmp_path / "from"), str(tmp_path / "to"), "--side", "32"])
    script.main()
    source = CaptionedImages(tmp_path / "to", 32)
    assert source.captions == ["fox face", "fox", "cat face", "cat"]
    assert [entry.split_group for entry in source.entries] == ["1f98a", "1f431"]
    assert not source.skipped


def test_a_set_of_icons_is_rendered_captioned_and_split(script, tmp_path, monkeypatch):
    square = '<path fill="#f00" d="M0 0h{0}v{0}H0z"/>'
    icons = {f"thing-{size}": {"body": square.format(size)} for size in range(10, 26)}
    icons |= {"hand-light-skin-tone": {"body": ""}, "letter-a": {"body": ""}, "wide": {"body": square, "width": 32}}
    icons |= {"canada": {"body": ""}}
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "metadata.json").write_text(json.dumps({"categories": {"Flags": ["canada"]}}))
    whole = {"icons": icons, "width": 16, "height": 16}
    (tmp_path / "package" / "icons.json").write_text(json.dumps(whole))
    captions = {}
    for part in ("train", "held-out"):
        arguments = ["prepare_emoji.py", str(tmp_path), str(tmp_path / part), "--artist", "ann", "--part", part]
        monkeypatch.setattr(sys, "argv", arguments)
        script.main()
        captions[part] = set(CaptionedImages(tmp_path / part, 64).captions)
        assert len(list((tmp_path / part).glob("*.png"))) == len(captions[part])
    assert len(captions["held-out"]) == 2 and not captions["held-out"] & captions["train"]
    both = captions["held-out"] | captions["train"]
    assert both == {
        f"{name.replace('-', ' ')} by ann" for name in icons if not name.startswith(("hand", "letter", "can"))
    }
    with Image.open(next((tmp_path / "train").glob("thing-16.png"), tmp_path / "held-out" / "thing-16.png")) as drawn:
        assert drawn.getpixel((60, 60)) == (255, 0, 0, 255)


def test_icons_of_one_object_have_one_caption_and_families_of_another_folder_are_omitted(script, tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    icons = {name: {"body": '<path d="M0 0h9v9z"/>'} for name in ("bird-1", "bird-2", "fish", "ant")}
    (tmp_path / "package" / "icons.json").write_text(json.dumps({"icons": icons}))
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "metadata.jsonl").write_text('{"file_name": "x.png", "text": "a fish", "group": "fish"}\n')
    arguments = ["prepare_emoji.py", str(tmp_path), str(tmp_path / "to"), "--exclude", str(tmp_path / "seen")]
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    found = CaptionedImages(tmp_path / "to", 64)
    assert sorted(entry.captions for entry in found.entries) == [("ant",), ("bird",), ("bird",)]
