"""Minimal losses with the bugs of published losses."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith import Distance


def mean_per_image(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)


class UserLoss(Distance):
    """A user-defined loss."""

    def __repr__(self):
        return type(self).__name__


def seeded_convs():
    """Return two convolutions, each with an in-place ReLU, as in torchvision's VGG."""
    generator = torch.Generator().manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1))
    layers.append(nn.ReLU(inplace=True))
    for parameter in layers.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return layers


class Content(nn.Module):
    """piq's ContentLoss(["conv3_3"]): collected features before a ReLU are overwritten by this ReLU."""

    def __init__(self, layer, *, clone=False):
        super().__init__()
        self.model, self.layer, self.clone = seeded_convs(), layer, clone

    def features(self, x):
        found = []
        for name, part in self.model.named_children():
            x = part(x)
            if name == self.layer:
                found.append(x.clone() if self.clone else x)
        return found[0]

    def forward(self, x, y):
        return (self.features(x) - self.features(y)).square().mean()


class DetachedPatches(UserLoss):
    """neosr's patch loss: the patches are extracted under no_grad."""

    def measure(self, pred, target):
        with torch.no_grad():
            x, y = F.unfold(pred, 4, stride=4), F.unfold(target, 4, stride=4)
        return mean_per_image((x - y).abs())


class PartlyDetached(UserLoss):
    """A patch loss without a graph beside a term with a gradient."""

    def measure(self, pred, target):
        with torch.no_grad():
            patches = mean_per_image((F.unfold(pred, 4, stride=4) - F.unfold(target, 4, stride=4)).abs())
        return mean_per_image((pred - target).square()) + 100 * patches


class InPlace(UserLoss):
    """MONAI's ResNet-50 perceptual loss: it subtracts the mean from the caller's tensors in place."""

    def measure(self, pred, target):
        return mean_per_image(inplace_difference(pred, target))


def inplace_difference(x, y):
    """Compute the absolute difference after centring both tensors in place."""
    x -= x.mean()
    y -= y.mean()
    return (x - y).abs()


def unit_length(x, y, eps=1e-10):
    """Compute a distance of unit vectors as LPIPS does, with the epsilon outside of the root."""

    def unit(features):
        return features / (features.square().sum(dim=1, keepdim=True).sqrt() + eps)

    return (unit(x) - unit(y)).square().mean()


class Lpips(UserLoss):
    """The lpips package: trainable heads, and Dropout that a parent sets to training mode."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(), nn.Conv2d(3, 1, 1, bias=False))
        self.head[1].weight.data.fill_(0.5)

    def measure(self, pred, target):
        return mean_per_image(self.head((pred - target).square()))


class Dists(UserLoss):
    """The official DISTS with require_grad=False: only the pixels have a gradient."""

    def __init__(self, *, learns=False):
        super().__init__()
        self.net = seeded_convs().requires_grad_(False)
        self.alpha = nn.Parameter(torch.full((2,), 0.5), requires_grad=learns)  # and trainable in neosr's

    def measure(self, pred, target):
        with torch.no_grad():
            x, y = self.net(pred.float()), self.net(target.float())
        return self.alpha[0] * 1e-3 * mean_per_image((pred - target).square()) + self.alpha[1] * mean_per_image(
            (x - y).abs()
        )


class SummedTV(UserLoss):
    """torchmetrics' total variation: a sum over pixels."""

    def measure(self, pred):
        return (pred[..., 1:] - pred[..., :-1]).abs().flatten(1).sum(dim=1)


class BatchScaled(UserLoss):
    """An error divided by the largest error of the batch."""

    def measure(self, pred, target):
        error = (pred - target).abs()
        return mean_per_image(error / error.max().detach().clamp_min(1e-6))


class HalfGram(UserLoss):
    """A Gram matrix in float16 that overflows before the division."""

    def measure(self, pred, target):
        x, y = (255 * image.half().flatten(2) for image in (pred, target))
        return mean_per_image((x @ x.mT / x.shape[2] - y @ y.mT / y.shape[2]).float().abs())


class HalfCharbonnier(UserLoss):
    """Charbonnier with an epsilon that is 0 in float16."""

    def measure(self, pred, target):
        return mean_per_image(((pred - target).half().square() + 1e-12).sqrt()).float()


class NegativePower(UserLoss):
    """neosr's MS-SSIM: a fractional power of a contrast that may be negative."""

    def measure(self, pred, target):
        x, y = (image - image.mean(dim=(2, 3), keepdim=True) for image in (pred, target))
        contrast = (2 * x * y).mean(dim=(1, 2, 3)) + 9e-4
        return 1 - (contrast / ((x.square() + y.square()).mean(dim=(1, 2, 3)) + 9e-4)).pow(0.2856)


class Clipped(UserLoss):
    """neosr's chc: large distances are clipped."""

    def measure(self, pred, target):
        return mean_per_image((2 * (pred - target).abs()).clamp(0, 1))


class Floored(UserLoss):
    """neosr's clamp(output, 1/255, 1)."""

    def measure(self, pred, target):
        return mean_per_image((pred.clamp(1 / 255, 1) - target).abs())


class Scaled(UserLoss):
    """kornia's MS-SSIM mix: an undocumented factor of 200."""

    value_range = (0.0, 1.0)

    def measure(self, pred, target):
        return 200 * mean_per_image((pred - target).abs())


class Cropped(UserLoss):
    """A loss on the centre of the image."""

    def measure(self, pred, target):
        side = pred.shape[-1] // 4
        return mean_per_image((pred - target).abs()[..., side:-side, side:-side])


class RedOnly(UserLoss):
    def measure(self, pred, target):
        return mean_per_image((pred - target).abs()[:, :1])


class TrainingNorm(UserLoss):
    """A BatchNorm layer that is not in eval mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3).requires_grad_(False)

    def measure(self, pred, target):
        return mean_per_image((self.norm(pred) - self.norm(target)).abs())


class Noisy(UserLoss):
    """A loss that draws random numbers without using them."""

    def measure(self, pred, target):
        torch.rand(1)
        return mean_per_image((pred - target).abs())


class Casting(nn.Module):
    """piq's model.to(x): the weights are cast to the dtype of the image."""

    def __init__(self):
        super().__init__()
        self.model = seeded_convs()

    def forward(self, x, y):
        self.model.to(x)
        return (self.model(x) - self.model(y)).square().mean()


def rmse(x, y):
    """Compute the RMSE without an epsilon, which has a NaN gradient for equal images."""
    return (x - y).square().mean().sqrt()


def similarity(x, y):
    """Compute a similarity: 1 for equal images, less for others."""
    return 1 / (1 + (x - y).abs().mean())


def synchronizing(x, y):
    """Compute L1 after a range check that reads two values from the device."""
    assert x.max().item() <= 1e9
    assert bool((y > -1e9).all())
    return (x - y).abs().mean()
