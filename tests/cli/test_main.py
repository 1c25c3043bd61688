import io
import re
import runpy
import sys

import pytest

import lossmith
from lossmith.backbone import clear_backbones
from lossmith.cli import main


def run_main(capsys, *words):
    """Return the exit status and the error stream."""
    status = main(words)
    return status, capsys.readouterr().err


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("train", "evaluate", "restore", "report", "explain"))


def test_the_package_runs_as_a_module(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lossmith", "explai"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("lossmith", run_name="__main__")
    assert ended.value.code == 2
    assert "Did you mean 'explain'?" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lossmith {lossmith.__version__}\n"


@pytest.mark.parametrize("words", [[], ["train"], ["knob"], ["tune"]])
def test_a_group_without_a_command_prints_its_help_alone(capsys, words):
    status = main(words)
    out, err = capsys.readouterr()
    assert status in (0, 2)
    assert "Usage: lossmith" in out + err
    assert "See:" not in err


def test_an_unknown_command_prints_one_line_with_status_2(capsys):
    status, text = run_main(capsys, "explai", "L1")
    assert status == 2
    assert text == "lossmith: No such command 'explai'. Did you mean 'explain'? See: lossmith --help\n"


def test_a_missing_option_is_named(capsys):
    status, text = run_main(capsys, "train", "super-resolution", "--loss", "L1")
    assert status == 2
    assert text == "lossmith: Missing option '--steps'. See: lossmith train super-resolution --help\n"


def test_a_wrong_formula_keeps_its_caret(capsys):
    status, text = run_main(capsys, "explain", "L1 + 0.1*perceptua")
    assert status == 2
    assert text.splitlines() == [
        "lossmith: Unknown name 'perceptua'; did you mean 'perceptual'?",
        "    L1 + 0.1*perceptua",
        "             ^",
    ]


def test_debug_raises_the_error():
    with pytest.raises(ValueError, match="perceptua"):
        main(["explain", "L1 + 0.1*perceptua", "--debug"])


def test_an_interrupted_command_prints_one_line(capsys, monkeypatch):
    def interrupt(text):
        raise KeyboardInterrupt

    monkeypatch.setattr("lossmith.parse", interrupt)
    assert run_main(capsys, "explain", "L1") == (130, "lossmith: stopped.\n")


def test_explain_prints_terms_networks_cost_and_papers(capsys):
    formula = "L1 + 0.1*perceptual('vgg19', 'conv2_2', weights='random')"
    assert main(["explain", formula, "--size", "64", "--batch", "2"]) == 0
    text = capsys.readouterr().out
    assert "L1() @ VGG(" in text
    assert "untrained, as requested" in text
    assert "2 images of 64x64 px" in text
    assert "@inproceedings{simonyan2015" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("formula", "shares", "warning"),
    [
        ("L1 + 0.1*perceptual", r"L1 0\.\d : perceptual 99\.\d % of the gradient", "warning: L1: It has 0."),
        ("L1 + 0.002*perceptual", r"L1 \d\d\.\d : perceptual \d\d\.\d % of the gradient", ""),
        ("70%*L1 + 30%*perceptual", r"L1 70\.0 : perceptual 30\.0 % of the gradient", ""),
        ("L1 + lam*TV", r"with lam=1: L1 \d", ""),
    ],
)
def test_explain_prints_gradient_shares_and_warns_of_a_term_without_effect(capsys, formula, shares, warning):
    assert main(["explain", formula, "--size", "32", "--batch", "1"]) == 0
    out = capsys.readouterr().out
    assert re.search(shares, out)
    assert (warning in out) if warning else ("hardly any effect" not in out)


@pytest.mark.parametrize("formula", ["DenoisingMSE", "KL", "TextContrast", "AttentionConsistency"])
def test_explain_prints_no_values_for_terms_without_images(capsys, formula):
    assert main(["explain", formula]) == 0
    text = capsys.readouterr().out
    assert f"No values for {formula}: the inputs are not images." in text
    assert "its cost does not depend on an image size" in text


def test_explain_uses_masks_that_select_the_whole_image(capsys):
    values = []
    for formula in ("L1", "L1.on(mask='hole')"):
        assert main(["explain", formula, "--size", "32"]) == 0
        values.append(re.findall(r"\d\.\d{3,}", capsys.readouterr().out)[:2])
    assert len(values[0]) == 2
    assert values[0] == values[1]


@pytest.mark.slow
def test_explain_prints_instructions_for_missing_weights(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse_download)
    clear_backbones()  # an earlier test may have loaded the weights
    assert main(["explain", "L1 + perceptual('vgg19')"]) == 0
    text = capsys.readouterr().out
    assert "no weights" in text
    assert "No weights for vgg19 were found. Do one of these" in text


def refuse_download(*args, **kwargs):
    raise OSError("no network here")


def test_an_error_of_the_operating_system_names_the_file_without_a_number(capsys, monkeypatch):
    monkeypatch.setattr(
        "lossmith.cli.app", lambda *_, **__: (_ for _ in ()).throw(FileExistsError(17, "File exists", "x"))
    )
    status, text = run_main(capsys, "models")
    assert status == 2
    assert text == "lossmith: 'x': file exists.\n"


def test_a_name_that_is_no_text_of_the_terminal_is_printed_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr("lossmith.cli.app", lambda *_, **__: print("größe\udcff"))
    assert main(["models"]) == 0
    assert stream.buffer.getvalue().splitlines() == [rb"gr\xf6\xdfe\udcff"]
