"""Documents -> splits -> ids on disk: no token lost, repeated or out of place."""

from __future__ import annotations

import errno
import json
import os
import string
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk import unreadable
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from streams import (
    EOS,
    FIRST,
    PAD,
    NumberTokenizer,
    corpus_of,
    documents_in,
    ends_of,
    numbered,
    ring_of,
    stream_in,
    texts_of,
)

from textgen.corpus import documents as documents_module
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus, Part
from textgen.dataset import parallel_encoding, split, token_cache, token_stream, token_writer
from textgen.dataset.batches import Batches
from textgen.dataset.config import SplitConfig
from textgen.dataset.split import hold_out
from textgen.dataset.token_cache import TokenData, encode_and_split, encode_corpus, encoded
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.token_writer import encode_parts
from textgen.errors import CorpusError, TextgenError, TokenizerError, UnreadableCorpus
from textgen.storage import leftovers
from textgen.storage.cache_eviction import unfinished
from textgen.storage.locks import InUse, locked
from textgen.storage.manifests import MANIFEST
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.vocabulary import train_tokenizer


class Spy(ByteTokenizer):
    """Counts the texts that it encodes."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.name = name
        self.encoded = 0

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        self.encoded += len(texts)
        return super().encode_batch(texts, num_threads)

    def fingerprint(self) -> str:
        return super().fingerprint() + self.name


# --- Shards ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(1, 12), max_size=6), min_size=1, max_size=5).filter(any))
def test_shards_are_one_stream(shards: list[list[int]]) -> None:
    documents = numbered([length for shard in shards for length in shard])
    text, rest = [id for document in documents for id in document], iter(documents)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, shard in enumerate(shards):
            parts = [
                Part(" ".join(map(str, document[:-1])), ends_document=True) for document in islice(rest, len(shard))
            ]
            encode_parts((("train", part) for part in parts), NumberTokenizer(), folder / str(number))
        stream = TokenStream(folder, "train", [str(number) for number in range(len(shards))])
        assert len(stream) == stream.summary.tokens == len(text)
        assert stream.summary.documents == len(documents)
        assert np.array_equal(stream.counts, np.bincount(text, minlength=1000))
        assert ends_of(stream) == np.cumsum([len(document) for document in documents]).tolist()
        for start in range(len(text) + 1):
            stop = min(len(text), start + 17)
            ids = stream.read(start, stop)
            assert ids.dtype == np.int32
            assert ids.tolist() == text[start:stop]
        for places in (np.arange(0), np.arange(len(text))[::-1], np.random.default_rng(0).permutation(len(text))[:9]):
            ids = stream.gather(places)
            assert ids.dtype == np.int32
            assert ids.tolist() == [text[place] for place in places]
        ring = ring_of(list(Batches(stream, 2, 5, PAD, seed=3).epoch(0)))
        assert sorted(documents_in(ring)) == sorted(map(tuple, documents))


@pytest.mark.parametrize("size", [1, 3, 11, 12, 50])
def test_chunks_are_all_ids_in_order(tmp_path: Path, size: int) -> None:
    documents = numbered([4, 5])  # 11 ids with their ends
    stream, text = stream_in(tmp_path, documents), [id for document in documents for id in document]
    chunks = [chunk.tolist() for chunk in stream.chunks(size)]
    assert chunks == [text[start : start + size] for start in range(0, len(text), size)]
    assert len(text) == len(stream)


def test_excerpts_are_at_equal_distances_and_end_with_the_stream(tmp_path: Path) -> None:
    documents = numbered([4, 5])
    stream, text = stream_in(tmp_path, documents), [id for document in documents for id in document]
    distance = len(text) / 4
    found = [excerpt.tolist() for excerpt in stream.excerpts(4, 5)]
    assert found == [text[int(number * distance) :][:5] for number in range(4)]
    assert len(found[-1]) < 5


def test_document_ends_are_read_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stream_in(tmp_path, numbered([1, 5, 2, 8, 3]))
    borders = stream.borders
    monkeypatch.setattr(token_stream, "ENDS_READ", 2)
    assert [ends.tolist() for ends in stream.document_ends()] == [[2, 8], [11, 20], [24]]
    assert np.array_equal(TokenStream(stream.folder, "valid").borders, borders)
    assert borders.tolist() == [0, 2, 8, 11, 20, 24]


def test_a_stream_is_read_after_the_working_directory_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = stream_in(tmp_path, numbered([4, 5]))
    monkeypatch.chdir(tmp_path)
    stream = TokenStream(expected.folder.relative_to(tmp_path), expected.split)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert stream.folder == expected.folder
    assert np.array_equal(stream.read(0, len(stream)), expected.read(0, len(expected)))
    assert np.array_equal(stream.borders, expected.borders)


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    stream = stream_in(tmp_path, numbered([5, 5]))
    os.truncate(stream.folder / "valid.bin", 10)
    with pytest.raises(CorpusError, match=r"valid\.bin is shorter"):
        stream.read(3, 9)


def test_an_error_of_the_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stream_in(tmp_path, numbered([5, 5]))

    def fails(*arguments: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    message = r"Cannot read .*valid{}\.bin: Input/output error\. Try again"
    with monkeypatch.context() as patch:
        patch.setattr(token_stream, "read_at", fails)
        with pytest.raises(UnreadableCorpus, match=message.format("")):
            stream.read(3, 9)
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: fails() if path.suffix == ".bin" else read_bytes(path))
    with pytest.raises(UnreadableCorpus, match=message.format("-counts")):
        TokenStream(stream.folder, "valid")


def test_an_entry_of_the_cache_that_cannot_be_read_is_made_again(tmp_path: Path) -> None:
    corpus, spy = corpus_of(tmp_path, [f"document {n}" for n in range(30)]), Spy()
    folder = encode_and_split(corpus, spy).train.folder
    with unreadable(folder / "train.bin"):
        assert TokenData.cached(folder) is None
    assert TokenData.cached(folder)


@pytest.mark.parametrize(("vocab_size", "size"), [(1 << 16, 2), ((1 << 16) + 1, 4)])
def test_ids_are_as_wide_as_the_vocabulary_needs(tmp_path: Path, vocab_size: int, size: int) -> None:
    text = [FIRST, vocab_size - 1, vocab_size - 2, vocab_size - 1, EOS]
    stream = stream_in(tmp_path, [text], vocab_size)
    assert stream.read(0, 5).tolist() == text
    assert (stream.folder / "valid.bin").stat().st_size == size * len(text)
    assert stream.counts.shape == (vocab_size,)
    assert np.array_equal(stream.counts, np.bincount(text, minlength=vocab_size))


@pytest.mark.parametrize("kind", ["byte", "char", "unigram", "bpe"])
def test_a_long_document_is_encoded_in_parts_and_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(documents_module, "PART_CHARS", 50)
    monkeypatch.setattr(token_writer, "ENCODE_CHARACTERS", 120)
    text = "".join(f"line {number} of 月 the song\n" for number in range(60))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    corpus = Corpus([tmp_path / "text.txt"], CorpusConfig(documents="file"))
    tokenizer = train_tokenizer([text], TokenizerConfig(kind))
    stream = encode_corpus(corpus, tokenizer, tmp_path / "stream")
    assert stream.read(0, len(stream)).tolist() == [*tokenizer.encode(text), EOS]
    assert ends_of(stream) == [len(stream)]
    assert stream.summary.words == len(text.split()) + 1


def test_a_text_is_encoded_for_the_time_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "text.txt").write_text("one\ntwo", encoding="utf-8")
    with encoded(Corpus([tmp_path / "text.txt"], CorpusConfig(documents="line")), ByteTokenizer()) as stream:
        assert texts_of(stream, ByteTokenizer()) == ["one", "two"]
        assert stream.folder.is_relative_to(tmp_path / "temporary")
    assert list((tmp_path / "temporary").iterdir()) == []


# --- Splits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.1, 0.15, 0.3, 0.4, 0.45, 0.49, 0.5])
def test_the_share_of_documents_that_is_asked_for_is_held_out(fraction: float) -> None:
    number = 1000
    parts = [Part(str(n), ends_document=True) for n in range(number)]
    splits = [split for split, _ in hold_out(lambda: parts, fraction, "seed")]
    assert abs(splits.count("valid") - fraction * number) <= 1
    for start in range(0, number, 50):
        assert abs(splits[start : start + 50].count("valid") - fraction * 50) <= 2, "spread over the corpus"


@pytest.mark.parametrize("fraction", [1e-6, 0.01, 0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5])
@pytest.mark.parametrize("number", [20, 21, 137])
def test_whole_documents_are_held_out(tmp_path: Path, fraction: float, number: int) -> None:
    documents = [f"document {n} {string.ascii_letters[: n % 40]}" for n in range(number)]
    corpus, tokenizer = corpus_of(tmp_path, documents), ByteTokenizer()
    splits: list[list[str]] = []
    for seed in (1, 1, 2):
        data = encode_and_split(
            corpus, tokenizer, SplitConfig(fraction, seed=seed), cache=tmp_path / f"cache{len(splits)}"
        )
        train, valid = texts_of(data.train, tokenizer), texts_of(data.valid, tokenizer)
        assert train == [document for document in documents if document not in valid], "in order, none lost"
        assert valid == [document for document in documents if document in valid]
        run = min(round(1 / fraction), number)
        for start in range(0, number - run + 1, run):
            assert len({*valid} & {*documents[start : start + run]}) == 1, "spread over the corpus"
        assert len(valid) - number // run in (0, 1)
        splits.append(valid)
    assert splits[0] == splits[1], "a seed chooses"
    assert splits[0] != splits[2], "another seed chooses others"


def prose(size: int, letter: str = "a") -> str:
    """About `size` characters in sentences, lines and paragraphs."""
    words = " ".join(f"{letter}{n}" + "." * (n % 7 == 6) for n in range(size // 3))
    lines = [f"{words[at : at + 70]}\n" + "\n" * (at % 280 == 0) for at in range(0, len(words), 70)]
    return "".join(lines)[:size] or letter


sizes = st.lists(st.integers(1, 3000), min_size=2, max_size=split.MANY_DOCUMENTS - 1)


@settings(deadline=None, max_examples=60)
@given(sizes.filter(lambda sizes: max(sizes) > 900), st.floats(0.05, 0.5), st.sampled_from([50, 700, 1 << 18]))
def test_the_end_of_each_document_is_held_out_where_documents_are_few(
    sizes: list[int], fraction: float, part_size: int
) -> None:
    stretches = [int(size * fraction) for size in sizes]
    assume(2 * sum(stretch for stretch in stretches if stretch >= split.MIN_STRETCH_CHARS) >= sum(stretches))
    texts = [prose(size, chr(97 + number)) for number, size in enumerate(sizes)]
    parts = [
        Part(
            text[start : start + part_size],
            ends_document=start + part_size >= len(text),
            label=chr(97 + number),
        )
        for number, text in enumerate(texts)
        for start in range(0, len(text), part_size)
    ]
    pairs = list(hold_out(lambda: parts, fraction, "seed"))
    for number, text in enumerate(texts):
        own = [(name, part) for name, part in pairs if part.label == chr(97 + number)]
        train, valid = ("".join(part.text for name, part in own if name == which) for which in ("train", "valid"))
        assert train + valid == text, "the end, and nothing is lost"
        assert len(train) >= (1 - fraction) * len(text) / 2 > 0
        wanted = int(len(text) * fraction)
        assert bool(valid) == (wanted >= split.MIN_STRETCH_CHARS)
        if valid:
            assert abs(len(valid) - wanted) <= min(split.NEAR, wanted / 2)
        (last,) = [part for name, part in own if name == "train"][-1:]
        assert last.is_cut == bool(valid), "training is told that the text ends here"
        assert sum(part.is_cut for _, part in own) == bool(valid)


def test_documents_are_cut_between_paragraphs_lines_sentences_or_words() -> None:
    paragraph = "Some words of a sentence. More of them stand here, in a line.\n"
    cases = {
        "\n\n": f"{paragraph}{paragraph}\n" * 40,
        "\n": paragraph * 60,
        ". ": "Some words of a sentence, such as this. " * 80,
        "。": "白日依山尽，黄河入海流。" * 200,
        " ": "words and no end " * 200,
        "": "x" * 3000,
    }
    for border, text in cases.items():
        split = dict(hold_out(lambda text=text: [Part(text, ends_document=True)], 0.1, "seed"))  # type: ignore[misc]
        assert split["train"].text.endswith(border), border
        assert split["train"].text + split["valid"].text == text
        assert not split["train"].ends_document
        assert split["valid"].ends_document


def test_short_documents_beside_long_ones_are_learned_whole(tmp_path: Path) -> None:
    documents = ["a name", prose(2000).replace("\n", " "), "b", "another name"]
    data = encode_and_split(corpus_of(tmp_path, documents), ByteTokenizer(), SplitConfig(0.1))
    train, valid = texts_of(data.train, ByteTokenizer()), texts_of(data.valid, ByteTokenizer())
    assert [train[0], train[2], train[3]] == [documents[0], documents[2], documents[3]]
    assert [train[1] + valid[0]] == [documents[1]]


@pytest.mark.parametrize("number", [2, 5, 19])
def test_of_few_short_documents_whole_ones_are_held_out(tmp_path: Path, number: int) -> None:
    documents = [f"name {n}" for n in range(number)]
    data = encode_and_split(corpus_of(tmp_path, documents), ByteTokenizer(), SplitConfig(0.2))
    train, valid = texts_of(data.train, ByteTokenizer()), texts_of(data.valid, ByteTokenizer())
    assert sorted(train + valid) == sorted(documents)
    assert len(valid) in (max(1, number // 5), number // 5 + 1)


def test_of_few_short_documents_with_labels_of_their_own_whole_ones_are_held_out() -> None:
    labels = [f"poet {number}" for number in range(50)]
    parts = [Part(f"a short poem of {label}. " * 4, ends_document=True, label=label) for label in labels]
    splits = [name for name, _ in hold_out(lambda: parts, 0.1, "seed", labels)]
    assert splits.count("valid") == 5


@pytest.mark.parametrize("fraction", [1e-6, 0.1, 0.5])
@pytest.mark.parametrize("text", ["ab", "a b", prose(200)])
def test_a_document_that_is_all_there_is_is_cut(tmp_path: Path, text: str, fraction: float) -> None:
    data = encode_and_split(corpus_of(tmp_path, [text.replace("\n", " ")]), ByteTokenizer(), SplitConfig(fraction))
    assert data.train.summary.characters > 0
    assert data.valid.summary.characters > 0


def test_what_is_learned_of_a_document_is_closed(tmp_path: Path) -> None:
    """The end is a target and, since a stream is a ring, the first input before the first token."""
    documents = [prose(1500).replace("\n", " "), prose(900, "b").replace("\n", " ")]
    data = encode_and_split(corpus_of(tmp_path, documents), ByteTokenizer(), SplitConfig(0.1))
    for stream, whole in ((data.train, 0), (data.valid, 2)):
        ids = stream.read(0, len(stream))
        assert np.flatnonzero(ids == EOS).tolist() == [end - 1 for end in ends_of(stream)]
        assert ids[-1] == EOS
        assert stream.counts[EOS] == stream.summary.ends == 2
        assert stream.summary.documents == whole, "documents are counted once"


@pytest.mark.parametrize("number", [2, 12, 25, 40, 130])
def test_every_label_is_learned(tmp_path: Path, number: int) -> None:
    """Of two authors, of as many as documents, and of one that has a single document among many."""
    names = [str(n) if number < 40 else str(max(0, n - 120)) for n in range(number)]
    folder = tmp_path / "texts"
    for n, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{n:03}.txt").write_text(prose(12_000 if n else 90_000, "xyz"[n % 3]), encoding="utf-8")
    corpus = Corpus([folder], CorpusConfig(documents="file", labels="folder"))
    tokenizer = ByteTokenizer().with_labels(sorted({*names}))
    for seed in range(3 if number < 100 else 1):
        data = encode_and_split(corpus, tokenizer, SplitConfig(seed=seed))
        ids = [stream.read(0, len(stream)) for stream in (data.train, data.valid)]
        learned, scored = ({*of[of > tokenizer.first_label].tolist()} for of in ids)
        assert learned == {*range(tokenizer.first_label + 1, tokenizer.vocab_size)}
        if number < split.MANY_DOCUMENTS:
            assert scored == learned
        assert 0.04 < len(data.valid) / len(data.train) < 0.3


def test_another_corpus_can_be_held_out(tmp_path: Path) -> None:
    documents, others = [f"a{n}" for n in range(30)], ["x", "yy"]
    tokenizer = ByteTokenizer()
    data = encode_and_split(corpus_of(tmp_path, documents), tokenizer, corpus_of(tmp_path, others, "valid.txt"))
    assert texts_of(data.train, tokenizer) == documents
    assert texts_of(data.valid, tokenizer) == others


@pytest.mark.parametrize("kind", ["char", "unigram", "bpe"])
@pytest.mark.parametrize("number", [5, 40])
def test_decoding_both_splits_gives_the_documents_back(tmp_path: Path, kind: str, number: int) -> None:
    documents = [f"  Song {n}, the cat's\t<eos> 床前明月光 {'la ' * n}" for n in range(number)]
    tokenizer = train_tokenizer(documents, TokenizerConfig(kind))
    data = encode_and_split(corpus_of(tmp_path, documents), tokenizer, SplitConfig(0.3))
    found = texts_of(data.train, tokenizer) + texts_of(data.valid, tokenizer)
    assert sorted(found) == sorted(documents)


def test_the_summary_counts(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    data = encode_and_split(corpus_of(tmp_path, [f"{n} wörds  and 月" for n in range(25)]), tokenizer, SplitConfig(0.2))
    for stream in (data.train, data.valid):
        texts = texts_of(stream, tokenizer)
        summary = stream.summary
        assert summary.documents == len(texts) == len(ends_of(stream))
        assert summary.bytes == sum(len(text.encode()) for text in texts)
        assert summary.words == sum(len(text.split()) + 1 for text in texts)
        assert summary.tokens == len(stream) == summary.bytes + summary.documents
        assert np.array_equal(stream.counts, np.bincount(stream.read(0, len(stream)), minlength=259))
        assert stream.counts[EOS] == len(texts)


def test_a_text_that_is_too_short_is_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, ["a"])
    for _ in range(2):  # the second time from the cache
        with pytest.raises(CorpusError, match="too short to hold some of it out"):
            encode_and_split(corpus, ByteTokenizer())


# --- Cache -------------------------------------------------------------------------------------------------


def ids_of(data: TokenData) -> list[list[int]]:
    return [stream.read(0, len(stream)).tolist() for stream in (data.train, data.valid)]


def test_a_corpus_is_encoded_once(tmp_path: Path) -> None:
    spy = Spy()
    documents = [f"document {n}" for n in range(30)]
    first = encode_and_split(corpus_of(tmp_path, documents), spy)
    assert spy.encoded == 30
    second = encode_and_split(corpus_of(tmp_path, documents, "moved.txt"), spy)
    assert spy.encoded == 30
    assert ids_of(first) == ids_of(second)
    assert first.train.folder.is_relative_to(tmp_path / "cache" / "tokens")


def test_an_entry_that_another_process_made_meanwhile_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(tmp_path, [f"document {number}" for number in range(30)])
    encode, others = token_writer.encode_parts, list[TokenData]()

    def slow(*given: Any, **options: Any) -> None:  # the other process begins later, and is done first
        monkeypatch.setattr(token_cache, "encode_parts", encode)
        others.append(encode_and_split(corpus, ByteTokenizer()))
        encode(*given, **options)

    monkeypatch.setattr(token_cache, "encode_parts", slow)
    ours = encode_and_split(corpus, ByteTokenizer())
    assert ids_of(ours) == ids_of(others[0])
    del ours
    with pytest.raises(InUse), locked(others[0].train.folder):
        pass


def test_whatever_changes_the_ids_is_encoded_again(tmp_path: Path) -> None:
    documents = [f"document {n}" for n in range(30)]
    corpus, valid, spy = corpus_of(tmp_path, documents), corpus_of(tmp_path, ["valid"], "valid.txt"), Spy()
    as_file = Corpus(corpus.files, CorpusConfig(documents="file"))
    variants: list[Callable[[], TokenData]] = [
        lambda: encode_and_split(corpus, spy),
        lambda: encode_and_split(corpus, spy, SplitConfig(0.2)),
        lambda: encode_and_split(corpus, spy, SplitConfig(seed=1)),
        lambda: encode_and_split(corpus, spy, valid),
        lambda: encode_and_split(corpus, spy, corpus_of(tmp_path, ["valie"], "other.txt")),
        lambda: encode_and_split(as_file, spy),
        lambda: encode_and_split(corpus_of(tmp_path, [*documents[:-1], "document X"], "changed.txt"), spy),
        lambda: encode_and_split(corpus, spy, cache=tmp_path / "elsewhere"),
    ]
    for variant in variants:
        before = spy.encoded
        variant()
        assert spy.encoded > before
        before = spy.encoded
        variant()
        assert spy.encoded == before
    other = Spy("another vocabulary")
    encode_and_split(corpus, other)
    assert other.encoded == 30


def test_what_a_killed_process_left_is_swept_and_what_is_being_written_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tmp_path / "cache" / "tokens"
    (shelf / f".tmp-new-{'0' * 32}-{'1' * 16}").mkdir(parents=True)
    (shelf / ".tmp-of-the-user").mkdir()
    monkeypatch.setattr(leftovers, "YOUNG_SECONDS", -1.0)

    class Sweeper(ByteTokenizer):
        def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
            leftovers.sweep_abandoned(unfinished(shelf))
            names.extend(path.name for path in shelf.iterdir())
            return super().encode_batch(texts, num_threads)

    names = list[str]()
    data = encode_and_split(corpus_of(tmp_path, [f"document {n}" for n in range(30)]), Sweeper())
    being_made, mine = sorted(names)
    assert being_made.startswith(f".tmp-new-{data.train.folder.name}-")
    assert mine == ".tmp-of-the-user"
    assert {path.name for path in shelf.iterdir()} == {data.train.folder.name, mine}


def flip(path: Path) -> None:
    """Changes one bit, and not the size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("which", ["text.txt", "valid.txt"])
