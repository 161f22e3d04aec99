"""A text that was generated, or is being generated token by token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from textgen.errors import SavedModelError, TextgenError
from textgen.generation.config import SamplingConfig
from textgen.generation.decoding import Decoder
from textgen.generation.row import TextRow, Token
from textgen.generation.text_state import RECENT, TextState
from textgen.tokenizer.tokenizer import Tokenizer

CUT = ("stop", "until", "blocked")  # reasons to end that take tokens back: they are not part of the text


@dataclass(frozen=True)
class Generation:
    """One generated text.

    Attributes:
        prompt: The prompt.
        text: The text after it.
        ids: The generated tokens, including the end of the document and those of a stop text.
        stop_reason: "end" of the document; "length": `max_tokens` were generated; "stop": a stop text came; "until":
            the sentence, line or paragraph has ended; "time": `max_seconds` have passed; "blocked": constraints such as
            `ban` left no token, so the end of the document took its place.
        seed: The seed that generates this text again; of a search 0, since nothing is drawn.
        config: Its settings, with the seed.
        healed: Characters of the prompt that the first token writes again: see `textgen.generation.token_healing`.
        logprobs: Log probability of each token in nats, under the model alone; None unless asked for, or needed by
            `best_of` or a search.
        top_logprobs: For each token the likeliest ids and their log probabilities in nats; None if not asked for.
        missing: Texts of `SamplingConfig.require` that the text lacks.
    """

    prompt: str
    text: str
    ids: tuple[int, ...]
    stop_reason: str
    seed: int
    config: SamplingConfig = field(repr=False, compare=False)
    healed: int = 0
    logprobs: tuple[float, ...] | None = None
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] | None = None
    missing: tuple[str, ...] = ()

    @property
    def mean_logprob(self) -> float:
        """Mean log probability in nats per token; 0 without `logprobs`."""
        return math.fsum(self.logprobs or ()) / max(len(self.ids), 1)


class Stream(Iterator[Token]):
    """One text as it is generated: an iterator over its tokens. Of these only the last are kept, for `state`.

    Attributes:
        row: The text in the decoder.
    """

    def __init__(self, decoder: Decoder, row: TextRow) -> None:
        """Reads the prompt of a row with `track`."""
        decoder.join([row])
        self.row = row
        self._decoder = decoder
        self._is_interrupted = False
        ids = list(row.ids[-RECENT:])
        self._position = ids, len(ids), row.model_state  # set at once, so that an interruption leaves a whole one

    def __next__(self) -> Token:
        """Returns the next token. Raises `TextgenError` if the one before was interrupted, as by Ctrl-C."""
        if self._is_interrupted:
            raise TextgenError(
                "The text was interrupted inside a step, so it cannot go on: continue it with tokens(start=STATE), "
                "where STATE is the attribute state of this stream."
            )
        if self.row.stop_reason:
            raise StopIteration
        self._is_interrupted = True
        try:
            ((_, token),) = self._decoder.step()
        except SavedModelError:  # after which the text is as it was
            self._is_interrupted = False
            raise
        ids = self._position[0]
        ids.append(token.id)
        ids = ids[-RECENT:] if len(ids) > 2 * RECENT else ids
        self._position = ids, len(ids), self.row.model_state
        self._is_interrupted = False
        return token

    @property
    def state(self) -> TextState:
        """The position after the newest token, whatever has interrupted the stream.

        It may be kept: continuing from it twice forks the text, and continuing from an earlier one takes back the
        tokens since.
        """
        ids, number, model_state = self._position
        return TextState(model_state, tuple(ids[max(0, number - RECENT) : number]), self.row.start.model)

    def result(self, tokens: Sequence[Token]) -> Generation:
        """Returns the text that all its tokens make."""
        return generation_of(self.row, tokens)


def generation_of(row: TextRow, tokens: Sequence[Token]) -> Generation:
    """Returns the text that the tokens of a row make."""
    top, text = row.config.top_logprobs, "".join(token.text for token in tokens)
    return Generation(
        prompt=row.prompt,
        text=text,
        ids=tuple(token.id for token in tokens),
        stop_reason=row.stop_reason,
        seed=row.config.seed or 0,
        config=row.config,
        healed=row.healed,
        logprobs=None if top is None else tuple(token.logprob or 0.0 for token in tokens),
        top_logprobs=tuple(token.top for token in tokens) if top else None,
        missing=missing_texts(row, text),
    )


def missing_texts(row: TextRow, text: str) -> tuple[str, ...]:
    """The required texts that a generated text lacks; it begins where token healing took the prompt back to."""
    generated = row.prompt[len(row.prompt) - row.healed :] + text
    return tuple(required for required in row.config.require if required not in generated)


def written_ids(tokenizer: Tokenizer, before: Sequence[int], prompt: str | Sequence[int], text: str) -> list[int]:
    """Returns the tokens of a prompt and of the text after it, where that is shorter than what was generated.

    Args:
        tokenizer: The tokenizer.
        before: The tokens before the prompt. They, or the prompt if it is given as tokens, may end inside a character,
            which the text then completes: its first bytes are not repeated.
        prompt: The prompt, or its tokens.
        text: The text.

    Raises:
        TokenizerError: The prompt is not valid text.
    """
    if isinstance(prompt, str) and prompt:
        return tokenizer.encode(prompt + text)
    ids = [] if isinstance(prompt, str) else list(prompt)
    begun = b"".join(tokenizer.piece_bytes[id] for id in tokenizer.unfinished([*before, *ids]))
    first = text[:1].encode()
    if begun and first.startswith(begun) and tokenizer.first_byte is not None:
        ids += [tokenizer.first_byte + byte for byte in first[len(begun) :]]
        text = text[1:]
    return ids + tokenizer.encode(text)
