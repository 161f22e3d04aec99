"""HTML pages that are complete in themselves: a template is filled, and only its own script and style may run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:class|function|const) (\w+)", re.MULTILINE)


def asset(package: str, name: str) -> str:
    """Returns the text of a file that belongs to a package.

    Args:
        package: Name of the package, such as "textgen.insight".
        name: Path of the file in its folder, such as "page/page.js".

    Example:
        >>> asset("textgen.insight", "page/page.html").splitlines()[0]
        '<!doctype html>'
    """
    return (files(package) / name).read_text(encoding="utf-8")


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Fills a template, in which `{{name}}` stands for a part.

    Args:
        template: The template.
        parts: The parts by name. What looks like `{{name}}` in them stays as it is.

    Returns:
        The page.

    Example:
        >>> fill("<p>{{text}}</p>", {"text": "{{text}}"})
        '<p>{{text}}</p>'
    """
    before, *rest = template.split("{{")
    return before + "".join(parts[name] + after for part in rest for name, after in [part.split("}}", 1)])


def joined_modules(package: str, folder: str, names: Sequence[str]) -> str:
    """Returns modules of JavaScript as one script without imports and exports.

    Args:
        package: Name of the package that they belong to.
        folder: Folder of the package that holds them.
        names: Names of their files without ".js", in the order in which they use each other.

    Example:
        >>> print(joined_modules("textgen.insight", "page", ["words"]).splitlines()[0])
        const { WORDS, isChinese, switchLanguage, say } = (() => {
    """
    return "\n".join(_without_module_syntax(asset(package, f"{folder}/{name}.js")) for name in names)


def _without_module_syntax(code: str) -> str:
    """A module as part of a script: names that it exports become global there, its other names stay local."""
    names = ", ".join(match[1] for match in EXPORT.finditer(code))
    body = re.sub(r"^export ", "", IMPORT.sub("", code), flags=re.MULTILINE)
    return f"const {{ {names} }} = (() => {{\n{body}return {{ {names} }};\n}})();\n"


def json_in_html(value: Any) -> str:
    """Encodes a value as JSON for a `<script type="application/json">`, which no text in it can end.

    Example:
        >>> print(json_in_html("</script>"))
        "\\u003c/script>"
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def policy(script: str, style: str, *, runs_worker: bool = False) -> str:
    """Returns the content security policy of a page that makes no request and runs no code but its own.

    Args:
        script: The script of the page, which the policy allows by its hash.
        style: Its style, likewise.
        runs_worker: Whether the script starts a Worker from a text of the page, and uses WebAssembly.
    """
    wasm, worker = (" 'wasm-unsafe-eval'", "worker-src blob:; ") if runs_worker else ("", "")
    return (
        f"default-src 'none'; script-src {source_hash(script)}{wasm}; style-src {source_hash(style)}; {worker}"
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def source_hash(text: str) -> str:
    """Returns the source of a content security policy that allows a script or style with exactly this text.

    Example:
        >>> source_hash("")
        "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
