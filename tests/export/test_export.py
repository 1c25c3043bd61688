"""Exported networks: graphs equal their networks, metadata describe them, and what cannot be exported is refused."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lossmith.export import export_network
from lossmith.export.program import trace_network
from lossmith.models import (
    EDSR,
    Autoencoder,
    ConditionedNetwork,
    Inpainter,
    OutputInterpolation,
    Restorer,
    build_network,
    run_tiled,
    save_network,
)

ROOT = Path(__file__).parents[2]
KNOB = {"lam": (0.03, 30.0)}


def randomized(model: nn.Module) -> nn.Module:
    """Return the network with random weights in place of zeros, so that every layer acts."""
    torch.manual_seed(0)
    for weight in model.parameters():
        if not weight.detach().any():
            nn.init.normal_(weight, std=0.05)
    return model.eval()


def small_edsr(scale: int = 2) -> EDSR:
    return randomized(EDSR(scale, channels=4, blocks=1))


def conditioned() -> ConditionedNetwork:
    return randomized(ConditionedNetwork(EDSR(2, channels=4, blocks=2), KNOB))


def run_onnx(path: Path, **inputs: torch.Tensor) -> torch.Tensor:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])


@pytest.fixture
def onnx():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")


def test_a_pt2_file_holds_the_graph_and_its_metadata(tmp_path):
    model = small_edsr()
    report = export_network(model, tmp_path / "x2.pt2", header={"loss": "L1 + 0.1*SSIM", "license": "MIT"})
    extra = {"metadata.json": ""}
    graph = torch.export.load(tmp_path / "x2.pt2", extra_files=extra).module()
    image = torch.rand(1, 3, 13, 30)
    assert_close(graph(image), model(image))
    metadata = json.loads(extra["metadata.json"])
    assert metadata == report.metadata
    assert (metadata["scale"], metadata["channels"], metadata["range"]) == (2, ["R", "G", "B"], [0.0, 1.0])
    assert (metadata["loss"], metadata["license"], metadata["overlap"]) == ("L1 + 0.1*SSIM", "MIT", 5)
    assert "wang2004" in metadata["citation"]
    assert metadata["verification"]["worst_absolute_error"] <= 1e-5


@pytest.mark.slow
def test_the_network_is_not_changed(tmp_path):
    model = small_edsr().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_network(model, tmp_path / "x2.pt2")
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [small_edsr, lambda: Inpainter(channels=4, blocks=1), lambda: Autoencoder(channels=4, blocks=1, latent="vq")],
    ids=["edsr", "inpainter", "autoencoder"],
)
def test_an_onnx_file_equals_its_network_at_other_sizes(make, onnx, tmp_path):
    model = randomized(make())
    report = export_network(model, tmp_path / "model.onnx")
    assert report.metadata["input"]["shape"][0] == "batch"
    image = torch.rand(2, model.in_channels, 31, 18)
    assert_close(run_onnx(tmp_path / "model.onnx", image=image), model(image).detach(), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_knob_is_an_input_for_one_number_or_one_for_each_image_and_is_limited_to_its_range(onnx, tmp_path):
    model, path = conditioned(), tmp_path / "knob.onnx"
    metadata = export_network(model, path).metadata
    assert metadata["knobs"]["lam"] == {"range": [0.03, 30.0], "spacing": "logarithmic", "shape": ["1 or batch"]}
    assert metadata["verification"]["knob_fractions"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    image = torch.rand(3, 3, 10, 14)
    for values in (torch.tensor([0.7]), torch.tensor([0.05, 1.0, 20.0])):
        expected = model(image, lam=values if len(values) == 3 else values.item()).detach()
        assert_close(run_onnx(path, image=image, lam=values), expected, atol=1e-4, rtol=0)
    above = run_onnx(path, image=image, lam=torch.tensor([1e4]))
    assert_close(above, model(image, lam=30.0).detach(), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_knob_may_be_a_map(onnx, tmp_path):
    model, path = OutputInterpolation(conditioned()), tmp_path / "knob.onnx"
    export_network(model, path, knob_input="map")
    image, lam = torch.rand(2, 3, 10, 14), torch.rand(2, 1, 10, 14) + 0.1
    assert_close(run_onnx(path, image=image, lam=lam), model(image, lam=lam).detach(), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.slow
def test_a_graph_in_half_precision_has_half_the_size_and_is_near_the_network(onnx, tmp_path):
    model, image, knobs = conditioned(), torch.rand(2, 3, 19, 30), {"lam": torch.tensor([0.1, 3.0])}
    report = export_network(model, tmp_path / "half.onnx", half=True)
    size = sum(weight.nbytes for weight in initializers(report.path))
    assert size < 0.6 * sum(4 * weight.numel() for weight in model.parameters())
    assert report.metadata["precision"] == "float16"
    found = run_onnx(report.path, image=image, **knobs)
    assert found.dtype == torch.float32
    assert 0 < (found - model(image, **knobs)).abs().max() < 1e-2


def initializers(path):
    import onnx as package

    return [package.numpy_helper.to_array(each) for each in package.load(path).graph.initializer]


def test_a_pt2_in_half_precision_is_compared_with_the_network_in_float32(tmp_path):
    report = export_network(small_edsr(), tmp_path / "x2.pt2", half=True)
    assert 0 < report.verification.worst_error < 1e-2
    with pytest.raises(ValueError, match=r"differs from the network by .*; the tolerance is 1e-06"):
        export_network(small_edsr(), tmp_path / "x2.pt2", half=True, tolerance=1e-6)


def test_the_command_exports_the_best_weights_of_a_run_that_selects_them(tmp_path, capsys):
    from lossmith.cli import main

    for name, step in (("model", 4), ("best", 2)):
        save_network(small_edsr(), tmp_path / f"{name}.safetensors", {"step": step})
    (tmp_path / "config.json").write_text('{"select": "psnr_y"}')
    words = ["export", str(tmp_path), str(tmp_path / "x2.pt2")]
    steps = {}
    for choice in ([], ["--weights", "last"]):
        assert main([*words, *choice]) == 0
        extra = {"metadata.json": ""}
        torch.export.load(tmp_path / "x2.pt2", extra_files=extra)
        steps[" ".join(choice)] = json.loads(extra["metadata.json"])["step"]
    assert steps == {"": 2, "--weights last": 4}
    assert "Weights of step 2, the best" in capsys.readouterr().err


def test_a_fixed_knob_is_no_input(tmp_path):
    model = conditioned()
    report = export_network(model, tmp_path / "knob.pt2", fixed_knobs={"lam": 0.7})
    graph = torch.export.load(tmp_path / "knob.pt2").module()
    image = torch.rand(2, 3, 10, 14)
    assert_close(graph(image), model(image, lam=0.7))
    assert (report.metadata["knobs"], report.metadata["fixed_knobs"]) == ({}, {"lam": 0.7})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "batch"),
    [
        ("Compact", {"num_feat": 8, "num_conv": 2}, "batch"),
        ("SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8}, "batch"),
        ("SwinIR", {"depths": [1], "embed_dim": 8, "num_heads": [2], "window_size": 8}, 1),
    ],
)
def test_an_architecture_of_spandrel_is_padded_inside_the_graph(name, options, batch, onnx, tmp_path):
    more = {"upsampler": "pixelshuffledirect"} if name == "SwinIR" else {}
    model = randomized(build_network(f"spandrel:{name}", 2, **options, **more))
    report = export_network(model, tmp_path / "model.onnx", opset=18)
    assert (report.metadata["input"]["shape"][0], report.metadata["opset"]) == (batch, 18)
    image = torch.rand(1, 3, 19, 42)
    assert_close(run_onnx(tmp_path / "model.onnx", image=image), model(image).detach(), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_an_onnx_file_holds_its_metadata_which_also_lie_beside_it(onnx, tmp_path):
    import onnx as library

    report = export_network(small_edsr(), tmp_path / "x2.onnx", opset=19)
    properties = {each.key: each.value for each in library.load(tmp_path / "x2.onnx").metadata_props}
    assert (properties["scale"], properties["opset"], properties["architecture"]) == ("2", "19", "edsr")
    assert json.loads((tmp_path / "x2.onnx.json").read_text()) == report.metadata


@pytest.mark.slow
def test_the_tiling_function_of_the_docs_equals_the_whole_image(onnx, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text("utf-8"), re.DOTALL)
    names: dict = {}
    exec(next(block for block in blocks if "def restore_tiled" in block), names)
    model = conditioned()
    export_network(model, tmp_path / "knob.onnx", knob_input="map")
    session, scale, overlap = names["load_network"](tmp_path / "knob.onnx")
    assert (scale, overlap) == (2, model.receptive_radius)
    image, lam = torch.rand(1, 3, 50, 37), torch.rand(1, 1, 50, 37) + 0.1
    found = names["restore_tiled"](session, image.numpy(), scale, overlap, tile=16, lam=lam.numpy())
    assert_close(torch.from_numpy(found), run_tiled(model, image, tile=16, knobs={"lam": lam}), atol=1e-4, rtol=0)
    assert_close(torch.from_numpy(found), model(image, lam=lam).detach(), atol=1e-4, rtol=0)


class SizeDependent(Restorer):
    """A network whose result depends on a branch on the height."""

    def __init__(self) -> None:
        super().__init__(1, 0, {"name": "size-dependent"})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the images, inverted if their height is a multiple of 4."""
        return 1 - image if int(image.shape[-2]) % 4 == 0 else image


