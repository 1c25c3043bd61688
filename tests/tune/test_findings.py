import csv
import json

import pytest

from lossmith.tune.findings import read_findings
from lossmith.tune.search import Search, settings_digest

ROWS = [(0.1, 0.1, (25.0, 0.80)), (0.2, 0.1, (26.0, 0.74)), (0.3, 0.1, (24.5, 0.79)), (0.4, 0.1, None)]


def test_the_front_consists_of_the_trials_that_none_dominates(make_search, write_study):
    findings = read_findings(write_study(make_search(), ROWS))
    assert [trial.number for trial in findings.front] == [1, 0]
    assert findings.hypervolume == pytest.approx(2 * 0.04 + 1 * 0.06)  # above bicubic's 24 dB and 0.7


def test_a_trial_that_violates_a_constraint_is_not_on_the_front(make_search, write_study):
    findings = read_findings(write_study(make_search(constraints={"psnr_y": 25.5}), ROWS))
    assert [trial.number for trial in findings.front] == [1]
    assert findings.to_record()["infeasible"] == [0, 2]


def test_the_knee_has_frequency_one_if_all_images_agree(make_search, write_study):
    findings = read_findings(write_study(make_search(), ROWS))
    assert sum(findings.knee_frequencies.values()) == pytest.approx(1)
    assert findings.knee_frequencies[findings.knee.number] == 1


def test_the_knee_frequencies_do_not_depend_on_the_difficulty_of_the_images(make_search, write_study):
    folder = write_study(make_search(), ROWS)
    frequencies = read_findings(folder).knee_frequencies
    offsets = {"p": -9.0, "q": 0.0, "r": 9.0}
    for file in [*folder.glob("trials/*/result.json"), folder / "baselines.json"]:
        record = json.loads(file.read_text())
        owner = record["baselines"]["bicubic"] if "baselines" in record else record
        owner["image_metrics"] = {
            name: {**row, "psnr_y": row["psnr_y"] + offsets[name]} for name, row in owner["image_metrics"].items()
        }
        file.write_text(json.dumps(record))
    assert read_findings(folder).knee_frequencies == pytest.approx(frequencies)


def test_a_study_without_results_has_empty_findings(make_search, write_study):
    findings = read_findings(write_study(make_search(), []))
    assert (findings.front, findings.knee, findings.hypervolume, findings.knee_frequencies) == ([], None, 0, {})
    findings.export()


def test_an_incomplete_result_file_is_left_out(make_search, write_study):
    folder = write_study(make_search(), ROWS)
    next(folder.glob("trials/*/result.json")).write_text('{"number": 3')
    assert len(read_findings(folder).trials) == 3


def test_all_trials_are_exported(make_search, write_study):
    folder = write_study(make_search(), ROWS)
    read_findings(folder).export()
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["front"] for row in rows] == ["1", "1", "0", "0"]
    assert rows[3]["reason"] == "dominated"
    assert json.loads((folder / "findings.json").read_text())["knee"]["number"] in (0, 1)


def test_a_folder_that_holds_no_study_is_rejected(tmp_path):
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no study"):
        read_findings(tmp_path)


OLD_STUDY = {
    "loss": "L1 + a*TV + b*SSIM", "images": "photos", "val": "val", "steps": 6, "rungs": [1 / 3],
    "floors": {"psnr_y": 27.0}, "grid": 0, "sampler": "tpe", "seed": 0,
    "training": {"scale": 2, "batch": 2, "crop": 16, "model": {"name": "edsr", "channels": 4, "blocks": 1}},
    "axes": "psnr_y:max,ssim_y:max", "ranges": {"a": [0.01, 10]}, "choices": {"b": ["0.1", "0.2"]},
}  # fmt: skip
"""The study.json of a study of version 0.1 before its names changed."""


def test_an_old_study_has_the_same_name_in_its_storage_and_the_same_run_folders():
    search = Search.from_record(OLD_STUDY)
    assert search.digest == "1e4b11c5518d"
    assert settings_digest(search.settings({"a": 0.3, "b": "0.1"})) == "ddc8646a7cbe"


def test_an_old_study_has_findings(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps(OLD_STUDY))
    figures, bicubic = {"psnr_y": 28.0, "ssim_y": 0.8}, {"psnr_y": 24.0, "ssim_y": 0.7}
    marks = {"bicubic": {"figures": bicubic, "pictures": {"figures": bicubic}}}  # an image may have any name
    (tmp_path / "marks.json").write_text(json.dumps({"marks": marks, "protocol": {}, "sharing": {"ssim_y": "vgg"}}))
    result = {"number": 0, "run": "ddc8646a7cbe", "state": "complete", "drawn": {"a": 0.3, "b": "0.1"}, "loss": "L1"}
    result |= {"step": 6, "seconds": 1.0, "figures": figures, "pictures": {"figures": figures}}
    result |= {"rungs": {"2": figures}, "why": ""}
    (tmp_path / "trials" / "ddc8646a7cbe").mkdir(parents=True)
    (tmp_path / "trials" / "ddc8646a7cbe" / "result.json").write_text(json.dumps(result))
    findings = read_findings(tmp_path)
    (trial,) = findings.front
    assert (trial.params, trial.rung_metrics, trial.reason) == ({"a": 0.3, "b": "0.1"}, {"2": figures}, "")
    assert findings.hypervolume == pytest.approx(4 * 0.1)
    assert findings.image_count == 1 and findings.shared_networks == {"ssim_y": "vgg"}
    assert findings.knee_frequencies == {0: 1.0}
