"""Fixtures of the tests of data."""

import pytest

from lossmith.data import decode_image
from lossmith.data.cache import ImageCache, image_cache


@pytest.fixture
def cache(tmp_path):
    return ImageCache(tmp_path / "cache", max_bytes=10**9)


@pytest.fixture
def decoded(monkeypatch):
    """Return the list of the files that are decoded from now on."""
    files = []

    def decode(file, pixels):
        files.append(file.name)
        return decode_image(file, pixels)

    monkeypatch.setattr(image_cache, "decode_image", decode)
    return files
