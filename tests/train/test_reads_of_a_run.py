"""What a run reads and computes for its validations: nothing twice."""

from collections import Counter

import pytest

from lossmith.data import DegradedImages, PairedImages, SuperResolutionPairs


@pytest.fixture
def reads(monkeypatch):
    """Count the decoded files, and the examples that are read and degraded."""
    from lossmith.data.cache import image_cache

    counts, decode = {"files": Counter(), "examples": Counter()}, image_cache.decode_image

    def count_file(file, pixels):
        counts["files"][str(file)] += 1
        return decode(file, pixels)

    monkeypatch.setattr(image_cache, "decode_image", count_file)
    for kind in (DegradedImages, PairedImages, SuperResolutionPairs):

        def count_example(self, index, read=kind.read):
            counts["examples"][index] += 1
            return read(self, index)

        monkeypatch.setattr(kind, "read", count_example)
    return counts


KNOB = {"loss": "L1 + lam*TV", "knobs": {"lam": (0.1, 1)}}
DENOISING = {"task": "denoising", "scale": 1, "options": {"sigma": 25.0}}


@pytest.mark.parametrize(
    ("settings", "has_folder"),
    [
        (DENOISING, True),
        pytest.param({}, False, marks=pytest.mark.slow),
        pytest.param(KNOB, False, marks=pytest.mark.slow),
    ],
    ids=["a folder of noisy images", "held-out images", "a knob, whose ends are validated too"],
)
def test_a_run_decodes_and_degrades_each_image_once(run, photos, reads, settings, has_folder, lines):
    folder = run(**settings, val=str(photos) if has_folder else None, val_count=3, val_every=2)
    assert len(lines(folder, "validation.jsonl")) == 3
    assert {*reads["examples"].values()} == {*reads["files"].values()} == {1}
    assert len(reads["examples"]) == (3 if has_folder else 1)
