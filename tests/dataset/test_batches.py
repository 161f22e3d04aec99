"""Streams -> batches: no token lost, repeated or out of place, in another order in each epoch."""

from __future__ import annotations

import gc
import json
import os
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import EOS, PAD, Batch, documents_in, numbered, ring_of, stream_in, stream_of, unmarked

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus, Part
from textgen.dataset import token_files, token_stream
from textgen.dataset.batches import LABEL_KEY, OPENED, OPENING_KEY, Batches, num_fresh
from textgen.dataset.permutation import Permutation
from textgen.dataset.token_cache import encode_corpus
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.token_writer import encode_parts
from textgen.dataset.windows import Windows
from textgen.errors import CorpusError, TextgenError
from textgen.storage.file_reading import read_at
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.kinds import ByteTokenizer

lengths = st.lists(st.integers(1, 12), min_size=1, max_size=15)
sizes = st.integers(1, 9)
shares = st.sampled_from([0.0, 0.05, 0.3, 1.0])
seeds = st.none() | st.integers(0, (1 << 63) - 1)


def same(batches: Sequence[Batch], others: Sequence[Batch]) -> bool:
    return len(batches) == len(others) and all(
        np.array_equal(a, b)
        for one, other in zip(batches, others, strict=True)
        for a, b in zip(one, other, strict=True)
    )


@settings(deadline=None)
@given(lengths, sizes, sizes, seeds, st.integers(0, 3), shares)
def test_an_epoch_holds_every_token_once_in_whole_documents(
    lengths: list[int], batch_size: int, sequence_length: int, seed: int | None, epoch: int, random_bptt: float
) -> None:
    with stream_of(lengths) as stream:
        data = Batches(stream, batch_size, sequence_length, PAD, seed, random_bptt)
        batches = list(data.epoch(epoch))
        assert len(batches) == data.steps_in(epoch)
        for pair in batches:
            assert pair[0].shape == pair[1].shape
            assert all(len(a) == batch_size and a.shape[1] <= sequence_length and a.dtype == np.int32 for a in pair)
            assert random_bptt or pair[0].shape[1] == sequence_length
            assert (pair[0] != PAD).any()
            assert np.array_equal(pair[0] == PAD, pair[1] == PAD)
        tokens = [data.tokens_in(epoch, step) for step in range(len(batches))]
        assert tokens == [np.count_nonzero(inputs != PAD) for inputs, _ in batches]
        assert sum(tokens) == len(stream)

        # Rows, each the concatenation over batches: row b of a batch goes on where it stopped in the one before.
        inputs, targets = (np.concatenate(arrays, axis=1) for arrays in zip(*batches, strict=True))
        filled = (inputs != PAD).sum(axis=1)
        assert all((row[:n] != PAD).all() for row, n in zip(inputs, filled, strict=True)), "padding only at the end"
        assert filled.max() == data.row_length()
        assert sorted(filled, reverse=True) == filled.tolist(), "rows are filled from the first on"
        assert ((filled == data.row_length()) | (filled.cumsum() == len(stream))).all()

        ring = ring_of(batches)
        text = stream.read(0, len(stream))
        assert sorted(ring) == sorted(text), "each token is an input once"
        assert np.array_equal(targets[targets != PAD], np.roll(ring, -1)), "targets are the next inputs"
        assert sorted(documents_in(ring)) == sorted(map(tuple, numbered(lengths))), "documents stay whole"
        if seed is None:
            assert np.array_equal(ring, np.roll(text, 1)), "in order, the last token first"


def test_padding_ends_rows() -> None:
    with stream_of([3, 3, 2]) as stream:  # 11 tokens
        first, second = Batches(stream, 2, 4, PAD).epoch(0)
    assert first[0].tolist() == [[2, 3, 4, 5], [7, 8, 2, 9]]
    assert first[1].tolist() == [[3, 4, 5, 2], [8, 2, 9, 10]]
    assert second[0].tolist() == [[2, 6, 0, 0], [10, 0, 0, 0]]
    assert second[1].tolist() == [[6, 7, 0, 0], [2, 0, 0, 0]]


