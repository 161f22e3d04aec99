"""Which tokens of a vocabulary fit after the letters of a word, for all texts.

Inside a word, the letters since its beginning must begin a known word, and it may end only where such a word ends; see
`textgen.dataset.word_filter` for what a word is. The answers for some hundred words are kept, since most words are
common ones.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from textgen.dataset.bloom_filter import MULTIPLIER, extended
from textgen.dataset.word_filter import (
    APOSTROPHE,
    END,
    LONGEST_WORD,
    SPACE,
    WIDE,
    WordFilter,
    hashes,
    letters_of,
    words_in,
)
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
TEXTS_KEPT = 16  # maximum number of prompts whose words are cached for other texts
CONTINUATIONS = range(0x80, 0xC0)  # bytes of a character in UTF-8 after its first one


@dataclass(frozen=True)
class _Leads:
    """Letters with which tokens begin, and their beginnings: hash(word + beginning) = hash(word) power + hash."""

    hashes: np.ndarray  # of the beginnings, uint64 [P]
    powers: np.ndarray  # uint64 [P]
    chains: np.ndarray  # the numbers of all beginnings of each lead, itself last and repeated, [N, longest]
    ids: np.ndarray  # of the tokens that begin with letters, [M]
    numbers: np.ndarray  # the lead of each, [M]

    def after(self, words: Sequence[str]) -> np.ndarray:
        """The hashes of words so far with each beginning, uint64 [W P]."""
        return (hashes(words)[:, None] * self.powers + self.hashes).reshape(-1)

    def known(self, found: np.ndarray) -> np.ndarray:
        """Whether all beginnings of each lead were found after each word, from `found`, bool [W P]: bool [W, N].

        Known beginnings only lead to known ones. This finds out most of those that a Bloom filter reports in error.
        """
        return np.asarray(found.reshape(-1, len(self.hashes))[:, self.chains].all(axis=2))


@dataclass(frozen=True)
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
        self.fits = lru_cache(WORDS_KEPT)(self._fits)
        self.allowed = lru_cache(WORDS_KEPT)(self._allowed)
        self.own = lru_cache(TEXTS_KEPT)(self._own)
        self.unknown = lru_cache(TEXTS_KEPT)(self._unknown)
        self._beginning = lru_cache(TEXTS_KEPT)(self._read)
        self._fits_with = lru_cache(CHANGED_KEPT)(self._fits_with_rests)

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
        is_free = len(word) > LONGEST_WORD or not self.begins_with(own, word)
        return Beginning(word, own, is_free, b"".join([self.piece_bytes[id] for id in unfinished]))

    def _own(self, words: frozenset[str]) -> OwnWords:
        """Words that are possible too, and what follows from them."""
        sound = self.sound.copy() if words else self.sound
        for word in words:
            for length in range(1, len(word) + 1):
                for id, place in self._unsound.get(word[:length], ()):
                    sound[place, id] = True
        return OwnWords(words, sorted(words), sound)

    def fits_with(self, own: OwnWords, word: str, pending: bytes) -> np.ndarray:
        """Returns `fits`, where other words are possible too.

        Most words so far begin none of them. What changes where they do is kept for all texts together.
        """
        rests = own.rests(word)
        return self._fits_with(rests, word, pending) if rests else self.fits(word, pending)

    def _fits_with_rests(self, rests: frozenset[str], word: str, pending: bytes) -> np.ndarray:
        """`fits`, where the word so far may also go on with one of these, or ends if one of them is ""."""
        fits = self.fits(word, pending).copy()
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

    def _allowed(self, word: str, pending: bytes) -> np.ndarray:
        """Which tokens may follow the letters of a word, bool [V]."""
        return self.fits(word, pending) & self.sound[kind_before(word)]

    def _fits(self, word: str, pending: bytes) -> np.ndarray:
        """Which tokens go on with a word, or end it, so that it is a known one; bool [V].

        Args:
            word: The word so far.
            pending: The bytes of an unfinished character after it.
        """
        fits = np.ones(len(self.letters), bool)
        if word == FREE:
            return fits
        if pending:
            for id, letters in self._completing(pending):
                fits[id] = self.begins(word + letters) if is_letters(letters) else self.is_whole(word)
            return fits
        words = spellings(word)
        end, wide = np.array([ord(END)]), np.array([ord(WIDE)])
        now = hashes(words) if is_word(word) else np.zeros(0, np.uint64)
        starts, endings = self._going_on.after(words), self._ending.after(words)
        whole = endings.reshape(len(words), -1)[:, self._ending.chains[:, -1]].reshape(-1)
        tests = [starts, endings, extended(whole, end), extended(now, end), extended(now, wide)]
        found = np.split(self.words.contains(np.concatenate(tests)), np.cumsum([len(test) for test in tests])[:-1])
        going_on = self._going_on.known(found[0]).max(axis=0)
        ending = (self._ending.known(found[1]) & found[2].reshape(len(words), -1)).max(axis=0)
        fits[self._going_on.ids] = going_on[self._going_on.numbers]
        fits[self._ending.ids] = ending[self._ending.numbers]
        if is_word(word):
            fits[self._without_lead] = found[3].any()
            fits[self._partial] = found[3].any() or found[4].any()
        return fits

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
        self._going_on, self._ending = _leads(self._lead_only), _leads(self._lead_and_more)

    def _soundness(self) -> tuple[np.ndarray, dict[str, list[tuple[int, slice]]]]:
        """`sound`, and the places in it that only an unknown beginning at the end of a token makes unsound."""
        sound = np.ones((len(BEFORE), len(self.letters)), bool)
        tests: list[
            tuple[int, slice, str, bool]
        ] = []  # token, places in `BEFORE`, what must be known, whether at its end
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
        words = sorted({word for stretch in stretches for word in words_in(stretch) if len(word) <= LONGEST_WORD})
        known = self.words.knows(words) | self.words.knows([word.removeprefix(APOSTROPHE) for word in words])
        return frozenset(word for word, is_known in zip(words, known, strict=True) if not is_known)


def word_tokens(tokenizer: Tokenizer, words: WordFilter | None) -> WordTokens | None:
    """Returns the tables of a vocabulary; None without words that are known, and for a vocabulary of whole words."""
    return None if words is None or tokenizer.tokenizer == "word" else WordTokens(tokenizer, words)


def _leads(ids: dict[str, list[int]]) -> _Leads:
    """The leads of tokens, "" left out."""
    leads = [lead for lead in ids if lead]
    longest = max(map(len, leads), default=1)
    starts = sorted({lead[:length] for lead in leads for length in range(1, len(lead) + 1)}) or [SPACE]
    places = {start: number for number, start in enumerate(starts)}
    chains = [[places[lead[:length]] for length in range(1, longest + 1)] for lead in leads]
    powers = np.array([pow(int(MULTIPLIER), len(start), 1 << 64) for start in starts], np.uint64)
    of_tokens = [id for lead in leads for id in ids[lead]]
    numbers = [number for number, lead in enumerate(leads) for _ in ids[lead]]
    return _Leads(
        hashes(starts),
        powers,
        np.array(chains, np.int64).reshape(len(leads), longest),
        np.array(of_tokens, np.int64),
        np.array(numbers, np.int64),
    )
