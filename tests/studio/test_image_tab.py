"""The image tab in a browser: each result equals that of the library call that the command line makes."""

import base64
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lossmith.cli import main
from lossmith.data.formats.files import read_stored
from lossmith.inference.image_network import ImageNetwork
from lossmith.inference.region import Region, RegionRestorer

pytestmark = [
    pytest.mark.slow,
    # Gradio leaves the sockets open with which it looks for a free port
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

SIDE = 32
"""The side of the region in pixels of the input: 128 px of the output."""
WHOLE = Region(0, 0, SIDE, SIDE)


@pytest.fixture(scope="module")
def images(tmp_path_factory, make_image):
    """Return a folder with images: small, true, of 16 bits, broken, and with markup in its name."""
    folder = tmp_path_factory.mktemp("images")
    for seed, name in enumerate(("first", "second")):
        make_image(seed, (SIDE, SIDE)).save(folder / f"{name}.png")
    make_image(0, (4 * SIDE, 4 * SIDE)).save(folder / "truth.png")
    deep = np.random.default_rng(0).integers(0, 65536, (24, 30), np.uint16)
    Image.fromarray(deep).save(folder / "deep.png", dpi=(100, 100))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    make_image(3, (SIDE, SIDE)).save(folder / "<img src=x onerror=document.title=1>.png")
    return folder


@pytest.fixture(scope="module")
def address(serve_studio, weights, images):
    return serve_studio([weights / "knob.safetensors"], images=images, preview=4 * SIDE)


@pytest.fixture
def page(open_page, address):
    return open_page(address)


def drop(page, file, place="#studio-upload"):
    """Drop a file, and wait for the viewer of this image."""
    page.evaluate("document.querySelector('.compare')?.setAttribute('data-test', 'old')")
    page.set_input_files(f"{place} input[type=file]", str(file))
    page.wait_for_selector(".compare[data-mounted]:not([data-test])")


def side_image(page, side):
    """Return the image that the viewer shows for a side, as an array, and the opacities of its layers."""
    page.select_option(".compare .right", side)
    layers = page.eval_on_selector_all(".under img", "all => all.map((img) => [img.src, Number(img.style.opacity)])")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(layers[0][0].partition(",")[2]))))
    return pixels, [opacity for _, opacity in layers]


def restorer(weights, file, region=WHOLE):
    return RegionRestorer(ImageNetwork.load(str(weights / "knob.safetensors")), read_stored(file), region)


def expected(weights, file, knob, region=WHOLE):
    """Return what the library computes, (H, W, 3)."""
    return restorer(weights, file, region).restore(knob).samples.transpose(1, 2, 0)


def command(page):
    return page.locator("#studio-command textarea").input_value()


def wait_for_command(page, part):
    page.wait_for_function("part => document.querySelector('#studio-command textarea').value.includes(part)", arg=part)


def slider(page):
    return page.locator("#studio-knob input[type=range]")


def press_slider(page, fraction):
    """Move the pressed pointer to a fraction of the slider's length; the button stays down."""
    box = slider(page).bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * fraction, y, steps=4)


def test_a_dropped_image_is_shown_beside_bicubic_and_the_network(page, weights, images):
    drop(page, images / "first.png")
    assert page.eval_on_selector_all(".compare .left option", "all => all.map((o) => o.value)") == [
        "input",
        "bicubic",
        "run0",
    ]
    found, opacities = side_image(page, "run0")
    assert opacities == [1]
    np.testing.assert_array_equal(found, expected(weights, images / "first.png", 0.5))


def test_a_second_image_replaces_the_viewer_of_the_first(page, images):
    drop(page, images / "first.png")
    page.evaluate("window.first = document.querySelector('.compare'); 0")
    drop(page, images / "second.png")
    assert not page.evaluate("window.first.isConnected")  # otherwise both would draw
    assert page.locator(".compare").count() == 1
    assert page.locator(".compare .tiles figure").count() == 3


