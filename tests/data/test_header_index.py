"""The index of image headers: read once, listed again if broken, read again after a change."""

import sqlite3

import numpy as np
import pytest
from PIL import Image

from lossmith.data import ImageFolder, find_pixel_format
from lossmith.data.cache import ImageCache, headers, use_cache
from lossmith.data.cache.headers import HeaderIndex


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "photos" / name for name in ("a.png", "b é.png", "c/d.png")]
    for k, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40 + k, 50, 3), 9, dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def opened(monkeypatch):
    """Return the list of the files whose headers are read from now on."""
    found, read = [], headers.read_image_header

    def record(file):
        found.append(file.name)
        return read(file)

    monkeypatch.setattr(headers, "read_image_header", record)
    return found


def sizes(found):
    return [(header.height, header.width) for header in found]


def test_a_second_process_reads_no_header(files, tmp_path, opened):
    for _ in range(2):
        assert sizes(HeaderIndex(tmp_path / "index.sqlite").read_all(files)) == [(40, 50), (41, 50), (42, 50)]
    assert len(opened) == 3


def test_a_start_reads_each_header_once(files, tmp_path, opened):
    with use_cache(ImageCache(tmp_path / "cache", max_bytes=10**9)):
        find_pixel_format(files)
        ImageFolder(files)
    assert len(opened) == 3


def test_a_changed_file_is_read_again(files, tmp_path, opened):
    HeaderIndex(tmp_path / "index.sqlite").read_all(files)
    Image.fromarray(np.full((90, 50, 3), 9, dtype=np.uint8)).save(files[1])
    for _ in range(2):
        assert sizes(HeaderIndex(tmp_path / "index.sqlite").read_all(files)) == [(40, 50), (90, 50), (42, 50)]
    assert opened == ["a.png", "b é.png", "d.png", "b é.png"]


def test_a_broken_file_is_listed_at_every_start(files, tmp_path):
    files[0].write_text("hello")
    for _ in range(2):
        images = ImageFolder(files, cache=ImageCache(tmp_path / "cache", max_bytes=10**9))
        assert [(file, reason) for file, reason in images.skipped] == [(str(files[0]), "the content is not an image")]


def test_a_file_that_is_repaired_without_a_change_of_its_time_is_used(files, tmp_path, monkeypatch):
    def fail(file):
        raise ValueError("permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(headers, "read_image_header", fail)
        assert isinstance(HeaderIndex(tmp_path / "index.sqlite").read_all(files)[0], ValueError)
    assert sizes(HeaderIndex(tmp_path / "index.sqlite").read_all(files))[0] == (40, 50)


@pytest.mark.parametrize("damage", [b"", b"not a database" * 1000])
def test_a_damaged_index_is_replaced(damage, files, tmp_path, opened):
    index = tmp_path / "index.sqlite"
    HeaderIndex(index).read_all(files)
    index.write_bytes(damage)
    for _ in range(2):
        assert len(HeaderIndex(index).read_all(files)) == 3
    assert len(opened) == 6


def test_an_index_that_cannot_be_written_is_passed_over(files, tmp_path):
    (tmp_path / "file").write_text("x")
    assert len(HeaderIndex(tmp_path / "file" / "index.sqlite").read_all(files)) == 3


def test_a_locked_index_is_passed_over(files, tmp_path, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file: connect(file, timeout=0.01))
    index = tmp_path / "index.sqlite"
    HeaderIndex(index).read_all(files[:1])
    holder = connect(index)
    holder.execute("BEGIN EXCLUSIVE")
    assert len(HeaderIndex(index).read_all(files)) == 3
    holder.close()


def test_a_killed_start_continues_where_it_was(files, tmp_path, opened, monkeypatch):
    monkeypatch.setattr(headers, "BATCH", 1)
    index = HeaderIndex(tmp_path / "index.sqlite")

    def stop(self, done):
        if done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(headers._ProgressBar, "advance", stop)
        with pytest.raises(KeyboardInterrupt):
            index.read_all(files)
    HeaderIndex(tmp_path / "index.sqlite").read_all(files)
    assert opened == ["a.png", "b é.png", "d.png"]


def test_a_long_start_says_what_it_does(files, monkeypatch, capsys):
    monkeypatch.setattr(headers, "PATIENCE_SECONDS", -1)
    HeaderIndex().read_all(files)
    assert capsys.readouterr().err == "Reading the headers of 3 images\n"


def test_values_without_data_keep_their_type(tmp_path):
    header = headers.ImageHeader(1, 2, 1, "float32", (0.0, 1.5), float("nan"), (0.0, 1.0))
    parsed = headers._parse_header(headers.json.dumps(header))
    assert repr(parsed) == repr(header)
