"""The result as Markdown."""

import textwrap
from pathlib import Path

from hybrid.summary import FORMULAS, OTHERS
from hybrid.workloads import build_workloads

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
COLUMNS = [
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

SUMMARY_ROWS = {
    "floor_ratio_fp32": "step time / time of its convolutions, on one VGG-16, fp32",
    "floor_ratio_bf16": "the same, bf16",
    "floor_ratio_fp32_as_asked": "the same, as asked, fp32",
    "floor_ratio_bf16_as_asked": "the same, as asked, bf16",
    "extra_term_costs": "relative cost of one more term on VGG-16",
    "norms_cost": "relative cost of the gradient norms of all terms",
    "gradient_cosine_bf16": "minimum cosine of the bf16 gradient with the fp32 gradient",
    "gradient_cosine_bf16_mean": "mean of these cosines",
}


def format_result(result):
    """Return the machine, the summary, and a table for each workload and precision."""
    about = result["about"]
    conditions = (
        f"Measured on {about['cpu']}, {about['threads']} threads; {', '.join(about['versions'])}; "
        f"medians of {about['repetitions']} repetitions; load average {about['load_start']:.2f} at the start, "
        f"{about['load_end']:.2f} at the end; weights: {about['weights']}."
    )
    lines = [*textwrap.wrap(conditions, 120), ""]
    if result["summary"]:
        lines += [*format_summary(result["summary"]), ""]
    for workload in build_workloads("random").values():
        for precision in ("fp32", "bf16"):
            rows = [row for row in result["rows"] if (row["load"], row["precision"]) == (workload.key, precision)]
            if rows:
                title = f"### {workload.title}: {precision}, batch {workload.batch}"
                lines += [title, "", *format_table(rows, workload.recommended), ""]
        if workload.key in result["absent"]:
            absent = result["absent"][workload.key].items()
            lines += [f"Not measured: {name}, which {reason}." for name, reason in absent] + [""]
    return "\n".join(lines)


def format_table(rows, recommended):
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " ---: | --- |" + " ---: |" * (len(COLUMNS) - 2)]
    ours = {row["side"]: row["step"] for row in rows if row["contender"] == recommended and "step" in row}
    for row in rows:
        if "failed" in row:
            cells = [f"fails: {row['failed']}", *[""] * (len(COLUMNS) - 3)]
        else:
            cells = [f"{row[key]:.1f}" for key in ("forward", "backward", "step")]
            cells += [f"{row['step'] / ours[row['side']]:.2f}" if row["side"] in ours else ""]
            cells += [f"{row[key] / 1e6:.1f}" if key in row else "" for key in ("kept", "held", "peak")]
            cells += [" + ".join(f"{count / 1e9:.1f}" for count in row["operations"])]
            cells += [f"{row['cosine']:.4f}" if "cosine" in row else ""]
        lines.append("| " + " | ".join([str(row["side"]), row["contender"], *cells]) + " |")
    return lines


def format_summary(summary):
    """Return the summary: ratios of time and memory to the other libraries, then the cost of a term."""
    quantities = {"speedup_{}_fp32": "slower, fp32", "speedup_{}_bf16": "slower, bf16", "kept_ratio_{}": "kept, fp32"}
    quantities |= {
        "kept_ratio_{}_bf16": "kept, bf16",
        "peak_ratio_{}": "peak, fp32",
        "peak_ratio_{}_bf16": "peak, bf16",
    }
    lines = [f"### Summary: the first load, {summary['side']} px", ""]
    lines += ["| ratio | " + " | ".join(quantities.values()) + " |", "| --- |" + " ---: |" * len(quantities)]
    for suffix, ours in FORMULAS.items():
        for key, other in OTHERS.items():
            values = [summary[quantity.format(key) + suffix] for quantity in quantities]
            lines.append(f"| {other} / {ours} | " + " | ".join(map(format_value, values)) + " |")
    lines += ["", "| lossmith | |", "| --- | ---: |"]
    for key, title in SUMMARY_ROWS.items():
        lines.append(f"| {title} | {format_value(summary[key])} |")
    return lines


def format_value(value):
    if value is None:
        return "not measured"
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


def update_document(result, path):
    """Replace the tables between the marks of a document."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"hybrid_step: {path} needs the marks {BEGIN} and {END} around its tables.")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{format_result(result)}{END}{after}", encoding="utf-8")
