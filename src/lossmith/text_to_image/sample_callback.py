"""Validation of a network that makes pictures of texts: what it samples, and how well it takes noise off."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lossmith._files import write_atomically
from lossmith.image import to_pil
from lossmith.noise_levels import NoiseSchedule, x0_from_output
from lossmith.text_to_image.caption_data import HeldOutCaptions
from lossmith.text_to_image.metrics.oracle_accuracy import oracle_accuracy
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.models.direct_decoder import DirectDecoder
from lossmith.text_to_image.models.sampler import make_noise
from lossmith.text_to_image.noise_augmentation import make_low_res_condition
from lossmith.text_to_image.pipeline import generate_images
from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.train.folder import RunFolder
from lossmith.train.log import StepCallback
from lossmith.train.module import TrainingModule

__all__ = ["SampleCallback", "denoising_errors", "make_grid"]

LOGSNR_BINS = ((-10.0, -6.0), (-6.0, -4.0), (-4.0, -2.0), (-2.0, 0.0), (0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 10.0))
"""The levels between which errors are told apart, in log-SNR; each is looked at in its middle."""
SHEET_SIZE = 16
"""Pictures on a sheet."""


class SampleCallback(StepCallback):
    """Samples pictures of held-out captions with the averaged weights, every few steps and at the end.

    The same captions and the same noise each time, on one device, in full precision: sheets of two steps differ by
    what was learnt between them.

    Args:
        folder: The run's folder.
        examples: The held-out captions.
        every: Steps between validations.
    """

    def __init__(self, folder: RunFolder, examples: HeldOutCaptions, *, every: int) -> None:
        self.folder, self.every = folder, every
        self.captions, self.batch = examples.batch()
        source = examples.items.source
        self.oracle = self.scenes = None
        if isinstance(source, ShapesDataset):
            self.oracle = ShapesOracle(source.side, level=source.level)
            self.scenes = [source.scene(int(i)) for i in self.batch["index"]]
        self.missing: dict[str, str] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the truth once."""
        if trainer.is_global_zero and not (self.folder.path / "sheets" / "samples" / "truth.png").is_file():
            self.folder.write("samples.json", {"captions": self.captions[:SHEET_SIZE]})
            self.draw("truth", self.batch["target"])

    def after_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        """Judges when it is time."""
        if not trainer.is_global_zero or not (step % self.every == 0 or step >= trainer.max_steps):
            return
        model = module.average.eval()
        assert isinstance(model, Denoiser | DirectDecoder)
        figures = self.figures(model, module.device, f"step_{step:08d}")
        self.folder.append("validation.jsonl", {"step": step, **figures})
        plain = {name: value for name, value in figures.items() if isinstance(value, float)}
        for logger in trainer.loggers:
            logger.log_metrics({f"validation/{name}": value for name, value in plain.items()}, step=step)

    def figures(self, model: Denoiser | DirectDecoder, device: torch.device, role: str) -> dict[str, Any]:
        """What the network is worth, and a sheet of what it makes under a role."""
        batch = {name: view.to(device) for name, view in self.batch.items()}
        text = TextEmbedding.of(batch)
        noise = make_noise(range(len(text.pooled)), model.side).to(device)
        beside = low_res_from_target(batch["target"], noise, model.scale)
        sheets = []
        for k in range(0, len(noise), SHEET_SIZE):
            some = {name: view[k : k + SHEET_SIZE] for name, view in beside.items()}
            part = text.part(k, k + SHEET_SIZE)
            sheets.append(generate_images(model, part, range(k, k + len(part.pooled)), None, **some))
        made = torch.cat(sheets)
        self.draw(role, made)
        found: dict[str, Any] = {"n": len(made)}
        if isinstance(model, Denoiser):
            errors = denoising_errors(model, batch["target"], text, noise, **beside)
            found |= {"denoising": sum(errors) / len(errors), "by_level": errors}
        if self.oracle is not None and self.scenes is not None:
            found |= oracle_accuracy(self.oracle, made, self.scenes)
        return found

    def draw(self, role: str, pictures: Tensor) -> None:
        """Writes a sheet of some pictures."""
        file = self.folder.path / "sheets" / "samples" / f"{role}.png"
        picture = make_grid(pictures[:SHEET_SIZE].cpu(), 4)
        write_atomically(file, lambda partial: to_pil(picture).save(partial, format="PNG"))


def low_res_from_target(target: Tensor, noise: Tensor, scale: int, level: float = 0.2) -> dict[str, Tensor]:
    """What a later stage of a cascade sees of true pictures, with the noise it is used with; nothing at scale 1."""
    if scale == 1:
        return {}
    return make_low_res_condition(F.avg_pool2d(2 * target - 1, scale), noise, scale, level)


@torch.no_grad()
def denoising_errors(model: Denoiser, target: Tensor, text: TextEmbedding, noise: Tensor, **beside: Tensor) -> list[float]:
    """The mean squared error of the picture that the network sees, in [-1, 1], at each of :data:`BINS`."""
    clean, errors = 2 * target - 1, []
    for low, high in LOGSNR_BINS:
        t = time_at_logsnr(model.levels, (low + high) / 2).to(clean).expand(len(clean))
        alpha, sigma = model.levels.alpha(t).view(-1, 1, 1, 1), model.levels.sigma(t).view(-1, 1, 1, 1)
        noisy = alpha * clean + sigma * noise
        output = model(noisy, t, text, **beside).output
        x0 = x0_from_output(model.prediction, output, noisy, alpha, sigma, sigma_data=model.sigma_data)
        errors.append(float((x0 - clean).square().mean()))
    return errors


def time_at_logsnr(levels: NoiseSchedule, logsnr: float) -> Tensor:
    """The time of a noise level, by halving."""
    low, high = (0.0, 1.0) if levels.schedule != "edm" else (1e-4, 1e4)
    for _ in range(60):
        middle = (low * high) ** 0.5 if levels.schedule == "edm" else (low + high) / 2
        above = float(levels.logsnr(torch.tensor(middle, dtype=torch.float64))) > logsnr
        low, high = (middle, high) if above else (low, middle)
    return torch.tensor(middle)


def make_grid(pictures: Tensor, columns: int, gap: int = 2) -> Tensor:
    """Pictures (N, 3, S, S) side by side on white, (3, H, W)."""
    n, _, height, width = pictures.shape
    rows = -(-n // columns)
    sheet = torch.ones(3, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for k, picture in enumerate(pictures):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = picture
    return sheet
