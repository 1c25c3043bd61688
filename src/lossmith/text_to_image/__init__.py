"""Text-to-image: text encoders, captioned data, networks, tasks, metrics and report sections."""

from typing import TYPE_CHECKING

from lossmith._lazy import lazy_names

if TYPE_CHECKING:
    from lossmith.text_to_image.caption_data import CaptionData, open_caption_source
    from lossmith.text_to_image.captions import CaptionedImages, CaptionTrainingSet
    from lossmith.text_to_image.direct_task import DirectTextToImage
    from lossmith.text_to_image.encoders import CaptionEmbeddings, TextEmbedding, load_text_encoder
    from lossmith.text_to_image.models import Denoiser, DirectDecoder, SamplerConfig, sample_images
    from lossmith.text_to_image.pipeline import RestorationPipeline, TextToImagePipeline, load_upscaler
    from lossmith.text_to_image.shapes import ShapesDataset, ShapesOracle
    from lossmith.text_to_image.task import TextToImage

__all__ = [
    "CaptionData",
    "CaptionEmbeddings",
    "CaptionTrainingSet",
    "CaptionedImages",
    "Denoiser",
    "DirectDecoder",
    "DirectTextToImage",
    "RestorationPipeline",
    "SamplerConfig",
    "ShapesDataset",
    "ShapesOracle",
    "TextEmbedding",
    "TextToImage",
    "TextToImagePipeline",
    "load_text_encoder",
    "load_upscaler",
    "open_caption_source",
    "sample_images",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "caption_data": "CaptionData open_caption_source",
        "captions": "CaptionedImages CaptionTrainingSet",
        "direct_task": "DirectTextToImage",
        "encoders": "CaptionEmbeddings TextEmbedding load_text_encoder",
        "models": "Denoiser DirectDecoder SamplerConfig sample_images",
        "pipeline": "RestorationPipeline TextToImagePipeline load_upscaler",
        "shapes": "ShapesDataset ShapesOracle",
        "task": "TextToImage",
    },
)
