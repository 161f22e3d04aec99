"""Tokens as texts for clients: no two tokens look alike, since clients use the texts as keys."""

from __future__ import annotations

from collections.abc import Sequence

from textgen.tokenizer.pieces import word_ends
from textgen.tokenizer.stream_decoder import StreamDecoder
from textgen.tokenizer.tokenizer import Tokenizer

IMPOSSIBLE = -9999.0  # log probability of what cannot be, as JSON has no infinity


def token_texts(tokenizer: Tokenizer) -> list[str]:
    r"""Returns a text for each token of a vocabulary.

    It is the text that the token adds, or `bytes:\xe4` where that is part of a character or the text of another token.
    Special tokens are shown as to people, such as `<eos>`.

    Example:
        >>> from textgen.tokenizer.kinds import ByteTokenizer
        >>> texts = token_texts(ByteTokenizer())
        >>> texts[2], texts[3 + ord("a")], texts[3 + 0xE4]
        ('<eos>', 'a', 'bytes:\\xe4')
    """
    texts = [""] * tokenizer.vocab_size
    taken: set[str] = set()
    first = tokenizer.first_byte
    bytes_last = sorted(range(tokenizer.vocab_size), key=lambda id: first is not None and first <= id < first + 256)
    special = {id for id in bytes_last if not tokenizer.piece_bytes[id] or id == tokenizer.unk_id}
    for id in sorted(bytes_last, key=special.__contains__):  # the special ones last
        text = tokenizer.piece(id) if id in special else _decoded(tokenizer.piece_bytes[id])
        if not text or text in taken:
            text = _spelled(tokenizer.piece_bytes[id]) if tokenizer.piece_bytes[id] else f"<token {id}>"
        if text in taken:
            text = f"<token {id}>"
        taken.add(text)
        texts[id] = text
    return texts


class Offsets:
    """Where tokens begin in a text, in code points."""

    def __init__(self, decoder: StreamDecoder, start: int = 0) -> None:
        """Begins at a place in a text.

        Args:
            decoder: Decodes the tokens from there on.
            start: The place.
        """
        self._decoder = decoder
        self._at = start

    def next(self, id: int) -> int:
        """Returns where a token begins. A token within a character begins where the character does."""
        at = self._at
        self._at += len(self._decoder.feed([id]))
        return at

    @property
    def end(self) -> int:
        """Where the last token ends."""
        return self._at


def prompt_places(
    tokenizer: Tokenizer, prompt: str | Sequence[int], before: Sequence[int], ids: Sequence[int]
) -> list[int]:
    """Returns where each token of a prompt begins in its text, and where the last one ends, in code points.

    Args:
        tokenizer: The tokenizer.
        prompt: The prompt, as a text or as ids. A word vocabulary does not keep the unknown words and the white space
            of a text, so the places in it are found without its tokens.
        before: The tokens before the prompt.
        ids: The tokens of the prompt.
    """
    if isinstance(prompt, str) and tokenizer.kind == "word":
        return [0, *word_ends(prompt)]
    offsets = Offsets(tokenizer.decoder() if isinstance(prompt, str) else tokenizer.decoder_after(before))
    return [*map(offsets.next, ids), offsets.end]


def finite(log_prob: float) -> float:
    """Returns a log probability, or `IMPOSSIBLE` instead of one that is smaller."""
    return max(log_prob, IMPOSSIBLE)


def alternatives(id: int, log_prob: float, top: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Returns the likeliest tokens and, if it is not one of them, the chosen one."""
    return [*top] if any(other == id for other, _ in top) else [*top, (id, log_prob)]


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def _spelled(data: bytes) -> str:
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
