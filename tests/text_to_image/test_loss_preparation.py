"""The loss of a diffusion run: default gates, warnings, and settings of the network."""

import math

import pytest
import torch
from torch.testing import assert_close

from lossmith import Hybrid, parse
from lossmith.losses import DenoisingMSE
from lossmith.noise_levels import output_from_x0
from lossmith.text_to_image import TextToImage
from lossmith.text_to_image.prepare_loss import find_gate_logsnr, prepare_text_to_image_loss


@pytest.mark.parametrize(
    ("text", "opens"),
    [
        ("L2", None),
        ("L2 @ Central", None),
        ("L2 @ Central('magnitude')", 1.0),
        ("L2 @ Downsample(2)", None),
        ("L1", 1.0),
        ("TV", 1.0),
        ("perceptual('vgg16', 'conv1_2', 'l2')", -1.7),
        ("SSIM", 1.0),
        ("TextAlignment", 1.0),
        ("Dispersive", None),
        ("AttentionMask", None),
        ("ContrastiveFlow", None),
        ("HiddenAlignment", None),
        ("imagen", None),
        ("L1.on(pred='prediction', target='clean')", 1.0),
        ("L1.on(pred='velocity', target='noise')", 1.0),
        ("L2.on(pred='prediction', target='clean')", None),
        ("L1.on(pred='prior')", None),
    ],
)
def test_a_mode_seeking_term_has_a_default_gate(text, opens):
    assert find_gate_logsnr(parse(text).terms[0]) == opens


def test_the_prepared_formula_is_written_out(build_denoiser):
    loss, warnings = prepare_text_to_image_loss(parse("imagen + 0.1 * L1 + ContrastiveFlow"), build_denoiser())
    assert repr(loss) == (
        'DenoisingMSE("x0", weighting="flow") + 0.1 * Gate(1.0) * L1() + '
        'ContrastiveFlow().on(groups="group", conditioned="conditioned")'
    )
    assert not warnings
    assert repr(prepare_text_to_image_loss(loss, build_denoiser())[0]) == repr(loss)


def test_a_gate_below_the_default_and_a_missing_denoising_term_give_warnings(build_denoiser):
    _, warnings = prepare_text_to_image_loss(parse("imagen + Gate(-30) * L1"), build_denoiser())
    assert "mode-seeking and its gate opens at log-SNR -30; the default is 1" in warnings[0]
    assert "no term is DenoisingMSE" in prepare_text_to_image_loss(parse("L2"), build_denoiser())[1][0]


def test_a_denoising_term_of_another_prediction_raises(build_denoiser):
    with pytest.raises(ValueError, match="The network predicts 'v'"):
        prepare_text_to_image_loss(parse("imagen"), build_denoiser(prediction="v"))


@pytest.mark.parametrize("formula", ["TextAlignment @ CLIP", "0.1 * TextContrast @ CLIP"])
def test_a_comparison_of_images_and_texts_in_another_space_raises(build_denoiser, formula):
    with pytest.raises(ValueError, match="embedding by this network's own text encoder"):
        prepare_text_to_image_loss(parse(f"imagen + {formula}"), build_denoiser())


@pytest.mark.parametrize(
    ("formula", "prediction", "logsnr"),
    [
        ("imagen('v') + 0.05 * ContrastiveFlow", "v", -14),
        ("imagen('eps') + 0.05 * Gate(0) * ContrastiveFlow", "eps", 4.5),
        ("imagen + 1.1 * ContrastiveFlow", "x0", -14),
        ("imagen + 0.9 * ContrastiveFlow", "x0", None),
        ("DenoisingMSE('v', weighting='flow') + 0.9 * ContrastiveFlow", "v", None),
        ("DenoisingMSE('eps') + 0.05 * Gate(0) * ContrastiveFlow", "eps", None),
        *[(f"imagen_fused('{prediction}')", prediction, None) for prediction in ("x0", "v", "flow", "edm")],
    ],
)
def test_a_contrast_that_outweighs_the_denoising_gives_a_warning(build_denoiser, formula, prediction, logsnr):
    _, warnings = prepare_text_to_image_loss(parse(formula), build_denoiser(prediction=prediction))
    found = [warning for warning in warnings if "outweighs" in warning]
    assert len(found) == (logsnr is not None)
    assert logsnr is None or f"at log-SNR {logsnr:g}," in found[0]


