"""Subtitles: what is shown, where each ends, and captions that roll."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from files import read, write

from textgen.corpus.formats import bounded_lines
from textgen.errors import CorpusError

SRT = (
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Hello,</i>\r\n{\\an8}you &amp; I.\r\n\r\n"
    "2\r\n00:00:03,000 --> 00:00:04,000\r\n3 < 4\r\n"
)
VTT = (
    "WEBVTT - a title\n\nNOTE no\ntext\n\nSTYLE\n::cue {}\n\nintro\n00:01.000 --> 00:02.000 align:start\n"
    "<v Ann>Hi <00:01.500>there\n"
)


def one(path: Path, **config: Any) -> str:
    (text,) = read(path, **{"documents": "file", **config})
    return text


@pytest.mark.parametrize("size", [1, 5, 1 << 18])
def test_subtitles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", size)
    assert one(write(tmp_path, "a.srt", SRT)) == "Hello,\nyou & I.\n3 < 4\n"
    assert one(write(tmp_path, "a.vtt", VTT)) == "Hi there\n"
    assert read(write(tmp_path, "a.srt", SRT), documents="line") == ["Hello,", "you & I.", "3 < 4"]


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["Press A --> B now", "--> go"], ["Press A --> B now", "--> go"]),
        (["one", "2", "00:00:03,000 --> 00:00:04,000", "two"], ["one", "two"]),
        (["one", "2", "", "3", "0:00:03.5-->0:00:04.5 X1:40", "two"], ["one", "2", "two"]),
        (["42", "43", "2", "00:03.000  -->  00:04.000 align:start", "<i>44</i>"], ["42", "43", "44"]),
        (["2", "00:00:03, 000 --> 00:00:04, 000", "5 --> 6"], ["5 --> 6"]),
        (["one", "", "2", "00:00:01,000 ---> 00:00:02,000", "two"], ["one", "two"]),
        (["one", "", "2", "00:00:03;000 --> 00:00:04;000", "two"], ["one", "two"]),
        (["one", "", "2", "00:00:01,000 --> ", "two"], ["one", "two"]),
        (["one", "", "2", "00:00:01,000 -->", "two"], ["one", "two"]),
        (["one", "", "2", "00 : 00 : 01,000 --> 00 : 00 : 02,000", "two"], ["one", "two"]),
        (["one", "", "2", "00:00:01,000 --> later", "two"], ["one", "two"]),
        (["5 -->", "5 --> 6:00", "... --> go", "... --> 1:00", "-- 1:0 x --> go"],) * 2,
    ],
)
@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_what_is_a_time_of_a_subtitle(tmp_path: Path, lines: list[str], shown: list[str], suffix: str) -> None:
    path = write(tmp_path, f"a{suffix}", "\n".join(["1", "00:00:01,000 --> 00:00:02,000", *lines]))
    assert one(path) == "".join(f"{line}\n" for line in shown)


def test_no_line_of_subtitles_takes_long(tmp_path: Path) -> None:
    lines = [(mark * 300_000)[:300_000] for mark in ("1", "1 ", "1:", "-", "1:-", "1:->", " ")]
    path = write(tmp_path, "a.srt", "\n".join(["00:00:01,000 --> 00:00:02,000", *lines]))
    start = time.process_time()
    one(path)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_a_line_of_subtitles_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(bounded_lines, "MAX_RECORD_CHARS", 1000)
    path = write(tmp_path, f"a{suffix}", f"00:01 --> 00:02\n{'x' * 1000}\n".encode())
    assert one(path) == "x" * 1000 + "\n"
    with pytest.raises(CorpusError, match=r"line 2: .* more than 1,000 characters"):
        read(write(tmp_path, f"b{suffix}", f"00:01 --> 00:02\n{'x' * 1001}".encode()))


@pytest.mark.parametrize(
    ("lines", "srt", "vtt"),
    [
        (["one", "", "two", "", "2", "00:03.000 --> 00:04.000", "three"], ["one", "two", "three"], ["one", "three"]),
        (["one", " ", "two", "", "NOTE", "no"], ["one", "two", "NOTE", "no"], ["one", "two"]),
        ([" ", "one"], ["one"], ["one"]),
        (["42", "", "2", "00:03.000 --> 00:04.000", "43"], ["42", "43"], ["42", "43"]),
        (["42", "", "00:03.000 --> 00:04.000", "43", "", "", ""], ["42", "43"], ["42", "43"]),
        (["", "one", "", "2", "", "00:03.000 --> 00:04.000", "", "two"], ["one", "two"], []),
        (["one", "2", "", "", "three"], ["one", "2", "three"], ["one", "2"]),
        (["one", "", "\ufeff1", "00:03.000 --> 00:04.000", "two", "\ufeff"], ["one", "two"], ["one", "two"]),
        (["one", "", "\ufeff00:03.000 --> 00:04.000", "two"], ["one", "two"], ["one", "two"]),
        (["one", "", "2", ""], ["one"], ["one"]),
        (["one", "2"], ["one", "2"], ["one", "2"]),
        (["42", "", "2"], ["42"], ["42"]),
    ],
)
def test_where_a_subtitle_ends(tmp_path: Path, lines: list[str], srt: list[str], vtt: list[str]) -> None:
    text = "\r\n".join(["1", "00:00:01,000 --> 00:00:02,000", *lines])
    for name, content, shown in (("a.srt", text, srt), ("a.vtt", text, vtt), ("b.srt", f"WEBVTT\n\n{text}", vtt)):
        path = write(tmp_path, name, content)
        for newlines in ("normalize", "keep"):
            if shown:
                assert one(path, newlines=newlines) == "".join(f"{line}\n" for line in shown)
            else:
                with pytest.raises(CorpusError, match="No text in"):
                    read(path)


def test_a_long_subtitle_is_read_in_parts(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(1000)]
    text = "\n".join(["00:00:01,000 --> 00:00:02,000", *lines])
    assert read(write(tmp_path, "a.srt", text), documents="line") == lines


YOUTUBE = """WEBVTT
Kind: captions
Language: en

