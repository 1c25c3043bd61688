import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile

import pytest
import torch

from lossmith.train import RunFolder, Settings
from lossmith.train.fitting import raise_plain_errors
from lossmith.train.log import LogWriter


@pytest.fixture
def at_step_3(monkeypatch):
    """Call a function at the end of step 3."""

    def install(act):
        original = LogWriter.after_step

        def after_step(self, trainer, module, step):
            original(self, trainer, module, step)
            if step == 3:
                act()

        monkeypatch.setattr(LogWriter, "after_step", after_step)

    return install


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_after_the_current_step_with_a_checkpoint(run, at_step_3, signum):
    at_step_3(lambda: os.kill(os.getpid(), signum))
    before = signal.getsignal(signum)
    folder = run(checkpoint_every=100)
    assert torch.load(folder.checkpoint, weights_only=True)["global_step"] == 3
    assert signal.getsignal(signum) is before


@pytest.mark.slow
def test_a_run_whose_files_disappear_stops_with_a_checkpoint_from_which_it_resumes_to_the_bit(
    run, at_step_3, weights, photos, tmp_path
):
    images, away = tmp_path / "images", tmp_path / "away"
    shutil.copytree(photos, images)
    settings = {"images": str(images), "checkpoint_every": 100}
    whole = run("whole", **settings)
    at_step_3(lambda: images.rename(away))
    with pytest.raises(ValueError, match="None of the"):
        run("stopped", **settings)
    folder = RunFolder(tmp_path / "stopped")
    assert torch.load(folder.checkpoint, weights_only=True)["global_step"] == 3
    away.rename(images)
    torch.testing.assert_close(weights(run("stopped", **settings)), weights(whole), rtol=0, atol=0)


@pytest.fixture
def shards(photos, tmp_path):
    """The photos in three shards."""
    files = sorted(photos.glob("*.png"))
    for number in range(3):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for file in files[number::3]:
                tar.add(file, file.name)
    return tmp_path / "{0..2}.tar"


@pytest.mark.slow
@pytest.mark.parametrize("source", ["photos", "shards"])
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_run_to_the_bit(
    run, at_step_3, monkeypatch, lines, weights, source, request
):
    settings = {"images": request.getfixturevalue(source), "checkpoint_every": 100}
    whole = run("whole", **settings)
    with monkeypatch.context():
        at_step_3(lambda: os.kill(os.getpid(), signal.SIGINT))
        run("stopped", **settings)
    stopped = run("stopped", **settings)
    torch.testing.assert_close(weights(stopped), weights(whole), rtol=0, atol=0)
    assert [line["terms"] for line in lines(stopped)] == [line["terms"] for line in lines(whole)]


def test_a_second_signal_stops_the_run_at_once(run, at_step_3):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step_3(twice)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint_every=100)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint(run, at_step_3, tmp_path, weights):
    folder = RunFolder(tmp_path / "run")

    def fill_disk():
        folder.checkpoint.with_name("last.ckpt.partial").symlink_to("/dev/full")

    at_step_3(fill_disk)
    with pytest.raises(OSError, match=r"last\.ckpt' cannot be written: .*Earlier files are intact"):
        run(checkpoint_every=2)
    assert torch.load(folder.checkpoint, weights_only=True)["global_step"] == 2
    assert weights(folder)


DEVICES = """
import json, sys
from lossmith.train import Settings
from lossmith.train.trainer import train
train(Settings(**json.loads(sys.argv[1])), sys.argv[2], device="cpu", devices=2, workers=0)
"""


@pytest.mark.slow
def test_two_devices_train_as_one(run, photos, tmp_path, lines, weights):
    loss = "L1 + OnFrom(1) * 0.1*Adversarial('patch', 'relativistic', width=4, penalty='gp')"
    options = {"steps": 4, "batch": 4, "crop": 32, "loss": loss, "log_every": 1, "val_every": 100, "val_count": 1}
    one, two = run("one", **options), RunFolder(tmp_path / "two")
    script = tmp_path / "train.py"
    script.write_text(DEVICES)
    settings = json.loads((one.path / "config.json").read_text())
    settings.pop("lossmith")
    words = [sys.executable, script, json.dumps(settings), two.path]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(weights(two), weights(one), rtol=1e-4, atol=1e-6)
    for alone, together in zip(lines(one), lines(two), strict=True):
        assert together["terms"] == pytest.approx(alone["terms"], rel=1e-5)
    states = [torch.load(folder.checkpoint, weights_only=True)["state_dict"] for folder in (one, two)]
    for name in ("exp_avg", "exp_avg_sq"):  # the discriminator's Adam, from which its weights follow
        apart, joint = (state[f"monitor.loss.losses.1.discriminator_trainer.{name}"] for state in states)
        torch.testing.assert_close(apart, joint, rtol=1e-3, atol=1e-6)


HOLD = """
import sys
from lossmith.train import RunFolder, Settings
RunFolder(sys.argv[1]).claim(Settings(images="x", loss="L1", steps=1), "0")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_folder_of_another_process_raises(tmp_path):
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="Another process is training in"):
            RunFolder(tmp_path / "run").claim(Settings(images="x", loss="L1", steps=1), "0")
        other.kill()
    assert RunFolder(tmp_path / "run").claim(Settings(images="x", loss="L1", steps=1), "0") is False


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "Use fewer --workers, or 0"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "resume from the last checkpoint"),
        (
            OSError("Caught OSError in DataLoader worker process 0.\nTraceback\nOSError: [Errno 28] No space"),
            "No space",
        ),
    ],
)
def test_the_end_of_a_data_loading_process_is_an_error_of_one_line(error, text):
    with pytest.raises((ValueError, OSError), match=text) as caught, raise_plain_errors():
        raise error
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
