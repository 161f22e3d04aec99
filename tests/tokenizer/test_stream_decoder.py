from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vocabularies import LOSSLESS, texts, tokenizer_of

from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.stream_decoder import StreamDecoder


@pytest.mark.parametrize("kind", [*LOSSLESS, "word"])
@given(data=st.data())
def test_a_stream_is_the_whole_in_parts(kind: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    parts = data.draw(st.lists(st.lists(st.integers(0, tokenizer.vocab_size - 1))))
    decoder = tokenizer.decoder()
    streamed = "".join([decoder.feed(part) for part in parts]) + decoder.flush()
    ids = [id for part in parts for id in part]
    whole = b"".join(tokenizer.piece_bytes[id] for id in ids).decode(errors="replace")
    if kind == "word":
        whole = re.sub("^ ", "", whole).replace("\n ", "\n")
    assert streamed == tokenizer.decode(ids) == whole


@given(text=texts)
def test_a_stream_never_shows_half_a_character(text: str) -> None:
    tokenizer = ByteTokenizer()
    decoder = tokenizer.decoder()
    shown = ""
    for id in tokenizer.encode(text):
        shown += decoder.feed([id])
        assert text.startswith(shown)
    assert shown == text
    assert decoder.flush() == ""


def test_an_unfinished_character_is_told_at_the_end() -> None:
    decoder = StreamDecoder([b"\xe6", b"\x9c", b"\x88"])
    assert [decoder.feed([0]), decoder.feed([1]), decoder.flush()] == ["", "", "\ufffd"]
