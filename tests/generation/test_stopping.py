from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.generation.stopping import ABBREVIATED, UNDECIDED, Ending, ends_within


def written(text: str, stop: tuple[str, ...] = (), until: str = "document", before: str = "") -> tuple[str, str]:
    """What is left of a text and why, the same in one stretch, character by character, and never too much."""
    results = set()
    for chunks in ([text], list(text)):
        ending, shown = Ending(stop, until, before), ""
        for chunk in chunks:
            shown += ending.feed(chunk)
        results.add((shown + ending.flush(), ending.reason))
    (result,) = results
    assert text.startswith(result[0])
    return result


@pytest.mark.parametrize(
    ("until", "text", "expected"),
    [
        ("sentence", " ran away. Then", " ran away."),
        ("sentence", " ran away", None),
        ("sentence", " ran away.", None),  # the text may go on with a closing mark
        ("sentence", "It cost 3.14 pounds! He", "It cost 3.14 pounds!"),
        ("sentence", "He asked “why?” and I", "He asked “why?”"),
        ("sentence", 'He said "no." She', 'He said "no."'),
        ("sentence", "Mr. Fox met J. Owl. They", "Mr. Fox met J. Owl."),
        ("sentence", "Wait ... what?! No", "Wait ..."),
        ("sentence", "床前明月光，疑是地上霜。举头", "床前明月光，疑是地上霜。"),
        ("sentence", "他說：「走吧！」她", "他說：「走吧！」"),
        ("sentence", "真的？！他", "真的？！"),
        ("sentence", "（真的。〕）他", "（真的。〕）"),
        ("sentence", "﹁走吧！﹂他", "﹁走吧！﹂"),
        ("sentence", "你好!我很好.", "你好!"),
        ("sentence", "“真的?!”𠀀", "“真的?!”"),
        ("sentence", "A!b?！。C", "A!b?！。"),
        ("sentence", "A heading\n\nThe text. It", "A heading"),
        ("sentence", "\n\nThe text.\nIt", "\n\nThe text."),
        ("line", "one\ntwo\n", "one"),
        ("line", "\n \none\ntwo", "\n \none"),
        ("line", "one", None),
        ("paragraph", "one\ntwo\n\nthree", "one\ntwo"),
        ("paragraph", "one\ntwo\n \t\nthree", "one\ntwo"),
        ("paragraph", "\n\none\n\n\ntwo", "\n\none"),
        ("paragraph", "one\n", None),
    ],
)
def test_until(until: str, text: str, expected: str | None) -> None:
    assert written(text, until=until) == ((text, "") if expected is None else (expected, "until"))


@pytest.mark.parametrize(
    ("before", "text", "expected"),
    [
        ("I met Mr", ". Smith there. He", ". Smith there."),
        ("I met M", "r. Smith there. He", "r. Smith there."),
        ("by J", ". K. Rowling. He", ". K. Rowling."),
        ("one " * 99 + "Dr", ". Jones came. He", ". Jones came."),
        ("I met him", ". Then he left. He", "."),
        ("I met xMr", ". Then he left. He", "."),
        ("I met Mr", " \n. Then he left. He", " \n."),
        ("I left.", " Then he left. He", " Then he left."),
        ("He said: no.", "” Then he left. He", "” Then he left."),
        ("他走了。", "”他也走了。她", "”他也走了。"),
        ("他走了!", "他也走了!她", "他也走了!"),
    ],
)
def test_a_sentence_goes_on_from_the_text_before_it_and_does_not_end_there(
    before: str, text: str, expected: str
) -> None:
    assert written(text, until="sentence", before=before) == (expected, "until")


@pytest.mark.parametrize("until", ["line", "paragraph"])
def test_newlines_before_a_text_do_not_end_it(until: str) -> None:
    assert written("\n\none\n\ntwo", until=until, before="One.\n") == ("\n\none", "until")


def test_the_first_of_all_rules_counts() -> None:
    assert written("one two. three\n", ("two",), "sentence") == ("one ", "stop")
    assert written("one two. three\n", ("three",), "sentence") == ("one two.", "until")


def test_nothing_follows_the_end() -> None:
    ending = Ending(["x"])
    assert ending.feed("axb") + ending.feed("c") + ending.flush() == "a"


