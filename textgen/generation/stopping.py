"""Where a text ends: before one of the stop texts, or with its sentence, line or paragraph."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import lru_cache, partial

from textgen.corpus.scripts import HAN

CLOSERS = "\"'”’»」』）)】》〉〕﹂﹄］｝〗\\]"  # signs that may stand between the end mark and the next sentence
WIDE = "。！？｡"  # marks that end a sentence without a space after them
HAN_CHARACTER = HAN.pattern.removesuffix("+")  # before it, ! and ? need no space either
BLANK_LINE = r"(?=\n[^\S\n]*\n)"
NO_ABBREVIATION = r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\b[A-Z])"

UNTIL = {  # units with which a text can end: it ends where the match does
    "sentence": re.compile(
        rf"(?:{NO_ABBREVIATION}\.|[!?…])[.!?…]*[{CLOSERS}]*(?=\s)"
        rf"|[!?][.!?…]*[{CLOSERS}]*(?={HAN_CHARACTER})"
        rf"|[{WIDE}][.!?…{WIDE}{CLOSERS}]*(?=[^.!?…{WIDE}{CLOSERS}])"
        rf"|{BLANK_LINE}"
    ),
    "line": re.compile(r"(?=\n)"),
    "paragraph": re.compile(BLANK_LINE),
}
UNDECIDED = re.compile(r"\n[^\S\n]*\Z")  # end of a text that may become a blank line
ABBREVIATED = ("", "M", "Mr", "D", "S")  # beginnings that can make what follows an abbreviation, and none
CONTEXT = 64  # characters of earlier text in which a match may begin, or which it looks back on


class Ending:
    """Decides where a text ends while it is generated, and holds back text that may not belong to it.

    Args:
        stop: Texts before which the text ends.
        until: "document", or the unit of `UNTIL` with which the text ends.
        before: The end of what the text continues. No unit ends there, but an abbreviation may begin there.

    Attributes:
        reason: "stop" or "until" once the text has ended, empty before.

    Example:
        >>> ending = Ending(stop=["END"])
        >>> [ending.feed(text) for text in ("one E", "N", "Ds EN", "D")], ending.reason
        (['one ', '', '', ''], 'stop')
    """

    def __init__(self, stop: Sequence[str] = (), until: str = "document", before: str = "") -> None:
        self.reason = ""
        self._stop = tuple(stop)
        self._begun = (0,) * len(self._stop)  # number of characters of each stop text with which the text ends so far
        self._until = UNTIL.get(until)
        self._context = before[-CONTEXT:]  # the end of `before` and of the text returned so far
        self._own = 0  # number of characters at its end that belong to the text, without leading white space
        self._held = ""

    def feed(self, text: str) -> str:
        """Appends text and returns the text that is now final; nothing once there is a `reason`."""
        if self.reason:
            return ""
        self._held += text
        ends = [(at, "stop") for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if self._until:
            ends += self._end_of_unit(self._until)
        if ends:
            end, self.reason = min(ends)
        else:
            self._begun = tuple(map(partial(_matched, text), self._stop, self._begun))
            end = len(self._held) - self._undecided()
        return self._release(end)

    def fork(self) -> Ending:
        """Returns a copy that can be continued with other text."""
        return copy.copy(self)

    def flush(self) -> str:
        """Returns the text held back when no more text comes."""
        self._begun = (0,) * len(self._stop)
        return "" if self.reason else self._release(len(self._held))

    def _end_of_unit(self, pattern: re.Pattern[str]) -> list[tuple[int, str]]:
        text, before = self._context + self._held, len(self._context)
        start = before - self._own + (0 if self._own else _leading_space(self._held))  # blanks alone are no unit
        return [(match.end() - before, "until") for match in pattern.finditer(text, start) if match.end() >= before][:1]

    def _undecided(self) -> int:
        """The number of characters at the end that may turn out not to belong to the text."""
        match = UNDECIDED.search(self._held) if self._until else None
        return max(len(match[0]) if match else 0, *self._begun, 0)

    def _release(self, end: int) -> str:
        text, self._held = self._held[:end], self._held[end:]
        if self._until:
            self._own = min(self._own + len(text) - (0 if self._own else _leading_space(text)), CONTEXT)
            self._context = (self._context + text)[-CONTEXT:]
        return text


def ends_within(text: str, until: str) -> bool:
    """Returns whether a unit ends before the end of a text, whatever comes before it: it can never be written whole.

    Args:
        text: The text.
        until: The unit with which texts end, or "document".

    Example:
        >>> [ends_within(text, "line") for text in ("a b", "a\\nb", "\\nb")]
        [False, True, False]
    """
    if until not in UNTIL:
        return False
    endings = [Ending(until=until, before=before) for before in ABBREVIATED]
    for ending in endings:
        ending.feed(text)
    return all(ending.reason for ending in endings)


def _matched(text: str, stop: str, begun: int) -> int:
    """Returns how many characters of a stop text a text ends with, by the automaton of Knuth, Morris and Pratt (1977).

    Args:
        text: What is appended. The stop text does not end in it.
        stop: The stop text.
        begun: How many characters of the stop text what comes before it ends with.
    """
    if not begun:  # as nearly always
        at = text.find(stop[0])
        if at < 0:
            return 0
        text = text[at:]
    borders = _borders(stop)
    for character in text:
        while begun and stop[begun] != character:
            begun = borders[begun]
        begun += stop[begun] == character
    return begun


@lru_cache(maxsize=1024)
def _borders(text: str) -> tuple[int, ...]:
    """Returns the length of the longest text that each beginning of a text begins and ends with, itself left out."""
    borders = [0, 0]
    for at, character in enumerate(text[1:], 1):
        border = borders[at]
        while border and text[border] != character:
            border = borders[border]
        borders.append(border + (text[border] == character))
    return tuple(borders)


def _leading_space(text: str) -> int:
    return len(text) - len(text.lstrip())
