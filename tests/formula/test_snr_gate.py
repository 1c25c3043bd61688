import pytest
import torch
from torch.testing import assert_close

from lossmith import L2, Gate, parse


def test_a_gate_multiplies_each_value_and_the_mean_is_over_all_images():
    pred, target = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    logsnr = torch.tensor([-100.0, 100.0])
    assert_close((Gate(0.0) * L2())(pred, target, logsnr=logsnr), torch.tensor(0.5))


def test_a_gate_is_part_of_the_repr_and_its_input_is_read():
    loss = parse("L2 + 0.1 * Gate(1) * L1 @ Sobel")
    assert repr(loss) == "L2() + 0.1 * Gate(1) * L1() @ Sobel()"
    assert repr(parse(repr(loss))) == repr(loss)
    assert "logsnr" in loss.input_names
    assert repr(Gate()) == "Gate()"
    assert repr(Gate(-1.7, 0.25)) == "Gate(-1.7, 0.25)"


def test_the_cost_of_a_gated_term_is_known_without_noise_levels():
    gated, plain = (parse(f"{gate}perceptual('vgg16', 'conv1_2')") for gate in ("Gate() * ", ""))
    assert gated.plan((1, 3, 32, 32)).saved_bytes == plain.plan((1, 3, 32, 32)).saved_bytes


def test_a_gate_without_noise_levels_raises():
    with pytest.raises(ValueError, match="has a gate, which reads the input 'logsnr'"):
        (Gate() * L2())(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8))


def test_the_gradient_norm_of_a_gated_term_is_gated():
    inputs = {"pred": torch.rand(2, 3, 8, 8, requires_grad=True), "target": torch.rand(2, 3, 8, 8)}
    inputs["logsnr"] = torch.tensor([0.3, 0.3])
    loss = Gate(0.3) * L2() + L2()
    _, norms = loss.evaluate_with_gradient_norms(inputs)
    half, whole = norms.values()
    assert_close(half, whole / 2)
