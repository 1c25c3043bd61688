"""`lossmith studio`: a page in the browser that restores images with a knob and examines a formula."""

from pathlib import Path
from typing import Annotated

import typer

from lossmith.cli.common_options import Device

__all__ = ["register"]

EPILOG = """Examples:

  lossmith studio

  lossmith studio runs/knob --images photos/

  lossmith studio runs/pixel runs/perceptual runs/gan

  lossmith studio --auth users.txt --add-user ada

  lossmith studio --host 0.0.0.0 --auth users.txt"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("studio", epilog=EPILOG, rich_help_panel="Networks")(open_studio)


def open_studio(
    networks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|CHECKPOINT]...",
            help="One to four run folders or files of weights \\[lossmith-x4, the x4 upscaler of the package].",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder whose images can be opened in the page.", show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; the default admits this computer only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int | None, typer.Option(help="Port \\[the first free one from 7860].", show_default=False)] = None,
    max_upload_mb: Annotated[int, typer.Option("--max-upload", min=1, help="Largest upload in megabytes.")] = 200,
    preview: Annotated[int, typer.Option(min=64, help="Side of the region that is shown, in output pixels.")] = 512,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|none",
            help="Password file, required where others reach the page; none admits everyone.",
            show_default=False,
        ),
    ] = None,
    add_user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Add a user to --auth FILE, ask for the password, and end.", show_default=False
        ),
    ] = None,
    public_name: Annotated[
        str | None,
        typer.Option(help="Name under which a proxy on this computer serves the page.", show_default=False),
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Computations that may wait.")] = 32,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a client in a minute.")] = 1200,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page in the browser.")] = False,
    device: Device = "auto",
) -> None:
    """Turn the knob of a network in the browser, paint where it may invent detail, and examine a formula.

    The page is served on this computer, loads nothing from the network and sends nothing anywhere. Ctrl-C ends it.
    """
    from lossmith.models.shipped import DEFAULT_UPSCALER
    from lossmith.studio import StudioSettings, build_app, serve

    if add_user is not None:
        store_password(auth, add_user)
        return
    settings = StudioSettings(
        host=host,
        port=port,
        images=images,
        device=device,
        max_upload_mb=max_upload_mb,
        preview=preview,
        opens_browser=browser,
        auth=None if auth is None else "none" if auth == "none" else Path(auth),
        public_name=public_name,
        queue_length=queue,
        requests_per_minute=requests,
    )
    serve(build_app(networks or [DEFAULT_UPSCALER], settings), settings)


def store_password(auth: str | None, name: str) -> None:
    """Ask for the password of a user, and write its hash to the password file."""
    from lossmith.studio.passwords import PasswordFile

    if auth in (None, "none"):
        raise ValueError("--add-user needs the password file: --auth FILE.")
    password = typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True)
    PasswordFile(Path(str(auth))).add(name, password)
    print(f"{name} can log in with {auth}.")
