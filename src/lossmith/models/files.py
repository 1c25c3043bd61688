"""Networks by name, and weight files: safetensors with a header that describes the network."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lossmith._files import write_atomically
from lossmith._plugin_files import check_recorded_plugins, find_plugin_object
from lossmith._plugins import Plugins
from lossmith.models.band_adapter import BandAdapter, adapt_channels
from lossmith.models.base import Network, Restorer
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.custom import build_custom, check_network_class
from lossmith.models.shipped import SHIPPED_NETWORKS, resolve_weights
from lossmith.models.slider import Slider
from lossmith.models.spandrel_model import SPANDREL_PREFIX, SpandrelModel, suggest_architecture
from lossmith.models.state_dicts import detect_network, read_state_dict

__all__ = [
    "NETWORKS",
    "build_network",
    "load_network",
    "load_restorer",
    "read_header",
    "save_network",
    "save_sliders",
    "update_spec",
]

NETWORKS = Plugins("lossmith.models", check=check_network_class)
"""The networks by name, those of installed packages and registered ones included."""

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")

OLD_NETWORK_NAMES = {"knob": "conditioned", "direct": "direct-decoder", "stylist": "style-network"}
"""Names of networks in the headers of files written before the networks were renamed."""

SLIDER_KEYS = {"slider": "slider", "interpolation_slider": "mixing"}
"""Header keys of the sliders of a conditioned network, with the keys in older files."""


def build_network(name: str, scale: int, **arguments: Any) -> Network:
    """Return an untrained network by its name, or the network in a weight file.

    Args:
        name: A name in ``NETWORKS``, such as "edsr"; "spandrel:" and the name of an architecture, such as
            "spandrel:SwinIR"; a class of a plugin that the user has named, such as "my_package:MyNet"; "lossmith-x4" or
            "lossmith-x2", the trained networks of the package; or a weight file (.safetensors, .pth, .pt or .ckpt) of
            lossmith or of any architecture that spandrel detects.
        scale: Upscaling factor.
        arguments: Arguments of the network. For spandrel's architectures and weight files, ``image_channels`` adapts
            the network to images of this number of channels, see :class:`lossmith.models.BandAdapter`.

    Raises:
        ValueError: The network or the file does not exist, an argument is invalid, or the network has another scale.

    Example:
        >>> build_network("edsr", 4, channels=8, blocks=2).spec
        {'name': 'edsr', 'channels': 8, 'blocks': 2}
    """
    if name in NETWORKS:
        return _construct(NETWORKS[name], name, scale, arguments)
    if name.startswith(SPANDREL_PREFIX):
        channels = arguments.pop("image_channels", None)
        model = SpandrelModel.from_architecture(name.removeprefix(SPANDREL_PREFIX), scale, arguments)
        return adapt_channels(_check_scale(model, scale, name), channels or model.image_channels)
    if Path(name).suffix.lower() in WEIGHT_SUFFIXES or name in SHIPPED_NETWORKS:
        channels = arguments.pop("image_channels", None)
        if arguments:
            raise ValueError(f"{name!r} defines the arguments of its network; leave out {', '.join(arguments)}.")
        loaded = load_network(name, scale=scale)[0]
        return adapt_channels(loaded, channels or loaded.image_channels)
    if ":" in name:
        found = find_plugin_object(name)
        check_network_class("", name, found)
        return _construct(found, name, scale, arguments)
    if near := suggest_architecture(name) or next(
        iter(difflib.get_close_matches(name, [*NETWORKS, *SHIPPED_NETWORKS], n=1)), None
    ):
        raise ValueError(f"There is no network {name!r}. Did you mean {near!r}?")
    known = ", ".join([*NETWORKS, *SHIPPED_NETWORKS])
    raise ValueError(
        f"There is no network {name!r}; use {known}, {SPANDREL_PREFIX}NAME, MODULE:CLASS, or a weight file. For a "
        "network of your own, register its class in a file and add --plugin FILE."
    )


def save_network(model: Network, path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Write the weights of a network as safetensors, with a header from which the network can be rebuilt.

    The file replaces an earlier one once it is complete, with the permissions of new files.

    Args:
        model: The network.
        path: The file.
        metadata: Further plain values of the header, such as task, step and loss.
    """
    # safetensors supports neither channels-last nor shared memory, hence the copies
    state = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in model.state_dict().items()}
    _write_weights(state, {**metadata, "model": model.spec, "scale": model.scale}, model, Path(path))


def save_sliders(model: Network, path: str | Path) -> None:
    """Write the sliders of a network into the header of its file; the weights in the file keep their precision.

    Args:
        model: The network.
        path: A file of :func:`save_network` with this network.

    Raises:
        ValueError: The file cannot be read as safetensors.
    """
    from safetensors.torch import load_file

    file = Path(path)
    header = read_header(file)
    _write_weights(load_file(file), header, model, file)


def _write_weights(state: dict[str, Tensor], metadata: Mapping[str, Any], model: Network, file: Path) -> None:
    """Write weights with a header that has the sliders of a network."""
    from safetensors.torch import save_file

    header = dict(metadata)
    for key, old_key in SLIDER_KEYS.items():
        header.pop(key, None)
        header.pop(old_key, None)
        if isinstance(slider := getattr(model, key, None), Slider):
            header[key] = asdict(slider)
    write_atomically(file, lambda partial: save_file(state, partial, {"lossmith": json.dumps(header)}))


