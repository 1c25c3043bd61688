"""Each known bug of other libraries, as a minimal loss, is found by the doctor, with a suggestion."""

import broken
import pytest
import torch
from torch import Tensor

from lossmith import L1, Backbone, External, Features, Lens, MissingWeightsError
from lossmith.doctor import BrokenLossError, check

SHAPE = (2, 3, 32, 32)


def messages(loss, severity, **inputs):
    """Return the messages of the findings of a severity by the name of the check."""
    report = check(loss, inputs or None, shape=None if inputs else SHAPE)
    return {finding.check: finding.message for finding in report.findings if finding.severity == severity}


BUGS = [
    ("in-place layers", External(broken.Content("0")), "error", "have been overwritten by this ReLU"),
    ("gradient", broken.DetachedPatches(), "error", "there is no gradient: the term cannot train a network"),
    ("derivative", broken.PartlyDetached(), "error", "a part of the value has no gradient"),
    ("mutation", broken.InPlace(), "error", "modifies its inputs (pred, target, by up to 0."),
    ("mutation", External(lambda x, y: broken.inplace_difference(x, y).mean()), "note", "External passes copies"),
    ("finite", External(broken.unit_length), "error", "gradient is NaN or infinite for inputs that are black"),
    ("finite", External(broken.rmse), "error", "gradient is NaN or infinite for inputs that are black"),
    ("randomness", broken.Lpips(), "error", "in training mode differ by"),
    ("training mode", broken.Lpips(), "error", "losses.0.head.0 (Dropout)"),
    ("trainable", broken.Lpips(), "error", "3 trainable weights (losses.0.head.1.weight)"),
    ("derivative", broken.Dists(), "error", "a part of the value has no gradient"),
    ("trainable", broken.Dists(learns=True), "error", "2 trainable weights (losses.0.alpha)"),
    ("scale", broken.SummedTV(), "note", "grows by a factor of 4.3 from 16x16 to 32x32 px"),
    ("batch dependence", broken.BatchScaled(), "warning", "The value of an image is"),
    ("precision", broken.HalfGram(), "error", "computes in half precision"),
    ("precision", broken.HalfCharbonnier(), "error", "computes in half precision"),
    ("finite", broken.HalfGram(), "error", "value is NaN or infinite for inputs that are"),
    ("finite", broken.HalfCharbonnier(), "error", "gradient is NaN or infinite for inputs that are"),
    ("finite", broken.NegativePower(), "error", "inputs that are opposite"),
    ("dead zone", broken.Clipped(), "warning", "of the values have no gradient"),
    ("dead zone", broken.Floored(), "error", "For a prediction that is black, 100% of the values"),
    ("value range", broken.Scaled(), "warning", "the class declares 0 to 1"),
    (
        "balance",
        L1() + 5000 * L1(),
        "warning",
        "It has 0.02% of the gradient at the prediction beside 99.98% of 'L1#2'",
    ),
    ("coverage", broken.Cropped(), "error", "only 25% of the pixels of (32, 32) (rows 8 to 23, columns 8 to 23)"),
    ("coverage", broken.RedOnly(), "warning", "never reaches channel(s) 1, 2 of 3"),
    ("training mode", broken.TrainingNorm(), "error", "losses.0.norm (BatchNorm2d)"),
    ("state", broken.TrainingNorm(), "error", "losses.0.norm.running_mean"),
    ("randomness", broken.Noisy(), "warning", "uses PyTorch's global random state"),
    ("dtype", External(broken.Casting()), "warning", "Casting.model.0.bias"),
    ("direction", External(broken.similarity), "error", "The value is 1 for equal images"),
    ("synchronization", External(broken.synchronizing), "note", "reads a number from the device 2 times"),
]


@pytest.mark.parametrize(("name", "loss", "severity", "words"), BUGS, ids=[f"{b[0]} {b[1]!r}" for b in BUGS])
def test_the_bug_is_found(name, loss, severity, words):
    assert words in messages(loss, severity)[name]


@pytest.mark.slow
def test_every_finding_has_a_suggestion():
    for _, loss, _, _ in BUGS:
        for finding in check(loss, shape=SHAPE).findings:
            if finding.severity != "note":
                assert finding.suggestion, finding


