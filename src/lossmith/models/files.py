"""Networks by name, and weights in files: safetensors with a header that says what they are; never a pickle's code."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lossmith._plugins import Plugins
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.base import Network, Restorer
from lossmith.models.slider import Slider
from lossmith.models.spandrel_model import SPANDREL_PREFIX, SpandrelModel, import_spandrel

__all__ = ["build_network", "read_header", "load_restorer", "load_network", "save_network"]

NETWORKS: Mapping[str, type[Network]] = Plugins("lossmith.models")
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")


def build_network(name: str, scale: int, **arguments: Any) -> Network:
    """A network by its name.

    Args:
        name: "edsr", "inpainter", "autoencoder", "denoiser", "direct" or "stylist"; "spandrel:" and an architecture,
            such as "spandrel:SwinIR"; or a file with weights (.safetensors, .pth, .pt or .ckpt), of lossmith or of any
            architecture that spandrel recognises.
        scale: By how much it enlarges.
        arguments: Those of the network.

    Raises:
        ValueError: No such network or file, arguments that it has not, or another scale.

    Example:
        >>> build("edsr", 4, channels=8, blocks=2).spec
        {'name': 'edsr', 'channels': 8, 'blocks': 2}
    """
    if name in NETWORKS:
        try:
            return NETWORKS[name](scale, **arguments)
        except TypeError as error:
            raise ValueError(f"{name} has no such argument: {str(error).split('() ')[-1]}.") from error
    if name.startswith(SPANDREL_PREFIX):
        return _enlarging(SpandrelModel.from_architecture(name.removeprefix(SPANDREL_PREFIX), scale, arguments), scale, name)
    if Path(name).suffix.lower() in WEIGHT_SUFFIXES:
        if arguments:
            raise ValueError(f"{name!r} says itself what network it holds; leave {', '.join(arguments)} out.")
        return load_network(name, scale=scale)[0]
    near = difflib.get_close_matches(name, NETWORKS, n=1)
    raise ValueError(
        f"No network is called {name!r}"
        + (
            f"; did you mean {near[0]!r}?"
            if near
            else f"; there are {', '.join(OWN)}, {PREFIX}NAME, or a file of weights."
        )
    )


def save_network(model: Network, path: str | Path, meta: Mapping[str, Any]) -> None:
    """Writes a network's weights as safetensors, with a header that says how to build it.

    Args:
        model: The network.
        path: The file.
        meta: What else the header shall say, such as task, step and loss; plain values.
    """
    from safetensors.torch import save_file

    # a copy each: safetensors takes neither channels-last nor shared memory
    state = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in model.state_dict().items()}
    read_header = {**meta, "model": model.spec, "scale": model.scale}
    tables = {"slider": model.slider, "mixing": model.interpolation_slider} if isinstance(model, ConditionedNetwork) else {}
    for name in ("slider", "mixing"):
        read_header.pop(name, None)
        if (table := tables.get(name)) is not None:
            read_header[name] = asdict(table)
    save_file(state, path, {"lossmith": json.dumps(read_header)})


def load_restorer(path: str | Path, *, scale: int | None = None) -> tuple[Restorer, dict[str, Any]]:
    """The network from pictures to pictures in a file, see :func:`load_network`.

    Raises:
        ValueError: As there, or it makes pictures of something else.
    """
    model, facts = load_network(path, scale=scale)
    if not isinstance(model, Restorer):
        raise ValueError(f"{str(path)!r} makes pictures of texts, not of pictures; use lossmith sample.")
    return model, facts


def load_network(path: str | Path, *, scale: int | None = None) -> tuple[Network, dict[str, Any]]:
    """The network in a file of weights, in eval mode, and what the file's header says.

    Args:
        path: A file of :func:`save`, or any checkpoint that spandrel recognises.
        scale: By how much it must enlarge, if that matters.

    Returns:
        The network on the CPU, and the header; empty if lossmith did not write the file.

    Raises:
        ValueError: No such file, not readable, not a network from RGB to RGB, or another scale.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"Weights are wanted; there is no file {str(path)!r}.")
    facts, state = read_header(file), _state(file)
    model: Network
    if facts:
        try:
            model = _described(facts["model"], int(facts["scale"]), state, file)
            if isinstance(model, ConditionedNetwork):
                model.slider, model.interpolation_slider = (
                    Slider.read(facts[name]) if facts.get(name) else None for name in ("slider", "mixing")
                )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} has a damaged header: {error!r}.") from error
    else:
        model = SpandrelModel.from_weights(state, str(path))
    return _enlarging(model.eval(), scale or model.scale, str(path)), facts


def _described(spec: Mapping[str, Any], scale: int, state: Mapping[str, Tensor], file: Path) -> Network:
    """The network that a header describes, with its weights."""
    arguments = dict(spec)
    name = arguments.pop("name")
    model: Network
    if name == "knob":
        inner = {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
        network = _described(arguments.pop("network"), scale, inner, file)
        assert isinstance(network, Restorer)
        model = ConditionedNetwork(network, arguments.pop("knobs"), **arguments)
    elif name.startswith(SPANDREL_PREFIX) and not arguments:
        return SpandrelModel.from_weights({k.removeprefix("network."): v for k, v in state.items()}, str(file))
    elif name.startswith(SPANDREL_PREFIX):  # whose arguments may be called as those of `build` are
        model = SpandrelModel.from_architecture(name.removeprefix(SPANDREL_PREFIX), scale, arguments)
    else:
        model = build_network(name, scale, **arguments)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1:2] or [str(error)]
        raise ValueError(f"The weights in {str(file)!r} do not fit its header: {reason[0].strip()}") from error
    return model


def _enlarging(model: Network, scale: int, who: str) -> Network:
    if model.scale != scale:
        raise ValueError(
            f"{who} enlarges {model.scale} times; {scale} times is asked for. Give another network or scale."
        )
    return model


def read_header(file: Path) -> dict[str, Any]:
    """What the header of a file of weights says; empty if lossmith did not write it.

    Raises:
        ValueError: It ends in .safetensors and is none.
    """
    if file.suffix.lower() != ".safetensors":
        return {}
    from safetensors import safe_open

    try:
        with safe_open(file, "pt") as opened:
            text = (opened.metadata() or {}).get("lossmith", "{}")
        found = json.loads(text)
    except Exception as error:  # safetensors has an exception of its own, and damaged files raise others
        raise ValueError(f"{str(file)!r} is no safetensors file that can be read: {error}.") from error
    return found if isinstance(found, dict) else {}


def _state(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        if file.suffix.lower() == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # as above
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{str(file)!r} holds no weights that can be read safely: {reason}.") from error
    state = import_spandrel().canonicalize_state_dict(found) if isinstance(found, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{str(file)!r} holds no network's weights, but a {type(found).__name__} of other things.")
    return dict(state)
