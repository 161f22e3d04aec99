"""Lines of the terminal: breaks paragraphs into lines that fit, and shows every character."""

from __future__ import annotations

from unicodedata import category

from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.utils import get_cwidth

SIGNS = {"\n": "⏎", "\t": "    "}  # signs that `visible` shows in place of characters


def styled(style: str, lines: list[str]) -> list[StyleAndTextTuples]:
    """Gives all lines the same style.

    Args:
        style: A prompt_toolkit style.
        lines: Lines of text.

    Returns:
        The lines as formatted text.
    """
    return [[(style, line)] for line in lines]


def wrap(text: str, width: int) -> list[str]:
    """Breaks a paragraph into lines, preferably after spaces and around wide characters.

    Args:
        text: The paragraph, without newlines.
        width: Maximum width of a line in cells.

    Returns:
        The lines; at least one.
    """
    lines: list[str] = []
    start = cells = 0
    cut = 0  # last possible break, if it lies after `start`
    for at, character in enumerate(text):
        size = get_cwidth(character)
        if size > 1:
            cut = at
        if cells + size > width and at > start:
            at_space = character == " "
            end = at if at_space or cut <= start else cut
            lines.append(text[start:end].rstrip(" "))
            start = end + at_space
            cells = get_cwidth(text[start:at])
            if at_space:
                continue
        cells += size
        if character == " " or size > 1:
            cut = at + 1
    return [*lines, text[start:]]


def fit(line: StyleAndTextTuples, width: int) -> StyleAndTextTuples:
    """Truncates a line, ending it with an ellipsis if it is too long.

    Args:
        line: The line as formatted text.
        width: Maximum width in cells.

    Returns:
        The line, at most `width` cells wide.
    """
    if sum(get_cwidth(text) for _, text, *_ in line) <= width:
        return line
    fitted: StyleAndTextTuples = []
    room = width - 1
    for style, text, *_ in line:
        kept = len(text)
        while get_cwidth(text[:kept]) > room:
            kept -= 1
        fitted.append((style, text[:kept] + ("" if kept == len(text) else "…")))
        if kept < len(text):
            break
        room -= get_cwidth(text)
    return fitted


def visible(text: str) -> str:
    """Replaces what would move the cursor or has no width, such as control characters, with visible signs.

    Spaces of any width and accents stay.
    """
    return "".join(c if c.isprintable() or category(c) == "Zs" else SIGNS.get(c, "·") for c in text)
