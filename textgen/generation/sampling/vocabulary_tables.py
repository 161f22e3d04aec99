"""Tables of a vocabulary that the samplers of all texts share."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from textgen.generation.constraints.constraints import read_biases
from textgen.generation.constraints.ngrams import ngrams_of
from textgen.generation.constraints.phrase import Phrase
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.utf8 import Characters

BIASES_KEPT = 16  # maximum number of settings of `logit_bias` whose tokens are cached
BREAKERS_KEPT = 16  # maximum number of sets of DRY's sequence breakers whose tables are cached
NO_TEXT = b"\xff"  # a byte that no text has
MAX_KEPT_BYTES = 64  # maximum bytes of a banned or required text that is cached: its tables may grow as the square
PHRASES_BYTES = 1 << 26  # approximate memory for those texts
PROMPTS_KEPT = 8  # maximum number of prompts whose n-grams are cached for texts that continue the same one


class SplitTexts:
    """Texts that several tokens may spell together."""

    def __init__(self, texts: Sequence[bytes], piece_bytes: Sequence[bytes]) -> None:
        """Makes a finder of texts.

        Args:
            texts: The texts.
            piece_bytes: The bytes of each token.
        """
        self._texts = texts
        self._piece_bytes = piece_bytes

    def tokens_since(self, ids: Sequence[int]) -> int:
        """Returns how many tokens come after the one with which the last of the texts ends; all if there is none."""
        pieces = [self._piece_bytes[id] for id in ids]
        written = b"".join(pieces)
        end = max(written.rfind(text) + len(text) if text in written else 0 for text in self._texts)
        return len(ids) - 1 - bisect_left(list(accumulate(map(len, pieces))), end) if end else len(ids)

    def complete(self, ids: Sequence[int], following: Sequence[int]) -> np.ndarray:
        """Returns True for the tokens of `following` with which one of the texts ends if they come after `ids`."""
        written = b"".join([self._piece_bytes[id] for id in ids])
        ends = [(text, written[max(len(written) - len(text) + 1, 0) :]) for text in self._texts]
        return np.array([any(text in end + self._piece_bytes[id] for text, end in ends) for id in following], bool)


class Breakers(NamedTuple):
    """What ends a repetition.

    Attributes:
        tokens: The tokens that contain one of some texts, bool [V].
        texts: Those of the texts that several tokens may spell; None if there are none.
    """

    tokens: np.ndarray
    texts: SplitTexts | None


class VocabularyTables:
    """Tables of a vocabulary that the samplers of all texts share. Threads may share them.

    Attributes:
        tokenizer: The tokenizer.
        characters: Which tokens may follow so that no UTF-8 character is broken.
        biases: Returns the tokens of a `logit_bias` setting.
        breakers: Returns how some texts end a repetition.
        prompt_ngrams: Returns the n-grams of a prompt, from their size and its tokens.
    """

    def __init__(self, tokenizer: Tokenizer, direction: str = "forward") -> None:
        self.tokenizer = tokenizer
        self.characters = Characters(tokenizer, direction)
        self._phrases = WeakValueDictionary[str, Phrase]()
        self._last_phrases = deque[Phrase](maxlen=PHRASES_BYTES // (4 * (tokenizer.vocab_size + MAX_KEPT_BYTES**2)))
        self.biases = lru_cache(BIASES_KEPT)(lambda entries: read_biases(entries, tokenizer))
        self.breakers = lru_cache(BREAKERS_KEPT)(lambda texts: breakers_of(texts, tokenizer, direction))
        self.prompt_ngrams = lru_cache(PROMPTS_KEPT)(ngrams_of)

    def phrase(self, text: str) -> Phrase:
        """Returns a banned or required text: one that other constraints have or lately had, or else a new one."""
        found = self._phrases.get(text)
        if found is None:
            found = self._phrases[text] = Phrase(text, self.tokenizer)
        if found.length <= MAX_KEPT_BYTES:
            self._last_phrases.append(found)
        return found


def breakers_of(texts: Sequence[str], tokenizer: Tokenizer, direction: str = "forward") -> Breakers:
    """Returns how some texts end a repetition, where texts are generated forward or backward."""
    step = -1 if direction == "backward" else 1  # backward, the bytes of a text come in the opposite order
    split = [text.encode()[::step] for text in texts if len(text.encode()) > 1]
    pieces = [piece[::step] for piece in tokenizer.piece_bytes] if split else []
    return Breakers(tokens_with(texts, tokenizer), SplitTexts(split, pieces) if split else None)


def tokens_with(texts: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """Returns True for the tokens that contain one of the texts, bool [V]."""
    pieces = NO_TEXT.join(tokenizer.piece_bytes)
    ends = np.cumsum([len(piece) + len(NO_TEXT) for piece in tokenizer.piece_bytes])
    found = np.zeros(len(ends), bool)
    for text in texts:
        places = [match.start() for match in re.finditer(re.escape(text.encode()), pieces)]
        found[np.searchsorted(ends, places, side="right")] = True
    return found