def load_restorer(path: str | Path, *, scale: int | None = None) -> tuple[Restorer, dict[str, Any]]:
    """Return the image-to-image network in a weight file and the file's header, see :func:`load_network`.

    Raises:
        ValueError: The file cannot be loaded, or its network is not a :class:`Restorer`.
    """
    model, header = load_network(path, scale=scale)
    if not isinstance(model, Restorer):
        raise ValueError(
            f"{str(path)!r} contains the network {model.spec['name']}, which does not map images to images. "
            "Use load_network or the command lossmith sample."
        )
    return model, header


def load_network(path: str | Path, *, scale: int | None = None) -> tuple[Network, dict[str, Any]]:
    """Return the network in a weight file, in eval mode on the CPU, and the file's header.

    Args:
        path: A file of :func:`save_network`, a checkpoint that spandrel detects, or the name of a network of the
            package, "lossmith-x4" or "lossmith-x2".
        scale: Required upscaling factor; None accepts any.

    Returns:
        The network and the header; the header is empty if another tool wrote the file.

    Raises:
        ValueError: The file does not exist or cannot be read, its architecture is unknown, or the network has another
            scale.
    """
    file = resolve_weights(path)
    if not file.is_file():
        raise ValueError(f"There is no weight file {str(path)!r}.")
    header, state = read_header(file), read_state_dict(file)
    model: Network
    if header:
        try:
            model = _build_recorded(header, state, file)
            for key, old_key in SLIDER_KEYS.items():
                if hasattr(model, key):
                    table = header.get(key) or header.get(old_key)
                    setattr(model, key, Slider.from_header(table) if table else None)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} has a damaged header: {error!r}.") from error
    else:
        model = detect_network(state, str(path))
    return _check_scale(model.eval(), scale or model.scale, str(path)), header


def read_header(file: Path) -> dict[str, Any]:
    """Return the header of a weight file; the header is empty if another tool wrote the file.

    Raises:
        ValueError: The suffix is .safetensors, but the content is not.
    """
    if file.suffix.lower() != ".safetensors":
        return {}
    from safetensors import safe_open

    try:
        with safe_open(file, "pt") as opened:
            text = (opened.metadata() or {}).get("lossmith", "{}")
        found = json.loads(text)
    except Exception as error:  # besides SafetensorError, damaged files raise other exception types
        raise ValueError(f"{str(file)!r} cannot be read as safetensors: {error}.") from error
    return found if isinstance(found, dict) else {}


def update_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification from a file of any version with today's names of the network and its arguments."""
    name = OLD_NETWORK_NAMES.get(spec["name"], spec["name"])
    options = {key: value for key, value in spec.items() if key != "name"}
    current_options = getattr(NETWORKS[name], "current_options", dict) if name in NETWORKS else dict
    return {"name": name, **current_options(options)}


def _build_recorded(header: Mapping[str, Any], state: Mapping[str, Tensor], file: Path) -> Network:
    """Return the network of a header, with its weights; report plugins that are missing or have changed."""
    plugins, owner = dict(header.get("plugins") or {}), repr(str(file))
    check_recorded_plugins(plugins, owner)
    try:
        return _build_from_spec(header["model"], int(header["scale"]), state, file)
    except ValueError:
        check_recorded_plugins(plugins, owner, required=True)
        raise


def _build_from_spec(spec: Mapping[str, Any], scale: int, state: Mapping[str, Tensor], file: Path) -> Network:
    """Return the network of a specification, with its weights."""
    arguments = update_spec(spec)
    name = arguments.pop("name")
    model: Network
    if name == "conditioned":
        inner = {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
        network = _build_from_spec(arguments.pop("network"), scale, inner, file)
        assert isinstance(network, Restorer)
        model = ConditionedNetwork(network, arguments.pop("knobs"), **arguments)
    elif name == "band-adapter":
        inner = {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
        network = _build_from_spec(arguments.pop("network"), scale, inner, file)
        assert isinstance(network, Restorer)
        model = BandAdapter(network, **{"image_channels": 3, **arguments})
    elif name.startswith(SPANDREL_PREFIX) and not arguments:
        return SpandrelModel.from_weights({k.removeprefix("network."): v for k, v in state.items()}, str(file))
    elif name.startswith(SPANDREL_PREFIX):  # the arguments may have the same names as those of build_network
        model = SpandrelModel.from_architecture(name.removeprefix(SPANDREL_PREFIX), scale, arguments)
    else:
        model = build_network(name, scale, **arguments)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1:2] or [str(error)]
        raise ValueError(f"The weights in {str(file)!r} do not match its header: {reason[0].strip()}") from error
    return model


def _construct(constructor: Any, name: str, scale: int, arguments: Mapping[str, Any]) -> Network:
    """Return the network of a class; raise ValueError if it does not accept an argument."""
    try:
        if isinstance(constructor, type) and issubclass(constructor, Network):
            model: Network = constructor(scale, **arguments)  # type: ignore[call-arg]  # of each subclass
        else:
            return build_custom(constructor, name, scale, arguments)
    except TypeError as error:
        raise ValueError(f"{name} does not accept an argument: {str(error).split('() ')[-1]}.") from error
    model.spec = {**model.spec, "name": name}
    return model


def _check_scale(model: Network, scale: int, source: str) -> Network:
    """Return the network; raise ValueError if it has another scale."""
    if model.scale != scale:
        raise ValueError(
            f"{source} has the upscaling factor {model.scale}; the required factor is {scale}. Use another network or "
            "scale."
        )
    return model