def test_more_rows_than_tokens() -> None:
    with stream_of([1, 1]) as stream:
        ((inputs, targets),) = Batches(stream, 7, 3, PAD).epoch(0)
    assert inputs.tolist() == [[2, 0, 0], [3, 0, 0], [2, 0, 0], [4, 0, 0], *[[0, 0, 0]] * 3]
    assert targets.tolist() == [[3, 0, 0], [2, 0, 0], [4, 0, 0], [2, 0, 0], *[[0, 0, 0]] * 3]


@settings(deadline=None, max_examples=50)
@given(lengths, sizes, sizes, seeds, st.integers(0, 3), shares, st.data())
def test_an_epoch_is_resumed_at_any_step(
    lengths: list[int],
    batch_size: int,
    sequence_length: int,
    seed: int | None,
    epoch: int,
    random_bptt: float,
    data: st.DataObject,
) -> None:
    with stream_of(lengths) as stream:
        batches = Batches(stream, batch_size, sequence_length, PAD, seed, random_bptt)
        step = data.draw(st.integers(0, batches.steps_in()))
        assert same(list(batches.epoch(epoch, step)), list(batches.epoch(epoch))[step:])


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    with stream_of([5] * 30) as stream:
        orders = {
            (seed, epoch): tuple(ring_of(list(Batches(stream, 2, 4, PAD, seed).epoch(epoch))).tolist())
            for seed in range(4)
            for epoch in range(4)
        }
        documents = [tuple(documents_in(np.array(order))) for order in orders.values()]
        assert len(set(orders.values())) == len(set(documents)) == 16, "another order, not only another start"
        first_ids = {document[0] for document in numbered([5] * 30)}
        assert 0 < sum(order[0] in first_ids for order in orders.values()) < 8, "a start inside any document"
        again = Batches(stream, 3, 7, PAD, 2).epoch(3)
        assert tuple(ring_of(list(again)).tolist()) == orders[2, 3], "whatever B and T"
        unseeded = Batches(stream, 2, 4, PAD)
        assert same(list(unseeded.epoch(0)), list(unseeded.epoch(1)))


def test_long_corpora_are_shuffled_in_blocks_of_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_stream, "MAX_BLOCKS", 5)
    documents = numbered([1, 2, 3, 4] * 50)
    stream = stream_in(tmp_path, documents)
    ring = ring_of(list(Batches(stream, 3, 8, PAD, seed=1).epoch(0)))
    found = documents_in(ring)
    assert sorted(found) == sorted(map(tuple, documents))
    together = sum(b[0] == a[-2] + 1 for a, b in pairwise(found))
    assert 200 - 12 <= together < 199, "few blocks, in another order"


def long_stream(folder: Path, labels: Sequence[str] = ()) -> TokenStream:
    """Three documents in bytes, of 3,501, 6 and 841 tokens and a label each, if there are `labels`."""
    texts = ["".join(f"{letter}{n:05}\n" for n in range(number)) for letter, number in (("x", 500), ("y", 120))]
    records = [{"text": text, "by": label} for text, label in zip([texts[0], "short", texts[1]], "acb", strict=True)]
    (folder / "text.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    corpus = Corpus([folder / "text.jsonl"], CorpusConfig(labels="by" if labels else None))
    return encode_corpus(corpus, ByteTokenizer().with_labels(tuple(labels)), folder / "stream")


@pytest.mark.parametrize("labels", [(), ("a", "b", "c")])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_long_documents_are_opened_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: Sequence[str], direction: str
) -> None:
    """In each stretch the end is an input, with the label before a beginning of a line; it ends three documents."""
    monkeypatch.setattr(token_files, "OPENING_TOKENS", 200)
    monkeypatch.setattr(token_files, "SPACING", 25)
    stream = long_stream(tmp_path, labels)
    text, first_label = stream.read(0, len(stream)), stream.first_label or len(stream.counts)
    found = list[set[str]]()
    for epoch in range(4):
        pairs = Batches(stream, 1, 37, PAD, 5, direction=direction).epoch(epoch)
        inputs, targets = (np.concatenate(arrays, axis=1)[0] for arrays in zip(*pairs, strict=True))
        assert sorted(targets[targets != PAD]) == sorted(text[text < first_label]), "each is a target once"
        ring = inputs[inputs != PAD][:: 1 if direction == "forward" else -1]
        openings = [np.roll(ring, -place)[1:9].tolist() for place in np.flatnonzero(ring == EOS)]
        assert len(openings) == len(stream) // 200 + 1, "one in each stretch of 200, and the one that has two"
        owners = ["abc"[opening.pop(0) - first_label - 1] for opening in openings] if labels else []
        begun = [text_of(opening)[:6] for opening in openings]
        assert all(re.fullmatch("[xy][0-9]{5}|short.?", start) for start in begun), "a line begins"
        assert owners in ([], [{"x": "a", "s": "c", "y": "b"}[start[0]] for start in begun])
        found.append({*begun})
    assert len(set.union(*found)) > 2 * len(found[0]), "at other places in each epoch"


