"""Losses and lenses that read images refuse inputs of other axes than (N, C, H, W), before any computation."""

import pytest
import torch

from lossmith import L1, parse, pinned, tiled
from lossmith.formula.distance import Distance
from lossmith.lens import Lens
from lossmith.losses import KL, SSIM, TV, InfoNCE, TextAlignment
from lossmith.parser.vocabulary import BUILTINS

DISTANCES = {
    name: found.example_formula or name
    for name, found in BUILTINS.items()
    if isinstance(found, type) and issubclass(found, Distance) and found.reads_images and name != "External"
}
LENSES = [
    "Sobel",
    "Laplacian",
    "Blur(2)",
    "LowPass(2)",
    "Fourier",
    "Gram",
    "Wavelet",
    "YCbCr",
    "Lab",
    "VGG('vgg16', 'relu1_1')",
]
LENSES = [text for text in LENSES if text.split("(")[0] in BUILTINS]

SHAPES = {
    (5, 16, 16): r"pred\[:, None\], or the batch with pred\[None\]",
    (3, 16, 16): r"make a batch of it with pred\[None\]",
    (16, 16): r"must be a batch of images \(N, C, H, W\); got \(16, 16\)\.$",
    (2, 3, 4, 16, 16): r"pred\.transpose\(1, 2\)\.flatten\(0, 1\)",
    (2, 16, 12, 3): r"channels are last.*pred\.permute\(0, 3, 1, 2\)",
    (): r"got \(\)\.$",
}


def evaluate(loss, shape, requires_grad=False):
    """Compute a loss whose first image input has a shape, and whose other inputs are proper examples."""
    terms = loss.terms[0]
    inputs = {name: torch.rand(2, 3, 32, 32) for name in loss.input_names}
    for parameter, name in terms.inputs.items():
        if parameter in terms.distance.unlensed_inputs:
            inputs[name] = torch.rand(2, 16)
    first = terms.inputs[terms.parameters[0]] if "pred" not in inputs else "pred"
    return loss(**{**inputs, first: torch.rand(shape, requires_grad=requires_grad)})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_refuses_images_of_other_axes(name, shape):
    loss = parse(DISTANCES[name])
    if len(shape) in loss.terms[0].distance.input_dims - {4}:
        pytest.skip("reads embeddings, too")
    if "pred" not in loss.input_names or "pred" in loss.terms[0].distance.unlensed_inputs:
        pytest.skip("its image input has another name")
    with pytest.raises(ValueError, match=SHAPES[shape]) as caught:
        evaluate(loss, shape)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lens", LENSES)
def test_a_lens_refuses_images_of_other_axes(lens, shape, with_random_weights):
    loss = with_random_weights(parse(f"L1 @ {lens}"))
    with pytest.raises(ValueError, match=SHAPES[shape]):
        evaluate(loss, shape)


def test_the_lenses_of_the_table_are_lenses():
    assert len(LENSES) >= 6
    assert all(isinstance(parse(f"L1 @ {lens}").terms[0].lens, Lens) for lens in LENSES)


def test_a_volume_is_refused_by_pinned_and_tiled_losses():
    volume = torch.rand(1, 1, 8, 16, 16)
    for call in (lambda: pinned(L1(), target=volume), lambda: tiled(TV(), 8)(volume)):
        with pytest.raises(ValueError, match=r"must be a batch of images \(N, C, H, W\)"):
            call()


def test_ssim_of_images_with_channels_last_is_told_to_move_them():
    images = torch.rand(2, 48, 48, 3)
    with pytest.raises(ValueError, match="channels are last") as caught:
        SSIM()(images, images)
    assert "SSIM(3)" not in str(caught.value)


def test_inputs_that_are_not_images_keep_their_shapes():
    vectors = torch.rand(4, 6)
    assert InfoNCE()(vectors, vectors).isfinite()
    assert KL()(mu=vectors, logvar=vectors).isfinite()
    assert TextAlignment()(vectors, text=vectors).isfinite()


def test_feature_maps_of_few_columns_are_images():
    for shape in ((2, 64, 4, 4), (2, 64, 3, 3), (2, 64, 8, 1), (2, 3, 5, 3)):
        maps = torch.rand(shape)
        assert L1()(maps, 1 - maps).isfinite()


def test_the_check_reads_no_values():
    images = torch.empty(2, 3, 8, 8, device="meta")
    assert L1()(images, images).device.type == "meta"
