"""The tab that restores an image: the page's parts and what happens when they are used."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from lossmith.data.formats.files import IMAGE_SUFFIXES
from lossmith.inference.image_network import ImageNetwork
from lossmith.studio.errors import user_errors
from lossmith.studio.session import ACCURATE, BRUSH_OPACITY, REALISTIC, ImageSession
from lossmith.studio.session_store import SessionStore
from lossmith.studio.settings import NETWORK, StudioSettings
from lossmith.studio.uploads import find_image, list_choices, read_upload
from lossmith.studio.viewer import encode_png, viewer_html
from lossmith.studio.whole_image import restore_whole_image

__all__ = ["ImageTab"]

SEND_KNOB = "(t) => { document.querySelector('.compare')?.dispatchEvent(new CustomEvent('knob', { detail: t })); }"
SEND_EXACT = "(x) => { document.querySelector('.compare')?.dispatchEvent(new CustomEvent('exact', { detail: x })); }"
SHOWN = 7
"""Number of parts of the page that show an image."""
EMPTY = '<p class="studio-empty">Drop an image on the left. It stays on the computer that runs the studio.</p>'


class ImageTab:
    """The tab that restores an image.

    Args:
        networks: The networks.
        settings: The settings.
    """

    def __init__(self, networks: Sequence[ImageNetwork], settings: StudioSettings) -> None:
        self.networks, self.settings = networks, settings
        self.sessions = SessionStore(settings.max_sessions)
        self.choices = list_choices(settings.images) if settings.images is not None else []
        self.has_knob = any(network.knob is not None for network in networks)

    def build(self) -> None:
        """Create the parts of the tab inside the current block, with their events."""
        with gr.Row(equal_height=False, elem_classes="studio-row"):
            with gr.Column(scale=2, min_width=300):
                self._build_inputs()
                self._build_knob()
            with gr.Column(scale=5, min_width=340):
                self.viewer = gr.HTML(EMPTY, elem_id="studio-viewer", apply_default_css=False)
                self.facts = gr.Markdown(elem_id="studio-facts")
                self._build_results()
        self.exact = gr.JSON(visible=False)
        self._connect()

    def _build_inputs(self) -> None:
        suffixes = sorted(IMAGE_SUFFIXES)
        self.upload = gr.File(label="Image", file_types=suffixes, height=130, elem_id="studio-upload")
        self.choice = gr.Dropdown(
            self.choices,
            value=None,
            label="Or an image of the folder",
            visible=bool(self.choices),
            elem_id="studio-choice",
        )
        with gr.Accordion("Truth, to compare with", open=False):
            self.truth = gr.File(
                label="The true image, of the size of the output",
                file_types=suffixes,
                height=130,
                elem_id="studio-truth",
            )
            self.no_truth = gr.Button("Remove the truth", size="sm")
        self.overview = gr.Image(
            label="The whole image; click to move the region",
            visible=False,
            interactive=False,
            buttons=[],
            type="pil",
            format="png",
            elem_id="studio-overview",
        )

    def _build_knob(self) -> None:
        self.knob = gr.Slider(
            0,
            1,
            0.5,
            step=0.01,
            label="Knob",
            info="0 accurate, 1 realistic",
            visible=self.has_knob,
            elem_id="studio-knob",
            buttons=[],
        )
        with gr.Row(visible=self.has_knob, elem_classes="studio-condition"):
            self.condition = gr.Textbox(
                "psnr>=28",
                show_label=False,
                container=False,
                scale=3,
                min_width=120,
                max_length=80,
                elem_id="studio-condition-text",
            )
            self.find = gr.Button("Find", scale=1, min_width=80, size="md")
        with gr.Accordion("Paint the knob", open=False, visible=self.has_knob, elem_id="studio-paint") as self.painting:
            gr.Markdown("Orange: realistic. Blue: accurate. Elsewhere the slider counts.")
            self.editor = gr.ImageEditor(
                type="pil",
                image_mode="RGBA",
                sources=[],
                transforms=[],
                layers=False,
                brush=gr.Brush(
                    colors=[(REALISTIC, BRUSH_OPACITY), (ACCURATE, BRUSH_OPACITY)], color_mode="fixed", default_size=24
                ),
                buttons=[],
                show_label=False,
                elem_id="studio-editor",
            )
            self.clear = gr.Button("Remove the painting", size="sm")
            self.map_file = gr.File(label="Map for --at map.png", visible=False, elem_id="studio-map")

    def _build_results(self) -> None:
        names = [(network.name, index) for index, network in enumerate(self.networks)]
        self.selected = gr.Dropdown(names, value=0, label="Restore with", visible=len(names) > 1)
        self.command = gr.Textbox(
            label="The same on the command line", interactive=False, buttons=["copy"], lines=1, elem_id="studio-command"
        )
        self.restore = gr.Button("Restore the whole image", elem_id="studio-restore")
        self.result = gr.File(label="Restored image", visible=False, elem_id="studio-result")

    def _connect(self) -> None:
        shown = [self.viewer, self.facts, self.command, self.overview, self.editor, self.result, self.map_file]
        exact = [self.exact, self.facts, self.command, self.map_file]
        options: dict[str, Any] = {**NETWORK, "api_visibility": "private", "show_progress_on": [self.viewer]}
        quiet: dict[str, Any] = {**options, "show_progress": "hidden"}
        send = {"fn": None, "inputs": [self.exact], "js": SEND_EXACT, "api_visibility": "private"}
        self.upload.upload(self.open_upload, [self.upload, self.knob], [self.upload, *shown], **options)
        self.choice.input(self.open_choice, [self.choice, self.knob], shown, **options)
        self.truth.upload(self.set_truth, [self.truth], [self.truth, *shown], **options)
        self.no_truth.click(self.remove_truth, None, shown, **options)
        self.overview.select(self.move_region, None, shown, **options)
        self.knob.input(None, [self.knob], js=SEND_KNOB, api_visibility="private")
        self.knob.release(self.turn, [self.knob], exact, trigger_mode="always_last", **quiet).success(**send)
        self.find.click(self.find_position, [self.condition], [self.knob, *exact], **options).success(
            None, [self.knob], js=SEND_KNOB, api_visibility="private"
        ).success(**send)
        self.editor.input(self.paint, [self.editor], exact, trigger_mode="always_last", **quiet).success(**send)
        self.clear.click(self.remove_painting, None, [*exact, self.editor], **quiet).success(**send)
        self.selected.input(self.select_network, [self.selected], [self.command], api_visibility="private")
        self.restore.click(self.restore_file, None, [self.result], **options)

    # Events

    def open_upload(self, file: str, knob: float, request: gr.Request) -> list[Any]:
        """Open an uploaded image, and empty the place for the next one."""
        try:
            return [None, *self._open(Path(file), knob, request)]
        except (ValueError, OSError) as error:
            return _refuse(error)

    def open_choice(self, name: str, knob: float, request: gr.Request) -> list[Any]:
        """Open an image of the studio's folder."""
        with user_errors():
            assert self.settings.images is not None
            return self._open(find_image(self.settings.images, name, self.choices), knob, request)

    def _open(self, file: Path, knob: float, request: gr.Request) -> list[Any]:
        image = read_upload(file, self.settings.max_megapixels)
        session = ImageSession(self.networks, file, image, self.settings.preview)
        session.position = knob
        shown = self._show(session)
        self.sessions.put(_user(request), session)
        return shown

    def set_truth(self, file: str, request: gr.Request) -> list[Any]:
        """Compare with a true image, and empty the place for the next one."""
        try:
            session = self.sessions.get(_user(request))
            session.set_truth(read_upload(Path(file), self.settings.max_megapixels))
            return [None, *self._show(session)]
        except (ValueError, OSError) as error:
            return _refuse(error)

    def remove_truth(self, request: gr.Request) -> list[Any]:
        """Compare with no true image."""
        with user_errors():
            session = self.sessions.get(_user(request))
            session.set_truth(None)
            return self._show(session)

    def move_region(self, event: gr.SelectData, request: gr.Request) -> list[Any]:
        """Move the region to the clicked point of the overview."""
        with user_errors():
            session = self.sessions.get(_user(request))
            x, y = event.index
            width, height = session.overview_size
            session.select_region((min(y / height, 1.0), min(x / width, 1.0)))
            return self._show(session)

    def turn(self, knob: float, request: gr.Request) -> list[Any]:
        """Compute the exact output at a position of the slider."""
        with user_errors():
            session = self.sessions.get(_user(request))
            session.position = knob
            return self._exact(session)

    def find_position(self, condition: str, request: gr.Request) -> list[Any]:
        """Turn the slider to the position that meets a condition."""
        with user_errors():
            session = self.sessions.get(_user(request))
            session.position = round(session.find_position(condition), 4)
            return [session.position, *self._exact(session)]

    def paint(self, painting: dict[str, Any], request: gr.Request) -> list[Any]:
        """Compute the output for the painting."""
        with user_errors():
            session = self.sessions.get(_user(request))
            session.paint(painting["layers"])
            return self._exact(session)

    def remove_painting(self, request: gr.Request) -> list[Any]:
        """Compute the output at the slider's position alone."""
        with user_errors():
            session = self.sessions.get(_user(request))
            session.painting = None
            return [*self._exact(session), self._editor_value(session)]

    def select_network(self, index: int, request: gr.Request) -> str:
        """Write the command for another network."""
        with user_errors():
            session = self.sessions.get(_user(request))
            session.selected = index
            return session.command()

    def restore_file(self, request: gr.Request) -> Any:
        """Restore the whole image for download."""
        with user_errors():
            file, line = restore_whole_image(self.sessions.get(_user(request)), self.settings.image_seconds)
            return gr.File(str(file), label=f"Restored image: {line}", visible=True)

    def forget(self, request: gr.Request) -> None:
        """Forget the image of a browser tab that was closed."""
        self.sessions.drop(_user(request))

    # What the page shows

    def _show(self, session: ImageSession) -> list[Any]:
        viewer = viewer_html(session.file.name, session.sides(), session.position, is_mapped=session.has_painting)
        is_whole = session.region[2:] == session.size
        overview = gr.Image(session.overview(), visible=not is_whole)
        editor = self._editor_value(session)
        shown = [viewer, session.describe(), session.command(), overview, editor]
        return [*shown, gr.File(visible=False), _map_value(session)]

    def _exact(self, session: ImageSession) -> list[Any]:
        images = {key: encode_png(image) for key, image in session.exact_outputs().items()}
        exact = {"knob": session.position, "isMapped": session.has_painting, "images": images}
        return [exact, session.describe(), session.command(), _map_value(session)]

    def _editor_value(self, session: ImageSession) -> Any:
        if not self.has_knob:
            return None
        image, layer = session.background(), session.painted_layer()
        return {"background": image, "layers": [] if layer is None else [layer], "composite": image}


def _refuse(error: Exception) -> list[Any]:
    """Show why a file was refused, empty its place, and leave the rest of the page; an error would leave the file."""
    gr.Warning(escape(str(error)), title="The file was refused")
    return [None, *(gr.skip() for _ in range(SHOWN))]


def _map_value(session: ImageSession) -> gr.File:
    """Return the painted map for download."""
    return gr.File(str(session.write_map()), visible=True) if session.has_painting else gr.File(visible=False)


def _user(request: gr.Request) -> str:
    """Return the key of a browser tab."""
    return str(request.session_hash)
