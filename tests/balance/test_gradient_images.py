"""Images of the gradient of each term."""

import pytest
import torch

from lossmith import L1, TV, calibrate, parse
from lossmith.balance import gradient_images


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return {"pred": torch.rand(2, 3, 16, 16), "target": torch.rand(2, 3, 16, 16)}


def test_the_root_mean_square_of_an_image_is_the_norm_of_the_calibration(inputs):
    loss = parse("L1 + 3*TV + 2*L2")
    report = calibrate(loss, inputs)
    for image, term, weight in zip(gradient_images(loss, inputs), report.terms, (1, 3, 2), strict=True):
        norm = float(image.gradient.square().mean().sqrt())
        assert norm == pytest.approx(weight * term.norm, rel=1e-5)


def test_an_image_is_light_where_descent_brightens_and_grey_where_it_changes_nothing():
    pred, target = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    target[..., :4, :4] = 1
    (image,) = gradient_images(parse("L2"), {"pred": pred, "target": target})
    shown = image.render()
    assert shown.shape == (3, 16, 16)
    torch.testing.assert_close(shown[:, :4, :4], torch.ones(3, 4, 4))
    torch.testing.assert_close(shown[:, 4:], torch.full((3, 12, 16), 0.5))


def test_one_white_for_all_terms_shows_a_weak_term_pale(inputs):
    strong, weak = gradient_images(L1() + 0.01 * L1(), inputs)
    assert float(weak.render(white=strong.white).max()) == pytest.approx(0.505, rel=1e-4)
    assert float(weak.render().max()) == 1


def test_a_term_without_a_path_to_the_prediction_is_grey(inputs):
    image = gradient_images(L1() + TV().on(pred="target"), inputs)[1]
    torch.testing.assert_close(image.render(), torch.full((3, 16, 16), 0.5))


def test_shares_are_refused_until_they_are_numbers(inputs):
    loss = parse("70%*L1 + 30%*TV")
    with pytest.raises(ValueError, match=r"needs numbers as weights.*resolve_shares"):
        gradient_images(loss, inputs)
    first, second = gradient_images(calibrate(loss, inputs).resolve_shares(), inputs)
    norms = [float(image.gradient.square().mean().sqrt()) for image in (first, second)]
    assert norms[1] / norms[0] == pytest.approx(3 / 7, rel=1e-3)
