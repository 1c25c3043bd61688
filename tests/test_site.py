"""The site: it builds, is read and searched without a server or a network, links its losses and names its images."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from report.browser import CHROMIUM, dump_page

from lossmith import losses

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SEARCH = """<!doctype html><body><iframe id="page" src="{url}" width="1200" height="900"></iframe>
<pre id="found"></pre><script>
const frame = document.getElementById("page");
frame.addEventListener("load", () => {{
  const page = frame.contentDocument, input = page.querySelector("input.md-search__input");
  setTimeout(() => {{
    page.querySelector("#__search").click();
    input.focus();
    input.value = "Charbonnier";
    for (const kind of ["keyup", "input"]) input.dispatchEvent(new Event(kind, {{ bubbles: true }}));
  }}, 800);
  setTimeout(() => {{
    const links = [...page.querySelectorAll(".md-search-result__link")].map((link) => link.getAttribute("href"));
    const count = page.querySelector(".md-search-result__meta").textContent;
    document.getElementById("found").textContent = [count, ...links].join(" ");
  }}, 8000);
}});
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built without a warning."""
    for part in ("material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(part)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def read(page: Path) -> str:
    return page.read_text("utf-8")


def first_cells(page: str) -> list[str]:
    """Return the first cell of each row of the tables of a page."""
    return re.findall(r"<tr>\s*<td[^>]*>(.*?)</td>", page, re.DOTALL)


def test_formulas_are_mathml(site):
    page = read(site / "losses" / "pixel.html")
    assert "<math" in page
    assert "arithmatex" not in page


def test_no_page_loads_anything_from_the_network(site):
    for file in site.rglob("*.html"):
        page = read(file)
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]* src="?([^\s">]+)', page)
        styles = [tag for tag in re.findall(r"<link[^>]*>", page) if 'rel="stylesheet"' in tag or "preconnect" in tag]
        loaded += [source for tag in styles for source in re.findall(r'href="([^"]+)"', tag)]
        assert loaded
        assert not [source for source in loaded if source.startswith(("http", "//"))], file.name


def test_pages_opened_from_a_folder_have_a_search_index_and_a_worker(site):
    assert read(site / "search" / "search_index.js").startswith("var __index")
    assert "../building/iframe-worker-shim.js" in read(site / "losses" / "pixel.html")
    assert (site / "building" / "iframe-worker-shim.js").is_file()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_search_finds_a_loss_in_pages_opened_from_a_folder(site, tmp_path):
    dom = dump_page(SEARCH.format(url=(site / "losses" / "index.html").as_uri()), tmp_path, seconds=15)
    found = html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)[1])
    assert "matching document" in found
    assert "losses/pixel.html#lossmith.losses.Charbonnier" in found


@pytest.mark.parametrize("name", losses.__all__)
def test_each_loss_in_the_table_links_to_its_page(site, name):
    page = read(site / "losses" / "index.html")
    cells = [cell for cell in first_cells(page) if re.search(rf">\s*{name}\s*<", cell)]
    assert cells
    link = re.search(rf'<a [^>]*href="([^"#]*)#lossmith\.losses\.{name}"[^>]*><code>{name}</code></a>', cells[0])
    assert link, cells[0]
    target = site / "losses" / (link[1] or "index.html")
    assert f'id="lossmith.losses.{name}"' in read(target)


def test_each_row_of_measured_values_links_to_its_loss(site):
    for file in (site / "losses").glob("*.html"):
        assert not [cell for cell in first_cells(read(file)) if re.fullmatch(r"\s*<code>\w+\(.*", cell)], file.name


def test_each_image_has_a_visible_name(site):
    count = 0
    for file in site.rglob("*.html"):
        page = read(file)
        images = re.findall(r'<img [^>]*alt="([^"]+)"', page.partition("<article")[2].partition("</article>")[0])
        captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
        assert [alt for alt in images if alt not in captions] == [], file.name
        count += len(images)
    assert count > 40


def test_the_front_page_has_a_picture_an_installation_and_a_quick_start(site):
    page = read(site / "index.html").partition("<article")[2]
    places = [
        page.find(part) for part in ("<img ", '<h2 id="install">', "pip install", '<h2 id="quick-start">', "backward")
    ]
    assert places[0] > -1 and places == sorted(places)
    source = re.search(r'<img [^>]*src="([^"]+)"', page)[1]
    assert (site / source).is_file()
