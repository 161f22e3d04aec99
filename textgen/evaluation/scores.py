"""The scores of a text, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How well a text was predicted; the names are those of `textgen evaluate --json`.

    Attributes:
        nats_per_token: Mean loss per token.
        bits_per_byte: Loss in bits per byte of text.
        perplexity_per_token: exp(nats_per_token).
        perplexity_per_word: exp(nats per word); None where that is beyond all numbers, and without words.
        tokens: Tokens scored.
        bytes: Bytes of text scored.
        words: Words scored, and ends of documents; None in scripts without spaces between words.
        unknown_words: Of the words, those that a word vocabulary does not know; None if there are none.
        backward_nats_per_token: Mean loss of the backward network of a model of both directions, whose other scores are
            the forward network's.
    """

    nats_per_token: float
    bits_per_byte: float
    perplexity_per_token: float
    perplexity_per_word: float | None = None
    tokens: int
    bytes: int
    words: int | None = None
    unknown_words: int | None = None
    backward_nats_per_token: float | None = None

    def to_dict(self) -> dict[str, float]:
        """Returns the scores that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}
