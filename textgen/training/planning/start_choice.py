"""Decides, before any training, whether a run starts from a base or from random weights.

A base (`textgen.saved_model.bases`) helps with text of its kind, and holds text of another kind up: its vocabulary
spells what it does not know in many short tokens. So the rule looks at

- what is given: sizes, another cell, a vocabulary of words, characters or bytes exclude a base;
- the writing system, which says which base there could be;
- the length: a network larger than the base learns more from a text that is longer than what a base has read; and so
  does a smaller one from a long text that is unlike it, which it reads more often in the same time;
- the tokens: the fraction of the bytes that the base's vocabulary has to spell byte by byte, and its tokens relative to
  those of a vocabulary learned from the text itself, both without the white space at the start of lines.

Where the number of tokens leaves it in doubt, a short text starts from the base, as random weights learn little from
it. In other doubt, both ways are tried for a part of the run: see `textgen.training.race`.

Measured with 8,000 tokens of English on 100 KB of each: prose and verse come to 0.86 to 1.04 times the tokens of their
own vocabulary, a chat with times and names to 1.11, licences to 1.39, Markdown to 1.49, source code to 1.60, log lines
to 1.73, tables to 3.54. From the base, 100 KB of licences and of the manual of Python (1.42) were predicted better by 8
and 5 % than from random weights, and 100 KB of Markdown worse by 3 %; 300 KB of that manual were much worse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from textgen.corpus.corpus import Corpus
from textgen.errors import TextgenError, TokenizerError
from textgen.model.config import DROPOUTS, ModelConfig
from textgen.saved_model.bases import base_folder, base_for, installed_bases
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.pieces import FIRST_LEARNED, NEWLINE
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer
from textgen.training.config import INITIAL
from textgen.wording import percent

GIVEN, RULE, RACE = "given", "rule", "race"  # what decides the start; training.json holds these words
NONE = "none"  # stands for random weights where the name of a model is expected


class Fit(NamedTuple):
    """How well the vocabulary of a base suits a text.

    Attributes:
        unknown_byte_fraction: Bytes of the text that are tokens of their own, because no piece covers them, relative
            to all of its bytes.
        token_ratio: Tokens of the text, relative to those of a vocabulary learned from it.
    """

    unknown_byte_fraction: float
    token_ratio: float

    def __str__(self) -> str:
        known = percent(1 - self.unknown_byte_fraction)
        times = f"{self.token_ratio:.2f} times as many tokens"
        return f"covers {known} of the bytes, and needs {times} as one trained on the text"

    @property
    def suits(self) -> bool | None:
        """Whether a base of this vocabulary suits the text; None if that is in doubt."""
        if any(value > high for value, high in zip(self, UNSUITABLE_ABOVE, strict=True)):
            return False
        is_near = all(value <= low for value, low in zip(self, SUITABLE_UP_TO, strict=True))
        return True if is_near else None

    @property
    def is_probable(self) -> bool:
        """Whether a base probably suits the text: both measures are nearer to the first bound than to the second."""
        return all(
            2 * value <= low + high for value, low, high in zip(self, SUITABLE_UP_TO, UNSUITABLE_ABOVE, strict=True)
        )


SUITABLE_UP_TO, UNSUITABLE_ABOVE = Fit(0.02, 1.15), Fit(0.05, 1.45)
"""A base suits a text up to the first, and does not if one number is above the second; between them it is in doubt."""
_INDENT = re.compile(r"^[^\S\n]+", re.MULTILINE)  # an ideographic space may take three tokens, but is soon learned
SHORT_TEXT = 120_000  # maximum bytes of a text that starts from the base if only its tokens leave doubt


@dataclass(frozen=True)
class StartChoice:
    """What a run starts from, and why.

    Attributes:
        name: Name of the base, or of a model of the user; None for random weights.
        grounds: Why, in a phrase. May be empty if `given_setting` is the reason.
        decided_by: `GIVEN` by the user, `RULE` or `RACE`.
        given_setting: Name of a setting that is given, and so decides; "" if none does.
        fit: How the vocabulary of the base, or one that is given, suits the text, if that was looked at.
        is_open: Whether a race is still to decide; `name` is then the likelier winner.
        bits_per_byte: Held-out scores of a race, by the name of what each run started from, a base or "none".
        relative_loss: How hard the text is for the model: see `planning.relative_loss`. None if it was not measured,
            since nothing in the plan depends on it, or if the model's own score is not known.
    """

    name: str | None
    grounds: str
    _: KW_ONLY
    decided_by: str = RULE
    given_setting: str = ""
    fit: Fit | None = None
    is_open: bool = False
    bits_per_byte: Mapping[str, float] = field(default_factory=dict)
    relative_loss: float | None = None

    @property
    def reason(self) -> str:
        """Why, in a phrase."""
        return self.reason_with(str)

    def reason_with(self, shown: Callable[[str], str]) -> str:
        """Why, with the name by which the user knows the setting that is given.

        Args:
            shown: Returns that name, such as a flag.
        """
        given = f"{shown(self.given_setting)} is given" if self.given_setting else ""
        return "; ".join(filter(None, [self.grounds, given]))

    def to_dict(self) -> dict[str, Any]:
        """The choice as JSON values, for training.json and for the JSON plan."""
        return {
            "name": self.name,
            "decided_by": self.decided_by,
            "reason": self.reason,
            "unknown_byte_fraction": self.fit and round(self.fit.unknown_byte_fraction, 5),
            "token_ratio": self.fit and round(self.fit.token_ratio, 4),
            "bits_per_byte": dict(self.bits_per_byte) or None,
            "relative_loss": self.relative_loss and round(self.relative_loss, 3),
        }


def choose_start(
    corpus: Corpus, settings: Mapping[str, Any], *, preset: str | None, tokenizer: Tokenizer | None
) -> tuple[StartChoice, ModelFolder | None]:
    """Applies the rule to a text.

    Args:
        corpus: Text to train on.
        settings: Flat settings that are given.
        preset: Size of the network that is given.
        tokenizer: Vocabulary that is given.

    Returns:
        The choice, and the base that it is about; None if no base is possible, whatever a race might say.

    Raises:
        CorpusError: The text cannot be read.
        TokenizerError: No vocabulary can be learned from the text.
    """
    if (excluded := _excluded(settings, preset, tokenizer)) is not None:
        return replace(excluded, fit=given_fit(corpus, tokenizer)), None
    name = base_for("".join(corpus.sample))
    if name is None:
        return StartChoice(None, "there is no base for this writing system"), None
    if name not in installed_bases():
        return StartChoice(None, f"the base {name} is not installed"), None
    try:
        base = load_model(str(base_folder(name).absolute()))
        base.weights()  # raises now, where the run can still do without
    except TextgenError as error:
        return StartChoice(None, f"the base {name} cannot be used: {error}"), None
    own = settings.get("tokenizer", TokenizerConfig.tokenizer)
    fit = measure_fit(corpus.sample, base.tokenizer, TokenizerConfig(tokenizer=own))
    suits, are_bytes_known = fit.suits, fit.unknown_byte_fraction <= SUITABLE_UP_TO.unknown_byte_fraction
    if suits is None and are_bytes_known and corpus.size <= SHORT_TEXT:
        return StartChoice(name, f"its vocabulary {fit}; a short text", fit=fit), base
    if suits is None:
        reason = f"the vocabulary of {name} {fit}"
        return StartChoice(name if fit.is_probable else None, reason, fit=fit, is_open=True), base
    whose = "its vocabulary" if suits else f"the vocabulary of {name}"
    return StartChoice(name if suits else None, f"{whose} {fit}", fit=fit), base


def measure_fit(texts: Iterable[str], base: Tokenizer, config: TokenizerConfig) -> Fit:
    """Compares the vocabulary of a base with one learned from a text; neither counts white space at the start of lines.

    Args:
        texts: The text, or excerpts of it.
        base: Vocabulary of the base.
        config: Settings of the vocabulary to learn.

    Returns:
        The fit.

    Raises:
        TokenizerError: No vocabulary can be learned from the text.
    """
    texts = [_INDENT.sub("", text) for text in texts]
    theirs = [id for ids in base.encode_batch(texts) for id in ids]
    ours = sum(map(len, train_tokenizer(texts, config).encode_batch(texts)))
    spelled = sum(NEWLINE < id < FIRST_LEARNED for id in theirs)
    size = sum(len(text.encode()) for text in texts)
    return Fit(spelled / max(1, size), len(theirs) / max(1, ours))


def given_fit(corpus: Corpus, tokenizer: Tokenizer | None) -> Fit | None:
    """Measures how a given vocabulary suits a text; white space at the start of lines does not count.

    Args:
        corpus: Text to train on.
        tokenizer: The vocabulary.

    Returns:
        The fit; None without a vocabulary, for one of words or bytes, which spells nothing, and for a text without
        words.
    """
    if tokenizer is None or tokenizer.kind in ("word", "byte"):
        return None
    with suppress(TokenizerError):  # this text teaches no vocabulary; the run has one
        return measure_fit(corpus.sample, tokenizer, TokenizerConfig(tokenizer=tokenizer.kind))
    return None


def network_settings(settings: Iterable[str]) -> list[str]:
    """Returns those of the given settings that the model to start from decides."""
    # The rates of dropout may differ from those of that model.
    fixed = {each.name for each in fields(ModelConfig)} - {*DROPOUTS, "vocab_size"} | {*INITIAL}
    return [name for name in settings if name in fixed]


def _excluded(settings: Mapping[str, Any], preset: str | None, tokenizer: Tokenizer | None) -> StartChoice | None:
    """The choice of random weights, if what is given excludes any base."""
    if preset is not None:
        return StartChoice(None, f"the preset {preset} is given")
    if clash := network_settings(settings):
        return StartChoice(None, "", given_setting=clash[0])
    kind = settings.get("tokenizer", TokenizerConfig.tokenizer)
    if kind not in ("unigram", "bpe"):
        return StartChoice(None, f"the tokenizer {kind} is given")
    for name in ("vocab_size", "character_coverage"):
        if settings.get(name) is not None:
            return StartChoice(None, "", given_setting=name)
    return StartChoice(None, "a vocabulary is given") if tokenizer is not None else None


def given_start(name: str | Path | ModelFolder | None, models_dir: str | Path | None) -> ModelFolder | None:
    """The model that a user names to start from. None for none of them: random weights, or the rule.

    Raises:
        SavedModelError: The model is missing or damaged.
    """
    if name is None or isinstance(name, ModelFolder):
        return name
    return None if str(name) == NONE else load_model(name, models_dir)
