"""The formula tab in a browser, and its events without one."""

import pytest

pytest.importorskip("gradio")

from lossmith.parser import parse
from lossmith.studio.formula_tab import FormulaTab, find_cursor
from lossmith.studio.formula_view import cost_html, error_html, finding_rows, share_table, summary_html, term_rows
from lossmith.studio.settings import StudioSettings

from .conftest import InlineWorker

MARKUP = "<img src=x onerror=document.title=1>"


@pytest.fixture(scope="module")
def inline_worker():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lossmith.studio.formula_tab.Worker", InlineWorker)
        yield


@pytest.mark.parametrize(
    ("before", "after", "position"),
    [
        ("", "L1", 2),
        ("L1 + TV", "L1 + SSTV", 7),
        ("L1", "L1", 2),
        ("abc", "ac", 1),
        ("L1 + L1", "L1 + L", 6),
        ("aa", "aaa", 3),
    ],
)
def test_the_cursor_is_found_from_the_change_of_the_text(before, after, position):
    assert find_cursor(before, after) == position


def test_a_completion_is_inserted_where_the_text_was_changed(inline_worker):
    tab = FormulaTab(StudioSettings())
    _, found, typed = tab.suggest("L1 + perc * 2", "L1 + per * 2")
    assert [each.text for each in found] == ["perceptual"]
    assert tab.insert(0, typed, typed, found)[0] == "L1 + perceptual * 2"
    assert tab.insert(7, typed, typed, found)[0] == typed


def test_every_text_of_a_user_is_escaped_in_html():
    with pytest.raises(ValueError) as raised:
        parse(f"L1 + {MARKUP}")
    texts = [
        error_html(raised.value),
        error_html(ValueError(MARKUP)),
        summary_html({"names": [MARKUP], "knobs": [MARKUP]}),
    ]
    explanation = {"shape": (1, 3, 8, 8), "flops": 1, "mean_flops": 0, "saved_bytes": 0, "peak_bytes": 0}
    explanation |= {"shares": {MARKUP: 0.5}, "shared": MARKUP, "networks": {MARKUP: MARKUP}}
    texts.append(cost_html(explanation))
    for text in texts:
        assert "<img" not in text
        assert "&lt;img" in text


def test_the_caret_stands_below_the_error():
    with pytest.raises(ValueError) as raised:
        parse("L1 + TTV")
    lines = error_html(raised.value).splitlines()
    assert lines[0].endswith("L1 + TTV")
    assert lines[1].startswith("     ^")


def test_the_folder_of_a_weight_file_is_not_shown():
    explanation = {
        "shape": (1, 3, 8, 8),
        "flops": 0,
        "mean_flops": 0,
        "saved_bytes": 0,
        "peak_bytes": 0,
        "shares": None,
    }
    explanation |= {"shared": None, "networks": {"vgg16": "weights 0123 in '/home/ada/secret/vgg16.pth'"}}
    assert "<p>vgg16: weights 0123 in vgg16.pth</p>" in cost_html(explanation)


def test_tables_have_one_row_for_each_term_and_finding():
    term = {"name": "L1", "weight": "1.0", "inputs": ("pred",), "range": "0 to 1"}
    explanation = {
        "terms": [{**term, "values": {"equal": 0.0, "noisy": None, "unrelated": 0.5}}, {**term, "values": {}}]
    }
    assert [row[4:] for row in term_rows(explanation)] == [["0", "no weights", "0.5"], ["not of images"] * 3]
    report = {"terms": [{"name": "L1", "share": 0.25}, {"name": "TV", "share": None}]}
    assert share_table(report).to_numpy().tolist() == [["L1", 25.0]]
    assert finding_rows({"findings": []})[0][2] == "No problems found."


@pytest.fixture
def formula_page(open_page, serve_studio, weights, inline_worker):
    """Return a function that opens the tab at a size."""
    address = serve_studio([weights / "first.safetensors"])

    def open_tab(**options):
        page = open_page(address, **options)
        page.get_by_role("tab", name="Formula").click()
        page.locator("#formula-text textarea").wait_for()
        return page

    return open_tab


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Gradio leaves its sockets open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_formula_is_completed_examined_and_copied_in_a_browser(formula_page, make_image, tmp_path):
    make_image(0).save(tmp_path / f"{MARKUP}.png")
    (tmp_path / f"broken {MARKUP}.png").write_text("no image")
    page = formula_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    box = page.locator("#formula-text textarea")
    box.fill("")
    box.press_sequentially("L1 + 0.1*SSI")
    page.locator("#formula-status", has_text="did you mean 'SSIM'?").wait_for()
    caret = page.locator(".formula-caret").inner_text().splitlines()
    assert caret[1].index("^") == caret[0].index("SSI")
    page.locator("#formula-completions button", has_text="SSIM(").first.click()
    page.locator("#formula-status", has_text="2 terms: L1, SSIM").wait_for()
    assert box.input_value() == "L1 + 0.1*SSIM"

    page.set_input_files("#formula-images input[type=file]", [str(file) for file in sorted(tmp_path.iterdir())])
    page.locator("#formula-images", has_text="KB").or_(page.locator("#formula-images", has_text=" B")).first.wait_for()
    page.locator("#formula-examine").click()
    page.locator("#formula-findings", has_text="No problems found.").wait_for()
    assert page.locator("#formula-gradients img").count() == 4
    assert page.locator("#formula-shares svg, #formula-shares canvas").count() >= 1
    assert "Not used: broken" in page.locator("#formula-measured").inner_text()
    page.get_by_text("Copy as Python").click()
    page.locator(".cm-content", has_text="lossmith train").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    box.fill(f"L1 + '{MARKUP}'")
    page.locator("#formula-examine").click()
    page.get_by_test_id("toast-text").first.wait_for()
    assert page.title() == "lossmith studio"
    assert page.locator("img[src=x]").count() == 0
