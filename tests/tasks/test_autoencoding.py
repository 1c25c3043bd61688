"""Autoencoding as a task: its inputs, its runs, and its commands."""

import json

import pytest
import torch

from lossmith import parse
from lossmith.cli import main
from lossmith.image import from_pil, to_pil
from lossmith.models import EDSR, Autoencoder
from lossmith.tasks import Autoencoding
from lossmith.train import RunFolder, Settings, train
from lossmith.train.task_loss import check_loss_for_task

SMALL = {"channels": 8, "blocks": 1, "codebook_size": 16}
LOSSES = {
    "kl": "L1 + Ramp(0.0, 1e-4, steps=4) * KL(free_bits=0.01) + OnFrom(2) * 0.1*Adversarial('patch', 'hinge', width=2)",
    "vq": "L1 + VQCommitment + OnFrom(2) * 0.1*Adversarial('patch', 'hinge', width=2)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    generator, path = torch.Generator().manual_seed(0), tmp_path_factory.mktemp("images")
    for i in range(3):
        to_pil(torch.rand(3, 56, 60, generator=generator)).save(path / f"{i}.png")
    return path


@pytest.fixture
def run(folder, tmp_path):
    def make(name, latent, **other):
        model = {"name": "autoencoder", "latent": latent, "downsampling": 4, **SMALL}
        settings = {"task": "autoencoding", "scale": 1, "options": {"latent": latent}, "model": model, "batch": 2}
        settings |= {"crop": 32, "log_every": 1, "val_count": 1, "checkpoint_every": 2, "schedule": "constant"}
        settings |= {"images": str(folder), "loss": LOSSES[latent], "balance": "adaptive", **other}
        train(Settings(**settings), tmp_path / name, device="cpu", workers=0)
        return RunFolder(tmp_path / name)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("latent", ["kl", "vq"])
def test_a_resumed_run_equals_an_uninterrupted_one_exactly(latent, run):
    whole = run("whole", latent, steps=4)
    run("resumed", latent, steps=2)
    resumed = run("resumed", latent, steps=4)
    states = [torch.load(each.checkpoint, weights_only=True)["state_dict"] for each in (whole, resumed)]
    assert any("codebook.usage" in name for name in states[0]) == (latent == "vq")
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) if isinstance(value, torch.Tensor) else value == states[1][name]


@pytest.mark.parametrize(("latent", "metrics"), [("kl", {"kl", "active"}), ("vq", {"perplexity", "codes", "revived"})])
def test_the_log_contains_statistics_of_the_latents(latent, metrics, run):
    folder = run("run", latent, steps=1)
    (line,) = [json.loads(text) for text in (folder.path / "log.jsonl").read_text().splitlines()]
    assert line["extra_metrics"].keys() == metrics


@pytest.mark.parametrize(
    ("latent", "loss", "provided"),
    [("vq", "L1 + KL", "pred, target, input, latents, codes"), ("kl", "vqgan", "pred, target, input, mu, logvar")],
)
def test_a_loss_on_latents_of_another_kind_raises_a_value_error(latent, loss, provided):
    with pytest.raises(ValueError, match=f"which autoencoding does not provide; it provides {provided}"):
        check_loss_for_task(Autoencoding(latent=latent), parse(loss))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (EDSR(1, channels=4, blocks=1), "autoencoding needs the network autoencoder.*got EDSR"),
        (
            Autoencoder(latent="vq", **SMALL),
            "The network has latents 'vq' with downsampling factor 4.*Use --latent vq --downsampling 4",
        ),
        (Autoencoder(downsampling=8, **SMALL), "downsampling factor 8; autoencoding expects 'kl' and 4"),
    ],
)
def test_a_network_without_these_latents_raises_a_value_error(model, message):
    with pytest.raises(ValueError, match=message):
        Autoencoding().check_model(model)


def test_the_baseline_is_bicubic_at_the_size_of_the_latents():
    image = torch.rand(1, 3, 50, 66)
    image[..., :48, :64] = 0.25
    assert torch.allclose(
        Autoencoding().baseline_output({"target": image})[..., 8:-8, 8:-8], torch.tensor(0.25), atol=1e-4
    )


@pytest.mark.parametrize("latent", ["kl", "vq"])
def test_the_commands_train_evaluate_and_reconstruct(latent, folder, tmp_path, capsys):
    out, options = str(tmp_path / "run"), [f"--model-option={name}={value}" for name, value in SMALL.items()]
    line = ["train", "autoencoding", "--images", str(folder), "--latent", latent, "--downsampling", "8", "--loss", "L1"]
    assert main([*line, "--steps", "1", "--batch", "2", "--crop", "32", "--out", out, *options]) == 0
    capsys.readouterr()
    assert main(["evaluate", out, "--images", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 3
    assert main(["restore", out, str(folder / "0.png"), str(tmp_path / "again.png")]) == 0
    from PIL import Image

    assert from_pil(Image.open(tmp_path / "again.png")).shape == (3, 56, 60)


def test_knobs_raise_a_value_error(run):
    with pytest.raises(
        ValueError, match=r"autoencoding needs the network autoencoder without knobs, .*; got ConditionedNetwork"
    ):
        run("run", "kl", steps=1, loss="L1 + lam*TV", knobs={"lam": (0.1, 1.0)}, balance=None)
