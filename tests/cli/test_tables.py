"""Text of the user is printed as it is: brackets are no markup, and colons no emoji."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from lossmith._format import print_text
from lossmith.cli.tables import print_full_width, print_omissions

NAMES = ["[dog] 1", "[bold]x[/bold]", "x[/y] z", "[/]", "a [link=b] c", "a:smile:b", "\\[a]", "a" * 200]


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=40)


@pytest.mark.parametrize("name", NAMES)
def test_text_is_printed_as_it_is(console, name):
    print_text(console, name)
    print_omissions(console, {"LPIPS": name}, [{"file": name, "reason": name}])
    expected = [name, f"LPIPS is not computed. {name}", f"Skipped {name}: {name}"]
    assert console.file.getvalue().splitlines() == expected


@pytest.mark.parametrize("name", NAMES)
def test_titles_headers_and_cells_of_tables_are_printed_as_they_are(console, name):
    table = Table(f"head {name}", title=f"title {name}")
    table.add_row(f"cell {name}")
    print_full_width(console, table)
    assert all(f"{part} {name}" in console.file.getvalue() for part in ("title", "head", "cell"))