def test_a_drag_mixes_the_ends_in_the_page_and_ends_with_the_exact_output(page, weights, images):
    drop(page, images / "first.png")
    calls = []
    page.on("request", lambda request: calls.append(request.url) if "queue/join" in request.url else None)
    press_slider(page, 0.9)
    value = float(slider(page).input_value())
    layers = page.eval_on_selector_all(".under img", "all => all.map((img) => Number(img.style.opacity))")
    assert layers == [1, pytest.approx(value)]
    assert not calls  # no request while the pointer is down
    page.mouse.up()
    wait_for_command(page, f"--at {value:g} ")
    page.wait_for_function("document.querySelectorAll('.under img').length === 1")
    found, _ = side_image(page, "run0")
    np.testing.assert_array_equal(found, expected(weights, images / "first.png", value))


def test_the_keyboard_turns_the_knob_and_moves_the_wipe(page, weights, images):
    drop(page, images / "first.png")
    slider(page).focus()
    page.keyboard.press("ArrowRight")
    wait_for_command(page, "--at 0.51 ")
    page.focus(".compare .wipe")
    page.keyboard.press("Shift+ArrowRight")
    assert page.get_attribute(".compare .wipe", "aria-valuenow") == "60"


def test_a_stroke_of_the_brush_changes_the_painted_part_only(page, weights, images):
    drop(page, images / "first.png")
    page.get_by_text("Paint the knob").click()
    canvas = page.locator("#studio-editor canvas").first
    canvas.wait_for()
    page.wait_for_timeout(1000)  # the editor fits its image to the canvas
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.45 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.52 * box["width"], box["y"] + 0.47 * box["height"], steps=5)
    page.mouse.up()
    wait_for_command(page, "first.png first-restored.png --at map.png")
    with page.expect_download() as download:
        page.locator("#studio-map a").first.click()
    file = images.parent / "map.png"
    download.value.save_as(file)
    positions = np.asarray(Image.open(file))
    assert positions.shape == (SIDE, SIDE)
    assert positions.max() == 255
    assert positions[0, 0] == 128  # the slider's position
    page.wait_for_function("document.querySelectorAll('.under img').length === 1")
    out = images.parent / "painted.png"
    assert main(["restore", str(weights / "knob.safetensors"), str(images / "first.png"), str(out), "--at", str(file),
                 "--seed", "0", "--device", "cpu"]) == 0  # fmt: skip
    np.testing.assert_array_equal(side_image(page, "run0")[0], np.asarray(Image.open(out)))


def test_the_download_equals_the_output_of_the_command_with_its_depth_and_metadata(page, weights, images, tmp_path):
    drop(page, images / "deep.png")
    page.click("#studio-restore")
    with page.expect_download() as download:
        page.locator("#studio-result a").first.click()
    found = tmp_path / download.value.suggested_filename
    download.value.save_as(found)
    words = command(page).split()[1:]
    words[words.index("photos/")], words[words.index("restored/")] = str(images / "deep.png"), str(tmp_path / "out.png")
    assert main([*words, "--device", "cpu"]) == 0
    assert found.name == "deep.png"
    assert found.read_bytes() == (tmp_path / "out.png").read_bytes()
    image = read_stored(found)
    assert image.samples.dtype == np.uint16
    assert image.metadata.resolution == pytest.approx((400, 400), rel=1e-3)


def test_the_truth_is_compared_with_and_a_condition_finds_its_position(page, weights, images):
    drop(page, images / "first.png")
    page.get_by_text("Truth, to compare with").click()
    drop(page, images / "truth.png", "#studio-truth")
    assert page.locator(".compare .left option[value=truth]").count() == 1
    measured = restorer(weights, images / "first.png").measure(read_stored(images / "truth.png"), 0.5)
    assert f"PSNR-Y {measured['psnr_y']:.2f} dB" in page.locator("#studio-facts").inner_text()
    page.locator("#studio-condition-text").locator("input, textarea").fill(f"psnr<={measured['psnr_y'] + 0.001}")
    page.get_by_role("button", name="Find").click()
    page.wait_for_function("!document.querySelector('#studio-command textarea').value.includes('--at 0.5 ')")


