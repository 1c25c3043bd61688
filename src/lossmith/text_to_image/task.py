"""The task of text-to-image diffusion."""

import copy
import math
from collections.abc import Callable, Collection
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_choice, check_number
from lossmith.formula.snr_gate import HOST_LOGSNR
from lossmith.noise_levels import output_from_x0, x0_from_output
from lossmith.tasks.options import TaskOptions
from lossmith.tasks.task_data import Batch
from lossmith.text_to_image.caption_task import CaptionTask
from lossmith.text_to_image.command_options import TextToImageOptions
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.attention_capture import ATTENTION_MAPS
from lossmith.text_to_image.models.denoiser import Denoiser, DenoiserOutput
from lossmith.text_to_image.noise_augmentation import augment_low_res

__all__ = ["TextToImage"]

MIN_FLOW_TIME = 0.05
"""The flow time below which the weight 1 / t² of an x0 error is constant, as it is unbounded (JiT, PixelGen)."""
MAX_LOGSNR = 2 * math.log((1 - MIN_FLOW_TIME) / MIN_FLOW_TIME)
"""The log-SNR at that time."""


@final
class TextToImage(CaptionTask):
    """Text-to-image diffusion: denoise an image given its caption.

    :func:`lossmith.text_to_image.models.sample_images` generates images with the trained network. The inputs of a step:

    ============================  =====================================================================================
    "prediction", "clean",        the network's output, images in [-1, 1], their noise, and the log-SNR (N,), for
    "noise", "logsnr"             :class:`lossmith.losses.DenoisingMSE`
    "pred", "target"              the predicted clean image and the true image in [0, 1], for all losses
    "velocity"                    the prediction as a flow velocity, for :class:`lossmith.losses.ContrastiveFlow`
    "group", "conditioned"        the groups of the captions (N,), and whether the caption was not dropped (N,)
    "text"                        pooled text vectors (N, D)
    "hidden"                      features of the middle block (N, C, h, w)
    "attention", "region"         for each object the attention to the words that describe the object, (N, K, h, w), and
                                  the object's mask, (N, K, S, S), zero if there are no such words
    "maps", "other_maps"          cross-attention (N, heads, positions, tokens) of the decoder, and of the encoder
    "prior"                       the image that the prior decodes from the text, approximately in [0, 1]
    ============================  =====================================================================================

    With `scale` above 1 the network is a super-resolution stage of a cascade. Its condition is the target averaged over
    blocks of pixels with noise of a random level, so that it corrects the errors of the preceding stage.

    Args:
        scale: Upscaling factor of the stage: 2, 4 or 8; 1 for the base stage.
        caption_dropout: Probability with which a caption is dropped in training, for classifier-free guidance; at least
            0 and less than 1.
        text_noise: Standard deviation of the noise that is added to standardized text embeddings in training;
            conditioning augmentation (StackGAN, Zhang et al., 2017, https://arxiv.org/abs/1612.03242) with a fixed
            instead of a learnt deviation.
        data: Arguments of :class:`lossmith.text_to_image.caption_data.CaptionData`.

    Raises:
        ValueError: An argument is out of range.
    """

    name: ClassVar[str] = "text-to-image"
    options: ClassVar[type[TaskOptions]] = TextToImageOptions
    provided_inputs: ClassVar[tuple[str, ...]] = (
        *("prediction", "clean", "noise", "logsnr", "pred", "target", "velocity", "group", "conditioned", "text"),
        *("hidden", "attention", "region", *ATTENTION_MAPS, "prior"),
    )
    default_model: ClassVar[str] = "denoiser"

    def __init__(self, scale: int = 1, *, caption_dropout: float = 0.1, text_noise: float = 0.0, **data: Any) -> None:
        check_choice(f"{self.name} scale", scale, (1, 2, 4, 8))
        self.caption_dropout = check_number(f"{self.name} caption_dropout", caption_dropout, low=0, high=1)
        if self.caption_dropout == 1:
            raise ValueError(f"{self.name} caption_dropout must be less than 1; got {caption_dropout!r}.")
        self.text_noise = check_number(f"{self.name} text_noise", text_noise, low=0)
        super().__init__(scale, **data)
        self.needed_inputs: frozenset[str] = frozenset(self.provided_inputs)

    def with_inputs(self, names: Collection[str]) -> "TextToImage":
        """Return the task with features captured only for these inputs."""
        other = copy.copy(self)
        other.needed_inputs = frozenset(names)
        return other

    def check_model(self, model: nn.Module) -> None:
        """Raise ValueError if the network is not a denoiser."""
        if not isinstance(model, Denoiser):
            raise ValueError(f"{self.name} trains a denoiser; got {type(model).__name__}. Leave --model out.")

    def compute_inputs(self, model: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        """Return the inputs of a step, see the table of the class, from one noisy version of each image."""
        assert isinstance(model, Denoiser)
        target, schedule = batch["target"], model.noise_schedule
        clean = 2 * target - 1
        # drawn on the host, so that networks skip images with closed gates without a wait for the device
        host_t = None if "time" in batch else schedule.sample_times(torch.empty(len(clean)))
        t = batch["time"] if host_t is None else host_t.to(clean.device, non_blocking=True)
        noise = batch["noise"] if "noise" in batch else torch.randn_like(clean)
        dropped = torch.rand(len(clean), device=clean.device) < self.caption_dropout
        low_res = self.draw_low_res(clean, model.scale) if model.scale > 1 else {}
        alpha, sigma = (values.view(-1, 1, 1, 1) for values in (schedule.alpha(t), schedule.sigma(t)))
        noisy = alpha * clean + sigma * noise
        text = TextEmbedding.from_batch(batch)
        if self.text_noise and model.training:
            text = text.add_noise(self.text_noise)
        capture = self.needed_inputs & {"hidden", *ATTENTION_MAPS}
        capture |= {"maps"} if "attention" in self.needed_inputs else set()
        output: DenoiserOutput = model(noisy, t, text.drop(dropped), capture=capture, **low_res)
        prediction, sigma_data = output.prediction.float(), model.sigma_data
        x0 = x0_from_output(model.prediction, prediction, noisy, alpha, sigma, sigma_data=sigma_data)
        pred = (x0 + 1) / 2  # the other inputs are computed from it, so that the gradients of all terms meet there
        x0 = 2 * pred - 1
        logsnr, flow_time = schedule.logsnr(t), schedule.flow_time(t).clamp_min(MIN_FLOW_TIME).view(-1, 1, 1, 1)
        return {
            "pred": pred,
            "target": target,
            "prediction": output_from_x0(model.prediction, x0, noisy, alpha, sigma, sigma_data=sigma_data),
            "clean": clean,
            "noise": noise,
            "logsnr": logsnr.clamp_max(MAX_LOGSNR) if model.prediction == "x0" else logsnr,
            "velocity": noise - clean + (clean - x0) / flow_time,
            "group": batch["group"],
            "conditioned": ~dropped,
            "text": batch["pooled"],
            **({} if host_t is None else {HOST_LOGSNR: schedule.logsnr(host_t)}),
            **self._captured_inputs(output, batch, ~dropped),
        }

    def _captured_inputs(self, output: DenoiserOutput, batch: Batch, conditioned: Tensor) -> dict[str, Tensor]:
        """Return the inputs that come from captured features and from the prior."""
        inputs = dict(output.maps)
        if output.hidden is not None:
            inputs["hidden"] = output.hidden.float()
        if output.prior is not None:
            inputs["prior"] = (output.prior.float() + 1) / 2
        if "attention" in self.needed_inputs:
            inputs |= attention_inputs(output.maps["maps"], batch["words"], batch["masks"], conditioned)
        return inputs

    def draw_low_res(self, clean: Tensor, scale: int) -> dict[str, Tensor]:
        """Return the low-resolution condition of images (N, 3, S, S) in [-1, 1], with noise of random levels."""
        noise_level = torch.rand(len(clean), device=clean.device)
        low_res = F.avg_pool2d(clean, scale)
        augmented = augment_low_res(low_res, noise_level, scale, torch.randn_like(low_res))
        return {"low_res": augmented, "noise_level": noise_level}


def attention_inputs(maps: Tensor, words: Tensor, masks: Tensor, conditioned: Tensor) -> dict[str, Tensor]:
    """Return the inputs "attention" and "region": the attention to each object's words, and the object's mask.

    Args:
        maps: Cross-attention, (N, heads, positions, L).
        words: True for the tokens that describe each object, (N, K, L).
        masks: The objects' masks, (N, K, S, S).
        conditioned: Whether the caption was not dropped, (N,).
    """
    attention = torch.einsum("nql,nkl->nkq", maps.mean(dim=1), words.to(maps))
    side = round(attention.shape[-1] ** 0.5)
    is_described = words.any(dim=-1) & conditioned[:, None]
    region = masks * is_described[..., None, None]
    return {"attention": attention.view(*attention.shape[:2], side, side), "region": region}
