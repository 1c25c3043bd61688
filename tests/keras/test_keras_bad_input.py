"""Wrong inputs and formulas under Keras raise one line with the cure."""

import importlib.util

import keras
import numpy as np
import pytest

import lossmith
from lossmith.keras import L1, SSIM, TV, Applications, KerasLoss, parse

BACKEND = keras.backend.backend()
X = np.zeros((2, 16, 16, 3), "float32")


def raises(message: str):
    return pytest.raises(ValueError, match=f"(?s)^(?!.*\n).*{message}")


def tensor_of_another_library():
    if BACKEND == "torch":
        return pytest.importorskip("jax.numpy").zeros((2, 16, 16, 3))
    import torch

    return torch.zeros(2, 16, 16, 3)


def test_a_tensor_of_another_library_raises():
    with raises("is a (PyTorch|JAX) tensor, and Keras runs on .*: pass"):
        L1()(X, tensor_of_another_library())
    with raises("is a (PyTorch|JAX) tensor, and Keras runs on"):
        L1().evaluate({"pred": X, "target": tensor_of_another_library()})


@pytest.mark.skipif(BACKEND == "torch", reason="on PyTorch a Keras tensor is a PyTorch tensor")
def test_a_keras_tensor_under_pytorch_raises():
    x = keras.ops.zeros((1, 3, 8, 8))
    with raises("For TensorFlow and JAX use lossmith.keras"):
        lossmith.L1()(x, x)
    with raises("For TensorFlow and JAX use lossmith.keras"):
        lossmith.L1().evaluate({"pred": x, "target": x})


@pytest.mark.skipif(BACKEND == "torch", reason="on PyTorch a Keras network runs under PyTorch too")
def test_a_keras_network_under_pytorch_raises():
    import torch

    with raises("runs in Keras on .* and not in PyTorch. Use the loss in lossmith.keras"):
        (lossmith.L1() @ Applications("VGG16", "block1_conv1", weights="random"))(*torch.zeros(2, 1, 3, 32, 32))


def test_a_model_or_a_symbolic_tensor_raises():
    model = keras.Sequential([keras.layers.Conv2D(3, 3)])
    with raises("'pred' is the model '.*', which is not built; pass its output, model\\(inputs\\)"):
        L1()(X, model)
    with raises("'pred' is a symbolic KerasTensor"):
        L1()(X, keras.Input((16, 16, 3)))


@pytest.mark.parametrize("loss", [TV(), L1(), SSIM(7)], ids=repr)
def test_a_wrong_data_format_raises(loss):
    first = np.zeros((2, 3, 16, 16), "float32")
    with raises('looks like channels_first, and this loss reads channels_last: pass data_format="channels_first"'):
        loss(first, first)
    with raises("data_format must be one of 'channels_last', 'channels_first'; got 'NCHW'"):
        KerasLoss("L1", data_format="NCHW")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"pred": X}, "The term 'L1' reads the input 'target'; the inputs are pred"),
        ({"pred": X[0], "target": X[0]}, "is a single image, .*; make a batch of it with pred\\[None\\]"),
        ({"pred": X[None], "target": X[None]}, "must be a batch of images \\(N, H, W, C\\); got .* ops.reshape"),
        ({"pred": X[..., 0], "target": X[..., 0]}, "insert the channel with pred\\[..., None\\]"),
        ({"pred": X, "target": X[:, :8]}, "the shapes must be equal"),
        ({"pred": X.astype("uint8"), "target": X}, "must be floating point in \\[0, 1\\]; got uint8. Divide by 255"),
        ({"pred": "x.png", "target": X}, "'pred' must be a .* tensor or an array; got a str"),
    ],
)
def test_inputs_that_cannot_be_compared_raise(inputs, message):
    with raises(message):
        L1().evaluate(inputs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FocalFrequency", "runs only under PyTorch; the losses under Keras are Charbonnier, EdgeAwareTV"),
        ("L1 @ Sobel", "runs only under PyTorch; the lenses under Keras are Bands, Calibrated, Distilled, Gram"),
        ("InfoNCE(learnable=True)", "leave out learnable"),
        ("InfoNCE(gather=True)", "leave out gather"),
        ("L1.on(mask='mask')", "has a mask"),
    ],
)
def test_formulas_that_run_only_under_pytorch_raise(text, message):
    with raises(message):
        parse(text)


def test_a_pytorch_network_raises():
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    message = 'a network of keras\\.applications, such as .*Applications\\("ResNet50"'
    with pytest.raises(ValueError, match=message):  # a formula, with a caret on further lines
        parse("L1 @ Torchvision('resnet18', 'layer1', weights='random')")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L1 + lam*TV", "Keras passes neither step nor knobs to a loss. Compile with loss.with_fixed_weights\\("),
        ("L1.on(target='clean')", "call loss.weighted_total\\(inputs\\) in your own train_step"),
    ],
)
def test_inputs_and_weights_that_fit_does_not_pass_raise(text, message):
    with raises(message):
        parse(text)(X, X)


def test_images_that_a_network_cannot_take_raise():
    loss = parse("L1 @ VGG('vgg16', 'pool4', weights='random')")
    with raises("vgg16 expects images of at least 16 px a side for these layers; got 8x16"):
        loss(X[:, :8], X[:, :8])
    with raises("say which bands are red, green and blue with a lens"):
        loss(X[..., :2], X[..., :2])
    with raises("SSIM\\(5\\) fits"):
        SSIM()(X[:, :6], X[:, :6])


def test_unknown_keras_networks_and_layers_raise():
    with raises("keras.applications has no 'ResNet5'. Did you mean 'ResNet50"):
        Applications("ResNet5", "x")
    with raises("keras.VGG16 has no layer 'block1_conv'; its layers run from .* Did you mean 'block1_conv2'"):
        Applications("VGG16", "block1_conv")


def test_missing_and_broken_weights_raise(monkeypatch, tmp_path):
    from lossmith import MissingWeightsError, WrongWeightsError

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", _offline)
    loss = L1() @ Applications("VGG16", "block1_conv1")
    with pytest.raises(
        MissingWeightsError, match=r"No weights for keras\.VGG16 were found. Do one of these: put VGG16"
    ):
        loss(X, X)
    with pytest.raises(MissingWeightsError, match=r"must be a file; .* does not exist"):
        (L1() @ Applications("VGG16", "block1_conv1", weights=str(tmp_path / "none.h5")))(X, X)
    (tmp_path / "bad.weights.h5").write_bytes(b"no weights")
    with pytest.raises(WrongWeightsError, match="cannot be read"):
        (L1() @ Applications("VGG16", "block1_conv1", weights=str(tmp_path / "bad.weights.h5")))(X, X)


def _offline(*_args, **_named):
    raise OSError("no network here")
