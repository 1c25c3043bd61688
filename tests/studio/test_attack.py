"""Attacks on a running studio over HTTP: without a login, with forged paths and addresses, and with too much of all."""

import contextlib
import gc
import http.server
import json
import threading
from pathlib import Path

import httpx
import pytest

pytest.importorskip("gradio")

import gradio as gr

from lossmith.studio import StudioSettings, passwords
from lossmith.studio.formula_tab import build_formula_tab
from lossmith.studio.passwords import PasswordFile
from lossmith.studio.server import serve
from lossmith.studio.temporary import use_temporary_folder

from .conftest import InlineWorker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # Gradio leaves its sockets open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

OPEN_ADDRESSES = (
    "/assets",
    "/static",
    "/theme.css",
    "/favicon.ico",
    "/manifest.json",
    "/robots.txt",
    "/gradio_api/theme",
)
"""Addresses without content of a user, which the page of the login needs."""


@contextlib.contextmanager
def studio(**options):
    """Yield the address of a studio that has the formula tab only, and its Gradio application."""
    settings = StudioSettings(device="cpu", max_upload_mb=1, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lossmith.studio.formula_tab.Worker", InlineWorker)
        use_temporary_folder()
        with gr.Blocks(analytics_enabled=False) as app:
            build_formula_tab(settings)
        app.queue(max_size=settings.queue_length, api_open=False)
        try:
            yield serve(app, settings, blocks=False).rstrip("/"), app
        finally:
            app.close(verbose=False)
            gc.collect()


@pytest.fixture(scope="module")
def open_studio():
    with studio(requests_per_minute=100_000) as served:
        yield served


@pytest.fixture
def client(open_studio):
    with httpx.Client(base_url=open_studio[0], timeout=30) as client:
        yield client


def list_paths(routes):
    """Yield the paths of all routes, those of included routers too."""
    for route in routes:
        if isinstance(path := getattr(route, "path", None), str):
            yield path
        yield from list_paths(getattr(getattr(route, "original_router", None), "routes", ()))


def event_index(app, name):
    """Return the number of the event that calls a method of the tab."""
    return next(i for i, fn in app.fns.items() if getattr(fn.fn, "__name__", "") == name)


def call(client, index, data):
    """Run an event as the page does, and return its output or its error."""
    body = {"data": data, "fn_index": index, "session_hash": f"session{index}", "event_data": None}
    joined = client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return {"status": joined.status_code, **joined.json()}
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": f"session{index}"}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return message["output"]
    return {}


def test_nothing_but_the_page_of_the_login_is_served_without_a_password(tmp_path, monkeypatch):
    monkeypatch.setattr(passwords, "COST", 2)
    PasswordFile(tmp_path / "users.txt").add("ada", "correct horse")
    with studio(auth=tmp_path / "users.txt", requests_per_minute=100_000) as (address, app):
        paths = set(list_paths(app.app.routes))
        paths = {path.replace("{path_or_url:path}", "/etc/passwd").replace("{session_hash}", "x") for path in paths}
        assert len(paths) > 50
        with httpx.Client(base_url=address, timeout=30) as client:
            for path in paths:
                if (
                    path.startswith(OPEN_ADDRESSES)
                    or path in ("/", "/login", "/login/", "/logout")
                    or "heartbeat" in path
                ):
                    continue
                for method in ("GET", "POST"):
                    response = client.request(method, path, json={})
                    is_empty = response.text in ("null", '"null"', "{}", '{"token":null}') or "app_id" in path
                    assert response.status_code >= 400 or is_empty or "startup-events" in path, (method, path)
            assert '"components":[]' in client.get("/").text
            for password in ("wrong horse", "", "correct horse "):
                answer = client.post("/login", data={"username": "ada", "password": password})
                assert (answer.status_code, dict(answer.cookies)) == (400 if password else 422, {})
            assert client.post("/login", data={"username": "ada", "password": "correct horse"}).status_code == 200
            assert client.get("/config").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "/proc/self/environ",
        "pyproject.toml",
        "/dev/zero",
        "file:///etc/passwd",
        "\\\\server\\share",
        "%00",
        str(Path(__file__)),
    ],
)
def test_no_file_of_the_computer_is_served(client, path):
    response = client.get(f"/gradio_api/file={path}")
    assert response.status_code in (400, 403, 404), response.text
    assert "root:" not in response.text


def test_the_name_of_an_upload_does_not_choose_its_folder(client):
    for name in (
        "../../escaped.png",
        "/tmp/escaped.png",
        "..\\escaped.png",
        "a/../../../escaped.png",
        ".htaccess",
        "\x00",
    ):
        answer = client.post("/gradio_api/upload", files={"files": (name, b"x")})
        for path in answer.json() if answer.status_code == 200 else []:
            assert Path(path).resolve().is_relative_to(use_temporary_folder().resolve())
    assert not Path("/tmp/escaped.png").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", __file__, "../../etc/passwd", "/proc/self/environ"])
def test_a_forged_path_in_an_event_is_not_opened(open_studio, client, path):
    file = {"path": path, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
    output = call(client, event_index(open_studio[1], "measure"), ["L1 + TV", [file], 4, False])
    assert "root:" not in json.dumps(output)
    assert output.get("error") or output.get("status"), output


def test_a_forged_address_in_an_event_is_not_requested(open_studio, client):
    asked = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.png"
        file = {"path": url, "url": url, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
        call(client, event_index(open_studio[1], "measure"), ["L1 + TV", [file], 4, False])
        client.get(f"/gradio_api/file={url}")
        client.get(f"/gradio_api/proxy={url}")
        server.shutdown()
    assert asked == []


def test_a_request_for_another_name_is_refused_so_that_no_other_page_can_read_this_one(client):
    assert client.get("/config").status_code == 200
    assert client.get("/config", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("+".join(["L1"] * 10_000), "up to 4,000 characters"),
        ("(" * 1000 + "L1" + ")" * 1000, "cannot be parsed"),
        ("L1 @ VGG('vgg16', 'conv1_1', weights='/etc/passwd')", "reads no file"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x"),
    ],
)
def test_a_hostile_formula_is_an_error_whose_markup_is_text(open_studio, client, formula, message):
    output = call(client, event_index(open_studio[1], "check_typed"), [formula])
    (html,) = output["data"]
    text = html if isinstance(html, str) else json.dumps(html)
    assert message in text
    assert "<img" not in text


@pytest.mark.parametrize("data", [[], [None], [{"a": 1}], ["L1"] * 50, [["L1"]], [1e308], ["L1", "x", "y", "z"]])
def test_malformed_data_of_an_event_is_an_error_and_the_server_goes_on(open_studio, client, data):
    for name in ("measure", "suggest", "insert", "describe"):
        call(client, event_index(open_studio[1], name), data)
    output = call(client, event_index(open_studio[1], "check_typed"), ["L1 + TV"])
    assert "2 terms: L1, TV" in json.dumps(output["data"])


def test_an_upload_above_the_limit_is_refused(client):
    assert client.post("/gradio_api/upload", files={"files": ("a.png", bytes(3_000_000))}).status_code == 413
    small = [("files", (f"{i}.png", bytes(900_000))) for i in range(4)]
    assert client.post("/gradio_api/upload", files=small).status_code == 413


def test_a_flood_of_computations_is_refused_with_the_queue_and_the_rate():
    with studio(queue_length=2, requests_per_minute=60) as (address, app), httpx.Client(base_url=address) as client:
        index = event_index(app, "describe")
        body = {"data": ["L1"], "fn_index": index, "session_hash": "flood"}
        found = [client.post("/gradio_api/queue/join", json=body).status_code for _ in range(100)]
    assert 503 in found  # the queue is full
    assert found[-1] == 429
    assert found.count(200) <= 60
