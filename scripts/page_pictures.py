"""Draws the pictures of the pages in README.md: of `textgen serve`, also as it writes, and of `textgen inspect`.

    .venv/bin/python scripts/page_pictures.py

Serves the base for English, writes with it in Chromium, which must be installed, and puts page.png, writing.webp and
inspect.png into scripts/pictures. The driver of the browser is that of the tests.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from benchmarking import browser_of_tests, completed, run_script

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from browsers import Chromium  # noqa: E402 the driver of the tests
from servers import running  # noqa: E402

from textgen.saved_model.bases import base_folder  # noqa: E402
from textgen.system.child_processes import child_command  # noqa: E402
from textgen.versions import require  # noqa: E402

PICTURES = ROOT / "scripts" / "pictures"
PROMPT = "It was a dark and stormy night"
TOKEN = "know"  # a token of the fables, inside quotes
COLOURS = 128  # number of colours in a PNG; few keep it small
FRAME_SECONDS = 0.12
BYTES_PER_SECOND = 500  # of the events with the tokens
SHOWN = "document.getElementById('text').textContent"
IS_IDLE = "document.getElementById('write').dataset.word === 'write'"


def set_field(browser: Chromium, name: str, value: str) -> None:
    """Gives a field of the page for writing a value."""
    browser.evaluate(
        f"(() => {{ const field = document.getElementById('{name}'); field.value = '{value}';"
        "field.dispatchEvent(new Event('input')); field.dispatchEvent(new Event('change')); })()"
    )


def write_png(name: str, data: bytes) -> None:
    """Writes a picture in few colours."""
    from PIL import Image

    picture = Image.open(io.BytesIO(data)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(PICTURES / name, optimize=True)


def draw_writing(browser: Chromium, url: str) -> None:
    """The page for writing: frames while it writes, and the page at the end."""
    from PIL import Image

    browser.resize(1280, 800)
    browser.open(url)
    browser.until("document.documentElement.dataset.ready === 'yes'")
    set_field(browser, "seed", "7")
    set_field(browser, "max_tokens-number", "90")
    browser.evaluate("document.getElementById('text').focus()")
    browser.type(PROMPT)
    frames, lengths = [browser.picture()], [0]
    slow = {"offline": False, "latency": 0, "downloadThroughput": BYTES_PER_SECOND, "uploadThroughput": -1}
    browser.send("Network.emulateNetworkConditions", slow)  # a picture takes as long as many tokens
    browser.press("Control+Enter")
    while not browser.evaluate(IS_IDLE):
        length = browser.evaluate(f"{SHOWN}.length")
        if length > lengths[-1]:
            lengths.append(length)
            frames.append(browser.picture())
    browser.press("Control+End")
    for _ in range(40):
        browser.press("ArrowLeft")
    browser.until("!document.getElementById('token').hidden")
    frames += [browser.picture()] * 12
    write_png("page.png", frames[-1])
    small = [Image.open(io.BytesIO(frame)).convert("RGB").resize((960, 600)) for frame in frames]
    small[0].save(
        PICTURES / "writing.webp",
        save_all=True,
        append_images=small[1:],
        duration=int(1000 * FRAME_SECONDS),
        loop=0,
        quality=60,
        method=4,
        minimize_size=True,
    )


def draw_inspection(browser: Chromium, folder: Path) -> None:
    """The page of `textgen inspect`: the text coloured by the cell that follows quotes, and the cells found."""
    page = folder / "inspect.html"
    text = ROOT / "corpora" / "fables.txt"
    command = [*child_command("textgen"), "inspect", "english", str(text), "--out", str(page)]
    if code := completed(command).returncode:
        raise SystemExit(f"textgen inspect ended with {code}.")  # it has said why
    show_inspection(browser, page.as_uri())
    write_png("inspect.png", browser.picture())


def show_inspection(browser: Chromium, url: str) -> None:
    """Opens the page, chooses a token inside quotes and moves to the text."""
    browser.resize(1280, 1060)
    browser.open(url)
    browser.until("document.querySelectorAll('main section').length > 5")
    spans = "[...document.querySelectorAll('.text span')]"
    browser.evaluate(f"{spans}.find((each) => each.textContent.trim() === '{TOKEN}').click()")
    browser.evaluate("document.getElementById('text').scrollIntoView({ behavior: 'instant' })")
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(true), 300)))")


def main() -> None:
    """Draws all of them."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    require("Drawing", ["PIL"], "figures")
    with tempfile.TemporaryDirectory() as folder, browser_of_tests("chromium") as browser:
        browser.prefer("light")
        with running(Path(folder), english=str(base_folder("english"))) as server:
            draw_writing(browser, f"http://127.0.0.1:{server.port}/")
        draw_inspection(browser, Path(folder))


if __name__ == "__main__":
    run_script(main)
