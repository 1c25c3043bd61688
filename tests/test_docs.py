"""The documentation: every loss has its page, code runs, links and names exist, tables match the measurements."""

import ast
import doctest
import importlib
import itertools
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import lossmith
from lossmith import lenses, losses
from lossmith.formula import input_range

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXPERIMENT = ROOT / "experiments" / "what_losses_do"
PAGES = sorted(page for folder in (".", "losses", "models", "tasks", "zh") for page in (DOCS / folder).glob("*.md"))
FRONT = [ROOT / name for name in ("README.md", "README.zh-CN.md")]
TEXTS = [*FRONT, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *PAGES]
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[str]:
    """Return the Python blocks of a page."""
    return [textwrap.dedent(found[2]) for found in FENCE.finditer(page.read_text("utf-8"))]


@pytest.fixture
def table(monkeypatch):
    """The script that writes the tables."""
    monkeypatch.syspath_prepend(str(EXPERIMENT))
    import table

    yield table
    del sys.modules["table"], sys.modules["catalogue"]


def test_every_loss_lens_and_recipe_is_documented_once():
    documented = [
        name
        for page in PAGES
        for name in re.findall(r"^::: lossmith\.(?:losses\.|lenses\.)?(\w+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    public = {name for name in (*losses.__all__, *lenses.__all__) if not name.endswith("WeightsError")}
    assert not public - set(documented), "add '::: lossmith.losses.NAME' to the page of its family in docs/losses/"
    assert len(documented) == len(set(documented))
    assert not set(documented) - public - set(lossmith.__all__) - {"noise_levels", "diffusion"}  # modules


def test_every_page_is_in_the_navigation_once():
    named = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_links_and_images_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith("http")]
    assert not [link for link in links if not (page.parent / link).exists()]


def test_every_path_in_the_repository_that_a_page_names_exists():
    roots = (ROOT, ROOT / "src" / "lossmith")
    elsewhere = {"tests/FR_benchmark_results.csv"}  # of IQA-PyTorch
    for page in TEXTS:
        text = page.read_text("utf-8")
        found = re.findall(r"`((?:src|tests|docs|experiments|bench)/[\w./-]+?|\w+/[\w/]+\.py)/?`", text)
        found += re.findall(r"python ([\w/]+\.py)", text)
        missing = [path for path in found if not any((root / path).exists() for root in roots)]
        assert set(missing) <= elsewhere, f"{name_of(page)} names {missing}"


def test_every_test_that_a_page_names_exists():
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)", tests))
    named = {name for page in TEXTS for name in re.findall(r"`(test_\w+)`", page.read_text("utf-8"))}
    assert named
    assert not named - defined


BLOCKS = [
    pytest.param(page, block, id=f"{name_of(page)}-{i}")
    for page in [*FRONT, *PAGES]
    for i, block in enumerate(blocks_of(page))
]


@pytest.mark.slow
@pytest.mark.parametrize("page, block", BLOCKS)
def test_each_python_block_runs_when_it_is_pasted_alone(page, block, tmp_path, monkeypatch):
    if "Timm(" in block:
        pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(input_range, "MAX_CHECKS", 100)  # which other tests do without
    monkeypatch.setattr(input_range, "_checks", itertools.count())
    names: dict[str, Any] = {"__name__": "__main__"}
    if ">>>" in block:
        test = doctest.DocTestParser().get_doctest(block, names, page.name, None, None)
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test).failed == 0
        return
    try:
        exec(compile(block, page.name, "exec"), names)
    except lossmith.MissingWeightsError as missing:
        assert page not in FRONT, "the README must run offline"
        pytest.skip(str(missing))


def test_the_example_of_the_contributing_page_is_a_loss():
    (block,) = blocks_of(ROOT / "CONTRIBUTING.md")
    names = {}
    exec("from lossmith.losses.pixel import *\nfrom lossmith.losses import pixel", names)
    names |= vars(names["pixel"])
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    example = doctest.DocTestParser().get_doctest(names["Welsch"].__doc__, names, "Welsch", None, None)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0
    assert repr(names["Welsch"](0.25)) == "Welsch(0.25)"


@pytest.mark.parametrize("page", FRONT, ids=name_of)
def test_the_readme_fits_on_one_screen(page):
    assert len(page.read_text("utf-8").splitlines()) <= 110


def test_the_chinese_readme_has_the_code_of_the_english_one():
    def code(page: Path) -> list[str]:
        return [ast.unparse(ast.parse(block)) for block in blocks_of(page)]

    assert code(FRONT[0]) == code(FRONT[1])


@pytest.mark.parametrize("page", FRONT, ids=name_of)
def test_the_numbers_of_the_readme_are_those_measured(page):
    measured = json.loads((ROOT / "bench" / "hybrid_step.json").read_text("utf-8"))
    summary, text = measured["summary"], page.read_text("utf-8")
    kept = {
        row["contender"]: row["kept"] / 1e6
        for row in measured["rows"]
        if (row["load"], row["side"], row["precision"]) == ("hybrid", 192, "fp32") and "kept" in row
    }
    ratios = [
        summary[f"{quantity}_{library}{ending}"]
        for library in ("piq", "basicsr_lpips")
        for quantity, ending in (("speedup", "_fp32"), ("speedup", "_fp32_as_asked"), ("kept_ratio", ""))
    ]
    numbers = [f"{ratio:.1f}" for ratio in ratios]
    numbers += [f"{kept[name]:.0f}" for name in ("lossmith, on one VGG-16", "piq", "BasicSR + lpips")]
    assert not [number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?!\.?\d)", text)]
    assert not [each for each in measured["about"]["versions"][:3] if each not in text]


