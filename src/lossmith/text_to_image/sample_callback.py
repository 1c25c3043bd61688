"""Validation of text-to-image training: samples of held-out captions, their accuracy and the denoising error."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lossmith._files import write_atomically
from lossmith.image import to_pil
from lossmith.text_to_image.caption_data import HeldOutCaptions
from lossmith.text_to_image.denoising_error import measure_denoising_errors
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.metrics.oracle_accuracy import oracle_accuracy
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.models.direct_decoder import DirectDecoder
from lossmith.text_to_image.models.sampler import make_noise
from lossmith.text_to_image.noise_augmentation import DEFAULT_NOISE_LEVEL, low_res_condition
from lossmith.text_to_image.pipeline import generate_images, make_image_grid
from lossmith.text_to_image.report.sample_captions import CAPTIONS_FILE, SHEET_COLUMNS, SHEET_NAME
from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.train.folder import RunFolder
from lossmith.train.log import StepCallback
from lossmith.train.module import TrainingModule

__all__ = ["SampleCallback"]

SHEET_SIZE = 16
"""Images on a sheet."""


class SampleCallback(StepCallback):
    """A callback that samples images of held-out captions with the averaged weights.

    Captions and noise are the same at every validation, on one device in full precision, so that the sheets of two
    steps differ only by the weights.

    Args:
        folder: The run's folder.
        examples: The held-out captions.
        every: Steps between validations; the last step is always validated.
    """

    def __init__(self, folder: RunFolder, examples: HeldOutCaptions, *, every: int) -> None:
        self.folder, self.every = folder, every
        self.captions, self.batch = examples.collate()
        source = examples.samples.source
        self.oracle = self.scenes = None
        if isinstance(source, ShapesDataset):
            self.oracle = ShapesOracle(source.side, level=source.level)
            self.scenes = [source.scene(int(i)) for i in self.batch["index"]]
        self.missing: dict[str, str] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the captions and the sheet of their real images once."""
        if trainer.is_global_zero and not (self.folder.path / "sheets" / SHEET_NAME / "truth.png").is_file():
            self.folder.write(CAPTIONS_FILE, {"captions": self.captions[:SHEET_SIZE]})
            self._write_sheet("truth", self.batch["target"])

    def after_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        """Validate every :attr:`every` steps and after the last step."""
        if not trainer.is_global_zero or not (step % self.every == 0 or step >= trainer.max_steps):
            return
        model = module.average.eval()
        assert isinstance(model, Denoiser | DirectDecoder)
        metrics = self._validate(model, module.device, f"step_{step:08d}")
        self.folder.append("validation.jsonl", {"step": step, **metrics})
        scalars = {f"validation/{name}": value for name, value in metrics.items() if isinstance(value, float)}
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=step)

    def _validate(self, model: Denoiser | DirectDecoder, device: torch.device, sheet: str) -> dict[str, Any]:
        """Sample all held-out captions, write a sheet of the samples and return the metrics."""
        batch = {name: value.to(device) for name, value in self.batch.items()}
        text = TextEmbedding.from_batch(batch)
        noise = make_noise(range(len(text.pooled)), model.side).to(device)
        low_res_inputs = _low_res_inputs(batch["target"], noise, model.scale)
        parts = []
        for k in range(0, len(noise), SHEET_SIZE):
            inputs = {name: value[k : k + SHEET_SIZE] for name, value in low_res_inputs.items()}
            part = text.slice(k, k + SHEET_SIZE)
            parts.append(generate_images(model, part, range(k, k + len(part.pooled)), None, **inputs))
        images = torch.cat(parts)
        self._write_sheet(sheet, images)
        metrics: dict[str, Any] = {"n": len(images)}
        if isinstance(model, Denoiser):
            errors = measure_denoising_errors(model, batch["target"], text, noise, **low_res_inputs)
            metrics |= {"denoising": sum(errors) / len(errors), "denoising_by_logsnr": errors}
        if self.oracle is not None and self.scenes is not None:
            metrics |= oracle_accuracy(self.oracle, images, self.scenes)
        return metrics

    def _write_sheet(self, name: str, images: Tensor) -> None:
        file = self.folder.path / "sheets" / SHEET_NAME / f"{name}.png"
        grid = make_image_grid(images[:SHEET_SIZE].cpu(), SHEET_COLUMNS)
        write_atomically(file, lambda partial: to_pil(grid).save(partial, format="PNG"))


def _low_res_inputs(target: Tensor, noise: Tensor, scale: int) -> dict[str, Tensor]:
    """Return the condition of a super-resolution stage from real images; nothing at scale 1."""
    if scale == 1:
        return {}
    return low_res_condition(F.avg_pool2d(2 * target - 1, scale), noise, scale, DEFAULT_NOISE_LEVEL)
