"""The networks of recipes as networks of spandrel: their names, the sizes that a name stands for, and arguments."""

import inspect
import json
from typing import Any

from lossmith.importer.setup import TrainingSetup
from lossmith.models.spandrel_model import SCALE_ARGUMENTS, SPANDREL_PREFIX, load_architectures

__all__ = ["VARIANTS", "format_literal_option", "match_architecture", "network_words"]

ARCHITECTURES = {"rrdbnet": "ESRGAN", "srvggnetcompact": "Compact", "rrdb": "ESRGAN"}
"""Architectures of spandrel by other names."""
ARGUMENTS = {
    "ESRGAN": {"num_feat": "num_filters", "nf": "num_filters", "num_block": "num_blocks", "nb": "num_blocks"},
}
"""Arguments of spandrel's architectures by their names elsewhere."""
FIXED = {"num_in_ch", "num_out_ch", "in_nc", "out_nc", "in_chans", "num_grow_ch", "gc", "type", "img_size"}
"""Arguments that the architectures fix or that do not change the network."""

Options = dict[str, Any]


def _windows(blocks: int, heads: int, embed_dim: int, **options: Any) -> Options:
    """Return the arguments of a network of groups of six blocks with windows."""
    return {"embed_dim": embed_dim, "depths": [6] * blocks, "num_heads": [heads] * blocks, **options}


def _dat(blocks: int, split: int, **options: Any) -> Options:
    return {"split_size": [8, split], "depth": [6] * blocks, "num_heads": [6] * blocks, **options}


def _swin(upsampler: str, blocks: int, heads: int, embed_dim: int, **options: Any) -> Options:
    return _windows(blocks, heads, embed_dim, window_size=8, mlp_ratio=2.0, upsampler=upsampler, **options)


def _grl(embed_dim: int, upsampler: str, **options: Any) -> Options:
    """Return the arguments of GRL; its levels are four of four blocks unless others are given."""
    depths = options.pop("depths", [4] * 4)
    heads = [options.pop("heads", 2)] * len(depths)
    sizes: Options = {"embed_dim": embed_dim, "depths": depths, "num_heads_window": heads, "num_heads_stripe": heads}
    sizes |= {"window_size": 32, "stripe_size": [64, 64], "stripe_shift": True, "mlp_ratio": 2.0}
    return {**sizes, "anchor_window_down_factor": 4, "upsampler": upsampler, **options}


_HAT: Options = {"window_size": 16, "mlp_ratio": 2.0, "upsampler": "pixelshuffle"}
_SWIN_SIZES: dict[str, Options] = {
    "s": _swin("pixelshuffledirect", 4, 6, 60),
    "m": _swin("pixelshuffle", 6, 6, 180),
    "l": _swin("nearest+conv", 9, 8, 240, resi_connection="3conv"),
}
_FDAT: Options = {"num_groups": 3, "depth_per_group": 2}

