"""Builds a page that writes from each of some models, and draws a picture of them for README.md.

    make demo                                                        # trains fables-demo and verse-demo
    .venv/bin/python scripts/gallery.py fables-demo verse-demo       # gallery/fables-demo.html and verse-demo.html
    .venv/bin/python scripts/gallery.py fables-demo verse-demo --picture  # scripts/pictures/gallery.png, too

A page is one file: open it, send it, or put it on a static site. The picture is taken in Chromium, which must be
installed; the driver of the browser is that of the tests.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from benchmarking import browser_of_tests, run_script

from textgen.export.attribution import Attribution
from textgen.export.html import export_html
from textgen.saved_model.saved_model import load_model
from textgen.versions import require

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "scripts" / "pictures" / "gallery.png"
LARGEST_PICTURE = 150_000  # maximum size in bytes
LICENCE = "Apache-2.0"
LINKS = ("#prompt=The+Fox+and+the&seed=7&max_tokens=120", "#prompt=%E6%98%A5&seed=7&max_tokens=60")
COLOURS = 64  # number of colours in the picture; few keep it small
WIDTH, HEIGHT, GAP = 560, 640, 16  # of each page in it, and between two of them
FIRST_CHINESE = "\u2e80"  # first of the Chinese characters
SHOW_ALTERNATIVES = """(() => {
  const text = document.getElementById("text");
  text.focus();
  getSelection().collapse(text.firstChild, Math.round(text.textContent.length / 2));
})()"""


def build(names: list[str], folder: Path, licence: str, note: str) -> list[Path]:
    """Writes the page of each model into a folder.

    Args:
        names: Names of saved models.
        folder: The folder, made if it is missing.
        licence: Licence that the pages show.
        note: What the pages say about their model.

    Returns:
        The pages.
    """
    models = [load_model(name) for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for model in models:
        pages.append(folder / f"{model.name}.html")
        print(export_html(model, pages[-1], Attribution(licence, note)))
    return pages


def draw(pages: list[Path], links: list[str], target: Path) -> None:
    """Draws pages side by side, each with a text that it has written and the alternatives of one of its tokens.

    Args:
        pages: The pages.
        links: What each of them writes, as its links say it. A page that writes Chinese speaks it.
        target: The picture.
    """
    require("The picture", ["PIL"], "figures")
    from PIL import Image

    drawn = Image.new("RGB", (len(pages) * (WIDTH + GAP) - GAP, HEIGHT), "white")
    with browser_of_tests("chromium") as browser:
        browser.prefer("light")
        browser.resize(WIDTH, HEIGHT)
        for number, (page, link) in enumerate(zip(pages, links, strict=True)):
            browser.open(page.absolute().as_uri() + link)
            browser.until("document.getElementById('write').dataset.word === 'another'")
            written = browser.evaluate("document.getElementById('text').textContent")
            if sum(character > FIRST_CHINESE for character in written) > len(written) / 2:
                browser.evaluate("document.getElementById('language').click()")
            browser.evaluate(SHOW_ALTERNATIVES)
            browser.until("!document.getElementById('panel').hidden")
            drawn.paste(Image.open(io.BytesIO(browser.picture())), (number * (WIDTH + GAP), 0))
    drawn.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
    size = target.stat().st_size
    if size > LARGEST_PICTURE:
        raise SystemExit(f"{target} has {size:,} bytes, more than {LARGEST_PICTURE:,}.")
    print(f"Wrote {target}: {size:,} bytes.")


def main() -> None:
    """Reads the arguments and builds the gallery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="names of saved models")
    parser.add_argument("--out", type=Path, default=ROOT / "gallery", help="folder of the pages")
    parser.add_argument("--licence", default=LICENCE)
    parser.add_argument("--note", default="")
    parser.add_argument("--picture", action="store_true", help="draw the picture of the pages for README.md")
    parser.add_argument("--links", nargs="+", default=LINKS, help="what each page in it writes, as its links say it")
    options = parser.parse_args()
    if options.picture and len(options.links) < len(options.models):
        parser.error(f"--picture needs a link for each of the {len(options.models)} models: name them with --links")
    pages = build(options.models, options.out, options.licence, options.note)
    if options.picture:
        draw(pages, options.links[: len(pages)], PICTURE)


if __name__ == "__main__":
    run_script(main)
