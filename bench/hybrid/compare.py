"""A load at one size and precision: who takes how long, and how much."""

import torch

from hybrid.contender import cosine
from hybrid.contenders import contenders
from hybrid.floor import Floor
from hybrid.loads import views
from hybrid.measure import allocated, kept, medians, operations, step, turns

PRECISIONS = ("fp32", "bf16")


def compared(load, sides, precisions, repetitions, weights, say):
    """A row for each contender and each floor, at each size and precision; and who is absent, and why."""
    there, absent = contenders(load, weights)
    for contender in there:
        contender.check(views(load, 64))
    say(f"{load.key}: values and gradients are what they should be: {', '.join(c.name for c in there)}")
    rows = []
    for side in sides:
        given = views(load, side)
        work = {contender.name: operations(contender, given) for contender in there}
        exact = {contender.name: contender.gradient(given) for contender in there}
        for precision in precisions:
            where = f"{load.key}, {side} px, {precision}"
            rows += block(load, given, precision, there, work, exact, repetitions, lambda text, w=where: say(w, text))
    return rows, absent


def block(load, given, precision, there, work, exact, repetitions, say):
    bf16 = precision == "bf16"
    shape = given["pred"].shape
    rows, steps = {}, {}
    for contender in there:
        row = {"contender": contender.name, "form": "lossmith" if contender.name in load.ours else "other"}
        try:
            turn = cosine(contender.gradient(given, bf16), exact[contender.name])
            row["kept"] = kept(contender, given, bf16)
            row["held"], row["peak"] = allocated(contender, given, bf16)
        except RuntimeError as error:  # no kernel for a precision, or no memory
            rows[contender.name] = row | {"failed": str(error).splitlines()[0]}
            continue
        rows[contender.name] = row | {"cosine": turn, "operations": work[contender.name]}
        steps[contender.name] = step(contender, given, bf16)
    for name, loss in load.ours.items():
        floor = Floor(loss, shape, torch.bfloat16 if bf16 else torch.float32)
        of = f"convolutions of {name}"
        rows[of] = {"contender": of, "form": "floor", "operations": floor.operations}
        steps[of] = floor.step
    for name, seconds in turns(steps, repetitions, say).items():
        rows[name]["seconds"] = seconds
        rows[name]["forward"], rows[name]["backward"], rows[name]["step"] = medians(seconds)
    about = {"load": load.key, "batch": shape[0], "side": shape[2], "precision": precision}
    return [about | row for row in rows.values()]
