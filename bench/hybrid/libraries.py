"""The contenders of a workload: lossmith's formulas, and every installed library that has the losses."""

from hybrid import basicsr, piq_losses
from hybrid.contender import Contender
from hybrid.networks import without_downloads

KORNIA = "has no such loss: nothing in kornia.losses or kornia.metrics uses a pretrained network"


def build_lpips(workload, weights):
    import lpips

    metric = lpips.LPIPS(net="vgg", verbose=False)
    return Contender(
        "lpips",
        lambda inputs: [metric(inputs["pred"], inputs["target"], normalize=True).mean()],
        workload.formulas[workload.recommended],
        [metric],
    )


def build_torchmetrics(workload, weights):
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    metric = LearnedPerceptualImagePatchSimilarity(net_type="vgg", normalize=True)

    def compute_terms(inputs):
        value = metric(inputs["pred"], inputs["target"])
        metric.reset()  # the metric would keep the graph of every step
        return [value]

    return Contender("torchmetrics", compute_terms, workload.formulas[workload.recommended], [metric])


def build_sensecraft(workload, weights):
    from sensecraft.loss import LPIPS

    metric = LPIPS(net="vgg").requires_grad_(False)
    return Contender(
        "sensecraft",
        lambda inputs: [metric(inputs["pred"], inputs["target"], normalize=True)],
        workload.formulas[workload.recommended],
        [metric],
    )


LIBRARIES = {
    "piq": piq_losses.BUILDERS,
    "BasicSR": basicsr.BUILDERS,
    "lpips": {"lpips": build_lpips},
    "torchmetrics": {"lpips": build_torchmetrics},
    "sensecraft": {"lpips": build_sensecraft},  # its other networks are ConvNeXt and DINOv3
}


def build_library(library, workload, weights=None):
    """Return the contender of a library; raise ImportError if it is not installed."""
    with without_downloads(weights):
        return LIBRARIES[library][workload.key](workload, weights)


def build_own(name, workload):
    """Return the contender of one of the workload's formulas."""
    loss = workload.formulas[name]
    return Contender(name, lambda inputs: [loss(**inputs)], loss)


def build_contenders(workload, weights=None):
    """Return the contenders, lossmith first, and for each library that is missing the reason."""
    contenders = [build_own(name, workload) for name in workload.formulas]
    absent = {}
    for library, builders in LIBRARIES.items():
        if workload.key in builders:
            try:
                contenders.append(build_library(library, workload, weights))
            except ImportError as error:
                absent[library] = f"cannot be imported: {error}"
    return contenders, {**absent, "kornia": KORNIA}
