"""Tables of a vocabulary that the samplers of all texts share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
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
PROMPTS_KEPT = 8  # maximum number of prompts whose n-grams are cached for texts that continue the same one


class VocabularyTables:
    """Tables of a vocabulary that the samplers of all texts share.

    Attributes:
        tokenizer: The tokenizer.
        characters: Which tokens may follow so that no UTF-8 character is broken.
        phrases: Banned and required texts of the present constraints, by text.
        biases: Returns the tokens of a `logit_bias` setting.
        tokens_with: Returns which tokens contain one of some texts, bool [V].
        prompt_ngrams: Returns the n-grams of a prompt, from their size and its tokens.
    """

    def __init__(self, tokenizer: Tokenizer, direction: str = "forward") -> None:
        self.tokenizer = tokenizer
        self.characters = Characters(tokenizer, direction)
        self.phrases = WeakValueDictionary[str, Phrase]()
        self.biases = lru_cache(BIASES_KEPT)(lambda entries: read_biases(entries, tokenizer))
        self.tokens_with = lru_cache(BREAKERS_KEPT)(lambda texts: tokens_with(texts, tokenizer))
        self.prompt_ngrams = lru_cache(PROMPTS_KEPT)(ngrams_of)


def tokens_with(texts: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """Returns True for the tokens that contain one of the texts, bool [V]."""
    pieces = NO_TEXT.join(tokenizer.piece_bytes)
    ends = np.cumsum([len(piece) + len(NO_TEXT) for piece in tokenizer.piece_bytes])
    found = np.zeros(len(ends), bool)
    for text in texts:
        places = [match.start() for match in re.finditer(re.escape(text.encode()), pieces)]
        found[np.searchsorted(ends, places, side="right")] = True
    return found
