"""Windows and macOS by simulation: locks, renames, missing modules and signals, spawned processes, paths and names."""

import ast
import io
import itertools
import os
from multiprocessing.reduction import ForkingPickler
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import lossmith
from lossmith import _files
from lossmith._files import lock_file, portable_key, write_text_atomically
from lossmith.cli.restore import name_outputs
from lossmith.data.image_listing import ImageFiles
from lossmith.data.pair_names import pair_by_name
from lossmith.tasks import Denoising, Inpainting, JPEGRepair, Paired, SuperResolution
from lossmith.train import Settings
from lossmith.train.data_stream import EndlessBatchSampler, SingleThreadedDataset, TimedLoader
from lossmith.train.fitting import ignore_sigint
from lossmith.train.folder import RunFolder, sheet_image, sheet_name


@pytest.fixture
def windows_locks(monkeypatch):
    """Replace fcntl by a simulation of msvcrt, whose lock another process holds for some attempts."""
    attempts = SimpleNamespace(held=0, count=0)

    def locking(descriptor, mode, size):
        assert (mode, size, os.lseek(descriptor, 0, os.SEEK_CUR)) == (2, 1, 0)
        attempts.count += 1
        if attempts.count <= attempts.held:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_files, "fcntl", None)
    monkeypatch.setattr(_files, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))
    monkeypatch.setattr(_files, "WAIT_SECONDS", 0)
    return attempts


def test_a_lock_of_windows_waits_for_other_processes(windows_locks, tmp_path):
    windows_locks.held = 3
    with (tmp_path / "file").open("a") as file:
        file.write("content")
        assert lock_file(file.fileno(), wait=True)
    assert windows_locks.count == 4


def test_a_run_folder_is_locked_on_windows(windows_locks, tmp_path):
    windows_locks.held = 1
    settings = Settings(loss="L1", steps=1, images="photos")
    with pytest.raises(ValueError, match="Another process is training in"):
        RunFolder(tmp_path / "run").claim(settings, "0")
    folder = RunFolder(tmp_path / "run")
    folder.claim(settings, "0")
    folder.release()


@pytest.mark.parametrize("failures", [2, 9])
def test_a_file_that_is_open_elsewhere_is_replaced_when_it_is_closed(tmp_path, monkeypatch, failures):
    path, count, replace = tmp_path / "report.html", itertools.count(1), Path.replace

    def refuse(self, target):
        if next(count) <= failures:
            raise PermissionError(13, "Permission denied")
        return replace(self, target)

    write_text_atomically(path, "old")
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(_files, "REPLACE_ATTEMPTS", 5)
    monkeypatch.setattr(_files, "WAIT_SECONDS", 0)
    if failures < 5:
        write_text_atomically(path, "new")
    else:
        with pytest.raises(OSError, match=r"report\.html' cannot be written: Permission denied"):
            write_text_atomically(path, "new")
    assert path.read_text() == ("new" if failures < 5 else "old")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


POSIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "posix"}
WINDOWS_SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_IGN", "SIG_DFL"}
POSIX_FUNCTIONS = {"fork", "setpgrp", "getuid", "geteuid", "getpgid", "killpg", "sched_getaffinity", "nice", "chown"}


def guarded(tree):
    """Yield the nodes inside try statements, conditions and ``with suppress(ImportError)``."""
    for node in ast.walk(tree):
        is_suppressed = isinstance(node, ast.With) and "suppress(ImportError" in ast.unparse(node.items[0])
        if is_suppressed or isinstance(node, ast.Try | ast.If):
            yield from ast.walk(node)