def text_of(ids: Sequence[int]) -> str:
    return ByteTokenizer().decode(id for id in ids if id < 259)


@pytest.mark.parametrize("random_bptt", [0.0, 0.3])
def test_an_epoch_of_long_documents_is_resumed_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_bptt: float
) -> None:
    monkeypatch.setattr(token_files, "OPENING_TOKENS", 200)
    stream = long_stream(tmp_path, "abc")
    batches = Batches(stream, 3, 37, PAD, 5, random_bptt, label_dropout=0.5)
    for epoch in range(2):
        whole = list(batches.epoch(epoch))
        assert len(whole) == batches.steps_in(epoch)
        again = Batches(TokenStream(stream.folder, "valid"), 3, 37, PAD, 5, random_bptt, label_dropout=0.5)
        for step in range(len(whole)):
            assert same(list(again.epoch(epoch, step)), whole[step:])


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("One paragraph of some\nlines.\n\n" * 200, "One"),
        ("A line of text. And\n" * 300, "A l"),
        ("A sentence of text. " * 300, " A "),
        ("词" * 2000, "词词词"),
    ],
)
def test_a_text_is_opened_where_one_could_begin(tmp_path: Path, text: str, start: str) -> None:
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    corpus = Corpus([tmp_path / "text.txt"], CorpusConfig(documents="file"))
    stream = encode_corpus(corpus, ByteTokenizer(), tmp_path / "stream")
    places, firsts = stream.openings
    assert len(firsts) - 1 == len(stream) // token_files.OPENING_TOKENS - 1, "but where the document begins, and ends"
    for place, label in places.tolist():
        assert label == -1
        assert text_of(stream.read(place, place + 9).tolist()).startswith(start)


@pytest.mark.parametrize("labels", [(), ("a", "b", "c")])
@pytest.mark.parametrize("random_bptt", [0.0, 0.3])
def test_some_windows_begin_a_text_from_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: Sequence[str], random_bptt: float
) -> None:
    """They replace windows of the ring, which goes on after them, from zeros, too."""
    monkeypatch.setattr(token_files, "OPENING_TOKENS", 200)
    stream = long_stream(tmp_path, labels)
    text, first_label = stream.read(0, len(stream)).tolist(), stream.first_label or len(stream.counts)
    rows, ring = 3, Batches(stream, 3, 17, PAD, 5, random_bptt)
    blocks = len(stream.borders) - 1 + len(stream.openings[1]) - 1
    data = replace(ring, has_fresh=True)
    begun = list[str]()
    for epoch in range(3):
        pairs, plain = list(data.epoch(epoch)), list(ring.epoch(epoch))
        assert [data.tokens_in(epoch, step) for step in range(len(pairs))] == [
            np.count_nonzero(unmarked(inputs) != PAD) for inputs, _ in pairs
        ]
        was_fresh, number = [False] * rows, 0
        for (inputs, targets), (of_ring, next_of_ring) in zip(pairs, plain, strict=True):
            for row in range(rows):
                own, after = unmarked(inputs[row]), targets[row]
                is_fresh = not (np.array_equal(own, of_ring[row]) and np.array_equal(after, next_of_ring[row]))
                marked = np.flatnonzero(inputs[row] < 0).tolist()
                assert marked == ([0] if is_fresh or was_fresh[row] else [])
                was_fresh[row], number = is_fresh, number + is_fresh
                if is_fresh and labels:
                    assert own[1] > first_label
                    assert after[0] == PAD, "a label is no target"
                if is_fresh:
                    assert own[0] == EOS
                    ids = own[2 if labels else 1 :]
                    ids = ids[: np.append(np.flatnonzero((ids == EOS) | (ids == PAD)), len(ids))[0]].tolist()
                    assert any(text[at : at + len(ids)] == ids for at in range(len(text))), "the text goes on"
                    assert np.array_equal(after[1 if labels else 0 :][: len(ids)], ids)
                    begun += [text_of(ids)[:6]] if len(ids) > 5 else []
        assert number == num_fresh(rows * len(pairs), blocks) > 3
    assert all(re.fullmatch("[xy][0-9]{5}|short.?", start) for start in begun), "a line begins"
    assert len({*begun}) > blocks, "at other places in each epoch"


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_windows_that_begin_a_text_are_resumed_at_any_step_and_read_by_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    """A network that reads backward has none of them."""
    monkeypatch.setattr(token_files, "OPENING_TOKENS", 200)
    stream = long_stream(tmp_path, "abc")
    data = Batches(stream, 4, 37, PAD, 5, 0.3, 0.5, direction, has_fresh=True)
    whole = list(data.epoch(1))
    columns = {column for inputs, _ in whole for column in np.nonzero(inputs < 0)[1].tolist()}
    assert columns == ({*()} if direction == "backward" else {0})
    for step in range(len(whole)):
        assert same(list(data.epoch(1, step)), whole[step:])
    assert same(list(data.epoch(1, rows=slice(1, 3))), [(inputs[1:3], targets[1:3]) for inputs, targets in whole])


