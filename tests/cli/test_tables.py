"""Text of the user is printed as it is: brackets are no markup, and colons no emoji."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from lossmith._format import print_table, print_text
from lossmith.cli.tables import print_omissions

NAMES = ["[dog] 1", "[bold]x[/bold]", "x[/y] z", "[/]", "a [link=b] c", "a:smile:b", "\\[a]", "a" * 200]


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=40)


@pytest.mark.parametrize("name", NAMES)
def test_text_is_printed_as_it_is(console, name):
    print_text(console, name)
    print_omissions(console, {"LPIPS": name}, [{"file": name, "reason": name}])
    expected = [name, f"LPIPS is not computed. {name}", f"Skipped {name!r}: {name}."]
    assert console.file.getvalue().splitlines() == expected


@pytest.mark.parametrize("name", NAMES)
def test_titles_headers_and_cells_of_tables_are_printed_as_they_are(console, name):
    table = Table(f"head {name}", title=f"title {name}")
    table.add_row(f"cell {name}")
    print_table(console, table)
    assert all(f"{part} {name}" in console.file.getvalue() for part in ("title", "head", "cell"))


ROWS = {
    "terms": [
        ["term", "weight", "reads", "range", "equal", "noisy", "unrelated"],
        ["perceptual", "GradientShare(60.0)", "pred, target", "from 0", "0", "11.3611", "73.8115"],
        ["ConsistencyL1", "1e-06 * lam", "pred, target, mask", "0 to 1", "0", "3.373e-06", "1.321e-05"],
    ],
    "captions": [
        ["guidance", "joint", "colour", "shape", "position", "KID", "diversity", "train/held", "copies"],
        *[[f"{i}", *["0.123"] * 4, "0.1234", "12.34", "1.234", "0.012"] for i in range(3)],
    ],
    "names": [["image", "psnr_y"], ["folder/" + "a" * 70 + ".png", "28.12"]],
    "prose": [["finding", "remedy"], ["word " * 40, "another " * 30]],
}


def build_table(rows, **columns):
    table = Table(title="title")
    for head in rows[0]:
        table.add_column(head, **columns)
    for row in rows[1:]:
        table.add_row(*row)
    return table


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("name", ROWS)
def test_no_word_of_a_table_is_cut(name, is_terminal):
    console = Console(file=io.StringIO(), width=80, force_terminal=is_terminal, color_system=None)
    print_table(console, build_table(ROWS[name]))
    shown = console.file.getvalue()
    assert "…" not in shown
    assert all(word in shown.split() for row in ROWS[name] for cell in row for word in cell.split())
    if is_terminal and name != "names":
        assert max(map(len, shown.splitlines())) <= 80


def test_a_pipe_gets_a_row_in_one_line_except_in_limited_columns():
    console = Console(file=io.StringIO(), width=80)
    print_table(console, build_table(ROWS["terms"]))
    assert "pred, target, mask" in console.file.getvalue()
    limited = Console(file=io.StringIO(), width=80)
    print_table(limited, build_table(ROWS["prose"], max_width=30))
    assert max(map(len, limited.file.getvalue().splitlines())) < 70