@pytest.mark.parametrize("file", sorted(Path(lossmith.__file__).parent.rglob("*.py")), ids=lambda file: file.stem)
def test_a_module_uses_what_only_posix_has_in_guards_only(file):
    tree = ast.parse(file.read_text("utf-8"))
    safe = {id(node) for node in guarded(tree)}
    for node in ast.walk(tree):
        if id(node) in safe:
            continue
        if isinstance(node, ast.Import):
            assert not POSIX_ONLY & {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.module not in POSIX_ONLY
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert not (node.value.id == "os" and node.attr in POSIX_FUNCTIONS)
            assert not (node.value.id == "signal" and node.attr.startswith("SIG")) or node.attr in WINDOWS_SIGNALS


@pytest.fixture
def photos(tmp_path):
    for seed, name in enumerate(("a.png", "b/c d.png", "ü.png")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def training_sets(photos):
    folder, files = str(photos), [*ImageFiles(sorted(photos.rglob("*.png")), photos)]
    tasks = [SuperResolution(2), SuperResolution(2, degradation="blind"), Denoising(), JPEGRepair(), Inpainting()]
    return [task.training_set(ImageFiles(files, photos), crop=32, seed=0) for task in [*tasks, Paired(inputs=folder)]]


def test_the_training_set_of_every_task_can_be_sent_to_a_spawned_process(photos):
    for items in training_sets(photos):
        sent = io.BytesIO(bytes(ForkingPickler.dumps((SingleThreadedDataset(items), ignore_sigint))))
        assert len(sent.getvalue()) < 2**20, type(items)


@pytest.mark.slow
def test_spawned_data_loading_processes_give_the_samples_of_this_process(photos):
    items = training_sets(photos)[2]
    loader = TimedLoader(
        items,
        torch.device("cpu"),
        batch_sampler=EndlessBatchSampler(2),
        num_workers=1,
        worker_init_fn=ignore_sigint,
        multiprocessing_context="spawn",
    )
    batches = iter(loader)
    for start in (0, 2):
        batch = next(batches)
        for k in range(2):
            torch.testing.assert_close(batch["input"][k], items[start + k]["input"], rtol=0, atol=0)
    del batches


def test_images_are_named_with_slashes_on_windows():
    files = ImageFiles([], "unused")
    files.root = PureWindowsPath(r"C:\photos")
    assert files.name(PureWindowsPath(r"C:\photos\x y\1.PNG")) == "x y/1.PNG"
    assert files.name(PureWindowsPath(r"c:\Photos\1.png")) == "1.png"  # case does not count


def test_images_of_another_drive_have_a_name(monkeypatch):
    def relpath(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("os.path.relpath", relpath)
    assert ImageFiles([], "/photos").name(Path("/other/1.png")) == "/other/1.png"


def test_pairs_of_windows_folders_are_found_by_their_paths(monkeypatch):
    monkeypatch.setattr("lossmith.data.file_paths.Path", PureWindowsPath)
    targets = ImageFiles([r"C:\true\a\1.png", r"C:\true\b\1.png"], "unused")
    inputs = ImageFiles([r"D:\in\b\1.jpg", r"D:\in\a\1.jpg"], "unused")
    targets.root, inputs.root = PureWindowsPath(r"C:\true"), PureWindowsPath(r"D:\in")
    pairs, skipped = pair_by_name(targets, inputs)
    assert pairs == {targets[0]: inputs[1], targets[1]: inputs[0]} and not skipped


@pytest.mark.parametrize(
    "names",
    [
        ["a.PNG", "A.png"],
        ["a.jpg", "a.png", "a.png.jpg", "A.JPG"],
        ["x/e\u0301.png", "x/\u00e9.png", "X/\u00c9.png"],
        ["stra\u00dfe.png", "STRASSE.png"],
        ["a.png", "a (2).png", "A.png", "a.png (2).png"],
    ],
)
def test_outputs_differ_where_case_and_accents_do_not_count(names):
    outputs = name_outputs([Path(name) for name in names])
    assert len({portable_key(str(output)) for output in outputs}) == len(names)


@pytest.mark.parametrize(
    "name", ["con.png", "x/aux.png", "NUL", "a./b.png", "3:4?.png", "what ", 'a"b|c*<d>\\e.png', "end."]
)
def test_sheets_have_names_that_windows_allows(name):
    sheet = sheet_name(name)
    assert sheet_image(sheet) == name
    assert not set(sheet) & set('<>:"/\\|?*') and not sheet.endswith((".", " "))
    assert not PureWindowsPath(sheet).is_reserved()


def test_a_network_file_on_a_drive_is_no_plugin(monkeypatch):
    from lossmith.cli import train

    monkeypatch.setattr(train, "Path", PureWindowsPathThatMayExist)
    options = train.NetworkOptions(model=r"C:\nets\x4.safetensors")
    assert train.network_arguments("denoising", options, {})["name"] == r"C:\nets\x4.safetensors"


class PureWindowsPathThatMayExist(PureWindowsPath):
    def exists(self):
        return False
