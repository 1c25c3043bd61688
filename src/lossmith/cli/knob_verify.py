"""`lossmith knob verify`: whether one network with a knob is worth several without."""

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

EPILOG = """Examples:

  lossmith knob verify runs/knob --images Kodak24/ --train

  lossmith knob verify runs/knob --images Kodak24/ --json"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("verify", epilog=EPILOG)(verify)


def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run with one knob.")],
    images: Annotated[Path, typer.Option(help="Folder of pictures that neither the run nor you have tuned on.")],
    train: Annotated[
        bool,
        typer.Option(
            "--train", help="Train the networks to compare with, where they are missing: as many steps as the run."
        ),
    ] = False,
    values: Annotated[
        int | None,
        typer.Option(min=2, help="How many separate networks share the run's steps \\[those there are, or 5]."),
    ] = None,
    equal_length: Annotated[
        list[float] | None,
        typer.Option(metavar="LAM", help="Also a network of the run's full length at this place; may be repeated."),
    ] = None,
    shorter: Annotated[
        list[int] | None,
        typer.Option(metavar="K", help="Also a knob trained for K of VALUES parts of the steps; may be repeated."),
    ] = None,
    realism: Annotated[
        list[str] | None, typer.Option(help="An axis of realism: lpips_alex, dists or swd \\[lpips_alex and swd].")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Pictures at most, spread evenly over the folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as one line of JSON.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
) -> None:
    """Certify a knob: its hypervolume, monotony, range and gaps beside separate networks of the same total compute.

    Once for the knob turned by its layers, and once by mixing its ends. The networks lie in RUN/verify, and what is
    there is not trained again. Without them, and without --train, it gives the knob's curves alone. The certificate is
    kept there too, as text, JSON and figure, by the name of the pictures' folder. It says no when it is no.
    """
    from rich.console import Console

    from lossmith._files import write_atomically, write_text_atomically
    from lossmith.cli.networks import device_of
    from lossmith.knob.report.certificate import draw_certificate, format_certificate
    from lossmith.knob.verification import REALISM, check_realism_metrics
    from lossmith.knob.verification import verify_knob as verified

    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    record, series = verified(
        run,
        images,
        values=values,
        equal=equal_length or [],
        shorter=shorter or [],
        realism=check_realism_metrics(realism) if realism else REALISM,
        training=train,
        limit=limit,
        device=device_of(device),
        console=console,
    )
    text, line = format_certificate(record), json.dumps(record, allow_nan=False)
    place = run / "verify" / f"certificate_{images.resolve().name}.png"
    if record["certified"] is not None:
        write_text_atomically(place.with_suffix(".json"), line + "\n")
        write_text_atomically(place.with_suffix(".txt"), text + "\n")
        write_atomically(place, lambda partial: draw_certificate(record, series, partial))
    if as_json:
        print(line)
        return
    console.print(text, markup=False)
    for metric, why in record["missing"].items():
        console.print(f"Without {metric}. {why}", markup=False)
    for file in record["skipped"]:
        console.print(f"Skipped {file['file']}: {file['reason']}", markup=False)
    if record["certified"] is not None:
        console.print(str(place), markup=False)
