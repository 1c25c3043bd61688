"""Each bug of other libraries, as a broken loss, is named by the doctor, with its cure."""

import broken
import pytest
import torch
from torch import Tensor

from lossmith import L1, Backbone, Features, External, Lens, MissingWeightsError
from lossmith.doctor import BrokenLossError, check

SHAPE = (2, 3, 32, 32)


def found(loss, severity, **views):
    """What is found at a severity: the check's name to its words."""
    report = check(loss, views or None, shape=None if views else SHAPE)
    return {finding.check: finding.seen for finding in report.findings if finding.severity == severity}


BUGS = [
    ("alias", External(broken.Content("0")), "error", "has been overwritten by this ReLU"),
    ("gradient", broken.Patches(), "error", "no gradient comes: nothing can follow it"),
    ("derivative", broken.WithPatches(), "error", "a part of the value gives no gradient"),
    ("mutated", broken.Overwriting(), "error", "overwrites what it is given (pred, target, by up to 0."),
    ("mutated", External(lambda x, y: broken.overwriting(x, y).mean()), "note", "External gives it copies"),
    ("finite", External(broken.unit_length), "error", "gradient is NaN or infinite on views that are black"),
    ("finite", External(broken.rooted), "error", "gradient is NaN or infinite on views that are black"),
    ("random", broken.Lpips(), "error", "in training mode differ by"),
    ("mode", broken.Lpips(), "error", "losses.0.head.0 (Dropout)"),
    ("trains", broken.Lpips(), "error", "3 weights that would train (losses.0.head.1.weight)"),
    ("derivative", broken.Dists(), "error", "a part of the value gives no gradient"),
    ("trains", broken.Dists(learns=True), "error", "2 weights that would train (losses.0.alpha)"),
    ("scale", broken.SummedTV(), "note", "grows 4.3 times from 16x16 to 32x32 px"),
    ("batch", broken.BatchScaled(), "warning", "An image alone has the value"),
    ("precision", broken.HalfGram(), "error", "computes in half precision"),
    ("precision", broken.HalfCharbonnier(), "error", "computes in half precision"),
    ("finite", broken.HalfGram(), "error", "value is NaN or infinite on views that are"),
    ("finite", broken.HalfCharbonnier(), "error", "gradient is NaN or infinite on views that are"),
    ("finite", broken.NegativePower(), "error", "views that are opposite"),
    ("dead zone", broken.Clipped(), "warning", "of its numbers have no gradient"),
    ("dead zone", broken.Floored(), "error", "Where the prediction is black, 100% of its numbers"),
    ("bounds", broken.Hidden(), "warning", "its class says 0 to 1"),
    ("balance", L1() + 5000 * L1(), "warning", "is 5,000 times that of 'L1#1'"),
    ("partial", broken.Cropped(), "error", "only 25% of the pixels of (32, 32) (rows 8 to 23, columns 8 to 23)"),
    ("partial", broken.RedOnly(), "warning", "never reaches the channel(s) 1, 2 of 3"),
    ("mode", broken.Normed(), "error", "losses.0.norm (BatchNorm2d)"),
    ("state", broken.Normed(), "error", "losses.0.norm.running_mean"),
    ("random", broken.Noisy(), "warning", "draws from PyTorch's global random numbers"),
    ("drift", External(broken.Recast()), "warning", "Recast.model.0.bias"),
    ("direction", External(broken.similarity), "error", "It is 1 for equal pictures"),
    ("waits", External(broken.asking), "note", "asks the device for a number 2 times"),
]


@pytest.mark.parametrize(("name", "loss", "severity", "words"), BUGS, ids=[f"{b[0]} {b[1]!r}" for b in BUGS])
def test_the_bug_is_named(name, loss, severity, words):
    assert words in found(loss, severity)[name]


def test_every_finding_tells_a_cure():
    for _, loss, _, _ in BUGS:
        for finding in check(loss, shape=SHAPE).findings:
            if finding.severity != "note":
                assert finding.cure, finding


