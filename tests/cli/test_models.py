import json

import pytest

from lossmith.cli import main
from lossmith.models import build_network


def test_the_networks_of_lossmith_and_of_spandrel_are_listed(capsys):
    pytest.importorskip("spandrel")
    assert main(["models", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"edsr", "inpainter", "spandrel:SwinIR", "spandrel:ESRGAN"} <= found.keys()
    assert found["edsr"]["options"][:2] == ["channels", "blocks"]


@pytest.mark.parametrize("name", ["edsr", "inpainter"])
def test_a_network_accepts_the_listed_arguments(name, capsys):
    assert main(["models", "--json"]) == 0
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == name)
    assert build_network(name, 1, **dict.fromkeys(row["options"], 4)).spec["name"] == name


def test_the_table_lists_each_network_once(capsys):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert out.count("inpainter") == 1 and out.count("spandrel:SwinIR ") == 1
