"""Evaluation of the network of a run on the captions that the run held out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lossmith.text_to_image.evaluation import evaluate_captions
from lossmith.text_to_image.metrics.caption_judge import CaptionJudge
from lossmith.text_to_image.models.direct_decoder import DirectDecoder
from lossmith.text_to_image.models.sampler import SamplerConfig
from lossmith.text_to_image.pipeline import TextToImagePipeline
from lossmith.text_to_image.task import TextToImage
from lossmith.text_to_image.validation_split import split_as_trained
from lossmith.train.folder import RunFolder

__all__ = ["evaluate_run"]

DEFAULT_VAL_FRACTION = 0.15


def evaluate_run(
    network: Path,
    pipeline: TextToImagePipeline,
    captions: str,
    val: str | None = None,
    *,
    guidance: Sequence[float],
    config: SamplerConfig,
    count: int,
    seed: int,
    device: torch.device | str,
    judge: CaptionJudge | None = None,
) -> dict[str, Any]:
    """Evaluate a network on captions that were held out from its training, or on a separate set.

    A run folder also keeps the record, as captions.json.

    Args:
        network: The run folder or weight file of the network.
        pipeline: The network.
        captions: The source of captions, see :func:`lossmith.text_to_image.open_caption_source`.
        val: The source of validation captions; None for those of the run.
        guidance: The guidance scales; a network without guidance is evaluated once.
        config: The other sampler settings.
        count: Number of images.
        seed: Random seed of captions and noise.
        device: Device of the network.
        judge: The network that ranks captions; None for no R-precision.

    Returns:
        The record of :func:`lossmith.text_to_image.evaluation.evaluate_captions`, and what was evaluated.

    Raises:
        ValueError: The validation images include training images, or there are too few images.
    """
    options = TextToImage.current_options(pipeline.header.get("options", {}))
    fraction = options.get("val_fraction", DEFAULT_VAL_FRACTION)
    split = split_as_trained(network, captions, val, fraction=fraction, side=pipeline.side)
    remarks = split.remarks
    if isinstance(pipeline.model, DirectDecoder) and len(guidance) > 1:
        guidance = [1.0]
        remarks = [*remarks, f"{network} samples in one pass without guidance; one row holds for all scales."]
    metrics = evaluate_captions(
        pipeline,
        split.train,
        split.held_out,
        count=count,
        guidance=guidance,
        config=config,
        seed=seed,
        device=device,
        judge=judge,
    )
    record = {
        "what": str(network),
        "captions_source": captions,
        "val_source": split.val,
        "remarks": remarks,
        "steps": config.steps,
        "sampler": config.solver,
        "seed": seed,
        **metrics,
    }
    if network.is_dir():
        RunFolder(network).write("captions.json", record)
    return record
