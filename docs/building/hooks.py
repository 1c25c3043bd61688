"""What the site needs beyond mkdocs: formulas that show without script or network, and the pictures of experiments."""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.+?)\\[)\]]</\1>', re.DOTALL)
OUTSIDE = re.compile(r"\]\(((?:\.\./)+)(experiments/[^)]+)\)")


def on_page_content(content: str, **kwargs: Any) -> str:
    """Formulas as MathML, which browsers draw themselves."""
    return FORMULA.sub(lambda found: mathml(html.unescape(found[3]), found[2] == "["), content)


def mathml(tex: str, block: bool) -> str:
    """One formula; its source is what a screen reader, or whoever copies it, gets."""
    drawn = convert(tex.strip(), display="block" if block else "inline")
    return drawn.replace("<math ", f'<math aria-label="{html.escape(tex.strip())}" ', 1)


def on_files(files: Files, config: Any) -> Files:
    """Puts the pictures of experiments, which pages beside them show by their place in the repository, on the site."""
    root = Path(config.docs_dir).parent
    for picture in sorted(root.glob("experiments/*/*.png")):
        name = picture.relative_to(root).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Links to these pictures one folder nearer: docs is the site's root."""
    return OUTSIDE.sub(lambda found: f"]({found[1][3:]}{found[2]})", markdown)
