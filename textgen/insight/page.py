"""An inspection as one HTML page that is complete in itself: no server, no request, no code but its own.

The page carries a content security policy that allows its own style and its own script by their hashes, and nothing
else. Its data is JSON, in which `<` is escaped, so that no text can end the element that holds it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from typing import Any

from textgen.insight.inspection import Inspection
from textgen.insight.lesson import lesson
from textgen.insight.report import drawn, report

ASSETS = files("textgen.insight") / "page"


def page(inspection: Inspection, *, with_lesson: bool = False, is_own: bool = False) -> bytes:
    """Makes the page.

    Args:
        inspection: What was seen.
        with_lesson: Whether the lesson for learners comes first.
        is_own: Whether the model wrote the text itself.
    """
    data: dict[str, Any] = report(inspection) | drawn(inspection)
    data["text"]["is_own"] = is_own
    data["lesson"] = lesson(inspection) if with_lesson else None
    return filled(data, inspection.saved.name).encode()


def filled(data: dict[str, Any], title: str) -> str:
    """The page with its data, its style and its script in place."""
    style, script, words = (_asset(name) for name in ("page.css", "page.js", "words.json"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "csp": policy,
        "title": escape(title),
        "style": style,
        "script": script,
        "words": _in_html(json.loads(words)),
        "data": _in_html(data),
    }
    before, *rest = _asset("page.html").split("{{")  # not replace: the data may contain what looks like a name
    return before + "".join(parts[name] + after for part in rest for name, after in [part.split("}}", 1)])


def _in_html(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
