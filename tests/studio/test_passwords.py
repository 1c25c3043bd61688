"""The password file of a studio."""

import os

import pytest

pytest.importorskip("gradio")

from lossmith.studio import StudioSettings
from lossmith.studio.passwords import PasswordFile


@pytest.fixture
def users(tmp_path, monkeypatch):
    monkeypatch.setattr("lossmith.studio.passwords.COST", 2)
    users = PasswordFile(tmp_path / "users.txt")
    users.add("ada", "correct horse")
    return users


def test_the_password_is_neither_in_the_file_nor_the_same_for_two_users(users):
    users.add("bob", "correct horse")
    text = users.file.read_text()
    assert "correct horse" not in text
    hashes = {line.rsplit(":", 1)[1] for line in text.splitlines()}
    assert len(hashes) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_only_the_owner_can_read_the_file(users):
    assert users.file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "password", "expected"),
    [
        ("ada", "correct horse", True),
        ("ada", "correct horsE", False),
        ("ada", "", False),
        ("", "", False),
        ("bob", "correct horse", False),
        ("ada:scrypt", "correct horse", False),
        ("ada", "\ud800", False),
    ],
)
def test_only_the_password_of_the_user_is_accepted(users, name, password, expected):
    assert users.check(name, password) is expected


def test_a_new_password_replaces_the_old_one_at_once(users):
    users.add("ada", "another horse")
    assert users.check("ada", "another horse")
    assert not users.check("ada", "correct horse")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no user"),
        ("ada:secret\n", "Line 1 of .* must be name:scrypt:salt:hash"),
        ("# users\nada:md5:00:00\n", "Line 2"),
        ("ada:scrypt:zz:00\n", "Line 1"),
    ],
)
def test_a_file_of_another_form_is_refused_when_the_server_starts(tmp_path, content, message):
    file = tmp_path / "users.txt"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        StudioSettings(host="0.0.0.0", auth=file)


def test_a_page_that_others_reach_needs_a_password_file_or_an_explicit_none(tmp_path):
    for public in ({"host": "0.0.0.0"}, {"public_name": "studio.example.org"}):
        with pytest.raises(ValueError, match="needs a password file"):
            StudioSettings(**public)
        assert not StudioSettings(**public, auth="none").is_local
    with pytest.raises(ValueError, match="cannot be read"):
        StudioSettings(auth=tmp_path / "missing.txt")


@pytest.mark.parametrize(
    ("name", "password", "message"),
    [("a:b", "long enough", "letters, digits"), ("a\nb", "long enough", "letters"), ("ada", "short", "at least 8")],
)
def test_a_name_or_password_that_would_not_work_is_refused(users, name, password, message):
    with pytest.raises(ValueError, match=message):
        users.add(name, password)
