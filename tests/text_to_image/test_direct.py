"""The direct decoder, and what is told of a network by noise level and on the page."""

import json

import pytest
import torch
from torch.testing import assert_close

from lossmith import parse
from lossmith.cli import main
from lossmith.models import load_network
from lossmith.report import write_report
from lossmith.text_to_image.direct_task import DirectTextToImage
from lossmith.text_to_image.gradients_by_noise_level import gradients_by_noise_level
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.direct_decoder import DirectDecoder
from lossmith.text_to_image.task import TextToImage

SMALL = {"name": "direct", "channels": [8, 4], "latents": 3}
FUSED = "L1 + 3e-5 * KL + 0.01 * ModeSeeking(0.5) + 0.01 * TV + 0.1 * L2 @ Central"


@pytest.fixture
def direct():
    torch.manual_seed(0)
    return DirectDecoder(side=16, text=12, channels=[8, 4], latents=3)


def test_a_text_and_a_seed_give_one_picture_whatever_stands_beside_it(direct, text):
    both = direct.sample(text, [1, 2, 3])
    assert both.shape == (3, 3, 16, 16)
    alone = direct.sample(TextEmbedding(*(part[1:2] for part in text)), [2])
    assert_close(both[1:2], alone, atol=1e-6, rtol=0)
    assert not torch.equal(both[:1], direct.sample(TextEmbedding(*(part[:1] for part in text)), [9]))


def test_padding_is_not_heard(direct, text):
    louder = text._replace(tokens=text.tokens + 9.0 * ~text.mask[..., None])
    assert_close(direct(louder, torch.zeros(3, 3)), direct(text, torch.zeros(3, 3)))


def test_the_second_picture_is_made_only_if_it_is_looked_at(direct, batch):
    task = DirectTextToImage(encoder="words")
    assert "other" not in task.with_inputs(["pred", "mu"]).compute_inputs(direct, batch)
    torch.manual_seed(0)
    views = task.compute_inputs(direct, batch)
    assert_close(views["other"], direct(TextEmbedding(batch["tokens"], batch["token_mask"], batch["pooled"]), views["z_other"]))


def test_diversity_and_kl_train_natively(tmp_path, run):
    out = tmp_path / "run"
    run(out, FUSED, task="direct-text-to-image", model=SMALL, steps=2)
    line = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert line["terms"].keys() == {"L1", "KL", "ModeSeeking", "TV", "edges"}
    assert "joint" in json.loads((out / "validation.jsonl").read_text().splitlines()[-1])
    words = ["sample", str(out), "a red ring", "--grid", "1x2", "--out", str(tmp_path / "a.png"), "--device", "cpu"]
    assert main(words) == 0
    assert isinstance(load_network(out / "model.safetensors")[0], DirectDecoder)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"side": 24}, "doubles 4 px 2 times"), ({"latents": 0}, "wants latents"), ({"text": 1.5}, "wants text")],
)
def test_a_decoder_that_cannot_be_gets_one_line(options, words):
    with pytest.raises(ValueError, match=words):
        DirectDecoder(**{"side": 16, "text": 4, "channels": [8, 4], **options})


def test_a_term_is_told_by_its_pull_at_each_level(denoiser, batch):
    rows = [{name: view[k] for name, view in batch.items()} for k in range(3)]
    model = denoiser(side=16, text=12)
    loss = parse("imagen + 2 * imagen + Gate(1000) * L1 + Dispersive")
    found = gradients_by_noise_level(loss, TextToImage(encoder="words"), model, rows, batch=3, batches=1)
    twin, shut, inside = (found["terms"][name] for name in list(found["terms"])[1:])
    assert len(found["logsnr"]) == len(twin["norm"]) == 8
    assert_close(torch.tensor(twin["cosine"]), torch.ones(8))
    assert shut["norm"] == [0.0] * 8
    assert shut["cosine"] == [None] * 8
    assert all(norm > 0 for norm in inside["norm"])


def test_the_page_shows_sheets_and_what_guidance_does(tmp_path, run):
    run(tmp_path / "run", steps=1)
    figures = {"guidance": 2.0, "joint": 0.5, "kid": {"value": 0.1}, "diversity": {"vendi": 2.0}}
    record = {"n": 8, "chance": {"joint": 0.01}, "ceiling": {"joint": 1.0}, "floor": {"value": 0.02}}
    (tmp_path / "run" / "captions.json").write_text(json.dumps({**record, "guidance": [figures]}))
    text = write_report([tmp_path / "run"], tmp_path / "a.html").read_text()
    assert "Guidance" in text
    assert "Denoising error" in text
    assert 'data-name="samples"' in text
    (tmp_path / "run" / "captions.json").write_text("no json")
    assert "<h2>Guidance</h2>" not in write_report([tmp_path / "run"], tmp_path / "b.html").read_text()
