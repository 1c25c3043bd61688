"""KerasLoss in `model.compile` and `fit`."""

import keras
import numpy as np
import pytest
from keras import layers

from lossmith import Knob, OnFrom, parse
from lossmith.keras import L1, TV, KerasLoss, TermMetric, feature_cache, perceptual

TEXT = (
    "L1 + 0.1*TV + 0.01*L2 @ SqueezeNet('relu1', weights='random') + L2 @ Gram @ SqueezeNet('conv1', weights='random')"
)


def small_model(dtype: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(3, 3, padding="same", dtype=dtype)])


@pytest.fixture
def passes(monkeypatch) -> list[tuple[str, ...]]:
    """Return the list of the layers of each network pass."""
    found = []

    def counted(network, image, layers):
        found.append(tuple(layers))
        return run(network, image, layers)

    run = feature_cache.run_sequential_network
    monkeypatch.setattr(feature_cache, "run_sequential_network", counted)
    return found


def test_fit_shows_every_term_and_a_saved_model_loads(image_pair, tmp_path):
    pred, target = image_pair(n=4, side=16)
    model, loss = small_model(), KerasLoss(TEXT)
    model.compile("adam", loss=loss, metrics=loss.metrics())
    history = model.fit(pred, target, batch_size=2, epochs=1, verbose=0).history
    assert set(history) == {"loss", *loss.names}
    shown = model.evaluate(pred, target, batch_size=2, verbose=0, return_dict=True)
    values = loss.evaluate({"pred": model(pred), "target": target})
    for name in loss.names:
        assert shown[name] == pytest.approx(keras.ops.convert_to_numpy(values[name]).mean(), rel=1e-4)
    assert shown["loss"] == pytest.approx(
        sum(w.scale * shown[n] for n, w in zip(loss.names, loss.formula.weights, strict=True)), rel=1e-4
    )

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert repr(again.loss) == repr(loss) == repr(parse(TEXT))
    assert {metric.loss for metric in again.loss._metrics} == {again.loss}  # which then compute nothing

    assert again.evaluate(pred, target, batch_size=2, verbose=0, return_dict=True) == pytest.approx(shown, rel=1e-4)


def test_terms_and_metrics_share_one_pass_per_input(passes, image_pair):
    pred, target = image_pair(n=2, side=16)
    loss = KerasLoss(TEXT)
    metrics = loss.metrics()
    loss(target, pred)
    for metric in metrics:
        metric.update_state(target, pred)
    assert passes == [("conv1", "relu1")] * 2  # of pred, and of target


def test_a_metric_alone_computes_its_term(image_pair):
    pred, target = image_pair(n=2, side=16)
    metric = L1().metrics()[0]
    metric.update_state(target, pred)
    assert float(metric.result()) == pytest.approx(float(np.abs(pred - target).mean()), rel=1e-5)
    assert isinstance(metric, TermMetric)


def test_sample_weights_weight_images(image_pair):
    pred, target = image_pair(n=2, side=16)
    values = np.abs(pred - target).mean(axis=(1, 2, 3))
    assert float(L1()(target, pred, sample_weight=np.array([1.0, 0.0]))) == pytest.approx(values[0] / 2, rel=1e-5)


def test_the_config_contains_the_text():
    loss = 2 * L1() + TV()
    assert loss.get_config() == {"formula": "2.0 * L1() + TV()", "data_format": "channels_last"}
    assert repr(keras.losses.deserialize(keras.losses.serialize(loss))) == "2.0 * L1() + TV()"


def test_a_model_trains_in_mixed_precision(image_pair):
    pred, target = image_pair(n=2, side=16)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model()
        loss = KerasLoss("L1 + 0.1*L2 @ VGG('vgg16', 'relu2_1', weights='random')")
        model.compile("sgd", loss=loss)
        half = model.evaluate(pred, target, verbose=0)
        model.fit(pred, target, epochs=1, verbose=0)
        assert np.isfinite(model.get_weights()[0]).all()
        output = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(small_model()(pred), "float32")))
    finally:
        keras.config.set_dtype_policy("float32")
    full = float(loss(target, output))
    assert half == pytest.approx(full, rel=0.02)


def test_channels_first_gives_the_same_value(image_pair):
    pred, target = image_pair(n=2, side=16)
    last = KerasLoss("TV + SSIM(7) + L2 @ Gram() @ SqueezeNet('relu1', weights='random')")
    first = KerasLoss(last.formula, data_format="channels_first")
    assert float(first(*(np.moveaxis(x, -1, 1) for x in (target, pred)))) == pytest.approx(
        float(last(target, pred)), rel=1e-5
    )


def test_other_inputs_knobs_and_schedules_work_in_a_custom_train_step(image_pair):
    pred, target = image_pair(n=2, side=16)
    loss = L1() + Knob("lam") * L1().on(pred="filled") + OnFrom(10) * TV()
    inputs = {"pred": pred, "target": target, "filled": target + 0.5}
    one = loss.weighted_total(inputs, lam=2.0)
    per_image = loss.weighted_total(inputs, lam=np.array([2.0, 4.0], "float32"))
    assert float(one) == pytest.approx(float(np.abs(pred - target).mean()) + 1.0, rel=1e-5)
    assert float(per_image) == pytest.approx(float(one) + 0.5, rel=1e-5)
    fixed = (L1() + Knob("lam") * TV() * OnFrom(10)).with_fixed_weights(10, lam=3)
    assert repr(fixed) == "L1() + 3.0 * TV()"


def test_the_algebra_equals_that_of_the_pytorch_half():
    loss = sum([L1(), 0.5 * perceptual("vgg16", "conv1_1")]) - TV() / 4
    assert repr(loss) == repr(parse("L1 + 0.5*perceptual('vgg16', 'conv1_1') - TV/4"))
    assert repr(loss.reweighted({"TV": 1.0}).on(pred="x")) == repr(loss.formula.reweighted({"TV": 1.0}).on(pred="x"))
    assert loss.names == loss.formula.names
