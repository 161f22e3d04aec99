"""The session: suggestions, deleting, pasting, saving; no terminal."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suggesters import Telling, session_with_unsaved

from textgen.editor.session import CancellableModel, Cancelled, Session, without_last_character, without_last_word
from textgen.editor.text_file import TextFile
from textgen.errors import TextgenError
from textgen.generation.suggestions import Suggester
from textgen.saved_model.loading import load_model
from textgen.storage.files import CannotWrite
from textgen.tokenizer.tokenizer import Tokenizer


def first(session: Session) -> str:
    return session.suggestions()[0].text


def test_suggestions_depend_on_page_temperature_and_seed_and_are_worked_out_once(tmp_path: Path) -> None:
    session = Session(suggester := Telling(), tmp_path / "new.txt", length=6, temperature=0.8)
    assert first(session) == first(session) == " 1: 6 0.8 0 0"
    assert suggester.calls == 1
    session.redraw()
    assert first(session) == " 1: 6 0.8 0 1"
    session.turn(1)
    session.warm(0.1)
    assert first(session) == " 1: 6 0.9 1 1"
    session.turn(-2)
    session.warm(-5)
    assert first(session) == " 1: 6 0.0 0 1"
    session.warm(5)
    session.turn(3)
    session.type("a")  # begins with the likeliest again
    assert first(session) == " 1: 6 2.0 0 0"


def test_keys_do_not_raise_a_temperature_above_their_highest_and_do_not_drop_it_at_once(tmp_path: Path) -> None:
    session = Session(Telling(), tmp_path / "new.txt", length=6, temperature=3.0)
    session.warm(0.1)
    assert session.temperature == 3.0
    session.warm(-0.1)
    assert session.temperature == 2.9


def test_suggestions_are_known_once_they_are_computed_for_the_text_as_it_stands(tmp_path: Path) -> None:
    session = session_with_unsaved(tmp_path / "new.txt", "So")
    assert session.known() is None
    request = session.start()
    session.type("!")
    found = session.compute(request)
    assert session.known() is None
    session.undo()
    assert session.known() == found
    session.redraw()
    assert session.known() is None
    assert first(session) == " 1: 6 0.8 0 1"
    assert session.known() == session.suggestions()


def test_computing_can_be_cancelled_between_two_steps_and_goes_on_from_there(
    tmp_path: Path, tokenizer: Tokenizer, tiny_models: Path
) -> None:
    class Stopping(CancellableModel):
        steps_left = 0

        def _check(self) -> None:
            self.steps_left -= 1
            if self.steps_left == 0:
                session.cancel()
            super()._check()

    text = "The cat sat on the mat. " * 20
    writer = load_model("tiny", tiny_models).numpy_model()
    expected = Suggester(writer, tokenizer).suggest(text, length=6)
    event = threading.Event()
    model = Stopping(writer, event)
    session = Session(Suggester(model, tokenizer), tmp_path / "new.txt", length=6, temperature=0.8, cancelled=event)
    session.replace(text)
    cancelled = 0
    for steps in range(3, 60, 7):
        model.steps_left = steps
        try:
            session.compute(session.start())
        except Cancelled:
            cancelled += 1
            assert session.known() is None
    assert cancelled >= 3
    model.steps_left = -1
    assert session.compute(session.start()) == expected


def test_taking_a_suggestion_and_taking_it_back(tmp_path: Path) -> None:
    session = session_with_unsaved(tmp_path / "new.txt", "So")
    session.take(2)
    assert session.draft.text == "So 2: 6 0.8 0 0"
    session.undo()
    assert session.draft.text == "So"
    session.redo()
    assert session.draft.text == "So 2: 6 0.8 0 0"
    session.take(3)
    assert session.draft.text == "So 2: 6 0.8 0 0"
    assert session.message.startswith("There is no suggestion 3.")
    session.redo()
    assert session.message == "There is nothing to redo."


@pytest.mark.parametrize(
    ("text", "without_character", "without_word"),
    [
        ("", "", ""),
        ("one two", "one tw", "one "),
        ("one two  ", "one two ", "one "),
        ("one", "on", ""),
        ("one\ntwo", "one\ntw", "one\n"),
        ("one\n\n", "one\n", "one"),
        ("cafe\u0301", "caf", ""),  # an accent of its own
        ("\u0301", "", ""),
        ("明月光", "明月", ""),
    ],
)
def test_deleting(tmp_path: Path, text: str, without_character: str, without_word: str) -> None:
    session = session_with_unsaved(tmp_path / "new.txt", text)
    session.delete_character()
    assert session.draft.text == without_character
    session = session_with_unsaved(tmp_path / "new.txt", text)
    session.delete_word()
    assert session.draft.text == without_word


@pytest.mark.parametrize(
    "character",
    [
        "❤\ufe0f",  # with a variation selector
        "葛\U000e0100",
        "1\ufe0f\u20e3",  # a keycap
        "👍🏽",  # with a skin tone
        "👩\u200d🚀",
        "👩🏽\u200d❤\ufe0f\u200d💋\u200d👨🏿",
        "🏳\ufe0f\u200d🌈",
        "🇩🇪",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "e\u0302\u0301",
        "か\u3099",
        "ก\u0e48",  # with a tone mark
        "\u1112\u1161\u11ab",  # a Korean syllable
        "ش\u0651\u064e",
    ],
)
@pytest.mark.parametrize("before", ["", "x", "🇩🇪", "月", "👍"])
def test_what_is_seen_as_one_character_is_deleted_at_once(before: str, character: str) -> None:
    assert without_last_character(before + character) == before


@pytest.mark.parametrize(
    ("text", "presses"),
    [
        ("क\u093f", ["क"]),  # vowel signs
        ("क\u093f\u0902", ["क\u093f", "क"]),
        ("ก\u0e34\u0e48", ["ก"]),  # the tone mark goes with the vowel sign
        ("ก\u0e33", ["ก"]),
        ("ক\u09cdষ", ["ক\u09cd", ""]),  # a conjunct
        ("می\u200c", ["می", "م"]),  # a joiner at the end
        ("क\u094d\u200dष", ["क\u094d\u200d", "क\u094d", ""]),
        ("🇩🇪🇫", ["🇩🇪", ""]),  # half a flag
        ("각", [""]),
        ("a\n\n", ["a\n", "a"]),
        ("\u302e\u302e", [""]),
        ("", [""]),
    ],
)
def test_what_is_typed_alone_is_deleted_alone(text: str, presses: list[str]) -> None:
    for left in presses:
        text = without_last_character(text)
        assert text == left


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\u200d\ufe0f👩🇩क\u093f"), min_size=1))
def test_deleting_characters_ends(text: str) -> None:
    kept = without_last_character(text)
    assert len(kept) < len(text)
    assert text.startswith(kept)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("床前明月光，疑是地上霜。", "床前明月光，"),
        ("床前明月光，", ""),
        ("他说：“好。”", "他说：“"),
        ("第一段。\n\u3000\u3000第二段", "第一段。\n\u3000\u3000"),
        ("你好,世界", "你好,"),
        ("今日は ようこそ、東京ターミナルへ！！", "今日は ようこそ、"),
        ("ภาษาไทย ที่นี่", "ภาษาไทย "),
        ("我用Python写", "我用Python"),
        ("我用Python", "我用"),
        ("你好，world", "你好，"),
        ("Hello，world", "Hello，"),
        ("我有3个", "我有3"),
        ("你好😀", "你好"),
        ("I ❤\ufe0f", "I "),
        ("か\u3099abc", "か\u3099"),
        ("abcか\u3099", "abc"),
        ("生于二〇二四年", ""),
        ("——", ""),
        ("한국어 단어", "한국어 "),
        ("I don't", "I "),
        ("about 3.14, ", "about "),
        ("one\ttwo", "one\t"),
        ("one\u00a0two\u3000\t", "one\u00a0"),
        ("one ...", "one "),
        ("می\u200cخواهم", ""),
        ("one\n \t", "one"),
        ("one \u07a6", "one "),
        ("", ""),
    ],
)
def test_the_last_word(tmp_path: Path, text: str, kept: str) -> None:
    session = session_with_unsaved(tmp_path / "new.txt", text)
    session.delete_word()
    assert session.draft.text == kept


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n月，a."), min_size=1))
def test_deleting_words_ends(text: str) -> None:
    kept = without_last_word(text)
    assert len(kept) < len(text)
    assert text.startswith(kept)


def test_what_is_pasted_is_one_step_and_commands_no_terminal(tmp_path: Path) -> None:
    session = session_with_unsaved(tmp_path / "new.txt", "So ")
    session.paste("1 2\r\n\r\t\x1b[31m月\x07")
    assert session.draft.text == "So 1 2\n\n\t[31m月"
    session.undo()
    assert session.draft.text == "So "


@given(
    text=st.text(
        st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("\n\t\u3000\u00a0\u202f\u2009\u200c\u200d")
    )
)
def test_what_is_pasted_keeps_all_characters_but_controls(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    session = session_with_unsaved(tmp_path_factory.mktemp("pasted") / "new.txt")
    session.paste("\x00\x1b\x7f\x85\x9b\ud800\udfff".join(["", *text, ""]))
    assert session.draft.text == text


def test_saving_and_going_on(tmp_path: Path) -> None:
    path = tmp_path / "chapter.txt"
    session = session_with_unsaved(path)
    session.save()
    assert (session.message, path.exists()) == ("Nothing was written.", False)
    session.type("月")
    assert session.unsaved
    session.save()
    assert (session.message, path.read_bytes(), session.unsaved) == (f"Saved in {path}.", "月".encode(), False)
    session = Session(Telling(), path, length=6, temperature=0.8)
    assert session.draft.text == "月"
    session.undo()  # what was read has no past
    assert session.draft.text == "月"
    session.delete_character()
    session.save()
    assert path.read_bytes() == b""


class FullDisk(TextFile):
    def write(self, text: str) -> Path | None:
        raise TextgenError("The disk is full.")


def test_saving_by_itself_tells_only_what_is_unusual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chapter.txt"
    session = session_with_unsaved(path, "a")
    session.message = "There is nothing to redo."
    session.save_by_itself()
    assert (session.message, path.read_text(encoding="utf-8")) == ("There is nothing to redo.", "a")
    path.unlink()
    session.save_by_itself()  # nothing has changed that it should write
    assert not path.exists()
    path.write_text("theirs", encoding="utf-8")
    session.type("b")
    session.save_by_itself()
    assert session.message == f"Saved in {session.path}, as another program has changed {path}."
    assert (path.read_text(encoding="utf-8"), session.path.read_text(encoding="utf-8")) == ("theirs", "ab")
    session.type("c")
    monkeypatch.setattr(session, "_file", FullDisk(session.path))
    session.save_by_itself()
    assert (session.message, session.unsaved) == ("The disk is full.", True)


@pytest.mark.parametrize(("is_incomplete", "more"), [(False, ""), (True, " What it holds may be incomplete now.")])
def test_a_text_that_cannot_be_saved_comes_with_what_can_be_done_in_the_editor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_incomplete: bool, more: str
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise CannotWrite(path, "No space left on device", is_incomplete=is_incomplete)

    monkeypatch.setattr("textgen.editor.text_file.write_file", full)
    session = session_with_unsaved(path := tmp_path / "chapter.txt", "a")
    session.save()
    said = f"Cannot write {path}: No space left on device.{more}"
    assert session.message == (
        f"{said} Your text is still here: set that right and press ^S, or quit, which keeps it in another file."
    )
    session.save(is_leaving=True)
    assert (session.message, session.unsaved) == (said, True)
