"""A discriminator that no longer trains the network is reported once as collapsed, and the run continues."""

import io

import pytest
from rich.console import Console

from lossmith import parse
from lossmith.report import write_report
from lossmith.train import RunFolder, Settings, discriminator_monitor
from lossmith.train.discriminator_monitor import DiscriminatorMonitor
from lossmith.train.trainer import train

HEALTHY = {"loss": 1.3, "real_accuracy": 0.6, "fake_accuracy": 0.7, "logit_std": 0.4, "gradient_norm": 0.8}
WON = HEALTHY | {"loss": 0.001, "real_accuracy": 1.0, "fake_accuracy": 1.0}


def reports(rows, loss="L1 + Adversarial('patch')", every=20, monitor=None, begin=0):
    """Return the messages about a sequence of logged metrics, by step."""
    monitor = monitor or DiscriminatorMonitor(parse(loss))
    messages = {}
    for i, row in enumerate(rows, start=begin):
        found = monitor.update(i * every, {f"Adversarial.{name}": value for name, value in row.items()})
        if found:
            (messages[i * every],) = found.values()
    return messages


@pytest.mark.parametrize(
    ("metrics", "symptom"),
    [
        (WON, "is always right, with a loss of 0"),
        (HEALTHY | {"logit_std": 1e-6}, "returns the same logit for all images"),
        (HEALTHY | {"gradient_norm": 1e-8}, "has no gradient at the image"),
        (HEALTHY | {"loss": 1e6}, "has diverged, with a loss in the thousands"),
    ],
)
def test_a_symptom_in_ten_logged_steps_is_reported_once_with_remedies(metrics, symptom):
    (report,) = reports([HEALTHY] * 3 + [metrics] * 30).items()
    assert report == (
        240,
        f"The discriminator of 'Adversarial' {symptom}, from step 60 to 240. It no longer trains the network: restart, "
        'or resume an earlier checkpoint, with penalty="r1" or a lower learning rate of the discriminator (lr=2e-05) '
        "or a lower weight.",
    )


def test_a_healthy_discriminator_is_not_reported():
    assert not reports([HEALTHY] * 50)


def test_a_healthy_step_resets_the_count():
    assert not reports(([WON] * 9 + [HEALTHY]) * 5)


def test_many_lines_within_few_steps_are_not_reported():
    assert not reports([WON] * 50, every=1)


def test_a_remedy_that_is_in_use_is_not_suggested():
    (message,) = reports([WON] * 12, "L1 + Adversarial('patch', penalty='gp')").values()
    assert "penalty" not in message


def test_a_resumed_run_continues_the_count_and_reports_once():
    rows = [WON] * 40
    first, second = (
        DiscriminatorMonitor(parse("L1 + Adversarial('patch')")),
        DiscriminatorMonitor(parse("L1 + Adversarial('patch')")),
    )
    assert not reports(rows[:6], monitor=first)
    second.load_state_dict(first.state_dict())
    assert list(reports(rows[6:], monitor=second, begin=6)) == [180]


def test_a_collapse_is_reported_on_the_console_in_the_log_and_in_the_report(photos, tmp_path, lines, monkeypatch):
    monkeypatch.setattr(discriminator_monitor, "MIN_LINES", 3)
    monkeypatch.setattr(discriminator_monitor, "MIN_STEPS", 8)
    loss = "L1 + 0.01*Adversarial('patch', 'hinge', width=4, lr=0.01, spectral_norm=False)"
    settings = Settings(
        images=str(photos),
        loss=loss,
        task="denoising",
        scale=1,
        options={"sigma": 100.0},  # easy to discriminate, and left in place by a network that does not learn
        steps=24,
        batch=4,
        crop=24,
        lr=1e-9,
        log_every=4,
        model={"name": "edsr", "channels": 4, "blocks": 1},
    )
    out = io.StringIO()
    assert train(settings, tmp_path, console=Console(file=out), device="cpu", workers=0) == 24
    assert out.getvalue().count("The discriminator of 'Adversarial' is always right") == 1
    assert sum("collapsed" in line for line in lines(RunFolder(tmp_path))) == 1
    write_report([tmp_path], tmp_path / "report.html")
    assert "is always right, with a loss of 0" in (tmp_path / "report.html").read_text()
