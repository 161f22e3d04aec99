"""Ids on disk -> batches for truncated backpropagation through time.

Training reads a stream as a ring:

    documents     ab$ cde$ fg$            ($ closes a document)
    one epoch     fg$ ab$ cde$            documents in another order, from another start, in each epoch
    B=2 rows      fg$ab                   row b of a batch goes on where row b of the batch before
                  $cde$                   stopped, so that the state can be carried
    T=2 inputs    fg  $a  b.              targets are the inputs, one step later:  g$  ab  $.
                  $c  de  ..              a row's last target is the first input   cd  e$  ..
                                          of the next row; . is padding

As a ring of N tokens has N pairs of neighbours, each token is an input once and a target once in an epoch. But
labels are only read: where one would be a target, there is padding, and nothing is asked.

A long document would seldom show what every text begins with: the end-of-document piece and the label. So it is cut
into blocks, at other places in each epoch, about one in `textgen.dataset.token_files.OPENING_TOKENS`, that stand in
another order among the others; before each is read what opens a text. Nobody is asked for it, since the document does
not end there:

    one document  abc def gh$             cut before d and g in this epoch
    one epoch     gh$ abc^ def^           ^ is read as $, and is no target

A backward network reads the ring the other way round, and one of both directions reads both: then a batch is [B, 2T],
T tokens of the ring beside T tokens of the reversed one. See `textgen.model.directions`.

The order is a keyed permutation of (seed, epoch), so a position is two integers, (epoch, step), and where
documents are very many, neighbours keep together in blocks, so that memory is bounded.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from textgen.allocator import keep_memory_still
from textgen.dataset.permutation import Permutation
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.windows import Windows

if TYPE_CHECKING:
    import tensorflow as tf


LABELS, OPENINGS = 1, 2  # tell the lots of labels and of openings from those of documents
OPENED = -1  # stands in a ring for an end-of-document piece that is read and is no target


@dataclass(frozen=True)
class Batches:
    """Batches of a stream for truncated backpropagation through time; see the picture at the top.

    With a `seed` each epoch has its own order of documents and its own start, functions of (seed, epoch)
    alone. Without one the stream is read in order and every epoch is the same, as evaluation wants it: the
    last token, the end of a document, stands before the first.
    """

    stream: TokenStream
    batch_size: int  # B
    sequence_length: int  # T
    pad_id: int
    seed: int | None = None
    random_bptt: float = 0.0  # share of batches that are shorter; see `textgen.dataset.windows`
    label_dropout: float = 0.0  # share of labels in whose place the piece for no label is read, others in each epoch
    direction: str = "forward"  # forward, backward or both; see `textgen.model.directions`
    _failures: list[Exception] = field(default_factory=list, init=False, repr=False, compare=False)

    def row_length(self, epoch: int = 0) -> int:
        """Tokens in each of the B rows; the last may be shorter."""
        return -(-_ring_length(self.stream.of_epoch(epoch), self.seed) // self.batch_size)

    def steps_in(self, epoch: int = 0) -> int:
        """Batches in one pass. Where the pieces of each epoch are drawn by lot, it varies a little."""
        return len(self._windows(epoch))

    def _windows(self, epoch: int) -> Windows:
        return Windows(self.row_length(epoch), self.sequence_length, self.random_bptt, self.seed or 0)

    def epoch(
        self, epoch: int, first_step: int = 0, rows: slice = slice(None)
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The (inputs, targets) of one pass, each int32 [B, T], from batch `first_step` on; of some `rows` only.

        For both directions they are [B, 2T].
        """
        if self.direction == "both":
            ways = [replace(self, direction=each).epoch(epoch, first_step, rows) for each in ("forward", "backward")]
            for forward, backward in zip(*ways, strict=True):
                yield np.hstack([forward[0], backward[0]]), np.hstack([forward[1], backward[1]])
            return
        stream, row_length, windows = self.stream.of_epoch(epoch), self.row_length(epoch), self._windows(epoch)
        ring = _Ring(stream, self.seed, epoch, self.direction == "backward")
        for step in range(first_step, len(windows)):
            wanted, (first, length) = range(self.batch_size)[rows], windows.window(epoch, step)
            inputs = np.full((len(wanted), length), self.pad_id, np.int32)
            targets = inputs.copy()
            for place, row in enumerate(wanted):
                start = row * row_length + first
                end = min(start + length, (row + 1) * row_length, len(ring))
                if start < end:
                    ids = ring.read(start, end + 1)
                    inputs[place, : end - start] = ids[:-1]
                    targets[place, : end - start] = ids[1:]
                    inputs[place][inputs[place] == OPENED] = stream.eos_id
                    targets[place][targets[place] == OPENED] = self.pad_id
                    self._treat_labels(inputs[place], targets[place], stream, start, epoch)
            yield inputs, targets

    def _treat_labels(
        self, inputs: np.ndarray, targets: np.ndarray, stream: TokenStream, start: int, epoch: int
    ) -> None:
        """Takes labels out of targets [T], and some out of inputs [T], which begin at `start` of the ring; in place."""
        first = stream.first_label
        if first is None:
            return
        targets[targets >= first] = self.pad_id
        places = np.flatnonzero(inputs >= first)
        if self.seed is not None and len(places):
            length = _ring_length(stream, self.seed)
            lots = Permutation(length, self.seed, epoch, LABELS)(start + places)
            inputs[places[lots < self.label_dropout * length]] = first

    def dataset(
        self, epoch: int = 0, first_step: int = 0, *, rows: slice = slice(None), endless: bool = False
    ) -> tf.data.Dataset:
        """The same as a `tf.data` dataset, read ahead of the training step; `endless`: all later epochs too."""
        import tensorflow as tf

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            keep_memory_still()  # a dataset from a generator has just undone it, for the whole process
            try:
                yield from self.epoch(epoch, first_step, rows)
                for later in itertools.count(epoch + 1) if endless else ():
                    yield from self.epoch(later, rows=rows)
            except Exception as error:
                self._failures.append(error)
                raise

        ways = 2 if self.direction == "both" else 1
        length = None if self.random_bptt else ways * self.sequence_length
        shape = tf.TensorSpec((len(range(self.batch_size)[rows]), length), tf.int32)
        return tf.data.Dataset.from_generator(batches, output_signature=(shape, shape)).prefetch(4)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Where a dataset is read: what fails in the thread that reads ahead comes out as the error that it is."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError:
            if self._failures:
                raise self._failures[-1] from None
            raise


