"""The draft that is written, its past, and the session around it; no terminal."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suggesters import Telling

from textgen.editor import session as sessions_module
from textgen.editor.session import CancellableModel, Cancelled, Draft, Session, without_last_word
from textgen.errors import TextgenError
from textgen.generation.suggestions import Suggester
from textgen.saved_model.saved_model import load_model
from textgen.storage.locks import lock
from textgen.tokenizer.tokenizer import Tokenizer

# === The draft ===


def typed(draft: Draft, text: str) -> Draft:
    for character in text:
        draft.type(character)
    return draft


def test_words_suggestions_and_edits_are_steps() -> None:
    draft = typed(Draft("So "), "the ca")
    draft.replace(draft.text + "t sat")
    typed(draft, "!")
    draft.replace("The cat.")
    draft.replace("The cat.")  # changes nothing, and is no step
    states = [draft.text]
    while draft.undo():
        states.append(draft.text)
    assert states == ["The cat.", "So the cat sat!", "So the cat sat", "So the ca", "So the", "So "]
    while draft.redo():
        pass
    assert draft.text == "The cat."
    draft.undo()
    typed(draft, "?")
    assert not draft.redo()
    assert draft.text == "So the cat sat!?"


@given(st.lists(st.sampled_from(["type", "replace", "undo", "redo"]), max_size=30))
def test_undo_and_redo_are_each_other_s_inverse(actions: list[str]) -> None:
    draft = Draft()
    for number, action in enumerate(actions):
        before = draft.text
        if action == "type":
            draft.type("abc "[number % 4])
        elif action == "replace":
            draft.replace(f"{number} ")
        elif action == "undo" and draft.undo():
            undone = draft.text
            assert draft.redo()
            assert draft.text == before
            assert draft.undo()
            assert draft.text == undone
        elif action == "redo":
            draft.redo()
    while draft.undo():
        pass
    assert draft.text == ""


class Copies:
    """A draft that stores a copy of the text for each step."""

    def __init__(self) -> None:
        self.texts, self.at, self.typing = [""], 0, False

    def do(self, action: str, text: str) -> None:
        now = self.texts[self.at]
        if action == "type" and self.typing and not text.isspace():
            self.texts[self.at] += text
        elif action == "type" or (action == "replace" and text != now):
            self.texts[self.at + 1 :] = [now + text if action == "type" else text]
            self.at += 1
        elif action != "replace":
            self.at = max(0, self.at - 1) if action == "undo" else min(len(self.texts) - 1, self.at + 1)
        moved = self.texts[self.at] is not now
        self.typing = action == "type" or (self.typing and not moved)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.sampled_from(["type"]), st.sampled_from("ab 月"))
        | st.tuples(st.sampled_from(["replace"]), st.text("ab ", max_size=6))
        | st.tuples(st.sampled_from(["undo", "redo"]), st.just("")),
        max_size=40,
    )
)
def test_a_draft_is_the_same_as_one_that_stores_copies(actions: list[tuple[str, str]]) -> None:
    draft, copies = Draft(), Copies()
    for action, text in actions:
        getattr(draft, action)(*([text] if action in ("type", "replace") else []))
        copies.do(action, text)
        assert draft.text == copies.texts[copies.at]
    undone = [draft.text]
    while draft.undo():
        undone.append(draft.text)
    assert undone == copies.texts[copies.at :: -1]
    redone = [draft.text]
    while draft.redo():
        redone.append(draft.text)
    assert redone == copies.texts


def test_the_history_of_a_long_text_is_small() -> None:
    draft = Draft("x" * 1_000_000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(50):
            typed(draft, " word")
            draft.replace(draft.text[:-1])
            draft.replace(f"{draft.text[:500_000]}y{draft.text[500_000:]}")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1_500_000  # one text
    assert sum(draft.undo() for _ in range(200)) == 150
    assert draft.text == "x" * 1_000_000


def session_of(path: Path, text: str = "") -> Session:
    session = Session(Telling(), path, length=6, temperature=0.8)
    session.replace(text)
    return session


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


def test_suggestions_are_known_once_they_are_computed_for_the_text_as_it_stands(tmp_path: Path) -> None:
    session = session_of(tmp_path / "new.txt", "So")
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
    writer = load_model("tiny", tiny_models).writer()
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
    session = session_of(tmp_path / "new.txt", "So")
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
    session = session_of(tmp_path / "new.txt", text)
    session.delete_character()
    assert session.draft.text == without_character
    session = session_of(tmp_path / "new.txt", text)
    session.delete_word()
    assert session.draft.text == without_word


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
    session = session_of(tmp_path / "new.txt", text)
    session.delete_word()
    assert session.draft.text == kept


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n月，a."), min_size=1))
def test_deleting_words_ends(text: str) -> None:
    kept = without_last_word(text)
    assert len(kept) < len(text)
    assert text.startswith(kept)


def test_what_is_pasted_is_one_step_and_commands_no_terminal(tmp_path: Path) -> None:
    session = session_of(tmp_path / "new.txt", "So ")
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
    session = session_of(tmp_path_factory.mktemp("pasted") / "new.txt")
    session.paste("\x00\x1b\x7f\x85\x9b\ud800\udfff".join(["", *text, ""]))
    assert session.draft.text == text


def test_saving_and_going_on(tmp_path: Path) -> None:
    path = tmp_path / "chapter.txt"
    session = session_of(path)
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


@pytest.mark.parametrize(
    ("before", "shown", "after"),
    [
        (b"one\r\ntwo\r\n", "one\ntwo\n", b"one\r\ntwo\r\n\r\n!"),
        (b"one\rtwo", "one\ntwo", b"one\rtwo\r!"),
        (b"one\ntwo", "one\ntwo", b"one\ntwo\n!"),
        (b"one\r\ntwo\r\nthree\n", "one\ntwo\nthree\n", b"one\r\ntwo\r\nthree\r\n\r\n!"),  # as most are
        (b"\xef\xbb\xbfone\r\n", "one\n", b"\xef\xbb\xbfone\r\n\r\n!"),
        (b"\xef\xbb\xbf", "", b"\xef\xbb\xbf\n!"),
        (b"one", "one", b"one\n!"),
    ],
)
def test_line_endings_and_the_byte_order_mark_stay(tmp_path: Path, before: bytes, shown: str, after: bytes) -> None:
    path = tmp_path / "chapter.txt"
    path.write_bytes(before)
    session = Session(Telling(), path, length=6, temperature=0.8)
    assert session.draft.text == shown
    session.save()
    assert path.read_bytes() == before
    session.type("\n")
    session.type("!")
    session.save()
    assert path.read_bytes() == after
    assert not session.unsaved


@pytest.mark.parametrize("before", [None, "", "old"])
def test_two_editors_of_a_file_do_not_overwrite_each_other(tmp_path: Path, before: str | None) -> None:
    path, second, third = (tmp_path / f"chapter{end}.txt" for end in ("", "-2", "-3"))
    if before is not None:
        path.write_text(before, encoding="utf-8")
    sessions = [Session(Telling(), path, length=6, temperature=0.8) for _ in range(3)]
    for session, character in zip(sessions, "abc", strict=True):
        session.type(character)
        session.save()
    assert [session.message for session in sessions] == [
        f"Saved in {path}.",
        f"{path} was changed by another program: your text is saved in {second}.",
        f"{path} was changed by another program: your text is saved in {third}.",
    ]
    for session in sessions:
        session.type("!")
        session.save()
        assert session.message == f"Saved in {session.path}."
    texts = [one.read_text(encoding="utf-8") for one in (path, second, third)]
    assert texts == [f"{before or ''}{character}!" for character in "abc"]


def test_a_change_by_another_program_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "chapter.txt"
    path.write_bytes(b"old")
    link = tmp_path / "chapter.txt"
    link.symlink_to(path)
    session = session_of(link, "mine")
    session.save()
    session.type("!")
    path.write_bytes(b"theirs")
    session.save()
    assert (path.read_bytes(), session.path) == (b"theirs", tmp_path / "chapter-2.txt")
    assert session.path.read_bytes() == b"mine!"


def test_a_file_that_another_program_removed_or_saved_alike_is_written(tmp_path: Path) -> None:
    path = tmp_path / "chapter.txt"
    session = session_of(path, "a")
    path.write_bytes(b"a")
    session.save()
    assert session.message == f"Saved in {path}."
    path.unlink()
    session.type("b")
    session.save()
    assert (session.message, path.read_bytes()) == (f"Saved in {path}.", b"ab")


def test_a_saved_text_that_another_program_removes_is_saved_again(tmp_path: Path) -> None:
    path = tmp_path / "chapter.txt"
    session = session_of(path, "mine")
    session.save()
    path.unlink()
    session.save()
    assert (session.message, path.read_bytes()) == (f"Saved in {path}.", b"mine")
    path.write_bytes(b"theirs")
    session.save()
    second = tmp_path / "chapter-2.txt"
    assert session.message == f"{path} was changed by another program: your text is saved in {second}."
    assert (path.read_bytes(), second.read_bytes(), session.path) == (b"theirs", b"mine", second)
    session.save()
    assert (session.message, len(list(tmp_path.iterdir()))) == (f"Saved in {second}.", 2)


def test_a_saved_text_that_is_lost_and_cannot_be_saved_counts_as_unsaved(tmp_path: Path) -> None:
    """So it is printed at the end."""
    (tmp_path / "chapters").mkdir()
    path = tmp_path / "chapters" / "one.txt"
    session = session_of(path, "mine")
    session.save()
    path.unlink()
    os.rmdir(path.parent)
    session.save()
    assert session.message.startswith(f"Cannot write {path}: No such file")
    assert session.unsaved
    path.parent.mkdir()
    session.save()
    assert (session.message, session.unsaved) == (f"Saved in {path}.", False)


def test_a_file_of_which_nothing_was_changed_is_left_to_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "chapter.txt"
    path.write_bytes(b"old")
    session = Session(Telling(), path, length=6, temperature=0.8)
    session.save()
    assert session.message == f"Saved in {path}."
    path.write_bytes(b"theirs")
    session.save()
    assert (session.message, path.read_bytes()) == ("Nothing was written.", b"theirs")
    path.unlink()
    session.save()
    assert (session.message, list(tmp_path.iterdir())) == ("Nothing was written.", [])


def test_a_file_that_cannot_be_read_any_more_counts_as_changed(tmp_path: Path) -> None:
    path = tmp_path / "chapter.txt"
    session = session_of(path, "a")
    path.mkdir()
    session.save()
    assert session.message == f"{path} was changed by another program: your text is saved in {session.path}."
    assert session.path.read_bytes() == b"a"


def test_editors_that_save_at_the_same_moment_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "LOCK_SECONDS", 60.0)
    path = tmp_path / "chapter.txt"
    sessions = [session_of(path, str(number)) for number in range(8)]
    together = threading.Barrier(len(sessions))

    def save(session: Session) -> None:
        together.wait(60)
        session.save()

    threads = [threading.Thread(target=save, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    texts = sorted(one.read_text(encoding="utf-8") for one in tmp_path.iterdir())
    assert texts == [session.draft.text for session in sessions]


def test_a_text_is_saved_though_another_process_holds_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "LOCK_SECONDS", 0.0)
    session = session_of(tmp_path / "chapter.txt", "a")
    with lock(tmp_path) as is_held:
        assert is_held
        session.save()
    assert (tmp_path / "chapter.txt").read_bytes() == b"a"


def test_a_text_that_cannot_be_saved_stays(tmp_path: Path) -> None:
    (tmp_path / "chapters").mkdir()
    session = session_of(tmp_path / "chapters" / "one.txt", "So")
    os.rmdir(tmp_path / "chapters")
    session.save()
    assert session.message.startswith(f"Cannot write {tmp_path / 'chapters' / 'one.txt'}: No such file")
    assert session.unsaved


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere/chapter.txt", "there is no folder .*nowhere. Make it first"),
        ("latin.txt", "Name a UTF-8 text"),
        ("folder", "Is a directory"),
        ("pipe", "it is a pipe or a device. Name a UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TextgenError, match=expected):
        session_of(tmp_path / name)
