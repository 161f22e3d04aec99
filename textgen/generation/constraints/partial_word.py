"""A word that is being written, as the letters that it has so far.

It is "" outside words, an apostrophe after one that follows a letter, and `FREE` where any letters are possible.
"""

from __future__ import annotations

import re

from textgen.dataset.words import APOSTROPHE, DIGIT, SPACE, letters_of

FREE = DIGIT  # sign for a word of which any letters are possible
BEFORE = ("", "a", FREE)  # what may be before a token: no word, letters, a word of which any letters are possible
PARTS = re.compile("[^ 0']+|[ 0']")  # runs of letters, and single characters of other kinds
LETTERS = re.compile("[^ 0']*")


def is_letters(letters: str) -> bool:
    """Returns whether letters of `letters_of` are nothing but letters, and at least one."""
    return letters.isalpha() or (letters != "" and LETTERS.fullmatch(letters) is not None)


def is_word(word: str) -> bool:
    """Returns whether a word so far has begun and is not free."""
    return word not in ("", APOSTROPHE, FREE)


def spellings(word: str) -> list[str]:
    """How a word may be known: after an apostrophe as one of its own kind, or as an ordinary one."""
    return [word, word[1:]] if word.startswith(APOSTROPHE) else [word]


def letters_or_none(data: bytes) -> str | None:
    """The letters of some bytes, as `letters_of` has them; None if they are a part of a character."""
    try:
        return letters_of(data.decode())
    except UnicodeDecodeError:
        return None


def continued(word: str, letters: str) -> list[str]:
    """The words that end within some letters, the first of them `word` with its end, and the word so far after them."""
    words = []
    for part in PARTS.findall(letters):
        if part == SPACE:
            words.append(word)
            word = ""
        elif part == DIGIT:
            words.append(word)
            word = FREE
        elif word == FREE:
            continue
        elif part == APOSTROPHE:
            words.append(word)
            word = APOSTROPHE if is_word(word) else ""
        else:
            word += part
    return [*words, word]


def after_lead(before: str, letters: str) -> tuple[list[str], str]:
    """The words that end within the letters of a token, and the word so far after them.

    The letters at its beginning, and the word that they are a part of, are left out.

    Args:
        before: One of `BEFORE`.
        letters: What the token adds.
    """
    if letters[0] == SPACE and is_letters(letters[1:]):
        return [], letters[1:]  # most tokens
    lead = leading_letters(letters)
    words = continued(before or "a" * bool(lead), letters[len(lead) :])
    return [word for word in words[1:-1] if is_word(word)], words[-1]


def kind_before(word: str) -> int:
    """The place of a word so far in `BEFORE`."""
    return 1 if is_word(word) else 2 if word == FREE else 0


def leading_letters(letters: str) -> str:
    """The letters at the beginning."""
    found = LETTERS.match(letters)
    return found[0] if found else ""
