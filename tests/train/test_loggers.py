"""The loggers of a run, each with its real package in its local mode."""

import csv
import importlib.util
import sqlite3
import struct

import pytest

from lossmith import parse
from lossmith.cli import main
from lossmith.train import RunFolder, Settings, train
from lossmith.train.loggers import check_loggers

from .conftest import TINY

TERM = "terms/TV"


@pytest.fixture
def log(photos, tmp_path, monkeypatch):
    """Train three steps with a logger, and resume for a fourth."""
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)

    def make(*loggers):
        for package in set(loggers) - {"csv"}:
            pytest.importorskip(package, reason=f"{package} is not installed")
        for steps in (3, 4):
            settings = Settings(**{**TINY, "images": str(photos), "steps": steps, "log_every": 1})
            train(settings, tmp_path / "run", device="cpu", workers=0, loggers=loggers)
        return RunFolder(tmp_path / "run").path

    return make


def test_csv_and_tensorboard_together_have_every_term_and_image_and_the_formula(log):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = log("tensorboard", "csv")
    rows = []
    for file in sorted(folder.glob("csv/*/metrics.csv")):
        with file.open(encoding="utf-8") as lines:
            rows += [row["step"] for row in csv.DictReader(lines) if row.get(TERM)]
    assert rows == ["1", "2", "3", "4"]
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars(TERM)] == [1, 2, 3, 4]
    (tag,) = events.Tags()["images"]
    assert [event.step for event in events.Images(tag)] == [3, 4]
    assert repr(parse(TINY["loss"])) in (folder / "tensorboard" / "hparams.yaml").read_text()


def read_records(file):
    """Yield the records of a file of wandb: LevelDB's log format behind a header of 7 bytes."""
    content, position, parts = file.read_bytes(), 7, []
    while position < len(content):
        left = 32768 - position % 32768  # in the block
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        parts.append(content[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield b"".join(parts)
            parts.clear()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_each_session_offline_with_one_id(log):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    folder = log("wandb")
    wandb.teardown()  # its service writes the files, and has written them when it has ended
    steps, config, files = [], {}, set()
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for data in read_records(file):
            record = Record()
            record.ParseFromString(data)
            found = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            steps += [int(found["trainer/global_step"])] if TERM in found else []
            config |= {item.key: item.value_json for item in record.run.config.update}
            config |= {item.key: item.value_json for item in record.config.update}
            files |= {file.name}
    assert steps == [1, 2, 3, 4]
    assert len(files) == 1  # the id of the run
    assert repr(parse(TINY["loss"])) in config["loss"]
    assert list(folder.glob("wandb/offline-run-*/files/media/images/validation/*.png"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_continues_its_run_in_the_run_folder(log):
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    folder = log("mlflow")
    with sqlite3.connect(folder / "mlflow" / "mlflow.db") as database:
        steps = database.execute("select step from metrics where key = ? order by step", (TERM,)).fetchall()
        (loss,) = database.execute("select value from params where key = 'loss'").fetchone()
        runs = database.execute("select count(*) from runs").fetchone()
    database.close()
    assert [step for (step,) in steps] == [1, 2, 3, 4]
    assert (loss, runs) == (repr(parse(TINY["loss"])), (1,))
    assert len(list(folder.glob("mlflow/artifacts/*/artifacts/images/*.png"))) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio_continues_its_run(log, tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason="trackio is not installed")
    import trackio.sqlite_storage
    import trackio.utils

    for module in (trackio, trackio.utils, trackio.sqlite_storage):
        for name in ("TRACKIO_DIR", "MEDIA_DIR"):
            if hasattr(module, name):
                where = tmp_path / "trackio" / ("media" if name == "MEDIA_DIR" else "")
                monkeypatch.setattr(module, name, where)
    log("trackio")
    (run,) = trackio.sqlite_storage.SQLiteStorage.get_run_records("lossmith")
    rows = trackio.sqlite_storage.SQLiteStorage.get_logs("lossmith", run["name"])
    assert [row["step"] for row in rows if TERM in row] == [1, 2, 3, 4]
    config = trackio.sqlite_storage.SQLiteStorage.get_run_config("lossmith", run["name"])
    assert config["loss"] == repr(parse(TINY["loss"]))


@pytest.mark.parametrize("package", ["wandb", "trackio", "mlflow"])
def test_a_logger_without_its_package_is_one_line(package, photos, tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr("lossmith.train.loggers.find_spec", lambda name: None if name == package else find(name))
    words = ["--images", str(photos), "--loss", "L1", "--steps", "1", "--out", str(tmp_path / "run")]
    assert main(["train", "super-resolution", *words, "--logger", f"csv,{package}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lossmith: The logger {package} is not installed: pip install {package}")
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_names_the_known_ones():
    with pytest.raises(ValueError, match=r"^logger must be one of tensorboard, wandb, .*; got 'comet'\.$"):
        check_loggers(["csv,comet"])


def test_a_logger_that_is_named_twice_is_used_once():
    assert check_loggers(["csv, tensorboard", "csv"]) == ("csv", "tensorboard")
