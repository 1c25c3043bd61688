"""`lossmith knob verify`: a comparison of one network with a knob with several networks without."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lossmith._format import print_text
from lossmith.cli.common_options import Device, Inputs
from lossmith.cli.options_command import OptionsCommand

__all__ = ["register"]

EPILOG = """Examples:

  lossmith knob verify runs/knob --images Kodak24/ --train

  lossmith knob verify runs/knob --images Kodak24/ --json"""

HELP = """Certify a knob: its hypervolume, monotonicity, range and gaps beside baselines of the same total compute.

The knob is certified twice: by its conditioned layers, and by interpolation of the outputs at its ends. RUN/verify
holds the baseline networks, which are trained once, and the certificate as text, JSON and figure. Without
baselines the command prints the knob's curves."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", cls=OptionsCommand, help=HELP, epilog=EPILOG)(VerifyOptions)


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """The options of ``lossmith knob verify``."""

    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a completed training with one knob.")]
    images: Annotated[
        str, typer.Option(help="Folder of images, or shards, that were used neither for training nor for tuning.")
    ]
    inputs: Inputs = None
    train: Annotated[
        bool,
        typer.Option("--train", help="Train the missing baseline networks, for as many steps as the run in total."),
    ] = False
    values: Annotated[
        int | None,
        typer.Option(min=2, help="Number of baseline networks that share the run's steps \\[the existing ones, or 5]."),
    ] = None
    equal_length: Annotated[
        list[float] | None,
        typer.Option(
            metavar="LAM", help="Knob value of a further baseline with all of the run's steps; may be repeated."
        ),
    ] = None
    shorter: Annotated[
        list[int] | None,
        typer.Option(
            metavar="K", help="Compare with a knob network trained for K / VALUES of the steps; may be repeated."
        ),
    ] = None
    realism: Annotated[
        list[str] | None,
        typer.Option(help="Realism metric: lpips_alex, dists or swd; may be repeated \\[lpips_alex and swd]."),
    ] = None
    limit: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of images, evenly spread over the folder.")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as one line of JSON.")] = False
    device: Device = "auto"

    def execute(self) -> None:
        """Verify the knob, and print the certificate."""
        from rich.console import Console

        from lossmith.cli.tables import print_omissions
        from lossmith.device import resolve_device
        from lossmith.knob.report.certificate import format_certificate
        from lossmith.knob.verification import DEFAULT_REALISM, check_realism_metrics, verify_knob

        console = Console(highlight=False, soft_wrap=True, stderr=self.as_json)
        record, series = verify_knob(
            self.run,
            self.images,
            inputs=self.inputs,
            values=self.values,
            equal=self.equal_length or [],
            shorter=self.shorter or [],
            realism=check_realism_metrics(self.realism) if self.realism else DEFAULT_REALISM,
            train_missing=self.train,
            limit=self.limit,
            device=resolve_device(self.device),
            console=console,
        )
        text, line = format_certificate(record), json.dumps(record, allow_nan=False)
        figure = choose_figure(self.run / "verify", Path(self.images))
        if record["certified"] is not None:
            write_certificate(figure, record, series, text, line)
        if self.as_json:
            print(line)
            return
        print_text(console, text)
        print_omissions(console, record["missing"], record["skipped"])
        if record["certified"] is not None:
            print_text(console, str(figure))


def choose_figure(folder: Path, images: Path) -> Path:
    """Return the file of the certificate on a folder of images, which replaces no certificate on other images.

    The file is named by the images' folder. If the certificate of this name is on other images, the name of the parent
    folder precedes, and so on.
    """
    parts = [part for part in images.resolve().parts if part.strip("/\\")]
    for count in range(1, len(parts) + 1):
        figure = folder / f"certificate_{'_'.join(parts[-count:])}.png".replace(":", "")
        try:
            record = json.loads(figure.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return figure
        if Path(record.get("images", "")).resolve() == images.resolve():
            return figure
    return figure


def write_certificate(figure: Path, record: dict[str, Any], series: Any, text: str, line: str) -> None:
    """Write a certificate as JSON, text and figure."""
    from lossmith._files import write_atomically, write_text_atomically
    from lossmith.knob.report.certificate_plot import draw_certificate

    write_text_atomically(figure.with_suffix(".json"), line + "\n")
    write_text_atomically(figure.with_suffix(".txt"), text + "\n")
    write_atomically(figure, lambda partial: draw_certificate(record, series, partial))
