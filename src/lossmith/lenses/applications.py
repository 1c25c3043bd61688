"""The classifiers of keras.applications as lenses: ResNet, EfficientNet, Inception and others."""

import difflib
import hashlib
import importlib
import math
import os
import random
import socket
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeVar, final

import numpy as np
from torch import Tensor

from lossmith._checks import check_path
from lossmith._repr import format_literal, repr_of
from lossmith.backbone import Backbone, get_backbone
from lossmith.lens import Features, Maps
from lossmith.lenses._libraries import import_keras
from lossmith.pretrained.locate import DOWNLOAD_TIMEOUT, MissingWeightsError, PretrainedWeights, WrongWeightsError

__all__ = ["Applications"]

Result = TypeVar("Result")


@final
class Applications(Features):
    r"""The features of a network of `keras.applications`, run by Keras, see `lossmith.keras`.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    Layers are those of the Keras model by their names: "conv4_block6_out" of ResNet50, "mixed5" of InceptionV3. In
    Keras's VGG16 and VGG19 a convolution includes its activation, so that the layer is the value after the ReLU;
    :class:`VGG` names each step of these two. Images are prepared by the network's `preprocess_input`. In PyTorch the
    lens needs Keras on PyTorch, ``KERAS_BACKEND=torch``.

    Args:
        name: The name in `keras.applications`, such as "ResNet50".
        layers: A layer, several layers, or a mapping from layers to their weights in the sum.
        weights: The path of weights saved by Keras of the network without its top, "random" for an untrained network,
            or None for the file ``ResNet50.weights.h5`` in ``LOSSMITH_WEIGHTS``, else Keras's cache or a download.

    Raises:
        ValueError: An unknown network or layer, or Keras is not installed.

    Example:
        >>> Applications("ResNet50", "conv4_block6_out", weights="random")  # doctest: +SKIP
        Applications("ResNet50", "conv4_block6_out", weights="random")
    """

    def __init__(
        self, name: str, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None
    ) -> None:
        super().__init__(get_backbone(ApplicationsNetwork, name, weights), layers)

    backbone: "ApplicationsNetwork"

    def __repr__(self) -> str:
        return repr_of(self, self.backbone.model_name, self.layer_spec, weights=self.backbone.weights)


