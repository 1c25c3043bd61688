"""Synthetic images of coloured shapes with captions, exact masks and an exact classifier."""

from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.text_to_image.shapes.scenes import Scene, ShapeObject, describe_scene, list_scenes
from lossmith.text_to_image.shapes.split import check_scene_split, explained_variance_ratio, split_scenes

__all__ = [
    "Scene",
    "ShapeObject",
    "ShapesDataset",
    "ShapesOracle",
    "check_scene_split",
    "describe_scene",
    "explained_variance_ratio",
    "list_scenes",
    "split_scenes",
]
