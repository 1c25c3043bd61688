"""A studio with a small network, and pages in the system's Chromium."""

import gc
import shutil
import warnings
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.models import EDSR, TexturedEDSR, save_network

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOOPBACK = ("127.0.0.1", "localhost")


class InlineWorker:
    """A worker that runs functions in this process."""

    def __init__(self, **_):
        pass

    def start(self):
        pass

    def run(self, _seconds, function, *args, **options):
        return function(*args, **options)


@pytest.fixture(scope="module", autouse=True)
def collect_sockets():
    """Collect, after the tests of a file, the sockets that Gradio leaves open, so that no later test is blamed."""
    yield
    with warnings.catch_warnings(action="ignore"):
        gc.collect()


@pytest.fixture(scope="session")
def make_image():
    """Return a function that makes a smooth image with some detail, of a height and a width."""

    def make(seed, size=(48, 64)):
        generator = np.random.default_rng(seed)
        coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8))
        smooth = np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC))
        return Image.fromarray((smooth + generator.normal(0, 6, (*size, 3))).clip(0, 255).astype(np.uint8))

    return make


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Return the folder of a network with a knob, knob.safetensors, and of two without, first and second."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = TexturedEDSR(4, channels=8, blocks=1, full_size_channels=4, texture_channels=4, texture_blocks=1)
    torch.nn.init.normal_(model.texture.tail.weight, std=0.02)
    save_network(model, folder / "knob.safetensors", {})
    for name in ("first", "second"):
        save_network(EDSR(4, channels=8, blocks=1), folder / f"{name}.safetensors", {})
    return folder


@pytest.fixture(scope="module")
def serve_studio():
    """Return a function that starts a studio in this process and returns its address."""
    pytest.importorskip("gradio", reason="pip install -e '.[studio]'")
    from lossmith.studio import StudioSettings, build_app
    from lossmith.studio.server import serve

    apps = []

    def start(sources, **settings):
        chosen = StudioSettings(device="cpu", requests_per_minute=100_000, **settings)
        apps.append(build_app([str(source) for source in sources], chosen))
        return serve(apps[-1], chosen, blocks=False)

    yield start
    for app in apps:
        app.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    """Return the system's Chromium."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium is installed")
    api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[test]'")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens an address as a new user; no page has an error or asks other computers."""
    contexts, requests, errors = [], [], []

    def open_address(address, **options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(90_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#studio-upload")
        return page

    yield open_address
    for context in contexts:
        context.close()
    outside = [url for url in requests if urlsplit(url).scheme not in ("data", "blob")]
    assert {urlsplit(url).hostname for url in outside} <= set(LOOPBACK)
    assert not errors