def test_labels_are_withheld_in_a_window_that_begins_a_text_where_the_ring_withholds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before the place at which the ring of the epoch begins."""
    monkeypatch.setattr(token_files, "OPENING_TOKENS", 200)
    stream = long_stream(tmp_path, "abc")
    ring = Batches(stream, 1, 17, PAD, 5, label_dropout=0.5)
    checked = 0
    for epoch in range(8):
        plain = [inputs[0] for inputs, _ in ring.epoch(epoch)]
        whole = np.concatenate(plain)
        whole = np.tile(whole[whole != PAD], 2)
        windows = {tuple(whole[at : at + 17].tolist()) for at in range(len(whole) - 17)}
        for (inputs, _), of_ring in zip(replace(ring, has_fresh=True).epoch(epoch), plain, strict=True):
            if not np.array_equal(own := unmarked(inputs[0]), of_ring) and PAD not in own:
                assert tuple(own.tolist()) in windows
                checked += 1
    assert checked > 20


@pytest.mark.parametrize(
    ("windows", "blocks", "expected"), [(7, 1, 0), (8, 1, 1), (15, 1, 1), (16, 1, 2), (31, 4, 1), (64, 8, 2)]
)
def test_an_epoch_of_few_windows_has_one_that_begins_a_text(windows: int, blocks: int, expected: int) -> None:
    """But not if it would be more than one in 8."""
    assert num_fresh(windows, blocks) == expected


def test_evaluation_opens_nothing(tmp_path: Path) -> None:
    stream = long_stream(tmp_path)
    ((inputs, targets),) = Batches(stream, 1, len(stream), PAD, has_fresh=True).epoch(0)
    assert (inputs == EOS).sum() == (targets == EOS).sum() == 3


def test_dataset_is_epoch(tmp_path: Path) -> None:
    load_tensorflow()
    stream = stream_in(tmp_path, numbered([4, 7, 1, 9]))
    batches = Batches(stream, 2, 3, PAD, seed=5)
    epochs = [list(batches.epoch(epoch)) for epoch in range(3)]
    assert same(list(batches.dataset(0).as_numpy_iterator()), epochs[0])
    assert same(list(batches.dataset(1, 2).as_numpy_iterator()), epochs[1][2:])
    endless = [*epochs[0][2:], *epochs[1], *epochs[2]]
    assert same(list(batches.dataset(0, 2, endless=True).take(len(endless)).as_numpy_iterator()), endless)
    assert [spec.shape.as_list() for spec in batches.dataset().element_spec] == [[2, 3], [2, 3]]
    batches = Batches(stream, 1, 4, PAD, seed=5, random_bptt=1.0)
    assert same(list(batches.dataset(1).as_numpy_iterator()), list(batches.epoch(1)))


@pytest.fixture
def few_objects_to_collect() -> Iterator[None]:
    """The objects of earlier tests, maybe millions, are not looked at by each collection."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("few_objects_to_collect")
