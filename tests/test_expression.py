"""Text to loss and back, and text that must not run."""

import builtins
import json
import os
import random
import subprocess

import numpy as np
import pytest
import torch

from lossmith import (
    L1,
    TV,
    VGG,
    ExpressionError,
    Knob,
    OffAfter,
    OnFrom,
    Piecewise,
    Ramp,
    load,
    losses,
    parse,
    perceptual,
    save,
    style,
)
from lossmith.lenses import vgg


def a_random_formula(dice: random.Random) -> str:
    """A formula of the grammar, as a user may write it."""

    def number() -> str:
        return dice.choice(["0.1", "2", "1e-3", "10/3", "3.5e2", "(1 + 2)"])

    def weight() -> str:
        schedules = ["OnFrom(100)", "OffAfter(5)", "Ramp(0, 1, steps=10)", 'Ramp(1, 0.5, 100, shape="cosine", since=7)']
        schedules += ["Piecewise({0: 1.0, 100: 0.5})", "lam", "mu", "-lam", "lam/2", 'Knob("nu")']
        return "*".join(dice.sample([number(), number(), *schedules], dice.randint(1, 3)))

    def layers() -> str:
        return dice.choice(['"relu1_2"', "['conv1_1', 'relu3_1']", '{"conv2_2": 0.1, "relu1_1": 3}'])

    def lens() -> str:
        network = f'VGG("{dice.choice(["vgg16", "vgg19"])}", {layers()}, weights="random")'
        return dice.choice([network, f"Gram @ {network}", f'Gram("hw") @ {network}', "SqueezeNet('fire3')", "Gram()"])

    def distance() -> str:
        plain = ["L1", "L2()", "Lp(3)", "Charbonnier(eps=0.01)", "Huber", "TV('isotropic', squared=True)", "SSIM(7)"]
        recipes = ["perceptual", "style('vgg19')", "lpips", "ms_ssim_l1", "gatys()", "johnson", "real_esrgan"]
        found = dice.choice([*plain, *recipes, f"L1 @ {lens()}", f"(L2 + 0.5*L1) @ {lens()}"])
        return f'({found}).on(target="truth")' if "target" in parse(found).reads and dice.random() < 0.3 else found

    terms = [
        dice.choice(["{d}", "{w} * {d}", "{d} / 4"]).format(d=distance(), w=weight()) for _ in range(dice.randint(1, 4))
    ]
    return " + ".join(terms) if dice.random() < 0.8 else " - ".join(terms)


@pytest.mark.parametrize("seed", range(200))
def test_the_repr_of_what_a_formula_says_is_a_formula_that_says_it(seed):
    loss = parse(a_random_formula(random.Random(seed)))
    again = parse(repr(loss))
    assert repr(again) == repr(loss)
    assert again.weights == loss.weights
    assert again.names == loss.names
    assert again.reads == loss.reads
    assert again.networks == loss.networks


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("L1", L1()),
        ("L1 + 0.1*perceptual", L1() + 0.1 * perceptual()),
        ("  L1\n", L1()),
        ("L1 # a comment", L1()),
        ("lam * L1 + TV", Knob("lam") * L1() + TV()),
        ("lam*L1 - TV/4", Knob("lam") * L1() - TV() / 4),
        ("Knob('lam') * L1", Knob("lam") * L1()),
        ("λ * L1", Knob("λ") * L1()),
        ("OnFrom(100) * style('vgg19', 'relu2_1')", OnFrom(100) * style("vgg19", "relu2_1")),
        ("L1 @ VGG('vgg19', 'conv5_4')", L1() @ VGG("vgg19", "conv5_4")),
        ("L1.on(pred='filled')", L1().on(pred="filled")),
        ("2 * (L1 + TV)", 2 * (L1() + TV())),
    ],
)
def test_text_says_what_python_says(text, written):
    assert repr(parse(text)) == repr(written)


def test_every_loss_and_recipe_can_be_named():
    for name in losses.__all__:
        if name != "Lp":
            assert parse(name).terms


