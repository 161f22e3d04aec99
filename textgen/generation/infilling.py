"""Text before a given ending, or between a given beginning and ending.

A backward network reads text from its end, so it generates from an ending towards the beginning. With both a prompt A
and a suffix B, each network knows only one of them while it generates. So candidates are generated and ranked:

1. The forward network continues A, and each draft is cut after the token where the first tokens of B are likeliest. The
   backward network generates from B, and its drafts are cut where A fits.
2. Each network scores the whole document A M B for every middle M found. The score is the mean log probability per
   token over both networks. The best middles are returned.

The suffix ends the document, and the prompt begins it. Log probabilities are in nats.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from textgen.arguments import check_is_text
from textgen.dataset.word_filter import WordFilter
from textgen.errors import ConfigError
from textgen.evaluation.scoring import Score, Scorer
from textgen.generation.config import SamplingConfig
from textgen.generation.constraints.word_tokens import word_tokens
from textgen.generation.decoding import Decoder
from textgen.generation.generator import BATCH_SIZE
from textgen.generation.request import later_seed, require_best_of, sampling, seeded
from textgen.generation.row import Row
from textgen.generation.sampling.vocabulary_tables import VocabularyTables
from textgen.generation.stepping import read_all
from textgen.generation.text_state import TextState, join, num_bytes
from textgen.generation.token_healing import Prefixes
from textgen.model.protocols import ScoringModel, StepModel
from textgen.settings import Setting, check_bounds, check_type, python_number
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import short_repr

CANDIDATES = 16  # drafts that are ranked by default where there is a prompt
GAP_TOKENS = 40  # max_tokens by default where there is a prompt
SCORED = 16  # documents that are ranked together
FIT_TOKENS = 8  # tokens of the other side used to choose where to cut
STATES_BYTES = 1 << 28  # maximum memory for draft states waiting to be scored
LEFT_TO_RIGHT = ("stop", "until", "ban", "require", "logit_bias", "no_copy", "max_seconds", "top_logprobs")  # settings


def num_drafts(prompt: str, num: int, best_of: int | None) -> int:
    """Returns how many drafts `Infiller.infill` writes."""
    return best_of or (max(num, CANDIDATES) if prompt else num)


def draft_tokens(has_prompt: bool) -> int:
    """Returns how many tokens a draft of `Infiller.infill` has at most where `max_tokens` is not given."""
    return GAP_TOKENS if has_prompt else SamplingConfig.max_tokens


def _goes_on(wanted: Callable[[], bool], deadline: float) -> bool:
    return wanted() and time.monotonic() < deadline


class InfillModel(StepModel, ScoringModel, Protocol):
    """A network of one direction: `textgen.model.numpy_model.NumpyModel`."""


@dataclass(frozen=True)
class Infill:
    """A text generated towards an ending.

    Attributes:
        prompt: The text before it.
        text: The generated text.
        suffix: The text after it.
        direction: The direction of the network that generated it.
        stop_reason: "begin": the beginning of the document was reached; "length": `max_tokens` were generated;
            "blocked": the settings left no token; "cut": cut where the other end fits.
        seed: The seed of the draft.
        first_seed: The seed of the first draft of the call that found the text: the same call with it finds it again.
        config: Its settings, with the seed.
        score: Log probability of the whole document, nats per token, mean over the networks of the model; None if
            nothing was ranked.
        forward_logprob: Log probability of the whole document under the forward network, nats; None without one, or if
            nothing was ranked.
        backward_logprob: The same under the backward network.
    """

    prompt: str
    text: str
    suffix: str
    direction: str
    stop_reason: str
    seed: int
    config: SamplingConfig = field(repr=False, compare=False)
    first_seed: int | None = field(default=None, compare=False)
    score: float | None = None
    forward_logprob: float | None = None
    backward_logprob: float | None = None

    @property
    def whole(self) -> str:
        """Prompt, text and suffix."""
        return self.prompt + self.text + self.suffix


@dataclass(eq=False)
class _Draft:
    """Tokens in the order in which they were generated, without the end of the document.

    Attributes:
        ids: The tokens.
        states: The state of the model before it read each of the newest tokens, those that `_fit` has not scored yet.
        nats: The loss of the other end after each token that has been scored.
        stop_reason: See `Infill`.
        config: Settings of the draft.
        healed: Characters of the prompt that the first token writes again.
    """

    ids: list[int]
    states: list[Any]
    nats: list[float]
    stop_reason: str
    config: SamplingConfig
    healed: int


class Infiller:
    """Generates texts towards endings. Threads may share it: between calls it keeps nothing but tables."""

    def __init__(
        self,
        backward: InfillModel,
        tokenizer: Tokenizer,
        forward: InfillModel | None = None,
        words: WordFilter | None = None,
    ) -> None:
        """Makes an infiller.

        Args:
            backward: The network that reads text from its end.
            tokenizer: The tokenizer of both networks.
            forward: The network that reads text from its beginning; without it there can be no prompt.
            words: The words of the training text. The forward network writes no others, unless `coin_words` is set; the
                backward network, which begins at the end of a word, may.
        """
        self._models = {"backward": backward} | ({"forward": forward} if forward else {})
        self._tokenizer = tokenizer
        self._tables = {direction: VocabularyTables(tokenizer, direction) for direction in self._models}
        self._word_tokens = word_tokens(tokenizer, words if forward else None)
        self._prefixes = Prefixes(tokenizer) if forward else None

    def infill(
        self,
        prompt: str = "",
        suffix: str = "",
        config: SamplingConfig | None = None,
        num: int = 1,
        best_of: int | None = None,
        *,
        seconds: float | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> list[Infill]:
        """Generates texts that lead to `suffix`, from `prompt` if there is one.

        Args:
            prompt: The beginning of the document; empty if the text begins it.
            suffix: The ending of the document.
            config: Settings of the drafts. Draft i has the seed `config.seed + i`. Without settings, drafts after a
                prompt have at most 40 tokens. Settings that are given apply as they are: give `max_tokens` with them,
                since its default of 500 is meant for whole texts.
            num: Number of texts.
            best_of: Number of drafts that are ranked; 16 by default if there is a prompt.
            seconds: Time for the drafts, at least 0, which end where it is over; None or infinity for no limit.
            wanted: Called after each step, and often while drafts are cut and ranked; all is given up where it
                returns False.

        Returns:
            The texts, best first where they are ranked. They are fewer than `num` if drafts were equal or the time was
            over before all were begun, and none if they are not wanted any more.

        Raises:
            ConfigError: There is a prompt and no forward network, or a setting follows the text from left to right, or
                there is a label, or `num` is less than 1, or `best_of` is less than `num`, or `seconds` is no number of
                at least 0, or `wanted` no function.
            TokenizerError: The prompt or suffix is not valid text.
        """
        check_is_text("prompt", prompt)
        check_is_text("suffix", suffix)
        check_type("seconds", seconds := python_number(seconds), "float | None")
        if seconds not in (None, math.inf):
            check_bounds("seconds", seconds, Setting("", 0.0))
        if not callable(wanted):
            raise ConfigError(f"wanted must be a function without arguments. Received: {short_repr(wanted)}.")
        config = seeded(SamplingConfig(max_tokens=draft_tokens(bool(prompt))) if config is None else sampling(config))
        self._refuse(prompt, config)
        require_best_of(num, best_of)
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        go_on = partial(_goes_on, wanted, deadline)
        number = num_drafts(prompt, num, best_of)
        configs = [later_seed(config, each) for each in range(number)]
        num_forward = number // 2 if prompt else 0
        infills = list(self._candidates("backward", configs[: number - num_forward], prompt, suffix, wanted, go_on))
        if go_on():
            infills += self._candidates("forward", configs[number - num_forward :], prompt, suffix, wanted, go_on)
        if not wanted():
            return []
        infills = [replace(infill, first_seed=config.seed) for infill in infills]
        if not prompt and best_of is None:
            return infills
        unique = {infill.text: infill for infill in reversed(infills)}
        best = sorted(self._scored(list(unique.values()), wanted), key=lambda infill: -(infill.score or 0.0))
        return best[:num] if wanted() else []

    def _refuse(self, prompt: str, config: SamplingConfig) -> None:
        if prompt and "forward" not in self._models:
            raise ConfigError(
                "This model reads text backward only, so it cannot continue a prompt: leave the prompt out, or train "
                "one with the setting direction both."
            )
        self._tokenizer.opening(config.label)  # raises if there is no such label
        if config.label is not None:
            raise ConfigError(
                "Texts towards an ending have no label, because networks that read from the end know none: leave "
                "label out."
            )
        defaults = {each.name: each.default for each in fields(SamplingConfig)}
        unfit = [name for name in LEFT_TO_RIGHT if getattr(config, name) != defaults[name]]
        if unfit:
            raise ConfigError(f"{unfit[0]} follows the text from left to right, so it cannot be used with a suffix.")

    def _candidates(
        self,
        direction: str,
        configs: Sequence[SamplingConfig],
        prompt: str,
        suffix: str,
        wanted: Callable[[], bool],
        go_on: Callable[[], bool],
    ) -> Iterable[Infill]:
        """Drafts of one network from its end of the document; with a prompt, each is cut where the other end fits.

        The time for drafts ends no cut, since what has been drafted is no text before it.
        """
        start, target = self._tokenizer.encode(prompt), self._tokenizer.encode(suffix)
        if direction == "backward":
            start, target = target[::-1], start[::-1]
        fitting = np.array([*target, self._tokenizer.eos_id][:FIT_TOKENS], np.int32) if prompt else None  # [T]
        for at in range(0, len(configs), BATCH_SIZE):
            if at and not go_on():
                return
            model = self._models[direction]
            for draft in self._generate(direction, start, configs[at : at + BATCH_SIZE], go_on, fitting):
                ids, reason = draft.ids, draft.stop_reason
                if fitting is not None:
                    if not wanted():
                        return
                    _fit(model, draft, fitting)
                    ids, reason = ids[: _best_cut(draft)], "cut"
                    if not wanted():
                        return
                text = self._text(prompt, self._in_reading_order(direction, ids), suffix, draft.healed)
                yield Infill(prompt, text, suffix, direction, reason, draft.config.seed or 0, draft.config)

    def _generate(
        self,
        direction: str,
        start: Sequence[int],
        configs: Sequence[SamplingConfig],
        go_on: Callable[[], bool],
        fitting: np.ndarray | None,
    ) -> list[_Draft]:
        """Continues a document that begins with `start`, in one direction, once for each config.

        Args:
            direction: The direction of the network.
            start: Token ids in the order in which the network reads them.
            configs: Settings of each draft.
            go_on: Called after each step; the drafts end where it returns False.
            fitting: The first tokens of the other end, int32 [T], if the drafts are to be cut where they fit.
        """
        eos_id, model = self._tokenizer.eos_id, self._models[direction]
        begin = TextState(model.initial_state(1), (eos_id,))
        rows = [Row(begin, start, config, self._tokenizer, track=fitting is not None) for config in configs]
        decoder = self._decoder(direction)
        settled = decoder.settled(rows[0])  # in all drafts, whose settings differ in the seed only
        state = read_all(model, [[eos_id, *start][:settled]], begin.model_state)
        for row in rows:
            row.read_ahead(settled, state)
        decoder.join(rows)
        healed = [len(self._tokenizer.decode(start[len(row.ids) - 1 :])) for row in rows]
        drafts = [_Draft([], [], [], "length", *each) for each in zip(configs, healed, strict=True)]
        draft_of: dict[Row, _Draft] = dict(zip(rows, drafts, strict=True))
        most = max(1, min(BATCH_SIZE, STATES_BYTES // (len(configs) * num_bytes(state))))  # of a draft
        while decoder.rows:
            for row, token in decoder.step():
                draft = draft_of[row]
                if token.id == eos_id:
                    draft.stop_reason = "blocked" if token.stop_reason == "blocked" else "begin"
                    continue
                draft.ids.append(token.id)
                if fitting is None:
                    continue
                draft.states.append(row.model_state)
                if len(draft.states) == most and go_on():
                    _fit(model, draft, fitting)
            if not go_on():
                break
        return drafts

    def _decoder(self, direction: str) -> Decoder:
        """A decoder without texts. Only the forward network follows the ends of words and of prompts."""
        is_forward = direction == "forward"
        words, prefixes = (self._word_tokens, self._prefixes) if is_forward else (None, None)
        return Decoder(
            self._models[direction],
            self._tokenizer,
            read_word_tokens=lambda: words,
            prefixes=prefixes,
            tables=self._tables[direction],
            direction=direction,
        )

    def _in_reading_order(self, direction: str, ids: Sequence[int]) -> Sequence[int]:
        """The tokens of a draft, without the bytes of a character that generation left unfinished."""
        ids = ids[: len(ids) - self._tables[direction].characters.unfinished(ids)]
        return ids if direction == "forward" else ids[::-1]

    def _text(self, prompt: str, ids: Sequence[int], suffix: str, healed: int) -> str:
        """The text of tokens in reading order after the healed characters, and the spaces between it and its ends."""
        text = self._tokenizer.decode(ids)[healed:]
        if self._tokenizer.kind == "word":  # its decoder leaves out the space before the first word
            before = " " * bool(prompt and not prompt[-1].isspace() and text[:1].strip())
            after = " " * bool(suffix and not suffix[0].isspace() and (text or prompt)[-1:].strip())
            text = before + text + after
        return text

    def _scored(self, infills: Sequence[Infill], wanted: Callable[[], bool]) -> list[Infill]:
        """The same texts with the log probabilities of the whole documents in each direction; none if not wanted."""
        texts = [infill.whole for infill in infills]
        totals: dict[str, list[Score]] = {direction: [] for direction in self._models}
        for direction, model in self._models.items():
            scorer = Scorer(model, self._tokenizer, direction)
            for at in range(0, len(texts), SCORED):
                if not wanted():
                    return []
                totals[direction] += [score.total for score in scorer.scores(texts[at : at + SCORED])]
        result = []
        for number, infill in enumerate(infills):
            own = {direction: total[number] for direction, total in totals.items()}
            mean = -sum(total.nats_per_token for total in own.values()) / len(own)
            logprobs: dict[str, Any] = {f"{direction}_logprob": -total.nats for direction, total in own.items()}
            result.append(replace(infill, score=mean, **logprobs))
        return result


def _fit(model: InfillModel, draft: _Draft, fitting: np.ndarray) -> None:
    """Computes the nats of some tokens [T] after each of the last tokens of a draft, and drops the states there."""
    if not draft.states:
        return
    ids = np.array(draft.ids[-len(draft.states) :], np.int32)
    targets = np.broadcast_to(fitting, (len(ids), len(fitting)))  # [B, T]
    inputs = np.concatenate([ids[:, None], targets[:, :-1]], axis=1)
    losses, _ = model.token_losses(inputs, targets, join(draft.states))
    draft.nats.extend(losses.sum(axis=1).tolist())
    draft.states.clear()


def _best_cut(draft: _Draft) -> int:
    """The number of tokens of a draft after which the other end is likeliest; at least 1 if there are any."""
    first = min(max(1, draft.config.min_tokens), len(draft.nats))
    return first + int(np.argmin(draft.nats[first - 1 :])) if draft.nats else 0
