"""Which rows and links are which image, in images with captions."""

import json
import tarfile

import pytest
from PIL import Image

from lossmith.text_to_image.caption_data import CaptionData
from lossmith.text_to_image.captions import CaptionedImages, CaptionEntry

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "grey", "black", "white")
TEXTS = ("a {} page", "a plain {} image", "nothing but {}")


def write_images(folder, colours=COLOURS):
    folder.mkdir(parents=True, exist_ok=True)
    for i, colour in enumerate(colours):
        Image.new("RGB", (32, 32), colour).save(folder / f"{i}.png")
    return folder


def write_table(folder, rows):
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def rows_of(index, colour, **more):
    return [{"file_name": f"{index}.png", "text": text.format(colour), **more} for text in TEXTS]


def sides(source, fraction=0.2):
    train, held_out = source.split(fraction)
    return [{entry.identity for entry in part.entries} for part in (train, held_out)]


@pytest.fixture
def many_rows(tmp_path):
    """Ten images with one row for each of three captions."""
    rows = [row for index, colour in enumerate(COLOURS) for row in rows_of(index, colour)]
    return write_table(write_images(tmp_path / "images"), rows)


def test_the_rows_of_one_file_are_one_image_with_several_captions(many_rows):
    source = CaptionedImages(many_rows, 16)
    assert len(source) == 10 and len(source.captions) == 30 and len(set(source.groups)) == 10
    assert source.entries[0].captions == ("a red page", "a plain red image", "nothing but red")


def test_the_rows_of_one_file_are_on_one_side_of_a_split(many_rows):
    train, held_out = sides(CaptionedImages(many_rows, 16))
    assert len(train | held_out) == 10 and not train & held_out


def test_rows_of_one_file_in_two_groups_and_in_two_tables_are_on_one_side(tmp_path):
    folder = write_images(tmp_path / "images")
    rows = [row for i, c in enumerate(COLOURS) for k in "xy" for row in rows_of(i, f"{c} {k}", group=f"{k}{i}")]
    write_table(folder, rows)
    again = write_images(tmp_path / "images/again", ())
    for i in range(10):
        (again / f"{i}.png").symlink_to(f"../{i}.png")
    write_table(again, [row for i, c in enumerate(COLOURS) for row in rows_of(i, f"linked {c}")])
    train, held_out = sides(CaptionedImages(folder, 16))
    assert len(train | held_out) == 10 and not train & held_out


def test_entries_that_name_one_file_twice_are_on_one_side(tmp_path):
    folder = write_images(tmp_path)
    entries = [CaptionEntry(f"{i}", folder / f"{i}.png", (f"{text} {i}",)) for text in "abc" for i in range(10)]
    train, held_out = sides(CaptionedImages(entries, 16))
    assert len(train | held_out) == 10 and not train & held_out


def test_a_linked_shard_holds_the_same_images(tmp_path):
    folder = write_images(tmp_path / "images")
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards/a.tar", "w") as tar:
        for i, colour in enumerate(COLOURS):
            (folder / f"{i}.txt").write_text(colour)
            tar.add(folder / f"{i}.png", f"{i}.png"), tar.add(folder / f"{i}.txt", f"{i}.txt")
    (tmp_path / "shards/b.tar").symlink_to("a.tar")
    assert len(CaptionedImages(tmp_path / "shards", 16)) == 10


def test_the_links_of_the_hubs_cache_are_images_with_captions(tmp_path):
    blobs, snapshot = write_images(tmp_path / "blobs", COLOURS[:2]), tmp_path / "snapshots/0123"
    (snapshot / "train").mkdir(parents=True)
    for i in range(2):
        (snapshot / "train" / f"{i}.png").symlink_to(f"../../../blobs/{i}.png")
    table = write_table(blobs, [{"file_name": f"{i}.png", "text": COLOURS[i]} for i in range(2)])
    (snapshot / "train/metadata.jsonl").symlink_to(table / "metadata.jsonl")
    source = CaptionedImages(snapshot, 16)
    assert source.captions == ["red", "green"] and not source.skipped


@pytest.mark.parametrize("name", ["../out.png", "sub/../../out.png", "{absolute}"])
def test_a_row_may_not_name_a_file_outside_of_its_folder(tmp_path, name):
    write_images(tmp_path / "images", COLOURS[:1]), write_images(tmp_path / "images/sub", COLOURS[:1])
    Image.new("RGB", (32, 32)).save(tmp_path / "out.png")
    name = name.format(absolute=tmp_path / "out.png")
    rows = [{"file_name": "0.png", "text": "red"}, {"file_name": name, "text": "black"}]
    source = CaptionedImages(write_table(tmp_path / "images", rows), 16)
    assert source.captions == ["red"] and any("is outside the folder" in each.reason for each in source.skipped)


def test_a_row_may_name_a_file_by_a_path_that_returns_to_the_folder(tmp_path):
    write_images(tmp_path / "sub", COLOURS[:1])
    rows = [{"file_name": "sub/0.png", "text": "red"}, {"file_name": "./sub/../sub/0.png", "text": "again"}]
    (entry,) = CaptionedImages(write_table(tmp_path, rows), 16).entries
    assert entry.captions == ("red", "again")


def test_the_outputs_of_a_run_inside_the_folder_are_no_images(tmp_path):
    write_images(tmp_path, COLOURS[:2])
    for i in range(2):
        (tmp_path / f"{i}.txt").write_text(COLOURS[i])
    run = write_images(tmp_path / "run/sheets")
    (run / "0.txt").write_text("a sheet")
    (tmp_path / "run/config.json").write_text('{"lossmith": "0.2"}')
    source = CaptionedImages(tmp_path, 16)
    assert source.captions == ["red", "green"]
    assert ["training run or a study" in each.reason for each in source.skipped] == [True]


def test_validation_images_that_are_training_images_raise_a_value_error(many_rows, tmp_path):
    val = write_images(tmp_path / "val", ())
    for i in range(3):
        (val / f"{i}.png").symlink_to(many_rows / f"{i}.png")
    write_table(val, [{"file_name": f"{i}.png", "text": f"number {i}"} for i in range(3)])
    with pytest.raises(ValueError, match="3 of the 3 validation images are also training images"):
        CaptionData(encoder="words").load_data(str(many_rows), str(val), val_count=4, side=16, seed=0)