00:00:00.000 --> 00:00:02.000 align:start position:0%
_
hello<00:00:00.500><c> world</c>

00:00:02.000 --> 00:00:02.010 align:start position:0%
hello world
_

00:00:02.010 --> 00:00:04.000 align:start position:0%
hello world
this<00:00:02.500><c> is</c><00:00:03.000><c> me</c>

00:00:04.000 --> 00:00:04.010 align:start position:0%
this is me
_

00:01:05.000 --> 00:01:06.000 align:start position:0%
this is me
""".replace("_", " ")


def timed(*cues: str, length: float = 1.0) -> str:
    """Subtitles that begin each second, of a length in seconds; | is between lines."""
    times = ((f"00:00:{start:02d},000", f"00:00:{start + length:06.3f}") for start in range(len(cues)))
    return "\n\n".join(
        "\n".join([str(number), f"{start} --> {end.replace('.', ',')}", *cue.split("|")])
        for number, ((start, end), cue) in enumerate(zip(times, cues, strict=True), 1)
    )


def test_lines_of_captions_that_roll_are_read_once(tmp_path: Path) -> None:
    shown = "hello world\nthis is me\nthis is me\n"
    assert one(write(tmp_path, "a.vtt", YOUTUBE)) == shown
    assert one(write(tmp_path, "a.srt", YOUTUBE.partition("\n\n")[2].replace("<c>", ""))) == shown
    rolled = timed("a", "a|b", "a|b|c", "b|c|d", "c|d|d", "e", length=0.95)
    assert one(write(tmp_path, "b.srt", rolled)) == "a\nb\nc\nd\nd\ne\n"


@pytest.mark.parametrize(
    "text",
    [
        timed("no", "no", "no", "yes", "no|no", "a", "b", "c", "d"),  # a song, without pauses
        timed("a", "a|b", "a|b|c", "b|c|d", "c|d|d", "e", length=0.5),  # with pauses
        timed("help", "help"),
    ],
)
def test_what_is_said_again_is_read_again(tmp_path: Path, text: str) -> None:
    shown = [line for line in text.split("\n") if line.isalpha()]
    assert read(write(tmp_path, "a.srt", text), documents="line") == shown
