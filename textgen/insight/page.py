"""An inspection as one HTML page that is complete in itself: no server, no request, no code but its own.

The page carries a content security policy that allows its own style and its own script by their hashes, and nothing
else. Its data is JSON, in which `<` is escaped, so that no text can end the element that holds it.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from textgen.html_page import asset, fill, joined_modules, json_in_html, policy
from textgen.insight.inspection import Inspection
from textgen.insight.lesson import lesson
from textgen.insight.report import drawn, report
from textgen.wording import visible

MODULES = (  # modules of JavaScript, in the order in which they use each other
    "words", "elements", "numbers", "inspection", "choice", "charts", "selection", "tokens", "cells", "gates", "memory",
    "changes", "lenses", "neighbours", "lesson", "page",
)  # fmt: skip


def page(inspection: Inspection, *, with_lesson: bool = False) -> bytes:
    """Makes the page.

    Args:
        inspection: What was seen.
        with_lesson: Whether the lesson for learners comes first.

    Returns:
        The page, as UTF-8.
    """
    data: dict[str, Any] = report(inspection) | drawn(inspection)
    data["lesson"] = lesson(inspection) if with_lesson else None
    return filled(data, inspection.saved.name).encode()


def filled(data: dict[str, Any], title: str) -> str:
    """The page with its data, its style and its script in place."""
    template, style, words = (
        asset("textgen.insight", f"page/{name}") for name in ("page.html", "page.css", "words.json")
    )
    script = page_script()
    parts = {
        "csp": policy(script, style),
        "title": escape(visible(title)),
        "style": style,
        "script": script,
        "words": json_in_html(json.loads(words)),
        "data": json_in_html(data),
    }
    return fill(template, parts)


def page_script() -> str:
    """Returns the script of the page: its modules as one script, strict as modules are."""
    return '"use strict";\n' + joined_modules("textgen.insight", "page", MODULES)
