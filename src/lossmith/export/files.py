"""Files of exported networks, in ONNX or as .pt2 of torch.export, each compared with its network."""

import importlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from lossmith._checks import check_choice, check_integer, check_number
from lossmith._files import write_atomically, write_text_atomically
from lossmith.export.metadata import describe_graph
from lossmith.export.program import KnobInput, TracedNetwork, check_fixed_knobs, describe_network, quiet, trace_network
from lossmith.export.verification import Verification, verify_graph
from lossmith.models import Network

__all__ = ["DEFAULT_OPSET", "ExportReport", "export_network"]

DEFAULT_OPSET = 20
"""PyTorch's own default."""
OPSETS = (18, 23)
"""The first and last opset of PyTorch's operators in onnxscript; lower ones would need a lossy conversion."""
SUFFIXES = (".onnx", ".pt2")
TOLERANCES = {False: 1e-4, True: 1e-2}
"""The accepted difference in float32, and in float16, whose rounding of images alone is 2.4e-4."""


@final
@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Args:
        path: The file.
        metadata: The metadata in the file.
        verification: The comparison of the graph with the network.
    """

    path: Path
    metadata: Mapping[str, Any]
    verification: Verification


def export_network(
    model: Network,
    path: str | Path,
    *,
    header: Mapping[str, Any] | None = None,
    opset: int = DEFAULT_OPSET,
    knob_input: KnobInput = "image",
    fixed_knobs: Mapping[str, float] | None = None,
    half: bool = False,
    tolerance: float | None = None,
) -> ExportReport:
    """Write an image-to-image network as ONNX or as a program of torch.export, and compare the graph with the network.

    Height and width are free, and so is the batch size where the network allows it. The graph takes images
    (N, 3, H, W), RGB in [0, 1], pads them to the sides that the network needs, normalizes them, and returns the
    restored images (N, 3, scale H, scale W), which may overshoot [0, 1] a little. Each knob is an input, limited to its
    range. An ONNX graph is compared on ONNX Runtime's CPU provider.

    Args:
        model: The network; it is not changed.
        path: The file, which ends in .onnx or .pt2. ``PATH.json`` with the metadata is written beside an ONNX file; the
            metadata of a .pt2 file is its extra file "metadata.json".
        header: The header of the network's weight file, see :func:`lossmith.models.load_network`.
        opset: The version of ONNX's operators, 18 to 23.
        knob_input: "image" for knobs with one number for each image, (N,), or in ONNX one for all, (1,); "map" for maps
            (N, 1, H, W).
        fixed_knobs: Values of all knobs, which become constants of the graph, for programs that accept one input only.
        half: Whether the graph computes in float16, at half the size of the file; images and knobs stay float32.
        tolerance: The largest absolute difference from the network in float32 that is accepted; None for 1e-4, or
            1e-2 with `half`.

    Raises:
        ValueError: The network cannot be exported, the graph differs from the network, or an argument is invalid; no
            file is written.
        OSError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from lossmith.models import EDSR
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = export_network(EDSR(2, channels=4, blocks=1), f"{folder}/x2.pt2")
        >>> report.metadata["scale"], report.verification.worst_error < 1e-5
        (2, True)
    """
    path = Path(path)
    check_choice("export file suffix", path.suffix.lower(), SUFFIXES)
    check_choice("knob_input", knob_input, KnobInput)
    check_integer("opset", opset, low=OPSETS[0], high=OPSETS[1])
    accepted = TOLERANCES[half] if tolerance is None else check_number("tolerance", tolerance, low=0)
    check_fixed_knobs(model, fixed_knobs or {})
    if path.suffix.lower() == ".onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            _import(name)
    found: list[ExportReport] = []

    def write(partial: Path) -> None:
        traced = trace_network(model, knob_input=knob_input, fixed_knobs=fixed_knobs, half=half)
        if path.suffix.lower() == ".onnx":
            checked, metadata = _write_onnx(traced, partial, opset, accepted, header or {})
        else:
            checked, metadata = _write_pt2(traced, partial, accepted, header or {})
        found.append(ExportReport(path, metadata, checked))

    write_atomically(path, write)  # a folder that cannot be written is reported before the export, which takes long
    if path.suffix.lower() == ".onnx":
        text = json.dumps(found[0].metadata, indent=2) + "\n"
        write_text_atomically(path.with_name(f"{path.name}.json"), text)
    return found[0]


def _write_onnx(
    traced: TracedNetwork, partial: Path, opset: int, tolerance: float, header: Mapping[str, Any]
) -> tuple[Verification, dict[str, Any]]:
    onnxruntime = _import("onnxruntime")
    try:
        with quiet():
            program = torch.onnx.export(
                traced.program,
                input_names=traced.input_names,
                output_names=["restored"],
                opset_version=opset,
                dynamic_shapes=traced.dynamic_axes(),
                dynamo=True,
            )
    except Exception as error:  # operators without a translation raise private types
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{describe_network(traced.model)} cannot be exported to ONNX: {reason[0][:200]}.") from error
    assert program is not None
    proto = program.model_proto
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(
            f"{describe_network(traced.model)} cannot be exported: ONNX Runtime refuses its graph at opset {opset} "
            f"({str(error).splitlines()[0][:200]})."
        ) from error

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])

    checked = verify_graph(traced, run, f"ONNX Runtime {onnxruntime.__version__}", tolerance)
    metadata = {"opset": opset, **describe_graph(traced, header, checked)}
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    partial.write_bytes(proto.SerializeToString())
    return checked, metadata


def _write_pt2(
    traced: TracedNetwork, partial: Path, tolerance: float, header: Mapping[str, Any]
) -> tuple[Verification, dict[str, Any]]:
    buffer = io.BytesIO()
    torch.export.save(traced.program, buffer)
    buffer.seek(0)
    graph = torch.export.load(buffer).module()

    @torch.no_grad()
    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        image, *knobs = inputs.values()
        restored: Tensor = graph(image, *knobs)
        return restored

    checked = verify_graph(traced, run, f"torch.export {torch.__version__.partition('+')[0]}", tolerance)
    metadata = describe_graph(traced, header, checked)
    with partial.open("wb") as file:  # the name ends in .partial, which torch.export.save refuses
        torch.export.save(traced.program, file, extra_files={"metadata.json": json.dumps(metadata)})
    return checked, metadata


def _import(name: str) -> Any:
    """Return a module of the extra ``onnx``.

    Raises:
        ValueError: The module is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"An export to ONNX needs {name}, which cannot be imported ({error}): pip install -e '.[onnx]'."
        ) from error
