"""Names that a program registers, and the files that a command line names with --plugin."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lossmith import L1, L2, Distance, ExpressionError, Gram, Lens, _plugin_files, parse, register, unregister
from lossmith._plugins import REGISTERED
from lossmith.cli import main
from lossmith.cli.plugins import list_plugins
from lossmith.models import NETWORKS, build_network, load_network
from lossmith.train import Settings, train

PLUGIN = """
from torch import nn
from lossmith import Distance, register

@register
class Cubed(Distance):
    def measure(self, pred, target):
        return (pred - target).abs().pow(3).flatten(1).mean(dim=1)

    def __repr__(self):
        return "Cubed()"

@register
class Shuffle(nn.Module):
    def __init__(self, width=4, scale=2):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3 * scale**2, 3, padding=1))
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, image):
        return self.shuffle(self.body(image))
"""
QUICK = ["--scale", "2", "--steps", "2", "--batch", "2", "--crop", "16", "--workers", "0", "--device", "cpu"]
QUICK += ["--val-count", "1", "--val-every", "2"]


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Forget what a test registers and runs, as a new process would."""
    monkeypatch.setattr(_plugin_files, "_LOADED", {})
    before = {group: dict(names) for group, names in REGISTERED.items()}
    path = list(sys.path)
    yield
    sys.path[:] = path
    for group, names in before.items():
        REGISTERED[group].clear()
        REGISTERED[group].update(names)


def new_process() -> None:
    """Forget what was registered and run."""
    _plugin_files._LOADED.clear()
    for names in REGISTERED.values():
        names.clear()


