"""Which tokens of a vocabulary fit after the letters of a word, for all texts.

Inside a word, the letters since its beginning must begin a known word, and it may end only where such a word ends; see
`textgen.dataset.words` for what a word is. The answers for some hundred words are kept, since most words are
common ones.
"""

from __future__ import annotations

import copy
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

import numpy as np

from textgen.dataset.bloom_filter import MULTIPLIER, extended
from textgen.dataset.word_filter import END, WIDE, WordFilter, hashes
from textgen.dataset.words import APOSTROPHE, MAX_WORD_CHARS, SPACE, letters_of, words_in
from textgen.generation.constraints.batched_cache import BatchedCache
from textgen.generation.constraints.partial_word import (
    BEFORE,
    FREE,
    after_lead,
    continued,
    is_letters,
    is_word,
    kind_before,
    leading_letters,
    letters_or_none,
    spellings,
)
from textgen.tokenizer.tokenizer import Tokenizer

WORDS_KEPT = 1024  # maximum number of unfinished words whose fitting tokens are cached, at one byte a token
CHANGED_KEPT = 256  # the same for texts in which words of the text itself are possible too
STEPS_KEPT = 8192  # maximum number of unfinished words and letters of a token after them whose result is cached
TEXTS_KEPT = 16  # maximum number of prompts whose words are cached for other texts
NEAR = 2  # length of the beginnings of tokens that are looked up before longer ones
TOKEN_BYTES = 200  # memory for each token, about, without what `WORDS_KEPT` and `CHANGED_KEPT` limit
CONTINUATIONS = range(0x80, 0xC0)  # bytes of a character in UTF-8 after its first one


@dataclass(frozen=True, eq=False)
class _Leads:
    """The leads of tokens (the letters with which they begin), and all beginnings of these leads.

    The hash of a word followed by a beginning is hash(word) * power + hash(beginning).
    """

    hashes: np.ndarray  # of the P beginnings, the shortest first, uint64 [P]
    powers: np.ndarray  # uint64 [P]
    parents: np.ndarray  # the number of each without its last character, [P]
    levels: list[slice]  # where the beginnings of each length are, from one character on
    near: np.ndarray  # the number of the first `NEAR` characters of each longer beginning
    ends: np.ndarray  # the numbers of the leads after which tokens go on with something else, [E]
    columns: np.ndarray  # the column of each token, see `_leads`, [V]

    def known(self, now: np.ndarray, words: WordFilter) -> np.ndarray:
        """Which beginnings lead to known beginnings of words, after words so far with some hashes [S]: bool [S, P].

        Known beginnings only lead to known ones. This finds out most of those that a Bloom filter reports in error,
        and leaves few longer ones to look up.
        """
        first = len(self.hashes) - len(self.near)
        found = np.zeros((len(now), len(self.hashes)), bool)
        found[:, :first] = words.contains(self.after(now, slice(first)).reshape(-1)).reshape(len(now), first)
        self._chain(found, self.levels[1:NEAR])
        rows, columns = found[:, self.near].nonzero()
        columns += first
        found[rows, columns] = words.contains(now[rows] * self.powers[columns] + self.hashes[columns])
        self._chain(found, self.levels[NEAR:])
        return found

    def after(self, now: np.ndarray, numbers: Any) -> np.ndarray:
        """The hashes of words so far with some of the beginnings, uint64 [S, N]."""
        return np.asarray(now[:, None] * self.powers[numbers] + self.hashes[numbers])

    def _chain(self, found: np.ndarray, levels: Sequence[slice]) -> None:
        """Clears in `found` each beginning whose own beginning, one character shorter, was not found."""
        for level in levels:
            found[:, level] &= found[:, self.parents[level]]


@dataclass(frozen=True, eq=False)
class OwnWords:
    """Words that are possible in a text though the training text has none of them.

    Attributes:
        words: The words.
        in_order: The same in order.
        sound: `WordTokens.sound`, where tokens may begin these words too.
    """

    words: frozenset[str]
    in_order: Sequence[str]
    sound: np.ndarray

    def beginning_with(self, start: str) -> Iterator[str]:
        """Returns the words that begin with some letters, or are these."""
        places = range(bisect_left(self.in_order, start), len(self.in_order))
        return takewhile(lambda word: word.startswith(start), map(self.in_order.__getitem__, places))

    def rests(self, word: str) -> frozenset[str]:
        """Returns the letters with which a word so far can become one of the words, "" if it is one."""
        if not word:
            return self.words
        begun = [] if word == FREE else spellings(word)
        return frozenset(other[len(start) :] for start in begun for other in self.beginning_with(start))


