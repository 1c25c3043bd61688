import pytest


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path):
    """Hide all weight files but those that a test names."""
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr("lossmith.pretrained.locate._list_in_package", lambda package, path: [])
