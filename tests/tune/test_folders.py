"""The folders of a study are absolute, so that workers run in any working folder."""

import json
from types import SimpleNamespace

import pytest

from lossmith.cli.tune import absolute_folders
from lossmith.tune import search


def test_the_folders_of_a_new_study_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"inputs": "in", "val_inputs": None, "other": "in"}
    found = absolute_folders(options, ("inputs", "val_inputs"), tmp_path / "study")
    assert found == {"inputs": str(tmp_path / "in"), "val_inputs": None, "other": "in"}


@pytest.mark.parametrize("kept", [True, False])
def test_a_study_that_was_started_with_relative_folders_keeps_them(tmp_path, monkeypatch, kept):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps({}))
    options = {"inputs": "in"}
    started = SimpleNamespace(training={"options": options if kept else {"inputs": "other"}})
    monkeypatch.setattr(search, "read_search", lambda path: started)
    assert (absolute_folders(options, ("inputs",), tmp_path) == options) is kept
