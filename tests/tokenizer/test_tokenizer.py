from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vocabularies import LOSSLESS, texts, tokenizer_of

from textgen.errors import ConfigError, TokenizerError
from textgen.tokenizer.tokenizer import Tokenizer


@pytest.fixture(params=LOSSLESS)
def lossless(request: pytest.FixtureRequest) -> Tokenizer:
    return tokenizer_of(request.param)


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=texts)
def test_nothing_is_lost(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_id not in ids
    assert tokenizer.eos_id not in ids


@pytest.mark.parametrize("kind", [*LOSSLESS, "word"])
@given(first=texts, second=texts)
def test_lines_are_encoded_apart(kind: str, first: str, second: str) -> None:
    tokenizer = tokenizer_of(kind)
    first += "\n"
    assert tokenizer.encode(first) + tokenizer.encode(second) == tokenizer.encode(first + second)


@given(st.lists(texts))
def test_a_batch_is_its_texts(batch: list[str]) -> None:
    tokenizer = tokenizer_of("unigram")
    expected = [tokenizer.encode(text) for text in batch]
    assert tokenizer.encode_batch(batch, num_threads=1) == tokenizer.encode_batch(batch) == expected


def test_special_ids(lossless: Tokenizer) -> None:
    assert (lossless.pad_id, lossless.unk_id, lossless.eos_id) == (0, 1, 2)
    assert lossless.pieces()[:3] == ["<pad>", "<unk>", "<eos>"]
    assert lossless.decode([0, 2, 0]) == ""
    assert lossless.decode([1]) == "\ufffd"


def test_pieces_are_printable(lossless: Tokenizer) -> None:
    labels = lossless.pieces()
    assert len(labels) == len(lossless.piece_bytes) == lossless.vocab_size
    assert all(label.isprintable() and " " not in label for label in labels)
    assert lossless.piece(lossless.encode("\n月")[0]) == "\\n"
    assert lossless.piece(lossless.encode("é")[0]) == "<0xC3>"
    with pytest.raises(TokenizerError, match="no token -1"):
        lossless.piece(-1)
    with pytest.raises(TokenizerError, match=f"no token 99999: ids are from 0 to {lossless.vocab_size - 1}"):
        lossless.decode([5, 99999])


def test_one_text_is_a_batch_of_one(lossless: Tokenizer) -> None:
    assert lossless.encode_batch("abc") == [lossless.encode("abc")]


def test_tokens_of_numpy_are_tokens(lossless: Tokenizer) -> None:
    ids = np.array(lossless.encode("abc"))
    assert lossless.decode(ids) == "abc"
    assert lossless.piece(ids[0]) == "a"
    first = np.array(lossless.encode("é"))[:1]
    assert lossless.unfinished(first) == lossless.unfinished(iter(first)) == first.tolist()
    assert lossless.decoder_after(first).feed(np.array(lossless.encode("é"))[1:]) == "é"
    assert not lossless.is_line_start(ids)
    assert lossless.is_line_start(np.array(lossless.encode("a\n")))
    assert lossless.is_line_start(np.array([], int))
    labelled = lossless.with_labels(["poe"])
    poe: Any = np.int64(labelled.first_label + 1)
    assert labelled.label_of(poe) == "poe"


@pytest.mark.parametrize("kind", [*LOSSLESS, "word"])
@pytest.mark.parametrize("threads", [-1, 1, np.int64(2), 1 << 40])
def test_the_ids_do_not_depend_on_the_number_of_threads(kind: str, threads: Any) -> None:
    texts = ["the moon", "", "明月"]
    assert tokenizer_of(kind).encode_batch(texts, threads) == [tokenizer_of(kind).encode(text) for text in texts]


TAKING_IDS: dict[str, Callable[[Any, Any], object]] = {
    "decode": lambda own, ids: own.decode(ids),
    "feed": lambda own, ids: own.decoder().feed(ids),
    "unfinished": lambda own, ids: own.unfinished(ids),
    "is_line_start": lambda own, ids: own.is_line_start(ids),
    "decoder_after": lambda own, ids: own.decoder_after(ids),
}


@pytest.mark.parametrize("kind", [*LOSSLESS, "word"])
@pytest.mark.parametrize("use", TAKING_IDS.values(), ids=TAKING_IDS)
def test_all_that_takes_tokens_refuses_what_is_none(kind: str, use: Callable[[Any, Any], object]) -> None:
    tokenizer = tokenizer_of(kind)
    for wrong in ("abc", b"abc", 5, None, [5, True], [True], ["a"], {5: 5}, np.array(5), [0.5]):
        with pytest.raises(ConfigError, match=r"^ids must be a list of tokens. Received: "):
            use(tokenizer, wrong)
    for unknown in (-1, tokenizer.vocab_size, 10**9):
        for ids in ([unknown], np.array([unknown]), [unknown, 5, 5, 5, 5]):
            with pytest.raises(TokenizerError, match=f"^There is no token {unknown}: ids are from 0 to "):
                use(tokenizer, ids)


@pytest.mark.parametrize("kind", [*LOSSLESS, "word"])
def test_a_token_that_is_no_label_has_none(kind: str) -> None:
    plain = tokenizer_of(kind)
    labelled = plain.with_labels(["poe", "bierce"])
    assert [labelled.label_of(id) for id in range(labelled.first_label, labelled.vocab_size)] == [None, "poe", "bierce"]
    for tokenizer, id in ((plain, 5), (labelled, 5), (labelled, labelled.first_label - 1), (labelled, 0)):
        with pytest.raises(TokenizerError, match=f"^Token {id} is no label"):
            tokenizer.label_of(id)
    for unknown in (-1, labelled.vocab_size):
        with pytest.raises(TokenizerError, match=f"^There is no token {unknown}"):
            labelled.label_of(unknown)


@pytest.mark.parametrize("kind", [*LOSSLESS, "word"])
def test_a_text_that_is_not_valid_has_no_spelling(kind: str) -> None:
    for use in (tokenizer_of(kind).spelling, tokenizer_of(kind).lost_bytes):
        with pytest.raises(TokenizerError, match="lone surrogate"):
            use("a \ud800")


NO_THREADS = "num_threads must be a whole number of at least 1, or -1 for one thread per core. Received:"


@pytest.mark.parametrize("kind", [*LOSSLESS, "word"])
@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda own: own.encode(None),
            "text is None, not a text: leave out missing values, and convert others to str.",
        ),
        (lambda own: own.encode_batch(["a", b"b"]), "text is b'b', not a text: leave out missing values, and convert"),
        (lambda own: own.encode_batch(None), "texts must be a text or a list of texts. Received: None."),
        (lambda own: own.decode("abc"), "ids must be a list of tokens. Received: 'abc'."),
        (lambda own: own.decode(b"abc"), "ids must be a list of tokens. Received: b'abc'."),
        (lambda own: own.decode(5), "ids must be a list of tokens. Received: 5."),
        (lambda own: own.decode([5, True]), "ids must be a list of tokens. Received: [5, True]."),
        (lambda own: own.piece("a"), "id must be an integer. Received: 'a'."),
        (lambda own: own.label_of("5"), "id must be an integer. Received: '5'."),
        (lambda own: own.label_of(None), "id must be an integer. Received: None."),
        (lambda own: own.spelling(5), "text is 5, not a text: leave out missing values, and convert others to str."),
        (lambda own: own.spelling(None), "text is None, not a text: leave out missing values, and convert others"),
        (lambda own: own.lost_bytes(b"x"), "text is b'x', not a text: leave out missing values, and convert others"),
        (lambda own: own.save(5), "path is 5, not a path: give a str or a pathlib.Path."),
        (lambda own: own.encode_batch(["a"], 0), f"{NO_THREADS} 0."),
        (lambda own: own.encode_batch(["a"], -2), f"{NO_THREADS} -2."),
        (lambda own: own.encode_batch(["a"], num_threads="x"), f"{NO_THREADS} 'x'."),
        (lambda own: own.encode_batch(["a"], num_threads=True), f"{NO_THREADS} True."),
        (lambda own: own.encode_batch(["a"], num_threads=1.5), f"{NO_THREADS} 1.5."),
        (lambda own: own.with_labels(5), "labels must be a text or a list of texts. Received: 5."),
        (lambda own: own.with_labels([5]), "labels[0] is 5, not a text: leave out missing values, and convert others"),
        (lambda own: own.with_labels(["a", None]), "labels[1] is None, not a text: leave out missing values, and"),
        (lambda own: own.with_labels([["a"]]), "labels[0] is ['a'], not a text: leave out missing values, and"),
        (lambda own: own.with_labels([""]), "labels[0] is '', and a blank label means no label: leave it out."),
        (lambda own: own.with_labels([" \n"]), "labels[0] is ' \\n', and a blank label means no label: leave it out."),
        (lambda own: own.with_labels(["a\0b"]), "labels[0] 'a\\x00b' has the character U+0000, which a vocabulary"),
        (
            lambda own: own.with_labels(["\ud800"]),
            "labels[0] must be valid text. Received: '\\ud800', which holds half a character (a lone surrogate)",
        ),
        (lambda own: own.with_labels("a" * 201), "labels[0] has 201 characters, at most 200 are allowed."),
    ],
)
def test_a_wrong_argument_of_a_tokenizer_is_named(kind: str, use: Callable[[Any], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        use(tokenizer_of(kind))
    assert str(caught.value).startswith(message)
