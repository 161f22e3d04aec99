"""What stands before a given ending, and between a beginning and an ending.

A backward network writes from the ending towards the beginning, as a forward network does the other way round. Where
both ends are given, prompt A and suffix B, each network knows one of them while it writes, so there is a search:

1. The forward network draws texts after A and cuts each where B fits best, by its probability of the first pieces of
   B after each piece that it drew. The backward network draws texts before B and cuts them where A fits.
2. Each network says how probable the whole text A M B is, as a document, for every middle M that was found. Of the
   sum of both log probabilities the mean a piece is the score. The best are kept.

The ending is that of the document, the beginning its beginning. Log probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np

from textgen.errors import ConfigError
from textgen.evaluation.scoring import Scorer
from textgen.generation.config import SamplingConfig
from textgen.generation.decoding import Decoder
from textgen.generation.generator import BATCH_SIZE, later_seed, seeded
from textgen.generation.row import Row
from textgen.generation.stepping import StepModel, read_all
from textgen.generation.text_state import TextState, join
from textgen.tokenizer.tokenizer import Tokenizer

CANDIDATES = 16  # texts among which the best are chosen to fill a gap
GAP_TOKENS = 40  # pieces in a gap, at most, if nothing else is said
FIT_PIECES = 8  # of the other end, which a cut must suit
UNFIT = ("stop", "until", "ban", "require", "logit_bias", "no_copy", "max_seconds", "top_logprobs")
"""Settings that go by the text as it is written, from left to right"""


class Model(StepModel, Protocol):
    """A model of one direction, as far as filling goes: `textgen.model.numpy_model.NumpyModel`."""

    def token_losses(self, inputs: np.ndarray, targets: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """inputs, targets int32 [B, T], state before them -> nats [B, T] of each target, state after them."""


@dataclass(frozen=True)
class Infill:
    """A text that was written towards an ending."""

    prompt: str
    text: str  # what stands between prompt and suffix
    suffix: str
    direction: str  # of the network that wrote it
    stop_reason: str
    """begin: of the document; length: max_tokens reached; blocked: the settings left no piece to go on with; cut: where
    the other end fits"""
    seed: int
    config: SamplingConfig = field(repr=False, compare=False)
    score: float | None = None  # mean of the log probabilities below, a piece; None: there was nothing to choose from
    forward_logprob: float | None = None  # nats, of the whole document by the forward network
    backward_logprob: float | None = None

    @property
    def whole(self) -> str:
        """Prompt, text and suffix."""
        return self.prompt + self.text + self.suffix


@dataclass(frozen=True)
class _Draft:
    """Tokens in the order in which they were generated, without the end of the document."""

    ids: list[int]
    states: list[Any]  # of the model before each of them was read; kept where the draft is cut
    stop_reason: str
    config: SamplingConfig


class Infiller:
    """Writes towards endings. Keeps nothing between calls, so that threads may share it."""

    def __init__(self, backward: Model, tokenizer: Tokenizer, forward: Model | None = None) -> None:
        """Without a `forward` network there are no gaps to fill, only endings to write towards."""
        self._models = {"backward": backward} | ({"forward": forward} if forward else {})
        self._tokenizer = tokenizer

    def infill(
        self,
        prompt: str = "",
        suffix: str = "",
        config: SamplingConfig | None = None,
        num: int = 1,
        best_of: int | None = None,
    ) -> list[Infill]:
        """`num` texts that lead to `suffix`; with a `prompt`, from there, the best of `best_of` (16), best first.

        Text i of those that are drawn has the seed `config.seed + i`. Texts may be fewer where the same one was
        drawn several times. Raises `ConfigError` for a prompt without a forward network and for settings that need
        text as it is read, `TokenizerError` for what is not valid text.
        """
        config = seeded(config or (SamplingConfig(max_tokens=GAP_TOKENS) if prompt else SamplingConfig()))
        self._refuse(prompt, config)
        if best_of is not None and best_of < num:
            raise ConfigError(f"best_of ({best_of}) is less than num ({num}): the best are chosen among more.")
        number = best_of or (max(num, CANDIDATES) if prompt else num)
        configs = [later_seed(config, each) for each in range(number)]
        share = number // 2 if prompt else 0  # of the forward network
        fillings = list(self._candidates("backward", configs[: number - share], prompt, suffix))
        fillings += self._candidates("forward", configs[number - share :], prompt, suffix)
        if not prompt and best_of is None:
            return fillings
        unique = {filling.text: filling for filling in reversed(fillings)}
        best = sorted(self._scored(list(unique.values())), key=lambda filling: -(filling.score or 0.0))
        return best[:num]

    def _refuse(self, prompt: str, config: SamplingConfig) -> None:
        if prompt and "forward" not in self._models:
            raise ConfigError(
                "This model reads text backward only, so it cannot go on from a prompt: leave it out, or train a model "
                "of direction both."
            )
        defaults = {each.name: each.default for each in fields(SamplingConfig)}
        unfit = [name for name in UNFIT if getattr(config, name) != defaults[name]]
        if unfit:
            raise ConfigError(f"{unfit[0]} goes by the text from left to right, so it does not go with a suffix.")

    def _candidates(
        self, direction: str, configs: Sequence[SamplingConfig], prompt: str, suffix: str
    ) -> Iterable[Infill]:
        """Texts that a network draws from the end that it knows; with a prompt each is cut where the other end fits."""
        start, target = self._tokenizer.encode(prompt), self._tokenizer.encode(suffix)
        if direction == "backward":
            start, target = target[::-1], start[::-1]
        for at in range(0, len(configs), BATCH_SIZE):
            model = self._models[direction]
            for draft in self._generate(direction, start, configs[at : at + BATCH_SIZE], keep=bool(prompt)):
                ids, reason = draft.ids, draft.stop_reason
                if prompt:
                    ids, reason = ids[: self._cut(model, draft, target)], "cut"
                text = self._text(prompt, ids if direction == "forward" else ids[::-1], suffix)
                yield Infill(prompt, text, suffix, direction, reason, draft.config.seed or 0, draft.config)

    def _generate(
        self, direction: str, start: Sequence[int], configs: Sequence[SamplingConfig], *, keep: bool
    ) -> list[_Draft]:
        """Continues a document that begins with `start`, in one direction, once for each config.

        Args:
            direction: The direction of the network.
            start: Token ids in the order in which the network reads them.
            configs: Settings of each draft.
            keep: Whether to keep the state of the model after each token.
        """
        eos_id, model = self._tokenizer.eos_id, self._models[direction]
        ids = (eos_id, *start)
        state = TextState(read_all(model, [ids[:-1]], model.initial_state(1)), ids)
        rows = [Row(state, (), config, self._tokenizer, track=keep) for config in configs]
        drafts = [_Draft([], [], "length", config) for config in configs]
        number_of: dict[Row, int] = {row: number for number, row in enumerate(rows)}
        decoder = Decoder(model, self._tokenizer, direction=direction)
        decoder.join(rows)
        while decoder.rows:
            for row, token in decoder.step():
                number = number_of[row]
                if token.id == eos_id:
                    reason = "blocked" if token.stop_reason == "blocked" else "begin"
                    drafts[number] = replace(drafts[number], stop_reason=reason)
                    continue
                drafts[number].ids.append(token.id)
                if keep:
                    drafts[number].states.append(row.state)
        return drafts

    def _cut(self, model: Model, draft: _Draft, target: Sequence[int]) -> int:
        """After how many pieces of a draft `target` fits best, at least one of them if there is any."""
        wanted = np.array([*target, self._tokenizer.eos_id][:FIT_PIECES], np.int32)  # [T]
        nats = []
        for at in range(0, len(draft.ids), BATCH_SIZE):
            ids = np.array(draft.ids[at : at + BATCH_SIZE], np.int32)
            targets = np.broadcast_to(wanted, (len(ids), len(wanted)))  # [B, T]
            inputs = np.concatenate([ids[:, None], targets[:, :-1]], axis=1)
            losses, _ = model.token_losses(inputs, targets, join(draft.states[at : at + BATCH_SIZE]))
            nats += losses.sum(axis=1).tolist()
        first = min(max(1, draft.config.min_tokens), len(nats))
        return first + int(np.argmin(nats[first - 1 :])) if nats else 0

    def _text(self, prompt: str, ids: Sequence[int], suffix: str) -> str:
        """The text of pieces in reading order; half a character at an end, where writing stopped, is left out."""
        text = self._tokenizer.decode(ids).strip("\ufffd")
        if self._tokenizer.tokenizer == "word":  # its decoder leaves out the space before the first word
            before = " " * bool(prompt and not prompt[-1].isspace() and text[:1].strip())
            after = " " * bool(suffix and not suffix[0].isspace() and (text or prompt)[-1:].strip())
            text = before + text + after
        return text

    def _scored(self, fillings: Sequence[Infill]) -> list[Infill]:
        """The same with scores: the probability of the whole documents in each direction."""
        texts = [filling.whole for filling in fillings]
        totals = {
            direction: [score.total for score in Scorer(model, self._tokenizer, direction).scores(texts)]
            for direction, model in self._models.items()
        }
        result = []
        for number, filling in enumerate(fillings):
            own = {direction: total[number] for direction, total in totals.items()}
            mean = -sum(total.nats_per_token for total in own.values()) / len(own)
            logprobs: dict[str, Any] = {f"{direction}_logprob": -total.nats for direction, total in own.items()}
            result.append(replace(filling, score=mean, **logprobs))
        return result
