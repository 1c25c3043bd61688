"""The command line; every command lives in a file of its own and asks for what it needs when it runs."""

import sys
import warnings
from collections.abc import Sequence

import typer

from lossmith.cli import (
    calibrate,
    demo,
    doctor,
    evaluate,
    explain,
    inpaint,
    knob,
    models,
    report,
    restore,
    sample,
    style,
    train,
    tune,
)

__all__ = ["app", "main"]

INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    name="lossmith",
    help="Write the loss of an image network as one formula, train with it, and see what it did.",
    epilog='Start with: lossmith explain "L1 + 0.1*perceptual"  and  lossmith train super-resolution --help',
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
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
    knob,
    tune,
    report,
    explain,
    calibrate,
    doctor,
):
    command.register(app)


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show where an error came from; stands anywhere in the line."),
) -> None:
    """Takes the options that stand before the command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Returns:
        The exit status: 0, or 2 after an error, of which one line is on the standard error stream.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    warnings.showwarning = warned  # type: ignore[assignment]  # the rest of its arguments are of no interest
    try:
        status = app(words, prog_name="lossmith", standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 2
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        print(f"lossmith: {line(error)}", file=sys.stderr)
        return 2


def line(error: BaseException) -> str:
    """An error as one line; a formula that cannot be read keeps its caret below."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "stopped."
    if hasattr(error, "format_message"):  # of the command line itself
        where = getattr(getattr(error, "ctx", None), "command_path", "lossmith")
        text = error.format_message()
        return f"{text if text.endswith(('.', '?')) else text + '.'} See: {where} --help"
    if isinstance(error, ModuleNotFoundError):
        return f"this needs the package {error.name!r}, which is not installed: pip install -e '.[all]'"
    if isinstance(error, ValueError | OSError):
        return str(error)
    text = (str(error).splitlines() or [""])[0]
    if "out of memory" in text or isinstance(error, MemoryError):
        return f"the memory is full ({text}); take a smaller --batch or --crop."
    return f"{type(error).__name__}: {text} (unexpected; --debug shows where)"


def warned(message: Warning | str, category: type[Warning], *place: object) -> None:
    """A warning as one line, without the line of code that gave it."""
    if not issubclass(category, DeprecationWarning | FutureWarning):
        print(f"lossmith: note: {str(message).splitlines()[0]}", file=sys.stderr)
