"""Token ids to text, as they arrive."""

from __future__ import annotations

import codecs
import copy
from collections.abc import Iterable, Sequence

from textgen.arguments import several_tokens
from textgen.errors import TokenizerError
from textgen.wording import short_repr


class StreamDecoder:
    """Decodes ids as they arrive, never half a character.

    Example:
        >>> from textgen.tokenizer.kinds import ByteTokenizer
        >>> decoder = ByteTokenizer().decoder()
        >>> [decoder.feed([byte + 3]) for byte in "é!".encode()], decoder.flush()
        (['', 'é', '!'], '')
    """

    def __init__(self, piece_bytes: list[bytes], spaced_words: bool = False, line_start: bool = True) -> None:
        self._piece_bytes = piece_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._spaced_words = spaced_words  # every word begins with a space, which is dropped at the start of a line
        self._line_start = line_start

    def feed(self, ids: Iterable[int]) -> str:
        """Appends ids and returns the text that is now certain.

        Raises:
            ConfigError: They are not numbers.
            TokenizerError: There is no such id.
        """
        ids = known_ids(ids, len(self._piece_bytes))
        return self._trim(self._decoder.decode(b"".join([self._piece_bytes[id] for id in ids])))

    def flush(self) -> str:
        """Returns the rest at the end of the text: U+FFFD for a character that was not completed."""
        return self._trim(self._decoder.decode(b"", final=True))

    def fork(self) -> StreamDecoder:
        """Returns a decoder that has taken the same ids, and takes others from now on."""
        twin = copy.copy(self)
        twin._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        twin._decoder.setstate(self._decoder.getstate())
        return twin

    def _trim(self, text: str) -> str:
        if not self._spaced_words or not text:
            return text
        if self._line_start:
            text = text.removeprefix(" ")
        self._line_start = text.endswith("\n")
        return text.replace("\n ", "\n")


def known_ids(ids: Iterable[int], vocab_size: int) -> list[int]:
    """Returns ids from a caller, which may be those of NumPy, as a list.

    Raises:
        ConfigError: They are not numbers.
        TokenizerError: An id is not in the vocabulary.
    """
    ids = several_tokens("ids", ids)
    check_ids(ids, vocab_size)
    return ids


def check_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Checks ids.

    Raises:
        TokenizerError: An id is not in the vocabulary.
    """
    if ids and not (min(ids) >= 0 and max(ids) < vocab_size):
        wrong = next(id for id in ids if not 0 <= id < vocab_size)
        raise TokenizerError(f"There is no token {short_repr(wrong)}: ids are from 0 to {vocab_size - 1}.")
