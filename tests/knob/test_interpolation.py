import pytest
import torch

from lossmith import parse
from lossmith.knob.baselines import fix_knobs
from lossmith.knob.interpolation import WeightedEnsemble, balanced_value, interpolate_weights
from lossmith.models import EDSR
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.output_interpolation import OutputInterpolation


def make_network(seed, channels=4):
    torch.manual_seed(seed)
    model = EDSR(2, channels=channels, blocks=1)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model.eval()


@pytest.fixture
def image():
    return torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("interpolate", [WeightedEnsemble, interpolate_weights])
def test_the_ends_of_an_interpolation_are_the_networks(interpolate, image):
    first, second = make_network(0), make_network(1)
    assert torch.equal(interpolate(first, second, 0.0)(image), first(image))
    torch.testing.assert_close(interpolate(first, second, 1.0)(image), second(image))


def test_an_ensemble_interpolates_outputs_pixel_by_pixel(image):
    first, second = make_network(0), make_network(1, channels=8)
    expected = 0.75 * first(image) + 0.25 * second(image)
    torch.testing.assert_close(WeightedEnsemble(first, second, 0.25)(image), expected)


@pytest.mark.parametrize(
    ("formula", "value"), [("L1 + lam*TV", 1), ("2*L1 + lam*4*TV", 0.5), ("L1 + 0.5*L2 + Ramp(0, 3, 9)*lam*TV", 0.5)]
)
def test_at_the_balanced_value_both_groups_of_terms_have_the_same_weight(formula, value):
    assert balanced_value(parse(formula), "lam") == pytest.approx(value)


@pytest.mark.parametrize("low", [0.1, 0.3])
def test_the_loss_at_a_knob_value_is_interpolated_as_the_outputs_are(low):
    loss = parse("2*L1 + lam*3*TV + lam*L2")
    network = ConditionedNetwork(make_network(0), {"lam": (low, 10.0)})
    alpha = OutputInterpolation(network, balanced_value(loss, "lam")).interpolation_weight(1.0)
    begin, middle, end = ([w.scale for w in fix_knobs(loss, {"lam": lam}).weights] for lam in (low, 1.0, 10.0))
    assert middle == pytest.approx([(1 - alpha) * a + alpha * b for a, b in zip(begin, end, strict=True)])


@pytest.mark.parametrize("formula", ["lam*L1 + lam*TV", "L1 + TV", "L1 + lam*lam*TV"])
def test_a_loss_that_is_no_interpolation_of_those_at_its_ends_is_rejected(formula):
    with pytest.raises(ValueError, match="requires terms with the knob 'lam' as a single factor"):
        balanced_value(parse(formula), "lam")


def test_weights_are_interpolated_element_by_element(image):
    first, second = make_network(0), make_network(1)
    middle = interpolate_weights(first, second, 0.25)
    for name, weight in middle.state_dict().items():
        torch.testing.assert_close(weight, 0.75 * first.state_dict()[name] + 0.25 * second.state_dict()[name])
    assert not torch.allclose(middle(image), WeightedEnsemble(first, second, 0.25)(image), atol=1e-3)


def test_interpolating_weights_does_not_modify_the_networks(image):
    first, second = make_network(0), make_network(1)
    before = first(image), second(image)
    interpolate_weights(first, second, 0.5)
    assert torch.equal(first(image), before[0]) and torch.equal(second(image), before[1])


def test_weights_of_different_architectures_are_rejected():
    with pytest.raises(ValueError, match=r"equal architectures only; got .*'channels': 4.* and .*'channels': 8"):
        interpolate_weights(make_network(0), make_network(1, channels=8), 0.5)


@pytest.mark.parametrize("interpolate", [WeightedEnsemble, interpolate_weights])
def test_an_alpha_out_of_range_and_different_scales_are_rejected(interpolate):
    with pytest.raises(ValueError, match=r"alpha must be at least 0 and at most 1; got 1\.5"):
        interpolate(make_network(0), make_network(1), 1.5)
    with pytest.raises(ValueError, match="the same scale; got 2 and 3"):
        interpolate(make_network(0), EDSR(3, channels=4, blocks=1), 0.5)