@pytest.mark.parametrize(
    "loss", [External(broken.Content("1")), External(broken.Content("0", clone=True)), External(broken.synchronizing)]
)
def test_a_correct_external_loss_has_no_errors(loss):
    assert not check(loss, shape=SHAPE).errors


def test_external_freezes_a_module():
    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = broken.Lpips()

        def forward(self, x, y):
            return self.inner.measure(x, y)

    report = check(External(Head()), shape=SHAPE)
    assert not {finding.check for finding in report.errors} & {"randomness", "training mode", "trainable"}
    assert "3 trainable parameters and Dropout in training mode" in str(report)


def test_a_network_in_the_closure_of_a_function_is_examined():
    net = broken.Lpips()
    assert "Lpips" in messages(External(lambda x, y: net.measure(x, y).mean()), "error")["trainable"]


class Rectified(Backbone):
    """A network whose "conv1" is the output of a ReLU."""

    name, weights, layers, sha256 = "rectified", "random", ("conv1", "relu1"), "random"

    def __call__(self, image, layers):
        return {layer: (image - 0.5).relu() if "conv1" in layers else image for layer in layers}

    def find_weights(self):
        raise MissingWeightsError("rectified has no weights; it needs none.")

    def min_size(self, layers):
        return 1

    def flops(self, height, width, layers):
        return 0.0


class RectifiedFeatures(Features):
    def __repr__(self):
        return "RectifiedFeatures()"


def test_a_convolution_of_a_lens_without_negative_values_is_found():
    loss = L1() @ RectifiedFeatures(Rectified(), "conv1")
    assert "'conv1' of rectified" in messages(loss, "error")["in-place layers"]
    assert "in-place layers" not in messages(L1() @ RectifiedFeatures(Rectified(), "relu1"), "error")


def test_a_lens_with_trainable_weights_is_found():
    class Learned(Lens):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)

        def forward(self, maps):
            return {name: self.conv(features) for name, features in maps.items()}

        def __repr__(self):
            return "Learned()"

    assert "112 trainable weights" in messages(L1() @ Learned(), "error")["trainable"]


def test_a_value_that_is_not_one_per_image_is_found():
    class Mean(broken.UserLoss):
        def measure(self, pred, target) -> Tensor:
            return (pred - target).abs().mean()

    assert "for 2 images" in messages(Mean(), "error")["shape"]


@pytest.mark.parametrize(
    ("change", "suggestion"),
    [
        (lambda x: 255 * x, "Divide by 255."),
        (lambda x: 2 * x - 1, "[-1, 1]"),
        (lambda x: x.log(), "images"),
    ],
)
def test_images_of_another_range_are_found(change, suggestion):
    target = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    target[0, 0, 0, 0] = 0.0
    (finding,) = check(L1(), {"pred": target, "target": change(target)}).errors
    assert finding.check == "range"
    assert suggestion in finding.suggestion


@pytest.mark.parametrize("name", ["pred", "other", "prior"])
def test_the_range_of_a_network_output_is_only_a_warning(name):
    target = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    (finding,) = check(L1().on(pred=name), {name: 3 * target - 1, "target": target}).findings
    assert (finding.severity, finding.check) == ("warning", "range")


def test_a_broken_loss_raises_one_line():
    message = r"^The loss is broken: DetachedPatches: The value is 0\.\d+, but there is no gradient.*$"
    with pytest.raises(BrokenLossError, match=message):
        check(L1() + broken.DetachedPatches(), shape=SHAPE).raise_if_broken()


def test_an_exception_of_a_term_is_reported_and_the_others_are_examined():
    def fail(x, y):
        raise KeyError("window")

    report = check(L1() + External(fail) + broken.Cropped(), shape=SHAPE)
    assert "an exception for ordinary images: KeyError: 'window'" in report.errors[0].message
    assert "coverage" in {finding.check for finding in report.findings}


def test_pixels_that_another_term_covers_are_no_error():
    assert not check(L1() + broken.Cropped(), shape=SHAPE).errors
