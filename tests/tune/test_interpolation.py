import pytest
import torch

from lossmith.models import EDSR, Knobbed
from lossmith.tune.interpolation import Mixed, blended, ends_mixed


def network(seed, channels=4):
    torch.manual_seed(seed)
    model = EDSR(2, channels=channels, blocks=1)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model.eval()


@pytest.fixture
def image():
    return torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mix", [Mixed, blended])
def test_the_ends_are_the_networks_themselves(mix, image):
    first, second = network(0), network(1)
    assert torch.equal(mix(first, second, 0.0)(image), first(image))
    torch.testing.assert_close(mix(first, second, 1.0)(image), second(image))


def test_answers_are_mixed_pixel_by_pixel(image):
    first, second = network(0), network(1, channels=8)
    torch.testing.assert_close(Mixed(first, second, 0.25)(image), 0.75 * first(image) + 0.25 * second(image))


def test_the_ends_of_a_knob_are_mixed_pixel_by_pixel(image):
    knob = Knobbed(network(0), {"lam": (0.1, 10.0)})
    for head in knob.heads:
        torch.nn.init.normal_(head.weight, std=0.1)
    low, high = knob.eval()(image, lam=0.1), knob(image, lam=10.0)
    assert not torch.equal(low, high)
    torch.testing.assert_close(ends_mixed(knob, {"lam": 0.1}, {"lam": 10.0}, 0.25)(image), 0.75 * low + 0.25 * high)


def test_weights_are_mixed_number_by_number(image):
    first, second = network(0), network(1)
    middle = blended(first, second, 0.25)
    for name, weight in middle.state_dict().items():
        torch.testing.assert_close(weight, 0.75 * first.state_dict()[name] + 0.25 * second.state_dict()[name])
    assert not torch.allclose(middle(image), Mixed(first, second, 0.25)(image), atol=1e-3)


def test_blending_leaves_the_networks_as_they_were(image):
    first, second = network(0), network(1)
    before = first(image), second(image)
    blended(first, second, 0.5)
    assert torch.equal(first(image), before[0]) and torch.equal(second(image), before[1])


def test_weights_of_different_networks_are_not_mixed():
    with pytest.raises(ValueError, match=r"built alike; got .*'channels': 4.* and .*'channels': 8"):
        blended(network(0), network(1, channels=8), 0.5)


@pytest.mark.parametrize("mix", [Mixed, blended])
def test_what_cannot_be_mixed_is_refused(mix):
    with pytest.raises(ValueError, match=r"between 0 and 1; got 1\.5"):
        mix(network(0), network(1), 1.5)
    with pytest.raises(ValueError, match="these enlarge 2 and 3 times"):
        mix(network(0), EDSR(3, channels=4, blocks=1), 0.5)