@pytest.mark.parametrize("path", ["C:\\new\\table.pth", 'a "quoted" name', "it's", "tab\there", "ümlaut/日本", "a\nb"])
def test_any_path_reads_back(path):
    loss = perceptual("vgg19", "relu1_1", weights=path)
    (network,) = parse(repr(loss)).networks.values()
    assert network.weights == path
    assert "\n" not in repr(loss)


def test_numpys_numbers_read_back():
    loss = L1() + np.float64(0.1) * losses.Charbonnier(np.float64(0.01)) + losses.Lp(np.int64(3))
    assert repr(loss) == "L1() + 0.1 * Charbonnier(eps=0.01) + Lp(3)"
    assert repr(parse(repr(loss))) == repr(loss)


def test_schedules_read_back():
    loss = Ramp(0, 1, 100) * Piecewise({0: 1.0, 10: 0.5}) * OnFrom(3) * OffAfter(9) * L1()
    assert parse(repr(loss)).weights == loss.weights


CARETS = [
    ("L1 + perceptuel", "Unknown name 'perceptuel'; did you mean 'perceptual'?", 5),
    ("L1 + 0.1*stile", "Unknown name 'stile'; did you mean 'style'?", 9),
    ("l1 + TV", "Unknown name 'l1'; did you mean 'L1'?", 0),
    ("L1 + tv", "Unknown name 'tv'; did you mean 'TV'?", 5),
    ("L1 + Percptual()", "Unknown name 'Percptual'; did you mean 'perceptual'?", 5),
    ("Foo * L1", "Unknown name 'Foo'; there are", 0),
    ("L1 + perceptual(nett='vgg19')", "got an unexpected keyword argument 'nett'", 5),
    ("L1 + perceptual('vgg91')", "got 'vgg91'", 5),
    ("L1 + style('vgg19', 'relu9_1')", "vgg19 has no layer 'relu9_1'", 5),
    ("L1 + perceptual(vgg19)", "write 'vgg19' in quotes if it is text", 16),
    ("L1 + Lp", "Lp(p) was called otherwise: missing a required argument: 'p'", 5),
    ("L1 + Lp(0.5)", "Lp wants a finite p of at least 1; got 0.5", 5),
    ("L1 + Lp('2')", "Lp wants a finite number; got '2'", 5),
    ("L1(3)", "L1 cannot take these arguments", 0),
    ("L1 + TV(squared=L1)", "write 'L1' in quotes if it is text", 16),
    ("L1 + TV(squared=L1())", "An argument is a number or text; L1() is neither", 16),
    ("L1 + lam", "'lam' is a knob, which multiplies: lam * a loss", 5),
    ("L1 + 3", "a loss + a number means nothing", 5),
    ("L1 * TV", "a loss * a loss means nothing", 5),
    ("Gram @ L1", "a lens @ a loss means nothing", 7),
    ("-Gram", "a lens has no sign", 1),
    ("L1 + 'TV'", "'TV' is no loss, lens or weight", 5),
    ("True * L1", "True is no loss, lens or weight", 0),
    ("1/0 * L1", "division by zero", 2),
    ("0.1 * VGG('vgg19', 'conv1_1')", "a number * a lens means nothing", 6),
    ("VGG('vgg19', 'conv1_1')", "is a lens, with no distance before it; write L1 @ VGG", 0),
    ("lam", 'This is no loss but only a weight, Knob("lam"); add a loss such as L1.', 0),
    ("3", "This is no loss but only a weight, 3; add a loss such as L1.", 0),
    ("L1 + (TV", "'(' was never closed", 5),
    ("L1 + 0.1 perceptual", "The loss cannot be read: invalid syntax", 9),
    ("L1 ++ $", "The loss cannot be read: invalid syntax", 6),
    ("éé * L1 + Foo", "Unknown name 'Foo'", 10),
    ("(L1 +\n  Foo)", "Unknown name 'Foo'", 2),
    ("L1.on(prod='x')", "L1() reads pred, target; it has no 'prod' to put elsewhere", 0),
    ("TV(per='image', per='pixel')", "'per' is given twice", 20),
    ("1e400 * L1", "A weight wants a finite number; got inf", 8),
    ("nan * L1", "'nan' means something else already", 0),
    ("step * L1", "'step' means something else already", 0),
    ("OnFrom('soon') * L1", "OnFrom wants whole steps of at least 0; got 'soon'", 0),
]


