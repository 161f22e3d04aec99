"""What a word is in a text of any script.

A word is a run of letters, with their combining marks. It ends at anything else: white space, punctuation, digits.
Letters of scripts that put no spaces between words, such as Chinese, Japanese and Thai, are no part of one. Small
letters and capitals count as the same, so a word that is known is known in capitals too. Around apostrophes and digits:

    don't, o'clock    two words. Up to two letters after an apostrophe are a word of their own kind, here 't, so that
                      "don't" does not make a word of "t"; more are an ordinary word.
    3rd, x2, v1.0b    what follows a digit, up to the next space or sign, is no word; "x" is.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from textgen.corpus.scripts import is_without_spaces
from textgen.storage.names import JOINERS

MAX_WORD_CHARS = 48  # maximum length of a word in characters; longer runs of letters are no words
MAX_SUFFIX_CHARS = 2  # maximum length of a suffix such as the s of it's; a longer part after an apostrophe is a word

SPACE, DIGIT, APOSTROPHE = " ", "0", "'"  # all characters but letters, as `letters_of` maps them
APOSTROPHES = "'\u2019"
TOO_LONG = "x" * (MAX_WORD_CHARS + 1)  # stands for letters that are no word, whatever follows


class _Letters(dict[int, str]):
    """What `letters_of` makes of each character, found out when it first occurs."""

    def __missing__(self, code: int) -> str:
        self[code] = mapped = _mapped(code)
        return mapped


def _mapped(code: int) -> str:
    """What `letters_of` makes of a small letter, or of a character that is no letter."""
    character, kind = chr(code), unicodedata.category(chr(code))
    if character in APOSTROPHES:
        return APOSTROPHE
    if kind[0] == "N":
        return DIGIT
    if kind[0] in "LM" or character in JOINERS:
        return SPACE if is_without_spaces(code) else character
    return SPACE


LETTERS = _Letters()
KINDS = (SPACE, "", DIGIT, APOSTROPHE)  # kinds of characters in `letter_changes`; "" is that of letters
LAST_LETTER = 0x1FFFF  # last code point of a letter of a script with spaces; marks beyond are in MORE_MARKS
MORE_MARKS = range(0xE0000, 0xE1000)


def letters_of(text: str) -> str:
    """Returns a text in which only letters, apostrophes, digits and spaces are left.

    Letters become small ones; any digit becomes 0, and any other character a space.

    Example:
        >>> letters_of("Don’t say “Ä2”!")
        "don't say  ä0  "
    """
    return text.lower().replace("\u03c2", "\u03c3").translate(LETTERS)  # lower makes a sigma final by what follows


def letter_changes() -> list[tuple[int, int]]:
    """Returns which characters `letters_of` takes for what, for other programs: Python's versions know more and more.

    Returns:
        Each code point at which the kind changes, and the kind from there on, a place in `KINDS`; ascending, from 0.
    """
    changes: list[tuple[int, int]] = []
    kind_before = -1
    for code in (*range(LAST_LETTER + 2), *MORE_MARKS, MORE_MARKS.stop):
        mapped = _mapped(code)
        kind = KINDS.index(mapped) if mapped in KINDS else KINDS.index("")
        if kind != kind_before:
            changes.append((code, kind))
        kind_before = kind
    return changes


def words_in(stretch: str) -> Iterator[str]:
    """Yields the words of a stretch of `letters_of` without spaces.

    Example:
        >>> [list(words_in(stretch)) for stretch in ("don't", "o'clock", "x0y")]
        [['don', "'t"], ['o', 'clock'], ['x']]
    """
    before = ""
    for part in stretch.partition(DIGIT)[0].split(APOSTROPHE):
        if part:
            yield APOSTROPHE + part if before and len(part) <= MAX_SUFFIX_CHARS else part
        before = part


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Counts the words of texts.

    Args:
        texts: Consecutive parts of a text, cut anywhere.

    Returns:
        How often each word occurs; words that are too long are left out.
    """
    stretches, counts, rest = Counter[str](), Counter[str](), ""
    for text in texts:
        *whole, rest = (rest + letters_of(text)).split(SPACE)
        if len(rest) > MAX_WORD_CHARS:
            settled, rest = _settled(rest)
            whole.append(settled)
        if long := [stretch for stretch in whole if len(stretch) > MAX_WORD_CHARS]:  # seldom the same: not kept
            whole = [stretch for stretch in whole if len(stretch) <= MAX_WORD_CHARS]
        stretches.update(whole)
        for stretch in long:
            counts.update(_short_words(stretch))
    stretches[rest] += 1
    for stretch, count in stretches.items():
        for word in _short_words(stretch):
            counts[word] += count
    return counts


def _settled(stretch: str) -> tuple[str, str]:
    """Divides a stretch of `letters_of` that goes on, so that time and memory do not grow with its length.

    Returns:
        The part whose words are complete; and a short stretch for the rest, which goes on to the same words.
    """
    if DIGIT in stretch:
        return stretch.partition(DIGIT)[0], DIGIT
    complete, apostrophe, last = stretch.rpartition(APOSTROPHE)
    is_suffix = complete and not complete.endswith(APOSTROPHE)
    return complete, (TOO_LONG if is_suffix else "") + apostrophe + last[: len(TOO_LONG)]


def _short_words(stretch: str) -> Iterator[str]:
    return (word for word in words_in(stretch) if len(word) <= MAX_WORD_CHARS)
