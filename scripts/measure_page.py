"""Lets the page that `textgen export` makes write for long: its memory and its speed in browsers, a table.

    .venv/bin/python scripts/measure_page.py tinyshakespeare                      # a million tokens in each browser
    .venv/bin/python scripts/measure_page.py english --tokens 500 --text-tokens 50 --link temperature=1
    .venv/bin/python scripts/measure_page.py english --tokens 500 --text-tokens 50 --link plain=1

The page writes one text after another, as the button for another text does. A row is added each tenth of the way. The
heaps are those of Chromium after a collection, of the page and of its Worker, with array buffers; other browsers do not
tell theirs. The memory is what all processes of the browser have for themselves. Speed is counted in processor time of
the Worker's thread, so that it does not depend on what else the machine does, nor on the priority that a browser gives
to itself: Chromium raises its own where it may. Linux only; the drivers of the browsers are those of the tests.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from benchmarking import browser_of_tests, named_text, positive_int, run_script

from textgen.export.html import export_html
from textgen.saved_model.loading import load_model

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from browsers import ENGINES, Browser, Chromium  # noqa: E402 the drivers of the tests

WORKERS = ("DedicatedWorker", "DOM Worker", "WebCore: Worker")  # names of a Worker's thread: Chromium, Firefox, WebKit
IS_READY = "document.documentElement.dataset.ready !== undefined"
ROWS = 10
HEADER = ("browser", "tokens", "heap of the page, MB", "of the Worker, MB", "memory of all processes, MB",
          "Worker, ms a token", "all threads, ms a token")  # fmt: skip


# === The processes of a browser ===


def descendants(process: int) -> Iterator[int]:
    """A process and those that it has started, and those that these have."""
    yield process
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue  # the thread has ended
        for child in children:
            yield from descendants(int(child))


def thread_times() -> dict[Path, tuple[str, int]]:
    """The threads of all processes that this one has started: their names and nanoseconds of processor time."""
    found = {}
    for process in descendants(os.getpid()):
        if process == os.getpid():
            continue
        for thread in Path(f"/proc/{process}/task").glob("*"):
            try:
                spent = int((thread / "schedstat").read_text().split()[0])
                found[thread] = (thread / "comm").read_text().strip(), spent
            except OSError:
                continue  # it has ended
    return found


def own_memory() -> int:
    """Bytes that the processes that this one has started do not share with others."""
    total = 0
    for process in descendants(os.getpid()):
        if process == os.getpid():
            continue
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total


@dataclass(frozen=True)
class Spent:
    """Processor time in milliseconds.

    Attributes:
        worker: Of the Worker that had most of it.
        all: Of all threads.
    """

    worker: float
    all: float


def spent_since(before: dict[Path, tuple[str, int]]) -> Spent:
    """What was spent since `thread_times` was called."""
    spent = [(name, time - before.get(thread, ("", 0))[1]) for thread, (name, time) in thread_times().items()]
    worker = max((time for name, time in spent if name.startswith(WORKERS)), default=0)
    return Spent(worker / 1e6, sum(time for _, time in spent) / 1e6)


# === The page ===


def write(browser: Browser, asked: dict[str, str], seed: int, tokens: int) -> int:
    """Lets the page write a text of at most `tokens` tokens. Returns how many it has."""
    link = urlencode({**asked, "seed": seed, "max_tokens": tokens})
    browser.evaluate(f"(() => {{ location.hash = '{link}'; }})()")
    browser.until(f"document.getElementById('seed').value === '{seed}'")
    browser.until("document.getElementById('write').dataset.word === 'another'", 3600)
    if browser.evaluate("document.getElementById('more').getAttribute('aria-disabled') === 'true'"):
        raise SystemExit("The model has ended its text: take one that writes without end, such as one by character.")
    return tokens


def measure(name: str, page: Path, asked: dict[str, str], tokens: int, each: int) -> Iterator[list[str]]:
    """Yields the rows of a browser."""
    with browser_of_tests(name) as browser:
        start = "#plain=1" if "plain" in asked else ""
        browser.open(page.as_uri() + start)
        browser.until(IS_READY)
        write(browser, asked, 0, each)  # what is compiled and filled once
        for row in range(ROWS):
            before = thread_times()
            texts = range(row * tokens // (ROWS * each), (row + 1) * tokens // (ROWS * each))
            written = sum(write(browser, asked, 1 + seed, each) for seed in texts)
            if not written:
                continue
            spent = spent_since(before)
            heaps = [f"{heap / 1e6:.1f}" for heap in browser.heaps()] if isinstance(browser, Chromium) else ["", ""]
            yield [
                name, f"{(texts[-1] + 1) * each:,}", *heaps[:2], f"{own_memory() / 1e6:.0f}",
                f"{spent.worker / written:.3f}", f"{spent.all / written:.3f}",
            ]  # fmt: skip


def main() -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="name of a saved model, one that does not end its texts")
    parser.add_argument("--tokens", type=positive_int, default=1_000_000, help="tokens that each browser writes")
    parser.add_argument("--text-tokens", type=positive_int, default=2000, help="tokens of a text, 100,000 at most")
    parser.add_argument("--browsers", nargs="+", choices=ENGINES, default=["chromium", "firefox"])
    parser.add_argument(
        "--link", nargs="*", type=named_text, default=[], metavar="NAME=VALUE", help="what else a link says"
    )
    options = parser.parse_args()
    if options.tokens < options.text_tokens:
        parser.error(
            f"{options.tokens:,} tokens are less than a text of {options.text_tokens:,}: give more --tokens, or fewer "
            "--text-tokens."
        )
    asked = {"prompt": "The", **dict(options.link)}
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        export_html(load_model(options.model), page)
        for name in options.browsers:
            for row in measure(name, page, asked, options.tokens, options.text_tokens):
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    run_script(main)
