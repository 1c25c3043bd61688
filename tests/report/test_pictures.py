import base64
import io

import numpy as np
import pytest
from PIL import Image

from lossmith.report.folder import read
from lossmith.report.images import LEVELS, collect, inline


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")


def noise(folder, name, size, seed):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)


def test_small_pictures_travel_without_loss(make_run):
    run = make_run(photographs=("coffee",))
    (picture,), remarks = inline(collect({0: read(run)}), 7_500_000)
    for shot in picture.shots:
        with Image.open(shot.file) as image:
            assert np.array_equal(np.asarray(opened(shot.uri)), np.asarray(image.convert("RGB")))
    assert remarks == ["Stored without loss."]


def test_the_shots_stand_in_the_order_of_the_story(make_run):
    runs = {i: read(make_run(f"run{i}", photographs=("coffee",))) for i in range(2)}
    (picture,) = collect(runs)
    order = [(shot.role, shot.run, shot.step) for shot in picture.shots]
    steps = (500, 1000, 1500, 2000)
    assert order == [
        ("input", None, None),
        ("bicubic", None, None),
        *[("run", run, step) for run in range(2) for step in steps],
        ("truth", None, None),
    ]


def test_pictures_of_one_name_and_different_truths_are_not_compared(make_run):
    runs = {0: read(make_run("a", photographs=("coffee",))), 1: read(make_run("b", photographs=("coffee",), crop=64))}
    assert [picture.name for picture in collect(runs)] == ["coffee", "coffee (b)"]


@pytest.mark.parametrize("budget", [1_500_000, 300_000, 100_000])
def test_large_pictures_stay_under_the_budget(make_run, budget):
    run = make_run(photographs=(), done=0)
    for i in range(3):
        sheet = run / "sheets" / f"p{i}"
        noise(sheet, "input.png", (160, 120), i)
        for name in ("truth.png", "bicubic.png", "step_00000001.png", "step_00000002.png"):
            noise(sheet, name, (640, 480), i)
    made, remarks = inline(collect({0: read(run)}), budget)
    assert 0 < sum(len(shot.uri) for picture in made for shot in picture.shots) <= budget or not made
    assert remarks


def test_all_pictures_of_a_page_are_cut_at_the_same_place(make_run):
    run = make_run(photographs=(), done=0)
    sheet = run / "sheets" / "p"
    noise(sheet, "input.png", (250, 180), 0)
    with Image.open(sheet / "input.png") as image:
        grey = image.convert("L")  # the colours of a WebP are coarser than its pixels
    grey.save(sheet / "input.png")
    grey.resize((1000, 720), Image.Resampling.BICUBIC).save(sheet / "truth.png")
    (picture,), _ = inline(collect({0: read(run)}), 250_000)
    small, large = (opened(shot.uri) for shot in picture.shots)
    assert large.width < 1000
    assert large.size == (4 * small.width, 4 * small.height)
    same = np.asarray(small, float) - np.asarray(large.resize(small.size, Image.Resampling.BOX), float)
    assert np.abs(same).mean() < 20  # another place of this noise is 85 apart


def test_many_steps_are_thinned_to_the_first_the_last_and_some_between(make_run):
    run = make_run(photographs=("coffee",), val_every=50)
    (picture,), _ = inline(collect({0: read(run)}), 7_500_000)
    steps = [shot.step for shot in picture.shots if shot.role == "run"]
    assert len(steps) == LEVELS[0].steps
    assert (steps[0], steps[-1]) == (50, 2000)


def test_the_loupe_starts_where_most_is_to_be_invented(make_run):
    run = make_run(photographs=(), done=0)
    sheet = run / "sheets" / "p"
    sheet.mkdir(parents=True)
    truth = np.full((180, 180, 3), 128, np.uint8)
    truth[20:60, 120:160] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    Image.fromarray(truth).save(sheet / "truth.png")
    Image.new("RGB", (45, 45), (128, 128, 128)).save(sheet / "input.png")
    (picture,), _ = inline(collect({0: read(run)}), 7_500_000)
    x, y = picture.place
    assert 120 <= 180 * x <= 160
    assert 20 <= 180 * y <= 60
