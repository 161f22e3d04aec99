"""Writes the same texts with every engine that writes exactly, and compares them: a table.

    .venv/bin/python scripts/compare_engines.py fables verse --out /tmp/texts.jsonl
    .venv/bin/python scripts/compare_engines.py fables --settings mirostat filters --seeds 10

The engines are `textgen sample --exact` with 1, 7 and 64 texts side by side, and the page that `textgen export` makes,
in Node, Chromium, Firefox and WebKit, each by WebAssembly and plain. Texts go into the file --out as they come, and
those that are there are not written again, so a run that was stopped goes on; remove the file after a change of an
engine. What is not installed is left out. Ends with 1 if a text differs, and says where, or if fewer than two engines
wrote. The drivers of the browsers and of Node are those of the tests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from benchmarking import add_result, earlier_results, positive_int, run_script, started

from textgen.errors import TextgenError
from textgen.export.html import export_html
from textgen.export.packing import packed_model
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.system.child_processes import child_command
from textgen.wording import counted

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from browsers import ENGINES as BROWSERS  # noqa: E402 the drivers of the tests
from browsers import Browser, opened  # noqa: E402
from javascript import NODE, in_node  # noqa: E402

BATCHES = (1, 7, 64)
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "mirostat": {"mirostat": 2, "mirostat_tau": 4.0, "repeat_penalty": 1.1, "presence_penalty": 0.2},
    "filters": {
        "typical_p": 0.9, "top_p": 0.97, "top_k": 80, "min_p": 0.01, "epsilon_cutoff": 0.0005, "eta_cutoff": 0.001,
        "top_n_sigma": 3.0, "xtc_probability": 0.4, "xtc_threshold": 0.08, "dynatemp_range": 0.4, "temperature": 1.1,
    },
    "repetition": {
        "dry_multiplier": 0.8, "dry_allowed_length": 3, "frequency_penalty": 0.1, "no_repeat_ngram_size": 6,
        "ban": ["!"], "logit_bias": ["the=0.5"], "mirostat": 1,
    },
}  # fmt: skip
NODE_TEXTS = 5  # number of texts that one process of Node writes
IN_NODE = """
const writer = await Writer.load(bytesOf(given.packed), { wasm: given.wasm });
return given.seeds.map((seed) => {
  writer.begin({ prompt: given.prompt, seed, settings: given.settings, top: 0 });
  let text = "";
  for (let token = writer.next(); ; token = writer.next()) {
    text += token.text;
    if (token.done) return text;
  }
});
"""
IN_PAGE = """
(async () => {
  const code = new Blob([document.getElementById("worker").textContent], { type: "text/javascript" });
  globalThis.asked?.terminate();
  globalThis.asked = new Worker(URL.createObjectURL(code));
  globalThis.ask = (message) => new Promise((done, fail) => {
    let text = "";
    asked.onmessage = ({ data }) => {
      if (data.kind === "failure") fail(new Error(data.message));
      else if (data.kind === "ready") done(data.isSimd);
      else {
        text += data.tokens.map((token) => token.text).join("");
        if (data.isLast) done(text);
      }
    };
    asked.postMessage(message);
  });
  return ask({ kind: "load", model: document.getElementById("model").textContent, wasm: WASM });
})()
"""  # the page's own Worker, which the page does not use


@dataclass(frozen=True)
class Column:
    """What is asked of every engine.

    Attributes:
        model: Name of the model.
        settings: Name of the settings.
        tokens: Tokens of each text.
        prompt: Where the texts begin.
        fingerprint: Of the model.
    """

    model: str
    settings: str
    tokens: int
    prompt: str
    fingerprint: str

    @property
    def sampling(self) -> dict[str, Any]:
        """The settings, with which every text has `tokens` tokens."""
        return {**SETTINGS[self.settings], "max_tokens": self.tokens, "min_tokens": self.tokens}


class Texts:
    """The texts so far, in a file to which each is appended as it comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts: dict[str, str] = {entry["key"]: entry["text"] for entry in earlier_results(path, ("key", "text"))}

    def get(self, engine: str, column: Column, seed: int) -> str | None:
        """The text of an engine; None if there is none yet."""
        return self._texts.get(self._key(engine, column, seed))

    def add(self, engine: str, column: Column, seed: int, text: str) -> None:
        """Keeps a text."""
        key = self._key(engine, column, seed)
        self._texts[key] = text
        add_result(self.path, {"key": key, "text": text})

    @staticmethod
    def _key(engine: str, column: Column, seed: int) -> str:
        return json.dumps([engine, *asdict(column).values(), seed])


