"""Images with captions: discovery in folders and archives, and training samples."""

from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.captions.discovery import CaptionEntry, find_captioned_images
from lossmith.text_to_image.captions.training_set import CaptionedSample, CaptionSource, CaptionTrainingSet

__all__ = [
    "CaptionEntry",
    "CaptionSource",
    "CaptionTrainingSet",
    "CaptionedImages",
    "CaptionedSample",
    "find_captioned_images",
]