class ReturnsNaN(Restorer):
    """A network that returns NaN."""

    def __init__(self) -> None:
        super().__init__(1, 0, {"name": "not-finite"})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return NaN."""
        return image * float("nan")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SizeDependent(), r"size-dependent (cannot be exported|was not exported): "),
        (ReturnsNaN(), r"not-finite was not exported: at 1 x 24 x 32 its graph in torch.export .* differs .* by nan"),
    ],
    ids=["size", "nan"],
)
def test_a_graph_that_differs_from_its_network_is_refused_and_nothing_is_written(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_network(model, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("suffix", "options", "message"),
    [
        (".onnx", {"opset": 3}, "opset must be an integer at least 18 and at most 23; got 3"),
        (".onnx", {"knob_input": "maps"}, r"knob_input must be one of 'image', 'map'; got 'maps'\. Did you mean 'map'"),
        (".pth", {}, r"export file suffix must be one of '\.onnx', '\.pt2'; got '\.pth'"),
        (".pt2", {"fixed_knobs": {"lam": 50.0}}, "The knob 'lam' must be at least 0.03 and at most 30; got 50"),
        (".pt2", {"fixed_knobs": {"mu": 0.5}}, r"conditioned\(edsr\) has no knob 'mu'; it has the knobs lam"),
        (".pt2", {"tolerance": -1.0}, "tolerance must be at least 0; got -1.0"),
    ],
)
def test_a_wrong_argument_is_reported_before_the_export(suffix, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_network(conditioned(), tmp_path / f"model{suffix}", **options)


def test_a_network_that_does_not_map_images_to_images_is_refused():
    from lossmith.text_to_image.models.direct_decoder import DirectDecoder

    decoder = DirectDecoder(side=16, text_dim=8, channels=[16, 8])
    with pytest.raises(ValueError, match="direct-decoder cannot be exported, because it does not map images to images"):
        trace_network(decoder)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_reported_with_its_extra(missing, monkeypatch, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else torch)
    with pytest.raises(ValueError, match=rf"needs {missing}, which cannot be imported.*pip install -e '\.\[onnx\]'"):
        export_network(small_edsr(), tmp_path / "x2.onnx")


def test_a_folder_that_cannot_be_written_is_reported_before_the_export(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("lossmith.export.files.trace_network", lambda *a, **k: pytest.fail("traced"))
    with pytest.raises(OSError, match=r"x2\.pt2' cannot be written: "):
        export_network(small_edsr(), tmp_path / "file" / "x2.pt2")


@pytest.mark.slow
def test_the_command_exports_a_file_and_says_how_exact_it_is(tmp_path, capsys):
    from lossmith.cli import main

    save_network(conditioned(), tmp_path / "knob.safetensors", {"loss": "L1 + lam*TV"})
    words = ["export", str(tmp_path / "knob.safetensors"), str(tmp_path / "out" / "knob.pt2")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "input lam: 0.03 to 30, one number for each image" in printed
    assert re.search(
        r"knob\.pt2: conditioned\(edsr\), x2, worst absolute error \S+ in torch\.export \S+ at 5 sizes", printed
    )
    assert main([*words, "--at", "map.png"]) == 2
    assert "a map cannot be fixed in a graph; use --knob-input map" in capsys.readouterr().err
    assert main([*words, "--at", "lam=99"]) == 2
    assert "The knob 'lam' must be at least 0.03 and at most 30; got 99.0." in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_of_spandrel_leaves_its_input_unchanged():
    pytest.importorskip("spandrel")
    options = {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 4}
    model = build_network("spandrel:RCAN", 2, **options).eval()
    image = torch.rand(1, 3, 9, 7)
    before = image.clone()
    model(image)
    assert torch.equal(image, before)


def test_the_table_of_the_docs_is_that_of_the_measurement(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import export as bench

    rows = json.loads((ROOT / "bench" / "export.json").read_text("utf-8"))["rows"]
    measured = [row for row in rows if "refused" not in row]
    assert bench.table(rows) in (ROOT / "docs" / "export.md").read_text("utf-8")
    assert max(row["worst_absolute_error"] for row in measured) <= 1e-4
    assert sum(row["source"] == "spandrel" for row in measured) >= 15
    del sys.modules["export"]
