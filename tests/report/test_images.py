import base64
import io

import numpy as np
import pytest
from PIL import Image

from lossmith.report.folder import read_run
from lossmith.report.images import ENCODINGS, collect_images, embed_images


def decode(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")


def save_noise(folder, name, size, seed):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)


def test_small_images_are_encoded_losslessly(make_run):
    run = make_run(photographs=("coffee",))
    (comparison,), notes = embed_images(collect_images({0: read_run(run)}), 7_500_000)
    for variant in comparison.variants:
        with Image.open(variant.file) as image:
            assert np.array_equal(np.asarray(decode(variant.uri)), np.asarray(image.convert("RGB")))
    assert notes == ["Encoded losslessly."]


def test_variants_are_ordered_from_the_input_to_the_truth(make_run):
    runs = {i: read_run(make_run(f"run{i}", photographs=("coffee",))) for i in range(2)}
    (comparison,) = collect_images(runs)
    order = [(variant.role, variant.run, variant.step) for variant in comparison.variants]
    steps = (500, 1000, 1500, 2000)
    assert order == [
        ("input", None, None),
        ("bicubic", None, None),
        *[("run", run, step) for run in range(2) for step in steps],
        ("truth", None, None),
    ]


def test_images_of_one_name_with_different_truths_are_not_compared(make_run):
    runs = {
        0: read_run(make_run("a", photographs=("coffee",))),
        1: read_run(make_run("b", photographs=("coffee",), crop=64)),
    }
    assert [comparison.name for comparison in collect_images(runs)] == ["coffee", "coffee (b)"]


@pytest.mark.slow
@pytest.mark.parametrize("budget", [1_500_000, 300_000, 100_000])
def test_large_images_stay_within_the_budget(make_run, budget):
    run = make_run(photographs=(), done=0)
    for i in range(3):
        sheet = run / "sheets" / f"p{i}"
        save_noise(sheet, "input.png", (160, 120), i)
        for name in ("truth.png", "bicubic.png", "step_00000001.png", "step_00000002.png"):
            save_noise(sheet, name, (640, 480), i)
    embedded, notes = embed_images(collect_images({0: read_run(run)}), budget)
    size = sum(len(variant.uri) for comparison in embedded for variant in comparison.variants)
    assert 0 < size <= budget or not embedded
    assert notes


@pytest.mark.slow
def test_all_images_of_a_comparison_are_cropped_at_the_same_place(make_run):
    run = make_run(photographs=(), done=0)
    sheet = run / "sheets" / "p"
    save_noise(sheet, "input.png", (250, 180), 0)
    with Image.open(sheet / "input.png") as image:
        grey = image.convert("L")  # WebP subsamples colour
    grey.save(sheet / "input.png")
    grey.resize((1000, 720), Image.Resampling.BICUBIC).save(sheet / "truth.png")
    (comparison,), _ = embed_images(collect_images({0: read_run(run)}), 250_000)
    small, large = (decode(variant.uri) for variant in comparison.variants)
    assert large.width < 1000
    assert large.size == (4 * small.width, 4 * small.height)
    difference = np.asarray(small, float) - np.asarray(large.resize(small.size, Image.Resampling.BOX), float)
    assert np.abs(difference).mean() < 20  # it is 85 at another place of this noise


def test_many_steps_are_thinned_to_evenly_spaced_ones_with_the_first_and_the_last(make_run):
    run = make_run(photographs=("coffee",), val_every=50)
    (comparison,), _ = embed_images(collect_images({0: read_run(run)}), 7_500_000)
    steps = [variant.step for variant in comparison.variants if variant.role == "run"]
    assert len(steps) == ENCODINGS[0].steps
    assert (steps[0], steps[-1]) == (50, 2000)


def test_the_loupe_starts_where_input_and_truth_differ_most(make_run):
    run = make_run(photographs=(), done=0)
    sheet = run / "sheets" / "p"
    sheet.mkdir(parents=True)
    truth = np.full((180, 180, 3), 128, np.uint8)
    truth[20:60, 120:160] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    Image.fromarray(truth).save(sheet / "truth.png")
    Image.new("RGB", (45, 45), (128, 128, 128)).save(sheet / "input.png")
    (comparison,), _ = embed_images(collect_images({0: read_run(run)}), 7_500_000)
    x, y = comparison.focus
    assert 120 <= 180 * x <= 160
    assert 20 <= 180 * y <= 60
