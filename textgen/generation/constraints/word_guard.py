"""Keeps a text to words that exist: those of the training text, and those that the text itself has.

A word whose letters are spelled out token by token can go astray: "al", "rto", "dise". So inside a word, the letters
since its beginning must begin a word of the training text, and it may end only where such a word ends; see
`textgen.dataset.words` for what a word is. Words of the prompt, of required and of biased texts are known too.
Once a word has an unknown beginning, as after the prompt "alrtod", the rest of it is free.

`WordGuard` follows one text; `textgen.generation.constraints.word_tokens` computes which tokens fit, for all texts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import numpy as np

from textgen.dataset.words import MAX_WORD_CHARS, SPACE
from textgen.generation.constraints.partial_word import FREE, continued, is_word, kind_before, letters_or_none
from textgen.generation.constraints.word_tokens import Before, WordTokens


class WordGuard:
    """Forbids tokens that would write an unknown word in one text. Where no token is left, it forbids none."""

    def __init__(self, tokens: WordTokens, texts: Iterable[str] = ()) -> None:
        """Makes the guard of a text that has not begun.

        Args:
            tokens: What the tokens do to words.
            texts: Texts whose words are possible too.
        """
        self._tokens = tokens
        self._given = tokens.unknown("\n".join(texts))  # one look-up for all of them, however many they are
        self._word = ""
        self._is_free = False  # the word has an unknown beginning
        self._pending = b""  # of an unfinished character
        self._now: np.ndarray | None = None  # what `allowed` has returned, until a token is taken
        self._own = tokens.own(self._given)

    def fork(self) -> WordGuard:
        """Returns a copy that can be continued with other tokens."""
        return copy.copy(self)  # attributes are replaced, never changed

    def read(self, ids: Sequence[int]) -> None:
        """Begins anew with the tokens before the first generated one, whose words become possible."""
        self._word, self._own, self._is_free, self._pending = self._tokens.after(ids, self._given)
        self._now = None

    def allowed(self) -> np.ndarray:
        """Returns which tokens may come next, bool [V]."""
        if self._now is None:
            word, pending = before = self._before
            if self._adds_nothing:
                (self._now,) = self._tokens.allowed.of([before])
            else:
                self._now = self._tokens.fits_with(self._own, word, pending) & self._own.sound[kind_before(word)]
        return self._now

    @property
    def _before(self) -> Before:
        return FREE if self._is_free else self._word, self._pending

    @property
    def _adds_nothing(self) -> bool:
        """Whether the words of the text itself change nothing about the next token."""
        own = self._own
        return not own.words or (own.sound is self._tokens.sound and not own.rests(self._before[0]))

    def apply(self, logits: np.ndarray) -> None:
        """Sets the logits of tokens that may not come next to -inf, in place, unless none would be left."""
        kept = np.where(self.allowed(), logits, np.float32(-np.inf))
        if np.max(kept) > -np.inf:
            logits[:] = kept

    def accept(self, id: int) -> None:
        """Takes a generated token into account."""
        was_allowed = bool(self.allowed()[id])
        letters, self._now = self._tokens.letters[id], None
        if letters is None:
            self._pending += self._tokens.piece_bytes[id]
            letters = letters_or_none(self._pending)
            if letters is None and len(self._pending) < 4:
                return
        self._pending = b""
        self._write(letters or SPACE, was_allowed)

    def _write(self, letters: str, was_allowed: bool) -> None:
        """Appends the letters of a token, which `allowed` has allowed or not."""
        if was_allowed and not self._is_free:  # as most tokens are
            self._word = self._tokens.word_after(self._word, letters)
            self._is_free = self._word == FREE or len(self._word) > MAX_WORD_CHARS
            return
        words = continued(self._word, letters)
        if len(words) > 1 and self._is_free and is_word(words[0]) and len(words[0]) <= MAX_WORD_CHARS:
            self._own = self._tokens.own(self._own.words | {words[0]})
        goes_on = len(words) == 1 and is_word(self._word)
        self._word = words[-1]
        if goes_on and self._is_free:
            return
        unknown = (self._is_free or not was_allowed) and not self._tokens.begins_with(self._own, self._word)
        self._is_free = self._word == FREE or unknown or len(self._word) > MAX_WORD_CHARS


def allowed_together(guards: Sequence[WordGuard]) -> list[np.ndarray]:
    """Returns `WordGuard.allowed` of several texts, bool [V] each. What is not cached is computed at once."""
    if len(guards) == 1:
        return [guards[0].allowed()]
    for tokens in {guard._tokens for guard in guards}:
        own = [guard for guard in guards if guard._tokens is tokens and guard._now is None]
        ordinary = [guard for guard in own if guard._adds_nothing]
        for guard, allowed in zip(ordinary, tokens.allowed.of([guard._before for guard in ordinary]), strict=True):
            guard._now = allowed
        tokens.fits.of([guard._before for guard in own if guard._now is None])
    return [guard.allowed() for guard in guards]
