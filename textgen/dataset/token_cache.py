"""Encoded corpora in the cache folder: written once, found again by a fingerprint of text, vocabulary and split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from textgen.corpus.corpus import Corpus, Part
from textgen.dataset.config import SplitConfig
from textgen.dataset.split import certain_limit, hold_out
from textgen.dataset.token_files import problem_of, read_description
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.token_writer import encode_parts
from textgen.errors import CorpusError
from textgen.storage.cache_eviction import evict, limit_bytes, unfinished
from textgen.storage.cache_folder import cache_folder, filling_cache
from textgen.storage.cache_layout import SUMMARY, TOKENS
from textgen.storage.leftovers import sweep_abandoned
from textgen.storage.locks import SharedLock
from textgen.storage.temporary import temporary_folder
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import Say, silent

NAMED = 3  # maximum number of files of a corpus that the list of the cache names
FORMAT = 9
"""Part of the key. Raise it when the files change, when a file is read as other text or labels, or when other text is
held out, so that old entries are not used."""


@dataclass(frozen=True)
class TokenData:
    """A corpus, encoded and split.

    Attributes:
        train: Token ids to train on.
        valid: Token ids held out for validation.
    """

    train: TokenStream
    valid: TokenStream

    @classmethod
    def cached(cls, folder: Path) -> TokenData | None:
        """Opens an entry of the cache. Returns None if it is missing or unreadable, or its checksums do not match."""
        # The lock keeps others from removing it between the check and the streams' own locks.
        with suppress(CorpusError), SharedLock(folder):
            if problem_of(folder) or not (folder / SUMMARY).exists():
                return None
            with suppress(OSError):
                os.utime(folder)  # the entries unused for longest are removed first
            return cls(TokenStream(folder, "train"), TokenStream(folder, "valid"))
        return None

    def require_text(self) -> None:
        """Raises `CorpusError` if one of the splits is empty."""
        if not len(self.train) or not len(self.valid):
            raise CorpusError("The corpus is too short to hold some of it out for validation: give more text.")


def encode_and_split(
    corpus: Corpus,
    tokenizer: Tokenizer,
    split: Corpus | SplitConfig = SplitConfig(),  # noqa: B008 - immutable
    *,
    cache: Path | None = None,
    say: Say = silent,
) -> TokenData:
    """Encodes a corpus and holds out a part of it, or takes the result from the cache.

    Args:
        corpus: Text to train on.
        tokenizer: Vocabulary.
        split: Held-out text, or the fraction of the corpus to hold out and the seed of the choice.
        cache: Cache folder; the user's if None.
        say: Called with a line of text if the cache folder is not the usual one, or if many held-out documents occur in
            the training text, too.

    Returns:
        The token ids of both splits.

    Raises:
        CorpusError: A split would be empty, or a file changed while it was read.
        ConfigError: The limit of the cache in the environment is not a size.
    """
    held_out = split.fingerprint() if isinstance(split, Corpus) else f"{split.valid_fraction!r} {split.seed}"
    key = sha256(f"{FORMAT} {corpus.fingerprint()} {tokenizer.fingerprint()} {held_out}".encode()).hexdigest()
    shelf, limit = (cache or cache_folder(say)) / TOKENS, limit_bytes()
    folder = shelf / key[:32]
    if (data := TokenData.cached(folder)) is None:
        sweep_abandoned(unfinished(shelf))
        facts, found = {"corpus": ", ".join(path.name for path in corpus.files[:NAMED])}, list[TokenData]()

        def is_there_by_now() -> bool:  # from another process, which may have it in use
            found.extend(filter(None, [TokenData.cached(folder)]))
            return bool(found)

        parts = _split_parts(corpus, split, tokenizer)
        with filling_cache():
            encode_parts(parts, tokenizer, folder, facts, unless=is_there_by_now)
        data = found[0] if found else TokenData(TokenStream(folder, "train"), TokenStream(folder, "valid"))
        evict(shelf, limit)
    data.require_text()
    if message := read_description(folder).repeated.message:
        say(message)
    return data


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer, folder: Path, label: str | None = None) -> TokenStream:
    """Encodes a whole corpus as one stream.

    Args:
        corpus: Text to encode.
        tokenizer: Vocabulary.
        folder: New folder for the files.
        label: Label of every document, in place of its own.

    Returns:
        The token ids.

    Raises:
        ConfigError: The vocabulary has no such label.
    """
    tokenizer.opening(label)  # raises if there is no such label
    parts = corpus.parts()
    if label is not None:
        parts = (Part(part.text, ends_document=part.ends_document, label=label) for part in parts)
    encode_parts((("valid", part) for part in parts), tokenizer, folder)
    return TokenStream(folder, "valid")


@contextmanager
def encoded(corpus: Corpus, tokenizer: Tokenizer, label: str | None = None) -> Iterator[TokenStream]:
    """Encodes a whole corpus as one stream, into files that are removed after the block.

    Args:
        corpus: Text to encode.
        tokenizer: Vocabulary.
        label: Label of every document, in place of its own.

    Yields:
        The token ids.

    Raises:
        ConfigError: The vocabulary has no such label.
    """
    with temporary_folder() as folder:
        yield encode_corpus(corpus, tokenizer, folder / "tokens", label)


def _split_parts(corpus: Corpus, split: Corpus | SplitConfig, tokenizer: Tokenizer) -> Iterator[tuple[str, Part]]:
    """Each part of the corpus with the name of its split."""
    if isinstance(split, Corpus):
        yield from (("train", part) for part in corpus.parts())
        yield from (("valid", part) for part in split.parts())
        split.require_unchanged()
    else:
        fraction, labels = split.valid_fraction, frozenset(tokenizer.labels)
        limit = certain_limit(corpus.stats(), fraction)
        yield from hold_out(corpus.parts, fraction, str(split.seed), labels, limit=limit)
    corpus.require_unchanged()
