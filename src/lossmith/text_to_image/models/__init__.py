"""Networks that generate images from text, and their samplers."""

from lossmith.text_to_image.models.denoiser import Denoiser, DenoiserOutput
from lossmith.text_to_image.models.direct_decoder import DirectDecoder
from lossmith.text_to_image.models.sampler import SamplerConfig, make_noise, sample_images

__all__ = ["Denoiser", "DenoiserOutput", "DirectDecoder", "SamplerConfig", "make_noise", "sample_images"]
