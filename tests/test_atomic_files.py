"""Atomic writes."""

import os

import pytest

from lossmith._files import write_atomically, write_text_atomically
from lossmith._format import format_duration


def test_a_text_is_written_with_its_line_ends_into_new_folders(tmp_path):
    write_text_atomically(tmp_path / "a" / "b" / "text.txt", "ü\r\n1\n")
    assert (tmp_path / "a" / "b" / "text.txt").read_bytes() == "ü\r\n1\n".encode()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["text.txt"]


def test_the_earlier_file_is_in_place_while_the_new_one_is_written(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    write_atomically(path, lambda partial: partial.write_text(path.read_text() + " and new"))
    assert path.read_text() == "old and new"


def test_a_failed_write_keeps_the_earlier_file_and_leaves_nothing_else(tmp_path):
    def fail(partial):
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match=r"file' cannot be written: No space left on device\. Earlier files are intact"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_a_file_has_the_mode_of_the_umask_whatever_the_writer_sets(tmp_path, umask, mode):
    def write(partial):  # as safetensors, which replaces the file by a private one
        partial.unlink()
        partial.touch(0o600)

    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "model", write)
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == mode


def test_processes_that_share_a_file_use_temporary_files_of_their_own(tmp_path):
    names = []

    def write(partial):
        names.append(partial.name)
        partial.write_text("")

    write_atomically(tmp_path / "file", write, is_shared=True)
    assert names == [f"file.{os.getpid()}.partial"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7325, "2 h 2 min")]
)
def test_durations_have_two_units(seconds, text):
    assert format_duration(seconds) == text


def test_a_name_that_is_no_utf_8_is_written_escaped(tmp_path):
    write_text_atomically(tmp_path / "report", "größe\udcff")
    assert (tmp_path / "report").read_text(encoding="utf-8") == "größe\\udcff"
