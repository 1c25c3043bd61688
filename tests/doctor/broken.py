"""The bugs that shipped losses have, each as small as it can be."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith import Distance


def per_image(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)


class Own(Distance):
    """A loss of a user's own."""

    def __repr__(self):
        return type(self).__name__


def seeded_convs():
    """Two convolutions with in-place ReLUs behind them, as torchvision's VGG has."""
    generator = torch.Generator().manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1))
    layers.append(nn.ReLU(inplace=True))
    for parameter in layers.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return layers


class Content(nn.Module):
    """piq's ContentLoss(["conv3_3"]): what it collects before a ReLU is overwritten by this ReLU."""

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


class Patches(Own):
    """neosr's patch loss: its patches are made without a graph."""

    def measure(self, pred, target):
        with torch.no_grad():
            x, y = F.unfold(pred, 4, stride=4), F.unfold(target, 4, stride=4)
        return per_image((x - y).abs())


class WithPatches(Own):
    """The same inside a larger loss: the value moves and the gradient does not."""

    def measure(self, pred, target):
        with torch.no_grad():
            patches = per_image((F.unfold(pred, 4, stride=4) - F.unfold(target, 4, stride=4)).abs())
        return per_image((pred - target).square()) + 100 * patches


class Overwriting(Own):
    """MONAI's ResNet-50 perceptual loss: it takes the mean off the caller's own tensors."""

    def measure(self, pred, target):
        return per_image(overwriting(pred, target))


def overwriting(x, y):
    """The same as a function."""
    x -= x.mean()
    y -= y.mean()
    return (x - y).abs()


def unit_length(x, y, eps=1e-10):
    """LPIPS's normalisation, the epsilon outside the root."""

    def unit(features):
        return features / (features.square().sum(dim=1, keepdim=True).sqrt() + eps)

    return (unit(x) - unit(y)).square().mean()


class Lpips(Own):
    """The lpips package: heads that train, and Dropout that any parent puts into training mode."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(), nn.Conv2d(3, 1, 1, bias=False))
        self.head[1].weight.data.fill_(0.5)

    def measure(self, pred, target):
        return per_image(self.head((pred - target).square()))


class Dists(Own):
    """The official DISTS with require_grad=False: all stages but the pixels are without a graph."""

    def __init__(self, *, learns=False):
        super().__init__()
        self.net = seeded_convs().requires_grad_(False)
        self.alpha = nn.Parameter(torch.full((2,), 0.5), requires_grad=learns)  # and trainable in neosr's

    def measure(self, pred, target):
        with torch.no_grad():
            x, y = self.net(pred.float()), self.net(target.float())
        return self.alpha[0] * 1e-3 * per_image((pred - target).square()) + self.alpha[1] * per_image((x - y).abs())


class SummedTV(Own):
    """torchmetrics' total variation: summed over pixels."""

    def measure(self, pred):
        return (pred[..., 1:] - pred[..., :-1]).abs().flatten(1).sum(dim=1)


class BatchScaled(Own):
    """Divided by the largest error of the whole batch."""

    def measure(self, pred, target):
        error = (pred - target).abs()
        return per_image(error / error.max().detach().clamp_min(1e-6))


class HalfGram(Own):
    """A Gram matrix in float16, which overflows before it is divided."""

    def measure(self, pred, target):
        x, y = (255 * image.half().flatten(2) for image in (pred, target))
        return per_image((x @ x.mT / x.shape[2] - y @ y.mT / y.shape[2]).float().abs())


class HalfCharbonnier(Own):
    """Charbonnier with an epsilon that is 0 in float16."""

    def measure(self, pred, target):
        return per_image(((pred - target).half().square() + 1e-12).sqrt()).float()


class NegativePower(Own):
    """neosr's MS-SSIM: the power of a contrast that may be negative."""

    def measure(self, pred, target):
        x, y = (image - image.mean(dim=(2, 3), keepdim=True) for image in (pred, target))
        contrast = (2 * x * y).mean(dim=(1, 2, 3)) + 9e-4
        return 1 - (contrast / ((x.square() + y.square()).mean(dim=(1, 2, 3)) + 9e-4)).pow(0.2856)


class Clipped(Own):
    """neosr's chc: the distance is clipped where it is largest."""

    def measure(self, pred, target):
        return per_image((2 * (pred - target).abs()).clamp(0, 1))


class Floored(Own):
    """neosr's clamp(output, 1/255, 1)."""

    def measure(self, pred, target):
        return per_image((pred.clamp(1 / 255, 1) - target).abs())


class Hidden(Own):
    """kornia's MS-SSIM mix: a hidden factor of 200."""

    value_range = (0.0, 1.0)

    def measure(self, pred, target):
        return 200 * per_image((pred - target).abs())


class Cropped(Own):
    """It looks at the middle of the picture alone."""

    def measure(self, pred, target):
        side = pred.shape[-1] // 4
        return per_image((pred - target).abs()[..., side:-side, side:-side])


class RedOnly(Own):
    def measure(self, pred, target):
        return per_image((pred - target).abs()[:, :1])


class Normed(Own):
    """A BatchNorm that no one put into eval mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3).requires_grad_(False)

    def measure(self, pred, target):
        return per_image((self.norm(pred) - self.norm(target)).abs())


class Noisy(Own):
    """It draws random numbers and uses none."""

    def measure(self, pred, target):
        torch.rand(1)
        return per_image((pred - target).abs())


class Recast(nn.Module):
    """piq's model.to(x): the weights follow the picture's precision."""

    def __init__(self):
        super().__init__()
        self.model = seeded_convs()

    def forward(self, x, y):
        self.model.to(x)
        return (self.model(x) - self.model(y)).square().mean()


def rooted(x, y):
    """An RMSE without an epsilon: NaN gradient on equal pictures."""
    return (x - y).square().mean().sqrt()


def similarity(x, y):
    """One for equal pictures, less for others."""
    return 1 / (1 + (x - y).abs().mean())


def asking(x, y):
    """It asks for the largest value at each call, as a range check does."""
    assert x.max().item() <= 1e9
    assert bool((y > -1e9).all())
    return (x - y).abs().mean()
