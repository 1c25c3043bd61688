"""Time, bytes and operations of all contenders of a workload."""

import torch

from hybrid.contender import cosine
from hybrid.floor import ConvolutionFloor
from hybrid.libraries import build_contenders
from hybrid.measure import (
    build_step,
    count_operations,
    measure_allocations,
    measure_saved_bytes,
    median_ms,
    time_steps,
)
from hybrid.workloads import make_inputs

PRECISIONS = ("fp32", "bf16")


def compare_contenders(workload, sides, precisions, repetitions, weights, log):
    """Return a row for each contender and each floor, at each size and precision; and the absent libraries."""
    contenders, absent = build_contenders(workload, weights)
    for contender in contenders:
        contender.check(make_inputs(workload, 64))
    names = ", ".join(contender.name for contender in contenders)
    log(f"{workload.key}: values and gradients equal those of lossmith: {names}")
    rows = []
    for side in sides:
        inputs = make_inputs(workload, side)
        operations = {contender.name: count_operations(contender, inputs) for contender in contenders}
        gradients = {contender.name: contender.gradient(inputs) for contender in contenders}
        for precision in precisions:
            label = f"{workload.key}, {side} px, {precision}"
            rows += compare_at_precision(
                workload, inputs, precision, contenders, operations, gradients, repetitions,
                lambda text, label=label: log(label, text),
            )  # fmt: skip
    return rows, absent


def compare_at_precision(workload, inputs, precision, contenders, operations, gradients, repetitions, log):
    """Return the rows of one size and one precision.

    Args:
        workload: The workload.
        inputs: The loss inputs.
        precision: One of `PRECISIONS`.
        contenders: The contenders.
        operations: The operations of each contender.
        gradients: The fp32 gradient of each contender.
        repetitions: The number of repetitions.
        log: Prints the progress.
    """
    bf16 = precision == "bf16"
    shape = inputs["pred"].shape
    rows, steps = {}, {}
    for contender in contenders:
        row = {"contender": contender.name, "form": "lossmith" if contender.name in workload.formulas else "other"}
        try:
            similarity = cosine(contender.gradient(inputs, bf16), gradients[contender.name])
            row["kept"] = measure_saved_bytes(contender, inputs, bf16)
            row["held"], row["peak"] = measure_allocations(contender, inputs, bf16)
        except RuntimeError as error:  # no kernel for this precision, or out of memory
            rows[contender.name] = row | {"failed": str(error).splitlines()[0]}
            continue
        rows[contender.name] = row | {"cosine": similarity, "operations": operations[contender.name]}
        steps[contender.name] = build_step(contender, inputs, bf16)
    for name, loss in workload.formulas.items():
        floor = ConvolutionFloor(loss, shape, torch.bfloat16 if bf16 else torch.float32)
        label = f"convolutions of {name}"
        rows[label] = {"contender": label, "form": "floor", "operations": floor.operations}
        steps[label] = floor.step
    for name, seconds in time_steps(steps, repetitions, log).items():
        rows[name]["seconds"] = seconds
        rows[name]["forward"], rows[name]["backward"], rows[name]["step"] = median_ms(seconds)
    conditions = {"load": workload.key, "batch": shape[0], "side": shape[2], "precision": precision}
    return [conditions | row for row in rows.values()]
