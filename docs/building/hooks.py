"""Hooks of the site: formulas as MathML, which needs no script and no network, and the figures of experiments."""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.+?)\\[)\]]</\1>', re.DOTALL)
OUTSIDE = re.compile(r"\]\(((?:\.\./)+)(experiments/[^)]+)\)")


def on_page_content(content: str, **kwargs: Any) -> str:
    """Convert formulas to MathML."""
    return FORMULA.sub(lambda found: mathml(html.unescape(found[3]), found[2] == "["), content)


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
    """Shorten the links to these figures by one folder, since docs is the root of the site."""
    return OUTSIDE.sub(lambda found: f"]({found[1][3:]}{found[2]})", markdown)
