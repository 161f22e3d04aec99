"""Subword regularization: another segmentation of the training text in each epoch.

    unigram   a segmentation is drawn with probability proportional to p(segmentation)^alpha; 0.1 to 0.5 is usual,
              and smaller values vary more (Kudo 2018, arXiv:1804.10959)
    bpe       each merge is skipped with probability alpha; 0.1 is usual, and larger values vary more
              (BPE-dropout, Provilkov, Emelianenko & Voita 2020, arXiv:1910.13267)

At the start of each epoch its text is encoded to disk, from the ids of the likeliest segmentation, which lose nothing.
`textgen.tokenizer.segmentation` draws the segmentations. They depend only on (seed, epoch, place in the text), so a
resumed run and all processes of a run read the same tokens.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import cast

import numpy as np

from textgen.corpus.corpus import Part
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.token_writer import encode_parts
from textgen.errors import ConfigError
from textgen.storage.cache_eviction import epochs_in
from textgen.storage.cache_folder import cache_folder, filling_cache
from textgen.storage.cache_layout import EPOCHS
from textgen.storage.files import writing
from textgen.storage.leftovers import sweep_abandoned
from textgen.storage.locks import locked
from textgen.storage.temporary import in_this_process
from textgen.tokenizer.kinds import SentencePieceTokenizer
from textgen.tokenizer.tokenizer import Tokenizer

SAMPLED = ("unigram", "bpe")  # vocabularies with several segmentations of a text
READ = 1 << 18  # ids decoded at a time


def require_sampling(tokenizer: str) -> None:
    """Raises `ConfigError` for a kind of vocabulary, such as "char", with only one segmentation of a text."""
    if tokenizer not in SAMPLED:
        raise ConfigError(
            f"subword_alpha needs a vocabulary that can cut a text in several ways, {' or '.join(SAMPLED)}: "
            f"{tokenizer} has one way. Leave it out, or choose another tokenizer."
        )


class SampledStream(TokenStream):
    """A stream that has another random segmentation in each epoch. Threads may share it."""

    def __init__(self, stream: TokenStream, tokenizer: Tokenizer, alpha: float, seed: int) -> None:
        """Prepares a folder in the cache for the encoded epochs; it is removed when the stream is.

        Args:
            stream: The text in its likeliest segmentation.
            tokenizer: Vocabulary of the stream.
            alpha: How much segmentations vary; see the module.
            seed: Seed of the segmentations.

        Raises:
            ConfigError: The vocabulary has only one segmentation of a text.
        """
        super().__init__(stream.folder, stream.split, stream.shards)
        require_sampling(tokenizer.kind)
        self._tokenizer, self._alpha, self._seed = cast(SentencePieceTokenizer, tokenizer), alpha, seed
        self._epochs: dict[int, TokenStream] = {}
        self._lock = Lock()
        cache = cache_folder().absolute()
        with filling_cache(), writing(cache):
            cache.mkdir(parents=True, exist_ok=True)
            sweep_abandoned(epochs_in(cache))
            self._kept_in = Path(tempfile.mkdtemp(prefix=EPOCHS, dir=cache))
        stack = ExitStack()
        stack.enter_context(locked(self._kept_in))
        stack.callback(shutil.rmtree, self._kept_in, ignore_errors=True)
        weakref.finalize(self, in_this_process(stack.close))

    def of_epoch(self, epoch: int) -> TokenStream:
        """The stream in the segmentation of an epoch. It and the one before are kept: a run may return to that."""
        if epoch not in self._epochs:
            with self._lock:
                if epoch not in self._epochs:
                    self._epochs[epoch] = self._encoded(epoch)
                    for old in [number for number in self._epochs if number < epoch - 1]:
                        del self._epochs[old]
                        shutil.rmtree(self._kept_in / str(old), ignore_errors=True)
        return self._epochs[epoch]

    def _encoded(self, epoch: int) -> TokenStream:
        def encode(batches: Iterable[Sequence[str]]) -> Iterator[list[np.ndarray]]:
            places = itertools.count()  # places of the texts, independent of the batches
            for texts in batches:
                yield [self._sample(text, epoch, next(places)) for text in texts]

        parts = ((self.split, part) for part in parts_of(self, self._tokenizer))
        with filling_cache():
            encode_parts(parts, self._tokenizer, self._kept_in / str(epoch), encode=encode)
        return TokenStream(self._kept_in / str(epoch), self.split)

    def _sample(self, text: str, epoch: int, place: int) -> np.ndarray:
        key = blake2b(f"{self._seed} {epoch} {place}".encode(), digest_size=16).digest()
        return np.asarray(self._tokenizer.sample(text, self._alpha, int.from_bytes(key)), self.dtype)


def parts_of(stream: TokenStream, tokenizer: Tokenizer) -> Iterator[Part]:
    """Decodes a stream into its documents, long ones in several parts."""
    decoder, label = tokenizer.decoder(), None
    for ids in stream.chunks(READ):
        first = 0
        for end in np.flatnonzero(ids == tokenizer.eos_id).tolist():
            own, label = _without_label(ids[first:end], label, tokenizer)
            yield Part(decoder.feed(own) + decoder.flush(), ends_document=True, label=label)
            first, label = end + 1, None
        own, label = _without_label(ids[first:], label, tokenizer)
        if text := decoder.feed(own):
            yield Part(text, ends_document=False, label=label)


def _without_label(ids: np.ndarray, label: str | None, tokenizer: Tokenizer) -> tuple[list[int], str | None]:
    """The ids without labels, and the label among them; if there is none, the one before."""
    labels = ids[ids > tokenizer.first_label] - tokenizer.first_label - 1
    return ids[ids < tokenizer.first_label].tolist(), tokenizer.labels[labels[0]] if len(labels) else label