def test_two_users_at_once_get_their_own_images(open_page, address, weights, images):
    first, second = open_page(address), open_page(address)
    for page, name in ((first, "first"), (second, "second")):
        page.set_input_files("#studio-upload input[type=file]", str(images / f"{name}.png"))
    for page in (first, second):
        page.wait_for_selector(".compare[data-mounted]")
        press_slider(page, 0.8)
    for page in (first, second):
        page.mouse.up()
    for page, name in ((first, "first"), (second, "second")):
        value = float(slider(page).input_value())
        wait_for_command(page, f"--at {value:g} ")
        page.wait_for_function("document.querySelectorAll('.under img').length === 1")
        np.testing.assert_array_equal(side_image(page, "run0")[0], expected(weights, images / f"{name}.png", value))


def test_a_broken_file_is_refused_in_one_line_and_the_page_goes_on(page, images):
    page.set_input_files("#studio-upload input[type=file]", str(images / "broken.png"))
    page.get_by_text("'broken.png' cannot be read as an image").wait_for()
    drop(page, images / "first.png")


def test_a_name_with_markup_is_text(page):
    page.locator("#studio-choice input").click()
    page.get_by_role("option").filter(has_text="onerror").click()
    page.wait_for_selector(".compare[data-mounted]")
    assert page.title() == "lossmith studio"
    assert "onerror" in page.locator("#studio-facts").inner_text()


def test_forty_megapixels_are_shown_by_a_region_that_moves(page, weights, tmp_path):
    shade = np.add.outer(np.arange(5000), np.arange(8000)) // 51
    Image.fromarray(np.dstack([shade, shade[::-1], shade[:, ::-1]]).astype(np.uint8)).save(tmp_path / "large.jpg")
    drop(page, tmp_path / "large.jpg")
    overview = page.locator("#studio-overview img")
    overview.wait_for()
    box = overview.bounding_box()
    page.evaluate("document.querySelector('.compare').dataset.test = 'old'")
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
    page.wait_for_selector(".compare[data-mounted]:not([data-test])")
    left, top = re.search(r"at (\d+),(\d+)", page.locator("#studio-facts").inner_text()).groups()
    corner = Region(int(top), int(left), SIDE, SIDE)
    assert corner.left > 7800 and corner.top > 4800
    np.testing.assert_array_equal(side_image(page, "run0")[0], expected(weights, tmp_path / "large.jpg", 0.5, corner))


def test_the_page_fits_the_width_of_a_phone(open_page, address, images):
    page = open_page(address, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    drop(page, images / "first.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".compare .stage").bounding_box()["width"] > 250


def test_networks_without_a_knob_are_compared_without_a_slider(open_page, serve_studio, weights, images):
    page = open_page(serve_studio([weights / "first.safetensors", weights / "second.safetensors"], preview=4 * SIDE))
    drop(page, images / "first.png")
    names = page.eval_on_selector_all(".compare .left option", "all => all.map((o) => o.text)")
    assert names == ["input", "bicubic", "first", "second"]
    assert not slider(page).is_visible()
    assert [page.eval_on_selector(f".compare .{side}", "s => s.value") for side in ("left", "right")] == [
        "run0",
        "run1",
    ]


def test_a_killed_server_is_reported(open_page, weights, images):
    words = ["studio", str(weights / "knob.safetensors"), "--device", "cpu"]
    with subprocess.Popen([sys.executable, "-m", "lossmith", *words], stdout=subprocess.PIPE, text=True) as server:
        address = server.stdout.readline().split()[-1]
        page = open_page(address)
        drop(page, images / "first.png")
        server.kill()
    page.click("#studio-restore")
    page.get_by_text("Connection").first.wait_for()
