import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader

from lossmith.text_to_image.captions import CaptionedImages, CaptionTrainingSet, find_captioned_images
from lossmith.text_to_image.encoders import CaptionEmbeddings, load_text_encoder
from lossmith.text_to_image.shapes import ShapesDataset, list_scenes

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}


def training_set(source, seed=0):
    captions = source.captions
    return CaptionTrainingSet(
        source, CaptionEmbeddings(load_text_encoder("words", captions=captions), captions), seed=seed
    )


def png(colour, size=(20, 16), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Four images with a metadata.jsonl; two are of one group, two have a caption in common."""
    rows = []
    for i, (name, colour) in enumerate(COLOURS.items()):
        (tmp_path / f"{name}.png").write_bytes(png(colour))
        text = [f"a {name} page", "a page"] if i < 2 else f"  a {name}\n page "
        rows.append({"file_name": f"{name}.png", "text": text, "group": "sky" if i > 1 else ""})
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


@pytest.fixture
def tar(tmp_path):
    """A shard of three good samples and three bad ones."""
    members = {f"{i:03}.png": png(colour) for i, colour in enumerate(COLOURS.values()) if i < 3}
    members |= {"000.txt": b"a red page", "001.json": b'{"caption": "a green page", "group": "g"}'}
    members |= {
        "002.txt": "ein blaues Blatt, 蓝".encode(),
        "003.txt": b"no image",
        "004.png": png(0),
        "005.PNG": b"x",
    }
    members |= {"005.txt": b"broken", "readme": b"?"}
    path = tmp_path / "shard-000.tar"
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(f"part/{name}")
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def test_an_item_is_a_function_of_the_seed_and_its_index():
    first, again = (training_set(ShapesDataset(16, phrasings=(0, 1)), seed=3) for _ in range(2))
    backwards = {k: again[k] for k in reversed(range(8))}
    for k in range(8):
        assert_close(first[k], backwards[k], rtol=0, atol=0)
    assert not torch.equal(first[0]["target"], first[1]["target"])
    assert not torch.equal(first[0]["target"], training_set(ShapesDataset(16), seed=4)[0]["target"])


@pytest.mark.parametrize("level", ["1", "2"])
def test_items_are_collated_into_batches(level):
    samples = training_set(ShapesDataset(16, level=level, phrasings=(0, 3), scenes=list_scenes(level)[::60]))
    batch = next(iter(DataLoader(samples, batch_sampler=[list(range(12))])))
    objects, length = (2 if level == "2" else 1), samples.embeddings.length
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    assert shapes == {
        "target": (12, 3, 16, 16),
        "tokens": (12, length, 128),
        "token_mask": (12, length),
        "pooled": (12, 128),
        "index": (12,),
        "group": (12,),
        "masks": (12, objects, 16, 16),
        "words": (12, objects, length),
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_return_bitwise_equal_batches(folder, workers):
    samples, batches = training_set(CaptionedImages(folder, 16)), [[0, 1], [2, 3], [4, 5]]
    alone, shared = (
        list(DataLoader(samples, batch_sampler=batches, num_workers=n, multiprocessing_context="fork" if n else None))
        for n in (0, workers)
    )
    assert_close(shared, alone, rtol=0, atol=0)


def test_the_words_of_an_object_are_those_that_describe_it():
    source = ShapesDataset(16, level="2", scenes=list_scenes("2")[::60])
    samples = training_set(source)
    for k in range(5):
        item = samples[k]
        caption = source.captions[item["index"]].split()
        for i, each in enumerate(source.scene(int(item["index"])).objects):
            named = [word for word, is_own in zip(caption, item["words"][i].tolist(), strict=False) if is_own]
            assert named[0] == each.colour and named[1].startswith(each.shape)
            assert item["masks"][i].any()


def test_embeddings_of_other_captions_raise():
    words = load_text_encoder("words", captions=["a"])
    with pytest.raises(ValueError, match="needs the embeddings of the source's 480 captions"):
        CaptionTrainingSet(ShapesDataset(16), CaptionEmbeddings(words, ["a"]))


def test_an_imagefolder_of_hugging_face_is_read(folder):
    source = CaptionedImages(folder, 16)
    assert source.captions == ["a red page", "a page", "a green page", "a blue page", "a grey page"]
    assert_close(source.images_of([0, 3])[:, :, 8, 8], torch.tensor([[1.0, 0, 0], [0, 0, 1]]))
    assert not source.skipped


def test_captions_of_one_image_have_one_group(folder):
    groups = CaptionedImages(folder, 16).groups
    assert groups == [0, 0, 0, 3, 4]  # red and green have "a page" in common


@pytest.mark.parametrize("seed", range(4))
def test_a_split_keeps_groups_and_captions_together(folder, seed):
    train, held_out = CaptionedImages(folder, 16).split(0.5, seed=seed)
    sides = [{entry.source.stem for entry in side.entries} for side in (train, held_out)]
    assert sorted(sides, key=sorted) == [{"blue", "grey"}, {"green", "red"}]
    assert not set(train.captions) & set(held_out.captions)


def test_a_split_of_images_that_all_belong_together_raises(folder):
    some = [entry for entry in find_captioned_images(folder)[0] if entry.split_group]
    with pytest.raises(ValueError, match=r"2 images in 1 groups\. .* give other validation images \(--val DIR\)"):
        CaptionedImages(some, 16).split(0.5)


def write_labelled_images(folder, labels, count=20):
    """Images whose captions are one of a few labels."""
    for i in range(count):
        (folder / f"{i}.png").write_bytes(png(i))
        (folder / f"{i}.txt").write_text(f"label {i % labels}")
    return CaptionedImages(folder, 16)


@pytest.mark.parametrize(("labels", "out"), [(2, r"10 of 20 images \(50%\)"), (4, r"5 of 20 images \(25%\)")])
def test_a_split_that_holds_out_far_more_than_the_fraction_warns(tmp_path, labels, out):
    source = write_labelled_images(tmp_path, labels)
    with pytest.warns(
        UserWarning, match=f"{out} are held out instead of the fraction 0.15.* only {labels} .*--val DIR"
    ):
        _, held_out = source.split(0.15)
    assert len(held_out) == 20 // labels


@pytest.mark.parametrize("labels", [5, 10, 20])
def test_a_split_near_the_fraction_does_not_warn(tmp_path, labels):
    assert len(write_labelled_images(tmp_path, labels).split(0.15)[1]) in (2, 3, 4)  # a warning is an error here


def test_unusable_pairs_are_skipped_and_listed(folder):
    with (folder / "metadata.jsonl").open("a") as file:
        file.write('\n{"file_name": "gone.png", "text": "x"}\nno json\n{"file_name": "red.png"}\n[1]\n')
        file.write('{"file_name": "../out.png", "text": "x"}\n{"file_name": "blue.png", "text": ["", " "]}\n')
        file.write('{"file_name": "text.png", "text": "no image"}\n{"file_name": "small.png", "text": "small"}')
    (folder.parent / "out.png").write_bytes(png(0))
    (folder / "unlisted.png").write_bytes(png(0))
    (folder / "text.png").write_text("a text")
    (folder / "small.png").write_bytes(png(0, size=(9, 9)))
    source = CaptionedImages(folder, 16)
    for caption in ("no image", "small"):
        source.images_of([source.captions.index(caption)])
    assert [file.reason for file in source.skipped] == [
        "the image 'gone.png' does not exist",
        "the metadata is not a JSON object",
        "no caption",
        "the metadata is not a JSON object",
        "'../out.png' is outside the folder",
        "the caption is empty",
        "metadata.jsonl has no line for the image",
        "the content is not an image",
        "9x9 px is too small; the minimum is 16x16 px",
    ]
    assert source.skipped[0].file.endswith("metadata.jsonl, line 5")


def test_a_text_file_beside_each_image_is_read(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(png(0))
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "d.txt").write_text("x")
    source = CaptionedImages(tmp_path, 16)
    assert source.captions == ["one", "two"]
    assert [file.reason for file in source.skipped] == [
        "the caption is not UTF-8",
        "no caption: c.txt does not exist",
        "the caption has no image of this name",
    ]


def test_a_transparent_image_is_composited_on_white_and_has_a_mask(tmp_path):
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 8, 16))
    image.save(tmp_path / "half.png")
    (tmp_path / "half.txt").write_text("half a page")
    sample = CaptionedImages(tmp_path, 16).draw(np.random.default_rng(0))
    assert_close(sample.image[:, 8, [4, 12]].T, torch.tensor([[1.0, 0, 0], [1, 1, 1]]))
    assert sample.masks[0, 8, [4, 12]].tolist() == [1, 0]
    assert sample.phrases == [(0, 11)]


def test_an_opaque_image_has_no_mask(folder):
    sample = CaptionedImages(folder, 16).draw(np.random.default_rng(0))
    assert not sample.masks.any()
    assert sample.phrases == [(0, 0)]


def test_the_longer_side_is_cropped(tmp_path):
    image = Image.new("RGB", (64, 16))
    image.paste((255, 255, 255), (32, 0, 64, 16))
    image.save(tmp_path / "wide.png")
    (tmp_path / "wide.txt").write_text("wide")
    centre = CaptionedImages(tmp_path, 16).draw(np.random.default_rng(0)).image
    assert_close(centre.mean(), torch.tensor(0.5), atol=0.01, rtol=0)
    random = [
        CaptionedImages(tmp_path, 16, crop="random").draw(np.random.default_rng(k)).image.mean() for k in range(9)
    ]
    assert min(random) < 0.1 and max(random) > 0.9


def test_a_shard_is_read(tar):
    source = CaptionedImages(tar, 16)
    assert source.captions == ["a red page", "a green page", "ein blaues Blatt, 蓝", "broken"]
    assert source.entries[1].split_group == "g"
    colours = source.images_of([0, 1, 2])[:, :, 8, 8]
    assert_close(colours, torch.eye(3))
    source.images_of([3])
    assert {file.split(":")[1]: reason for file, reason in source.skipped} == {
        "part/003": "the sample has no image",
        "part/004": "no caption",
        "part/005": "the content is not an image",
    }


def test_a_folder_of_shards_is_read(tar):
    assert CaptionedImages(tar.parent, 16).captions == CaptionedImages(tar, 16).captions


@pytest.mark.parametrize("cut", [*range(1024, 8192, 512), 1536 + 40, 4096 - 3])
def test_a_truncated_shard_gives_its_complete_samples_and_is_listed(tar, cut):
    whole = [entry.captions for entry in find_captioned_images(tar)[0]]
    with tarfile.open(tar) as file:
        members = file.getmembers()
    within = {member.name for member in members if member.offset_data + member.size <= cut}
    tar.write_bytes(tar.read_bytes()[:cut])
    try:
        found, skipped = find_captioned_images(tar)
    except ValueError as error:  # not one pair is left
        found, reason = [], str(error)
    else:
        reason = next(reason for name, reason in skipped if name == str(tar))
    pairs = {"part/000.png", "part/000.txt"}, {"part/001.png", "part/001.json"}, {"part/002.png", "part/002.txt"}
    assert [entry.captions for entry in found][:3] == [whole[i] for i, pair in enumerate(pairs) if pair <= within]
    assert "truncated or damaged" in reason or not found


def test_a_complete_shard_is_not_listed(tar):
    assert str(tar) not in {name for name, _ in find_captioned_images(tar)[1]}


def test_a_compressed_shard_raises_with_the_cure(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(ValueError, match="the archive is compressed; decompress it"):
        CaptionedImages(path, 16)


def test_a_folder_without_captions_raises_with_the_supported_layouts(tmp_path):
    (tmp_path / "a.png").write_bytes(png(0))
    with pytest.raises(ValueError, match=r"has no image with a caption\. Add a metadata.jsonl"):
        CaptionedImages(tmp_path, 16)
    with pytest.raises(ValueError, match="does not exist"):
        CaptionedImages(tmp_path / "missing", 16)


def test_a_folder_of_damaged_images_raises_when_a_sample_is_drawn(tmp_path):
    (tmp_path / "a.png").write_text("a text")
    (tmp_path / "a.txt").write_text("a text")
    with pytest.raises(ValueError, match="None of the 1 images can be used"):
        CaptionedImages(tmp_path, 16).draw(np.random.default_rng(0))