@pytest.mark.parametrize("prediction", ["x0", "v", "flow", "edm"])
def test_the_denoising_and_contrast_of_imagen_fused_are_bounded_below_at_every_noise_level(prediction):
    generator = torch.Generator().manual_seed(0)
    logsnr = torch.linspace(-9, 9, 7, dtype=torch.float64)
    time = torch.sigmoid(-logsnr / 2)  # of a flow
    x, e = torch.randn(2, 7, 3, 4, 4, generator=generator, dtype=torch.float64)
    denoising, contrast = parse(f"imagen_fused('{prediction}')").terms[:2]

    def value(x0):
        """Return the loss of each image for a network that predicts x0."""
        t = time.view(-1, 1, 1, 1)
        alpha, sigma = (1 - time, time) if prediction != "edm" else (torch.ones_like(time), time / (1 - time))
        noisy = alpha.view(-1, 1, 1, 1) * x + sigma.view(-1, 1, 1, 1) * e
        output = output_from_x0(prediction, x0, noisy, alpha, sigma)
        distance = contrast.distance.measure(e - x + (x - x0) / t, x, e)
        return denoising.distance.measure(output, x, e, logsnr) + contrast.weight.scale * distance

    above, below, centre = value(x + 9.0), value(x - 9.0), value(x)
    assert (above + below > 2 * centre).all()  # a parabola in x0 that opens upwards


def test_imagen_fused_raises_for_the_prediction_eps():
    with pytest.raises(ValueError, match='"v" or "x0"'):
        parse("imagen_fused('eps')")


@pytest.mark.parametrize("schedule", ["flow", "cosine", "edm"])
def test_the_log_snr_of_x0_prediction_is_clipped_at_flow_time_005(build_denoiser, batch, schedule):
    batch |= {"time": torch.tensor([0.003, 0.03, 0.5])}
    for prediction, largest in (("x0", 2 * math.log(19)), ("v", math.inf)):
        model = build_denoiser(prediction=prediction, schedule=schedule)
        logsnr = TextToImage(encoder="words").compute_inputs(model, batch)["logsnr"]
        assert_close(logsnr, model.noise_schedule.logsnr(batch["time"]).clamp_max(largest))
        assert logsnr[0] > 5.8


def test_conditioning_augmentation_adds_noise_to_the_text_in_training_only(build_denoiser, batch, monkeypatch):
    texts = []
    model = build_denoiser()
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *args, **kwargs: texts.append(args[2]) or forward(*args, **kwargs))
    many = {name: torch.cat([value] * 200) for name, value in batch.items()}
    for task in (
        TextToImage(caption_dropout=0.0, text_noise=0.6, encoder="words"),
        TextToImage(caption_dropout=0.0, encoder="words"),
    ):
        for mode in (True, False):
            task.compute_inputs(model.train(mode), many)
    noisy, *clean = texts
    assert all(torch.equal(text.pooled, many["pooled"]) for text in clean)
    for found, expected in ((noisy.pooled, many["pooled"]), (noisy.tokens, many["tokens"])):
        assert_close((found - expected).std(), torch.tensor(0.6), atol=0.02, rtol=0)
    assert torch.equal(noisy.mask, many["token_mask"])


def test_a_dropped_caption_gets_no_noise(build_denoiser, batch, monkeypatch):
    texts = []
    model = build_denoiser()
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *args, **kwargs: texts.append(args[2]) or forward(*args, **kwargs))
    TextToImage(caption_dropout=0.999999, text_noise=0.6, encoder="words").compute_inputs(model.train(), batch)
    assert not texts[0].pooled.any()


@pytest.mark.parametrize("text_noise", [-0.1, True, math.inf])
def test_a_text_noise_out_of_range_raises(text_noise):
    with pytest.raises(ValueError, match="text_noise must be"):
        TextToImage(text_noise=text_noise)


def test_edm_gets_the_standard_deviation_of_the_images(build_denoiser):
    model = build_denoiser(prediction="edm", schedule="edm", sigma_data=0.7)
    loss, _ = prepare_text_to_image_loss(parse("imagen('edm')"), model)
    assert repr(loss) == 'DenoisingMSE("edm", sigma_data=0.7)'


def test_imagen_is_a_formula_with_the_weighting_of_its_prediction():
    assert isinstance(parse("imagen"), Hybrid)
    with pytest.raises(ValueError, match=r"imagen .*'z'"):
        parse("imagen('z')")
    assert [repr(parse(f"imagen('{p}')")) for p in ("eps", "flow")] == [
        'DenoisingMSE(weighting="min-snr")',
        repr(DenoisingMSE("flow")),
    ]