Before = tuple[str, bytes]  # what is before a token: the word so far, and the bytes of an unfinished character after it


class Beginning(NamedTuple):
    """The state of a text before its first generated token.

    Attributes:
        word: The word so far.
        own: The words that are possible too.
        is_free: Whether the word so far has an unknown beginning.
        pending: The bytes of an unfinished character after it.
    """

    word: str
    own: OwnWords
    is_free: bool
    pending: bytes


class WordTokens:
    """What each token of a vocabulary does to a word that is being written.

    A word so far is a string of letters: see `textgen.generation.constraints.partial_word`.

    Attributes:
        words: The words that are known.
        letters: What each token adds, as `letters_of` has it; None if it is a part of a character.
        sound: Whether the words inside each token are known and the last one begins a known word, the letters at its
            beginning left out; bool [3, V], for tokens after each of `BEFORE`.
    """

    def __init__(self, tokenizer: Tokenizer, words: WordFilter) -> None:
        """Makes the tables of a vocabulary, which takes some hundredths of a second."""
        self.words = words
        self.piece_bytes = tokenizer.piece_bytes
        self.unfinished, self.decode = tokenizer.unfinished, tokenizer.decode
        self.letters = [letters_or_none(piece) for piece in tokenizer.piece_bytes]
        self._first_byte = tokenizer.first_byte
        self._fit_ids(self.letters)
        self.sound, self._unsound = self._soundness()
        self.fits = BatchedCache(self._fits, WORDS_KEPT)
        self.allowed = BatchedCache(self._allowed, WORDS_KEPT)
        self.word_after = lru_cache(STEPS_KEPT)(lambda word, letters: continued(word, letters)[-1])
        self.own = lru_cache(TEXTS_KEPT)(self._own)
        self.unknown: Callable[[str], frozenset[str]] = lru_cache(TEXTS_KEPT)(self._unknown)
        self._beginning = lru_cache(TEXTS_KEPT)(self._read)
        self._fits_with = lru_cache(CHANGED_KEPT)(self._fits_with_rests)

    def with_words(self, words: frozenset[str]) -> WordTokens:
        """Returns the same tables for texts in which more words are possible. The caches are shared."""
        other = copy.copy(self)
        other.unknown = lambda text: words | found if (found := self.unknown(text)) else words
        return other

    def begins(self, word: str) -> bool:
        """Returns whether letters begin a known word or are one."""
        return not is_word(word) or bool(self.words.begins(spellings(word)).any())

    def is_whole(self, word: str) -> bool:
        """Returns whether letters are a known word."""
        return not is_word(word) or bool(self.words.knows(spellings(word)).any())

    def begins_with(self, own: OwnWords, word: str) -> bool:
        """Returns `begins`, where other words are possible too, and False for `FREE`."""
        return word != FREE and (next(own.beginning_with(word), None) is not None or self.begins(word))

    def after(self, ids: Sequence[int], given: frozenset[str]) -> Beginning:
        """Returns the state of a text before its first generated token.

        Prompts are kept, so that one that many texts continue is read once.

        Args:
            ids: The tokens.
            given: Words that are possible too.
        """
        return self._beginning(array("i", ids).tobytes(), given)

    def _read(self, ids: bytes, given: frozenset[str]) -> Beginning:
        """`after`, from the tokens as the bytes of an array, which take less memory than numbers."""
        tokens = array("i", ids)
        unfinished = self.unfinished(tokens)
        text = self.decode(tokens[: len(tokens) - len(unfinished)])
        before, _, line = text.rpartition("\n")
        letters = letters_of(line)
        word = continued("", letters)[-1]
        ended = letters if word == FREE else letters[: len(letters) - len(word)]
        own = self.own(given | self.unknown(before) | self.unknown_in(ended))
        is_free = len(word) > MAX_WORD_CHARS or not self.begins_with(own, word)
        return Beginning(word, own, is_free, b"".join([self.piece_bytes[id] for id in unfinished]))

    def _own(self, words: frozenset[str]) -> OwnWords:
        """Words that are possible too, and what follows from them."""
        beginnings = {word[:length] for word in words for length in range(1, len(word) + 1)}
        changed = [pair for beginning in beginnings for pair in self._unsound.get(beginning, ())]
        sound = self.sound.copy() if changed else self.sound
        for id, places in changed:
            sound[places, id] = True
        return OwnWords(words, sorted(words), sound)

    def fits_with(self, own: OwnWords, word: str, pending: bytes) -> np.ndarray:
        """Returns `fits`, where other words are possible too.

        Most words so far begin none of them. What changes where they do is kept for all texts together.
        """
        rests = own.rests(word)
        return self._fits_with(rests, word, pending) if rests else self.fits.of([(word, pending)])[0]

    def _fits_with_rests(self, rests: frozenset[str], word: str, pending: bytes) -> np.ndarray:
        """`fits`, where the word so far may also go on with one of these, or ends if one of them is ""."""
        fits = self.fits.of([(word, pending)])[0].copy()
        if pending:
            for id, letters in self._completing(pending):
                fits[id] |= any(rest.startswith(letters) if is_letters(letters) else not rest for rest in rests)
            return fits
        for rest in rests:
            for length in range(1, len(rest) + 1):
                fits[self._lead_only.get(rest[:length], [])] = True
            fits[self._lead_and_more.get(rest, []) if rest else self._without_lead] = True
            fits[self._partial] |= not rest or not rest[0].isascii()
        return fits

    def _allowed(self, befores: Sequence[Before]) -> list[np.ndarray]:
        """Which tokens may follow the letters of each word, bool [V] each."""
        kinds = [kind_before(word) for word, _ in befores]
        return [fits & self.sound[kind] for fits, kind in zip(self.fits.of(befores), kinds, strict=True)]

    def _fits(self, befores: Sequence[Before]) -> list[np.ndarray]:
        """Which tokens go on with each word, or end it, so that it is a known one; bool [V] each."""
        ordinary = [word for word, pending in befores if word != FREE and not pending]
        found = iter(self._fits_after(ordinary) if ordinary else [])
        return [
            next(found).copy()  # a view would keep those of all the others in memory
            if word != FREE and not pending
            else self._fits_within(word, pending)
            for word, pending in befores
        ]

    def _fits_within(self, word: str, pending: bytes) -> np.ndarray:
        """`_fits` after a part of a character, and of a word that is free."""
        fits = np.ones(len(self.letters), bool)
        if word != FREE:
            for id, letters in self._completing(pending):
                fits[id] = self.begins(word + letters) if is_letters(letters) else self.is_whole(word)
        return fits

    def _fits_after(self, words: Sequence[str]) -> np.ndarray:
        """`_fits` after whole characters of words that are not free, bool [W, V]."""
        spelled = [spellings(word) for word in words]
        now = hashes([text for texts in spelled for text in texts])  # [S], one or two of each word
        whole = self._leads.after(now, self._leads.ends)
        tests = [extended(whole.reshape(-1), np.array([ord(END)]))]
        tests += [extended(now, np.array([ord(sign)])) for sign in (END, WIDE)]
        ends, may_end, may_widen = np.split(
            self.words.contains(np.concatenate(tests)), np.cumsum([len(test) for test in tests])[:-1]
        )
        begun = self._leads.known(now, self.words)
        ending = begun[:, self._leads.ends] & ends.reshape(whole.shape)
        found = np.concatenate([begun, ending, may_end[:, None], (may_end | may_widen)[:, None]], axis=1)
        last = np.cumsum([len(texts) for texts in spelled]) - 1  # of the spellings of each word
        for row in last[np.diff(last, prepend=-1) > 1].tolist():
            found[row] |= found[row - 1]
        found = found[last]  # [W, P + E + 2]
        found[[number for number, word in enumerate(words) if not is_word(word)], -2:] = True
        return found.take(self._leads.columns, axis=1)

    def _completing(self, pending: bytes) -> list[tuple[int, str]]:
        """The tokens that complete a character of which some bytes are there, and the letters that it is."""
        if self._first_byte is None:
            return []
        completed = [(byte, letters_or_none(pending + bytes([byte]))) for byte in CONTINUATIONS]
        return [(self._first_byte + byte, letters) for byte, letters in completed if letters is not None]

    def _fit_ids(self, letters: Sequence[str | None]) -> None:
        """Sorts the tokens by what they do to a word."""
        self._lead_only, self._lead_and_more = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
        partial = []
        for id, text in enumerate(letters):
            if text is None:
                partial.append(id)
                continue
            lead = leading_letters(text)
            (self._lead_only if lead and lead == text else self._lead_and_more)[lead].append(id)
        self._without_lead = np.array(self._lead_and_more.get("", []), np.int64)
        self._partial = np.array(partial, np.int64)
        self._leads = _leads(letters)

    def _soundness(self) -> tuple[np.ndarray, dict[str, list[tuple[int, slice]]]]:
        """`sound`, and the places in it that only an unknown beginning at the end of a token makes unsound."""
        sound = np.ones((len(BEFORE), len(self.letters)), bool)
        # token, places in `BEFORE`, what must be known, whether at its end
        tests: list[tuple[int, slice, str, bool]] = []
        for id, letters in enumerate(self.letters):
            if not letters or is_letters(letters):
                continue
            same = letters[0] == SPACE  # whatever is before it
            for number, before in enumerate(BEFORE[:1] if same else BEFORE):
                words, tail = after_lead(before, letters)
                place = slice(None) if same else slice(number, number + 1)
                tests += [(id, place, word + END, False) for word in words]
                tests += [(id, place, tail, True)] if is_word(tail) else []
        texts = [text for _, _, text, _ in tests]
        known = self.words.begins(texts)
        suffixes = [number for number, text in enumerate(texts) if text[0] == APOSTROPHE]
        known[suffixes] |= self.words.begins([texts[number][1:] for number in suffixes])
        unsound = defaultdict[str, list[tuple[int, slice]]](list)
        for number in np.flatnonzero(~known).tolist():
            id, place, text, at_end = tests[number]
            if at_end and sound[place, id].all():
                unsound[text].append((id, place))
            sound[place, id] = False
        return sound, unsound

    def _unknown(self, text: str) -> frozenset[str]:
        return self.unknown_in(letters_of(text))

    def unknown_in(self, letters: str) -> frozenset[str]:
        """Returns the words in some letters of `letters_of` that are not known; longer runs of letters are no words."""
        stretches = set(letters.split(SPACE))
        words = sorted({word for stretch in stretches for word in words_in(stretch) if len(word) <= MAX_WORD_CHARS})
        known = self.words.knows(words) | self.words.knows([word.removeprefix(APOSTROPHE) for word in words])
        return frozenset(word for word, is_known in zip(words, known, strict=True) if not is_known)


