"""The lines of subtitles, .srt and .vtt: what is shown, without numbers, times, tags and notes.

A subtitle of .vtt ends at the first empty line. One of .srt ends where the next one begins, with a number and a time:
programs leave blank lines between the lines of one subtitle.

Captions that roll, as those that YouTube makes, show each line again while the next one appears below it. Such lines
are read once.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from textgen.corpus.formats.bounded_lines import bounded_lines

TAG = re.compile(r"</?(?:[A-Za-z]|\d\d:)[^<>\n]*>|\{\\[^{}\n]*\}")
TIMES = re.compile(r"(?=[\s:.,;-]*\d)(?=[\s\d-]*[:.,;])[\s\d:.,;-]*-->")  # also if slightly malformed
TIME = re.compile(r"\s*(?:(\d{1,9})\s*:\s*)?(\d{1,9})\s*:\s*(\d{1,9})(?:\s*[.,;:]\s*(\d{1,9}))?")
MARK = "\ufeff"  # byte-order mark, within a file that was made of several
MAX_HELD_LINES = 64  # maximum number of lines of a subtitle that are held; the rest is taken for another one
MAX_HELD_CHARS = 1 << 16  # maximum number of characters of these lines, except for the last
SAMPLE_CUES = 500  # subtitles at the beginning that tell whether captions roll
ROLLING = 0.5  # fraction of them that begins with the end of the one before, if captions roll
MIN_ROLLING_CUES = 3  # minimum number of those, too
SLACK = 0.1  # seconds between two subtitles that count as none


@dataclass
class _Cue:
    """A subtitle, with its times in seconds; None where there is none."""

    start: float | None = None
    end: float | None = None
    lines: list[str] = field(default_factory=list)

    def is_full(self) -> bool:
        return len(self.lines) >= MAX_HELD_LINES or sum(map(len, self.lines)) >= MAX_HELD_CHARS


def subtitle_lines(texts: Iterable[str], suffix: str, name: str) -> Iterator[str]:
    """Iterates over the lines of subtitles.

    Args:
        texts: Consecutive strings that make up the file.
        suffix: ".srt" or ".vtt".
        name: Name of the file, for error messages.

    Yields:
        The lines, with newlines.

    Raises:
        CorpusError: A line is too long.
    """
    cues = _compared(_cues(texts, suffix, name))
    sample = list(islice(cues, SAMPLE_CUES))
    found = sum(repeated > 0 for repeated, _ in sample)
    rolls = found >= max(MIN_ROLLING_CUES, ROLLING * len(sample))  # songs repeat fewer lines
    for repeated, lines in chain(sample, cues):
        for line in lines[repeated if rolls else 0 :]:
            yield f"{line}\n"


def _cues(texts: Iterable[str], suffix: str, name: str) -> Iterator[_Cue]:
    """The subtitles that have text.

    A line of digits is the number of the next one if a time follows, or nothing, after a blank line.
    """
    cue, number, ends_at_blank = None, "", suffix == ".vtt"
    is_after_blank = is_alone = False  # the line, and the line of digits, follow a blank one
    for line in bounded_lines(texts, name):
        line = line.lstrip(MARK)
        if TIMES.match(line):
            yield from _with_text(cue)
            cue, number, is_after_blank = _Cue(*_times(line)), "", False
            continue
        if cue is None:
            ends_at_blank = ends_at_blank or line.startswith("WEBVTT")
            continue
        shown = html.unescape(TAG.sub("", line)).strip()
        is_end = ends_at_blank and not line.rstrip("\r")
        if number and (shown or is_end or not cue.lines):  # a number alone, before a blank line, is what is shown
            cue.lines.append(number)
            number = ""
        if shown.isascii() and shown.isdecimal():
            number, is_alone = shown, is_after_blank
        elif shown:
            cue.lines.append(shown)
        is_after_blank = not shown
        if is_end or cue.is_full():
            yield from _with_text(cue)
            cue = None if is_end else _Cue()
    if cue and number and not is_alone:
        cue.lines.append(number)
    yield from _with_text(cue)


def _with_text(cue: _Cue | None) -> list[_Cue]:
    return [cue] if cue and cue.lines else []


def _times(line: str) -> tuple[float | None, float | None]:
    """The times in a line, in seconds."""
    start, _, end = line.partition("-->")
    return _seconds(start), _seconds(end)


def _seconds(text: str) -> float | None:
    if not (match := TIME.match(text)):
        return None
    hours, minutes, seconds, fraction = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(f"{seconds}.{fraction}")


def _compared(cues: Iterable[_Cue]) -> Iterator[tuple[int, list[str]]]:
    """The lines of each subtitle, and how many at its start repeat the end of the one before, if no time is between."""
    before = _Cue()
    for cue in cues:
        touches = cue.start is not None and before.end is not None and cue.start <= before.end + SLACK
        yield _repeated(before.lines, cue.lines) if touches else 0, cue.lines
        before = cue


def _repeated(before: Sequence[str], lines: Sequence[str]) -> int:
    """How many lines at the start are the last ones of those before."""
    longest = min(len(before), len(lines))
    return next((size for size in range(longest, 0, -1) if before[-size:] == lines[:size]), 0)
