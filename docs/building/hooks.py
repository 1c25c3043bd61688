"""Hooks of the site: formulas as MathML, visible names of images, links in tables, and the figures of experiments."""

import html
import re
from pathlib import Path
from typing import Any

from docstrings import LINKED
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.+?)\\[)\]]</\1>', re.DOTALL)
IMAGES = re.compile(r"<p>((?:\s*<img [^>]*>)+)\s*</p>")
IMAGE = re.compile(r'<img [^>]*?alt="([^"]*)"[^>]*>')
FIRST_CELL = re.compile(r"^(\| *)((?:`[^`|]+`(?:, )?)+)(?= *\|)", re.MULTILINE)
OUTSIDE = re.compile(r"\]\(((?:\.\./)+)(experiments/[^)]+)\)")


def on_page_content(content: str, **kwargs: Any) -> str:
    """Convert formulas to MathML, and images that stand alone to figures with their names below them."""
    content = IMAGES.sub(lambda found: IMAGE.sub(figure, found[1]), content)
    return FORMULA.sub(lambda found: mathml(html.unescape(found[3]), found[2] == "["), content)


def figure(found: re.Match[str]) -> str:
    """Return an image as a figure with its alternative text as the caption."""
    return f"<figure>{found[0]}<figcaption>{found[1]}</figcaption></figure>" if found[1] else found[0]


def mathml(tex: str, block: bool) -> str:
    """Return a formula as MathML, with its TeX source as the label."""
    drawn = convert(tex.strip(), display="block" if block else "inline")
    return drawn.replace("<math ", f'<math aria-label="{html.escape(tex.strip())}" ', 1)


def on_files(files: Files, config: Any) -> Files:
    """Add the figures of experiments, which pages link by their path in the repository, to the site."""
    root = Path(config.docs_dir).parent
    for figure in sorted(root.glob("experiments/*/*.png")):
        name = figure.relative_to(root).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Link losses in tables, and shorten the links to figures by one folder, since docs is the root of the site."""
    if page.file.src_uri.startswith("losses/"):
        markdown = FIRST_CELL.sub(lambda found: found[1] + re.sub("`([^`]+)`", link_formula, found[2]), markdown)
    return OUTSIDE.sub(lambda found: f"]({found[1][3:]}{found[2]})", markdown)


def link_formula(found: re.Match[str]) -> str:
    """Return a formula as code, with a link to the reference of its first loss or lens."""
    documented = [name for name in re.findall(r"[A-Za-z_]\w*", found[1]) if name in LINKED]
    return f"[{found[0]}][{LINKED[documented[0]]}]" if documented else found[0]
