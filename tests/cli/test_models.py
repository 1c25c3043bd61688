import json

import pytest

from lossmith.cli import main
from lossmith.models import build_network


def test_own_networks_and_those_of_spandrel_are_listed(capsys):
    pytest.importorskip("spandrel")
    assert main(["models", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"edsr", "inpainter", "spandrel:SwinIR", "spandrel:ESRGAN"} <= found.keys()
    assert found["edsr"]["options"] == ["channels", "blocks"]


@pytest.mark.parametrize("name", ["edsr", "inpainter"])
def test_an_own_network_is_built_with_the_options_that_are_listed(name, capsys):
    assert main(["models", "--json"]) == 0
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == name)
    assert build_network(name, 1, **dict.fromkeys(row["options"], 4)).spec["name"] == name


def test_the_table_names_each_network_once(capsys):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert out.count("inpainter") == 1 and out.count("spandrel:SwinIR ") == 1
