"""Texts in the shapes of the OpenAI API: choices, chunks, log probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from msgspec import Raw

from textgen.generation.row import Token
from textgen.server.failures import encoded
from textgen.server.planning import AnswerPlan
from textgen.server.prompt_scores import TokenScore, legacy_logprobs
from textgen.server.token_texts import Offsets, finite
from textgen.server.writing import Choice


def whole(plan: AnswerPlan, choice: Choice, index: int) -> dict[str, Any]:
    """A text in an answer that is not streamed."""
    chunks = Chunks(plan, choice)
    logprobs = chunks.logprobs(choice.tokens)
    if logprobs and plan.echoes:
        before = plan.echoes[choice.prompt]
        logprobs = {name: before[name] + values for name, values in logprobs.items()}
    body: dict[str, Any] = {"index": index, "logprobs": logprobs, "seed": choice.job.row.config.seed}
    body["finish_reason"] = choice.finish_reason or "length"
    if plan.copies:
        body["copied"] = plan.copies[choice.prompt]
    if choice.state:
        body["state"] = choice.state
    if plan.is_chat:
        return body | {"message": {"role": "assistant", "content": choice.text, "refusal": None}}
    return body | {"text": plan.prompts[choice.prompt].text * plan.echo + choice.text}


class Chunks:
    """The chunks of one text in a stream, and its log probabilities."""

    def __init__(self, plan: AnswerPlan, choice: Choice) -> None:
        self._plan = plan
        self._choice = choice
        self._texts = plan.model.token_texts

    def first(self) -> list[dict[str, Any]]:
        """What comes before the first token: the role in a chat, or the prompt that is repeated."""
        plan = self._plan
        if plan.is_chat:
            return [self._chunk(delta={"role": "assistant", "content": ""})]
        if not plan.echo:
            return []
        place = self._choice.prompt
        logprobs = plan.echoes[place] if plan.echoes else self.logprobs(())
        return [self._chunk(plan.prompts[place].text, logprobs)]

    def of(self, token: Token) -> dict[str, Any] | None:
        """The chunk of a token; None if it adds nothing yet."""
        if not token.text and self._plan.logprobs is None:
            return None
        return self._chunk(token.text, self.logprobs([token]))

    def last(self) -> dict[str, Any]:
        """The last chunk, with the reason of the end, and the state there if the request wants it."""
        chunk = self._chunk(delta={}) if self._plan.is_chat else self._chunk()
        chunk["finish_reason"] = self._choice.finish_reason or "length"
        chunk["seed"] = self._choice.job.row.config.seed
        return chunk | ({"state": self._choice.state} if self._choice.state else {})

    def logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        """The log probabilities of the next tokens."""
        if self._plan.logprobs is None:
            return None
        written = [TokenScore(token.id, token.logprob, token.top) for token in tokens]
        if self._plan.is_chat:
            return {"content": [self._chat_logprob(each) for each in written], "refusal": None}
        return legacy_logprobs(written, self._texts, [self._offsets.next(token.id) for token in tokens])

    def _chunk(
        self, text: str = "", logprobs: dict[str, Any] | None = None, delta: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        chunk: dict[str, Any] = {"index": self._choice.index, "logprobs": logprobs, "finish_reason": None}
        if self._plan.is_chat:
            return chunk | {"delta": {"content": text} if delta is None else delta}
        return chunk | {"text": text}

    @cached_property
    def _offsets(self) -> Offsets:
        """The offsets of the tokens; made when the prompt has been read, since healing takes back a part of it."""
        prompt = self._plan.prompts[self._choice.prompt]
        return Offsets(prompt.row.decoder(), len(prompt.text) - self._choice.job.row.healed)

    def _chat_logprob(self, score: TokenScore) -> Raw:
        top = [self._named(id, nats) for id, nats in score.top]
        return encoded(self._named(score.id, score.logprob or 0.0) | {"top_logprobs": top})

    def _named(self, id: int, nats: float) -> dict[str, Any]:
        return {"token": self._texts[id], "logprob": finite(nats), "bytes": self._plan.model.token_bytes[id]}