def test_a_file_that_grows_while_it_is_encoded_is_named(tmp_path: Path, which: str) -> None:
    """After the fingerprint, under which nothing is kept then."""
    corpus, valid = corpus_of(tmp_path, ["a text"] * 30), corpus_of(tmp_path, ["another"] * 3, "valid.txt")

    for each in (corpus, valid):
        each.fingerprint()
    with (tmp_path / which).open("a", encoding="utf-8") as file:
        file.write("\nmore")
    with pytest.raises(CorpusError, match=rf"{which} changed while it was read: try again"):
        encode_and_split(corpus, Spy(), valid)
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []
    assert len(
        encode_and_split(corpus_of(tmp_path, ["a text"] * 30), Spy(), corpus_of(tmp_path, ["b"], "valid.txt")).train
    )


def test_an_entry_of_another_format_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the files of format 5, labels of .json records may be others, and nothing says what is repeated."""
    path = tmp_path / "a.json"
    rows = [{"text": f"text {number}", "by": "inner"} for number in range(30)]
    path.write_text(json.dumps({"by": "outer", "data": rows}), encoding="utf-8")
    corpus = Corpus([path], CorpusConfig(text_field="data.text", labels="by"))
    with monkeypatch.context() as patch:
        patch.setattr(token_cache, "FORMAT", 5)
        old = encode_and_split(corpus, ByteTokenizer(["inner", "outer"]))
    new = encode_and_split(corpus, ByteTokenizer(["inner", "outer"]))
    assert new.train.folder != old.train.folder
    assert new.train.folder == encode_and_split(corpus, ByteTokenizer(["inner", "outer"])).train.folder


def test_an_incomplete_cache_is_encoded_again(tmp_path: Path) -> None:
    corpus, spy = corpus_of(tmp_path, [f"document {n}" for n in range(30)]), Spy()
    whole = ids_of(first := encode_and_split(corpus, spy))
    folder = first.train.folder
    names = sorted(path.name for path in folder.iterdir())
    assert MANIFEST in names
    for damage in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), flip):
        for name in names:
            if (folder / name).stat().st_size:
                damage(folder / name)
                assert TokenData.cached(folder) is None, name
                assert ids_of(encode_and_split(corpus, spy)) == whole
                assert sorted(path.name for path in folder.iterdir()) == names
    assert TokenData.cached(tmp_path / "nowhere") is None


def test_what_fails_while_encoding_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_writer, "ENCODE_CHARACTERS", 20)
    monkeypatch.setattr(parallel_encoding, "num_cores", lambda: 1)  # a spy works in its own process only

    class Failing(Spy):
        def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
            if self.encoded > 10:
                raise TokenizerError("no more")
            return super().encode_batch(texts, num_threads)

    corpus = corpus_of(tmp_path, [f"document {n}" for n in range(30)])
    with pytest.raises(TokenizerError, match="no more"):
        encode_and_split(corpus, Failing())
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


def test_a_full_disk_is_one_clear_line(tmp_path: Path, disk_of: Callable[[int], AbstractContextManager[None]]) -> None:
    corpus = corpus_of(tmp_path, ["x" * 5000] * 30)
    with disk_of(50_000), pytest.raises(TextgenError, match=r"Cannot write .*cache/tokens/.*Free some space"):
        encode_and_split(corpus, ByteTokenizer())
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []
