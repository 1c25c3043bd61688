"""The limits of the server: addresses, rates and sizes."""

import pytest

pytest.importorskip("gradio")

import anyio
import httpx

from lossmith.studio import limits
from lossmith.studio.limits import RateLimit, RequestGuard, folder_size
from lossmith.studio.server import launch_options
from lossmith.studio.settings import StudioSettings


async def answer(scope, receive, send):
    """Read the whole body, and answer with its length."""
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(length).encode()})


def guard(folder, **options):
    given = {"requests_per_minute": 100, "max_upload_mb": 1, "folder": folder, "max_temporary_mb": 1, **options}
    return RequestGuard(answer, **given)


def send(app, *requests, address="1.2.3.4"):
    """Return the responses to some requests, each a method, a path and options of httpx."""

    async def run():
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://studio") as client:
            return [await client.request(method, path, **options) for method, path, options in requests]

    return anyio.run(run)


def statuses(app, *requests, **options):
    return [response.status_code for response in send(app, *requests, **options)]


def test_a_bucket_refills_with_time():
    now = [0.0]
    limit = RateLimit(60, clock=lambda: now[0])
    assert [limit.admit("a") for _ in range(61)] == [True] * 60 + [False]
    now[0] = 1.5
    assert [limit.admit("a"), limit.admit("a")] == [True, False]
    now[0] = 1e6
    assert sum(limit.admit("a") for _ in range(100)) == 60


def test_many_clients_take_bounded_memory(monkeypatch):
    monkeypatch.setattr(limits, "MAX_CLIENTS", 10)
    limit = RateLimit(1)
    for number in range(1000):
        assert limit.admit(str(number))
    assert len(limit._buckets) == 10


def test_a_flood_of_requests_is_refused_for_that_client_only(tmp_path):
    app = guard(tmp_path, requests_per_minute=5)
    found = statuses(app, *[("GET", "/config", {})] * 8)
    assert found == [200] * 5 + [429] * 3
    assert statuses(app, ("GET", "/config", {}), address="5.6.7.8") == [200]
    assert statuses(app, ("GET", "/assets/index.js", {})) == [200]


def test_guesses_of_a_password_are_limited(tmp_path):
    found = statuses(guard(tmp_path), *[("POST", "/login", {"data": {"username": "a", "password": "b"}})] * 12)
    assert found == [200] * 10 + [429] * 2


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=http://169.254.169.254/",
        "/gradio_api/file=http://169.254.169.254/latest",
        "/gradio_api/file=https:/example.org",
        "/gradio_api/vibe-edit",
        "/gradio_api/vibe-code/",
        "/monitoring",
        "/gradio_api/monitoring/summary",
        "/gradio_api/call/x",
        "/gradio_api/call/v2/x",
        "/gradio_api/run/predict",
        "/gradio_api/api/predict",
        "/gradio_api/openapi.json",
        "/gradio_api/stream/x",
        "/gradio_api/deep_link",
        "/gradio_api/profiling/traces",
        "/gradio_api/runs",
        "/gradio_api/dev/reload",
        "/docs",
        "/openapi.json",
        "/svelte/x",
        "/gradio_api/custom_component/a/b/c/d",
    ],
)
def test_an_address_that_the_page_does_not_use_does_not_exist(tmp_path, path):
    assert statuses(guard(tmp_path), ("GET", path, {}), ("POST", path, {})) == [404, 404]


def chunks(count):
    async def body():
        for _ in range(count):
            yield bytes(100_000)

    return body()


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    path = "/gradio_api/upload"
    found = statuses(guard(tmp_path), ("POST", path, {"content": bytes(3_000_000)}), ("POST", path, {"content": b"x"}))
    assert found == [413, 200]
    assert statuses(guard(tmp_path), ("POST", path, {"headers": {"content-length": "-5"}})) == [413]


def test_a_body_without_a_length_ends_at_the_limit(tmp_path):
    path = "/gradio_api/upload"
    with pytest.raises(AssertionError):  # the application has seen a disconnect and answers nothing
        send(guard(tmp_path), ("POST", path, {"content": chunks(30)}))
    assert send(guard(tmp_path), ("POST", path, {"content": chunks(5)}))[0].text == "500000"


def test_no_upload_is_accepted_while_the_storage_is_full(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(bytes(1_500_000))
    assert folder_size(tmp_path) == 1_500_000
    assert statuses(guard(tmp_path), ("POST", "/gradio_api/upload", {})) == [507]
    assert statuses(guard(tmp_path), ("POST", "/gradio_api/queue/join", {})) == [200]


def test_pages_may_load_and_send_nothing_elsewhere(tmp_path):
    (response,) = send(guard(tmp_path), ("GET", "/", {}))
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


def test_websockets_are_not_served(tmp_path):
    sent = []

    async def run():
        async def collect(message):
            sent.append(message)

        await guard(tmp_path)({"type": "websocket", "path": "/"}, None, collect)

    anyio.run(run)
    assert sent == []


@pytest.mark.parametrize(("host", "name"), [("::1", "[::1]"), ("[::1]", "[::1]"), ("127.0.0.1", "127.0.0.1")])
def test_an_ipv6_host_is_written_as_in_an_address(host, name):
    settings = StudioSettings(host=host)
    assert settings.is_local
    assert launch_options(settings)["server_name"] == name
