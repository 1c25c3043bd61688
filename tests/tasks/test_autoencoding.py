"""Autoencoding as a task: its views, its runs, from the command line to the picture."""

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

SMALL = {"channels": 8, "blocks": 1, "codes": 16}
LOSSES = {
    "kl": "L1 + Ramp(0.0, 1e-4, steps=4) * KL(free_bits=0.01) + OnFrom(2) * 0.1*Adversarial('patch', 'hinge', width=2)",
    "vq": "L1 + VQCommitment + OnFrom(2) * 0.1*Adversarial('patch', 'hinge', width=2)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    generator, path = torch.Generator().manual_seed(0), tmp_path_factory.mktemp("pictures")
    for i in range(3):
        to_pil(torch.rand(3, 56, 60, generator=generator)).save(path / f"{i}.png")
    return path


@pytest.fixture
def run(folder, tmp_path):
    def make(name, latent, **other):
        model = {"name": "autoencoder", "latent": latent, "down": 4, **SMALL}
        settings = {"task": "autoencoding", "scale": 1, "options": {"latent": latent}, "model": model, "batch": 2}
        settings |= {"crop": 32, "log_every": 1, "val_count": 1, "checkpoint_every": 2, "schedule": "constant"}
        settings |= {"images": str(folder), "loss": LOSSES[latent], "balance": "adaptive", **other}
        train(Settings(**settings), tmp_path / name, accelerator="cpu", workers=0)
        return RunFolder(tmp_path / name)

    return make


@pytest.mark.parametrize("latent", ["kl", "vq"])
def test_a_run_that_goes_on_gives_the_bits_of_the_unbroken_one(latent, run):
    whole = run("whole", latent, steps=4)
    run("broken", latent, steps=2)
    broken = run("broken", latent, steps=4)
    states = [torch.load(each.checkpoint, weights_only=True)["state_dict"] for each in (whole, broken)]
    assert any("codebook.usage" in name for name in states[0]) == (latent == "vq")
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) if isinstance(value, torch.Tensor) else value == states[1][name]


@pytest.mark.parametrize(("latent", "figures"), [("kl", {"kl", "active"}), ("vq", {"perplexity", "codes", "revived"})])
def test_the_record_tells_how_the_latents_are_used(latent, figures, run):
    folder = run("run", latent, steps=1)
    (line,) = [json.loads(text) for text in (folder.path / "log.jsonl").read_text().splitlines()]
    assert line["observed"].keys() == figures


@pytest.mark.parametrize(
    ("latent", "loss", "gives"),
    [("vq", "L1 + KL", "pred, target, input, latents, codes"), ("kl", "vqgan", "pred, target, input, mu, logvar")],
)
def test_a_loss_on_latents_of_another_kind_is_refused(latent, loss, gives):
    with pytest.raises(ValueError, match=f"which autoencoding does not give; it gives {gives}"):
        check_loss_for_task(Autoencoding(latent=latent), parse(loss))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (EDSR(1, channels=4, blocks=1), "autoencoding wants the network autoencoder.*got EDSR"),
        (Autoencoder(latent="vq", **SMALL), "The network has latents 'vq', smaller by 4.*Give --latent vq --down 4"),
        (Autoencoder(down=8, **SMALL), "smaller by 8; asked for are 'kl' and 4"),
    ],
)
def test_a_network_that_has_not_these_latents_is_refused(model, words):
    with pytest.raises(ValueError, match=words):
        Autoencoding().check_model(model)


def test_without_a_network_it_is_judged_beside_the_picture_made_as_small():
    image = torch.rand(1, 3, 50, 66)
    image[..., :48, :64] = 0.25
    assert torch.allclose(Autoencoding().baseline_output({"target": image})[..., 8:-8, 8:-8], torch.tensor(0.25), atol=1e-4)


@pytest.mark.parametrize("latent", ["kl", "vq"])
def test_the_command_trains_judges_and_reconstructs(latent, folder, tmp_path, capsys):
    out, words = str(tmp_path / "run"), [f"--model-option={name}={value}" for name, value in SMALL.items()]
    line = ["train", "autoencoding", "--images", str(folder), "--latent", latent, "--down", "8", "--loss", "L1"]
    assert main([*line, "--steps", "1", "--batch", "2", "--crop", "32", "--out", out, *words]) == 0
    capsys.readouterr()
    assert main(["evaluate", out, "--images", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 3
    assert main(["restore", out, str(folder / "0.png"), str(tmp_path / "again.png")]) == 0
    from PIL import Image

    assert from_pil(Image.open(tmp_path / "again.png")).shape == (3, 56, 60)


def test_knobs_are_refused(run):
    with pytest.raises(ValueError, match=r"autoencoding wants the network autoencoder, .* and no knobs; got ConditionedNetwork"):
        run("run", "kl", steps=1, loss="L1 + lam*TV", knobs={"lam": (0.1, 1.0)}, balance=None)