@pytest.fixture
def plugin(tmp_path, monkeypatch) -> Path:
    """A file that registers a loss and a network, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(PLUGIN)
    return tmp_path / "my.py"


@pytest.fixture
def images() -> str:
    return str(Path(__file__).parent / "fixtures" / "photos")


class Cubed(Distance):
    def measure(self, pred, target):
        return (pred - target).abs().pow(3).flatten(1).mean(dim=1)

    def __repr__(self):
        return "Cubed()"


class Inverse(Lens):
    def forward(self, maps):
        return {name: 1 - values for name, values in maps.items()}

    def __repr__(self):
        return "Inverse()"


def test_a_registered_loss_and_lens_are_names_of_a_formula():
    assert register(Cubed) is Cubed
    register(Inverse)
    loss = parse("L1 + 0.5*Cubed @ Inverse")
    assert repr(parse(repr(loss))) == repr(loss) == "L1() + 0.5 * Cubed() @ Inverse()"
    pred, target = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    torch.testing.assert_close(loss(pred, target), torch.tensor(0.5 + 0.5 * 0.125))


def test_a_registered_function_is_a_recipe():
    @register
    def cubed_and_l1(weight=2.0):
        return L1() + weight * Cubed()

    assert repr(parse("cubed_and_l1(3)")) == "L1() + 3.0 * Cubed()"


def test_an_unregistered_name_is_unknown():
    register(Cubed)
    unregister("Cubed")
    with pytest.raises(ExpressionError, match="Unknown name 'Cubed'"):
        parse("Cubed")
    with pytest.raises(ValueError, match="'Cubed' is not registered"):
        unregister("Cubed")


def test_a_definition_that_is_run_again_replaces_the_former():
    register(Cubed)
    again = type("Cubed", (Cubed,), {"__module__": Cubed.__module__, "__qualname__": Cubed.__qualname__})
    register(again)
    assert type(parse("Cubed")) is again


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: type("L1", (L2,), {}), "'L1' cannot be registered, since another object has this name"),
        (lambda: type("Gram", (Gram.__mro__[1],), {}), "'Gram' cannot be registered"),
        (lambda: type("edsr", (nn.Module,), {}), "'edsr' cannot be registered"),
        (lambda: Cubed(), "register needs a class; got the object Cubed.*Register Cubed instead"),
        (lambda: lambda pred, target: pred, "subclass lossmith.Distance"),
        (lambda: lambda: L1(), "register needs a class or a named function"),
        (lambda: 3, "register needs a subclass of Distance"),
        (lambda: dict, "register needs a subclass of Distance"),
    ],
)
def test_what_cannot_be_registered_raises_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        register(make())
    assert "\n" not in str(caught.value)


def test_two_classes_of_one_name_are_refused():
    register(Cubed)
    with pytest.raises(ValueError, match="'Cubed' cannot be registered"):
        register(type("Cubed", (L2,), {"__module__": "elsewhere"}))


def test_any_module_is_a_network_by_its_registered_name():
    register(
        type("Doubling", (nn.Upsample,), {"__init__": lambda self, scale: nn.Upsample.__init__(self, None, scale)})
    )
    network = build_network("Doubling", 3)
    assert network(torch.rand(1, 3, 4, 5)).shape == (1, 3, 12, 15)
    assert network.spec == {"name": "Doubling"}
    assert "Doubling" in NETWORKS


def test_a_network_of_another_scale_raises_one_line():
    register(type("Keeping", (nn.Identity,), {}))
    with pytest.raises(ValueError, match=r"Keeping must return \(1, 3, 8, 8\) for \(1, 3, 4, 4\) at scale 2"):
        build_network("Keeping", 2)(torch.rand(1, 3, 4, 4))


def test_a_plugin_file_adds_names_to_every_command_at_any_position(plugin, capsys):
    assert main(["explain", "L1 + 0.1*Cubed", "--size", "32", "--plugin", "my.py"]) == 0
    assert "Cubed()" in capsys.readouterr().out
    new_process()
    assert main(["--plugin=my.py", "plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["kind"], row["name"]) for row in rows if row["package"] == "registered"] == [
        ("loss", "Cubed"),
        ("network", "Shuffle"),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("always")
def test_a_run_needs_its_plugin_and_says_that_it_has_changed(plugin, images, capsys):
    words = ["train", "super-resolution", "--images", images, "--loss", "L1 + 0.1*Cubed", *QUICK]
    words += ["--model", "Shuffle", "--model-option", "width=5", "--out", "run"]
    assert main([*words, "--plugin", "my.py"]) == 0
    assert json.loads(Path("run/config.json").read_text())["plugins"].keys() == {"my.py"}
    evaluate = ["evaluate", "run", "--images", images, "--device", "cpu", "--json"]
    new_process()
    for command in (words, evaluate, ["restore", "run/model.safetensors", f"{images}/0.png", "out.png"]):
        capsys.readouterr()
        assert main(command) == 2
        assert "was trained with the plugin 'my.py': add --plugin my.py, if you trust it." in capsys.readouterr().err
    plugin.write_text(f"{PLUGIN}# another line\n")
    assert main([*evaluate, "--plugin", "my.py"]) == 0
    assert "The plugin 'my.py' has changed since" in capsys.readouterr().err


@pytest.mark.slow
def test_the_code_in_a_run_folder_runs_only_if_it_is_named(plugin, images, capsys):
    words = ["train", "super-resolution", "--images", images, "--loss", "L1", *QUICK, "--out", "run"]
    assert main([*words, "--model", "my.py:Shuffle"]) == 0
    new_process()
    plugin.write_text("open('RAN', 'w')")
    assert main(["evaluate", "run", "--images", images, "--device", "cpu"]) == 2
    assert main(["report", "run", "--out", "page.html"]) == 0
    assert not Path("RAN").exists()
    with pytest.raises(ValueError, match=r"runs only if it is named|add --plugin my\.py"):
        load_network("run/model.safetensors")


@pytest.mark.parametrize("name", ["os:system", "my:Shuffle", "my.py:Shuffle", "lossmith.cli:main", "a:b:c"])
def test_a_network_name_never_imports_code(name, plugin):
    with pytest.raises(ValueError, match="which runs only if it is named"):
        build_network(name, 2)
    assert "my" not in sys.modules


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", r"The plugin 'bad.py' cannot be used: ZeroDivisionError in line 1: division by zero\."),
        ("x = (", r"The plugin 'bad.py' cannot be used: SyntaxError in line 1: '\(' was never closed\."),
        ("import nowhere", "ModuleNotFoundError in line 1: No module named 'nowhere'"),
        ("raise SystemExit(0)", "The plugin 'bad.py' cannot be used: SystemExit in line 1: 0"),
        ("from lossmith import L1, register\nregister(L1)", "ValueError in line 2: 'L1' cannot be registered"),
        (
            "from lossmith._plugin_files import load_plugin\nload_plugin('bad.py')",
            "ValueError in line 2: The plugin 'bad.py' runs itself",
        ),
    ],
)
def test_a_plugin_that_raises_is_named_with_its_line(code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text(code)
    assert main(["explain", "L1", "--plugin", "bad.py"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(ValueError, match=message):
        _plugin_files.load_plugin("bad.py")


def test_a_plugin_that_calls_the_command_line_does_not_recurse(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("loop.py").write_text("from lossmith.cli import main\nmain(['models', '--plugin', 'loop.py'])")
    assert main(["explain", "L1", "--size", "32", "--plugin", "loop.py"]) == 0
    assert "The plugin 'loop.py' runs itself" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plugin"], "--plugin needs a Python file or a module"),
        (["--plugin", "--json"], "--plugin needs a Python file or a module"),
        (["--plugin", "missing.py"], "There is no plugin file 'missing.py'"),
        (["--plugin", "no_such_module"], "The plugin 'no_such_module' cannot be imported: ModuleNotFoundError"),
        (["--plugin", "../x"], "must be a file that ends in .py, or the name of a module; got '../x'"),
    ],
)
def test_a_wrong_plugin_option_raises_one_line(words, message, capsys):
    assert main(["explain", "L1", *words]) == 2
    assert message in capsys.readouterr().err


def test_two_plugin_files_of_one_name_are_refused(plugin, capsys):
    Path("other").mkdir()
    Path("other/my.py").write_text("x = 1")
    assert main(["plugins", "--plugin", "my.py", "--plugin", "other/my.py"]) == 2
    assert "Two plugins are named 'my.py'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_object_trains_and_resumes(tmp_path, images):
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))

    def settings(steps: int) -> Settings:
        return Settings(
            loss="L1", steps=steps, images=images, scale=2, batch=2, crop=16, val_count=1, schedule="constant"
        )

    options = {"device": "cpu", "workers": 0}
    assert train(settings(2), tmp_path / "a", model=network(), **options) == 2
    resumed, straight = network(), network()
    assert train(settings(4), tmp_path / "a", model=resumed, **options) == 4
    assert train(settings(4), tmp_path / "b", model=straight, **options) == 4
    assert not torch.equal(straight[0].weight, network()[0].weight)
    torch.testing.assert_close(resumed[0].weight, straight[0].weight)
    with pytest.raises(ValueError, match=r"must be a torch\.nn\.Module; got 3"):
        train(settings(2), tmp_path / "c", model=3, **options)


def test_plugins_lists_the_adapters_of_lossmith_as_none_of_others():
    assert not [row for row in list_plugins() if row["package"] == "lossmith"]


def test_a_file_of_options_never_runs_the_code_that_it_names(tmp_path, monkeypatch, images, capsys):
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("open('RAN', 'w')")
    Path("run.toml").write_text('model = "evil.py:Net"\nplugins = ["evil.py"]\n')
    words = ["train", "super-resolution", "--images", images, "--loss", "L1", *QUICK, "--out", "run"]
    assert main([*words, "--config", "run.toml"]) == 2
    Path("run.toml").write_text('model = "evil.py:Net"\n')
    assert main([*words, "--config", "run.toml"]) == 2
    assert "runs only if it is named: add --plugin evil.py" in capsys.readouterr().err
    assert not Path("RAN").exists()


@pytest.mark.parametrize(
    "text", ["Cubed.measure", "Cubed.__init__(3)", "my.Cubed", "lossmith_plugin_my.Cubed", "main()"]
)
def test_a_formula_reaches_nothing_of_a_plugin_but_its_names(text, plugin):
    _plugin_files.load_plugin("my.py")
    with pytest.raises(ExpressionError):
        parse(text)
