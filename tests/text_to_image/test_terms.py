"""Gates, what they are put before, and the losses of a diffusion step."""

import math

import pytest
import torch
from torch.testing import assert_close

from lossmith import L2, ContrastiveFlow, DenoisingMSE, Dispersive, Gate, HiddenAlignment, Hybrid, parse
from lossmith.noise_levels import output_from_x0
from lossmith.text_to_image.prepare_loss import prepare_diffusion_loss, find_gate_logsnr
from lossmith.text_to_image.task import TextToImage


def test_a_gate_multiplies_each_value_and_the_mean_is_over_all():
    pred, target = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    level = torch.tensor([-100.0, 100.0])
    assert_close((Gate(0.0) * L2())(pred, target, logsnr=level), torch.tensor(0.5))


def test_a_gate_is_part_of_the_text_and_of_what_is_read():
    loss = parse("L2 + 0.1 * Gate(1) * L1 @ Sobel")
    assert repr(loss) == "L2() + 0.1 * Gate(1) * L1() @ Sobel()"
    assert repr(parse(repr(loss))) == repr(loss)
    assert "logsnr" in loss.input_names
    assert repr(Gate()) == "Gate()"
    assert repr(Gate(-1.7, 0.25)) == "Gate(-1.7, 0.25)"


def test_the_cost_of_a_gated_term_is_known_without_levels():
    loss = parse("Gate() * perceptual('vgg16', 'conv1_2')")
    assert loss.plan((1, 3, 32, 32)).saved_bytes == parse("perceptual('vgg16', 'conv1_2')").plan((1, 3, 32, 32)).saved_bytes


def test_a_gate_without_levels_is_refused_in_words():
    with pytest.raises(ValueError, match="has a gate, which reads the input 'logsnr'"):
        (Gate() * L2())(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8))


def test_what_a_gated_term_pulls_is_gated_too():
    views = {"pred": torch.rand(2, 3, 8, 8, requires_grad=True), "target": torch.rand(2, 3, 8, 8)}
    views["logsnr"] = torch.tensor([0.3, 0.3])
    loss = Gate(0.3) * L2() + L2()
    _, norms = loss.evaluate_with_gradient_norms(views)
    half, whole = norms.values()
    assert_close(half, whole / 2)


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
        ("L1.on(pred='sketch')", None),
    ],
)
def test_what_prefers_one_answer_of_many_is_gated(text, opens):
    assert find_gate_logsnr(parse(text).terms[0]) == opens


def test_the_formula_is_written_out_for_the_network(denoiser):
    loss, said = prepare_diffusion_loss(parse("imagen + 0.1 * L1 + ContrastiveFlow"), denoiser())
    assert repr(loss) == (
        'DenoisingMSE("x0", weighting="flow") + 0.1 * Gate(1.0) * L1() + '
        'ContrastiveFlow().on(groups="group", conditioned="conditioned")'
    )
    assert not said
    assert repr(prepare_diffusion_loss(loss, denoiser())[0]) == repr(loss)


def test_a_term_against_its_kind_is_warned_about(denoiser):
    _, said = prepare_diffusion_loss(parse("imagen + Gate(-30) * L1"), denoiser())
    assert "prefers one answer where many are right" in said[0]
    assert "no term is DenoisingMSE" in prepare_diffusion_loss(parse("L2"), denoiser())[1][0]


def test_a_denoising_of_another_prediction_is_refused(denoiser):
    with pytest.raises(ValueError, match="The network predicts 'v'"):
        prepare_diffusion_loss(parse("imagen"), denoiser(prediction="v"))


@pytest.mark.parametrize("formula", ["TextAlignment @ CLIP", "0.1 * TextContrast @ CLIP"])
def test_a_text_of_another_space_is_refused(denoiser, formula):
    with pytest.raises(ValueError, match="this network's own text encoder says"):
        prepare_diffusion_loss(parse(f"imagen + {formula}"), denoiser())


