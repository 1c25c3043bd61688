"""Values and gradients under Keras equal those under PyTorch on the same images and weights."""

import os
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from lossmith.keras import VGG, Applications, KerasLoss, perceptual
from lossmith.keras.networks import run_sequential_network
from lossmith.lenses.sequential_network import CAFFE_UNIT
from lossmith.pretrained.locate import MissingWeightsError


@pytest.mark.parametrize(
    "text",
    [
        "L1",
        "L2",
        "Lp(1.5)",
        "Charbonnier",
        "Huber",
        "SquaredNorm",
        "TV",
        "TV('isotropic')",
        "TV('isotropic', per='image')",
        "TV(squared=True, per='image')",
        "EdgeAwareTV",
        "SSIM",
        "MSSSIM(2, window=7)",
        "0.5*L1 - 2*TV + L2",
    ],
)
def test_pixel_and_structure_losses_agree(text, assert_parity, image_pair):
    assert_parity(text, *image_pair())


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize(
    "text",
    [
        "L1 + SSIM(7)",
        "Charbonnier(bands='joint')",
        "TV(bands='joint')",
        "TV('isotropic', bands='joint')",
        "MSSSIM(2, window=5, bands='joint')",
        "Huber @ Bands('each')",
        "L2 @ VGG('vgg16', 'conv1_2', weights='random') @ Bands('mean')",
        "L2 @ VGG('vgg16', 'conv1_2', weights='random') @ Bands('each')",
        "L2 @ VGG('vgg16', 'conv1_2', weights='random') @ Bands(1, 1, 1)",
    ],
)
def test_losses_of_other_bands_agree(text, channels, assert_parity, image_pair, use_float64):
    pair = image_pair(dtype="float64")
    pred, target = (np.concatenate([image, image[..., ::-1] ** 2], axis=-1)[..., :channels] for image in pair)
    assert_parity(text, pred, target)


def test_the_spectral_angle_agrees(assert_parity, image_pair):
    assert_parity("SpectralAngle", *image_pair())


@pytest.mark.parametrize("text", ["InfoNCE", "InfoNCE(0.5, directions='pred', include_positive=False)"])
def test_info_nce_agrees(text, assert_parity):
    pred, target = np.random.default_rng(0).standard_normal((2, 5, 16)).astype("float32")
    assert_parity(text, pred, target)


@pytest.mark.parametrize(
    "text",
    [
        # squares, since rounding can change the sign of an error
        "L2 @ VGG('vgg16', {'conv1_2': 0.1, 'pool2': 1.0}, weights='random')",
        "style('vgg16', ['relu1_1', 'relu2_2'], weights='random')",
        "L2 @ SqueezeNet(['conv1', 'pool1', 'fire3'], weights='random')",  # a stride, and windows that exceed the map
        "L2 @ Gram('hw') @ AlexNet(['relu1', 'pool1', 'conv2'], weights='random')",  # padding under a stride
    ],
)
def test_networks_agree(text, assert_parity, image_pair):
    assert_parity(text, *image_pair(n=1, side=34))  # windows exceed maps of this size


@pytest.fixture
def use_float64() -> Iterator[None]:
    """Use float64: in float32, rounding changes the sign of some errors and activations near 0."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def test_a_hybrid_on_whole_networks_agrees_in_float64(assert_parity, image_pair, use_float64):
    text = "L2 @ VGG('vgg19', ['conv3_4', 'conv5_4'], weights='random') + lpips('vgg', weights='random') + 0.1*L1"
    try:
        assert_parity(text, *image_pair(n=1, side=64, dtype="float64"))
    except MissingWeightsError as missing:
        pytest.skip(str(missing))


def test_l1_of_features_agrees_in_float64(assert_parity, image_pair, use_float64):
    images = image_pair(side=32, dtype="float64")
    assert_parity("perceptual('vgg16', ['conv1_2', 'conv2_2'], weights='random')", *images)


def test_the_embedded_network_agrees(assert_parity, image_pair):
    layers = ["relu1_1", "relu2_2", "relu3_2", "relu4_2", "relu5_2"]
    assert_parity(f"L2 @ Distilled @ Embedded({layers})", *image_pair(n=1, side=32))


def test_trained_weights_agree(assert_parity, image_pair, monkeypatch):
    folder = Path(os.environ.get("LOSSMITH_ASSETS", "")) / "weights"
    if not folder.is_dir():
        pytest.skip("LOSSMITH_ASSETS names no folder of real weights")
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(folder))
    assert_parity("L2 @ VGG('vgg19', 'conv2_2') + L2 @ VGG('vgg16', 'relu2_2')", *image_pair(n=1, side=32))


def test_vgg_equals_that_of_keras_applications(image_pair, tmp_path):
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(None, None, 3))
    convs = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    generator = np.random.default_rng(0)
    for conv in convs:
        kernel, bias = conv.get_weights()
        spread = (2 / np.prod(kernel.shape[:3])) ** 0.5
        conv.set_weights(
            [generator.standard_normal(kernel.shape) * spread, 0.1 * generator.standard_normal(bias.shape)]
        )
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group  # as Keras published its files

    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "vgg16.h5", "w") as file:
        save_weights_to_hdf5_group(file, model)

    image, _ = image_pair(n=1, side=32)
    lens = VGG("vgg16", ["conv2_1", "relu2_2", "pool2"], weights=str(tmp_path / "vgg16.h5"))
    ours = run_sequential_network(lens.backbone, keras.ops.convert_to_tensor(image), list(lens.layers))
    prepared = keras.applications.vgg16.preprocess_input(image * 255)
    block = keras.Model(model.input, [model.get_layer(n).output for n in ("block2_conv2", "block2_pool")])
    for name, theirs in zip(("relu2_2", "pool2"), block.predict(prepared, verbose=0), strict=True):
        np.testing.assert_allclose(
            np.asarray(keras.ops.convert_to_numpy(ours[name])) * CAFFE_UNIT, theirs, rtol=1e-4, atol=1e-3
        )
    assert keras.ops.convert_to_numpy(ours["conv2_1"]).min() < 0, "before the ReLU"


def test_a_network_of_keras_applications_is_a_lens(image_pair):
    pred, target = image_pair(n=2, side=32)
    lens = Applications("MobileNetV2", {"Conv1": 1.0, "expanded_conv_project_BN": 0.5}, weights="random")
    value = float(keras.ops.convert_to_numpy((KerasLoss("L2", data_format="channels_last") @ lens)(target, pred)))
    model = lens.backbone.model
    watched = keras.Model(model.input, [model.get_layer(name).output for name in lens.layers])
    prepare = keras.applications.mobilenet_v2.preprocess_input
    x, y = (watched.predict(prepare(image * 255), verbose=0) for image in (pred, target))
    expected = sum(np.mean((a - b) ** 2) * share for a, b, share in zip(x, y, lens.layers.values(), strict=True))
    assert value == pytest.approx(expected, rel=1e-5)


def test_a_recipe_accepts_names_of_keras_networks():
    assert repr(perceptual("VGG16", "block1_conv1")) == 'L1() @ Applications("VGG16", "block1_conv1")'
