"""What a network that makes pictures of texts is worth on captions that it was not trained on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lossmith.metrics import compute_image_features
from lossmith.text_to_image.caption_data import Source
from lossmith.text_to_image.captions.training_set import CaptionTrainingSet
from lossmith.text_to_image.pipeline import TextToImagePipeline
from lossmith.text_to_image.metrics.caption_judge import CaptionJudge
from lossmith.text_to_image.metrics.diversity import diversity, memorisation
from lossmith.text_to_image.metrics.kernel_distance import kid
from lossmith.text_to_image.metrics.oracle_accuracy import oracle_accuracy, oracle_ceiling, oracle_chance
from lossmith.text_to_image.metrics.r_precision import sample_mismatched_captions, r_precision
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.models.sampler import SamplerConfig, make_noise
from lossmith.text_to_image.sample_callback import LOGSNR_BINS, denoising_errors
from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle

__all__ = ["evaluate_captions"]

R_PRECISION = "r_precision"
DIVERSITY_COUNT = 8
"""Prompts, and seeds of each, by which diversity is measured."""
MIN_IMAGES = 4
"""Different pictures that a distance between two sets can be measured on."""
MAX_TRAINING_IMAGES = 8192
"""Captions whose pictures a sample is compared with, at most."""


def evaluate_captions(
    prompted: TextToImagePipeline,
    train: Source,
    held: Source,
    *,
    count: int = 96,
    guidance: Sequence[float] = (2.0,),
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    device: str = "cpu",
    judge: CaptionJudge | None = None,
) -> dict[str, Any]:
    """Figures of what a network makes of held-out captions, one row for each weight of guidance.

    The captions, and the noise that each picture begins as, are the same in all rows. Beside each figure stands what it
    could be at best and by chance: the oracle's accuracy on real pictures, and the distance between two sets of real
    pictures, which no set of samples can be asked to go below.

    Args:
        prompted: The network.
        train: What it was trained on.
        held: What it was not.
        count: Pictures, one a caption, drawn with replacement.
        guidance: The weights.
        sampler: How, but for guidance.
        seed: Which captions, and which noise.
        device: Where.
        judge: Who ranks the captions of each picture; it must share nothing with the network or with its loss.

    Raises:
        ValueError: There are less than four different pictures to compare with, or to judge by.
    """
    items = CaptionTrainingSet(held, _embed_captions(prompted, held), seed=seed)
    rows = [items[k] for k in range(count)]
    wanted = [int(row["index"]) for row in rows]
    prompts, real = [held.captions[i] for i in wanted], torch.stack([row["target"] for row in rows])
    record: dict[str, Any] = {"captions": len(held.captions), "n": count}
    oracle = None
    if isinstance(held, ShapesDataset):
        oracle = ShapesOracle(held.side, level=held.level)
        scenes = [held.scene(i) for i in wanted]
        record |= {"ceiling": oracle_ceiling(oracle, held), "chance": oracle_chance(oracle, scenes)}
    if judge is not None:
        offered = sample_mismatched_captions(held.meanings, wanted, seed=seed)
        record["judge"] = judge.digest
        record["ceiling"] = record.get("ceiling", {}) | score_r_precision(judge, real, held, offered)
        record["chance"] = record.get("chance", {}) | {R_PRECISION: 1 / len(offered[0])}
    others = load_training_images(train, 2 * count, seed + 1)
    different = torch.unique(real, dim=0)
    for found, what in ((others, "trained on"), (different, "held out")):
        if len(found) < MIN_IMAGES:
            raise ValueError(
                f"evaluate wants at least {LEAST} different pictures that were trained on, and {LEAST} that were not; "
                f"{len(found)} were {what}. Give more pictures, or others to judge by with --val DIR."
            )
    known, digest = compute_image_features(others)
    mine, _ = compute_image_features(different[: len(known)])
    record["features"] = digest
    record["floor"] = kid(mine, known, size=count)._asdict()
    curves = []
    for weight in guidance:
        how = replace(sampler or SamplerConfig(), guidance=weight)
        made = prompted.make(prompts, range(seed, seed + count), how, device=device)
        seen, _ = compute_image_features(made)
        row: dict[str, Any] = {"guidance": weight}
        if oracle is not None:
            row |= oracle_accuracy(oracle, made, scenes)
        if judge is not None:
            row |= score_r_precision(judge, made, held, offered)
        few = prompts[:DIVERSITY_COUNT]
        many = prompted.make([p for p in few for _ in range(DIVERSITY_COUNT)], range(DIVERSITY_COUNT * len(few)), how, device=device)
        apart, _ = compute_image_features(many)
        row |= {"kid": kid(seen, known, size=count)._asdict()}
        row |= {"diversity": diversity(apart.view(len(few), DIVERSITY_COUNT, -1)), "memorisation": memorisation(seen, known, mine)}
        curves.append(row)
    record["guidance"] = curves
    if isinstance(prompted.model, Denoiser):
        noise = make_noise(range(count), prompted.model.side).to(device)
        text = prompted.read(prompts).to(device)
        record["denoising"] = {"logsnr": LOGSNR_BINS, "error": denoising_errors(prompted.model, real.to(device), text, noise)}
    return record


def load_training_images(train: Source, least: int, seed: int) -> Tensor:
    """Pictures that were trained on, each once, (M, 3, S, S): all of them, of shapes as many as are wanted at least.

    Two captions of one picture would make it its own neighbour, and no sample could be as near to it as that.
    """
    known = len(train.captions)
    wanted = max(least, 0 if isinstance(train, ShapesDataset) else min(known, MAX_TRAINING_IMAGES))
    found: Tensor = torch.unique(train.pictures([i % known for i in range(wanted)], seed=seed), dim=0)
    return found


def score_r_precision(judge: CaptionJudge, pictures: Tensor, source: Source, offered: Sequence[Sequence[int]]) -> dict[str, float]:
    """How often the judge finds a picture's own caption among those that are offered."""
    return {R_PRECISION: round(r_precision(*judge.judged(pictures, source.captions), offered).value, 4)}


def _embed_captions(prompted: TextToImagePipeline, source: Source) -> Any:
    """The captions as the network's encoder reads them."""
    from lossmith.text_to_image.encoders import CaptionEmbeddings

    found = CaptionEmbeddings(prompted.encoder, source.captions)
    found.standard = prompted.standard
    return found
