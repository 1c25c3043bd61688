"""What is no input is refused in one line, with the cure."""

import importlib.util

import keras
import numpy as np
import pytest

import lossmith
from lossmith.keras import L1, SSIM, TV, Applications, KerasLoss, parse

BACKEND = keras.backend.backend()
X = np.zeros((2, 16, 16, 3), "float32")


def refused(words: str):
    return pytest.raises(ValueError, match=f"(?s)^(?!.*\n).*{words}")


def tensor_of_another_library():
    if BACKEND == "torch":
        return pytest.importorskip("jax.numpy").zeros((2, 16, 16, 3))
    import torch

    return torch.zeros(2, 16, 16, 3)


def test_a_tensor_of_another_library():
    with refused("is a tensor of (PyTorch|JAX), and Keras runs on .*: give it"):
        L1()(X, tensor_of_another_library())
    with refused("is a tensor of (PyTorch|JAX), and Keras runs on"):
        L1().evaluate({"pred": X, "target": tensor_of_another_library()})


@pytest.mark.skipif(BACKEND == "torch", reason="on PyTorch a Keras tensor is a PyTorch tensor, and right here")
def test_a_keras_tensor_for_the_pytorch_half():
    x = keras.ops.zeros((1, 3, 8, 8))
    with refused("for TensorFlow and JAX there is lossmith.keras"):
        lossmith.L1()(x, x)
    with refused("for TensorFlow and JAX there is lossmith.keras"):
        lossmith.L1().evaluate({"pred": x, "target": x})


@pytest.mark.skipif(BACKEND == "torch", reason="on PyTorch a network of Keras runs here, so nothing is refused")
def test_a_network_of_keras_in_the_pytorch_half():
    import torch

    with refused("runs where Keras does, on .*: look through it in lossmith.keras"):
        (lossmith.L1() @ Applications("VGG16", "block1_conv1", weights="random"))(*torch.zeros(2, 1, 3, 32, 32))


def test_an_unbuilt_model_and_a_placeholder():
    model = keras.Sequential([keras.layers.Conv2D(3, 3)])
    with refused("'pred' is the model '.*', which has not even been built; give what it makes: model\\(inputs\\)"):
        L1()(X, model)
    with refused("'pred' is a placeholder of a model's graph"):
        L1()(X, keras.Input((16, 16, 3)))


@pytest.mark.parametrize("loss", [TV(), L1(), SSIM(7)], ids=repr)
def test_the_other_data_format(loss):
    first = np.zeros((2, 3, 16, 16), "float32")
    with refused('looks like channels_first, and this loss reads channels_last: give it data_format="channels_first"'):
        loss(first, first)
    with refused("A data_format is channels_last or channels_first; got 'NCHW'"):
        KerasLoss("L1", data_format="NCHW")


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ({"pred": X}, "The term 'L1' reads the view 'target'; the views are pred"),
        ({"pred": X[0], "target": X[0]}, "is one picture, .*; make it a batch with pred\\[None\\]"),
        ({"pred": X, "target": X[:, :8]}, "wants them of one shape"),
        ({"pred": X.astype("uint8"), "target": X}, "is uint8; a loss wants floats in \\[0, 1\\]: divide by 255"),
        ({"pred": "x.png", "target": X}, "'pred' is a str; a loss wants tensors"),
    ],
)
def test_views_that_cannot_be_compared(views, words):
    with refused(words):
        L1().evaluate(views)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FocalFrequency", "runs under PyTorch alone; under Keras there are L1, L2"),
        ("L1 @ Sobel", "runs under PyTorch alone; under Keras there are Gram, Calibrated, Distilled"),
        ("InfoNCE(learnable=True)", "leave out learnable"),
        ("InfoNCE(gather=True)", "leave out gather"),
        ("L1.on(mask='mask')", "has a mask"),
    ],
)
def test_formulas_that_only_the_pytorch_half_runs(text, words):
    with refused(words):
        parse(text)


def test_a_network_of_pytorch():
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    words = 'look through (one of )?keras\\.applications, such as .*Applications\\("ResNet50"'
    with pytest.raises(ValueError, match=words):  # in text, with the place under it
        parse("L1 @ Torchvision('resnet18', 'layer1', weights='random')")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("L1 + lam*TV", "Keras hands a loss neither a step nor knobs: compile with loss.at\\("),
        ("L1.on(target='clean')", "call loss.weighted_total\\(views\\) in a train_step of your own"),
    ],
)
def test_what_fit_cannot_give(text, words):
    with refused(words):
        parse(text)(X, X)


def test_pictures_that_a_network_cannot_look_at():
    loss = parse("L1 @ VGG('vgg16', 'pool4', weights='random')")
    with refused("vgg16 wants pictures of at least 16 px a side for these layers; got 8x16"):
        loss(X[:, :8], X[:, :8])
    with refused("give grey ones as keras.ops.repeat"):
        loss(X[..., :1], X[..., :1])
    with refused("SSIM\\(5\\) fits"):
        SSIM()(X[:, :6], X[:, :6])


def test_names_of_keras_networks():
    with refused("keras.applications has no 'ResNet5'; did you mean 'ResNet50"):
        Applications("ResNet5", "x")
    with refused("keras.VGG16 has no layer 'block1_conv'; its layers run from .* Did you mean 'block1_conv2'"):
        Applications("VGG16", "block1_conv")


def test_weights_that_are_nowhere(monkeypatch, tmp_path):
    from lossmith import MissingWeightsError, WrongWeightsError

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", _offline)
    loss = L1() @ Applications("VGG16", "block1_conv1")
    with pytest.raises(MissingWeightsError, match=r"No weights for keras\.VGG16 were found. Do one of these: put VGG16"):
        loss(X, X)
    with pytest.raises(MissingWeightsError, match="which is no file"):
        (L1() @ Applications("VGG16", "block1_conv1", weights=str(tmp_path / "none.h5")))(X, X)
    (tmp_path / "bad.weights.h5").write_bytes(b"no weights")
    with pytest.raises(WrongWeightsError, match="cannot be read"):
        (L1() @ Applications("VGG16", "block1_conv1", weights=str(tmp_path / "bad.weights.h5")))(X, X)


def _offline(*_args, **_named):
    raise OSError("no network here")
