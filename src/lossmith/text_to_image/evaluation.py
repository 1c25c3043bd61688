"""Evaluation of a text-to-image network on held-out captions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossmith.metrics import compute_image_features
from lossmith.text_to_image.caption_data import Source
from lossmith.text_to_image.captions.training_set import CaptionTrainingSet
from lossmith.text_to_image.denoising_error import LOGSNR_BINS, measure_denoising_errors
from lossmith.text_to_image.encoders import CaptionEmbeddings
from lossmith.text_to_image.metrics.caption_judge import CaptionJudge
from lossmith.text_to_image.metrics.diversity import diversity, memorisation
from lossmith.text_to_image.metrics.kernel_distance import kid
from lossmith.text_to_image.metrics.oracle_accuracy import oracle_accuracy, oracle_ceiling, oracle_chance
from lossmith.text_to_image.metrics.r_precision import r_precision, sample_mismatched_captions
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.models.sampler import SamplerConfig, make_noise
from lossmith.text_to_image.pipeline import TextToImagePipeline
from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.text_to_image.shapes.scenes import Scene

__all__ = ["evaluate_captions"]

DIVERSITY_PROMPTS, DIVERSITY_SEEDS = 8, 8
"""Number of prompts, and of images of each, for the diversity."""
MIN_IMAGES = 4
"""Smallest number of distinct images for a kernel distance."""
MAX_TRAINING_IMAGES = 8192
"""Largest number of captions whose training images are compared with the samples."""


def evaluate_captions(
    pipeline: TextToImagePipeline,
    train: Source,
    held_out: Source,
    *,
    count: int = 96,
    guidance: Sequence[float] = (2.0,),
    config: SamplerConfig | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    judge: CaptionJudge | None = None,
) -> dict[str, Any]:
    """Evaluate samples of held-out captions, for several guidance scales.

    Captions and initial noise are the same for all scales. The record holds bounds beside the metrics: "ceiling" is the
    accuracy of real images, "chance" that of random images, and "floor" the kernel distance between two sets of real
    images.

    Args:
        pipeline: The network.
        train: The training source.
        held_out: The source of held-out captions.
        count: Number of images, one for each of `count` captions drawn with replacement.
        guidance: The guidance scales.
        config: The other sampler settings; None for the defaults.
        seed: Random seed of captions and noise.
        device: Device of the network.
        judge: The network that ranks captions, for the R-precision; it must share no weights with the evaluated network
            or its loss.

    Returns:
        A record of plain values; "guidance" holds one record for each scale.

    Raises:
        ValueError: There are fewer than 4 distinct training images or held-out images.
    """
    embeddings = CaptionEmbeddings(pipeline.encoder, held_out.captions)
    embeddings.standardizer = pipeline.standardizer
    samples = CaptionTrainingSet(held_out, embeddings, seed=seed)
    rows = [samples[k] for k in range(count)]
    indices = [int(row["index"]) for row in rows]
    prompts, real = [held_out.captions[i] for i in indices], torch.stack([row["target"] for row in rows])
    alignment = _build_alignment(held_out, indices, judge, seed)
    bounds = alignment.measure_bounds(real)
    references, floor = _measure_references(load_training_images(train, 2 * count, seed + 1), real, count)
    configs = [replace(config or SamplerConfig(), guidance_scale=scale) for scale in guidance]
    record: dict[str, Any] = {
        "captions": len(held_out.captions),
        "n": count,
        **bounds,
        "features": references.digest,
        "floor": floor,
        "guidance": [
            _evaluate_samples(pipeline, prompts, each, alignment, references, seed=seed, device=device)
            for each in configs
        ],
    }
    if isinstance(pipeline.model, Denoiser):
        noise = make_noise(range(count), pipeline.model.side).to(device)
        text = pipeline.encode_prompts(prompts).to(device)
        errors = measure_denoising_errors(pipeline.model, real.to(device), text, noise)
        record["denoising"] = {"logsnr": LOGSNR_BINS, "error": errors}
    return record


class _Alignment(NamedTuple):
    """The measures of how well images match their captions.

    Args:
        source: The source of the captions.
        oracle: The classifier of shapes; None for other sources.
        scenes: The scene of each image, for the oracle.
        judge: The network that ranks captions; None for none.
        candidates: For each image the indices of the ranked captions, its own first.
    """

    source: Source
    oracle: ShapesOracle | None
    scenes: list[Scene]
    judge: CaptionJudge | None
    candidates: list[list[int]]

    def measure_bounds(self, real: Tensor) -> dict[str, Any]:
        """Return the metrics of real images as "ceiling", and those of random images as "chance"."""
        ceiling: dict[str, float] = {}
        chance: dict[str, float] = {}
        bounds: dict[str, Any] = {}
        if self.oracle is not None and isinstance(self.source, ShapesDataset):
            ceiling |= oracle_ceiling(self.oracle, self.source)
            chance |= oracle_chance(self.oracle, self.scenes)
        if self.judge is not None:
            bounds["judge"] = self.judge.digest
            ceiling |= self._measure_r_precision(real)
            chance["r_precision"] = 1 / len(self.candidates[0])
        return {"ceiling": ceiling, "chance": chance, **bounds} if ceiling else bounds

    def measure(self, images: Tensor) -> dict[str, float]:
        """Return the metrics of images."""
        metrics = {} if self.oracle is None else oracle_accuracy(self.oracle, images, self.scenes)
        return metrics if self.judge is None else metrics | self._measure_r_precision(images)

    def _measure_r_precision(self, images: Tensor) -> dict[str, float]:
        assert self.judge is not None
        vectors = self.judge.embed(images, self.source.captions)
        return {"r_precision": round(r_precision(*vectors, self.candidates).value, 4)}


def _build_alignment(held_out: Source, indices: Sequence[int], judge: CaptionJudge | None, seed: int) -> _Alignment:
    oracle, scenes = None, []
    if isinstance(held_out, ShapesDataset):
        oracle = ShapesOracle(held_out.side, level=held_out.level)
        scenes = [held_out.scene(i) for i in indices]
    candidates = [] if judge is None else sample_mismatched_captions(held_out.groups, indices, seed=seed)
    return _Alignment(held_out, oracle, scenes, judge, candidates)


class _References(NamedTuple):
    """The features of real images.

    Args:
        train: Features of training images, (M, D).
        held_out: Features of distinct held-out images, (K, D), at most M.
        digest: The hash of the feature network.
    """

    train: Tensor
    held_out: Tensor
    digest: str


def _measure_references(train: Tensor, real: Tensor, count: int) -> tuple[_References, dict[str, float]]:
    """Return the features of training images and of held-out images, and the kernel distance between the two."""
    distinct = torch.unique(real, dim=0)
    for images, kind in ((train, "training"), (distinct, "held-out")):
        if len(images) < MIN_IMAGES:
            raise ValueError(
                f"An evaluation needs at least {MIN_IMAGES} distinct training images and {MIN_IMAGES} distinct "
                f"held-out images; got {len(images)} {kind} images. Give more images, or others with --val DIR."
            )
    train_features, digest = compute_image_features(train)
    held_out_features, _ = compute_image_features(distinct[: len(train_features)])
    floor = kid(held_out_features, train_features, subset_size=count)._asdict()
    return _References(train_features, held_out_features, digest), floor


def _evaluate_samples(
    pipeline: TextToImagePipeline,
    prompts: Sequence[str],
    config: SamplerConfig,
    alignment: _Alignment,
    references: _References,
    *,
    seed: int,
    device: str | torch.device,
) -> dict[str, Any]:
    """Generate an image for each prompt and return the metrics."""
    count = len(prompts)
    images = pipeline.generate(prompts, range(seed, seed + count), config, device=device)
    features, _ = compute_image_features(images)
    repeated = [prompt for prompt in prompts[:DIVERSITY_PROMPTS] for _ in range(DIVERSITY_SEEDS)]
    variants = pipeline.generate(repeated, range(len(repeated)), config, device=device)
    variant_features, _ = compute_image_features(variants)
    by_prompt = variant_features.view(len(repeated) // DIVERSITY_SEEDS, DIVERSITY_SEEDS, -1)
    return {
        "guidance": config.guidance_scale,
        **alignment.measure(images),
        "kid": kid(features, references.train, subset_size=count)._asdict(),
        "diversity": diversity(by_prompt),
        "memorisation": memorisation(features, references.train, references.held_out),
    }


def load_training_images(train: Source, min_count: int, seed: int) -> Tensor:
    """Return distinct training images, (M, 3, S, S): at least `min_count` renderings of shapes, or all image files.

    Duplicates are removed because a copy of a training image would be its own nearest neighbour.
    """
    known = len(train.captions)
    count = max(min_count, 0 if isinstance(train, ShapesDataset) else min(known, MAX_TRAINING_IMAGES))
    images: Tensor = torch.unique(train.images_of([i % known for i in range(count)], seed=seed), dim=0)
    return images
