"""The classifiers of keras.applications as lenses: ResNet, EfficientNet, Inception and the others."""

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
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeVar, final

import numpy as np
from torch import Tensor

from lossmith._repr import quoted, spelled
from lossmith.lens import Backbone, Features, Maps
from lossmith.pretrained.locate import Found, MissingWeights, WrongWeights

__all__ = ["Applications"]

Made = TypeVar("Made")


@final
class Applications(Features):
    r"""A picture as one of `keras.applications` sees it; it runs under Keras, see `lossmith.keras`.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    Layers are those of the Keras model by their names: "conv4_block6_out" of ResNet50, "mixed5" of InceptionV3. A
    convolution that carries its activation shows what comes behind it, which is so in Keras's VGG16 and VGG19 alone;
    :class:`VGG` names each step of those two. Pictures are prepared as the network's `preprocess_input` says. In the
    PyTorch half it runs where Keras does, with ``KERAS_BACKEND=torch``.

    Args:
        name: The name in `keras.applications`, such as "ResNet50".
        layers: A layer, several, or layers with their weights in the sum.
        weights: A file that Keras has saved of the network without its top, "random" for an untrained network, or None
            for the file ``ResNet50.weights.h5`` in ``LOSSMITH_WEIGHTS``, or else Keras's cache or a download.

    Raises:
        ValueError: An unknown network or layer, or no Keras.

    Example:
        >>> Applications("ResNet50", "conv4_block6_out", weights="random")  # doctest: +SKIP
        Applications("ResNet50", "conv4_block6_out", weights="random")
    """

    def __init__(
        self, name: str, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None
    ) -> None:
        super().__init__(shared(name, weights), layers)

    backbone: "Application"

    def __repr__(self) -> str:
        return spelled(self, self.backbone.call, self.asked, weights=self.backbone.weights)


