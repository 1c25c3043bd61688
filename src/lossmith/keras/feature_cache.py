"""The features of one step under Keras: each input passes each network once."""

from collections.abc import Mapping, Sequence
from typing import final

from keras import ops

from lossmith.keras import lenses as lenses  # registers the lenses
from lossmith.keras.networks import run_sequential_network
from lossmith.keras.registry import Maps, Tensor, find_lens, list_lenses
from lossmith.lens import Features, Lens
from lossmith.lenses import Applications
from lossmith.lenses.applications import ApplicationsNetwork
from lossmith.lenses.sequential_network import SequentialNetwork

__all__ = ["KerasFeatureCache", "check_lens"]


def check_lens(lens: Lens) -> None:
    """Raise ValueError if a lens does not run under Keras."""
    if isinstance(lens, Features):
        if not isinstance(lens.backbone, SequentialNetwork | ApplicationsNetwork):
            raise ValueError(
                f"{lens!r} is a PyTorch network; under Keras use VGG, or a network of keras.applications, such as "
                f'L1() @ {Applications.__name__}("ResNet50", "conv4_block6_out").'
            )
    elif find_lens(lens) is None:
        known = ", ".join(list_lenses())
        raise ValueError(f"{lens!r} runs only under PyTorch; the lenses under Keras are {known} and the networks.")


@final
class KerasFeatureCache:
    """The maps that lenses have computed in one step; a new step needs a new cache.

    Args:
        inputs: The inputs by name, channels last.
        required_layers: The layers to compute for each input and each network, by the network's text on the path.
    """

    def __init__(self, inputs: Mapping[str, Tensor], required_layers: Mapping[tuple[str, str], Sequence[str]]) -> None:
        self.inputs = inputs
        self.required_layers = required_layers
        self.maps: dict[tuple[str, bool, str], Maps] = {}

    def __call__(self, name: str, path: Sequence[tuple[str, Lens]], *, detached: bool) -> Maps:
        """Return the maps of an input after a path of lenses, with or without a gradient."""
        image = self.inputs[name]
        maps = {"pixels": ops.stop_gradient(image) if detached else image}
        for text, lens in path:
            key = (name, detached, text)
            if key not in self.maps:
                self.maps[key] = _apply_keras_lens(lens, maps, self.required_layers.get((name, text), ()))
            maps = self.maps[key]
            if isinstance(lens, Features):
                maps = {layer: maps[layer] for layer in lens.layers}
        return maps


def _apply_keras_lens(lens: Lens, maps: Maps, layers: Sequence[str]) -> Maps:
    if not isinstance(lens, Features):
        apply = find_lens(lens)
        assert apply is not None
        return apply(lens, maps)
    (image,) = maps.values()
    if isinstance(lens.backbone, ApplicationsNetwork):
        return lens.backbone.extract_features(image, layers)
    assert isinstance(lens.backbone, SequentialNetwork)
    return run_sequential_network(lens.backbone, image, layers)