@pytest.mark.parametrize(
    "loss", [External(broken.Content("1")), External(broken.Content("0", clone=True)), External(broken.asking)]
)
def test_a_sound_foreign_loss_is_not_accused(loss):
    assert not check(loss, shape=SHAPE).errors


def test_foreign_cures_what_a_module_brings():
    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = broken.Lpips()

        def forward(self, x, y):
            return self.inner.measure(x, y)

    report = check(External(Head()), shape=SHAPE)
    assert not {finding.check for finding in report.errors} & {"random", "mode", "trains"}
    assert "3 numbers that would train and Dropout in training mode" in str(report)


def test_a_network_that_a_function_closes_over_is_looked_at():
    net = broken.Lpips()
    assert "Lpips" in found(External(lambda x, y: net.measure(x, y).mean()), "error")["trains"]


class Rectified(Backbone):
    """A network whose "conv" is what a ReLU made of it."""

    name, weights, layers, sha256 = "rectified", "random", ("conv1", "relu1"), "random"

    def __call__(self, image, layers):
        return {layer: (image - 0.5).relu() if "conv1" in layers else image for layer in layers}

    def find(self):
        raise MissingWeightsError("rectified has no weights; it needs none.")

    def smallest(self, layers):
        return 1

    def flops(self, height, width, layers):
        return 0.0


class Look(Features):
    def __repr__(self):
        return "Look()"


def test_a_convolution_of_a_lens_that_holds_no_negative_value_is_named():
    assert "'conv1' of rectified" in found(L1() @ Look(Rectified(), "conv1"), "error")["alias"]
    assert "alias" not in found(L1() @ Look(Rectified(), "relu1"), "error")


def test_a_lens_with_weights_that_train_is_named():
    class Learned(Lens):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)

        def forward(self, maps):
            return {name: self.conv(each) for name, each in maps.items()}

        def __repr__(self):
            return "Learned()"

    assert "112 weights that would train" in found(L1() @ Learned(), "error")["trains"]


def test_values_that_are_not_one_an_image_are_named():
    class Mean(broken.Own):
        def measure(self, pred, target) -> Tensor:
            return (pred - target).abs().mean()

    assert "for 2 images" in found(Mean(), "error")["shape"]


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        (lambda x: 255 * x, "Divide by 255."),
        (lambda x: 2 * x - 1, "It looks like [-1, 1]: take (x + 1) / 2."),
        (lambda x: x.log(), "Look at the pictures"),
    ],
)
def test_pictures_of_another_range_are_named(change, cure):
    target = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    target[0, 0, 0, 0] = 0.0
    (finding,) = check(L1(), {"pred": target, "target": change(target)}).errors
    assert finding.check == "range"
    assert cure in finding.cure


@pytest.mark.parametrize("name", ["pred", "other", "sketch"])
def test_what_a_network_made_may_be_out_of_its_range_before_the_first_step(name):
    target = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    (finding,) = check(L1().on(pred=name), {name: 3 * target - 1, "target": target}).findings
    assert (finding.severity, finding.check) == ("warning", "range")


def test_a_broken_loss_stops_a_training_with_one_line():
    with pytest.raises(
        BrokenLossError, match=r"^The loss is broken: Patches: Its value is 0\.\d+, and no gradient comes.*$"
    ):
        check(L1() + broken.Patches(), shape=SHAPE).raise_if_broken()


def test_a_callable_that_stops_is_reported_and_the_rest_is_looked_at():
    def stops(x, y):
        raise KeyError("window")

    report = check(L1() + External(stops) + broken.Cropped(), shape=SHAPE)
    assert "stops on ordinary pictures: KeyError: 'window'" in report.errors[0].seen
    assert "partial" in {finding.check for finding in report.findings}


def test_a_part_that_another_term_reaches_is_no_error():
    assert not check(L1() + broken.Cropped(), shape=SHAPE).errors
