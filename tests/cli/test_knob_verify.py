import json

import pytest

from lossmith.cli import main

from .conftest import QUICK, SMALL


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """The folder of a finished run with a knob."""
    out = tmp_path_factory.mktemp("runs") / "knob"
    words = ["train", "super-resolution", "--images", photos, "--val", photos, "--loss", "L1 + lam*TV", "--out", out]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.hub.download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
        assert main([str(word) for word in [*words, "--knob", "lam=0.1:10", *QUICK, *SMALL]]) == 0
    return out


@pytest.fixture
def verified(say, run, photos):
    """Verifies on the command line, by the axis that needs no weights."""
    return lambda *words: say("knob", "verify", run, "--images", photos, "--realism", "swd", "--device", "cpu", *words)


def test_without_networks_it_prints_the_curve_as_one_line(verified, run):
    status, out, err = verified("--json", "--limit", 2)
    record = json.loads(out)
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert record["certified"] is None and [point["at"] for point in record["curve"]][::6] == [0.1, 10.0]
    assert not (run / "verify").exists()


def test_it_trains_the_networks_certifies_and_keeps_the_certificate(verified, run, photos):
    status, out, err = verified("--train", "--values", 2, "--limit", 2)
    assert (status, err) == (0, "") and "Turned by its layers: NO, not certified." in out
    kept = run / "verify" / f"certificate_{photos.name}.txt"
    assert kept.read_text() in out and kept.with_suffix(".png").is_file()
    assert verified("--json", "--limit", 2)[1] == kept.with_suffix(".json").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--realism", "fid"], "There is no axis of realism 'fid'; there are lpips_alex, dists, swd."),
        (["--equal-length", "30"], "The knob 'lam' was trained from 0.1 to 10; 30 is beyond."),
        (["--values", "9", "--train"], "4 steps are shared out among 2 networks or more; got 9."),
    ],
)
def test_what_cannot_be_had_is_one_line(verified, words, told):
    status, _, err = verified(*words)
    assert status == 2 and err.strip() == f"lossmith: {told}"


def test_a_folder_that_is_no_run_is_one_line(say, photos, tmp_path):
    status, _, err = say("knob", "verify", tmp_path, "--images", photos)
    assert status == 2 and "holds no settings of a run" in err and err.count("\n") == 1
