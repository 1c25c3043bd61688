"""Configuration files: YAML, TOML, and JSON with comments, read without running anything in them."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["read_config_file"]

MAX_BYTES = 1_000_000
"""The largest file; configurations have some kilobytes."""
MAX_VALUES = 100_000
"""The largest number of values with all aliases expanded."""
COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*')
"""A quoted text, which is kept, or a comment."""


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Return the content of a configuration file.

    Args:
        path: A file that ends in .yml, .yaml, .toml or .json.

    Raises:
        ValueError: The file does not exist, has another suffix, is too large, or cannot be read; with the line.
    """
    path = Path(path)
    readers: dict[str, Callable[[str], Any]] = {
        ".yml": _read_yaml,
        ".yaml": _read_yaml,
        ".toml": tomllib.loads,
        ".json": _read_json,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(f"A configuration must end in .yml, .yaml, .toml or .json; got {str(path)!r}.")
    if not path.is_file():
        raise ValueError(f"There is no configuration {str(path)!r}.")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{str(path)!r} is larger than {MAX_BYTES // 1_000_000} MB and is no configuration.")
    try:
        config = readers[path.suffix.lower()](path.read_text(encoding="utf-8-sig"))
        _check_size(config)
    except RecursionError:
        raise ValueError(f"{str(path)!r} is nested too deeply.") from None
    except ValueError as error:  # also of json and tomllib, with line and column
        raise ValueError(f"{str(path)!r} cannot be read: {str(error).rstrip('.')}.") from None
    if not isinstance(config, dict):
        raise ValueError(f"{str(path)!r} holds no settings but a {type(config).__name__}.")
    return config


def _read_yaml(text: str) -> Any:
    """Return the content of a YAML document; tags that would create Python objects raise."""
    try:
        import yaml
    except ImportError as error:
        raise ValueError("YAML needs the package 'pyyaml', which is not installed: pip install pyyaml") from error
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or (str(error).splitlines() or [""])[0]
        raise ValueError(f"{reason}{where}") from None


def _read_json(text: str) -> Any:
    return json.loads(COMMENT.sub(lambda match: match[1] or "", text))


def _check_size(config: Any) -> None:
    """Raise ValueError if a document has too many values; aliases of YAML can stand for billions."""
    remaining, count = [config], 0
    while remaining:
        value = remaining.pop()
        if isinstance(value, Mapping):
            remaining.extend(value.values())
        elif isinstance(value, list):
            remaining.extend(value)
        count += 1
        if count > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES:,} values")
