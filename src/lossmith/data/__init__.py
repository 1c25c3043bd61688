"""Image data: files, training crops, evaluation examples and synthetic degradations."""

from lossmith.data.blur import filter2d, gaussian_kernel, motion_kernel, sinc_kernel
from lossmith.data.degraded import Degradation, DegradedCrops, DegradedImages
from lossmith.data.display import Display, choose_display
from lossmith.data.example import Example
from lossmith.data.find_pixels import PixelOptions, find_pixel_format
from lossmith.data.formats.files import read_stored, write_stored
from lossmith.data.formats.stored import ImageMetadata, StoredImage
from lossmith.data.image_files import SkippedFile, decode_image, read_image
from lossmith.data.image_folder import ImageFolder
from lossmith.data.image_listing import ImageFiles, list_images
from lossmith.data.image_subsets import hold_out
from lossmith.data.jpeg import compress_jpeg
from lossmith.data.masks import HoleShape, draw_mask
from lossmith.data.noise import add_gaussian_noise, add_poisson_noise
from lossmith.data.paired import PairedCrops, PairedImages, PairMatcher
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.real_esrgan import degrade_real_esrgan
from lossmith.data.restored_image import RestoredImage, restore_samples
from lossmith.data.sample_images import list_sample_images, list_upscaler_images
from lossmith.data.super_resolution import SuperResolutionCrops, SuperResolutionPairs
from lossmith.resize import crop_to_multiple, downsample, upsample

__all__ = [
    "Degradation",
    "DegradedCrops",
    "DegradedImages",
    "Display",
    "Example",
    "HoleShape",
    "ImageFiles",
    "ImageFolder",
    "ImageMetadata",
    "PairMatcher",
    "PairedCrops",
    "PairedImages",
    "PixelFormat",
    "PixelOptions",
    "RestoredImage",
    "SkippedFile",
    "StoredImage",
    "SuperResolutionCrops",
    "SuperResolutionPairs",
    "add_gaussian_noise",
    "add_poisson_noise",
    "choose_display",
    "compress_jpeg",
    "crop_to_multiple",
    "decode_image",
    "degrade_real_esrgan",
    "downsample",
    "draw_mask",
    "filter2d",
    "find_pixel_format",
    "gaussian_kernel",
    "hold_out",
    "list_images",
    "list_sample_images",
    "list_upscaler_images",
    "motion_kernel",
    "read_image",
    "read_stored",
    "restore_samples",
    "sinc_kernel",
    "upsample",
    "write_stored",
]
