"""The command line; each command has a file of its own and imports what it needs when it runs."""

import io
import sys
import warnings
from collections.abc import Sequence

import typer

from lossmith._plugin_files import load_plugin
from lossmith.cli import (
    cache,
    calibrate,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    import_recipe,
    inpaint,
    knob,
    models,
    plugins,
    report,
    restore,
    sample,
    studio,
    style,
    train,
    tune,
)
from lossmith.cli.help_format import CommandApp
from lossmith.cli.memory import reuse_memory
from lossmith.cli.words import expand_home

__all__ = ["app", "main"]

INTERRUPTED = 130  # typer's exit status after Ctrl-C

app = CommandApp(
    name="lossmith",
    help="Write the loss of an image network as one formula, train with it, and measure its effect.",
    epilog='Start with: lossmith explain "L1 + 0.002*perceptual"  and  lossmith train super-resolution --help',
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (
    demo,
    train,
    evaluate,
    restore,
    inpaint,
    style,
    sample,
    models,
    export,
    studio,
    knob,
    tune,
    report,
    cache,
    explain,
    calibrate,
    doctor,
    import_recipe,
    plugins,
):
    command.register(app)


def print_version(asked: bool) -> None:
    """Print the version and end, if it was asked for."""
    if asked:
        from lossmith import __version__

        print(f"lossmith {__version__}")
        raise typer.Exit


@app.callback()
def accept_options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; allowed at any position."),
    plugin: str = typer.Option(
        "",
        metavar="FILE.py|MODULE",
        help="Run this Python file or module first, which registers losses, lenses and networks of your own; allowed "
        "at any position, and repeatable.",
    ),
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True, callback=print_version),
) -> None:
    """Accept the options before the command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit status: 0, 2 after an error, which is printed as one line to standard error, or 130 after Ctrl-C, so
        that ``lossmith train ... && lossmith evaluate ...`` does not go on.
    """
    if arguments is None:  # the process is this command's alone
        reuse_memory()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [expand_home(word) for word in words if word != "--debug"]
    warnings.showwarning = print_warning  # type: ignore[assignment]  # the other arguments are unused
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name of a file need not be text in the encoding of the terminal
            stream.reconfigure(errors="backslashreplace")
    try:
        words = run_plugins(words)
        status = app(words, prog_name="lossmith", standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        sys.stderr.close()
        return 2
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        if text := format_error(error):
            print(f"lossmith: {text}", file=sys.stderr)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt | typer.Abort) else 2


def run_plugins(words: Sequence[str]) -> list[str]:
    """Run the plugins that a command line names, and return its other words.

    Raises:
        ValueError: A plugin cannot be run, or ``--plugin`` has no value.
    """
    rest: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if word == "--plugin" or word.startswith("--plugin="):
            source = word.partition("=")[2] or next(remaining, "")
            if not source or source.startswith("-"):
                raise ValueError("--plugin needs a Python file or a module, such as --plugin my_losses.py.")
            load_plugin(source)
        else:
            rest.append(word)
    return rest


def format_error(error: BaseException) -> str:
    """Return an error as one line; a formula that cannot be parsed keeps its caret below.

    The line is empty for a group without a command, whose help typer has printed.
    """
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "stopped."
    if hasattr(error, "format_message"):  # an error of the command line itself
        command = getattr(getattr(error, "ctx", None), "command_path", "lossmith")
        if not (text := error.format_message()):
            return ""
        return f"{text if text.endswith(('.', '?')) else text + '.'} See: {command} --help"
    if isinstance(error, ModuleNotFoundError):
        return f"this command needs the package {error.name!r}, which is not installed: pip install -e '.[all]'"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{str(error.filename)!r}: {error.strerror.lower()}."
    if isinstance(error, ValueError | OSError):
        return str(error)
    text = (str(error).splitlines() or [""])[0]
    if "out of memory" in text or isinstance(error, MemoryError):
        return f"out of memory ({text}); use a smaller --batch or --crop."
    return f"{type(error).__name__}: {text} (unexpected; --debug shows the traceback)"


def print_warning(message: Warning | str, category: type[Warning], *place: object) -> None:
    """Print a warning as one line, without its source line."""
    if not issubclass(category, DeprecationWarning | FutureWarning):
        print(f"lossmith: note: {str(message).splitlines()[0]}", file=sys.stderr)
