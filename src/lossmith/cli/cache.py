"""`lossmith cache`: the decoded images on disk; and the options of the commands that store them."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossmith._format import format_bytes, format_duration, print_table, print_text
from lossmith.cli.common_options import AsJson
from lossmith.tasks.options import option
from lossmith.train.settings import DATA

if TYPE_CHECKING:
    from lossmith.data.cache import CachedImage, CacheFolder, ImageCache

__all__ = ["CacheOptions", "cache_from_options", "register"]

EPILOG = """Examples:

  lossmith cache

  lossmith cache --remove photos/

  lossmith cache --remove all --cache /scratch/lossmith"""


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """The options of a command that trains on folders of images, from which :func:`cache_from_options` is made."""

    cache: Annotated[
        Path | None,
        option("Folder of decoded images; docs/data.md \\[$LOSSMITH_CACHE or ~/.cache/lossmith].", panel=DATA),
    ] = None
    cache_size: Annotated[
        float | None, option("Limit of this folder in GB \\[half of the free space].", panel=DATA, min=0)
    ] = None
    no_cache: Annotated[bool, option("Store no decoded images on disk.", "--no-cache", panel=DATA)] = False


def cache_from_options(options: Any) -> "ImageCache":
    """Return the cache that :class:`CacheOptions` stand for.

    Raises:
        ValueError: The options contradict each other, the folder is a file, or the limit is infinite.
    """
    from lossmith.data.cache import ImageCache, default_cache_folder

    if options.no_cache:
        if options.cache is not None or options.cache_size is not None:
            raise ValueError("--no-cache stores no images; omit --cache and --cache-size.")
        return ImageCache()
    folder = options.cache or default_cache_folder()
    check_is_no_file(folder)
    gigabytes = options.cache_size
    if gigabytes is not None and not math.isfinite(gigabytes * 1e9):
        raise ValueError(f"--cache-size must be a number of GB; got {gigabytes:g}. Omit it for half of the free space.")
    return ImageCache(folder, max_bytes=None if gigabytes is None else round(gigabytes * 1e9))


def check_is_no_file(folder: Path) -> None:
    """Raise ValueError if the folder of a cache is a file."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--cache must be a folder; {str(folder)!r} is a file.")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cache", epilog=EPILOG, rich_help_panel="Networks")(list_cache)


def list_cache(
    remove: Annotated[
        str | None,
        typer.Option(metavar="FOLDER|all", help="Remove the decoded images of a folder, or all and copies of shards."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of decoded images \\[$LOSSMITH_CACHE or ~/.cache/lossmith].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the decoded images that trainings have stored on disk, by folder, and copies of shards, or remove them.

    An image that is removed while a training uses it is decoded again, and a shard is copied again.
    """
    from rich.console import Console

    from lossmith.data.cache import CacheFolder, default_cache_folder
    from lossmith.data.shards.copies import ShardStore

    check_is_no_file(path := cache or default_cache_folder())
    folder, shards = CacheFolder(path), ShardStore(path / "shards")
    found = images_by_folder(folder)
    console = Console(highlight=False, soft_wrap=True)
    if remove is not None:
        chosen = select_images(found, remove)
        freed, copied = folder.remove(chosen), shards.clear() if remove == "all" else 0
        copies = f" and {format_bytes(copied)} of copied shards" if copied else ""
        images = f"{len(chosen)} decoded images, {format_bytes(freed)},"
        print_text(console, f"Removed {images}{copies} of {str(folder.path)!r}.")
        return
    rows = [describe_images(source, images) for source, images in sorted(found.items())]
    if as_json:
        print(json.dumps({"cache": str(folder.path), "folders": rows, "shard_bytes": shards.size()}, indent=2))
    else:
        print_rows(console, folder, rows)
        if size := shards.size():
            print_text(console, f"{str(shards.folder)!r} holds {format_bytes(size)} of shards copied from URLs.")


def images_by_folder(folder: "CacheFolder") -> dict[str, "list[CachedImage]"]:
    """Return the images of a cache by the folder of their files."""
    found: dict[str, list[CachedImage]] = {}
    for image in folder.recount():
        source = folder.source(image)
        found.setdefault(str(Path(source).parent) if source else "", []).append(image)
    return found


def select_images(found: "dict[str, list[CachedImage]]", remove: str) -> "list[CachedImage]":
    """Return the images of a folder and of its subfolders, or all.

    Raises:
        ValueError: There are none.
    """
    top = Path(remove).absolute()
    chosen = [
        image
        for source, images in found.items()
        if remove == "all" or (source and Path(source).is_relative_to(top))
        for image in images
    ]
    if not chosen and remove != "all":
        raise ValueError(f"The cache holds no images of {remove!r}; lossmith cache lists the folders.")
    return chosen


def describe_images(source: str, images: "list[CachedImage]") -> dict[str, Any]:
    """Return the row of a folder."""
    idle = time.time() - max(image.last_use for image in images)
    return {
        "folder": source or "(damaged)",
        "images": len(images),
        "bytes": sum(image.size for image in images),
        "idle_seconds": round(max(idle, 0)),
    }


def print_rows(console: Any, folder: "CacheFolder", rows: list[dict[str, Any]]) -> None:
    """Print the folders, and where their decoded images are."""
    from rich.table import Table

    total = format_bytes(sum(row["bytes"] for row in rows))
    if rows:
        table = Table("folder", "images", "size", "last use", title_justify="left")
        for row in rows:
            last_use = f"{format_duration(row['idle_seconds'])} ago" if row["idle_seconds"] > 3600 else "in this hour"
            table.add_row(row["folder"], str(row["images"]), format_bytes(row["bytes"]), last_use)
        print_table(console, table)
    print_text(console, f"{str(folder.path)!r} holds {total} of decoded images.")
