"""Shards on a web server: the requests, their number, and the messages of failures."""

import io
import tarfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.data.cache import ImageCache, use_cache
from lossmith.data.shards.archive import read_shard
from lossmith.data.shards.copies import ShardStore
from lossmith.data.shards.locate import list_shards
from lossmith.data.shards.sequence import Shards, ShardSequence
from lossmith.tasks import Denoising
from lossmith.train.data_stream import EndlessBatchSampler, TimedLoader

pytest.importorskip("aiohttp", reason="fsspec reads HTTP by aiohttp")
SHARDS, SAMPLES = 4, 3


def archive(number):
    """Return the content of a shard of images."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for index in range(SAMPLES):
            image, file = np.random.default_rng([number, index]).integers(0, 256, (32, 32, 3), np.uint8), io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            member = tarfile.TarInfo(f"{SAMPLES * number + index:02d}.png")
            member.size = file.tell()
            file.seek(0)
            tar.addfile(member, file)
    return content.getvalue()


class Server(ThreadingHTTPServer):
    """A server without byte ranges that counts the copies of each shard."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"/train-{number}.tar": archive(number) for number in range(SHARDS)}
        self.counts, self.statuses, self.cuts = Counter(), {}, Counter()
        self.has_lengths = True
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.server.counts[self.path] += 1
        if (content := self.answer()) is None:
            return
        if self.server.cuts[self.path] > 0:
            self.server.cuts[self.path] -= 1
            content = content[: len(content) // 2]
        self.wfile.write(content)

    def answer(self):
        """Send the headers and return the content; None for an error."""
        content = self.server.files.get(self.path)
        status = self.server.statuses.get(self.path, 404 if content is None else 200)
        if status != 200:
            self.send_error(status)
            return None
        self.send_response(200)
        if self.server.has_lengths:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("lossmith.data.shards.copies.RETRY_SECONDS", 0.0)
    with Server() as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def shards(server):
    return Shards(list_shards(f"{server.url}/train-{{0..{SHARDS - 1}}}.tar"))


def sample_names(shards, indices, folder):
    """Return the names of samples that a machine with a folder of its own draws."""
    with use_cache(ImageCache(folder)):
        sequence = ShardSequence(shards, lambda sample: sample.name, seed=0)
        return [sequence[index] for index in indices], sequence.skipped


@pytest.mark.parametrize("has_lengths", [True, False])
def test_samples_are_those_of_local_files(server, shards, tmp_path, has_lengths):
    server.has_lengths = has_lengths
    for path, content in server.files.items():
        (tmp_path / path[1:]).write_bytes(content)
    local = Shards(list_shards(tmp_path))
    indices = range(2 * SHARDS * SAMPLES)
    assert sample_names(shards, indices, tmp_path / "a") == sample_names(local, indices, tmp_path / "b")


def test_a_connection_that_is_cut_is_tried_again(server, tmp_path):
    server.cuts["/train-0.tar"] = 2
    assert ShardStore(tmp_path).fetch(f"{server.url}/train-0.tar").read_bytes() == server.files["/train-0.tar"]
    assert server.counts["/train-0.tar"] == 3


@pytest.mark.parametrize(
    ("status", "copies", "reason"),
    [(404, 1, "404"), (403, 1, "403"), (503, 3, "503"), (429, 3, "429"), (200, 3, "payload is not completed")],
)
def test_a_shard_that_cannot_be_copied_is_an_error_of_one_line(server, tmp_path, status, copies, reason):
    server.statuses["/train-0.tar"], server.cuts["/train-0.tar"] = status, 9
    with pytest.raises(ValueError, match=rf"train-0\.tar' cannot be read: .*{reason}.* Check the address") as caught:
        ShardStore(tmp_path).fetch(f"{server.url}/train-0.tar")
    assert "\n" not in str(caught.value) and not [*tmp_path.glob("*.partial")]
    # a server is asked for the size of a file by GET, too, if it refuses HEAD
    assert server.counts["/train-0.tar"] in (copies, 2 * copies)


def test_a_missing_shard_is_replaced_and_named(server, shards, tmp_path):
    server.statuses["/train-2.tar"] = 404
    names, skipped = sample_names(shards, range(4 * SHARDS * SAMPLES), tmp_path)
    assert {int(name) // SAMPLES for name in names} == {0, 1, 3}
    assert [each.file for each in skipped] == [f"{server.url}/train-2.tar"]


def test_a_shard_that_is_removed_while_it_is_read_is_copied_again(server, tmp_path):
    store = ShardStore(tmp_path)
    samples = list(read_shard(f"{server.url}/train-0.tar", store))
    before = [sample.images["png"].read_bytes() for sample in samples]
    store.clear()
    assert [sample.images["png"].read_bytes() for sample in samples] == before
    assert server.counts["/train-0.tar"] == 2


@pytest.mark.slow
def test_data_loading_processes_copy_each_shard_once_together(server, shards, tmp_path):
    with use_cache(ImageCache(tmp_path)):
        crops = Denoising().training_set(shards, crop=16, seed=0)
        loader = TimedLoader(crops, torch.device("cpu"), batch_sampler=EndlessBatchSampler(SHARDS), num_workers=2)
        batches = [batch["target"] for _, batch in zip(range(2 * SAMPLES), loader, strict=False)]
    expected = [crops[index]["target"] for index in range(2 * SAMPLES * SHARDS)]
    torch.testing.assert_close(torch.cat(batches), torch.stack(expected), rtol=0, atol=0)
    assert server.counts == dict.fromkeys(server.files, 1)


def test_a_machine_copies_the_shards_of_its_own_devices(server, shards, tmp_path, monkeypatch):
    class Now(threading.Thread):
        start = threading.Thread.run  # the next shards are copied before the test continues

    monkeypatch.setattr("lossmith.data.shards.sequence.SLOTS", 2)
    monkeypatch.setattr("lossmith.data.shards.sequence.threading.Thread", Now)
    copied = []
    for rank in range(2):
        batches = iter(EndlessBatchSampler(2, rank=rank, world=2))
        sample_names(shards, [index for _ in range(SAMPLES) for index in next(batches)], tmp_path / str(rank))
        copied.append({path for path, count in server.counts.items() if count})
        server.counts.clear()
    assert copied[0] & copied[1] == {"/train-0.tar"}  # whose samples are counted
    assert max(map(len, copied)) == 3