@pytest.mark.parametrize("read", [1, 100])
@pytest.mark.parametrize(
    "derived",
    [
        lambda dataset: dataset.as_numpy_iterator(),
        lambda dataset: ([each.numpy() for each in pair] for pair in iter(dataset.take(100).prefetch(2))),
    ],
    ids=["of itself", "of another made of it"],
)
def test_a_stream_is_kept_while_it_is_read_and_no_longer(
    tmp_path: Path, derived: Callable[[Any], Iterator[Batch]], read: int
) -> None:
    """TensorFlow keeps the function of a dataset until the process ends."""
    load_tensorflow()
    batches = Batches(stream_in(tmp_path, numbered([40, 70])), 2, 3, PAD, seed=5)
    expected, stream = list(batches.epoch(0)), weakref.ref(batches.stream)
    dataset = batches.dataset()
    iterator = derived(dataset)
    del batches, dataset
    gc.collect()
    assert stream() is not None
    assert same(list(islice(iterator, read)), expected[:read])
    del iterator
    gc.collect()
    assert stream() is None


def test_what_fails_while_reading_ahead_comes_out_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_tensorflow()
    batches = Batches(stream_in(tmp_path, numbered([40, 70])), 2, 3, PAD)

    def full(*arguments: object) -> None:
        raise TextgenError("the disk is full")

    monkeypatch.setattr(TokenStream, "gather", full)
    with pytest.raises(TextgenError, match="the disk is full"), batches.failing():
        list(batches.dataset())


def test_rows_of_a_batch_can_be_read_alone() -> None:
    with stream_of([37, 2, 5]) as stream:
        batches = Batches(stream, 5, 4, PAD, seed=3)
        whole = list(batches.epoch(1))
        for rows in (slice(0, 2), slice(2, 5)):
            assert same([(inputs[rows], targets[rows]) for inputs, targets in whole], list(batches.epoch(1, rows=rows)))


# === The same batches, one token at a time ===


def plain_ring(stream: TokenStream, seed: int | None, epoch: int) -> list[int]:
    text = stream.read(0, len(stream)).tolist()
    if seed is None:
        return [text[-1], *text[:-1]]
    places, firsts = stream.openings
    drawn = Permutation(max(1, len(places)), seed, epoch, OPENING_KEY)(firsts[:-1]).tolist()
    stretches = [places[first:end].tolist() for first, end in pairwise(firsts)]
    openings = dict(stretch[number % len(stretch)] for stretch, number in zip(stretches, drawn, strict=True))
    blocks = []
    for start, stop in pairwise(sorted({*stream.borders.tolist(), *openings})):
        label = [openings[start]] if openings.get(start, -1) >= 0 else []
        blocks.append([*label, *text[start:stop], *([OPENED] if stop in openings else [])])
    order = Permutation(len(blocks), seed, epoch)(np.arange(len(blocks)))
    ring = [id for number in order for id in blocks[number]]
    (offset,) = Permutation(len(ring), seed, epoch)(np.zeros(1, np.int64))
    return ring[offset:] + ring[:offset]


