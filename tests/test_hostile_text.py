"""Text that must not be executed: each raises an ExpressionError, and nothing in the text is called."""

import builtins
import os
import random
import subprocess

import pytest

from lossmith import ExpressionError, losses, parse

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
    "MissingWeightsError('x')",
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
def test_hostile_text_executes_nothing_and_raises_an_expression_error(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def caught(*args, **kwargs):
        raise AssertionError("the text was executed")

    for module, name in ((os, "system"), (subprocess, "Popen"), (builtins, "eval"), (builtins, "exec")):
        monkeypatch.setattr(module, name, caught)
    with pytest.raises(ExpressionError) as raised:
        parse(text)
    monkeypatch.undo()
    assert len(str(raised.value)) < 2500
    assert not (tmp_path / "RAN").exists()


@pytest.mark.slow
def test_random_text_gives_a_loss_that_parses_back_or_an_expression_error():
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
    parsed = 0
    for _ in range(3000):
        try:
            loss = parse(" ".join(dice.choices(tokens, k=dice.randint(1, 8))))
        except ExpressionError:
            continue
        assert repr(parse(repr(loss))) == repr(loss)
        parsed += 1
    assert parsed > 50
