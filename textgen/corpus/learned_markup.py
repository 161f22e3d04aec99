"""Formats whose markup is read as text, which is learned with it: how to tell them, and what to do about it."""

from __future__ import annotations

import re

MARKUP = {
    ".mhtml": "save pages as .html", ".mht": "save pages as .html", ".fb2": "convert books to .epub",
    ".eml": "save messages as .txt", ".mbox": "save messages as .txt", ".xml": "extract it first",
    ".ass": "convert subtitles to .srt", ".ssa": "convert subtitles to .srt", ".ttml": "convert subtitles to .srt",
    ".lrc": "remove the times first", ".ipynb": "convert notebooks to .md or .py", ".fodt": "save documents as .odt",
}  # fmt: skip
"""Suffixes of formats that are read as plain text with all their markup, and what to do to learn the text alone."""
HIDDEN_MARKUP = {
    "HTML": (re.compile(r"(<\?xml[^>]*>\s*)?<(!doctype\s+html|html)[\s>]", re.IGNORECASE), "pages", ".html"),
    "RTF": (re.compile(r"\{\\rtf"), "RTF files", ".rtf"),
}
"""How text in a format begins whose markup would be learned because of the file name; what to rename, and to what."""


def hidden_markup(beginning: str) -> str:
    """Returns the one of `HIDDEN_MARKUP` in which a text begins so, or ""."""
    return next((name for name, (start, _, _) in HIDDEN_MARKUP.items() if start.match(beginning)), "")


def markup_advice(markup: str, is_elsewhere: bool) -> str:
    """Tells what to do to learn a text without its markup.

    Args:
        markup: One of `MARKUP` or `HIDDEN_MARKUP`, or "".
        is_elsewhere: Whether the file is not on this machine.

    Returns:
        The advice, such as "rename pages to .html"; "" without markup.
    """
    if markup not in HIDDEN_MARKUP:
        return MARKUP.get(markup, "")
    _, files, suffix = HIDDEN_MARKUP[markup]
    return f"save {files} as {suffix}" if is_elsewhere else f"rename {files} to {suffix}"