@pytest.mark.parametrize(
    ("formula", "prediction", "where"),
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
def test_flows_that_outweigh_the_denoising_are_warned_about(denoiser, formula, prediction, where):
    said = [each for each in prepare_diffusion_loss(parse(formula), denoiser(prediction=prediction))[1] if "outweighs" in each]
    assert len(said) == (where is not None)
    assert where is None or f"at log-SNR {where:g}," in said[0]


@pytest.mark.parametrize("prediction", ["x0", "v", "flow", "edm"])
def test_denoising_and_contrast_of_the_fusion_have_a_least_value_at_every_level(prediction):
    generator = torch.Generator().manual_seed(0)
    logsnr = torch.linspace(-9, 9, 7, dtype=torch.float64)
    time = torch.sigmoid(-logsnr / 2)  # of a flow
    x, e = torch.randn(2, 7, 3, 4, 4, generator=generator, dtype=torch.float64)
    denoising, contrast = parse(f"imagen_fused('{prediction}')").terms[:2]

    def value(x0):
        """What a network that sees x0 in the picture pays, a number an image."""
        t = time.view(-1, 1, 1, 1)
        alpha, sigma = (1 - time, time) if prediction != "edm" else (torch.ones_like(time), time / (1 - time))
        noisy = alpha.view(-1, 1, 1, 1) * x + sigma.view(-1, 1, 1, 1) * e
        said = output_from_x0(prediction, x0, noisy, alpha, sigma)
        apart = contrast.loss.measure(e - x + (x - x0) / t, x, e)
        return denoising.loss.measure(said, x, e, logsnr) + contrast.weight.scale * apart

    ahead, back, here = value(x + 9.0), value(x - 9.0), value(x)
    assert (ahead + back > 2 * here).all()  # it is a parabola in x0, open above


def test_the_fusion_is_not_for_a_network_that_says_the_noise():
    with pytest.raises(ValueError, match='take "v" or "x0"'):
        parse("imagen_fused('eps')")


@pytest.mark.parametrize("schedule", ["flow", "cosine", "edm"])
def test_nearly_clean_pictures_weigh_no_more_than_at_a_time_of_a_twentieth(denoiser, batch, schedule):
    batch |= {"time": torch.tensor([0.003, 0.03, 0.5])}
    for prediction, most in (("x0", 2 * math.log(19)), ("v", math.inf)):
        model = denoiser(prediction=prediction, schedule=schedule)
        level = TextToImage(encoder="words").compute_inputs(model, batch)["logsnr"]
        assert_close(level, model.levels.logsnr(batch["time"]).clamp_max(most))
        assert level[0] > 5.8


def test_a_text_is_heard_through_noise_in_training_alone(denoiser, batch, monkeypatch):
    heard = []
    model = denoiser()
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *given, **more: heard.append(given[2]) or forward(*given, **more))
    many = {name: torch.cat([view] * 200) for name, view in batch.items()}
    for task in (TextToImage(drop=0.0, text_noise=0.6, encoder="words"), TextToImage(drop=0.0, encoder="words")):
        for mode in (True, False):
            task.compute_inputs(model.train(mode), many)
    noisy, *plain = heard
    assert all(torch.equal(text.pooled, many["pooled"]) for text in plain)
    for said, plainly in ((noisy.pooled, many["pooled"]), (noisy.tokens, many["tokens"])):
        assert_close((said - plainly).std(), torch.tensor(0.6), atol=0.02, rtol=0)
    assert torch.equal(noisy.mask, many["token_mask"])
    silent = TextToImage(drop=0.999999, text_noise=0.6, encoder="words")
    silent.compute_inputs(model.train(), batch)
    assert not heard[-1].pooled.any()  # nothing is nothing
    for wrong in (-0.1, True, math.inf):
        with pytest.raises(ValueError, match="wants text_noise as a deviation"):
            TextToImage(text_noise=wrong)


