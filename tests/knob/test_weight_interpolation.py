import pytest
import torch

from lossmith import parse
from lossmith.knob.baselines import fix_knobs
from lossmith.knob.interpolation import WeightedEnsemble, interpolate_weights, balanced_value
from lossmith.models import EDSR
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.output_interpolation import OutputInterpolation


def network(seed, channels=4):
    torch.manual_seed(seed)
    model = EDSR(2, channels=channels, blocks=1)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model.eval()


@pytest.fixture
def image():
    return torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mix", [WeightedEnsemble, interpolate_weights])
def test_the_ends_are_the_networks_themselves(mix, image):
    first, second = network(0), network(1)
    assert torch.equal(mix(first, second, 0.0)(image), first(image))
    torch.testing.assert_close(mix(first, second, 1.0)(image), second(image))


def test_answers_are_mixed_pixel_by_pixel(image):
    first, second = network(0), network(1, channels=8)
    torch.testing.assert_close(WeightedEnsemble(first, second, 0.25)(image), 0.75 * first(image) + 0.25 * second(image))


@pytest.mark.parametrize(
    ("text", "wanted"), [("L1 + lam*TV", 1), ("2*L1 + lam*4*TV", 0.5), ("L1 + 0.5*L2 + Ramp(0, 3, 9)*lam*TV", 0.5)]
)
def test_a_knob_is_even_where_its_terms_weigh_as_much_as_the_others(text, wanted):
    assert balanced_value(parse(text), "lam") == pytest.approx(wanted)


@pytest.mark.parametrize("low", [0.1, 0.3])
def test_the_loss_at_a_place_is_as_much_of_those_at_the_ends_as_the_answers_are(low):
    loss = parse("2*L1 + lam*3*TV + lam*L2")
    model = OutputInterpolation(ConditionedNetwork(network(0), {"lam": (low, 10.0)}), balanced_value(loss, "lam"))
    weights = {lam: [weight.scale for weight in fix_knobs(loss, {"lam": lam}).weights] for lam in (low, 1.0, 10.0)}
    share = model.share(1.0)
    mixed = [(1 - share) * first + share * second for first, second in zip(weights[low], weights[10.0], strict=True)]
    assert weights[1.0] == pytest.approx(mixed)


@pytest.mark.parametrize("text", ["lam*L1 + lam*TV", "L1 + TV", "L1 + lam*lam*TV"])
def test_a_loss_that_is_no_mix_of_those_at_its_ends_is_refused(text):
    with pytest.raises(ValueError, match="Answers are mixed as losses are, which wants terms with the knob 'lam'"):
        balanced_value(parse(text), "lam")


def test_weights_are_mixed_number_by_number(image):
    first, second = network(0), network(1)
    middle = interpolate_weights(first, second, 0.25)
    for name, weight in middle.state_dict().items():
        torch.testing.assert_close(weight, 0.75 * first.state_dict()[name] + 0.25 * second.state_dict()[name])
    assert not torch.allclose(middle(image), WeightedEnsemble(first, second, 0.25)(image), atol=1e-3)


def test_blending_leaves_the_networks_as_they_were(image):
    first, second = network(0), network(1)
    before = first(image), second(image)
    interpolate_weights(first, second, 0.5)
    assert torch.equal(first(image), before[0]) and torch.equal(second(image), before[1])


def test_weights_of_different_networks_are_not_mixed():
    with pytest.raises(ValueError, match=r"built alike; got .*'channels': 4.* and .*'channels': 8"):
        interpolate_weights(network(0), network(1, channels=8), 0.5)


@pytest.mark.parametrize("mix", [WeightedEnsemble, interpolate_weights])
def test_what_cannot_be_mixed_is_refused(mix):
    with pytest.raises(ValueError, match=r"between 0 and 1; got 1\.5"):
        mix(network(0), network(1), 1.5)
    with pytest.raises(ValueError, match="these enlarge 2 and 3 times"):
        mix(network(0), EDSR(3, channels=4, blocks=1), 0.5)
