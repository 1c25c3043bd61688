"""Draw the layers of the package as docs/images/layers.svg, from LAYERS in tests/test_layers.py.

python docs/building/layers.py
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURE = ROOT / "docs" / "images" / "layers.svg"
PURPOSE = {
    "citations": "BibTeX of the papers",
    "device": "devices by name",
    "distributed": "rank, all-reduce, gather",
    "image": "checks and conversion of image batches",
    "noise_levels": "diffusion schedules",
    "resize": "antialiased resampling",
    "pretrained": "finds, checks and reads weight files",
    "backbone": "frozen networks that lenses share",
    "lens": "base classes: Lens, Chain, Features",
    "engine": "feature cache, low-memory backward passes, CPU kernels",
    "lenses": "networks, Gram matrices, frequencies, edges, colours",
    "formula": "Loss, Distance, Term, Weight; evaluation, cost plan",
    "losses": "distances, recipes, presets",
    "balance": "calibration, balancing of terms",
    "adapters": "losses of piq and torchmetrics",
    "parser": "text to loss",
    "doctor": "checks of a loss",
    "monitor": "a loss in any training loop",
    "lossmith": "the public names: import lossmith",
    "integrations": "the monitor in Lightning, Transformers, Accelerate",
    "keras": "the same formulas for TensorFlow and JAX",
    "data": "images and degradations",
    "models": "networks and their files",
    "export": "ONNX and torch.export",
    "metrics": "PSNR, SSIM, LPIPS, DISTS",
    "tasks": "data and inputs of a training problem",
    "train": "trainer, run folder, log",
    "importer": "recipes of other trainers",
    "report": "HTML pages and figures",
    "style_transfer": "style transfer",
    "tune": "studies of weights",
    "knob": "sweep and certificate of a knob",
    "text_to_image": "captions, encoders, diffusion",
    "inference": "networks applied to image files",
    "studio": "a page in the browser",
    "cli": "the commands",
}
"""The purpose of each module or folder."""
GROUPS = {"#dbe7f6": "lossmith", "#dff0dc": "report", "#fbe6cf": "cli"}
"""The colour of the layers up to that of a module."""
BOX, HEIGHT, GAP, MARGIN, TEXT = 100, 26, 6, 10, 120
"""The width and height of a box, the gap between boxes, the margin, and the width of the text, in pixels."""


def read_layers() -> list[list[str]]:
    """Return the public modules of each layer from bottom to top, without importing the test."""
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LAYERS":
            layers = ([name for name in layer if name[0] != "_"] for layer in ast.literal_eval(node.value))
            return [layer for layer in layers if layer]
    raise ValueError("tests/test_layers.py has no assignment to LAYERS.")


def draw(layers: list[list[str]]) -> str:
    """Return the figure as SVG: one row per layer with its boxes and purposes, the lowest layer at the bottom."""
    columns = max(map(len, layers))
    width = 2 * MARGIN + columns * (BOX + GAP) + TEXT
    height = 2 * MARGIN + len(layers) * (HEIGHT + GAP) - GAP
    ends = [(next(i for i, layer in enumerate(layers) if last in layer), colour) for colour, last in GROUPS.items()]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img" aria-label="Layers of the package">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for level, layer in enumerate(layers):
        colour = next(colour for end, colour in ends if level <= end)
        y = height - MARGIN - (level + 1) * (HEIGHT + GAP) + GAP
        baseline = y + HEIGHT // 2 + 4
        for column, name in enumerate(layer):
            x = MARGIN + column * (BOX + GAP)
            parts.append(
                f'<rect x="{x}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="4" fill="{colour}" stroke="#777"/>'
                f'<text x="{x + BOX // 2}" y="{baseline}" text-anchor="middle" fill="#222">{name}</text>'
            )
        x = MARGIN + len(layer) * (BOX + GAP) + GAP
        purposes = "; ".join(PURPOSE[name] for name in layer) if len(layer) <= 2 else "used everywhere"
        parts.append(f'<text x="{x}" y="{baseline}" fill="#444">{purposes}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    FIGURE.write_text(draw(read_layers()), encoding="utf-8")
