"""Settings of sampling and of beam search.

Names and meanings are llama.cpp's, or those of Hugging Face transformers where llama.cpp has no such setting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from textgen.errors import ConfigError
from textgen.generation.stopping import ends_within
from textgen.settings import MAX_COUNT, Settings, check_text, setting
from textgen.tokenizer.config import MAX_VOCAB_SIZE
from textgen.wording import counted, plain, short_repr

UNITS = ("document", "sentence", "line", "paragraph")
SAMPLERS = (  # in the order in which they are applied: penalties, then filters, then the temperature
    "penalties", "dry",
    "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "epsilon_cutoff", "eta_cutoff", "xtc",
    "temperature",
)  # fmt: skip
MAX_LOOK_BACK = 1 << 16  # tokens that a penalty remembers
MAX_BIAS = 100.0  # largest bias in nats: enough to force or forbid a token
ID_DIGITS = 9  # maximum number of digits of a token in logit_bias
MAX_TEXTS = 1 << 20  # maximum number of texts that are written for a prompt, drawn to choose from, or side by side
MAX_SAMPLERS = 4 * len(SAMPLERS)  # maximum number of names in samplers, empty ones included

AUTO, NUMPY, ONNX, TENSORFLOW = RUNTIMES = ("auto", "numpy", "onnx", "tensorflow")
RUNTIME_HELP = (
    "Runtime that computes the network: numpy; onnx (ONNX Runtime with 8-bit weights, 1.2 to 2.7 times as fast, needs "
    "the extra onnx); tensorflow (for a GPU). auto takes onnx if it is installed, the network has a million weights or "
    "more, and 8-bit weights hardly change its predictions; otherwise numpy. The same seed gives another text with "
    "another runtime."
)

REPETITION, CONSTRAINTS, MORE, SEARCH = "Repetition", "Constraints", "More samplers", "Search"


@dataclass(frozen=True)
class SamplingConfig(Settings):
    """How the next token is drawn, and where the text ends.

    Example:
        >>> SamplingConfig(temperature=0.7, top_p=0.9, max_tokens=50).top_p
        0.9
    """

    temperature: float = setting(
        0.8,
        "Divide the logits by this. A number below 1 makes the text more predictable, one above 1 more random; 0 "
        "takes the likeliest token.",
        low=0.0,
        high=100.0,
    )
    top_k: int = setting(0, "Sample from the N likeliest tokens; 0 is off.", low=0, high=MAX_VOCAB_SIZE)
    top_p: float = setting(
        1.0, "Sample from the likeliest tokens with this total probability (nucleus sampling); 1 is off.",
        low=0.0, high=1.0,
    )  # fmt: skip
    min_p: float = setting(
        0.05, "Drop tokens whose probability is below this fraction of the highest; 0 is off.", low=0.0, high=1.0
    )
    max_tokens: int = setting(500, "Maximum number of tokens after the prompt.", low=1, high=MAX_COUNT)
    max_seconds: float | None = setting(
        None, "Maximum number of seconds for each text, reading the prompt included.", low=0.0, high=1e9
    )
    stop: Sequence[str] = setting((), "Stop before this text, which is not written.", escapes=True)
    until: str = setting(
        "document", "Stop at the end of the document, or of the first sentence, line or paragraph.", choices=UNITS
    )
    label: str | None = setting(None, "Write as in documents with this label; see --labels of textgen train.",
        metavar="NAME")  # fmt: skip
    heal: bool = setting(True, "Let the first token complete the last token of the prompt, which may be unfinished.")
    seed: int | None = setting(
        None, "Seed of the random numbers: the same seed gives the same text. Random if not given.",
        low=0, high=(1 << 63) - 1,
    )  # fmt: skip
    top_logprobs: int | None = setting(
        None, "With --json, report log probabilities, also of the N likeliest tokens.", low=0, high=MAX_VOCAB_SIZE
    )

    samplers: str = setting(
        ";".join(SAMPLERS), "Samplers to apply, in this order; those left out are off.", section=MORE, metavar="NAMES"
    )
    dynatemp_range: float = setting(
        0.0,
        "Let the temperature vary by up to this, lower where the entropy of the next token is low and higher "
        "where it is high; 0 is off.",
        low=0.0,
        high=100.0,
        section=MORE,
    )
    dynatemp_exponent: float = setting(
        1.0,
        "Exponent of the normalized entropy that decides the dynamic temperature.",
        low=0.0,
        high=100.0,
        section=MORE,
    )
    typical_p: float = setting(
        1.0,
        "Sample from the tokens whose surprisal is nearest to the entropy, with this total probability (locally "
        "typical sampling, Meister et al. 2023); 1 is off.",
        low=0.0,
        high=1.0,
        section=MORE,
    )
    top_n_sigma: float = setting(
        0.0, "Drop logits more than X standard deviations below the highest; 0 is off.",
        low=0.0, high=1e3, section=MORE,
    )  # fmt: skip
    epsilon_cutoff: float = setting(
        0.0,
        "Drop tokens whose probability is below this (epsilon sampling, Hewitt et al. 2022); 0 is off.",
        low=0.0,
        high=1.0,
        section=MORE,
    )
    eta_cutoff: float = setting(
        0.0,
        "Drop tokens whose probability is below X and below sqrt(X) exp(-entropy), so that fewer are dropped "
        "where the entropy is high (eta sampling, Hewitt et al. 2022); 0 is off.",
        low=0.0,
        high=1.0,
        section=MORE,
    )
    xtc_probability: float = setting(
        0.0,
        "Probability with which XTC drops the likeliest tokens: all above the XTC threshold, except the least "
        "likely of them; 0 is off.",
        low=0.0,
        high=1.0,
        section=MORE,
    )
    xtc_threshold: float = setting(0.1, "Probability above which XTC may drop tokens.", low=0.0, high=1.0, section=MORE)
    mirostat: int = setting(
        0,
        "Sample by mirostat, version 1 or 2, which keeps the surprisal near a target, in place of all filters "
        "(Basu et al. 2021); 0 is off.",
        low=0,
        high=2,
        section=MORE,
    )
    mirostat_tau: float = setting(5.0, "Target surprisal of mirostat, in bits per token.", low=0.0, high=100.0,
        section=MORE)  # fmt: skip
    mirostat_eta: float = setting(0.1, "Learning rate of mirostat.", low=0.0, high=1.0, section=MORE)

    repeat_penalty: float = setting(
        1.0,
        "Divide the positive logits of recent tokens by this, and multiply the negative ones by it; 1 is off.",
        low=0.01,
        high=100.0,
        section=REPETITION,
    )
    presence_penalty: float = setting(
        0.0,
        "Subtract this once from the logit of each recent token; 0 is off.",
        low=-100.0,
        high=100.0,
        section=REPETITION,
    )
    frequency_penalty: float = setting(
        0.0,
        "Subtract this from the logit of each recent token, once for each time that it occurred; 0 is off.",
        low=-100.0,
        high=100.0,
        section=REPETITION,
    )
    repeat_last_n: int = setting(
        64,
        "Number of recent tokens that the repeat, presence and frequency penalties look at.",
        low=0,
        high=MAX_LOOK_BACK,
        section=REPETITION,
    )
    dry_multiplier: float = setting(
        0.0, "Strength of the DRY penalty on tokens that prolong a repetition; 0 is off.",
        low=0.0, high=100.0, section=REPETITION,
    )  # fmt: skip
    dry_base: float = setting(
        1.75,
        "Base of the exponential growth of the DRY penalty with the length of the repetition.",
        low=1.0,
        high=100.0,
        section=REPETITION,
    )
    dry_allowed_length: int = setting(
        2,
        "Longest repetition without a DRY penalty, in tokens. If the last n tokens repeat earlier ones, and n is at "
        "least this, the token that goes on with the repetition loses multiplier * base^(n - allowed length).",
        low=1,
        high=MAX_LOOK_BACK - 1,
        section=REPETITION,
    )
    dry_penalty_last_n: int = setting(
        1024, "Number of recent tokens that the DRY penalty looks at.", low=0, high=MAX_LOOK_BACK, section=REPETITION
    )
    dry_sequence_breakers: Sequence[str] = setting(
        ("\n", ":", '"', "*"),
        "Text that ends a repetition, so that the DRY penalty does not reach across it.",
        section=REPETITION,
        escapes=True,
    )
    no_repeat_ngram_size: int = setting(
        0, "Never repeat a sequence of N tokens; 0 is off.", low=0, high=MAX_LOOK_BACK, section=REPETITION
    )

    logit_bias: Sequence[str] = setting(
        (), "Add NUMBER to the logit of the token TEXT, or of token #ID.",
        section=CONSTRAINTS, metavar="TEXT=NUMBER", escapes=True,
    )  # fmt: skip
    ban: Sequence[str] = setting((), "Never write this text.", section=CONSTRAINTS, escapes=True)
    require: Sequence[str] = setting(
        (), "Write this text somewhere before the end of the text.", section=CONSTRAINTS, escapes=True
    )
    min_tokens: int = setting(
        0, "Minimum number of tokens before the document may end.", low=0, high=MAX_COUNT, section=CONSTRAINTS
    )
    no_copy: int | None = setting(
        None, "Never copy more than N tokens in a row from the training text; the prompt does not count.",
        low=1, high=MAX_COUNT, section=CONSTRAINTS,
    )  # fmt: skip
    coin_words: bool = setting(
        False,
        "Allow words that occur neither in the training text (of this model and of the one it started from) nor in the "
        "prompt or the text of --adapt.",
        section=CONSTRAINTS,
    )

    def check(self) -> None:
        """Checks the fields against each other. Raises `ConfigError`."""
        sampler_names(self.samplers)
        for name in ("stop", "ban", "require", "dry_sequence_breakers", "logit_bias"):
            check_text(name, *getattr(self, name))
        if self.label is not None:
            check_text("label", self.label)
        for entry in self.logit_bias:
            parse_bias(entry)
        for name in ("stop", "ban", "require", "dry_sequence_breakers"):
            if "" in getattr(self, name):
                raise ConfigError(f"{name} must not contain an empty text, which occurs everywhere: leave it out.")
        if self.min_tokens > self.max_tokens:
            raise ConfigError(f"min_tokens ({self.min_tokens:,}) is more than max_tokens ({self.max_tokens:,}).")
        for text in self.require:
            for banned in self.ban:
                if banned in text:
                    raise ConfigError(f"require must not contain a banned text: {text!r} contains {banned!r}.")
            for stop in self.stop:
                if stop in text:
                    raise ConfigError(
                        f"require must not contain a text of stop, before which the text ends: {text!r} contains "
                        f"{stop!r}."
                    )
            if ends_within(text, self.until):
                raise ConfigError(
                    f"require must not go on after the end of a {self.until}, where the setting until ends the text: "
                    f"{text!r} does."
                )


@dataclass(frozen=True)
class RuntimeConfig(Settings):
    """What computes the network that writes."""

    runtime: str = setting(AUTO, RUNTIME_HELP, choices=RUNTIMES)


@dataclass(frozen=True)
class SearchConfig(Settings):
    """Beam search for the likeliest texts, in place of sampling. Names and meanings are those of transformers."""

    num_beams: int = setting(
        4,
        "Search for the texts of the highest log probability per token with N beams, instead of sampling. Any "
        "setting of beam search turns the search on.",
        low=1,
        high=1 << 10,
        section=SEARCH,
    )
    num_beam_groups: int = setting(
        1,
        "Number of groups of beams; each avoids tokens that earlier groups chose (Vijayakumar et al. 2018).",
        low=1,
        high=1 << 10,
        section=SEARCH,
    )
    diversity_penalty: float = setting(
        0.5,
        "Penalty, in nats, of beam search on a token for each beam of earlier groups that chose it in the same step.",
        low=0.0,
        high=1e3,
        section=SEARCH,
    )
    length_penalty: float = setting(
        1.0,
        "In beam search, divide the log probability of a text by its length to this power.",
        low=-10.0,
        high=10.0,
        section=SEARCH,
    )

    def check(self) -> None:
        """Checks the fields against each other. Raises `ConfigError`."""
        if self.num_beams % self.num_beam_groups:
            raise ConfigError(
                f"num_beams ({self.num_beams}) must be a multiple of num_beam_groups ({self.num_beam_groups})."
            )


def sampler_names(text: str) -> tuple[str, ...]:
    """The names in a `samplers` setting, as `SAMPLERS` has them. Raises `ConfigError`."""
    parts = re.split("[;,]", text, maxsplit=MAX_SAMPLERS)
    if len(parts) > MAX_SAMPLERS:
        raise ConfigError(
            f"samplers must name each of {counted(len(SAMPLERS), 'sampler')} at most once, and have at most "
            f"{MAX_SAMPLERS} names in all, empty ones included. Received: more."
        )
    names = tuple(name.strip().replace("-", "_") for name in parts if name.strip())
    for name in names:
        if name not in SAMPLERS:
            raise ConfigError(f"There is no sampler {short_repr(name)}. There are: {', '.join(map(repr, SAMPLERS))}.")
        if names.count(name) > 1:
            raise ConfigError(f"samplers must not name {name!r} twice: each is applied once.")
    return names


def parse_bias(entry: str) -> tuple[str | int, float]:
    """A `logit_bias` entry, TEXT=NUMBER or #ID=NUMBER, as its text or id and its number. Raises `ConfigError`."""
    text, _, number = entry.rpartition("=")
    try:
        bias = float(number)
    except ValueError:
        bias = math.nan
    if not text or not abs(bias) <= MAX_BIAS:
        raise ConfigError(
            f"logit_bias must be TEXT=NUMBER or #ID=NUMBER, the number from -{plain(MAX_BIAS)} to {plain(MAX_BIAS)}. "
            f"Received: {entry[:100]!r}."
        )
    if not re.fullmatch("#[0-9]+", text):
        return text, bias
    if len(text) > 1 + ID_DIGITS:
        raise ConfigError(
            f"logit_bias must name tokens by ids of at most {ID_DIGITS} digits. Received: {entry[:100]!r}."
        )
    return int(text[1:]), bias
