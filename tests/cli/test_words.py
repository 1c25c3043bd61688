"""The words of a command line and of `--config`: `~` in paths, and empty values."""

import json
from pathlib import Path

import pytest

from lossmith.cli.config_file import options_of
from lossmith.cli.words import expand_home
from lossmith.data.cache import default_cache_folder


@pytest.fixture
def home(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("word", ["{}", "{}/a b.png", "--images={}/photos", "--at=lam={}/map.png", "lam={}/map.png"])
def test_the_home_folder_is_expanded_where_a_path_begins(home, word):
    assert expand_home(word.format("~")) == word.format(home)


@pytest.mark.parametrize(
    "word",
    ["https://example.org/~user/a.tar", "--val=https://example.org/get?at=~/a.tar", "a~/b", "~nobody-here/x", "L1 @ ~"],
)
def test_no_other_tilde_is_expanded(home, word):
    assert expand_home(word) == word


def test_a_path_after_an_equals_sign_leads_into_the_home_folder(home, run_cli):
    status, out, _ = run_cli("cache", "--cache=~/decoded", "--json")
    assert status == 0
    assert json.loads(out)["cache"] == str(home / "decoded")


def test_a_quoted_argument_leads_into_the_home_folder(home, run_cli):
    status, _, error = run_cli("restore", "~/none.png", "out.png")
    assert status == 2
    assert str(home / "none.png") in error


def test_paths_of_a_file_of_options_lead_into_the_home_folder(home):
    record = {"images": "~/photos", "model": {"name": "edsr", "file": "~/x"}, "options": {"inputs": "~/low"}}
    found = options_of(record, {"images", "model", "model_option", "inputs"}, task="paired", source="f")
    assert found == {
        "images": f"{home}/photos",
        "model": "edsr",
        "model_option": [f"file={home}/x"],
        "inputs": f"{home}/low",
    }


def test_the_folder_of_the_environment_leads_into_the_home_folder(home, monkeypatch):
    monkeypatch.setenv("LOSSMITH_CACHE", "~/decoded")
    assert default_cache_folder() == home / "decoded"


def test_an_empty_value_in_a_file_of_options_is_refused():
    with pytest.raises(ValueError, match="has no value for 'images'"):
        options_of({"images": ""}, {"images"}, task="paired", source="f")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["restore", "photo.png", ""], "The argument after 'photo.png' is empty"),
        (["report", ""], "The argument after 'report' is empty"),
        (["calibrate", "L1", "--gradients="], "--gradients is empty"),
        (["evaluate", "bicubic", "--metric", ""], "--metric is empty"),
        (["explain", ""], "The formula is empty"),
    ],
)
def test_an_empty_word_is_no_path(run_cli, words, message):
    status, _, error = run_cli(*words)
    assert status == 2
    assert message in error
