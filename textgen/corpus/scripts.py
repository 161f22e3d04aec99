"""Which scripts put spaces between words, and whether a text has words.

Chinese, Japanese, Thai and others put none: what white space separates there is a line, not a word. A text has no words
if more than half of its letters are of such scripts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache

SAMPLE = 10_000  # approximate number of characters by which a long text is judged: counting all is slow

WITHOUT_SPACES = (  # blocks of scripts without spaces between words, and of marks on symbols
    (0x0E00, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F), (0x20D0, 0x20FF),
    (0x2E80, 0x312F), (0x31A0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0xA4CF), (0xA980, 0xA9DF), (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFE00, 0xFE0F), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF),
    (0xE0100, 0xE01EF),
)  # fmt: skip

HAN = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
"""A run of Chinese characters, with the signs that stand for one: \u3005, \u3006 and \u3007."""


def is_without_spaces(code: int) -> bool:
    """Whether a code point is of a script without spaces between words."""
    return any(low <= code <= high for low, high in WITHOUT_SPACES)


def has_words(without_spaces: int, all_of_them: int) -> bool:
    """Whether a text has words.

    Args:
        without_spaces: Letters of scripts without spaces, or characters as `without_words` estimates them.
        all_of_them: All letters, or characters.
    """
    return 2 * without_spaces <= all_of_them


def letters_without_spaces(counts: Mapping[str, int]) -> tuple[int, int]:
    """Counts letters.

    Args:
        counts: How often each character occurs.

    Returns:
        Letters of scripts without spaces, and all letters.

    Example:
        >>> letters_without_spaces({"月": 3, "a": 2, "。": 1})
        (3, 5)
    """
    kinds = [(_is_unspaced(character), count) for character, count in counts.items() if character.isalpha()]
    return sum(count for unspaced, count in kinds if unspaced), sum(count for _, count in kinds)


def without_words(text: str) -> int:
    """Estimates how many characters of a text are in scripts without spaces, by a sample from all of it.

    Example:
        >>> without_words("床前明月光。"), without_words("Moonlight.")
        (6, 0)
    """
    unspaced, letters = letters_without_spaces(Counter(text[:: len(text) // SAMPLE + 1]))
    return round(len(text) * unspaced / max(letters, 1))


@cache
def _is_unspaced(character: str) -> bool:
    return is_without_spaces(ord(character))
