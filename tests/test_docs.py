"""The documents: each loss has its page, code in them runs, links lead somewhere, tables are what the losses say."""

import doctest
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import lossmith
from lossmith import lenses, losses

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXPERIMENT = ROOT / "experiments" / "what_losses_do"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("losses/*.md"), *DOCS.glob("tasks/*.md")])
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())


@pytest.fixture
def table(monkeypatch):
    """The script that writes the tables."""
    monkeypatch.syspath_prepend(str(EXPERIMENT))
    import table

    yield table
    del sys.modules["table"], sys.modules["catalogue"]


def test_every_loss_lens_and_recipe_is_on_one_page():
    written = [
        name for page in PAGES for name in re.findall(r"^::: lossmith\.(\w+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    public = {name for name in (*losses.__all__, *lenses.__all__) if not name.endswith("Weights")}  # these are errors
    assert not public - set(written), "give each a line '::: lossmith.NAME' on the page of its family, docs/losses/"
    assert sorted(written) == sorted(public)


def test_every_page_is_in_the_navigation_once():
    named = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


@every_page
def test_links_and_pictures_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith("http")]
    assert not [link for link in links if not (page.parent / link).exists()]


@every_page
def test_the_python_in_it_runs(page):
    blocks = [textwrap.dedent(found[2]) for found in FENCE.finditer(page.read_text("utf-8"))]
    if any("Timm(" in block for block in blocks):
        pytest.importorskip("timm")
    names = {"torch": torch} | {name: getattr(lossmith, name) for name in lossmith.__all__}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags)
    for i, block in enumerate(blocks):
        if ">>>" not in block:
            try:
                exec(compile(block, f"{page.name}, block {i}", "exec"), names)
            except lossmith.MissingWeights as missing:
                pytest.skip(str(missing))
            continue
        test = doctest.DocTestParser().get_doctest(block, names, f"{page.name}, block {i}", None, None)
        assert runner.run(test, clear_globs=False).failed == 0
        names.update(test.globs)


def test_the_pictures_are_small_and_each_is_shown():
    pictures = sorted((DOCS / "images" / "losses").glob("*.png"))
    pages = "".join(page.read_text("utf-8") for page in DOCS.glob("losses/*.md"))
    assert pictures
    assert not [picture.name for picture in pictures if picture.stat().st_size > 150_000]
    assert not [picture.name for picture in pictures if f"](../images/losses/{picture.name})" not in pages]


def test_the_tables_are_those_that_were_measured(table):
    rows = json.loads((EXPERIMENT / "table.json").read_text())["rows"]
    assert [row["loss"] for row in rows] == [row.text for row in table.ROWS], "run experiments/what_losses_do/table.py"
    assert table.written(rows) in (DOCS / "losses" / "index.md").read_text("utf-8")
    for name in {row["page"] for row in rows}:
        own = table.written([row for row in rows if row["page"] == name])
        assert own in (DOCS / "losses" / f"{name}.md").read_text("utf-8")


def test_the_tables_say_what_the_losses_say(table):
    rows = {row["loss"]: row for row in json.loads((EXPERIMENT / "table.json").read_text())["rows"]}
    for row in table.ROWS:
        loss = lossmith.parse(row.text)
        assert tuple(rows[row.text]["range"]) == (row.bounds or table.bounds(loss))
        assert rows[row.text]["reads"] == sorted(loss.reads)


def test_every_loss_is_in_the_tables(table):
    told = " ".join(row.text for row in table.ROWS) + " ".join(repr(lossmith.parse(row.text)) for row in table.ROWS)
    missing = [name for name in losses.__all__ if not re.search(rf"\b{name}\b", told)]
    assert set(missing) <= {"Foreign", "ms_ssim_l1"}  # which no text can name; whose five scales want 176 px


def test_the_figures_under_the_pictures_are_in_the_result(table):
    from catalogue import SHOWN

    pictures = json.loads((EXPERIMENT / "result.json").read_text())["pictures"]
    assert {name: each["loss"] for name, each in pictures.items()} == SHOWN


def test_docstrings_become_markdown(monkeypatch):
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(str(DOCS / "building"))
    import docstrings

    assert doctest.testmod(docstrings).failed == 0


def test_the_site_builds_without_a_warning(tmp_path):
    for part in ("material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(part)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "losses" / "pixel.html").read_text("utf-8")
    assert "<math" in written
    assert "arithmatex" not in written