@final
class ApplicationsNetwork(Backbone):
    """A network of keras.applications, the network of :class:`Applications`."""

    def __init__(self, name: str, weights: str | None = None) -> None:
        known = {each: build for each, build in vars(import_keras().applications).items() if each[0].isupper()}
        if name not in known:
            near = difflib.get_close_matches(str(name), known) or [n for n in known if n.lower() == str(name).lower()]
            hint = f"Did you mean {', '.join(map(repr, near))}?" if near else f"Choose one of {', '.join(known)}."
            raise ValueError(f"keras.applications has no {name!r}. {hint}")
        self.name = f"keras.{name}"
        self.model_name = name
        self.weights = check_path(f"{name} weights", weights)
        self._constructor: Callable[..., Any] = known[name]
        self._submodels: dict[frozenset[str], Any] = {}

    @cached_property
    def layers(self) -> tuple[str, ...]:  # type: ignore[override]
        """The layers whose outputs are maps, first to last."""
        keras_layers = self.untrained_model.layers[1:]
        return tuple(each.name for each in keras_layers if len(getattr(each.output, "shape", ())) == 4)

    @cached_property
    def untrained_model(self) -> Any:
        """The Keras model without its weights, channels last regardless of Keras's setting."""
        return run_in_thread(lambda: self._build(None))

    @cached_property
    def model(self) -> Any:
        """The Keras model with its weights."""
        return run_in_thread(self._load)

    def extract_features(self, image: Any, layers: Sequence[str]) -> dict[str, Any]:
        """Return the features (N, H, W, C) of a Keras tensor (N, H, W, 3) or (N, H, W, 1) in [0, 1] at some layers."""
        if len(image.shape) != 4 or image.shape[3] not in (1, 3):
            raise ValueError(
                f"{self.name} expects RGB images (N, H, W, 3) or grey images (N, H, W, 1); got {tuple(image.shape)}. "
                "Select bands with a lens, such as ... @ Bands(3, 2, 1)."
            )
        if image.shape[3] == 1:
            image = import_keras().ops.repeat(image, 3, axis=3)
        key = frozenset(layers)
        if key not in self._submodels:
            model = self.model
            outputs = {layer: model.get_layer(layer).output for layer in layers}
            self._submodels[key] = run_in_thread(lambda: import_keras().Model(model.input, outputs))
        prepare = importlib.import_module(self._constructor.__module__).preprocess_input
        inputs = prepare(image * 255, data_format="channels_last")
        try:
            features: dict[str, Any] = self._submodels[key](inputs, training=False)
        except ValueError as error:
            message = str(error).partition("\n")[0]
            raise ValueError(
                f"{self.name} cannot take images of shape {tuple(image.shape)}; larger images may work. "
                f"Keras reports: {message}"
            ) from None
        return {layer: import_keras().ops.cast(features[layer], image.dtype) for layer in layers}

    def __call__(self, image: Tensor, layers: Iterable[str]) -> Maps:
        """Return the features of PyTorch tensors, if Keras runs on PyTorch."""
        backend = import_keras().backend.backend()
        if backend != "torch":
            raise ValueError(
                f"{self.name} runs in Keras on {backend} and not in PyTorch. Use the loss in lossmith.keras, set "
                "KERAS_BACKEND=torch, or use a Torchvision lens."
            )
        features = self.extract_features(image.permute(0, 2, 3, 1), tuple(layers))
        return {layer: each.permute(0, 3, 1, 2) for layer, each in features.items()}

    def min_size(self, layers: Iterable[str]) -> int:
        """Raise ValueError: Keras runs the network."""
        self._raise_no_plan()

    def flops(self, height: int, width: int, layers: Iterable[str]) -> float:
        """Raise ValueError: Keras runs the network."""
        self._raise_no_plan()

    def find_weights(self) -> PretrainedWeights:
        """Raise MissingWeightsError: Keras finds and reads the weights."""
        raise MissingWeightsError(f"The weights of {self.name} are located by Keras, in files of its own format.")

    def with_weights(self, weights: str | None) -> "ApplicationsNetwork":
        """Return the shared network of this architecture with other weights."""
        return get_backbone(ApplicationsNetwork, self.model_name, weights)

    @property
    def sha256(self) -> str:
        """The hash of all weight arrays in use."""
        digest = hashlib.sha256()
        for array in self.model.get_weights():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _build(self, weights: str | None) -> Any:
        """Return the model as Keras builds it, channels last, without changing Python's random state."""
        config, state = import_keras().config, random.getstate()
        data_format = config.image_data_format()
        try:
            config.set_image_data_format("channels_last")
            return self._constructor(weights=weights, include_top=False, input_shape=(None, None, 3))
        finally:
            config.set_image_data_format(data_format)
            random.setstate(state)

    def _load(self) -> Any:
        if self.weights == "random":
            return self._init_random()
        if self.weights is not None:
            return self._read(Path(self.weights))
        folder = os.environ.get("LOSSMITH_WEIGHTS")
        if folder and (file := Path(folder) / f"{self.model_name}.weights.h5").is_file():
            return self._read(file)
        return self._download()

    def _init_random(self) -> Any:
        model, generator = self.untrained_model, np.random.default_rng(zlib.crc32(self.model_name.encode()))
        for each in model.weights:
            if len(each.shape) > 1:  # He et al. 2015, to keep the scale of features
                spread = math.sqrt(2 / math.prod(each.shape[:-1]))
                each.assign(generator.standard_normal(each.shape).astype("float32") * spread)
        return model

    def _read(self, file: Path) -> Any:
        if not file.is_file():
            raise MissingWeightsError(f"weights of {self.name} must be a file; {str(file)!r} does not exist.")
        model = self.untrained_model
        try:
            model.load_weights(file)
        except Exception as error:
            message = str(error).partition("\n")[0]
            raise WrongWeightsError(f"{self.name}: the weights {str(file)!r} cannot be read: {message}") from error
        return model

    def _download(self) -> Any:
        previous_timeout = socket.getdefaulttimeout()
        try:
            socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
            return self._build("imagenet")
        except Exception as error:
            message = str(error).partition("\n")[0]
            raise MissingWeightsError(
                f"No weights for {self.name} were found. Do one of these: put {self.model_name}.weights.h5, saved by "
                f"Keras without the top, into a folder and set LOSSMITH_WEIGHTS to that folder; be online once; give a "
                f'file with weights="PATH"; use an untrained network with weights="random" (a download failed just '
                f"now: {message})."
            ) from None
        finally:
            socket.setdefaulttimeout(previous_timeout)

    def _raise_no_plan(self) -> NoReturn:
        raise ValueError(f"{self.name} runs in Keras; a cost plan needs networks that run in PyTorch.")

    def __reduce__(self) -> tuple[object, ...]:
        return get_backbone, (type(self), self.model_name, self.weights)

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights={format_literal(self.weights)}"
        return f"ApplicationsNetwork({format_literal(self.model_name)}{weights})"


def run_in_thread(function: Callable[[], Result]) -> Result:
    """Return the function's result, computed in a new thread without an active trace, so that its tensors are constant.

    Keras, TensorFlow and JAX keep the active trace per thread, and Keras numbers its layer names per thread.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()
