"""Constraints on one text: banned and required texts, biases, n-grams that must not recur, a minimum length.

Banned and required texts are matched byte by byte, however they are cut into tokens: `Phrase` tracks how much of a text
has just been written. So a ban holds for every sequence of tokens that spells the text.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from textgen.dataset.ngram_index import NgramIndex
from textgen.errors import ConfigError
from textgen.generation.config import SamplingConfig, parse_bias
from textgen.generation.constraints.copy_guard import CopyGuard
from textgen.generation.constraints.ngrams import NGrams, ngrams_of
from textgen.generation.constraints.phrase import Phrase
from textgen.generation.constraints.word_guard import WordGuard
from textgen.generation.constraints.word_tokens import WordTokens
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.utf8 import MAX_CHARACTER_BYTES
from textgen.wording import counted

PULL = 20.0  # nats: the bias towards a token that would write all of a required text, after ...
PULL_TOKENS = 400  # ... this number of tokens, or max_tokens if that is less; it goes on growing, for longer texts


class Bias(NamedTuple):
    """An entry of `logit_bias`.

    Attributes:
        text: Its text, or that of its token.
        ids: Its tokens.
        value: What is added to the logit of the last of them.
    """

    text: str
    ids: list[int]
    value: float


class Biases(list[Bias]):
    """The entries of `logit_bias`, in a tree of the tokens that must have been written, the last of them first."""

    def add(self, logits: np.ndarray, last: Sequence[int]) -> None:
        """Adds the biases of the next token to its logits [V], in place and in their order.

        Args:
            logits: The logits.
            last: The last tokens.
        """
        children, ends, ids, values = self._tree
        node: int | None = 0
        found = [ends[0]]
        for id in reversed(last):
            node = children.get((node, id))
            if node is None:
                break
            if node in ends:
                found.append(ends[node])
        order = np.sort(np.concatenate(found)) if len(found) > 1 else found[0]
        np.add.at(logits, ids[order], values[order].astype(logits.dtype))

    @cached_property
    def _tree(self) -> tuple[dict[tuple[int | None, int], int], dict[int | None, np.ndarray], np.ndarray, np.ndarray]:
        """The children of each node by token; the entries that end there; the tokens and values of all entries."""
        children: dict[tuple[int | None, int], int] = {}
        ends: dict[int, list[int]] = {0: []}
        for number, bias in enumerate(self):
            node = 0
            for id in reversed(bias.ids[:-1]):
                node = children.setdefault((node, id), len(children) + 1)
            ends.setdefault(node, []).append(number)
        ids, values = np.array([bias.ids[-1] for bias in self], np.int64), np.array([bias.value for bias in self])
        return children, {node: np.array(numbers, np.int64) for node, numbers in ends.items()}, ids, values


class Constraints:
    """The constraints on one text. They change its logits before any sampler does.

    - A token is forbidden if it would complete a text of `ban`, or an n-gram of `no_repeat_ngram_size` for the second
      time; the prompt counts.
    - A token is forbidden if it would make a run of more than `no_copy` tokens from the training text.
    - The end of the document is forbidden until `min_tokens` tokens are generated and all texts of `require` have come.
    - Tokens that continue a required text gain the fraction of its bytes that would then be written, times a pull that
      grows linearly from 0. When only as many tokens are left before `max_tokens` as the missing texts need, these are
      spelled out. So a required text is missing only if `stop`, `until` or `max_seconds` ends the text first, or if
      `ban`, `no_repeat_ngram_size` or `no_copy` forbids one of its tokens.
    - Each `logit_bias` is added to its token or, if its text is several tokens, to the last of them when the others
      have just been written.
    - Without `coin_words`, a token is forbidden if it would write a word that does not exist, unless no other is left:
      see `textgen.generation.constraints.word_guard`.

    If all this leaves no token, the sampler decides what happens.

    Attributes:
        allowed: If not empty, the only tokens that may come next.
        word_guard: Forbids words that do not exist; None if any may be written.
    """

    def __init__(
        self,
        config: SamplingConfig,
        tokenizer: Tokenizer,
        *,
        index: NgramIndex | None = None,
        word_tokens: WordTokens | None = None,
        phrase_of: Callable[[str], Phrase] | None = None,
        starts: np.ndarray | None = None,
        biases: Biases | None = None,
        repeats_of: Callable[[int, tuple[int, ...]], NGrams] = ngrams_of,
    ) -> None:
        """Makes the constraints of a text that has not begun.

        Args:
            config: The settings of the text.
            tokenizer: The tokenizer.
            index: The index of the training text, for `no_copy`.
            word_tokens: What the tokens do to words that exist; None if any word may be written.
            phrase_of: Returns a banned or required text, if somebody keeps them.
            starts: Ids of the first bytes of UTF-8 characters. None begins if required texts would have to come before
                the character is complete, unless nothing else is left.
            biases: What `read_biases` returns for `config.logit_bias`, if somebody has it.
            repeats_of: Returns the n-grams of a prompt, from their size and its tokens, if somebody keeps them.

        Raises:
            ConfigError: The tokenizer's tokens cannot meet the constraints.
            TokenizerError: A text is not valid text.
        """
        self.allowed: list[int] = []
        self._config = config
        self._eos_id = tokenizer.eos_id
        self._starts = starts
        self._drawn = 0
        phrase_of = phrase_of or partial(Phrase, tokenizer=tokenizer)
        self._bans = [(phrase_of(text), 0) for text in config.ban]  # and its state
        self._missing = [(phrase_of(text), 0) for text in config.require]
        self._spelled: list[int] = []  # required tokens that must come next
        self._biases = read_biases(config.logit_bias, tokenizer) if biases is None else biases
        self._last: list[int] = []  # tokens, as many as a bias looks back
        self._look_back = max((len(bias.ids) - 1 for bias in self._biases), default=0)
        self._repeats = NGrams(config.no_repeat_ngram_size) if config.no_repeat_ngram_size else None
        self._repeats_of = repeats_of
        self._copy_guard = _copy_guard(config, tokenizer, index)
        self.word_guard = _word_guard(config, self._biases, word_tokens)
        self._always = bool(self._bans or self._biases or self._repeats or self._copy_guard or config.min_tokens)
        self._check(tokenizer)

    @property
    def active(self) -> bool:
        """Whether there is anything to constrain."""
        return self.word_guard is not None or self.has_others

    @property
    def has_others(self) -> bool:
        """Whether there are constraints other than `word_guard`."""
        return bool(self._always or self._missing or self.allowed)

    def read(self, ids: Sequence[int], start: int = 0) -> None:
        """Takes the tokens of the prompt into account.

        Args:
            ids: The tokens.
            start: How many of them have been read before.
        """
        more = ids[start:]
        self._bans = [(phrase, phrase.follow(state, more)) for phrase, state in self._bans]
        self._remember(more)
        if self._repeats:
            size = self._config.no_repeat_ngram_size
            self._repeats = self._repeats.after(more) if start else self._repeats_of(size, tuple(more))
        if self.word_guard:
            self.word_guard.read(ids)

    def accept(self, id: int) -> None:
        """Takes a generated token into account."""
        self._drawn += 1
        self.allowed = []
        if self._copy_guard:
            self._copy_guard.accept(id)
        if self.word_guard:
            self.word_guard.accept(id)
        if self._bans:
            self._bans = [(phrase, phrase.follow(state, [id])) for phrase, state in self._bans]
        if self._missing:
            after = [(phrase, phrase.advance(state, id)) for phrase, state in self._missing]
            self._missing = [(phrase, state) for phrase, state in after if state < phrase.length]
        if self._repeats:
            self._repeats = self._repeats.after([id])
        self._remember([id])

    def fork(self) -> Constraints:
        """Returns a copy that can be continued with other tokens."""
        twin = copy.copy(self)  # the other attributes are replaced, never changed
        twin._copy_guard = self._copy_guard and self._copy_guard.fork()
        twin.word_guard = self.word_guard and self.word_guard.fork()
        return twin

    def apply(self, logits: np.ndarray) -> None:
        """Changes the logits [V] of the next token in place."""
        self.apply_others(logits)
        if self.word_guard:
            self.word_guard.apply(logits)

    def apply_others(self, logits: np.ndarray) -> None:
        """Changes the logits [V] by all constraints except `word_guard`, which must be applied last."""
        self.add_biases(logits, self._last)
        self._pull(logits)
        self._forbid(logits)

    def add_biases(self, logits: np.ndarray, last: Sequence[int]) -> None:
        """Adds each `logit_bias` to the logits [V] of the token after the tokens `last`, in place."""
        if self._biases:
            self._biases.add(logits, last)

    def apply_to_search(self, log_probs: np.ndarray) -> None:
        """Changes the log probabilities [V] of the next token in place, for a search that adds them up.

        As `apply`, but required texts pull nothing: see `guide`.
        """
        self.add_biases(log_probs, self._last)
        self._forbid(log_probs)
        if self.word_guard:
            self.word_guard.apply(log_probs)

    def guide(self, scores: np.ndarray) -> None:
        """Adds to scores [V], in place, the gain of each token towards the required texts.

        It is the fraction of each that is then written, times the pull; those that are complete count as a whole. So
        texts of one length that have come equally far gain equally, whichever way they took.
        """
        scores += self._strength * (len(self._config.require) - len(self._missing))
        self._pull(scores)

    @property
    def _strength(self) -> np.float32:
        return np.float32(PULL * self._drawn / min(self._config.max_tokens, PULL_TOKENS))

    def _pull(self, logits: np.ndarray) -> None:
        for phrase, state in self._missing:
            advancing, fractions = phrase.towards(state)
            logits[advancing] += self._strength * fractions

    def _forbid(self, logits: np.ndarray) -> None:
        """Sets the logits of tokens that may not come next to -inf and changes nothing else. Skips `word_guard`."""
        if self._missing or self._drawn < self._config.min_tokens:
            logits[self._eos_id] = -np.inf
        forbidden = [phrase.completing(state) for phrase, state in self._bans]
        if self._repeats:
            forbidden.append(self._repeats.forbidden())
        if self._copy_guard:
            forbidden.append(self._copy_guard.forbidden())
        for banned in forbidden:
            if len(banned):
                logits[banned] = -np.inf
        if self.allowed:
            _keep(logits, self.allowed)
        if self._missing or self._spelled:
            self._spell(logits)

    def _spell(self, logits: np.ndarray) -> None:
        """Allows only the next token of the missing texts once there is room for nothing else."""
        spare = self._config.max_tokens - self._drawn - sum(len(phrase.rest(0)) for phrase, _ in self._missing)
        if not self._missing or (spare > 0 and self._may_wait(logits, spare)):
            self._spelled = []
        elif not self._spelled:
            missing = sorted(self._missing, key=lambda entry: -entry[1])  # first the one that is furthest advanced
            wholes = [phrase.rest(0) for phrase, _ in missing]
            wholes[0] = min(missing[0][0].rest(missing[0][1]), wholes[0], key=len)
            self._spelled = [id for ids in wholes for id in ids]
        if not self._spelled:
            return
        id, *self._spelled = self._spelled
        if logits[id] > -np.inf:
            _keep(logits, [id])
        else:
            self._spelled = []

    def _may_wait(self, logits: np.ndarray, spare: int) -> bool:
        """Whether another token may come before the missing texts; near the end one that begins no UTF-8 character."""
        if spare >= MAX_CHARACTER_BYTES or self._starts is None:
            return True
        starts = logits[self._starts]
        logits[self._starts] = -np.inf
        if np.max(logits) > -np.inf:
            return True
        logits[self._starts] = starts
        return False

    def _remember(self, ids: Sequence[int]) -> None:
        if self._look_back:
            self._last = [*self._last, *ids][-self._look_back :]

    def _check(self, tokenizer: Tokenizer) -> None:
        if self._bans:
            visible = {id for id, text in enumerate(tokenizer.piece_bytes) if text and id != tokenizer.unk_id}
            if not visible.difference(*[phrase.completing(0).tolist() for phrase, _ in self._bans]):
                raise ConfigError("ban must leave a token to generate: ban less, or longer texts.")
        for phrase, _ in self._missing:
            if tokenizer.unk_id in phrase.rest(0):
                raise ConfigError(f"require must hold texts that the model can write: no tokens spell {phrase.text!r}.")
            if tokenizer.lost_bytes(phrase.text.strip(" ")) or not phrase.rest(0):
                raise ConfigError(
                    "require must hold texts that the model can write: its vocabulary loses the white space of "
                    f"{phrase.text!r}, so put single spaces between words."
                )
        needed = sum(len(phrase.rest(0)) for phrase, _ in self._missing)
        if needed > self._config.max_tokens:
            raise ConfigError(
                f"require must fit into max_tokens: its texts take {counted(needed, 'token')}, and max_tokens is "
                f"{self._config.max_tokens:,}."
            )


def _keep(logits: np.ndarray, ids: Sequence[int]) -> None:
    """Makes all tokens but these impossible, in place."""
    kept = logits[ids]
    logits[:] = -np.inf
    logits[ids] = kept


def _copy_guard(config: SamplingConfig, tokenizer: Tokenizer, index: NgramIndex | None) -> CopyGuard | None:
    if config.no_copy is None:
        return None
    if index is None:
        raise ConfigError("no_copy needs an index of the training text, but this generator has none.")
    return CopyGuard(index, config.no_copy, tokenizer.vocab_size)


def _word_guard(config: SamplingConfig, biases: Sequence[Bias], word_tokens: WordTokens | None) -> WordGuard | None:
    if config.coin_words or word_tokens is None:
        return None
    return WordGuard(word_tokens, [*config.require, *(bias.text for bias in biases)])


def read_biases(entries: Sequence[str], tokenizer: Tokenizer) -> Biases:
    """Returns the entries of `logit_bias` as tokens.

    Raises:
        ConfigError: An entry names no token, or is not TEXT=NUMBER or #ID=NUMBER.
        TokenizerError: A text is not valid text.
    """
    parsed = [parse_bias(entry) for entry in entries]
    texts = [text for text, _ in parsed if isinstance(text, str)]
    encoded = iter(tokenizer.encode_batch(texts, num_threads=1) if texts else [])  # together, which is much quicker
    biases = Biases()
    never_written = frozenset(tokenizer.never_written) if len(texts) < len(parsed) else frozenset()
    for text, value in parsed:
        ids = [text] if isinstance(text, int) else next(encoded)
        if value > 0 and text in never_written:  # a negative number asks for what is so anyway
            raise ConfigError(f"logit_bias: the token #{text} is never written, whatever is added to its logit.")
        _check_bias(text, ids, tokenizer)
        biases.append(Bias(text if isinstance(text, str) else tokenizer.decode(ids), ids, value))
    return biases


def _check_bias(text: str | int, ids: Sequence[int], tokenizer: Tokenizer) -> None:
    """Raises `ConfigError` if an entry of `logit_bias` names no token."""
    if not ids:
        raise ConfigError(f"logit_bias: the vocabulary of words has no token for {text!r} alone: add a word.")
    if any(id >= tokenizer.vocab_size for id in ids):
        raise ConfigError(f"logit_bias: there is no token #{text}, only #0 to #{tokenizer.vocab_size - 1}.")
    if isinstance(text, str) and tokenizer.unk_id in ids:
        raise ConfigError(f"logit_bias: the model has no tokens that spell {text!r}.")
