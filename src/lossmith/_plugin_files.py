"""Code that the user names, on the command line as ``--plugin my.py``: Python files and modules that are run once.

Nothing else runs code: formulas, checkpoints and run folders contain names, which are found only if their code was
named. A run records the names and hashes of its plugins, so that a later command can report that one is missing or has
changed.
"""

import hashlib
import importlib
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, final

__all__ = ["check_recorded_plugins", "find_plugin_object", "load_plugin", "loaded_plugins", "plugin_sources"]


@final
@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin that was run.

    Args:
        source: What the user named: a file or a module.
        sha256: The hash of the file.
        module: The module.
    """

    source: str
    sha256: str
    module: ModuleType


_LOADED: dict[str, LoadedPlugin] = {}
_RUNNING: set[str] = set()


def load_plugin(source: str) -> str:
    """Run a Python file, or import a module, that the user has named; a second call does nothing.

    Args:
        source: The path of a file that ends in ``.py``, or the dotted name of a module. Modules are also searched for
            in the current folder.

    Returns:
        The plugin's name: that of the file without its folder, or that of the module.

    Raises:
        ValueError: The file or module does not exist, raises at import, or another plugin has its name.
    """
    is_file = source.endswith(".py")
    name = Path(source).name if is_file else source
    if name in _RUNNING:
        raise ValueError(f"The plugin {source!r} runs itself; remove the call of lossmith's command line from it.")
    if name in _LOADED and (not is_file or _hash_file(Path(source)) == _LOADED[name].sha256):
        return name
    if name in _LOADED:
        raise ValueError(
            f"Two plugins are named {name!r}: {_LOADED[name].source!r} and {source!r}. Rename one of them."
        )
    _RUNNING.add(name)
    try:
        module = _run_file(Path(source)) if is_file else _import_module(source)
    finally:
        _RUNNING.discard(name)
    file = module.__file__
    _LOADED[name] = LoadedPlugin(
        str(Path(source).resolve()) if is_file else source, _hash_file(Path(file)) if file else "", module
    )
    return name


def loaded_plugins() -> dict[str, str]:
    """Return the SHA-256 of each plugin that was run, by its name."""
    return {name: plugin.sha256 for name, plugin in _LOADED.items()}


def plugin_sources() -> list[str]:
    """Return the files and modules that were run, for a process that must run them too."""
    return [plugin.source for plugin in _LOADED.values()]


def find_plugin_object(name: str) -> Any:
    """Return an object of a plugin that was run.

    Args:
        name: The plugin's name, a colon, and the name of the object, such as "my_package:MyNet" or "my.py:MyNet".

    Raises:
        ValueError: The plugin was not named by the user, or has no such object.
    """
    source, _, attribute = name.rpartition(":")  # a path may begin with a drive
    if source not in _LOADED:
        raise ValueError(
            f"{name!r} is code of {source!r}, which runs only if it is named: add --plugin {source}, if you trust it."
        )
    try:
        return getattr(_LOADED[source].module, attribute)
    except AttributeError:
        raise ValueError(f"The plugin {source!r} has no {attribute!r}.") from None


def check_recorded_plugins(recorded: Mapping[str, str], owner: str, *, required: bool = False) -> None:
    """Compare the plugins of a run with those that were run now; warn if one has changed.

    Args:
        recorded: The SHA-256 of each plugin of the run by its name.
        owner: The run, for messages.
        required: Whether a plugin that is missing now is an error.

    Raises:
        ValueError: A required plugin is missing.
    """
    now = loaded_plugins()
    for name, digest in recorded.items():
        if name not in now:
            if required:
                raise ValueError(f"{owner} was trained with the plugin {name!r}: add --plugin {name}, if you trust it.")
        elif now[name] != digest:
            warnings.warn(
                f"The plugin {name!r} has changed since {owner} was written: its SHA-256 was {digest[:12]} and is "
                f"{now[name][:12]}.",
                stacklevel=2,
            )


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"There is no plugin file {str(path)!r}.")
    name = f"lossmith_plugin_{''.join(c if c.isalnum() else '_' for c in path.stem)}"
    _append_to_path(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look modules up by their names
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"The plugin {str(path)!r} cannot be used: {_describe(error, str(path))}.") from error
    return module


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"A plugin must be a file that ends in .py, or the name of a module; got {name!r}.")
    _append_to_path(Path())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ValueError(f"The plugin {name!r} cannot be imported: {_describe(error, name)}.") from error


def _append_to_path(folder: Path) -> None:
    """Let plugins import the modules of a folder; last, so that no installed module is replaced."""
    if str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))


def _describe(error: BaseException, source: str) -> str:
    """Return an error in one line, with the line of the plugin that raised it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(source)]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    where = f" in line {lines[-1]}" if lines else ""
    message = error.msg if isinstance(error, SyntaxError) else (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}{where}: {message.rstrip('.')}".rstrip(": ")


def _hash_file(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"There is no plugin file {str(path)!r}.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
