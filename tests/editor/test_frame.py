"""What a frame shows, and that it fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from drivers import frame_of
from rich.cells import cell_len
from suggesters import session_on_file

from textgen.editor import frame as frames
from textgen.editor.frame import Frame, draw
from textgen.editor.keys import KEYS
from textgen.editor.lines import wrap


def test_a_frame(tmp_path: Path) -> None:
    session = session_on_file(tmp_path / "new.txt")
    session.replace("The cat\nsat on 月\t\x07")
    assert frame_of(session, 72, 24) == [
        "new.txt *   18 characters   temperature 0.8   suggestions: page 1",
        "The cat",
        "sat on 月    ·▏",
        "─" * 72,
        "1 100%   1: 6 0.8 0 0",
        "2  50%   2: 6 0.8 0 0",
        "1-9 accept   Tab accept 1   ^R new samples   ←→ other suggestions",
        "↑↓ temperature   ^Z ^Y undo, redo   ^W delete word   ^V type a digit",
        "PgUp PgDn scroll   ^E your editor   ^S save   ^C save and quit",
    ]


def test_a_narrow_frame_has_all_keys(tmp_path: Path) -> None:
    lines = frame_of(session_on_file(tmp_path / "new.txt"), 40, 24)
    assert all(cell_len(line) <= 40 for line in lines)
    assert all(f"{key} {does}" in "\n".join(lines) for key, does, _ in KEYS)


@pytest.mark.parametrize(
    "text", ["", "x" * 999 + "END", "月" * 999 + "END", "one two " * 99 + "END", "\n" * 99 + "END"]
)
@pytest.mark.parametrize("height", [1, 2, 5, 12, 40])
@pytest.mark.parametrize("width", [4, 11, 30, 200])
def test_a_frame_fits_and_shows_the_end_of_the_text(tmp_path: Path, text: str, width: int, height: int) -> None:
    session = session_on_file(tmp_path / "new.txt")
    session.replace(text)
    lines = frame_of(session, width, height)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    if height >= 5:
        assert f"{text[-3:].strip()}▏" in "".join(lines)
    if width >= 11 and height >= 12:
        assert any(line.startswith("1 100") for line in lines)
    if width >= 200 and height >= 12:
        assert all(key in "\n".join(lines) for key, _, _ in KEYS)


@pytest.mark.parametrize("message", ["Saved.", "The text is as it was before, so set EDITOR. " * 9])
@pytest.mark.parametrize("height", range(1, 12))
@pytest.mark.parametrize("width", [5, 10, 80])
def test_a_long_message_leaves_the_end_of_the_text_in_a_small_frame(
    tmp_path: Path, message: str, width: int, height: int
) -> None:
    session = session_on_file(tmp_path / "new.txt")
    session.replace("one two three")
    session.message = message
    session.suggestions()
    frame = draw(session, width, height)
    lines, cursor = frame.lines, frame.cursor
    assert cursor
    assert len(lines) <= height
    assert "".join(text for _, text, *_ in lines[cursor.y])[: cursor.x + 1].endswith("▏")
    assert height < 3 or message[:3] in "".join(text for line in lines for _, text, *_ in line)


@pytest.mark.parametrize(("height", "shown"), [(3, 1), (4, 2), (5, 3)])
def test_a_message_that_is_cut_ends_with_an_ellipsis(tmp_path: Path, height: int, shown: int) -> None:
    session = session_on_file(tmp_path / "new.txt")
    session.message = "Saved in chapter-2.txt, as another program has changed chapter.txt, which stays."
    whole = wrap(session.message, 20)
    assert len(whole) == 5
    lines = frame_of(session, 20, height)[-shown:]
    assert lines == [*whole[: shown - 1], f"{whole[shown - 1]}…"]
    assert frame_of(session, 20, 7)[-5:] == whole


def test_a_full_line_of_a_message_that_is_cut_gives_way_to_the_ellipsis(tmp_path: Path) -> None:
    session = session_on_file(tmp_path / "new.txt")
    session.message = "x" * 40
    assert frame_of(session, 20, 3)[-1] == "x" * 19 + "…"


def text_of(frame: Frame) -> list[str]:
    """The visible lines of the text."""
    lines = ["".join(text for _, text, *_ in line) for line in frame.lines]
    return lines[1 : next(at for at, line in enumerate(lines) if line.startswith("─"))]


@pytest.mark.parametrize("text", ["one two eleven, 12 " * 60, "床前明月光，疑是地上霜。" * 50, "月 a" * 300], ids=len)
@pytest.mark.parametrize("before", [0, 7, 20_000])
def test_lines_above_the_cursor_stay_while_a_long_paragraph_is_typed(tmp_path: Path, text: str, before: int) -> None:
    session = session_on_file(tmp_path / "new.txt")
    shown: list[str] = []
    for end in range(500, 600):
        session.draft.text = "x\n" + "月" * before + text[:end]
        earlier, shown = shown, text_of(draw(session, 23, 24))
        assert len(shown) > 5
        moved = shown[:-1] == earlier[1:] or shown[:-2] == earlier[1:-1]  # the last word may move to a line of its own
        assert shown[:-1] == earlier[:-1] or moved or end == 500
    for scroll in range(1, 10):
        earlier, shown = shown, text_of(draw(session, 23, 24, scroll=scroll))
        assert shown[1:] == earlier[:-1]


@pytest.mark.parametrize("length", [100, 20_000, 100_000])
def test_a_key_wraps_a_part_of_a_very_long_paragraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    wrapped: list[int] = []

    def noted(text: str, width: int) -> list[str]:
        wrapped.append(len(text))
        return wrap(text, width)

    monkeypatch.setattr(frames, "wrap", noted)
    session = session_on_file(tmp_path / "new.txt")
    session.draft.text = "月" * length
    assert len(text_of(draw(session, 20, 24))) > 5
    assert max(wrapped) <= 16_384 + 20 * 24