@pytest.mark.parametrize(("text", "message", "column"), CARETS, ids=[text for text, *_ in CARETS])
def test_an_error_says_what_and_where(text, message, column):
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    said, shown, caret = str(caught.value).split("\n")
    assert message in said
    assert shown.strip() in text
    assert caret == " " * (4 + column) + "^"


@pytest.mark.parametrize("text", ["", "  ", "\n\t\n"])
def test_an_empty_formula_is_said(text):
    with pytest.raises(ExpressionError, match="The loss is empty; write one such as"):
        parse(text)


def test_a_long_formula_is_shown_around_the_place():
    text = " + ".join(["L1"] * 200) + " + Foo + " + " + ".join(["L1"] * 200)
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    said, shown, caret = str(caught.value).split("\n")
    assert "Unknown name 'Foo'" in said
    assert len(shown) < 250
    assert shown[caret.index("^") :].startswith("Foo")


HOSTILE = [
    "__import__('os').system('touch RAN')",
    "L1.__class__.__bases__",
    "L1.__init__(3)",
    "L1.measure",
    "L1.measure(1, 2)",
    "L1.on.__globals__",
    "().__class__.__mro__",
    "'{0.__class__}'.format(L1)",
    'f\'{__import__("os").system("touch RAN")}\'',
    "L1 if open('RAN', 'w') else L1",
    "(lambda: open('RAN', 'w'))()",
    "[L1 for _ in (1, 2)]",
    "{L1 for _ in (1, 2)}",
    "{a: L1 for a in 'b'}",
    "(L1 for _ in (1, 2))",
    "(x := L1)",
    "x = L1",
    "L1; L1",
    "import os",
    'exec(\'open("RAN", "w")\')',
    "eval('1')",
    "open('RAN', 'w')",
    "print(1)",
    "getattr(L1, '__class__')",
    "MissingWeights('x')",
    "Weight(3) * L1",
    "Chain([L1])",
    "9**9**9 * L1",
    "L1 ** 2",
    "2 // 1 * L1",
    "1 << 99999 * L1",
    "~1 * L1",
    "not L1",
    "L1 and L2",
    "L1 < L2",
    "L1 == L2",
    "L1[0]",
    "L1, L2",
    "[L1, L2]",
    "*L1",
    "VGG(*['vgg19', 'conv1_1'])",
    "L1(**{'a': 1})",
    "L1.on(**{'pred': 'x'})",
    "L1.on('filled')",
    "L1.on(pred=L1)",
    "perceptual(L1)",
    "'a' * 999999999 * L1",
    "[1] * 999999999 * L1",
    "b'x' * L1",
    "3j * L1",
    "... * L1",
    "None",
    "await L1",
    "yield L1",
    "L1\0",
    "L1 + \udc80",
    "L1 + \u2028",
    "\ufeffL1",
    "\u21121 + \uff26oo",
    "1e400",
    "1e400 - 1e400",
    "-1e400 * L1",
    "L1 / 0",
    "L1 / lam",
    "_ * L1",
    "__builtins__ * L1",
    "{} * L1",
    "{**{}} * L1",
    "L1 @ VGG('vgg19', {L1: 1})",
    "L1 @ VGG('vgg19', [['x']])",
    "L1 @ VGG(3, 4)",
    "perceptual('vgg19', weights=['a'])",
    "(" * 500 + "L1" + ")" * 500,
    "-" * 100_000 + "L1",
    "[" * 100_000,
    "+".join(["L1"] * 20_000),
    "L1 * " + "9" * 5000,
    "L1 * " + "9" * 400,
    "L1." + "on()." * 50_000 + "on()",
    "\\",
    "'''",
    "L1 +\\\n",
    "#",
]


