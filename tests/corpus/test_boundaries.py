"""Ends of lines and of separators from any place in a file, wherever the chunks end in which it is read."""

from __future__ import annotations

import io

import pytest

from textgen.corpus import boundaries
from textgen.corpus.boundaries import end_of_line, end_of_separator


@pytest.fixture(autouse=True, params=[1, 2, 3, 7])
def in_small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundaries, "CHUNK_BYTES", request.param)


def test_the_first_separator_is_found() -> None:
    data, separator = b"a<|e|>bb<|e|><|e|>c<|e", b"<|e|>"
    for offset in range(len(data) + 1):
        at = data.find(separator, max(0, offset - len(separator)))
        expected = None if at < 0 else at + len(separator)
        assert end_of_separator(io.BytesIO(data), offset, separator) == expected


def test_a_line_that_ends_in_many_blanks_is_not_blank() -> None:
    data = b"one        \ntwo\n  \nthree\n"
    blank, after = data.index(b"  \nthree"), data.index(b"three")
    for offset in range(1, blank + 1):
        assert end_of_line(io.BytesIO(data), offset, is_blank=True) == (blank, after)


def test_the_end_of_a_line_is_found() -> None:
    data = b"one        \ntwo\nlast"
    for offset in range(1, len(data)):
        end = data.find(b"\n", offset - 1) + 1 or len(data)
        assert end_of_line(io.BytesIO(data), offset, is_blank=False) == (end, end)