def test_edm_knows_the_deviation_of_the_pictures(denoiser):
    loss, _ = prepare_diffusion_loss(parse("imagen('edm')"), denoiser(prediction="edm", schedule="edm", sigma_data=0.7))
    assert repr(loss) == 'DenoisingMSE("edm", sigma_data=0.7)'


def test_flows_are_kept_from_those_of_all_other_meanings():
    generator = torch.Generator().manual_seed(0)
    v, x, e = torch.randn(3, 4, 2, 3, 3, generator=generator, dtype=torch.float64)
    groups, conditioned = torch.tensor([1, 1, 2, 3]), torch.tensor([True, True, False, True])
    found = ContrastiveFlow().measure(v, x, e, groups, conditioned)
    target = e - x
    for i in range(4):
        apart = [(v[i] - target[j]).square().mean() for j in range(4) if groups[j] != groups[i]]
        wanted = -torch.stack(apart).mean() if conditioned[i] else torch.zeros(()).double()
        assert_close(found[i], wanted)


def test_equal_captions_alone_are_no_negatives():
    v, x, e = torch.randn(3, 2, 3, 4, 4)
    assert not ContrastiveFlow().measure(v, x, e, groups=torch.tensor([7, 7])).any()
    alike = Dispersive().measure(torch.randn(2, 5), groups=torch.tensor([7, 7]))
    assert_close(alike, torch.zeros(2))


def test_contrastive_flow_moves_the_optimum_by_what_is_said():
    generator = torch.Generator().manual_seed(0)
    x, e = torch.randn(2, 6, 1, 2, 2, generator=generator, dtype=torch.float64)
    flow = (e - x).requires_grad_()
    weight, others = 0.05, ((e - x).sum(0) - (e - x)) / 5
    best = ((e - x) - weight * others) / (1 - weight)
    velocity = best.clone().requires_grad_()
    loss = (velocity - flow.detach()).square().flatten(1).mean(1) + weight * ContrastiveFlow().measure(velocity, x, e)
    (found,) = torch.autograd.grad(loss.sum(), velocity)
    assert_close(found, torch.zeros_like(found), atol=1e-12, rtol=0)


def test_dispersion_is_a_contrast_without_positives():
    hidden = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    apart = torch.cdist(hidden.flatten(1), hidden.flatten(1)).square() / 18
    assert_close(Dispersive(0.7).measure(hidden), torch.exp(-apart / 0.7).mean(dim=1).log())


def test_alignment_does_not_mind_how_features_are_turned_or_scaled():
    hidden, target = torch.randn(2, 6, 4, 4, dtype=torch.float64), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    turned = 3 * torch.einsum("cd,ndhw->nchw", turn, hidden)
    align = HiddenAlignment()
    assert_close(align.measure(target, turned), align.measure(target, hidden))
    pooled = torch.nn.functional.adaptive_avg_pool2d(target, 4)
    assert_close(align.measure(target, pooled), torch.zeros(2, dtype=torch.float64))


def test_alignment_refuses_hidden_maps_of_other_proportions_but_takes_those_that_were_rounded_up():
    target = torch.rand(1, 3, 30, 45)
    assert HiddenAlignment()(target=target, hidden=torch.rand(1, 2, 8, 12)).isfinite()
    with pytest.raises(ValueError, match=r"as tall and wide as target's are; got \(8, 6\), \(30, 45\)"):
        HiddenAlignment()(target=target, hidden=torch.rand(1, 2, 8, 6))


def test_one_weighting_is_one_loss_on_a_gated_sum():
    assert isinstance(parse("imagen"), Hybrid)
    with pytest.raises(ValueError, match="imagen knows the predictions"):
        parse("imagen('z')")
    assert [repr(parse(f"imagen('{p}')")) for p in ("eps", "flow")] == [
        'DenoisingMSE(weighting="min-snr")',
        repr(DenoisingMSE("flow")),
    ]
