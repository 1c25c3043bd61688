"""The steps of a trial, with a training that does not train."""

import pytest

from lossmith.tune import trial as trial_module
from lossmith.tune.space import Choice
from lossmith.tune.trial import Hardware, run_trial


@pytest.fixture
def trained_steps(monkeypatch):
    """Return the last steps of the trainings, which are not run."""
    steps: list[int] = []
    row = {"image": {"psnr_y": 30.0, "ssim_y": 0.9}}
    monkeypatch.setattr(trial_module, "_train_to_step", lambda settings, *args: steps.append(settings.steps))
    monkeypatch.setattr(trial_module, "evaluate_weights", lambda *args: row)
    return steps


def test_a_trial_of_equal_cost_is_evaluated_at_the_same_fractions_of_its_own_steps(
    make_search, tmp_path, trained_steps
):
    search = make_search(
        loss="L1 + 0.1*Every(k)*perceptual('vgg16', 'conv1_2', weights='random')",
        space={"k": Choice(("1", "2"))},
        steps=90,
        equal_cost=True,
    )
    (tmp_path / "logs").mkdir()
    rungs: list[int] = []

    def report_rung(step, metrics):
        rungs.append(step)
        return ""

    result = run_trial(search, 0, {"k": "2"}, tmp_path, hardware=Hardware("cpu"), report_rung=report_rung)
    total = search.settings({"k": "2"}).steps
    assert total > 150
    assert (result.step, trained_steps) == (total, [-(-total // 3), total])
    assert rungs == [30]  # compared with the other trials at the rung of the most expensive one
