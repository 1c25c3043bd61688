"""The images of users: what is kept, what is painted, and what is refused."""

import numpy as np
import pytest

pytest.importorskip("gradio", reason="pip install -e '.[studio]'")

from lossmith.data.formats.files import read_stored
from lossmith.inference.image_network import ImageNetwork
from lossmith.studio import StudioSettings, serve
from lossmith.studio.session import ImageSession
from lossmith.studio.session_store import SessionStore
from lossmith.studio.uploads import find_image, read_upload
from lossmith.studio.whole_image import restore_whole_image


@pytest.fixture
def file(tmp_path, make_image):
    make_image(0, (20, 24)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def session(weights, file):
    return ImageSession([ImageNetwork.load(str(weights / "knob.safetensors"))], file, read_stored(file), 64)


def test_a_layer_of_the_painting_is_the_same_painting_again(session):
    session.select_region((0.0, 1.0))
    session.painting = np.zeros((20, 24), np.uint8), np.zeros((20, 24), np.uint8)
    rows, columns = session.region.window
    session.painting[0][rows, columns][2:5, 3:9], session.painting[1][rows, columns][2:5, 3:9] = 255, 255
    expected = session.knob_map()
    session.paint([session.painted_layer()])
    np.testing.assert_array_equal(session.knob_map(), expected)


def test_the_user_who_was_idle_longest_is_dropped_with_the_files(weights, file):
    network = ImageNetwork.load(str(weights / "first.safetensors"))
    sessions = [ImageSession([network], file, read_stored(file), 64) for _ in range(3)]
    store = SessionStore(2)
    for name, each in zip("ab", sessions[:2], strict=True):
        store.put(name, each)
    store.get("a")
    store.put("c", sessions[2])
    with pytest.raises(ValueError, match="drop an image"):
        store.get("b")
    assert store.get("a") is sessions[0]


def test_a_truth_of_another_size_is_refused(session, file):
    with pytest.raises(ValueError, match=r"The truth must have the size of the output, 96x80 px; got 24x20 px\."):
        session.set_truth(read_stored(file))


def test_a_large_image_is_refused_by_its_header(tmp_path):
    np.lib.format.open_memmap(tmp_path / "large.npy", mode="w+", dtype=np.uint8, shape=(3, 1200, 1000))
    with pytest.raises(ValueError, match="has 1000x1200 pixels; the studio takes up to 1 megapixels"):
        read_upload(tmp_path / "large.npy", 1)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "b.png"])
def test_a_name_outside_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="There is no image"):
        find_image(tmp_path, name, ["a.png"])


def test_a_port_in_use_raises_one_line():
    class App:
        def launch(self, **options):
            raise OSError(f"Cannot find empty port in range: {options['server_port']}. Set GRADIO_SERVER_PORT.")

    with pytest.raises(ValueError, match=r"^The port 7999 is in use; choose another one with --port\.$"):
        serve(App(), StudioSettings(port=7999), blocks=False)


def test_the_restoration_of_a_whole_image_ends_at_its_time_limit(weights, tmp_path, make_image):
    make_image(0, (16, 600)).save(tmp_path / "wide.png")
    network = ImageNetwork.load(str(weights / "first.safetensors"))
    session = ImageSession([network], tmp_path / "wide.png", read_stored(tmp_path / "wide.png"), 64)
    with pytest.raises(ValueError, match="stopped after 0 seconds, at 1 of 3 tiles"):
        restore_whole_image(session, 0)
    assert restore_whole_image(session, 600)[0].is_file()
