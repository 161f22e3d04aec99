"""Token ids on disk -> batches for truncated backpropagation through time.

Training reads a stream as a ring:

    documents     ab$ cde$ fg$            ($ closes a document)
    one epoch     fg$ ab$ cde$            documents in another order, from another start, in each epoch
    B=2 rows      fg$ab                   row b of a batch continues row b of the batch before,
                  $cde$                   so that the state can be carried
    T=2 inputs    fg  $a  b.              targets are the inputs, one step later:  g$  ab  $.
                  $c  de  ..              a row's last target is the first input   cd  e$  ..
                                          of the next row; . is padding

A ring of N tokens has N pairs of neighbours, so each token is an input once and a target once in an epoch. Labels are
never targets: padding stands in their place, which the loss ignores.

A long document would seldom show what every text begins with: the end-of-document token and the label. So it is cut
into blocks, at other places in each epoch, about one in `textgen.dataset.token_files.OPENING_TOKENS` tokens. The blocks
are shuffled like documents, and before each one the opening of a text is read. It is not a target, because the
document does not end there:

    one document  abc def gh$             cut before d and g in this epoch
    one epoch     gh$ abc^ def^           ^ is an input like $, but not a target

A row comes to an opening with the state of the text before, but a text is written from zeros. A network that has seldom
seen an opening from zeros goes on as if in the middle of a text. So some windows are not those of the ring, which are
left out of this epoch: they begin at an opening of the epoch, from zeros. The next window of the row is that of the
ring again, also from zeros, as its text does not follow. Only what is read forward has such windows.

A backward network reads the ring in reverse. A network of both directions reads both: a batch is then [B, 2T], T tokens
of the ring beside T tokens of the reversed ring. See `textgen.model.directions`.

The order is a keyed permutation of (seed, epoch), so a position in the text is two integers, (epoch, step). If there
are very many documents, neighbouring ones are shuffled together as a block, so that memory is bounded.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from textgen.dataset.permutation import Permutation
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.windows import Windows
from textgen.system.allocator import keep_memory_still

if TYPE_CHECKING:
    import tensorflow as tf


# Version of the windows that a run reads. In version 1 all are those of the ring; since version 2 some begin a text.
# A resumed run reads those of the version with which it began, see `textgen.training.window_reader`. So a change of the
# order, of the openings, of the keys below or of `num_fresh` needs the next number, and leaves older ones as they are.
WINDOWS_FORMAT = 2

# keys that give labels, openings and fresh windows random numbers other than those of documents
LABEL_KEY, OPENING_KEY, FRESH_KEY = 1, 2, 3
OPENED = -1  # in a ring: an end-of-document token that is an input but not a target


@dataclass(frozen=True)
class Batches:
    """Batches of a stream for truncated backpropagation through time; see the picture at the top.

    Attributes:
        stream: Token ids.
        batch_size: Rows of a batch (B).
        sequence_length: Tokens of a window, at most (T).
        pad_id: Id of the padding.
        seed: Seed of the order of documents and of the start, which depend on (seed, epoch) only. None for evaluation:
            the stream is read in order, and its last token, the end of a document, comes before the first.
        random_bptt: Fraction of batches with a shorter window; see `textgen.dataset.windows`.
        label_dropout: Fraction of labels replaced by the label for none, chosen anew in each epoch.
        direction: "forward", "backward" or "both"; see `textgen.model.directions`.
        has_fresh: Whether some windows of a row that is read forward begin a text, from zeros instead of the state
            before them. The first input of each, and of the window of the row after it, is marked: ~id, a negative
            number.
        stretches: The parts of the stream that are read for evaluation, one for each row and forward: the first token
            of each, and the one after its last. None to read all of it, in rows of equal length.
    """

    stream: TokenStream
    batch_size: int
    sequence_length: int
    pad_id: int
    seed: int | None = None
    random_bptt: float = 0.0
    label_dropout: float = 0.0
    direction: str = "forward"
    stretches: tuple[tuple[int, int], ...] | None = None
    has_fresh: bool = False
    _failures: list[Exception] = field(default_factory=list, init=False, repr=False, compare=False)

    def row_length(self, epoch: int = 0) -> int:
        """Tokens in each of the B rows of an epoch, at most; the last row may be shorter."""
        if self.stretches:
            return max(end - first for first, end in self.stretches)
        return -(-_ring_length(self.stream.of_epoch(epoch), self.seed) // self.batch_size)

    def _rows(self, epoch: int) -> np.ndarray:
        """Where each row begins and ends in the ring of an epoch: int64 [B, 2]."""
        if self.stretches:
            return np.array(self.stretches, np.int64)
        borders = self.row_length(epoch) * np.arange(self.batch_size + 1)
        borders = np.minimum(borders, _ring_length(self.stream.of_epoch(epoch), self.seed))
        return np.stack([borders[:-1], borders[1:]], axis=1)

    def steps_in(self, epoch: int = 0) -> int:
        """Batches in an epoch. The number varies a little if the segmentation of the text is sampled."""
        return len(self._windows(epoch))

    def tokens_in(self, epoch: int, step: int) -> int:
        """Tokens of a batch without padding. With both directions, a token counts once."""
        first, length = self._windows(epoch).window(epoch, step)
        left = np.diff(self._rows(epoch)) - first  # tokens of each row from the window on
        return int(np.clip(left, 0, length).sum())

    def _windows(self, epoch: int) -> Windows:
        return Windows(self.row_length(epoch), self.sequence_length, self.random_bptt, self.seed or 0)

    def epoch(
        self, epoch: int, first_step: int = 0, rows: slice = slice(None)
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of an epoch.

        Args:
            epoch: Number of the epoch, from 0.
            first_step: Number of the first batch to yield.
            rows: Rows of each batch to yield.

        Yields:
            Inputs and targets, each int32 [B, T]; [B, 2T] for both directions. An input ~id is the id, before which the
            state of the row is set to zeros.
        """
        if self.direction == "both":
            ways = [replace(self, direction=each).epoch(epoch, first_step, rows) for each in ("forward", "backward")]
            for forward, backward in zip(*ways, strict=True):
                yield np.hstack([forward[0], backward[0]]), np.hstack([forward[1], backward[1]])
            return
        stream, borders, windows = self.stream.of_epoch(epoch), self._rows(epoch), self._windows(epoch)
        ring = _Ring(stream, self.seed, epoch, self.direction == "backward")
        was_fresh = self._fresh_rows(ring, epoch, first_step - 1, len(windows))[rows] >= 0  # [rows]
        for step in range(first_step, len(windows)):
            first, length = windows.window(epoch, step)
            starts = borders[rows, :1] + first  # [rows, 1]
            left = borders[rows, 1:] - starts  # tokens of each row from the window on
            blocks = self._fresh_rows(ring, epoch, step, len(windows))[rows]  # [rows]
            is_fresh = blocks >= 0
            starts[is_fresh, 0] = ring.opening(blocks[is_fresh])
            columns = np.arange(length + 1)
            is_read = (columns <= left) & (left > 0)
            ids = np.full(is_read.shape, self.pad_id, np.int32)
            ids[is_read] = ring.read((starts + columns)[is_read])
            inputs, targets = ids[:, :-1].copy(), ids[:, 1:].copy()
            inputs[columns[:-1] >= left] = self.pad_id
            inputs[inputs == OPENED] = stream.eos_id
            targets[targets == OPENED] = self.pad_id
            self._hide_labels(inputs, targets, stream, starts, epoch)
            is_restarted = is_fresh | was_fresh
            inputs[is_restarted, 0] = ~inputs[is_restarted, 0]
            was_fresh = is_fresh
            yield inputs, targets

    def _fresh_rows(self, ring: _Ring, epoch: int, step: int, steps: int) -> np.ndarray:
        """Which rows of a batch begin at an opening: the number of their block, or -1, int64 [B].

        Args:
            ring: The ring of the epoch.
            epoch: Number of the epoch.
            step: Number of the batch; before the first, -1, no row does.
            steps: Batches in the epoch.
        """
        if step < 0 or not self.has_fresh or self.seed is None or self.direction == "backward":
            return np.full(self.batch_size, -1)
        windows = steps * self.batch_size
        drawn = Permutation(windows, self.seed, epoch, FRESH_KEY)(step * self.batch_size + np.arange(self.batch_size))
        return np.where(drawn < num_fresh(windows, ring.num_blocks), drawn, -1)

    def _hide_labels(
        self, inputs: np.ndarray, targets: np.ndarray, stream: TokenStream, starts: np.ndarray, epoch: int
    ) -> None:
        """Removes labels from targets [B, T], and some from inputs [B, T], in place.

        Args:
            inputs: Inputs.
            targets: Targets.
            stream: The stream of the epoch.
            starts: Where each row begins in the ring, int64 [B, 1].
            epoch: Number of the epoch.
        """
        first = stream.first_label
        if first is None:
            return
        targets[targets >= first] = self.pad_id
        rows, columns = np.nonzero(inputs >= first)
        if self.seed is not None and len(rows):
            length = _ring_length(stream, self.seed)
            drawn = Permutation(length, self.seed, epoch, LABEL_KEY)((starts[rows, 0] + columns) % length)
            withheld = drawn < self.label_dropout * length
            inputs[rows[withheld], columns[withheld]] = first

    def dataset(
        self, epoch: int = 0, first_step: int = 0, *, rows: slice = slice(None), endless: bool = False
    ) -> tf.data.Dataset:
        """The batches as a `tf.data.Dataset` that reads ahead.

        Args:
            epoch: Number of the first epoch.
            first_step: Number of its first batch.
            rows: Rows of each batch to read.
            endless: Whether later epochs follow.

        Returns:
            A dataset of inputs and targets, int32 [rows, T] each; [rows, 2T] for both directions.
        """
        import tensorflow as tf

        held = [self]  # emptied with the dataset: TensorFlow keeps the function, and what it holds, for ever

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            keep_memory_still()  # creating a dataset from a generator has undone it, for the whole process
            (source,) = held
            try:
                yield from source.epoch(epoch, first_step, rows)
                for later in itertools.count(epoch + 1) if endless else ():
                    yield from source.epoch(later, rows=rows)
            except Exception as error:
                source._failures.append(error)
                raise

        ways = 2 if self.direction == "both" else 1
        length = None if self.random_bptt else ways * self.sequence_length
        shape = tf.TensorSpec((len(range(self.batch_size)[rows]), length), tf.int32)
        dataset = tf.data.Dataset.from_generator(batches, output_signature=(shape, shape))
        weakref.finalize(dataset, held.clear)  # what is derived from it and iterators over that hold the dataset
        return dataset.prefetch(4)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Use it where a dataset is read: an error in the thread that reads ahead is raised as it is."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError:
            if self._failures:
                raise self._failures[-1] from None
            raise