def plain_batches(batches: Batches, epoch: int) -> Iterator[Batch]:
    """The batches of one direction, token after token."""
    seed, ring = batches.seed, plain_ring(batches.stream, batches.seed, epoch)
    size, first_label = len(ring), batches.stream.first_label or 1 << 30
    if batches.direction == "backward":
        ring = [ring[-place] for place in range(size)]
    drawn = [size] * size if seed is None else Permutation(size, seed, epoch, LABEL_KEY)(np.arange(size)).tolist()
    row_length = -(-size // batches.batch_size)
    windows = Windows(row_length, batches.sequence_length, batches.random_bptt, seed or 0)
    for step in range(len(windows)):
        first, length = windows.window(epoch, step)
        inputs = np.full((batches.batch_size, length), PAD)
        targets = inputs.copy()
        for row, column in np.ndindex(inputs.shape):
            place = row * row_length + first + column
            if first + column < row_length and place < size:
                id, following = ring[place], ring[(place + 1) % size]
                is_withheld = id >= first_label and drawn[place] < batches.label_dropout * size
                inputs[row, column] = EOS if id == OPENED else first_label if is_withheld else id
                targets[row, column] = PAD if following == OPENED or following >= first_label else following
        yield inputs, targets


@pytest.fixture(scope="module", params=[(), ("a", "b")], ids=["plain", "labelled"])
def sharded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TokenStream:
    """Three shards, the second one empty; a document is read from several places, and many are short."""
    folder, tokenizer = tmp_path_factory.mktemp("sharded"), ByteTokenizer().with_labels(request.param)
    long = "".join(f"line {number:02}\n" for number in range(15))
    shards = [["x", long, "yz", *["w"] * 9], [], ["one", long[:90], "two"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_files, "OPENING_TOKENS", 40)
        patch.setattr(token_files, "SPACING", 5)
        for number, texts in enumerate(shards):
            labels = [request.param[place % 2] if request.param else None for place in range(len(texts))]
            parts = [Part(text, ends_document=True, label=label) for text, label in zip(texts, labels, strict=True)]
            encode_parts((("train", part) for part in parts), tokenizer, folder / str(number))
        stream = TokenStream(folder, "train", [str(number) for number in range(len(shards))])
        assert len(stream.openings[1]) > 3, "found while the stretches are short, and kept"
    return stream


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 7),
    st.integers(1, 60),
    seeds,
    st.integers(0, 3),
    shares,
    st.sampled_from(["forward", "backward"]),
    st.sampled_from([(1, 50), (4, 17), (1 << 10, 1 << 15)]),
)
def test_a_batch_is_what_is_read_token_after_token(
    sharded: TokenStream,
    batch_size: int,
    sequence_length: int,
    seed: int | None,
    epoch: int,
    share: float,
    direction: str,
    sizes: tuple[int, int],
) -> None:
    batches = Batches(sharded, batch_size, sequence_length, PAD, seed, share, label_dropout=0.5, direction=direction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_stream, "PAGE", sizes[0])
        patch.setattr(token_stream, "GATHERED", sizes[1])
        found = list(batches.epoch(epoch))
        assert same(found, list(plain_batches(batches, epoch)))
        assert all(array.dtype == np.int32 and array.flags.c_contiguous for pair in found for array in pair)


def test_a_batch_of_short_documents_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches(stream_in(tmp_path, numbered([1] * 400)), 8, 20, PAD, seed=1)
    steps, reads = batches.epoch(0), list[int]()
    next(steps)

    def counted(descriptor: int, size: int, start: int) -> bytes:
        reads.append(size)
        return read_at(descriptor, size, start)

    monkeypatch.setattr(token_stream, "read_at", counted)
    assert len(list(steps)) == len(reads) == 4


def test_a_file_that_is_cut_off_while_batches_are_read_is_named(tmp_path: Path) -> None:
    stream = stream_in(tmp_path, numbered([5] * 40))
    steps = Batches(stream, 2, 8, PAD, seed=1).epoch(0)
    next(steps)
    os.truncate(stream.folder / "valid.bin", 10)
    with pytest.raises(CorpusError, match=r"valid\.bin is shorter than when it was written"):
        list(steps)


@pytest.mark.parametrize("shard", ["0", "1"])
def test_an_id_that_no_token_has_is_told_with_its_file(tmp_path: Path, shard: str) -> None:
    for name in ("0", "1"):
        parts = (("train", Part("some text", ends_document=True)) for _ in range(3))
        encode_parts(parts, ByteTokenizer(), tmp_path / name)
    path = tmp_path / shard / "train.bin"
    ids = np.fromfile(path, np.uint16)
    ids[4] = 60_000
    ids.tofile(path)
    batches = Batches(TokenStream(tmp_path, "train", ["0", "1"]), 2, 4, PAD, seed=1)
    with pytest.raises(CorpusError, match=f"{re.escape(str(path))} is damaged: it holds the id 60000"):
        list(batches.epoch(0))