@given(st.text("ab \n", max_size=30), st.lists(st.text("ab \n", min_size=1, max_size=4), max_size=3))
def test_stop_texts_are_found_where_they_first_come_about(text: str, stop: list[str]) -> None:
    """The oracle: the prefix of the text up to the first character that completes a stop text."""
    for end in range(len(text) + 1):
        found = [at for s in stop if (at := text.find(s, 0, end)) >= 0]
        if found:
            assert written_by_characters(text, stop) == text[: min(found)]
            return
    assert written_by_characters(text, stop) == text


def written_by_characters(text: str, stop: list[str]) -> str:
    ending = Ending(stop)
    return "".join([*map(ending.feed, text), ending.flush()])


class EndingByBeginnings(Ending):
    """Compares each beginning of each stop text with the end of the text."""

    def _undecided(self) -> int:
        lengths = [n for stop in self._stop for n in range(1, len(stop)) if self._held.endswith(stop[:n])]
        if self._until and (match := UNDECIDED.search(self._held)):
            lengths.append(len(match[0]))
        return max(lengths, default=0)


@given(
    st.lists(st.one_of(st.text("ab \n", max_size=6), st.just(None)), max_size=20),
    st.lists(st.text("ab \n", min_size=1, max_size=9), max_size=4),
    st.sampled_from(["document", "line", "paragraph"]),
)
def test_what_may_become_a_stop_text_is_held_back(pieces: list[str | None], stop: list[str], until: str) -> None:
    """None stands for a fork and a flush of the other copy."""
    endings = [Ending(stop, until), EndingByBeginnings(stop, until)]
    for piece in pieces:
        if piece is None:
            forks = [ending.fork() for ending in endings]
            assert len({fork.flush() + fork.feed("ab") + fork.reason for fork in forks}) == 1
        else:
            assert len({ending.feed(piece) for ending in endings}) == 1
        assert endings[0].reason == endings[1].reason
    assert endings[0].flush() == endings[1].flush()


@pytest.mark.parametrize("text", ["the ", "q", "q" * 600 + "r"])
def test_long_stop_texts_take_no_longer_than_their_text(text: str) -> None:
    """Characters are looked at a few times, not once for each beginning of a stop text."""
    looks = 0

    class Stop(str):
        __slots__ = ()

        def __getitem__(self, at: Any) -> str:
            nonlocal looks
            looks += 1
            return super().__getitem__(at)

    stops = [Stop("q" * 1023 + str(number)) for number in range(4)]
    ending = Ending(stops)
    ending.feed("q" * 300)  # what is computed once for each stop text
    looks, fed = 0, 0
    while fed < 3000:
        ending.feed(text)
        fed += len(text)
    assert ending.reason == ""
    assert looks < 5 * len(stops) * fed


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("a\nb", "document"), ("\nb", "line"), ("a b", "line"), ("a\nb", "paragraph"), ("a\n\nb", "document"),
        ("He left.", "sentence"), ("Mr. Fox", "sentence"), ("r. Fox", "sentence"), (". Fox", "sentence"),
        ("t. Ives", "sentence"), ("J. S.", "sentence"), ("!", "sentence"), ("床前。", "sentence"),
    ],
)  # fmt: skip
def test_what_a_unit_may_hold(text: str, until: str) -> None:
    assert not ends_within(text, until)
    assert any(written(text + "x", until=until, before=before)[0].startswith(text) for before in ABBREVIATED)


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("a\n", "line"), ("a\nb", "line"), (" a\n b", "line"), ("a\n\n", "paragraph"), ("a\n \nb", "paragraph"),
        ("left. She", "sentence"), ("x. ", "sentence"), ("! He", "sentence"), ("。月", "sentence"),
    ],
)  # fmt: skip
def test_what_no_unit_can_hold(text: str, until: str) -> None:
    assert ends_within(text, until)
    for before in ("", "a", "Mr", "月", "a\n"):
        for prefix in ("", "He", "Mr", "月 "):
            assert text not in written(prefix + text + "x", until=until, before=before)[0]


@given(st.text("a. \n。”", max_size=40), st.sampled_from(["sentence", "line", "paragraph"]), st.text("a. \nMr”"))
def test_until_does_not_depend_on_how_the_text_comes(text: str, until: str, before: str) -> None:
    kept, reason = written(text, until=until, before=before)
    assert reason == "until" or kept == text