@final
class Application(Backbone):
    """A network of keras.applications, whose features :class:`Applications` shows."""

    def __init__(self, name: str, weights: str | None = None) -> None:
        known = {each: made for each, made in vars(_keras().applications).items() if each[0].isupper()}
        if name not in known:
            near = difflib.get_close_matches(str(name), known) or [n for n in known if n.lower() == str(name).lower()]
            guess = f"did you mean {', '.join(map(repr, near))}?" if near else f"there are {', '.join(known)}."
            raise ValueError(f"keras.applications has no {name!r}; {guess}")
        self.name = f"keras.{name}"
        self.call = name
        self.weights = None if weights is None else os.fspath(weights)
        self._build: Callable[..., Any] = known[name]
        self._parts: dict[frozenset[str], Any] = {}

    @cached_property
    def layers(self) -> tuple[str, ...]:  # type: ignore[override]
        """The layers that show maps, first to last."""
        return tuple(each.name for each in self.untrained.layers[1:] if len(getattr(each.output, "shape", ())) == 4)

    @cached_property
    def untrained(self) -> Any:
        """The Keras model before it is given weights, channels last, whatever Keras is set to."""
        return apart(lambda: self.built(None))

    @cached_property
    def model(self) -> Any:
        """The Keras model with its weights."""
        return apart(self._trained)

    def show(self, image: Any, layers: Sequence[str]) -> dict[str, Any]:
        """The features (N, H, W, C) of a Keras tensor (N, H, W, 3) in [0, 1] at some layers."""
        if len(image.shape) != 4 or image.shape[3] != 3:
            raise ValueError(f"{self.name} wants RGB pictures (N, H, W, 3); got {tuple(image.shape)}.")
        key = frozenset(layers)
        if key not in self._parts:
            model = self.model
            outputs = {layer: model.get_layer(layer).output for layer in layers}
            self._parts[key] = apart(lambda: _keras().Model(model.input, outputs))
        prepare = importlib.import_module(self._build.__module__).preprocess_input
        try:
            seen: dict[str, Any] = self._parts[key](prepare(image * 255, data_format="channels_last"), training=False)
        except ValueError as error:
            words = str(error).partition("\n")[0]
            raise ValueError(
                f"{self.name} cannot look at pictures {tuple(image.shape)}; larger ones may pass. Keras says: {words}"
            ) from None
        return {layer: _keras().ops.cast(seen[layer], image.dtype) for layer in layers}

    def __call__(self, image: Tensor, layers: Iterable[str]) -> Maps:
        """The features of PyTorch's tensors, where Keras runs on PyTorch."""
        if _keras().backend.backend() != "torch":
            raise ValueError(
                f"{self.name} runs where Keras does, on {_keras().backend.backend()}: look through it in "
                "lossmith.keras, set KERAS_BACKEND=torch, or name a network of Torchvision here."
            )
        shown = self.show(image.permute(0, 2, 3, 1), tuple(layers))
        return {layer: features.permute(0, 3, 1, 2) for layer, features in shown.items()}

    def smallest(self, layers: Iterable[str]) -> int:
        """Refuses."""
        self._no_plan()

    def flops(self, height: int, width: int, layers: Iterable[str]) -> float:
        """Refuses."""
        self._no_plan()

    def find(self) -> Found:
        """Refuses."""
        raise MissingWeights(f"The weights of {self.name} are found by Keras, and are in its own files.")

    @property
    def sha256(self) -> str:
        """The hash of the weights in use, array by array."""
        digest = hashlib.sha256()
        for array in self.model.get_weights():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def built(self, weights: str | None) -> Any:
        """The model as Keras builds it, channels last; the seed stays what it was."""
        config, state = _keras().config, random.getstate()
        usual = config.image_data_format()
        try:
            config.set_image_data_format("channels_last")
            return self._build(weights=weights, include_top=False, input_shape=(None, None, 3))
        finally:
            config.set_image_data_format(usual)
            random.setstate(state)

    def _trained(self) -> Any:
        if self.weights == "random":
            return self._random()
        if self.weights is not None:
            return self._read(Path(self.weights))
        folder = os.environ.get("LOSSMITH_WEIGHTS")
        if folder and (file := Path(folder) / f"{self.call}.weights.h5").is_file():
            return self._read(file)
        return self._downloaded()

    def _random(self) -> Any:
        model, generator = self.untrained, np.random.default_rng(zlib.crc32(self.call.encode()))
        for each in model.weights:
            if len(each.shape) > 1:  # He et al. 2015, so that features neither fade nor overflow
                spread = math.sqrt(2 / math.prod(each.shape[:-1]))
                each.assign(generator.standard_normal(each.shape).astype("float32") * spread)
        return model

    def _read(self, file: Path) -> Any:
        if not file.is_file():
            raise MissingWeights(f"{self.name} was given the weights {str(file)!r}, which is no file.")
        model = self.untrained
        try:
            model.load_weights(file)
        except Exception as error:
            words = str(error).partition("\n")[0]
            raise WrongWeights(f"{self.name}: the weights {str(file)!r} cannot be read: {words}") from error
        return model

    def _downloaded(self) -> Any:
        patience = socket.getdefaulttimeout()
        try:
            socket.setdefaulttimeout(10)  # seconds: behind a closed firewall nothing would ever answer
            return self.built("imagenet")
        except Exception as error:
            words = str(error).partition("\n")[0]
            raise MissingWeights(
                f"No weights for {self.name} were found. Do one of these: put {self.call}.weights.h5, saved by Keras "
                f"without the top, into a folder and name it in LOSSMITH_WEIGHTS; be online once; give a file with "
                f'weights="PATH"; ask for an untrained network with weights="random" (a download failed just now: '
                f"{words})."
            ) from None
        finally:
            socket.setdefaulttimeout(patience)

    def _no_plan(self) -> NoReturn:
        raise ValueError(f"{self.name} is run by Keras; a plan is made of networks that PyTorch runs.")

    def __reduce__(self) -> tuple[object, ...]:
        return shared, (self.call, self.weights)

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights={quoted(self.weights)}"
        return f"Application({quoted(self.call)}{weights})"


@cache
def shared(name: str, weights: str | None) -> Application:
    """The one network of this name and weights, which all lenses share."""
    return Application(name, weights)


def apart(make: Callable[[], Made]) -> Made:
    """What `make` makes in a thread of its own, where no step is being traced: tensors there are values for good.

    Keras, TensorFlow and JAX each keep the trace that is under way for each thread, and the names of Keras's layers
    are counted anew.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


def _keras() -> Any:
    try:
        return importlib.import_module("keras")
    except ImportError as error:
        raise ValueError(
            f"Networks of keras.applications want the package 'keras', which cannot be imported ({error}): "
            "pip install 'lossmith[keras]'."
        ) from None