def num_fresh(windows: int, blocks: int) -> int:
    """How many of the windows of an epoch begin a text.

    A network needs some hundred of them to learn how a text begins; fewer if it often reads an opening, after whatever
    text. Each costs context, in two windows. One window in 32 raised the loss of 300,000 tokens by 0.3 to 0.4 %, one in
    75 by nothing. One in 8 raised that of 200 fables by 0.2 %, one in 32 by less than 0.1 %.
    An epoch of 8 windows or more has one: otherwise no epoch of a short text would. In 30 epochs of a document of 13
    windows it more than doubled how many texts begin as its paragraphs do, and did not raise the loss.

    Args:
        windows: Windows of all rows in the epoch.
        blocks: Documents, and parts of long ones, before each of which the opening of a text is read.

    Example:
        >>> num_fresh(440, 26), num_fresh(440, 200), num_fresh(4400, 300), num_fresh(12800, 900)
        (55, 13, 64, 100)
    """
    most = windows // (8 if blocks < windows // 8 else 32)
    return max(windows // 128, min(most, 64), 1 if windows >= 8 else 0)


def _ring_length(stream: TokenStream, seed: int | None) -> int:
    """Tokens in an epoch: those of the stream, and an end and a label for each opening."""
    if seed is None:
        return len(stream)
    return len(stream) + (len(stream.openings[1]) - 1) * (1 if stream.first_label is None else 2)


class _Ring:
    """A stream with its blocks in another order and its end joined to its beginning.

    A block is a document, or part of a long one after its label and before an end: see the picture at the top.
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
            openings = self._draw_openings(seed, epoch)
            borders = np.union1d(stream.borders, openings[:, 0])
            order = Permutation(len(borders) - 1, seed, epoch)(np.arange(len(borders) - 1))
            self._offset = int(Permutation(self._length, seed, epoch)(np.zeros(1, np.int64))[0])
        labels = np.full(len(borders), -1)  # labels inserted before blocks
        labels[np.searchsorted(borders, openings[:, 0])] = openings[:, 1]
        is_open = np.isin(borders[1:], openings[:, 0])[order]  # whether the last token of a block is not an end
        self._sizes, self._labels = np.diff(borders)[order], labels[order]
        has_label = self._labels >= 0
        # where each block begins in the ring, and where the last one ends: [blocks + 1]
        self._borders = np.concatenate([[0], np.cumsum(has_label + self._sizes + is_open)])
        # place in the ring of the first token of each block, after its label: [blocks]
        self._firsts = self._borders[:-1] + has_label
        # position of that token in the stream: [blocks]
        self._starts = borders[order]

    def __len__(self) -> int:
        return self._length

    @property
    def num_blocks(self) -> int:
        """Blocks in the ring."""
        return len(self._firsts)

    def _draw_openings(self, seed: int, epoch: int) -> np.ndarray:
        """The openings of an epoch, one in each stretch, as (position, label): int64 [stretches, 2]."""
        places, firsts = self._stream.openings
        drawn = Permutation(max(1, len(places)), seed, epoch, OPENING_KEY)(firsts[:-1])
        return places[firsts[:-1] + drawn % np.diff(firsts)]

    def opening(self, numbers: np.ndarray) -> np.ndarray:
        """The position of the end-of-document token before some blocks [n], which are counted round the ring."""
        return self._borders[numbers % self.num_blocks] - 1 - self._offset

    def read(self, positions: np.ndarray) -> np.ndarray:
        """The ids at positions of the ring [n], counted from its end if the ring is backward: int32 [n]."""
        places = (self._offset + (-positions if self._backward else positions)) % len(self)
        blocks = np.searchsorted(self._borders, places, side="right") - 1
        within = places - self._firsts[blocks]  # -1 at a label, the size of the block at an end that opens the next
        is_token = (within >= 0) & (within < self._sizes[blocks])
        ids = np.where(within < 0, self._labels[blocks], OPENED).astype(np.int32)
        ids[is_token] = self._stream.gather((self._starts[blocks] + within)[is_token])
        return ids
