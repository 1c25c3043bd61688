"""Which database a study opens."""

import optuna
import pytest
from optuna.storages import JournalStorage

from lossmith.tune.storage import is_journal, open_storage

NAMES = ["what?", "a?mode=memory", "a%20b", "50%", "a#b", "{}", "{0}", "a b", "ä", "a&b=c", "it's", "a+b", "[x]"]
"""Names of folders with characters that have a meaning in a URL, in a format string or in a configuration file."""


@pytest.mark.parametrize("name", NAMES)
def test_the_database_of_a_study_is_in_the_folder_of_the_study(name, tmp_path):
    folder = tmp_path / "root" / name
    folder.mkdir(parents=True)
    study = optuna.create_study(storage=open_storage(None, folder, heartbeat=60), study_name="s")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert [path.name for path in folder.iterdir()] == ["study.db"]
    assert [path.name for path in folder.parent.iterdir()] == [name]
    reopened = optuna.load_study(storage=open_storage(None, folder, heartbeat=60), study_name="s")
    assert [trial.value for trial in reopened.trials] == [1.0]


@pytest.mark.slow
def test_studies_whose_folders_differ_after_a_question_mark_have_their_own_databases(tmp_path):
    for name in ("what?a", "what?b"):
        (tmp_path / name).mkdir()
        optuna.create_study(storage=open_storage(None, tmp_path / name, heartbeat=60), study_name=name)
    studies = optuna.get_all_study_names(open_storage(None, tmp_path / "what?b", heartbeat=60))
    assert studies == ["what?b"]


def test_a_relative_folder_has_its_database_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "what?").mkdir()
    open_storage(None, (tmp_path / "what?").relative_to(tmp_path), heartbeat=60)
    assert (tmp_path / "what?" / "study.db").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_a_journal_is_the_file_that_was_named(name, tmp_path):
    file = tmp_path / name
    optuna.create_study(storage=open_storage(f"journal:{file}", tmp_path, heartbeat=60), study_name="s")
    assert file.is_file()


def test_a_database_whose_name_ends_as_a_journal_is_a_database(tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.log'}"
    assert not is_journal(url)
    assert not isinstance(open_storage(url, tmp_path, heartbeat=60), JournalStorage)
    assert is_journal("trials.log") and is_journal("journal:trials")
