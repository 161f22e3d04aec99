"""Lines of the terminal: breaks paragraphs into lines that fit, and shows every character."""

from __future__ import annotations

from unicodedata import category

from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.utils import get_cwidth

NOT_FIRST = frozenset("。，、；：？！!?,.;:)]”’）》〉】〕」』﹂﹄］｝〗")  # with which a line begins only after a space
SIGNS = {"\n": "⏎", "\t": "    "}  # signs that `with_signs` shows in place of characters


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

    A mark without a width stays with the character before it, and so does a mark of `NOT_FIRST`.

    Args:
        text: The paragraph, without newlines.
        width: Maximum width of a line in cells.

    Returns:
        The lines; at least one.
    """
    lines: list[str] = []
    start = cells = 0
    cut = 0  # last possible break, if it lies after `start`
    before, is_after_wide = "", False  # the character before, and whether the last one with a width is wide
    for at, character in enumerate(text):
        size = get_cwidth(character)
        is_beside_wide = size > 1 or is_after_wide
        if size and (before == " " or (is_beside_wide and character not in NOT_FIRST)):
            cut = at
        before, is_after_wide = character, size > 1 or (size == 0 and is_after_wide)
        if character == " " and cells + size > width:
            lines.append(text[start:at].rstrip(" "))
            start, cells = at + 1, 0
            continue
        while cells + size > width and at > start:
            end = cut if text[start:cut].strip(" ") else at
            lines.append(text[start:end].rstrip(" "))
            start, cells = end, get_cwidth(text[end:at])
        cells += size
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


def with_signs(text: str) -> str:
    """Replaces what would move the cursor or has no width, such as control characters, with visible signs.

    Spaces of any width and accents stay.
    """
    return "".join(c if c.isprintable() or category(c) == "Zs" else SIGNS.get(c, "·") for c in text)
