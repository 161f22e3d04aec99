"""The part of a stream that is scored where not all of it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_fakes import WordsTokenizer

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.batches import Batches
from textgen.dataset.token_cache import encode_corpus
from textgen.dataset.token_stream import TokenStream
from textgen.evaluation import excerpt as module
from textgen.evaluation.excerpt import excerpt
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer

PROSE, TABLE = "the cat saw the mat\n" * 300, "7;19;33;0\n" * 600  # of which the words know one, and not the other
VOCABULARIES = ByteTokenizer(), WordsTokenizer(["the ", "cat ", "saw ", "mat"])


def stream_of(folder: Path, tokenizer: Tokenizer) -> TokenStream:
    folder.mkdir()
    (folder / "text.txt").write_text(PROSE + TABLE, encoding="utf-8")
    return encode_corpus(Corpus([folder / "text.txt"], CorpusConfig(documents="line")), tokenizer, folder / "tokens")


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> list[TokenStream]:
    """The same text, in many tokens and in few."""
    folder = tmp_path_factory.mktemp("streams")
    return [stream_of(folder / str(number), tokenizer) for number, tokenizer in enumerate(VOCABULARIES)]


def bytes_of(stretches: tuple[tuple[int, int], ...], stream: TokenStream, sizes: np.ndarray) -> set[int]:
    """The places in the text of all bytes in some stretches."""
    ends = np.concatenate([[0], np.cumsum(sizes[stream.read(0, len(stream))])])
    return {byte for first, end in stretches for byte in range(ends[first], ends[end])}


@given(share=st.floats(0.05, 0.95), most=st.integers(1, 12))
def test_it_is_the_same_text_with_each_vocabulary(streams: list[TokenStream], share: float, most: int) -> None:
    """Although half of its tokens are in other places of it."""
    found = list[set[int]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STRETCH_BYTES", 500)
        for stream, tokenizer in zip(streams, VOCABULARIES, strict=True):
            part = excerpt(stream, tokenizer.token_bytes, share, most)
            assert part
            assert len(part.stretches) == max(1, min(most, int(share * stream.summary.bytes / 256)))
            found.append(bytes_of(part.stretches, stream, tokenizer.token_bytes))
            assert part.fraction == pytest.approx(len(found[-1]) / stream.summary.bytes)
            assert part.fraction == pytest.approx(share, abs=4 * len(part.stretches) / stream.summary.bytes)
    assert len(found[0] & found[1]) > 0.95 * len(found[0] | found[1])


def test_the_places_are_the_same_however_many_tokens_are_read_at_a_time(
    streams: list[TokenStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = VOCABULARIES[1].token_bytes
    monkeypatch.setattr(module, "STRETCH_BYTES", 500)
    whole = excerpt(streams[1], sizes, 0.3, 7)
    monkeypatch.setattr(module, "CHUNK", 97)
    assert excerpt(streams[1], sizes, 0.3, 7) == whole


def test_a_text_of_nothing_has_no_part(streams: list[TokenStream]) -> None:
    assert excerpt(streams[0], np.zeros(len(streams[0].counts), np.int64), 0.5, 4) is None


def test_each_row_of_the_batches_is_a_stretch(streams: list[TokenStream]) -> None:
    stream, pad_id = streams[0], ByteTokenizer().pad_id
    ids, stretches = stream.read(0, len(stream)), ((0, 5), (40, 53), (len(stream) - 3, len(stream)))
    batches = Batches(stream, 3, 4, pad_id, stretches=stretches)
    inputs, targets = map(np.hstack, zip(*batches.epoch(0), strict=True))
    before = np.roll(ids, 1)
    for row, (first, end) in enumerate(stretches):
        kept = slice(0, end - first)
        np.testing.assert_array_equal(targets[row, kept], ids[first:end])
        np.testing.assert_array_equal(inputs[row, kept], before[first:end])
        assert (targets[row, end - first :] == pad_id).all()
