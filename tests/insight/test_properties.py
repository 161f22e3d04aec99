"""Properties of a text by rule."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from textgen.corpus.documents import Part
from textgen.errors import ConfigError, CorpusError
from textgen.insight.properties import parse_tracks, properties_of
from textgen.insight.texts import documents_of, read_documents
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

BYTES = ByteTokenizer()


def after_each(text: str, name: str, *, direction: str = "forward", tracks: tuple[str, ...] = ()) -> list[float]:
    """The property after the tokens of a text, in the order of the text; that of the token before it is left out."""
    read = read_documents([text], BYTES, 1000, direction)
    (wanted,) = [each for each in properties_of(read, parse_tracks(tracks)) if each.name == name]
    return wanted.values[1:].tolist()


TEXT = 'He (so [I]) said "ho 42".\n\nX'


def marks(text: str, marked: str) -> list[float]:
    return [float(mark == "^") for mark in marked.ljust(len(text))]


@pytest.mark.parametrize(
    ("name", "marked"),
    [
        ("inside quotes", "                 ^^^^^^"),
        ("inside brackets", "   ^^^^^^^"),
        ("digit", "                     ^^"),
        ("capital letter", "^       ^                  ^"),
        ("inside a word", "^^  ^^  ^   ^^^^  ^^       ^"),
        ("first line of a block", "^" * 25 + " ^^"),
        ("title line", "^" * 25),
    ],
)
def test_properties_that_are_there_or_not(name: str, marked: str) -> None:
    assert after_each(TEXT, name) == marks(TEXT, marked)


def test_counts() -> None:
    text = "ab\ncd\n\nefghijklmnop"
    assert after_each(text, "column") == [1, 2, 0, 1, 2, 0, 0, *range(1, 13)]
    assert after_each(text, "since a blank line") == [1, 2, 3, 4, 5, 6, 0, *range(1, 13)]
    assert after_each(text, "document position") == [*range(1, 20)]
    assert after_each("((a)b)c" + "." * 20, "bracket depth")[:7] == [1, 2, 2, 1, 1, 0, 0]


def test_quotes_of_chinese_and_the_place_in_a_couplet() -> None:
    text = "問答\n白日依山盡，黃河入海流。\n他說「去，更上一層樓」。"
    tokenizer = train_tokenizer([text], TokenizerConfig("char"))
    read = read_documents([text], tokenizer, 100)
    found = {each.name: each.values[1:].astype(int).tolist() for each in properties_of(read)}
    assert found["place in the half-line"][:16] == [1, 2, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 0]
    assert found["second half of a couplet"][8:16] == [1, 1, 1, 1, 1, 1, 0, 0]
    assert found["inside quotes"][18:26] == [1, 1, 1, 1, 1, 1, 1, 1]
    assert found["couplet number"][-1] == 2
    assert not any(found["inside a word"])


def test_signs_of_repetition_and_compatible_forms_are_chinese_too() -> None:
    text = "人々\uf900\U00020bb7〇。" * 3
    tokenizer = train_tokenizer([text], TokenizerConfig("char"))
    found = {each.name: each.values[1:].tolist() for each in properties_of(read_documents([text], tokenizer, 100))}
    assert found["place in the half-line"][:18] == [1, 2, 3, 4, 5, 0] * 3
    assert not any(found["inside a word"])
    assert "place in the half-line" in {each.name for each in properties_of(read_documents(["々々。" * 8], BYTES, 100))}


def test_a_forgotten_quote_ends_at_a_blank_line() -> None:
    assert after_each('"It\n\nwas a dark night', "inside quotes") == [1, 1, 1, 1] + [0] * 17


def test_track_is_inside_a_match() -> None:
    assert after_each("a FOX: runs\nBAT: sleeps", "who", tracks=("who=[A-Z]+:",))[:7] == [0, 0, 1, 1, 1, 1, 0]


def test_backward_properties_stand_before_a_token() -> None:
    forward = after_each("((a)b)c" + "." * 20, "bracket depth")
    backward = after_each("((a)b)c" + "." * 20, "bracket depth", direction="backward")
    assert backward[::-1] == [0, *forward[:-1]]


def test_backward_the_newest_character_is_the_one_after_the_place() -> None:
    """The first of them is nothing: no character was read before the first token."""
    for name, tracks in (("digit", ()), ("capital letter", ()), ("inside a word", ()), ("who", ("who=so|42",))):
        forward = after_each(TEXT, name, tracks=tracks)
        assert after_each(TEXT, name, direction="backward", tracks=tracks) == forward[::-1]
        read = read_documents([TEXT, TEXT], BYTES, 1000, "backward")
        (wanted,) = [each for each in properties_of(read, parse_tracks(tracks)) if each.name == name]
        assert wanted.values.tolist() == [0, *forward[::-1]] * 2


def test_backward_counts_are_those_from_the_end() -> None:
    text = "ab\ncd\n\nefghijklmnop"
    for name in ("column", "since a blank line", "document position"):
        assert after_each(text, name, direction="backward") == after_each(text[::-1], name)
    assert after_each(text, "column", direction="backward")[-3:] == [0, 1, 2]


def test_backward_places_and_counts_of_chinese() -> None:
    text = "白日依山盡，黃河入海流。欲窮千里目，更上一層樓。"
    tokenizer = train_tokenizer([text], TokenizerConfig("char"))
    read = read_documents([text], tokenizer, 100, "backward")
    found = {each.name: each.values[1:].astype(int).tolist() for each in properties_of(read)}
    assert found["place in the half-line"] == [0, 1, 2, 3, 4, 5] * 4
    assert found["couplet number"] == [1] * 12 + [2] * 12
    assert found["second half of a couplet"] == [*[1] * 6, *[0] * 6] * 2


def test_backward_first_lines_are_left_out() -> None:
    """A network that has not read what stands before a line cannot know that it is the first one."""
    names = {
        direction: {each.name for each in properties_of(read_documents([TEXT], BYTES, 1000, direction))}
        for direction in ("forward", "backward")
    }
    assert names["forward"] - names["backward"] == {"first line of a block", "title line"}


@pytest.mark.parametrize(
    ("track", "message"),
    [
        ("who", "track must be NAME=REGEX"),
        ("=x", "track must be NAME=REGEX"),
        ("who=(", "is no regular expression"),
        ("who=zzz", "matches nowhere in it"),
    ],
)
def test_bad_tracks(track: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        properties_of(read_documents(["some text without it"], BYTES, 100), parse_tracks([track]))


def test_of_a_text_that_is_cut_a_track_is_looked_for_in_the_part_that_is_used() -> None:
    message = (
        "track must be found in what is used of the text: who=zzz matches nowhere in its 64 tokens. "
        "Choose a larger max_tokens, or give a part of the text with matches."
    )
    with pytest.raises(ConfigError) as caught:
        properties_of(read_documents(["a" * 80 + "zzz"], BYTES, 64), parse_tracks(["who=zzz"]))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        (["digit=[0-9]"], "track must have another name than 'digit': a property of this name is there in any case."),
        ([" couplet number =x"], "track must have another name than 'couplet number': a property of this name"),
        (["who=a", "who =b"], "track must have a name of its own each time: who is given twice."),
    ],
)
def test_a_track_has_a_name_of_its_own(tracks: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        parse_tracks(tracks)
    assert "\n" not in str(caught.value)


def tokens(text_of: list[str], tokenizer: Tokenizer = BYTES, **how: object) -> tuple[list[str], bool]:
    read = read_documents(text_of, tokenizer, **{"max_tokens": 40, **how})  # type: ignore[arg-type]
    return read.pieces(), read.is_cut


def test_a_text_is_cut_at_the_bound_and_one_of_a_token_is_refused() -> None:
    pieces, is_cut = tokens(["a" * 1_000_000])
    assert (pieces, is_cut) == (["", *["a"] * 39], True)
    pieces, is_cut = tokens(["b" + "a" * 100], direction="backward")
    assert (len(pieces), "b" in pieces, is_cut) == (40, False, True)
    assert tokens(["first text", "second text"]) == (["", *"first text", "", *"second text"], False)
    with pytest.raises(CorpusError, match="too few to see anything"):
        tokens(["a"])


def test_a_cut_in_the_last_document_and_documents_that_follow_are_told_apart() -> None:
    for direction in ("forward", "backward"):
        for documents, is_last_cut, has_more in (
            (["a" * 39], False, False),
            (["a" * 40], True, False),
            (["a" * 39, "b"], False, True),
            (["a" * 40, "b"], True, True),
            (["a" * 10, "b" * 40], True, False),
        ):
            read = read_documents(documents, BYTES, 40, direction)
            assert (read.is_last_cut, read.has_more) == (is_last_cut, has_more)
            assert read.is_cut == (is_last_cut or has_more)


def test_of_an_endless_document_only_the_beginning_is_read() -> None:
    taken = 0

    def endless() -> Iterator[Part]:
        nonlocal taken
        yield Part("whole", ends_document=True)
        while True:
            taken += 1
            yield Part("ab " * 400, ends_document=False)

    whole, beginning = documents_of(endless(), 100)
    assert (whole, beginning[:6]) == ("whole", "ab ab ")
    assert taken == 6  # 64 characters for each of 100 tokens
    assert read_documents([whole, beginning], BYTES, 100).is_cut


def test_documents_keep_their_places_in_both_directions() -> None:
    documents = ["(first one", "second) one"]
    for direction in ("forward", "backward"):
        read = read_documents(documents, BYTES, 100, direction)
        assert read.text == "".join(documents)
        own = read.pieces()
        turn = slice(None, None, 1 if direction == "forward" else -1)
        assert "".join(own[: 1 + len(documents[0])]) == documents[0][turn]
        np.testing.assert_array_equal(read.document, [0] * 11 + [1] * 12)
        (depth,) = [each.values for each in properties_of(read) if each.name == "bracket depth"]
        assert depth[11:].max() == 0


def test_addresses_go_on_to_the_next_space() -> None:
    text = "At https://a.b/c?d=e#f and www.g.h, not http: or awww or ftp://i.j"
    marked = "   ^^^^^^^^^^^^^^^^^^^     ^^^^^^^^"
    assert after_each(text, "inside a URL") == marks(text, marked)
