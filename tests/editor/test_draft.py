"""The draft that is written, and its past."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.editor.draft import Draft


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
