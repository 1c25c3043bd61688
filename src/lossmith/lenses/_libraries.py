"""Imports of the optional libraries that provide networks, with errors that say what to install."""

import importlib
import importlib.util
import sys
from types import ModuleType

__all__ = ["import_keras", "import_library", "import_transformers"]


def import_library(name: str) -> ModuleType:
    """Import a library of networks, such as timm or torchvision.

    Raises:
        ValueError: The library is not installed, or importing it would abort the process.
    """
    modules, package = sys.modules, name.partition(".")[0]
    if "tensorflow" in modules and not {package, "triton"} & modules.keys() and importlib.util.find_spec("triton"):
        raise ValueError(  # TensorFlow and triton each bring an LLVM, and loading the second aborts
            f"{package!r} imports triton, which aborts a process that has imported TensorFlow. Import {package} before "
            'TensorFlow, or use a network of keras.applications, such as Applications("ResNet50", "conv4_block6_out").'
        )
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # torchvision raises RuntimeError if built for another PyTorch
        raise ValueError(
            f"Networks of {name} need the package {package!r}, which cannot be imported ({error}): "
            f"pip install -e '.[networks]'."
        ) from None


def import_transformers() -> ModuleType:
    """Import transformers.

    Raises:
        ValueError: transformers is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"CLIP needs the package 'transformers', which cannot be imported ({error}): pip install -e '.[clip]'."
        ) from None


def import_keras() -> ModuleType:
    """Import Keras.

    Raises:
        ValueError: Keras is not installed.
    """
    try:
        return importlib.import_module("keras")
    except ImportError as error:
        raise ValueError(
            f"Networks of keras.applications need the package 'keras', which cannot be imported ({error}): "
            "pip install -e '.[keras]'."
        ) from None
