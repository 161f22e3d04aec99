"""Log probabilities of the tokens of a prompt, for clients that score texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textgen.generation.row import likeliest
from textgen.generation.stepping import log_probs_of
from textgen.generation.text_state import TextState
from textgen.model.protocols import StepModel
from textgen.server.token_texts import alternatives, finite


@dataclass(frozen=True)
class TokenScore:
    """A token of a prompt.

    Attributes:
        id: The token.
        logprob: Its log probability after all tokens before it, in nats; None for the first.
        top: The likeliest tokens in its place and their log probabilities.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def legacy_logprobs(scores: Sequence[TokenScore], texts: Sequence[str], offsets: Sequence[int]) -> dict[str, list[Any]]:
    """Returns log probabilities in the shape of the OpenAI API for completions.

    Args:
        scores: The tokens.
        texts: A text for each token: see `textgen.server.token_texts`.
        offsets: Where each of them begins in the text of the answer; more are left out.
    """
    return {
        "tokens": [texts[each.id] for each in scores],
        "token_logprobs": [None if each.logprob is None else finite(each.logprob) for each in scores],
        "top_logprobs": [
            None
            if each.logprob is None
            else {texts[id]: finite(nats) for id, nats in alternatives(each.id, each.logprob, each.top)}
            for each in scores
        ],
        "text_offset": [*offsets[: len(scores)]],
        "token_ids": [each.id for each in scores],
    }


def prompt_scores(
    model: StepModel,
    start: TextState,
    ids: Sequence[int],
    number: int,
    lead: Sequence[int] = (),
    wanted: Callable[[], bool] = lambda: True,
) -> list[TokenScore]:
    """Scores the tokens of a prompt, as they are scored when they are written.

    The first has no log probability, as the OpenAI API has it. Only one row of logits is held at a time.

    Args:
        model: The network.
        start: The position before the prompt.
        ids: The prompt.
        number: Number of likeliest tokens to report.
        lead: Tokens before `start` that the prompt was sent with.
        wanted: Called before each token; the scores end where it returns False.

    Returns:
        The score of each token, in order.

    Raises:
        SavedModelError: The model computes numbers that are not finite.
    """
    scores = [TokenScore(id) for id in lead]
    state = start.model_state
    for before, id in zip((start.ids[-1], *ids), ids, strict=False):
        if not wanted():
            break
        logits, state = model.step(np.array([before], np.int32), state)
        if not scores:
            scores.append(TokenScore(id))
            continue
        log_probs = log_probs_of(model, logits[0])
        scores.append(TokenScore(id, float(log_probs[id]), likeliest(log_probs, number)))
    return scores