@pytest.mark.parametrize("text", HOSTILE, ids=[ascii(text)[:40] for text in HOSTILE])
def test_hostile_text_runs_nothing_and_gets_one_kind_of_error(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def caught(*args, **kwargs):
        raise AssertionError("the text was run")

    for module, name in ((os, "system"), (subprocess, "Popen"), (builtins, "eval"), (builtins, "exec")):
        monkeypatch.setattr(module, name, caught)
    with pytest.raises(ExpressionError) as raised:
        parse(text)
    monkeypatch.undo()
    assert len(str(raised.value)) < 2500
    assert not (tmp_path / "RAN").exists()


def test_noise_gives_a_loss_that_reads_back_or_one_kind_of_error():
    dice = random.Random(0)
    tokens = [
        *losses.__all__,
        "VGG",
        "Gram",
        "Knob",
        "lam",
        *"+-*/@()[]{}:,.",
        "on",
        '"vgg19"',
        '"relu4_2"',
        "1",
        "0.5",
        "**",
    ]
    tokens += ["'", "\n", "\\", "é", "None", "lambda", "=", "pred"]
    understood = 0
    for _ in range(3000):
        try:
            loss = parse(" ".join(dice.choices(tokens, k=dice.randint(1, 8))))
        except ExpressionError:
            continue
        assert repr(parse(repr(loss))) == repr(loss)
        understood += 1
    assert understood > 50


@pytest.fixture
def hybrid(files):
    weights = str(files(vgg.shared("vgg16", None)))
    return L1() + Knob("lam") * perceptual("vgg16", "relu1_2", weights=weights)


def test_a_loss_saves_and_loads(hybrid, tmp_path, pictures):
    save(hybrid, tmp_path / "loss.json")
    again = load(tmp_path / "loss.json")
    assert repr(again) == repr(hybrid)
    assert torch.equal(again(*pictures(), lam=0.3), hybrid(*pictures(), lam=0.3))
    assert [path.name for path in tmp_path.iterdir()] == ["loss.json"]


def test_the_file_holds_the_text_and_the_hashes(hybrid, tmp_path):
    save(hybrid, tmp_path / "loss.json")
    recipe = json.loads((tmp_path / "loss.json").read_text())
    assert recipe["text"] == repr(hybrid)
    assert {name: len(digest) for name, digest in recipe["weights"].items()} == dict.fromkeys(hybrid.networks, 64)


def test_other_weights_than_were_saved_are_refused(hybrid, tmp_path):
    save(hybrid, tmp_path / "loss.json")
    recipe = json.loads((tmp_path / "loss.json").read_text())
    recipe["weights"] = dict.fromkeys(recipe["weights"], "0" * 64)
    (tmp_path / "loss.json").write_text(json.dumps(recipe))
    with pytest.raises(
        ValueError, match=r"was saved with other weights of .*VGGNetwork.* \(00000000...\) than are found"
    ):
        load(tmp_path / "loss.json")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"text": "L1"}', b'{"text": "L1", "weights": 3}', b"\xff\xfe\x00"]
)
def test_a_file_that_holds_no_loss_is_refused(content, tmp_path):
    (tmp_path / "loss.json").write_bytes(content)
    with pytest.raises(ValueError, match="holds no loss that was saved"):
        load(tmp_path / "loss.json")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no loss that was saved"):
        load(tmp_path / "none.json")


def test_a_saved_text_is_read_as_text_and_never_run(tmp_path):
    (tmp_path / "loss.json").write_text(json.dumps({"text": "__import__('os').system('true')", "weights": {}}))
    with pytest.raises(ExpressionError):
        load(tmp_path / "loss.json")


def test_a_failed_save_leaves_the_older_file(hybrid, tmp_path, monkeypatch):
    path = tmp_path / "loss.json"
    save(L1(), path)
    before = path.read_text()
    monkeypatch.setattr("pathlib.Path.write_text", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        save(hybrid, path)
    monkeypatch.undo()
    assert path.read_text() == before
