import sys
from importlib.metadata import EntryPoint

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lossmith.train import Settings, optimizers
from lossmith.train.optimizers import Muon, build_optimizer, evaluation_weights, has_evaluation_mode
from lossmith.train.schedules import lr_factor, parse_milestones
from lossmith.train.settings import OPTIMIZERS


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1))


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int = 30) -> float:
    """Return the last loss of the training to double an image."""
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for _ in range(count):
        optimizer.zero_grad()
        loss = (model(image) - 2 * image).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


def build(name: str, model: nn.Module, **options) -> torch.optim.Optimizer:
    optimizer = build_optimizer(name, model.parameters(), lr=0.01, weight_decay=0.0, options=options)
    optimizers.start_training_mode(optimizer)
    return optimizer


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_each_optimizer_reduces_the_loss(name):
    if name.startswith("schedule-free"):
        pytest.importorskip("schedulefree", reason="the extra optimizers is not installed")
    model = layers()
    first = take_steps(model, build(name, model), count=1)
    assert take_steps(model, build(name, model)) < 0.9 * first


def test_muon_gives_a_weight_orthogonal_rows():
    layer = nn.Conv2d(8, 4, 3)
    before = layer.weight.detach().clone()
    layer(torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    Muon(layer.parameters(), lr=1.0).step()
    update = (layer.weight.detach() - before).flatten(1)
    gram = update @ update.T
    assert_close(gram / gram.diagonal().mean(), torch.eye(4), atol=0.35, rtol=0)  # 5 iterations in bfloat16


def test_muon_does_not_depend_on_the_memory_format():
    models = layers(), layers().to(memory_format=torch.channels_last)
    for model in models:
        take_steps(model, build("muon", model), count=3)
    assert_close(list(models[0].parameters()), list(models[1].parameters()), atol=1e-3, rtol=1e-2)  # bfloat16


@pytest.mark.parametrize("name", ["muon", "schedule-free-adamw"])
def test_the_state_of_an_optimizer_restores_its_next_steps_to_the_bit(name, tmp_path):
    if name.startswith("schedule-free"):
        pytest.importorskip("schedulefree", reason="the extra optimizers is not installed")
    model, again = layers(), layers()
    optimizer = build(name, model)
    take_steps(model, optimizer, count=3)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(state["model"])
    other = build(name, again)
    other.load_state_dict(state["optimizer"])
    take_steps(model, optimizer, count=2)
    take_steps(again, other, count=2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_evaluation_weights_differ_and_are_undone_to_the_bit():
    pytest.importorskip("schedulefree", reason="the extra optimizers is not installed")
    model = layers()
    optimizer = build("schedule-free-adamw", model)
    take_steps(model, optimizer, count=3)
    trained = [weight.clone() for weight in model.parameters()]
    with evaluation_weights(optimizer, model.parameters()):
        assert not torch.equal(model[0].weight, trained[0])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained, strict=True))
    assert has_evaluation_mode(optimizer) and not has_evaluation_mode(build("adamw", layers()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), [("adamw", {"betas": [0.9, 0.99]}), ("sgd", {}), ("muon", {}), ("schedule-free-adamw", {})]
)
def test_a_resumed_run_equals_the_uninterrupted_run_to_the_bit(run, weights, name, options):
    if name.startswith("schedule-free"):
        pytest.importorskip("schedulefree", reason="the extra optimizers is not installed")
    given = {"optimizer": name, "optimizer_options": options, "schedule": "constant", "loss": "L1"}
    whole = run("whole", **given)
    run("parts", **given, steps=4)
    parts = run("parts", **given)
    assert all(torch.equal(weights(whole)[key], value) for key, value in weights(parts).items())


@pytest.mark.slow
def test_a_schedule_free_run_saves_the_optimizers_averages(run, weights):
    pytest.importorskip("schedulefree", reason="the extra optimizers is not installed")
    folder = run(optimizer="schedule-free-adamw", schedule="constant", loss="L1", steps=3)
    state = torch.load(folder.checkpoint, weights_only=True)
    trained = {k.removeprefix("model."): v for k, v in state["state_dict"].items() if k.startswith("model.")}
    second = [each["z"] for each in state["optimizer_states"][0]["state"].values()]
    averages = {key: y.lerp(z, 1 - 1 / 0.9) for (key, y), z in zip(trained.items(), second, strict=True)}
    assert_close(averages, weights(folder))


def test_a_schedule_free_optimizer_with_a_falling_rate_is_refused(run):
    pytest.importorskip("schedulefree", reason="the extra optimizers is not installed")
    with pytest.raises(ValueError, match=r"in place of a falling learning rate; use --schedule constant; got cosine"):
        run(optimizer="schedule-free-adamw")


def test_a_missing_package_is_reported_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(ValueError, match=r"needs the package schedulefree.*pip install -e '\.\[optimizers\]'"):
        build("schedule-free-adamw", layers())


def test_an_unknown_optimizer_and_option_are_named():
    with pytest.raises(
        ValueError, match=r"optimizer must be one of .*'adamw'.*; got 'adamww'\. Did you mean 'adamw'\?"
    ):
        Settings(loss="L1", steps=1, images="photos", optimizer="adamww")
    with pytest.raises(ValueError, match=r"The optimizer adamw does not accept an option: .*'beta'"):
        build("adamw", layers(), beta=0.9)


def test_an_installed_package_adds_an_optimizer(monkeypatch):
    point = EntryPoint("plain-sgd", "torch.optim:SGD", "lossmith.optimizers")
    monkeypatch.setitem(OPTIMIZERS.declared, "plain-sgd", point)
    assert isinstance(build("plain-sgd", layers()), torch.optim.SGD)


def test_multistep_multiplies_the_rate_at_each_milestone():
    model = layers()
    reference = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.MultiStepLR(reference, milestones=[2, 5], gamma=0.3)
    for step in range(7):
        assert lr_factor("multistep", step, steps=7, milestones=(2, 5), gamma=0.3) == pytest.approx(
            schedule.get_last_lr()[0]
        )
        reference.step()
        schedule.step()


@pytest.mark.parametrize("text", ["", "5,3", "5,5", "0,3", "a", "1.5"])
def test_milestones_must_be_increasing_steps(text):
    with pytest.raises(ValueError, match=r"milestones must be increasing steps, such as 50000,80000; got "):
        parse_milestones(text)


@pytest.mark.parametrize("given", [{"schedule": "multistep"}, {"milestones": "3,5"}])
def test_milestones_and_multistep_belong_together(given):
    with pytest.raises(ValueError, match="milestones belong to the schedule multistep, which needs them; got "):
        Settings(loss="L1", steps=9, images="photos", **given)


def test_a_run_with_milestones_logs_the_rate(run, lines):
    found = lines(run(schedule="multistep", milestones="2,4", gamma=0.5, loss="L1", log_every=1))
    assert [line["lr"] for line in found] == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4]
