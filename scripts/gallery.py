"""Builds a page that writes from each of some models, and draws a picture of the first one for README.md.

    make demo                                                        # trains fables-demo and verse-demo
    .venv/bin/python scripts/gallery.py fables-demo verse-demo       # gallery/fables-demo.html and verse-demo.html
    .venv/bin/python scripts/gallery.py fables-demo --picture        # scripts/pictures/gallery.png, too

A page is one file: open it, send it, or put it on a static site. The picture is taken in Chromium, which must be
installed; the driver of the browser is that of the tests.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from textgen.export.html import export_html
from textgen.saved_model.saved_model import load_model

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "scripts" / "pictures" / "gallery.png"
LARGEST_PICTURE = 150_000  # bytes
LICENCE = "Apache-2.0"
LINK = "#prompt=The+Fox+and+the&seed=7&max_tokens=120"
COLOURS = 64  # of the picture, which keeps it small


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
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for name in names:
        model = load_model(name)
        pages.append(folder / f"{model.name}.html")
        print(export_html(model, pages[-1], licence, note))
    return pages


def draw(page: Path, target: Path, link: str) -> None:
    """Takes a picture of a page with a text that it has written, and the alternatives of one of its words."""
    from PIL import Image

    sys.path.insert(0, str(ROOT / "tests"))
    from browsers import opened

    with opened("chromium") as browser:
        browser.prefer("light")
        browser.resize(1120, 720)
        browser.open(page.absolute().as_uri() + link)
        browser.until("document.getElementById('write').dataset.word === 'another'")
        browser.evaluate(
            "(() => { const text = document.getElementById('text'); text.focus();"
            "getSelection().collapse(text.firstChild, 60); })()"
        )
        browser.until("!document.getElementById('panel').hidden")
        taken = browser.picture()
    drawn = Image.open(io.BytesIO(taken)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    drawn.save(target, optimize=True)
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
    parser.add_argument("--picture", action="store_true", help="draw the picture of the first page for README.md")
    parser.add_argument("--link", default=LINK, help="what the page in the picture writes, as its links say it")
    options = parser.parse_args()
    pages = build(options.models, options.out, options.licence, options.note)
    if options.picture:
        draw(pages[0], PICTURE, options.link)


if __name__ == "__main__":
    main()
