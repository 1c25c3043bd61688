"""The folder of temporary files."""

import os
import subprocess
import sys
import tempfile

import pytest

pytest.importorskip("gradio")

from lossmith.studio import temporary
from lossmith.studio.temporary import LOCK, PREFIX, use_temporary_folder

HOLD = (
    "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); print(1, flush=True); input()"
)


@pytest.mark.skipif(os.name == "nt", reason="the other process locks with fcntl")
def test_folders_of_killed_servers_are_removed_and_those_of_running_ones_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary.atexit, "register", lambda *_: None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    for name in ("killed", "running"):
        (tmp_path / f"{PREFIX}{name}" / "uploads").mkdir(parents=True)
        (tmp_path / f"{PREFIX}{name}" / LOCK).touch()
    (tmp_path / "other").mkdir()
    running = tmp_path / f"{PREFIX}running"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HOLD, str(running / LOCK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline()
        folder = use_temporary_folder.__wrapped__()
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, running.name, "other"}
        holder.communicate(b"\n")
    assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
    assert folder.stat().st_mode & 0o077 == 0
    temporary._remove(folder, os.open(folder / LOCK, os.O_RDWR))
    assert not folder.exists()
