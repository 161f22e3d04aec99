"""One text that is being generated: what it continues, its settings, and when it ends."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from textgen.arguments import check_prompt
from textgen.generation.config import SamplingConfig
from textgen.generation.stopping import CONTEXT, Ending
from textgen.generation.text_state import TextState, of_document
from textgen.tokenizer.stream_decoder import StreamDecoder, check_ids
from textgen.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Token:
    """One generated token.

    Attributes:
        id: The token.
        text: The text that is final once this token is there; it may be more or less than the token's own text.
        stop_reason: Why the text ended, on its last token only: see `textgen.generation.generated_text.Generation`.
        logprob: Log probability in nats under the model alone, before any setting of the sampler.
        top: The likeliest ids and their log probabilities in nats.
    """

    id: int
    text: str
    stop_reason: str = ""
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Row:
    """One text in a decoder, as token ids. It ends with its document or after `config.max_tokens`.

    Attributes:
        start: The position in a text before the prompt.
        prompt_ids: Tokens to read after it, before the first one is generated.
        config: Settings of this text.
        stop_reason: Empty until the text has ended: see `textgen.generation.generated_text.Generation`.
        track: Whether to keep `model_state` up to date.
        model_state: With `track`, the model's state before it has read the newest token, a nest of arrays [1, ...].
        ids: The tokens before the first generated one, from `start` on, once a decoder has read them.
    """

    def __init__(
        self,
        start: TextState,
        prompt_ids: Sequence[int],
        config: SamplingConfig,
        tokenizer: Tokenizer,
        *,
        track: bool = False,
    ) -> None:
        """Makes a row.

        Args:
            start: The position in a text before the prompt.
            prompt_ids: Tokens to read after it.
            config: Settings of this text.
            tokenizer: Vocabulary of the model.
            track: Whether to keep `model_state` up to date.
        """
        self.start = start
        self.prompt_ids = prompt_ids
        self.config = config
        self.track = track
        self.model_state: Any = None
        self.stop_reason = ""
        self.ids: list[int] = []
        self._tokenizer = tokenizer
        self._eos_id = tokenizer.eos_id
        self._length = 0  # tokens generated
        self._spent = 0.0  # seconds before the last pause
        self.begin()

    def begin(self) -> None:
        """Starts the time that `max_seconds` limits, or goes on with it; for a text that has waited for its turn."""
        self._began = time.monotonic() - self._spent  # seconds

    def pause(self) -> None:
        """Stops this time while the text waits for another turn, up to the next `begin`."""
        self._spent = time.monotonic() - self._began

    @property
    def is_late(self) -> bool:
        """Whether the time that `max_seconds` allows is over."""
        seconds = self.config.max_seconds
        return seconds is not None and time.monotonic() - self._began >= seconds

    def set_prompt(self, ids: Sequence[int]) -> None:
        """Tells how many of the tokens [*start.ids, *prompt_ids] a decoder has kept before the first generated one.

        Args:
            ids: Those from the last of `start.ids` on.
        """
        self.ids = [*self.start.ids[:-1], *ids]

    def read_ahead(self, number: int, model_state: Any) -> None:
        """Tells that the model has read the first tokens of the prompt before a decoder reads the others.

        Args:
            number: Number of these tokens; at most `textgen.generation.decoding.Decoder.settled`.
            model_state: The state of the model before it has read the last of them, one row.
        """
        self.start = replace(self.start, model_state=model_state, ids=(*self.start.ids, *self.prompt_ids[:number]))
        self.prompt_ids = self.prompt_ids[number:]

    def append(self, id: int, log_probs: np.ndarray | None = None, *, blocked: bool = False) -> Token:
        """Appends a generated token and decides whether the text ends with it.

        Args:
            id: The token.
            log_probs: Log probabilities of all tokens that could have come, nats [V]; None if nobody asked for them.
            blocked: Whether constraints left no token to draw, so that `id` is the end of the document instead.

        Returns:
            The token, without its text.
        """
        self._length += 1
        self.stop_reason = "blocked" if blocked else self._limit(id)
        return Token(id, "", self.stop_reason, *self._logprobs(id, log_probs))

    def _logprobs(self, id: int, log_probs: np.ndarray | None) -> tuple[Any, ...]:
        """The last two fields of a token; nothing where nobody asked for them."""
        return () if log_probs is None else (float(log_probs[id]), likeliest(log_probs, self.config.top_logprobs or 0))

    def _limit(self, id: int) -> str:
        if id == self._eos_id:
            return "end"
        if self._length >= self.config.max_tokens:
            return "length"
        return "time" if self.is_late else ""


class TextRow(Row):
    """A row whose text is decoded as it is generated, and which may end with a stop text, a sentence and so on.

    Attributes:
        prompt: The text to continue; empty if it was given as tokens.
        healed: Characters of the prompt that the first generated token writes again: see
            `textgen.generation.token_healing`.
    """

    def __init__(
        self,
        prompt: str | Sequence[int],
        config: SamplingConfig,
        tokenizer: Tokenizer,
        start: TextState,
        *,
        track: bool = False,
    ) -> None:
        """Encodes the prompt, unless it is given as tokens, which may end inside a character.

        Args:
            prompt: The text to continue, or its tokens.
            config: Settings of this text.
            tokenizer: Vocabulary of the model.
            start: The position in a text before the prompt.
            track: Whether to keep `model_state` up to date.

        Raises:
            ConfigError: The prompt is neither a text nor a list of tokens.
            TokenizerError: The prompt is not valid text, or has tokens that are not in the vocabulary.
        """
        check_prompt("prompt", prompt)
        is_text = isinstance(prompt, str)
        ids = tokenizer.encode(prompt) if isinstance(prompt, str) else list(map(int, prompt))  # of NumPy, perhaps
        check_ids(ids, tokenizer.vocab_size)
        super().__init__(start, ids, config, tokenizer, track=track)
        self.prompt = prompt if isinstance(prompt, str) else ""
        self.healed = 0
        before = start.ids if is_text else (*start.ids, *ids)  # what is before the text, or before its prompt
        self._decoder = (
            tokenizer.decoder(line_start=self.prompt[-1].isspace()) if self.prompt else tokenizer.decoder_after(before)
        )
        self._ending = Ending(config.stop, config.until, self._text_before(before) + self.prompt)

    def set_prompt(self, ids: Sequence[int]) -> None:
        """Tells which tokens a decoder has kept; the text of the others is what healing writes again."""
        super().set_prompt(ids)
        self.healed = len(self._tokenizer.decode(self.prompt_ids[len(ids) - 1 :]))

    def append(self, id: int, log_probs: np.ndarray | None = None, *, blocked: bool = False) -> Token:
        """Appends a generated token, decodes it and decides whether the text ends with it: see `Row.append`."""
        text = self._write(id)
        self.stop_reason = self._ending.reason or ("blocked" if blocked else self._limit(id))
        if self.stop_reason:
            text += self._ending.flush()  # without a character that a limit has cut in two
            self.stop_reason = self._ending.reason or self.stop_reason
        return Token(id, text, self.stop_reason, *self._logprobs(id, log_probs))

    def fork(self) -> TextRow:
        """Returns a copy that can be continued with other tokens; its time has begun when this one's did."""
        twin = copy.copy(self)
        twin._decoder, twin._ending = self._decoder.fork(), self._ending.fork()
        return twin

    def decoder(self) -> StreamDecoder:
        """Returns a decoder for what comes after the text so far, by itself."""
        return self._decoder.fork()

    def _text_before(self, ids: Sequence[int]) -> str:
        """The text of the last of these tokens, as far as they belong to the document that the next one continues."""
        return self._tokenizer.decode(of_document(ids[-CONTEXT:], self._eos_id))

    def _write(self, id: int) -> str:
        """Appends a token and returns the text that is now final."""
        decoded = self._decoder.feed([id])
        text = self._ending.feed(decoded if self._length else decoded[self.healed :])
        self._length += 1
        return text


def likeliest(log_probs: np.ndarray, number: int) -> tuple[tuple[int, float], ...]:
    """The likeliest tokens, likeliest first; of equally likely ones those with lower ids first.

    Args:
        log_probs: Log probabilities, nats [V].
        number: How many tokens to return, at most.

    Returns:
        Ids and log probabilities in nats.

    Example:
        >>> likeliest(np.array([-3.0, -0.5, -1.5]), 2)
        ((1, -0.5), (2, -1.5))
    """
    if not number:
        return ()
    number = min(number, len(log_probs))
    candidates = np.flatnonzero(log_probs >= np.partition(log_probs, -number)[-number])
    order = candidates[np.argsort(-log_probs[candidates], kind="stable")][:number]
    return tuple((int(id), float(log_probs[id])) for id in order)
