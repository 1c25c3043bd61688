"""The result as Markdown."""

from pathlib import Path

from hybrid.loads import loads
from hybrid.quick import FORMS, THEIRS

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
HEAD = [
    "px",
    "",
    "forward ms",
    "backward ms",
    "step ms",
    "times ours",
    "kept MB",
    "held MB",
    "peak MB",
    "GFLOP",
    "cosine",
]

REST = {
    "floor_ratio_fp32": "step time / time of its convolutions, on one VGG-16, fp32",
    "floor_ratio_bf16": "the same, bf16",
    "floor_ratio_fp32_as_asked": "the same, as asked, fp32",
    "floor_ratio_bf16_as_asked": "the same, as asked, bf16",
    "extra_term_costs": "relative cost of one more term on VGG-16",
    "norms_cost": "relative cost of the gradient norms of all terms",
    "gradient_cosine_bf16": "minimum cosine of the bf16 gradient with the fp32 gradient",
    "gradient_cosine_bf16_mean": "mean of these cosines",
}


def markdown(result):
    """Where it was measured, the figures in short, and a table for each load and precision."""
    about = result["about"]
    lines = [f"Measured on {about['cpu']}, {about['threads']} threads; {', '.join(about['versions'])};"]
    lines += [f"medians of {about['repetitions']} repetitions; load average {about['load_start']:.2f} at the start,"]
    lines += [f"{about['load_end']:.2f} at the end; weights: {about['weights']}.", ""]
    if result["summary"]:
        lines += [*short(result["summary"]), ""]
    every = loads("random")
    for load in every.values():
        for precision in ("fp32", "bf16"):
            rows = [row for row in result["rows"] if (row["load"], row["precision"]) == (load.key, precision)]
            if rows:
                lines += [f"### {load.title}: {precision}, batch {load.batch}", "", *table(rows, load.best), ""]
        if load.key in result["absent"]:
            lines += [f"Not measured: {name}, which {why}." for name, why in result["absent"][load.key].items()] + [""]
    return "\n".join(lines)


def table(rows, best):
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " ---: | --- |" + " ---: |" * (len(HEAD) - 2)]
    ours = {row["side"]: row["step"] for row in rows if row["contender"] == best and "step" in row}
    for row in rows:
        if "failed" in row:
            cells = [f"fails: {row['failed']}", *[""] * (len(HEAD) - 3)]
        else:
            cells = [f"{row[key]:.1f}" for key in ("forward", "backward", "step")]
            cells += [f"{row['step'] / ours[row['side']]:.2f}" if row["side"] in ours else ""]
            cells += [f"{row[key] / 1e6:.1f}" if key in row else "" for key in ("kept", "held", "peak")]
            cells += [" + ".join(f"{count / 1e9:.1f}" for count in row["operations"])]
            cells += [f"{row['cosine']:.4f}" if "cosine" in row else ""]
        lines.append("| " + " | ".join([str(row["side"]), row["contender"], *cells]) + " |")
    return lines


def short(summary):
    """The figures in short: who is how many times slower and keeps how many times more, then what a term costs."""
    quantities = {"speedup_{}_fp32": "slower, fp32", "speedup_{}_bf16": "slower, bf16", "kept_ratio_{}": "kept, fp32"}
    quantities |= {
        "kept_ratio_{}_bf16": "kept, bf16",
        "peak_ratio_{}": "peak, fp32",
        "peak_ratio_{}_bf16": "peak, bf16",
    }
    lines = [f"### Summary: the first load, {summary['side']} px", ""]
    lines += ["| ratio | " + " | ".join(quantities.values()) + " |", "| --- |" + " ---: |" * len(quantities)]
    for ending, ours in FORMS.items():
        for key, theirs in THEIRS.items():
            values = [summary[quantity.format(key) + ending] for quantity in quantities]
            lines.append(f"| {theirs} / {ours} | " + " | ".join(map(told, values)) + " |")
    lines += ["", "| lossmith | |", "| --- | ---: |"]
    for key, what in REST.items():
        lines.append(f"| {what} | {told(summary[key])} |")
    return lines


def told(value):
    if value is None:
        return "not measured"
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


def put(result, path):
    """Puts the tables between the marks of a document."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{path} wants the marks {BEGIN} and {END} around the place of the tables.")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{markdown(result)}{END}{after}", encoding="utf-8")