def test_the_figures_of_losses_are_small_and_each_is_shown():
    figures = sorted((DOCS / "images" / "losses").glob("*.png"))
    pages = "".join(page.read_text("utf-8") for page in DOCS.glob("losses/*.md"))
    assert figures
    assert not [figure.name for figure in figures if figure.stat().st_size > 150_000]
    assert not [figure.name for figure in figures if f"](../images/losses/{figure.name})" not in pages]


def test_the_figure_of_the_layers_is_that_of_the_tested_layers(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "building"))
    import layers

    drawn = layers.draw(layers.read_layers())
    assert layers.FIGURE.read_text("utf-8") == drawn, "run python docs/building/layers.py"


def test_the_tables_are_those_that_were_measured(table):
    rows = json.loads((EXPERIMENT / "table.json").read_text())["rows"]
    assert [row["loss"] for row in rows] == [row.text for row in table.ROWS], "run experiments/what_losses_do/table.py"
    assert table.to_markdown(rows) in (DOCS / "losses" / "index.md").read_text("utf-8")
    for name in {row["page"] for row in rows}:
        own = table.to_markdown([row for row in rows if row["page"] == name])
        assert own in (DOCS / "losses" / f"{name}.md").read_text("utf-8")


def test_the_tables_agree_with_the_losses(table):
    rows = {row["loss"]: row for row in json.loads((EXPERIMENT / "table.json").read_text())["rows"]}
    for row in table.ROWS:
        loss = lossmith.parse(row.text)
        assert tuple(rows[row.text]["range"]) == (row.bounds or table.compute_range(loss))
        assert rows[row.text]["inputs"] == sorted(loss.input_names)


def test_every_loss_is_in_the_tables(table):
    text = " ".join(row.text for row in table.ROWS) + " ".join(repr(lossmith.parse(row.text)) for row in table.ROWS)
    missing = [name for name in losses.__all__ if not re.search(rf"\b{name}\b", text)]
    assert set(missing) <= {"External", "ms_ssim_l1"}  # not a formula; its five scales need 176 px


def test_every_loss_and_lens_is_in_the_list_of_names():
    text = (DOCS / "losses" / "index.md").read_text("utf-8").partition("## Range")[0]
    public = [name for name in (*losses.__all__, *lenses.__all__) if not name.endswith("WeightsError")]
    assert not [name for name in public if f"`{name}`" not in text]


def test_the_figures_are_those_of_the_result(table):
    from catalogue import FIGURES

    figures = json.loads((EXPERIMENT / "result.json").read_text())["pictures"]
    assert {name: each["loss"] for name, each in figures.items()} == FIGURES


def test_docstrings_become_markdown(monkeypatch):
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(str(DOCS / "building"))
    import docstrings

    assert doctest.testmod(docstrings).failed == 0


def options_of(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], set[str]]:
    """Return the options of a command and of all commands below it, by the command's words."""
    found = {
        path: {"--debug", "--plugin", *(flag for each in command.params for flag in (*each.opts, *each.secondary_opts))}
    }
    for name in getattr(command, "commands", ()):
        found |= options_of(command.get_command(None, name), (*path, name))
    return found


@pytest.fixture(scope="module")
def options() -> dict[tuple[str, ...], set[str]]:
    import typer

    from lossmith.cli import app

    return options_of(typer.main.get_command(app))


def command_lines(page: Path) -> list[str]:
    """Return the command lines of lossmith in a page's indented and inline code, without comments."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    code = re.findall(r"^ {4}(.+)|`([^`\n]+)`", text, re.MULTILINE)
    lines = [line.partition(" #")[0] for pair in code for line in pair]
    return [
        line[found.end() :] for line in lines if (found := re.search(r"(?:^|&& |srun |--no-python )lossmith ", line))
    ]


def test_every_command_line_that_a_page_shows_is_valid(options):
    wrong = []
    for page in TEXTS:
        for line in command_lines(page):
            words = re.sub(r"TASK\b|sweep\|", "", line).split()
            command: tuple[str, ...] = ()
            while words and (*command, words[0]) in options:
                command = (*command, words.pop(0))
            known = set().union(
                {"--help"}, *(flags for path, flags in options.items() if path[: len(command)] == command)
            )
            unknown = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", line)) - known
            if "impulse-noise" not in line and (unknown or not (command or line.startswith(("COMMAND", "--")))):
                wrong.append((name_of(page), line[:90], sorted(unknown)))
    assert not wrong


def test_every_option_that_a_page_names_exists(options):
    known = set().union(*options.values(), {"--help", "--runslow", "--signal", "--sides", "--quick"})
    known |= {"--task", "--start", "--longer", "--seeds"}  # of experiments/embedded_network/train_restorers.py
    wrong = []
    for page in TEXTS:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        text = re.sub(r"^  \|.*", "", text, flags=re.MULTILINE)  # the changelog's table of old names
        for code in re.findall(r"`([^`\n]+)`", text):
            if not re.search(r"\.py|pip |npm |torchrun", code):
                flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))
                wrong += [(name_of(page), flag) for flag in flags - known]
    assert not wrong


def resolve(name: str) -> object:
    """Return the module or the attribute of a dotted name."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_every_name_of_the_package_that_a_page_writes_exists():
    groups = {"lossmith.losses", "lossmith.models", "lossmith.optimizers", "lossmith.tasks", "lossmith.task_options"}
    for page in TEXTS:
        for name in sorted(set(re.findall(r"`(lossmith(?:\.\w+)+)", page.read_text("utf-8"))) - groups):
            if not name.startswith("lossmith.keras"):  # Keras takes its backend once a process
                resolve(name)
