"""Formulas with losses, lenses and recipes of an installed package, and packages with wrong entry points."""

import re
import tomllib
from pathlib import Path

import pytest
import torch

from lossmith import L1, ExpressionError, Knob, check, load, parse, save
from lossmith.parser import vocabulary

PACKAGE = Path(__file__).parent / "fixtures" / "outside_package"
FORMULA = "L1 + 0.1*Welsch(0.2) @ Inverted + robust(0.3)"


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """Make a distribution with one module and its entry points importable, as pip does."""

    def install(entry_points: dict[str, str], code: str = "", name: str = "other") -> None:
        folder = tmp_path_factory.mktemp("site")
        metadata = folder / f"{name}-0.1.dist-info"
        metadata.mkdir()
        (folder / f"{name}.py").write_text(code)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        lines = [f"{key} = {value}" for key, value in entry_points.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[lossmith.losses]", *lines]))
        monkeypatch.syspath_prepend(str(folder))
        forget()

    def forget():
        vocabulary._list_plugins.cache_clear()
        vocabulary._load_plugin.cache_clear()

    forget()
    yield install
    forget()


@pytest.fixture
def welsch(install, monkeypatch):
    """Install the package of tests/fixtures/outside_package."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    install(project["entry-points"]["lossmith.losses"], name="lossmith_welsch")
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
    vocabulary._list_plugins.cache_clear()
    monkeypatch.setattr(vocabulary, "Plugins", lambda group: pytest.fail("the entry points were read"))
    assert parse("L1 + 0.1*style('vgg19') + 30%*TV + 70%*SSIM").terms


LOSS = "from lossmith import L2\nclass Other(L2): pass\nclass L1(L2): pass\nconstant = 3\nclass Plain: pass"


@pytest.mark.parametrize(
    ("entry_points", "text", "message"),
    [
        ({"L1": "other:L1"}, "lam * L2", "'other:L1' declares 'L1' in lossmith.losses, which is a name of lossmith"),
        ({"another": "other:Other"}, "another", "must have the name of the class, 'Other'; got 'another'"),
        ({"Other": "nowhere:Other"}, "Other", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ({"Missing": "other:Missing"}, "Missing", "cannot be imported: AttributeError"),
        ({"constant": "other:constant"}, "constant", "must be a loss, a lens or a function; got 3"),
        ({"Plain": "other:Plain"}, "Plain", "must be a loss, a lens or a function; got <class 'other.Plain'>"),
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
    with pytest.raises(ExpressionError, match=r"Two installed packages declare 'Other' in lossmith\.losses"):
        parse("Other")
