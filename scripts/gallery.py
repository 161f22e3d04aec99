"""Builds a page that writes from each of some models, and draws a picture of them for README.md.

    make demo                                                        # trains fables-demo and verse-demo
    .venv/bin/python scripts/gallery.py fables-demo verse-demo       # gallery/fables-demo.html and verse-demo.html
    .venv/bin/python scripts/gallery.py fables-demo verse-demo --picture  # scripts/pictures/gallery.png, too

The licence and the note that a page shows are those in the card of its model; --licence and --note replace them in the
pages of all models. A page is one file: open it, send it, or put it on a static site. The picture is taken in Chromium,
which must be installed; the driver of the browser is that of the tests.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarking import browser_of_tests, run_script

from textgen.errors import ConfigError
from textgen.export.attribution import Attribution, attribution_of
from textgen.export.html import export_html
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.storage.files import write_file
from textgen.versions import require

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "scripts" / "pictures" / "gallery.png"
MAX_PICTURE_BYTES = 150_000  # maximum size in bytes
LINKS = ("#prompt=The+Fox+and+the&seed=7&max_tokens=120", "#prompt=%E6%98%A5&seed=7&max_tokens=60")
COLOURS = 64  # number of colours in the picture; few keep it small
WIDTH, HEIGHT, GAP = 560, 640, 16  # of each page in it, and between two of them
FIRST_CHINESE = "\u2e80"  # first of the Chinese characters
SHOW_ALTERNATIVES = """(() => {
  const text = document.getElementById("text");
  text.focus();
  getSelection().collapse(text.firstChild, Math.round(text.textContent.length / 2));
})()"""


def build(names: Sequence[str], folder: Path, given: Mapping[str, str]) -> list[Path]:
    """Writes the page of each model into a folder.

    Args:
        names: Names of saved models.
        folder: The folder, made if it is missing.
        given: The licence or the note, or both, of all pages; what is missing is that in the card of each model.

    Returns:
        The pages.

    Raises:
        TextgenError: A model cannot be read or exported, or two of them have the same page.
    """
    Attribution(**given)  # raises before a model is loaded
    models = [load_model(name) for name in names]
    pages = _pages(models, folder)
    texts = [attribution_of(model.folder, given) for model in models]
    folder.mkdir(parents=True, exist_ok=True)
    for model, page, attribution in zip(models, pages, texts, strict=True):
        print(export_html(model, page, attribution))
    return pages


def _pages(models: Sequence[ModelFolder], folder: Path) -> list[Path]:
    """The path of the page of each model. Raises `ConfigError` if two are the same."""
    of_page: dict[str, ModelFolder] = {}
    for model in models:
        other = of_page.setdefault(model.name.casefold(), model)  # some file systems do not tell A from a
        if other is not model:
            raise ConfigError(
                f"The page of {model.folder} would replace that of {other.folder}, since both are called "
                f"{model.name}.html: rename one of the models, or build their pages in folders of their own."
            )
    return [folder / f"{model.name}.html" for model in models]


def draw(pages: list[Path], links: list[str], target: Path) -> None:
    """Draws pages side by side, each with a text that it has written and the alternatives of one of its tokens.

    Args:
        pages: The pages.
        links: What each of them writes, as its links say it. A page that writes Chinese speaks it.
        target: The picture. One that is there is replaced once the new one is known to be small enough.

    Raises:
        TextgenError: The picture is too large, or it cannot be drawn or written.
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
    data = io.BytesIO()
    drawn.quantize(COLOURS, dither=Image.Dither.NONE).save(data, target.suffix.removeprefix("."), optimize=True)
    size = len(data.getvalue())
    if size > MAX_PICTURE_BYTES:
        raise ConfigError(
            f"The picture has {size:,} bytes, more than {MAX_PICTURE_BYTES:,}, so {target} was not written: draw fewer "
            "pages, or ones with less text."
        )
    write_file(target, data.getvalue())
    print(f"Wrote {target}: {size:,} bytes.")


def main() -> None:
    """Reads the arguments and builds the gallery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="names of saved models")
    parser.add_argument("--out", type=Path, default=ROOT / "gallery", help="folder of the pages")
    parser.add_argument("--licence", metavar="TEXT", help="licence that all pages show, instead of that in each card")
    parser.add_argument("--note", metavar="TEXT", help="note that all pages show, instead of that in each card")
    parser.add_argument("--picture", action="store_true", help="draw the picture of the pages for README.md")
    parser.add_argument("--links", nargs="+", default=LINKS, help="what each page in it writes, as its links say it")
    options = parser.parse_args()
    if options.picture and len(options.links) < len(options.models):
        parser.error(f"--picture needs a link for each of the {len(options.models)} models: name them with --links")
    texts = {"licence": options.licence, "note": options.note}
    given = {name: text for name, text in texts.items() if text is not None}
    pages = build(options.models, options.out, given)
    if options.picture:
        draw(pages, options.links[: len(pages)], PICTURE)


if __name__ == "__main__":
    run_script(main)