def word_tokens(tokenizer: Tokenizer, words: WordFilter | None) -> WordTokens | None:
    """Returns the tables of a vocabulary; None without words that are known, and for a vocabulary of whole words."""
    return None if words is None or tokenizer.kind == "word" else WordTokens(tokenizer, words)


def most_bytes(vocab_size: int) -> int:
    """Returns the memory that `WordTokens` takes with full caches, about, in bytes, without the filter of words."""
    return vocab_size * (TOKEN_BYTES + 2 * WORDS_KEPT + CHANGED_KEPT)


def _leads(letters: Sequence[str | None]) -> _Leads:
    """The leads of tokens with these letters, "" left out.

    `columns` gives each token its column in the arrays [W, P + E + 2] of `WordTokens._fits_after`: the number of its
    lead, below P, if the token is nothing but the lead; P plus the place of its lead in `ends` if other characters
    follow; P + E without a lead; P + E + 1 for a part of a character.
    """
    leads = [None if text is None else leading_letters(text) for text in letters]
    starts = sorted({lead[:length] for lead in leads if lead for length in range(1, len(lead) + 1)}, key=len)
    places = {start: number for number, start in enumerate(starts)}
    more = {lead for lead, text in zip(leads, letters, strict=True) if lead and lead != text}
    ends = {lead: number for number, lead in enumerate(sorted(more), len(starts))}
    none = len(starts) + len(ends)
    columns = [
        none + 1 if lead is None else (places if lead == text else ends)[lead] if lead else none
        for lead, text in zip(leads, letters, strict=True)
    ]
    bounds = [bisect_left(starts, length, key=len) for length in range(1, len(starts[-1]) + 2)] if starts else []
    return _Leads(
        hashes(starts),
        np.array([pow(int(MULTIPLIER), len(start), 1 << 64) for start in starts], np.uint64),
        np.array([places.get(start[:-1], 0) for start in starts], np.int64),
        [slice(*pair) for pair in pairwise(bounds)],
        np.array([places[start[:NEAR]] for start in starts if len(start) > NEAR], np.int64),
        np.array([places[lead] for lead in ends], np.int64),
        np.array(columns, np.int64),
    )
