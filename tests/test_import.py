"""What `import lossmith` costs, what it leaves alone, and that it works where torchvision does not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lossmith

OPTIONAL = {"torchvision", "lightning", "spandrel", "optuna", "diffusers", "transformers", "matplotlib", "lpips"}
OPTIONAL |= {"keras", "skimage", "tensorboard", "timm", "scipy", "pandas", "cv2", "typer", "rich"}

IMPORT = """
import json, sys, time, torch, warnings
warnings.simplefilter("error")
before, state, begun = set(sys.modules), torch.get_rng_state(), time.process_time()
import lossmith
seconds = time.process_time() - begun  # the processor's: what else the machine does does not count
print(json.dumps([seconds, sorted(set(sys.modules) - before), torch.equal(state, torch.get_rng_state())]))
"""

USE = """
import json, torch
from lossmith import L1, lpips, parse, perceptual, style
x, y = torch.rand(2, 1, 3, 64, 64)
loss = L1() + perceptual("vgg16", weights="random") + lpips(weights="random") + style(weights="random")
print(json.dumps(parse(repr(loss))(x, y).isfinite().item()))
"""


def python(code: str, *first: Path) -> Any:
    """What a fresh interpreter prints, as JSON; it looks for modules in the first folders at first."""
    path = ":".join(str(folder) for folder in (*first, Path(lossmith.__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def imported() -> tuple[float, list[str], bool]:
    return min((python(IMPORT) for _ in range(3)), key=lambda found: found[0])  # what disturbs one comes on top


def test_no_optional_library_comes_along(imported):
    _, modules, _ = imported
    assert not OPTIONAL & {name.split(".")[0] for name in modules}


def test_it_costs_under_a_fifth_of_a_second_beyond_torch(imported):
    seconds, _, _ = imported
    assert seconds < 0.2


def test_it_leaves_the_seed_alone(imported):
    _, _, untouched = imported
    assert untouched


@pytest.mark.parametrize(
    "body", ["raise ImportError('no torchvision')", "raise RuntimeError('operator torchvision::nms')"]
)
def test_it_works_where_torchvision_is_missing_or_broken(body, tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(body)
    assert python(USE, tmp_path) is True