VARIANTS: dict[str, tuple[str, Options]] = {
    "atd": ("ATD", _windows(6, 6, 210, window_size=16, num_tokens=128, reducted_dim=20, upsampler="pixelshuffle")),
    "atdlight": (
        "ATD",
        {"embed_dim": 48, "window_size": 16, "category_size": 128, "reducted_dim": 8, "convffn_kernel_size": 7}
        | {"mlp_ratio": 1, "upsampler": "pixelshuffledirect"},
    ),
    "ultracompact": ("Compact", {"num_conv": 8}),
    "superultracompact": ("Compact", {"num_feat": 24, "num_conv": 8}),
    "dat": ("DAT", _dat(6, 32)),
    "dats": ("DAT", _dat(6, 16, expansion_factor=2)),
    "dat2": ("DAT", _dat(6, 32, expansion_factor=2)),
    "dat2l": ("DAT", _dat(12, 32, expansion_factor=2)),
    "datlight": (
        "DAT",
        {"split_size": [8, 32], "depth": [18], "embed_dim": 60, "num_heads": [6], "expansion_factor": 2}
        | {"resi_connection": "3conv", "upsampler": "pixelshuffledirect"},
    ),
    "ditnreal": ("DITN", {}),
    "drct": ("DRCT", _windows(6, 6, 180, upsampler="pixelshuffle")),
    "drctl": ("DRCT", _windows(12, 6, 180, upsampler="pixelshuffle")),
    "drctxl": ("DRCT", _windows(14, 6, 180, upsampler="pixelshuffle")),
    "esrganlite": ("ESRGAN", {"num_filters": 32, "num_blocks": 12}),
    "fdattiny": (
        "FDAT",
        {"embed_dim": 96, "num_groups": 2, "depth_per_group": 2, "num_heads": 3}
        | {"ffn_expansion_ratio": 1.5, "drop_path_rate": 0.05},
    ),
    "fdatlight": ("FDAT", {**_FDAT, "embed_dim": 108, "drop_path_rate": 0.08}),
    "fdatmedium": ("FDAT", {}),
    "fdatlarge": ("FDAT", {"embed_dim": 180, "depth_per_group": 4, "num_heads": 6}),
    "fdatxl": ("FDAT", {"embed_dim": 180, "num_groups": 6, "depth_per_group": 6, "num_heads": 6}),
    "grlb": ("GRL", _grl(180, "pixelshuffle", depths=[4, 4, 8, 8, 8, 4, 4], heads=3, local_connection=True)),
    "grls": ("GRL", _grl(128, "pixelshuffle")),
    "grlt": ("GRL", _grl(64, "pixelshuffledirect")),
    "hats": ("HAT", _windows(6, 6, 144, compress_ratio=24, squeeze_factor=24, **_HAT)),
    "hatm": ("HAT", _windows(6, 6, 180, **_HAT)),
    "hatl": ("HAT", _windows(12, 6, 180, **_HAT)),
    "mosrt": ("MoSR", {"n_block": 5, "dim": 48}),
    "omnisr": ("OmniSR", {"res_num": 5}),
    "plksr": ("PLKSR", {"ccm_type": "DCCM"}),
    "plksrtiny": ("PLKSR", {"ccm_type": "DCCM", "n_blocks": 12, "kernel_size": 13, "use_ea": False}),
    "realplksrtiny": ("RealPLKSR", {"n_blocks": 12, "kernel_size": 13, "use_ea": False}),
    "realplksrlarge": ("RealPLKSR", {"dim": 96}),
    "rgt": ("RGT", _dat(8, 32, mlp_ratio=2.0)),
    "rgts": ("RGT", _dat(6, 32, mlp_ratio=2.0)),
    "safmn": ("SAFMN", {"dim": 36}),
    "safmnl": ("SAFMN", {"dim": 128, "n_blocks": 16}),
    "seemoret": ("SeemoRe", {"num_experts": 3, "embedding_dim": 36, "lr_space": "exp"}),
    "spans": ("SPAN", {"feature_channels": 48}),
    **{f"swinir{size}": ("SwinIR", options) for size, options in _SWIN_SIZES.items()},
    **{f"swin2sr{size}": ("Swin2SR", options) for size, options in _SWIN_SIZES.items()},
    "swinirsmall": ("SwinIR", _SWIN_SIZES["s"]),
    "swinirmedium": ("SwinIR", _SWIN_SIZES["m"]),
    "swinirlarge": ("SwinIR", _SWIN_SIZES["l"]),
}
"""The architecture of spandrel and its arguments by the name of a size in traiNNer-redux and neosr, in lower case."""
OF_TRAINERS = {"traiNNer-redux", "neosr"}
"""The projects whose names of networks stand for the sizes above; elsewhere, the configuration has the sizes."""


def match_architecture(kind: str) -> str | None:
    """Return the architecture of spandrel of a network's name, or None."""
    plain = kind.lower().replace("_", "").replace("-", "")
    architectures = {name.lower().replace("_", ""): name for name in load_architectures()}
    return architectures.get(plain) or ARCHITECTURES.get(plain)


def network_words(setup: TrainingSetup, framework: str, notes: list[str]) -> list[str]:
    """Return --model and its arguments, if the network is one of spandrel's."""
    kind = str(setup.network.get("type", ""))
    plain = kind.lower().replace("_", "").replace("-", "")
    sized = VARIANTS.get(plain) if framework in OF_TRAINERS else None
    name, options = sized if sized else (match_architecture(kind), {})
    if name is None or name not in load_architectures():
        notes.append(f"The network {kind[:60] or '?'} is not available; the command trains the task's default network.")
        return []
    parameters = inspect.signature(load_architectures()[name]).parameters
    arguments, unknown = dict(options), []
    for key, value in setup.network.items():
        own = ARGUMENTS.get(name, {}).get(key, key)
        if key in FIXED or own in SCALE_ARGUMENTS or own == "scale":
            continue
        if own in parameters and isinstance(value, bool | int | float | str | list):
            arguments[own] = value
        else:
            unknown.append(key)
    if unknown:
        notes.append(f"Arguments of {kind} that are not carried over: {', '.join(map(str, unknown))[:200]}.")
    words = ["--model", f"{SPANDREL_PREFIX}{name}"]
    for key, value in arguments.items():
        words += ["--model-option", f"{key}={format_literal_option(value)}"]
    return words


def format_literal_option(value: Any) -> str:
    """Return a value as that of an option: text as it is, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
