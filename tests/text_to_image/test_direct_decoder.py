"""The direct decoder, gradients by noise level, and the report on text-to-image runs."""

import json

import pytest
import torch
from torch.testing import assert_close

from lossmith import parse
from lossmith.cli import main
from lossmith.models import load_network, save_network
from lossmith.models.files import update_spec
from lossmith.report import write_report
from lossmith.text_to_image import DirectDecoder, DirectTextToImage, TextEmbedding, TextToImage
from lossmith.text_to_image.gradients_by_noise_level import measure_gradients_by_logsnr

SMALL = {"name": "direct-decoder", "channels": [8, 4], "latent_dim": 3}
FUSED = "L1 + 3e-5 * KL + 0.01 * ModeSeeking(0.5) + 0.01 * TV + 0.1 * L2 @ Central"


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return DirectDecoder(side=16, text_dim=12, channels=[8, 4], latent_dim=3)


def test_the_image_of_a_text_and_a_seed_does_not_depend_on_its_batch(decoder, text):
    together = decoder.generate(text, [1, 2, 3])
    assert together.shape == (3, 3, 16, 16)
    assert_close(together[1:2], decoder.generate(text.slice(1, 2), [2]), atol=1e-6, rtol=0)
    assert not torch.equal(together[:1], decoder.generate(text.slice(0, 1), [9]))


def test_the_image_does_not_depend_on_padding(decoder, text):
    changed = text._replace(tokens=text.tokens + 9.0 * ~text.mask[..., None])
    assert_close(decoder(changed, torch.zeros(3, 3)), decoder(text, torch.zeros(3, 3)))


def test_the_second_image_is_decoded_only_if_the_loss_reads_it(decoder, batch):
    task = DirectTextToImage(encoder="words")
    assert "other" not in task.with_inputs(["pred", "mu"]).compute_inputs(decoder, batch)
    torch.manual_seed(0)
    inputs = task.compute_inputs(decoder, batch)
    assert_close(inputs["other"], decoder(TextEmbedding.from_batch(batch), inputs["z_other"]))


def test_a_run_with_diversity_and_kl_trains_and_samples(tmp_path, run_training):
    out = tmp_path / "run"
    run_training(out, FUSED, task="direct-text-to-image", model=SMALL, steps=2)
    line = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert line["terms"].keys() == {"L1", "KL", "ModeSeeking", "TV", "edges"}
    assert "joint" in json.loads((out / "validation.jsonl").read_text().splitlines()[-1])
    arguments = ["sample", str(out), "a red ring", "--grid", "1x2", "--out", str(tmp_path / "a.png")]
    assert main([*arguments, "--device", "cpu"]) == 0
    assert isinstance(load_network(out / "model.safetensors")[0], DirectDecoder)


def test_weights_and_arguments_under_former_names_load(decoder, tmp_path):
    spec = {"name": "direct", "side": 16, "text": 12, "latents": 3, "channels": [8, 4]}
    assert update_spec(spec) == decoder.spec
    former = {new: old for old, new in DirectDecoder.former_modules.items()}
    state = {".".join(former.get(p, p) for p in key.split(".")): value for key, value in decoder.state_dict().items()}
    assert {"hear.0.weight", "head.weight", "begin.weight", "up.0.turn.weight"} <= state.keys()
    again = DirectDecoder(side=16, text_dim=12, channels=[8, 4], latent_dim=3)
    again.load_state_dict(state)
    assert_close(again.state_dict(), decoder.state_dict(), rtol=0, atol=0)
    save_network(decoder, tmp_path / "a.safetensors", {})
    assert load_network(tmp_path / "a.safetensors")[0].spec == decoder.spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 24}, "4 px doubled 2 times"),
        ({"latent_dim": 0}, "latent_dim must be"),
        ({"text_dim": 1.5}, "text_dim must be"),
    ],
)
def test_an_argument_out_of_range_raises(options, message):
    with pytest.raises(ValueError, match=message):
        DirectDecoder(**{"side": 16, "text_dim": 4, "channels": [8, 4], **options})


def test_gradients_are_measured_for_each_term_at_each_noise_level(build_denoiser, batch):
    samples = [{name: value[k] for name, value in batch.items()} for k in range(3)]
    loss = parse("imagen + 2 * imagen + Gate(1000) * L1 + Dispersive")
    task, model = TextToImage(encoder="words"), build_denoiser(side=16, text_dim=12)
    found = measure_gradients_by_logsnr(loss, task, model, samples, batch=3, batches=1)
    same, closed, hidden = (found["terms"][name] for name in list(found["terms"])[1:])
    assert len(found["logsnr"]) == len(same["norm"]) == 8
    assert_close(torch.tensor(same["cosine"]), torch.ones(8))
    assert closed["norm"] == [0.0] * 8
    assert closed["cosine"] == [None] * 8
    assert all(norm > 0 for norm in hidden["norm"])


def test_the_report_shows_sample_sheets_and_the_effect_of_guidance(tmp_path, run_training):
    run_training(tmp_path / "run", steps=1)
    row = {"guidance": 2.0, "joint": 0.5, "kid": {"value": 0.1}, "diversity": {"vendi": 2.0}}
    record = {"n": 8, "chance": {"joint": 0.01}, "ceiling": {"joint": 1.0}, "floor": {"value": 0.02}}
    (tmp_path / "run" / "captions.json").write_text(json.dumps({**record, "guidance": [row]}))
    page = write_report([tmp_path / "run"], tmp_path / "a.html").read_text()
    assert "Guidance" in page
    assert "Denoising error" in page
    assert 'data-name="samples"' in page
    (tmp_path / "run" / "captions.json").write_text("no json")
    assert "<h2>Guidance</h2>" not in write_report([tmp_path / "run"], tmp_path / "b.html").read_text()
