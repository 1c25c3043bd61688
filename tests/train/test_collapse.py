"""A critic that teaches nothing any more is found out, and said to have collapsed, once; nothing is stopped."""

import io

import pytest
from rich.console import Console

from lossmith import parse
from lossmith.report import write_report
from lossmith.train import RunFolder, Settings, discriminator_monitor
from lossmith.train.discriminator_monitor import DiscriminatorMonitor
from lossmith.train.trainer import train

HEALTHY = {"critic": 1.3, "real": 0.6, "fake": 0.7, "spread": 0.4, "pull": 0.8}
WON = HEALTHY | {"critic": 0.001, "real": 1.0, "fake": 1.0}


def told(rows, loss="L1 + Adversarial('patch')", every=20, watch=None, begin=0):
    """What is said of a row of logged figures, by step."""
    watch = watch or DiscriminatorMonitor(parse(loss))
    said = {}
    for i, row in enumerate(rows, start=begin):
        news = watch.after(i * every, {f"Adversarial.{name}": value for name, value in row.items()})
        if news:
            (said[i * every],) = news.values()
    return said


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (WON, "is always right, by so much that its value is 0"),
        (HEALTHY | {"spread": 1e-6}, "gives all pictures one verdict"),
        (HEALTHY | {"pull": 1e-8}, "leaves no gradient at the picture"),
        (HEALTHY | {"critic": 1e6}, "is wrong by thousands"),
    ],
)
def test_what_goes_on_for_ten_logged_steps_is_said_once_with_the_cure(figures, words):
    (said,) = told([HEALTHY] * 3 + [figures] * 30).items()
    assert said == (
        240,
        f"The critic of 'Adversarial' {words}, from step 60 to 240: it teaches the network nothing now; begin anew, or "
        'from a checkpoint, with penalty="r1" or a smaller learning rate for it (lr=2e-05) or a smaller weight.',
    )


def test_a_healthy_critic_is_passed_over():
    assert not told([HEALTHY] * 50)


def test_one_better_step_begins_the_count_again():
    assert not told(([WON] * 9 + [HEALTHY]) * 5)


def test_many_lines_within_a_few_steps_are_not_long():
    assert not told([WON] * 50, every=1)


def test_a_cure_that_is_there_already_is_not_named():
    (words,) = told([WON] * 12, "L1 + Adversarial('patch', penalty='gp')").values()
    assert "penalty" not in words


def test_a_run_that_goes_on_counts_on_and_says_nothing_twice():
    rows = [WON] * 40
    first, second = DiscriminatorMonitor(parse("L1 + Adversarial('patch')")), DiscriminatorMonitor(parse("L1 + Adversarial('patch')"))
    assert not told(rows[:6], watch=first)
    second.load_state_dict(first.state_dict())
    assert list(told(rows[6:], watch=second, begin=6)) == [180]


def test_a_run_says_it_on_the_console_in_the_record_and_on_the_page(photos, tmp_path, lines, monkeypatch):
    monkeypatch.setattr(discriminator_monitor, "LINES", 3)
    monkeypatch.setattr(discriminator_monitor, "STEPS", 8)
    loss = "L1 + 0.01*Adversarial('patch', 'hinge', width=4, lr=0.01, spectral=False)"
    settings = Settings(
        images=str(photos),
        loss=loss,
        task="denoising",
        scale=1,
        options={"sigma": 100.0},  # which a critic sees at once, and a network that learns nothing leaves there
        steps=24,
        batch=4,
        crop=24,
        lr=1e-9,
        log_every=4,
        model={"name": "edsr", "channels": 4, "blocks": 1},
    )
    out = io.StringIO()
    assert train(settings, tmp_path, console=Console(file=out), accelerator="cpu", workers=0) == 24
    assert out.getvalue().count("The critic of 'Adversarial' is always right") == 1
    assert sum("collapsed" in line for line in lines(RunFolder(tmp_path))) == 1
    write_report([tmp_path], tmp_path / "report.html")
    assert "is always right, by so much that its value is 0" in (tmp_path / "report.html").read_text()
