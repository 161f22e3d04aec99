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

A backward network reads the ring the other way round, and one of both directions reads both: then a batch is [B, 2T],
T tokens of the ring beside T tokens of the reversed one. See `textgen.direction`.

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

from textgen.memory import keep_memory_still
from textgen.permutation import Permutation
from textgen.tokens import TokenStream
from textgen.windows import Windows

if TYPE_CHECKING:
    import tensorflow as tf

    from textgen.config import TrainingConfig


LABELS = 1  # tells the lots of labels from those of documents


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
    random_bptt: float = 0.0  # share of batches that are shorter; see `textgen.windows`
    label_dropout: float = 0.0  # share of labels in whose place the piece for no label is read, others in each epoch
    direction: str = "forward"  # forward, backward or both; see `textgen.direction`
    _failures: list[Exception] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def for_training(cls, stream: TokenStream, config: TrainingConfig, pad_id: int, direction: str) -> Batches:
        """Those that a run with these settings learns from."""
        return cls(
            stream,
            config.num_streams,
            config.sequence_length,
            pad_id,
            config.seed,
            config.random_bptt,
            config.label_dropout,
            direction,
        )

    def row_length(self, epoch: int = 0) -> int:
        """Tokens in each of the B rows; the last may be shorter."""
        return -(-len(self.stream.of_epoch(epoch)) // self.batch_size)

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
                end = min(start + length, (row + 1) * row_length, len(stream))
                if start < end:
                    ids = ring.read(start, end + 1)
                    inputs[place, : end - start] = ids[:-1]
                    targets[place, : end - start] = ids[1:]
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
            lots = Permutation(len(stream), self.seed, epoch, LABELS)(start + places)
            inputs[places[lots < self.label_dropout * len(stream)]] = first

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


class _Ring:
    """A stream whose documents stand in another order and whose end is joined to its beginning."""

    def __init__(self, stream: TokenStream, seed: int | None, epoch: int, backward: bool) -> None:
        self._stream = stream
        self._backward = backward
        if seed is None:
            self._starts, lengths = np.zeros(1, np.int64), np.array([len(stream)])
            self._offset = len(stream) - 1
        else:
            blocks = len(stream.borders) - 1
            order = Permutation(blocks, seed, epoch)(np.arange(blocks))
            self._starts, lengths = stream.borders[order], np.diff(stream.borders)[order]
            self._offset = int(Permutation(len(stream), seed, epoch)(np.zeros(1, np.int64))[0])
        self._borders = np.concatenate([[0], np.cumsum(lengths)])  # of the blocks, in their new places

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids at the ring's positions from `start` to before `stop`; backward, those as far before position 0."""
        if self._backward:
            return self._read(1 - stop, 1 - start)[::-1]
        return self._read(start, stop)

    def _read(self, start: int, stop: int) -> np.ndarray:
        parts = []
        while start < stop:
            position = (start + self._offset) % len(self._stream)
            block = int(np.searchsorted(self._borders, position, side="right")) - 1
            length = min(stop - start, int(self._borders[block + 1]) - position)
            first = int(self._starts[block]) + position - int(self._borders[block])
            parts.append(self._stream.read(first, first + length))
            start += length
        return np.concatenate(parts)