def _ring_length(stream: TokenStream, seed: int | None) -> int:
    """Tokens in an epoch: those of the stream, and before each stretch that is opened an end and a label."""
    if seed is None:
        return len(stream)
    return len(stream) + (len(stream.openings[1]) - 1) * (1 if stream.first_label is None else 2)


class _Ring:
    """A stream whose blocks stand in another order and whose end is joined to its beginning.

    A block is a document, or part of a long one, behind its label and before an end: see the picture at the top.
    """

    def __init__(self, stream: TokenStream, seed: int | None, epoch: int, backward: bool) -> None:
        self._stream = stream
        self._backward = backward
        self._length = _ring_length(stream, seed)
        if seed is None:
            borders, openings = np.array([0, len(stream)]), np.zeros((0, 2), np.int64)
            order = np.zeros(1, np.int64)
            self._offset = len(stream) - 1
        else:
            openings = self._draw(seed, epoch)
            borders = np.union1d(stream.borders, openings[:, 0])
            order = Permutation(len(borders) - 1, seed, epoch)(np.arange(len(borders) - 1))
            self._offset = int(Permutation(self._length, seed, epoch)(np.zeros(1, np.int64))[0])
        labels = np.full(len(borders), -1)  # that are put before blocks
        labels[np.searchsorted(borders, openings[:, 0])] = openings[:, 1]
        self._starts, self._sizes, self._labels = borders[order], np.diff(borders)[order], labels[order]
        self._is_open = np.isin(borders[1:], openings[:, 0])[order]  # its last token is no end
        lengths = (self._labels >= 0) + self._sizes + self._is_open
        self._borders = np.concatenate([[0], np.cumsum(lengths)])  # of the blocks, in their new places

    def __len__(self) -> int:
        return self._length

    def _draw(self, seed: int, epoch: int) -> np.ndarray:
        """The places that are opened in this epoch, with their labels: one in each stretch, int64 [stretches, 2]."""
        places, firsts = self._stream.openings
        lots = Permutation(max(1, len(places)), seed, epoch, OPENINGS)(firsts[:-1])
        return places[firsts[:-1] + lots % np.diff(firsts)]

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids at the ring's positions from `start` to before `stop`; backward, those as far before position 0."""
        if self._backward:
            return self._read(1 - stop, 1 - start)[::-1]
        return self._read(start, stop)

    def _read(self, start: int, stop: int) -> np.ndarray:
        parts = list[np.ndarray]()
        while start < stop:
            position = (start + self._offset) % len(self)
            block = int(np.searchsorted(self._borders, position, side="right")) - 1
            length = min(stop - start, int(self._borders[block + 1]) - position)
            first = position - int(self._borders[block])
            parts += self._read_block(block, first, first + length)
            start += length
        return np.concatenate(parts, dtype=np.int32, casting="unsafe")

    def _read_block(self, block: int, first: int, last: int) -> Iterator[np.ndarray]:
        """What a block has from its position `first` to before `last`: its label, its tokens, its end."""
        size, start = int(self._sizes[block]), int(self._starts[block])
        if self._labels[block] >= 0:
            if first == 0:
                yield self._labels[block : block + 1]
            first, last = max(0, first - 1), last - 1
        if first < min(last, size):
            yield self._stream.read(start + first, start + min(last, size))
        if last > size:
            yield np.array([OPENED])
