import json

import pytest

from lossmith.cli import main
from lossmith.cli.knob_verify import choose_figure

from .conftest import QUICK, SMALL


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """The folder of a completed run with a knob."""
    out = tmp_path_factory.mktemp("runs") / "knob"
    words = ["train", "super-resolution", "--images", photos, "--val", photos, "--loss", "L1 + lam*TV", "--out", out]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.hub.download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
        assert main([str(word) for word in [*words, "--knob", "lam=0.1:10", *QUICK, *SMALL]]) == 0
    return out


@pytest.fixture
def verify(run_cli, run, photos):
    """Verify on the command line, with the realism metric that needs no weights."""
    return lambda *words: run_cli(
        "knob", "verify", run, "--images", photos, "--realism", "swd", "--device", "cpu", *words
    )


@pytest.mark.slow
def test_without_baselines_the_curve_is_printed_as_one_line(verify, run):
    status, out, err = verify("--json", "--limit", 2)
    record = json.loads(out)
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert record["certified"] is None and [point["knob_value"] for point in record["curve"]][::6] == [0.1, 10.0]
    assert not (run / "verify").exists()


@pytest.mark.slow
def test_the_baselines_are_trained_and_the_certificate_is_kept(verify, run, photos):
    status, out, err = verify("--train", "--values", 2, "--limit", 2)
    assert (status, err) == (0, "") and "Conditioned layers: NOT certified." in out
    kept = run / "verify" / f"certificate_{photos.name}.txt"
    assert kept.read_text() in out and kept.with_suffix(".png").is_file()
    assert verify("--json", "--limit", 2)[1] == kept.with_suffix(".json").read_text()


def test_a_certificate_replaces_none_on_other_images_of_the_same_folder_name(tmp_path):
    found = []
    for images in (tmp_path / "a/test", tmp_path / "b/test", tmp_path / "a/test"):
        figure = choose_figure(tmp_path, images)
        figure.with_suffix(".json").write_text(json.dumps({"images": str(images)}))
        found.append(figure.name)
    assert found == ["certificate_test.png", "certificate_b_test.png", "certificate_test.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--realism", "fid"], "realism must be one of 'lpips_alex', 'dists', 'swd'; got 'fid'."),
        (["--equal-length", "30"], "The knob 'lam' was trained from 0.1 to 10; got 30."),
        (["--values", "9", "--train"], "values must be at least 2 and at most the run's 4 steps; got 9."),
    ],
)
def test_invalid_input_raises_one_line(verify, words, message):
    status, _, err = verify(*words)
    assert status == 2 and err.strip() == f"lossmith: {message}"


def test_a_folder_that_is_not_a_run_raises_one_line(run_cli, photos, tmp_path):
    status, _, err = run_cli("knob", "verify", tmp_path, "--images", photos)
    assert status == 2 and "holds no settings of a run" in err and err.count("\n") == 1
