import json

import pytest

from lossmith import parse

QUICK = ["--batches", "2", "--batch", "2", "--crop", "24", "--device", "cpu"]


def test_it_shows_the_card_and_says_what_was_looked_at(say, photos):
    status, out, _ = say("calibrate", "L1 + 0.1*TV", "--images", photos, *QUICK)
    assert status == 0
    assert "x4 by bicubic, crops of 24 px of" in out
    line = next(line for line in out.splitlines() if line.startswith("The weights of L1 + 0.1*TV are L1 "))
    assert line.endswith(" % of the gradient on these pictures.")


def test_its_json_has_every_term_and_two_formulas_that_read_back(say, photos):
    status, out, _ = say("calibrate", "L1 + 10*L2 + 0.1*TV", "--images", photos, "--scale", "2", "--json", *QUICK)
    card = json.loads(out)
    assert status == 0
    assert [row["name"] for row in card["terms"]] == ["L1", "L2", "TV"]
    assert sum(row["share"] for row in card["terms"]) == pytest.approx(1)
    assert card["pictures"] == 4
    assert card["source"].startswith("x2 by bicubic")
    assert [weight.share is not None for weight in parse(card["shares"]).weights] == [True] * 3
    assert parse(card["rescaled"])


def test_the_same_seed_gives_the_same_card_and_another_does_not(say, photos):
    words = ["calibrate", "L1 + TV", "--images", photos, "--json", *QUICK]
    first, again, other = (say(*words, "--seed", seed)[1] for seed in (3, 3, 4))
    assert first == again != other


def test_shares_in_the_formula_are_met(say, photos):
    _, out, _ = say("calibrate", "L1 + 30% * TV", "--images", photos, "--json", *QUICK)
    assert json.loads(out)["terms"][1]["share"] == pytest.approx(0.3)


def test_a_run_gives_the_prediction_and_the_scale(say, photos, trained):
    _, out, _ = say("calibrate", "L1 + TV", "--images", photos, "--model", trained, "--json", *QUICK)
    card = json.loads(out)
    assert card["source"].startswith(f"x2 by {trained}")
    _, out, _ = say("calibrate", "L1 + TV", "--images", photos, "--scale", "2", "--json", *QUICK)
    assert json.loads(out)["terms"][0]["value"] != card["terms"][0]["value"]


def test_an_adversarial_term_comes_with_a_word_of_warning(say, photos):
    out = say("calibrate", "L1 + 0.005*Adversarial", "--images", photos, *QUICK)[1]
    assert "Adversarial has a critic that has learnt nothing yet" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["L1 + TTV"], "did you mean 'TV'?"),
        (["60%*L1 + 70%*TV"], "The gradient shares add up to 130%, but they must not exceed 100%."),
        (["L1 @ VGG('vgg16', 'conv1_1', weights='none.pth')"], "none.pth"),
        (["L1.on(pred='filled')"], "filled"),
        (["L1", "--model", "nowhere"], "There is no run and no file 'nowhere'"),
        (["L1", "--crop", "25"], "The crop size must be a positive multiple of the scale, 4; got 25."),
        (["L1", "--crop", "400"], "400"),
        (["L1", "--images", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_work_gets_one_line(say, photos, words, said):
    given = words if "--images" in words else [*words, "--images", photos]
    status, _, err = say("calibrate", *QUICK, *given)
    assert status == 2
    assert said in err
    assert "Traceback" not in err
