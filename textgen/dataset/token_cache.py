"""Encoded corpora, kept in the user's cache and found again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from textgen.corpus.corpus import Corpus, Part
from textgen.dataset.cache_eviction import TOKENS, evict, limit_bytes
from textgen.dataset.split import hold_out
from textgen.dataset.token_files import SUMMARY, problem_of
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.token_writer import Progress, encode_parts
from textgen.errors import CorpusError
from textgen.storage import TEMPORARY, Hold, cache_folder, sweep_abandoned
from textgen.tokenizer.tokenizer import Tokenizer

NAMED = 3  # files of a corpus that the list of the cache shows
FORMAT = 5  # part of the cache's key: a change of what is written makes old caches unused


@dataclass(frozen=True)
class TokenData:
    """A corpus, encoded and split."""

    train: TokenStream
    valid: TokenStream

    @classmethod
    def cached(cls, folder: Path) -> TokenData | None:
        """What an earlier run left in a cache folder, once its checksums agree; None where it is missing or damaged."""
        hold = Hold(folder)  # from before it is looked at until the streams hold it
        if not (folder / SUMMARY).exists() or problem_of(folder):
            return None
        with suppress(OSError):
            os.utime(folder)  # what was not used for longest is removed first
        with suppress(CorpusError):
            return cls(TokenStream(folder, "train"), TokenStream(folder, "valid"))
        del hold
        return None

    def require_text(self) -> None:
        """Raises `CorpusError` when one of the splits is empty."""
        if not len(self.train) or not len(self.valid):
            raise CorpusError("The corpus is too short to hold some of it out for validation: give more text.")


def prepare(
    corpus: Corpus,
    tokenizer: Tokenizer,
    valid: Corpus | float = 0.1,
    *,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> TokenData:
    """Encodes `corpus`, holding out a share of it or, if `valid` is a corpus, that one for validation.

    The result is kept in `cache` (by default the user's cache folder; `say` is told where that is another) under a
    fingerprint of the text, the tokenizer and the split, and taken from there the next time. Raises `CorpusError`
    when one of the two splits would be empty, or when a file changes meanwhile.
    """
    held_out = valid.fingerprint() if isinstance(valid, Corpus) else f"{valid!r} {seed}"
    key = sha256(f"{FORMAT} {corpus.fingerprint()} {tokenizer.fingerprint()} {held_out}".encode()).hexdigest()
    shelf, limit = (cache or cache_folder(say)) / TOKENS, limit_bytes()
    folder = shelf / key[:32]
    data = TokenData.cached(folder)
    if data is None:
        sweep_abandoned(shelf, TEMPORARY)
        facts = {"corpus": ", ".join(path.name for path in corpus.files[:NAMED])}
        encode_parts(_split_parts(corpus, valid, seed, tokenizer), tokenizer, folder, progress, facts)
        data = TokenData(TokenStream(folder, "train"), TokenStream(folder, "valid"))
        evict(shelf, limit)
    data.require_text()
    return data


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer, folder: Path, label: str | None = None) -> TokenStream:
    """The whole corpus as one stream in `folder`, which must not exist yet; with a `label`, all of it has that one."""
    tokenizer.opening(label)  # raises where there is no such label
    parts = corpus.parts()
    if label is not None:
        parts = (Part(part.text, part.ends_document, label) for part in parts)
    encode_parts((("valid", part) for part in parts), tokenizer, folder)
    return TokenStream(folder, "valid")


def _split_parts(corpus: Corpus, valid: Corpus | float, seed: int, tokenizer: Tokenizer) -> Iterator[tuple[str, Part]]:
    """Each part of the corpus with the split it belongs to."""
    if isinstance(valid, Corpus):
        yield from (("train", part) for part in corpus.parts())
        yield from (("valid", part) for part in valid.parts())
        valid.require_unchanged()
    else:
        yield from hold_out(corpus.parts, valid, str(seed), frozenset(tokenizer.labels))
    corpus.require_unchanged()
