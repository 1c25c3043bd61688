import json

import pytest

from lossmith import parse

QUICK = ["--batches", "2", "--batch", "2", "--crop", "24", "--device", "cpu"]


def test_the_report_is_shown_with_its_source(run_cli, photos):
    status, out, _ = run_cli("calibrate", "L1 + 0.1*TV", "--images", photos, *QUICK)
    assert status == 0
    assert "x4 by bicubic, crops of 24 px of" in out
    line = next(line for line in out.splitlines() if line.startswith("The weights of L1 + 0.1*TV are L1 "))
    assert line.endswith(" % of the gradient on these images.")


def test_the_json_has_every_term_and_two_formulas_that_parse(run_cli, photos):
    status, out, _ = run_cli("calibrate", "L1 + 10*L2 + 0.1*TV", "--images", photos, "--scale", "2", "--json", *QUICK)
    report = json.loads(out)
    assert status == 0
    assert [row["name"] for row in report["terms"]] == ["L1", "L2", "TV"]
    assert sum(row["share"] for row in report["terms"]) == pytest.approx(1)
    assert report["num_images"] == 4
    assert report["source"].startswith("x2 by bicubic")
    assert [weight.share is not None for weight in parse(report["shares"]).weights] == [True] * 3
    assert parse(report["rescaled"])


def test_the_seed_determines_the_report(run_cli, photos):
    words = ["calibrate", "L1 + TV", "--images", photos, "--json", *QUICK]
    first, again, other = (run_cli(*words, "--seed", seed)[1] for seed in (3, 3, 4))
    assert first == again != other


def test_shares_in_the_formula_are_realized(run_cli, photos):
    _, out, _ = run_cli("calibrate", "L1 + 30% * TV", "--images", photos, "--json", *QUICK)
    assert json.loads(out)["terms"][1]["share"] == pytest.approx(0.3)


def test_the_predictions_and_the_scale_can_come_from_a_run(run_cli, photos, trained):
    _, out, _ = run_cli("calibrate", "L1 + TV", "--images", photos, "--model", trained, "--json", *QUICK)
    report = json.loads(out)
    assert report["source"].startswith(f"x2 by {trained}")
    _, out, _ = run_cli("calibrate", "L1 + TV", "--images", photos, "--scale", "2", "--json", *QUICK)
    assert json.loads(out)["terms"][0]["value"] != report["terms"][0]["value"]


def test_an_adversarial_term_comes_with_a_warning(run_cli, photos):
    out = run_cli("calibrate", "L1 + 0.005*Adversarial", "--images", photos, *QUICK)[1]
    assert "Adversarial has an untrained discriminator" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["L1 + TTV"], "did you mean 'TV'?"),
        (["60%*L1 + 70%*TV"], "The gradient shares add up to 130%, but they must not exceed 100%."),
        (["L1 @ VGG('vgg16', 'conv1_1', weights='none.pth')"], "none.pth"),
        (["L1.on(pred='filled')"], "filled"),
        (["L1", "--model", "nowhere"], "There is no run or file 'nowhere'"),
        (["L1", "--crop", "25"], "The crop size must be a positive multiple of the scale, 4; got 25."),
        (["L1", "--crop", "400"], "400"),
        (["L1", "--images", "nowhere"], "nowhere"),
    ],
)
def test_invalid_input_raises_one_line(run_cli, photos, words, message):
    given = words if "--images" in words else [*words, "--images", photos]
    status, _, err = run_cli("calibrate", *QUICK, *given)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
