"""Formulas with losses, lenses and recipes of an installed package, and packages with wrong entry points."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from lossmith import L1, ExpressionError, Knob, _plugins, check, load, parse, save
from lossmith.cli.plugins import list_plugins
from lossmith.doctor.edge_case_table import public_losses
from lossmith.parser.vocabulary import FORMULA_PLUGINS

PACKAGE = Path(__file__).parent / "fixtures" / "outside_package"
FORMULA = "L1 + 0.1*Welsch(0.2) @ Inverted + robust(0.3)"


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """Make a distribution with one module and its entry points importable, as pip does."""

    def install(
        losses: dict[str, str], code: str = "", name: str = "other", lenses: dict[str, str] | None = None
    ) -> None:
        folder = tmp_path_factory.mktemp("site")
        metadata = folder / f"{name}-0.1.dist-info"
        metadata.mkdir()
        (folder / f"{name}.py").write_text(code)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        groups = {"lossmith.losses": losses, "lossmith.lenses": lenses or {}}
        lines = [line for g, names in groups.items() for line in (f"[{g}]", *(f"{n} = {v}" for n, v in names.items()))]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(str(folder))
        FORMULA_PLUGINS.refresh()

    yield install
    monkeypatch.undo()
    FORMULA_PLUGINS.refresh()


@pytest.fixture
def welsch(install, monkeypatch):
    """Install the package of tests/fixtures/outside_package."""
    groups = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["entry-points"]
    install(groups["lossmith.losses"], name="lossmith_welsch", lenses=groups["lossmith.lenses"])
    monkeypatch.syspath_prepend(str(PACKAGE))


@pytest.mark.usefixtures("welsch")
def test_the_repr_parses_back():
    loss = parse(FORMULA)
    assert repr(loss) == "L1() + 0.1 * Welsch(0.2) @ Inverted() + L1() + 0.3 * Welsch(0.5)"
    assert repr(parse(repr(loss))) == repr(loss)


@pytest.mark.usefixtures("welsch")
def test_a_saved_loss_loads(tmp_path):
    save(parse(FORMULA), tmp_path / "loss.json")
    assert repr(load(tmp_path / "loss.json")) == repr(parse(FORMULA))


@pytest.mark.usefixtures("welsch")
def test_the_plan_counts_its_bytes():
    with_welsch, alone = (parse(text).plan((1, 3, 32, 32)).saved_bytes for text in ("L1 + Welsch", "L1"))
    assert with_welsch > alone


@pytest.mark.usefixtures("welsch")
def test_the_doctor_checks_it():
    check(parse(FORMULA)).raise_if_broken()


@pytest.mark.usefixtures("welsch")
def test_its_paper_is_cited_once():
    assert parse(FORMULA).citation() == "@article{dennis1978,\n  author = {Dennis and Welsch},\n  year = {1978},\n}"


@pytest.mark.usefixtures("welsch")
def test_the_value_and_the_arguments_are_those_of_the_class():
    pred, target = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    torch.testing.assert_close(parse("Welsch")(pred, target), torch.tensor(0.3934693))
    with pytest.raises(ExpressionError, match=r"Welsch c must be positive; got -1\."):
        parse("L1 + Welsch(-1)")


@pytest.mark.usefixtures("welsch")
def test_a_misspelled_name_suggests_the_outside_name():
    with pytest.raises(ExpressionError, match="Unknown name 'Welch'; did you mean 'Welsch'"):
        parse("L1 + Welch")


@pytest.mark.usefixtures("welsch")
def test_a_free_lower_case_name_is_still_a_knob():
    assert repr(parse("lam * L1")) == repr(Knob("lam") * L1())


def test_entry_points_are_not_read_for_known_names(monkeypatch):
    FORMULA_PLUGINS.refresh()
    monkeypatch.setattr(_plugins, "entry_points", lambda group: pytest.fail("the entry points were read"))
    assert parse("L1 + 0.1*style('vgg19') + 30%*TV + 70%*SSIM").terms


LOSS = (
    "from lossmith import L2, Gram\nclass Other(L2): pass\nclass Texture(Gram): pass\nconstant = 3\nclass Plain: pass"
)


@pytest.mark.parametrize(
    ("entry_points", "text", "message"),
    [
        ({"another": "other:Other"}, "another", "its name must be that of the class, 'Other'"),
        ({"Texture": "other:Texture"}, "Texture", "it is a lens, which belongs in the other group"),
        ({"Other": "nowhere:Other"}, "Other", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ({"Missing": "other:Missing"}, "Missing", "cannot be imported: AttributeError"),
        ({"constant": "other:constant"}, "constant", "it must be a loss or a function that returns a loss; got 3"),
        ({"Plain": "other:Plain"}, "Plain", "or a function that returns a loss; got <class 'other.Plain'>"),
    ],
)
def test_a_wrong_entry_point_raises_one_line(entry_points, text, message, install):
    install(entry_points, LOSS)
    with pytest.raises(ExpressionError, match=re.escape(message)) as caught:
        parse(text)
    assert len(str(caught.value).split("\n")) == 3  # the reason, the formula, the caret


def test_a_name_of_two_packages_raises_one_line(install):
    install({"Other": "other:Other"}, LOSS)
    install({"Other": "second:Other"}, LOSS, name="second")
    with pytest.raises(ExpressionError, match="Two installed packages declare 'Other': "):
        parse("Other")


def test_a_name_of_lossmith_is_refused_and_the_other_names_work(install):
    install({"L1": "other:Other", "Other": "other:Other"}, LOSS)
    assert repr(parse("L1 + Other")).startswith("L1()")
    errors = {row["name"]: row["error"] for row in list_plugins() if row["package"] == "other"}
    assert (
        errors["L1"] == "other 0.1 (other:Other in lossmith.losses) declares 'L1', which is a name of lossmith itself."
    )
    assert errors["Other"] == ""


def test_a_package_that_raises_at_import_is_named_and_the_others_work(install):
    install({"Other": "other:Other"}, "raise RuntimeError('no licence')")
    install({"Second": "second:Second"}, "from lossmith import L2\nclass Second(L2): pass", name="second")
    assert parse("lam * L1 + Second").terms
    with pytest.raises(
        ExpressionError, match=r"'Other' of other 0\.1 \(.*\) cannot be imported: RuntimeError: no licence"
    ):
        parse("Other")
    built, skipped = public_losses()
    assert "Second" in built
    assert "no licence" in skipped["Other"]
    assert "no licence" in next(row["error"] for row in list_plugins() if row["name"] == "Other")


@pytest.mark.usefixtures("welsch")
def test_the_doctor_examines_all_names_of_a_package():
    built, _ = public_losses()
    assert {"Welsch", "Inverted", "robust"} <= set(built)


def test_an_error_in_the_constructor_of_another_package_is_one_line(install):
    install({"Bad": "other:Bad"}, "from lossmith import Distance\nclass Bad(Distance):\n def __init__(self): 1 / 0")
    with pytest.raises(ExpressionError):
        parse("Bad")
    install({"Worse": "worse:Worse"}, "def Worse(): raise KeyError('x')", name="worse")
    with pytest.raises(ExpressionError, match="Worse, which is no part of lossmith, raised KeyError"):
        parse("Worse")
