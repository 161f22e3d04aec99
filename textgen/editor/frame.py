"""Draws the frames of `textgen write`: title, end of the text, suggestions, message and keys, as lines that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prompt_toolkit.data_structures import Point
from prompt_toolkit.formatted_text import StyleAndTextTuples

from textgen.editor.keys import key_lines
from textgen.editor.lines import fit, styled, with_signs, wrap
from textgen.editor.session import Session
from textgen.generation.suggestions import Suggestion
from textgen.wording import counted

CURSOR = "▏"
TEXT_LINES = 3  # minimum number of lines of text
WRAPPED = 16_384  # characters of a paragraph that are wrapped at each key, besides the visible ones


@dataclass(frozen=True)
class Frame:
    """A frame as it is drawn.

    Attributes:
        lines: Its lines, at most as many and as wide as the terminal has room for.
        cursor: Position of the cursor, or None if it is hidden.
        text_lines: Number of visible lines of text.
        scroll: Lines of text below the last visible one.
        numbers: The line of each suggestion that can be taken -> its number.
        suggestions: The suggestions that are shown.
    """

    lines: list[StyleAndTextTuples] = field(default_factory=list)
    cursor: Point | None = None
    text_lines: int = 0
    scroll: int = 0
    numbers: Mapping[int, int] = field(default_factory=dict)
    suggestions: Sequence[Suggestion] = ()


def draw(session: Session, width: int, height: int, *, scroll: int = 0, before: Sequence[Suggestion] = ()) -> Frame:
    """Draws a frame: title, end of the text, suggestions and keys.

    If the frame is too small, the keys are left out first, then suggestions, then the title and the end of the message,
    in place of which there is an ellipsis. The end of the text is always visible unless the user scrolled up.

    Args:
        session: The session to show.
        width: Width of the terminal in cells.
        height: Height of the terminal in lines.
        scroll: Lines of text that should be below the last visible one.
        before: The suggestions of the frame before, which stay while new ones are computed.

    Returns:
        The frame.
    """
    known = session.known()
    suggestions = _suggestion_lines(known, before)
    message = [line for part in session.message.split("\n") for line in wrap(with_signs(part), width)]
    message = _shortened(message, height - 2) if session.message else []  # a line of the text and the rule stay
    keys = key_lines(width)
    room = max(0, height - 2 - TEXT_LINES - len(message))  # lines for suggestions and keys
    if len(suggestions) + len(keys) > room:
        keys = []
    suggestions = suggestions[:room]
    text_lines = max(1, height - 2 - len(suggestions) - len(message) - len(keys))
    text, scroll = _visible_text(session.draft.text, width, text_lines, scroll)
    lines: list[StyleAndTextTuples] = [
        [("dim", _title(session))],
        *styled("", text),
        [("dim", _rule(width, scroll))],
        *suggestions,
        *styled("ansiyellow", message),
        *styled("dim", keys),
    ]
    left_out = min(max(0, len(lines) - height), len(text))  # the last line of the text stays
    first = len(text) + 2 - left_out  # line of the first suggestion
    return Frame(
        lines=[fit(line, width) for line in lines[left_out : left_out + height]],
        cursor=None if scroll else Point(len(text[-1]) - 1, len(text) - left_out),
        text_lines=text_lines,
        scroll=scroll,
        numbers={} if known is None else {first + at: at + 1 for at in range(len(suggestions))},
        suggestions=before if known is None else known,
    )


def _suggestion_lines(known: Sequence[Suggestion] | None, before: Sequence[Suggestion]) -> list[StyleAndTextTuples]:
    """The numbered suggestions; while new ones are computed, the previous ones, dim and without numbers."""
    if known is None:
        rows = [f"  {one.probability:4.0%}  {with_signs(one.text)}" for one in before]
        return styled("dim", rows or ["Computing suggestions …"])
    return [
        [("bold", f"{number} "), ("", f"{one.probability:4.0%}  "), ("ansicyan", with_signs(one.text))]
        for number, one in enumerate(known, 1)
    ]


def _shortened(message: list[str], most: int) -> list[str]:
    """The first lines of a message, the last of them too long for its width if the end of the message is left out."""
    return message if len(message) <= most or most < 1 else [*message[: most - 1], f"{message[most - 1]}…"]


def _title(session: Session) -> str:
    return (
        f"{with_signs(session.path.name)}{' *' if session.unsaved else ''}   "
        f"{counted(len(session.draft.text), 'character')}   "
        f"temperature {session.temperature:.1f}   suggestions: page {session.page + 1}"
    )


def _rule(width: int, scroll: int) -> str:
    below = f"─ {counted(scroll, 'line')} below " if scroll else ""
    return below + "─" * (width - len(below))


def _visible_text(text: str, width: int, text_lines: int, scroll: int) -> tuple[list[str], int]:
    """The visible lines of the text, and how many are below them.

    The last one ends with the cursor unless the text is scrolled.
    """
    count = text_lines + scroll
    size = width * count  # enough characters for `count` lines, unless some have no width
    while True:
        end = text[_wrap_start(text, len(text) - size) :] + CURSOR
        lines = [line for paragraph in end.split("\n") for line in wrap(with_signs(paragraph), width)]
        if len(lines) >= count or size >= len(text):
            break
        size *= 2
    scroll = max(0, min(scroll, len(lines) - text_lines))
    end_at = len(lines) - scroll
    return lines[max(0, end_at - text_lines) : end_at], scroll


def _wrap_start(text: str, at: int) -> int:
    """The place from which text is wrapped to find the lines after `at`.

    It must not move with `at`, or lines would break elsewhere after each key: it is the beginning of the paragraph, and
    in a paragraph of more than `WRAPPED` characters the last multiple of them.
    """
    start = text.rfind("\n", 0, max(0, at)) + 1
    return start + max(0, at - start) // WRAPPED * WRAPPED
