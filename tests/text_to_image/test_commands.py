"""What the commands say of networks that make pictures of texts."""

import io

import pytest
from rich.console import Console

from lossmith.train import Settings, train

DIRECT = {"name": "direct", "channels": [8, 4], "latents": 3}
COMMON = {"scale": 1, "crop": 16, "batch": 3, "val_count": 2, "steps": 1, "options": {"encoder": "words"}}


@pytest.fixture(scope="module")
def ours(captioned, tmp_path_factory):
    """Sixteen pictures of two captions each, and two that cannot be used."""
    folder = tmp_path_factory.mktemp("pictures") / "ours"
    captioned(folder, 16)
    (folder / "alone.txt").write_text("no picture")
    (folder / "0.txt").unlink()
    return folder


@pytest.fixture(scope="module")
def direct(ours, tmp_path_factory):
    """The folder of a run of the direct decoder, and what it said."""
    out, said = tmp_path_factory.mktemp("runs") / "direct", io.StringIO()
    settings = Settings(**COMMON, task="direct-text-to-image", images=str(ours), loss="L1", model=DIRECT)
    train(settings, out, console=Console(file=said, width=200), accelerator="cpu", workers=0)
    return out, said.getvalue()


def test_a_training_says_how_many_captions_there_are_whatever_was_skipped(direct):
    assert "26 captions, 2 skipped\n" in direct[1]  # of 15 pictures two are held out
