"""Shards: which samples they hold, the order of these samples, and what is said about damaged shards."""

import io
import pickle
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.data.cache import ImageCache, use_cache
from lossmith.data.degraded import DegradedCrops
from lossmith.data.file_paths import file_snapshot
from lossmith.data.shards.archive import read_shard
from lossmith.data.shards.copies import ShardStore
from lossmith.data.shards.locate import are_shards, list_shards
from lossmith.data.shards.pairs import ShardedPairCrops
from lossmith.data.shards.sequence import ShardedImages, Shards, ShardSequence
from lossmith.data.shards.unpack import unpack_samples
from lossmith.tasks import Denoising, Paired, SuperResolution
from lossmith.train.data_stream import EndlessBatchSampler, TimedLoader


def png(value: int, side: int = 64) -> bytes:
    """Return a PNG whose pixels are random around a value."""
    pixels = np.random.default_rng(value).integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels[0, 0] = value
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    """Write an archive of members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path):
    """Five shards of six images each."""
    return Shards(
        [
            str(write_shard(tmp_path / f"{s}.tar", {f"{6 * s + i:02d}.png": png(6 * s + i) for i in range(6)}))
            for s in range(5)
        ]
    )


def names_of(shards, count, seed=0):
    """Return the names of the first samples."""
    sequence = ShardSequence(shards, lambda sample: sample.name, seed=seed)
    return [sequence[index] for index in range(count)]


def test_each_sample_is_visited_once_before_a_shard_is_read_again(shards):
    assert sorted(names_of(Shards(shards.names[:4]), 24)) == [f"{i:02d}" for i in range(24)]


def test_the_order_depends_on_the_seed(shards):
    assert names_of(shards, 24) == names_of(shards, 24) != names_of(shards, 24, seed=1)


def test_a_batch_holds_samples_of_several_shards(shards):
    assert len({int(name) // 6 for name in names_of(shards, 4)}) == 4


def test_a_device_reads_the_shards_of_its_own_slots_alone(shards):
    read = []
    for rank in range(2):
        sequence = ShardSequence(shards, lambda sample: int(sample.name) // 6, seed=0)
        batches = iter(EndlessBatchSampler(4, rank=rank, world=2))
        read.append({sequence[index] for _ in range(6) for index in next(batches)})
    assert not read[0] & read[1]


def test_samples_do_not_depend_on_where_a_run_begins(shards):
    crops = DegradedCrops(ShardedImages(shards, seed=3), 16, lambda image, _: {"input": image}, seed=3)
    later = pickle.loads(pickle.dumps(ShardedImages(shards, seed=3)))
    again = DegradedCrops(later, 16, lambda image, _: {"input": image}, seed=3)
    for index in (40, 7):
        torch.testing.assert_close(again[index], crops[index], rtol=0, atol=0)


def test_workers_give_the_samples_of_the_main_process(shards):
    crops = Denoising().training_set(shards, crop=16, seed=0)
    loader = TimedLoader(crops, torch.device("cpu"), batch_sampler=EndlessBatchSampler(4), num_workers=2)
    for index, batch in zip(range(3), loader, strict=False):
        expected = torch.stack([crops[4 * index + i]["input"] for i in range(4)])
        torch.testing.assert_close(batch["input"], expected, rtol=0, atol=0)


def test_held_out_samples_are_not_trained_on(shards):
    held_out = Shards(shards.names[:1], ["02", "04"])
    assert set(names_of(held_out, 20)) == {"00", "01", "03", "05"}


def test_a_run_on_shards_holds_out_some_samples(shards):
    data = SuperResolution(2).load_data(shards.names[0], None, val_count=16, crop=32, seed=0)
    assert [example.name for example in data.evaluation_set] == ["03.png"] and data.training_count == 5


def test_images_of_a_shard_are_those_of_a_folder(tmp_path, shards):
    (tmp_path / "folder").mkdir()
    for index in range(6):
        (tmp_path / "folder" / f"{index:02d}.png").write_bytes(png(index))
    task = Denoising()
    expected, found = (list(task.evaluation_set(each)) for each in (tmp_path / "folder", shards.names[0]))
    assert [each.name for each in found] == [each.name for each in expected]
    torch.testing.assert_close([e.batch for e in found], [e.batch for e in expected], rtol=0, atol=0)


def test_pairs_are_read_from_the_samples(tmp_path):
    members = {f"{i}.{role}.png": png(i, side) for i in range(3) for role, side in (("input", 64), ("target", 128))}
    file = write_shard(tmp_path / "pairs.tar", members)
    data = Paired(2).load_data(str(file), None, val_count=1, crop=32, seed=0)
    assert {name: tuple(image.shape) for name, image in data.training_set[0].items()} == {
        "input": (3, 16, 16),
        "target": (3, 32, 32),
    }
    assert [tuple(example.batch["input"].shape) for example in data.evaluation_set] == [(1, 3, 64, 64)]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"1.input.png": png(1), "1.target.png": png(1), "2.target.png": png(2)}, "the sample has no input image"),
        (
            {"1.input.png": png(1), "1.target.png": png(1), "2.input.png": png(2, 32), "2.target.png": png(2)},
            "the input image has 32x32 px, but must have 64x64 px",
        ),
    ],
)
def test_an_incomplete_pair_is_named(tmp_path, members, reason):
    file = str(write_shard(tmp_path / "pairs.tar", members))
    crops = ShardedPairCrops(Shards([file]), 16)
    for index in range(4):
        crops[index]
    assert [tuple(each) for each in crops.skipped] == [(f"{file}:2", reason)]


@pytest.mark.parametrize(
    ("members", "name", "reason"),
    [
        ({"../1.png": png(1)}, "../1", "its name leads out of the archive"),
        ({"/etc/1.png": png(1)}, "/etc/1", "its name leads out of the archive"),
        ({"1.txt": b"a cat"}, "1", "the sample has no image"),
        ({"1.png": png(1), "1.jpg": png(2)}, "1", "the sample has several images"),
        ({"1.png": b"no image"}, "1", "the content is not an image"),
        ({"1.png": png(1, 8)}, "1", "8x8 px is too small; the minimum is 16x16 px"),
    ],
)
def test_an_unusable_sample_is_replaced_and_named(tmp_path, members, name, reason):
    file = str(write_shard(tmp_path / "a.tar", members | {"9.png": png(9)}))
    images = ShardedImages(Shards([file]), min_size=16)
    for index in range(4):
        images.draw(index, np.random.default_rng(0))
    assert [tuple(each) for each in images.skipped] == [(f"{file}:{name}", reason)]


def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for data in (png(1), png(2)):
            info = tarfile.TarInfo("1.png")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert next(read_shard(path, ShardStore())).problem == "the archive has several files '1.png'"


def test_a_truncated_shard_gives_its_complete_samples(tmp_path):
    path = write_shard(tmp_path / "a.tar", {"1.png": png(1), "2.png": png(2)})
    path.write_bytes(path.read_bytes()[:14_000])
    images = ShardedImages(Shards([str(path)]))
    drawn = [images.source(index, np.random.default_rng(0)) for index in range(2)]
    assert drawn == [f"{path}:1"] * 2
    assert "truncated" in " ".join(each.reason for each in images.skipped)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "the archive contains no samples"),
        (b"", "the archive is truncated or damaged: empty file"),
        (b"\x1f\x8b" + bytes(600), "the archive is compressed; decompress it to a plain .tar"),
    ],
)
def test_a_shard_without_samples_is_an_error_of_one_line(tmp_path, content, reason):
    path = tmp_path / "a.tar"
    if isinstance(content, dict):
        write_shard(path, content)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"has no usable sample: {reason}") as caught:
        ShardedImages(Shards([str(path)]))
    assert "\n" not in str(caught.value)


def test_an_unreadable_shard_is_replaced_and_named(tmp_path, shards):
    names = [*shards.names[:1], str(tmp_path / "missing.tar")]
    sequence = ShardSequence(Shards(names), lambda sample: sample.name, seed=0)
    assert {sequence[index] for index in range(12)} == {f"0{i}" for i in range(6)}
    assert [each.file for each in sequence.skipped] == names[1:]


def test_images_of_mixed_sizes_are_cropped(tmp_path):
    file = write_shard(tmp_path / "a.tar", {f"{side}.png": png(1, side) for side in (16, 40, 70)})
    crops = Denoising().training_set(Shards([str(file)]), crop=16, seed=0)
    assert {tuple(crops[index]["target"].shape) for index in range(9)} == {(3, 16, 16)}


@pytest.fixture
def bucket(shards):
    """A remote folder with two shards."""
    files = fsspec.filesystem("memory")
    for number, name in enumerate(shards.names[:2]):
        files.pipe(f"/bucket/train-{number}.tar", Path(name).read_bytes())
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


def test_shards_of_a_url_are_those_of_a_path(tmp_path, bucket, shards):
    with use_cache(ImageCache(tmp_path / "cache")):
        for source in (bucket, f"{bucket}/*.tar", f"{bucket}/train-{{0..1}}.tar"):
            assert names_of(Shards(list_shards(source)), 12) == names_of(Shards(shards.names[:2]), 12)


def test_the_shards_of_a_start_are_listed_once(bucket, monkeypatch):
    files, listed = type(fsspec.filesystem("memory")), []
    glob = files.glob
    monkeypatch.setattr(files, "glob", lambda self, path, **options: listed.append(path) or glob(self, path, **options))
    with file_snapshot():
        assert list_shards(bucket) == list_shards(bucket)
    assert listed == ["/bucket/*.tar"]


def test_a_shard_is_copied_once(tmp_path, bucket, monkeypatch):
    store, copied = ShardStore(tmp_path), []
    monkeypatch.setattr(ShardStore, "_copy", lambda self, url, file: copied.append(url) or file.write_bytes(b""))
    for _ in range(2):
        ShardStore.fetch(store, f"{bucket}/train-0.tar")
    assert copied == [f"{bucket}/train-0.tar"]


def test_the_least_recently_used_copy_makes_room(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr("lossmith.data.shards.copies.IDLE_SECONDS", -1.0)
    size = fsspec.filesystem("memory").size("/bucket/train-0.tar")
    store = ShardStore(tmp_path, max_bytes=size * 3 // 2)
    first, second = (store.fetch(f"{bucket}/train-{number}.tar") for number in range(2))
    assert second.is_file() and not first.exists()


@pytest.mark.parametrize("url", ["https://127.0.0.1:9/a.tar", "memory://nowhere/a.tar", "nosuch://a/b.tar"])
def test_an_unreachable_url_is_an_error_of_one_line(tmp_path, monkeypatch, url):
    monkeypatch.setattr("lossmith.data.shards.copies.RETRY_SECONDS", 0.0)
    with pytest.raises(ValueError, match=r"cannot be read: .+ Check the address") as caught:
        ShardStore(tmp_path).fetch(url)
    assert "\n" not in str(caught.value) and not [*tmp_path.glob("*.partial")]


def test_a_folder_of_images_is_no_folder_of_shards(tmp_path, shards):
    assert are_shards(tmp_path)
    (tmp_path / "a.png").write_bytes(png(1))
    assert not are_shards(tmp_path)


def test_a_source_without_shards_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"contains no shards \(\.tar\)"):
        list_shards(tmp_path)


def test_some_samples_of_all_shards_are_unpacked(shards, tmp_path):
    unpacked = unpack_samples(str(tmp_path), 3)
    assert unpacked.names == ["05", "15", "25"]
    assert next(unpacked.targets.name(file) for file in unpacked.targets) == "00000-0/05.png"


@pytest.mark.parametrize("pattern", ["{2..0}.tar", "{0,1,2}.tar", "[0-2].tar", "{0..2}.tar", "{0,[1-2]}.tar"])
def test_shards_are_named_as_in_a_shell(tmp_path, shards, pattern):
    found = {Path(name).resolve() for name in list_shards(tmp_path / pattern)}
    assert found == {(tmp_path / f"{number}.tar").resolve() for number in range(3)}


def test_shards_of_several_folders_are_named_by_one_pattern(tmp_path):
    shards = [str(write_shard(tmp_path / f"part-{name}" / "0.tar", {"a.png": png(1)})) for name in "ab"]
    assert list_shards(tmp_path / "part-*" / "?.tar") == shards


def test_a_folder_whose_name_contains_brackets_holds_shards(tmp_path):
    shard = write_shard(tmp_path / "a[1]" / "0.tar", {"a.png": png(1)})
    assert list_shards(shard.parent) == list_shards(shard) == [str(shard)]


@pytest.mark.parametrize("name", ["a.tar.gz", "https://example.org/a.tgz"])
def test_a_compressed_shard_is_an_error_that_names_the_remedy(name):
    assert are_shards(name)
    with pytest.raises(ValueError, match=r"is compressed; decompress it"):
        list_shards(name)


def test_unusable_validation_samples_are_named_by_their_shard(tmp_path):
    shard = write_shard(tmp_path / "a.tar", {"bad.png": b"x", "good.png": png(1)})
    examples = Denoising().evaluation_set(str(shard))
    assert len([*examples]) == 1
    assert [file for file, _ in examples.skipped] == [f"{shard}:bad"]
    alone = write_shard(tmp_path / "b.tar", {"bad.png": b"x"})
    with pytest.raises(ValueError, match=r"b\.tar:bad'"):
        list(Denoising().evaluation_set(str(alone)))


def test_temporary_copies_of_samples_are_not_cached(tmp_path):
    shard = write_shard(tmp_path / "a.tar", {"a.png": png(1, side=160)})
    cache = ImageCache(tmp_path / "cache", max_bytes=10**9)
    with use_cache(cache):
        assert len([*Denoising().evaluation_set(str(shard))]) == 1
    assert not cache.folder.images()


def test_validation_shards_that_are_trained_on_are_named(shards, tmp_path):
    source = str(tmp_path / "{0..1}.tar")
    data = Denoising().load_data(source, str(tmp_path / "1.tar"), val_count=2, crop=32, seed=0)
    assert "Training shards are also validation shards" in data.message
    data = Denoising().load_data(source, str(tmp_path / "2.tar"), val_count=2, crop=32, seed=0)
    assert "validation shards" not in data.message


def test_a_copy_that_cannot_be_written_names_the_remedy(tmp_path, bucket):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written: .+ choose another folder"):
        ShardStore(tmp_path / "file" / "shards").fetch(f"{bucket}/train-0.tar")


def test_inputs_beside_shards_of_pairs_are_refused(tmp_path):
    members = {"0.input.png": png(1), "0.target.png": png(2)}
    shard = write_shard(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match="omit --inputs"):
        Paired(1, inputs=str(tmp_path)).training_set(Shards([str(shard)]), crop=32, seed=0)