# === The engines: each yields the texts of some seeds ===


def on_the_command_line(batch: int, column: Column, seeds: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Writes by `textgen sample --exact`, at least as many texts as are to be side by side."""
    first = seeds[0]
    number = max(seeds[-1] - first + 1, batch)
    command = [
        *child_command("textgen"), "sample", column.model, "--exact", "--json", f"--batch-size={batch}",
        f"--num={number}", f"--seed={first}", f"--prompt={column.prompt}", *flags(column.sampling),
    ]  # fmt: skip
    with started(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        for line in process.stdout or ():
            found = json.loads(line)
            yield found["seed"], found["text"]
        process.wait()
    if process.returncode:
        raise SystemExit(f"textgen sample ended with {process.returncode}.")


def flags(settings: dict[str, Any]) -> list[str]:
    """The flags of the command line for settings."""
    return [
        f"--{name.replace('_', '-')}={each}"
        for name, value in settings.items()
        for each in (value if isinstance(value, list) else [value])
    ]


def by_node(wasm: bool, model: ModelFolder, column: Column, seeds: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Writes by the engine of the page in Node."""
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "packed"
        packed.write_bytes(packed_model(model))
        for start in range(0, len(seeds), NODE_TEXTS):
            some = seeds[start : start + NODE_TEXTS]
            given = {
                "packed": str(packed), "wasm": wasm, "seeds": some, "prompt": column.prompt, "settings": column.sampling
            }  # fmt: skip
            yield from zip(some, in_node(IN_NODE, given, Path(folder)), strict=True)


def by_page(browser: Browser, column: Column, seeds: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Writes by the Worker that `IN_PAGE` has started in a page."""
    for seed in seeds:
        asked = {
            "kind": "write", "number": 0, "prompt": column.prompt, "seed": str(seed), "label": None, "skip": 0,
            "settings": column.sampling, "tokens": column.tokens,
        }  # fmt: skip
        yield seed, browser.evaluate(f"ask({json.dumps(asked)})")


# === All of them, in turn ===


class Comparison:
    """The texts of some columns by all engines.

    Attributes:
        columns: What is asked.
        seeds: The seeds.
        texts: The texts.
        engines: The names of the engines that were there.
    """

    def __init__(self, columns: Sequence[Column], seeds: Sequence[int], texts: Texts, only: str) -> None:
        self.columns = columns
        self.seeds = seeds
        self.texts = texts
        self.engines: list[str] = []
        self._only = only
        self._models = {column.model: load_model(column.model) for column in columns}

    def write(self) -> None:
        """Writes what is missing."""
        for batch in BATCHES:
            self._fill(f"Python, {batch} side by side" if batch > 1 else "Python", partial(on_the_command_line, batch))
        for wasm, kind in ((True, ""), (False, ", plain")):
            if NODE:
                for column in self.columns:
                    self._fill(f"Node{kind}", partial(by_node, wasm, self._models[column.model]), [column])
        for name in BROWSERS:
            self._write_in_browser(name)

    def table(self) -> list[list[str]]:
        """A row for each engine: its name and, for each column, how many texts are those of the first engine."""
        return [[engine, *(self._cell(engine, column) for column in self.columns)] for engine in self.engines]

    def differences(self) -> list[str]:
        """Where texts differ from those of the first engine."""
        return [
            f"{engine}, {column.model}, {column.settings}, seed {seed}: differs from character {at} on"
            for engine in self.engines[1:]
            for column in self.columns
            for seed in self.seeds
            if (at := first_difference(self._text(engine, column, seed), self._text(self.engines[0], column, seed)))
            is not None
        ]

    def _text(self, engine: str, column: Column, seed: int) -> str:
        return self.texts.get(engine, column, seed) or ""

    def _cell(self, engine: str, column: Column) -> str:
        own = [self._text(engine, column, seed) for seed in self.seeds]
        first = [self._text(self.engines[0], column, seed) for seed in self.seeds]
        equal = sum(a == b for a, b in zip(own, first, strict=True))
        digest = hashlib.sha256("\0".join(own).encode()).hexdigest()
        return f"{equal} of {len(own)}, `{digest[:16]}`"

    def _missing(self, engine: str, column: Column) -> list[int]:
        return [seed for seed in self.seeds if self.texts.get(engine, column, seed) is None]

    def _fill(
        self,
        engine: str,
        write: Callable[[Column, Sequence[int]], Iterator[tuple[int, str]]],
        columns: Sequence[Column] | None = None,
    ) -> None:
        """Writes the missing texts of an engine."""
        if self._only not in engine.lower():
            return
        if engine not in self.engines:
            self.engines.append(engine)
        for column in self.columns if columns is None else columns:
            missing = self._missing(engine, column)
            if not missing:
                continue
            print(f"{engine}: {column.model}, {column.settings}, {len(missing)} texts ...", file=sys.stderr)
            for seed, text in write(column, missing):
                if self.texts.get(engine, column, seed) is None:
                    self.texts.add(engine, column, seed, text)

    def _write_in_browser(self, name: str) -> None:
        """Writes with a browser, which is opened if there is something to write."""
        kinds = [(True, name.capitalize()), (False, f"{name.capitalize()}, plain")]
        kinds = [(wasm, engine) for wasm, engine in kinds if self._only in engine.lower()]
        if not any(self._missing(engine, column) for _, engine in kinds for column in self.columns):
            self.engines += [engine for _, engine in kinds]
            return
        try:
            with opened(name) as browser, tempfile.TemporaryDirectory() as folder:
                for model in self._models.values():
                    page = Path(folder) / f"{model.name}.html"
                    export_html(model, page)
                    browser.open(page.as_uri())
                    browser.until("document.documentElement.dataset.ready !== undefined")
                    self._write_in_page(browser, model.name, kinds)
        except pytest.skip.Exception as reason:
            print(reason, file=sys.stderr)

    def _write_in_page(self, browser: Browser, model: str, kinds: Sequence[tuple[bool, str]]) -> None:
        columns = [column for column in self.columns if column.model == model]
        for wasm, engine in kinds:
            is_simd = browser.evaluate(IN_PAGE.replace("WASM", json.dumps(wasm)))
            if is_simd is not wasm:
                print(f"{engine} has no WebAssembly with vectors.", file=sys.stderr)
                continue
            self._fill(engine, partial(by_page, browser), columns)


def first_difference(one: str, other: str) -> int | None:
    """The first place at which two texts differ; None if they are equal."""
    if one == other:
        return None
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def main() -> None:
    """Reads the arguments, writes, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", help="names of saved models")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["default"], help="what samplers are on")
    parser.add_argument("--seeds", type=positive_int, default=50, help="texts of each engine, from seed 0 on")
    parser.add_argument("--tokens", type=positive_int, default=2000, help="tokens of each text")
    parser.add_argument("--prompt", default="The", help="where the texts begin")
    parser.add_argument("--out", type=Path, default=Path("texts.jsonl"), help="file of the texts")
    parser.add_argument("--only", default="", metavar="TEXT", help="leave out the engines without this in their name")
    options = parser.parse_args()
    columns = [
        Column(name, settings, options.tokens, options.prompt, load_model(name).fingerprint)
        for name in options.models
        for settings in options.settings
    ]
    comparison = Comparison(columns, range(options.seeds), Texts(options.out), options.only.lower())
    comparison.write()
    header = ["engine", *(f"{column.model}, {column.settings}" for column in columns)]
    for row in [header, ["---"] * len(header), *comparison.table()]:
        print("| " + " | ".join(row) + " |")
    differences = comparison.differences()
    for difference in differences:
        print(difference, file=sys.stderr)
    if len(comparison.engines) < 2:
        have = counted(len(comparison.engines), "engine")
        raise TextgenError(f"Nothing was compared: {have} wrote, and two are needed. Install more, or leave out fewer.")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    run_script(main)
