"""Measurement of a page in Chromium, for tests that are skipped without a browser."""

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files"),
    "--disable-web-security",
)
FRAME = """<!doctype html><body><iframe id="page" src="{url}" width="{width}" height="900" style="border:0"></iframe>
<pre id="measured"></pre><script>
const frame = document.getElementById("page");
frame.addEventListener("load", () => setTimeout(() => {{
  const page = frame.contentDocument, root = page.documentElement;
  for (const part of page.querySelectorAll("details")) part.open = true;
  const found = {{ width: root.scrollWidth, wide: [] }};
  for (const element of page.querySelectorAll("body *")) {{
    const box = element.getBoundingClientRect();
    if (box.width && box.right > {width} + 1 && !element.closest(".scroll, pre, .tabs")) {{
      found.wide.push(`${{element.tagName}}.${{element.className.baseVal ?? element.className}}`);
    }}
  }}
  document.getElementById("measured").textContent = JSON.stringify(found);
}}, 300));
</script>"""


def dump_page(text: str, folder: Path, *, seconds: int = 5) -> str:
    """Return the document of a page after some seconds of its scripts, which may read files and other documents.

    Args:
        text: The HTML of the page.
        folder: An empty folder for the page and for the browser's profile.
        seconds: The time, which the browser need not wait for.
    """
    file = folder / "frame.html"
    file.write_text(text, encoding="utf-8")
    options = [f"--user-data-dir={folder / 'profile'}", f"--virtual-time-budget={1000 * seconds}"]
    command = [str(CHROMIUM), *FLAGS, *options, "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def measure_page(page: Path, width: int) -> tuple[int, list[str]]:
    """Return the width of the content of a page in a window of `width` pixels, and the elements that stick out.

    The page is shown in a frame, since its own security policy admits no script and a window has a minimum width.
    """
    with tempfile.TemporaryDirectory() as folder:
        dom = dump_page(FRAME.format(url=page.resolve().as_uri(), width=width), Path(folder))
    found = re.search(r'<pre id="measured">(.+?)</pre>', dom, re.DOTALL)
    assert found, "the page was not measured"
    measured = json.loads(html.unescape(found[1]))
    return measured["width"], measured["wide"]
