"""Measure the studio in a browser: response while the slider is dragged, the exact output after it, and memory.

    python bench/studio.py --photo FILE [--moves 50] [--images 100] [--out bench/studio.json]

The page shows 512 x 512 pixels of output of lossmith-x4 on two threads. `drag_ms` is the time from a move of the slider
to the second frame after it, in which the mix of both ends is visible; `exact_ms` the time from a released key to the
exact output in the page, with the request. `rss_mb` is the resident memory of the server after the first image and
after `--images` different ones of a user. The browser runs on the same cores and draws without a graphics card.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

SIDE = 128
MOVE = """async (value) => {
  const slider = document.querySelector("#studio-knob input[type=range]"), start = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - start;
}"""


def drop(page: Page, file: Path):
    page.evaluate("document.querySelector('.compare')?.setAttribute('data-old', '')")
    page.set_input_files("#studio-upload input[type=file]", str(file))
    page.wait_for_selector(".compare[data-mounted]:not([data-old])")


def resident_mb(process: subprocess.Popen) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return round(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, 1)


def summarize(times: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times), 1), "worst": round(max(times), 1), "n": len(times)}


def measure_exact(page: Page, moves: int) -> list[float]:
    times = []
    page.focus("#studio-knob input[type=range]")
    for _ in range(moves):
        page.keyboard.down("ArrowLeft")
        start = time.perf_counter()
        page.keyboard.up("ArrowLeft")
        page.wait_for_function("document.querySelectorAll('.under img').length === 1", polling=5)
        times.append(1000 * (time.perf_counter() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--moves", type=int, default=50)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    photo = Image.open(options.photo).convert("RGB")
    words = [sys.executable, "-m", "lossmith", "studio", "--device", "cpu"]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        address = server.stdout.readline().split()[-1]
        files = []
        for index in range(options.images):
            left, top = (index * 37 % max(1, length - SIDE) for length in photo.size)
            files.append(Path(folder) / f"{index}.png")
            photo.crop((left, top, left + SIDE, top + SIDE)).save(files[-1])
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(300_000)
            page.goto(address)
            page.wait_for_selector("#studio-upload")
            drop(page, files[0])
            first = resident_mb(server)
            drags = [page.evaluate(MOVE, (index * 0.37) % 1) for index in range(options.moves)]
            exact = measure_exact(page, options.moves)
            for file in files[1:]:
                drop(page, file)
            result = {
                "drag_ms": summarize(drags),
                "exact_ms": summarize(exact),
                "rss_mb": {"first": first, "last": resident_mb(server), "images": len(files)},
            }
            browser.close()
        server.terminate()
    print(json.dumps(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
