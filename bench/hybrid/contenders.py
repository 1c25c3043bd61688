"""Who takes part in a load: lossmith's forms, and every library that has the losses and is installed."""

from hybrid import basicsr, piqs
from hybrid.contender import Contender
from hybrid.networks import offline

KORNIA = "has no such loss: nothing in kornia.losses or kornia.metrics uses a pretrained network"


def lpips_package(load, weights):
    import lpips

    one = lpips.LPIPS(net="vgg", verbose=False)
    return Contender(
        "lpips",
        lambda views: [one(views["pred"], views["target"], normalize=True).mean()],
        load.ours[load.best],
        [one],
    )


def torchmetrics(load, weights):
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    one = LearnedPerceptualImagePatchSimilarity(net_type="vgg", normalize=True)

    def terms(views):
        value = one(views["pred"], views["target"])
        one.reset()  # or it keeps the graph of every step
        return [value]

    return Contender("torchmetrics", terms, load.ours[load.best], [one])


LIBRARIES = {
    "piq": piqs.BUILDERS,
    "BasicSR": basicsr.BUILDERS,
    "lpips": {"lpips": lpips_package},
    "torchmetrics": {"lpips": torchmetrics},
}


def contenders(load, weights=None):
    """Those who take part, lossmith first; and for each library that should but cannot, why."""
    there = [Contender(name, lambda views, loss=loss: [loss(**views)], loss) for name, loss in load.ours.items()]
    absent = {}
    for library, builders in LIBRARIES.items():
        if load.key in builders:
            try:
                with offline(weights):
                    there.append(builders[load.key](load, weights))
            except ImportError as error:
                absent[library] = f"cannot be had: {error}"
    return there, {**absent, "kornia": KORNIA}
