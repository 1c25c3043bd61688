"""Fixtures of the tests under Keras. A process has one backend: `tests/test_keras.py` runs them on each backend."""

import os
from collections.abc import Callable

import numpy as np
import pytest

if "KERAS_BACKEND" not in os.environ:
    collect_ignore_glob = ["*"]

Gradient = Callable[..., tuple[float, np.ndarray]]


@pytest.fixture
def image_pair() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Return seeded noise (N, H, W, 3) and, as prediction, the same with a little more noise."""

    def make(n: int = 2, side: int = 24, *, seed: int = 0, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        target = generator.random((n, side, side, 3))
        pred = np.clip(target + 0.1 * generator.standard_normal(target.shape), 0, 1)
        return pred.astype(dtype), target.astype(dtype)

    return make


@pytest.fixture
def differentiate() -> Gradient:
    """Return a function that gives value and gradient of a Keras loss, compiled where the backend can."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def run(loss, target, pred):
            @tf.function
            def both(target, pred):
                with tf.GradientTape() as tape:
                    tape.watch(pred)
                    value = loss(target, pred)
                return value, tape.gradient(value, pred)

            value, gradient = both(tf.constant(target), tf.constant(pred))
            return float(value), gradient.numpy()

    elif backend == "jax":
        import jax

        def run(loss, target, pred):
            both = jax.jit(jax.value_and_grad(lambda pred, target: loss(target, pred)))
            value, gradient = both(pred, target)
            return float(value), np.asarray(gradient)

    else:
        import torch

        def run(loss, target, pred):
            leaf = torch.tensor(pred, requires_grad=True)
            value = loss(torch.tensor(target), leaf)
            value.backward()
            return value.item(), leaf.grad.numpy()

    return run


@pytest.fixture
def assert_parity(differentiate) -> Callable[..., None]:
    """Assert that a formula has the same value and gradient under Keras and under PyTorch."""
    import torch

    import lossmith
    from lossmith.keras import KerasLoss

    def check(text: str, pred: np.ndarray, target: np.ndarray, within: float = 1e-5) -> None:
        loss = lossmith.parse(text)
        leaf, truth = (torch.tensor(np.moveaxis(x, -1, 1).copy() if x.ndim == 4 else x) for x in (pred, target))
        leaf.requires_grad_()
        expected = loss(*[leaf, truth][: len(loss.input_names)])
        expected.backward()
        reference = np.moveaxis(leaf.grad.numpy(), 1, -1) if pred.ndim == 4 else leaf.grad.numpy()
        value, gradient = differentiate(KerasLoss(text, data_format="channels_last"), target, pred)
        value_error = abs(value - expected.item()) / abs(expected.item())
        gradient_error = np.linalg.norm(gradient - reference) / np.linalg.norm(reference)
        print(f"\nparity {text}: value {value_error:.1e}, gradient {gradient_error:.1e}")
        assert max(value_error, gradient_error) <= within

    return check
