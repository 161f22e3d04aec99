"""Every setting of textgen, as frozen dataclasses.

A field's name is also its command-line flag (`hidden_units`, `--hidden-units`), its key in a TOML file
given with `--config`, and its key in the JSON of a saved model. Each object checks itself when it is
made; `dataclasses.replace` makes a changed copy.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from textgen.errors import ConfigError

DOCUMENT_MODES = ("file", "blank-line", "line")
TOKENIZERS = ("unigram", "bpe", "char", "word", "byte")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
STRATEGIES = ("auto", "single", "mirrored", "multiworker")
OPTIMIZERS = ("adamw", "adam", "sgd", "asgd", "rmsprop", "lamb")
DECOUPLED = ("adamw", "lamb")  # optimizers whose weight decay is no part of the gradient
AVERAGES = ("none", "ema", "last-k")
SCHEDULES = (
    "cosine", "linear", "constant", "step", "exponential", "inverse-sqrt", "triangular", "one-cycle", "plateau",
)  # fmt: skip
NEWLINES = ("normalize", "keep")
UNITS = ("document", "sentence", "line", "paragraph")
CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN", "peephole": "peephole LSTM", "mogrifier": "mogrifier LSTM"}
GATES = {"lstm": 4, "gru": 3, "rnn": 1, "peephole": 4, "mogrifier": 4}  # values that a cell makes for a unit
ACTIVATIONS = ("tanh", "relu")
INITIALIZERS = ("orthogonal", "glorot")
AT_FIRST = ("recurrent_initializer", "forget_bias")  # settings that act on a network before its first step alone
SETTLED = (*AT_FIRST, "sequence_length", "random_bptt", "subword_alpha", "valid_fraction", "seed")
"""Settings without which a run's position in the text means nothing: they stay when it is resumed."""
DIRECTIONS = ("forward", "backward", "both")
BACKWARD = "backward_"  # begins the names of the backward layers, where there are forward ones beside them
SAMPLERS = (  # in the order in which they are applied: what holds pieces down, what leaves them out, what flattens
    "penalties", "dry",
    "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "epsilon_cutoff", "eta_cutoff", "xtc",
    "temperature",
)  # fmt: skip

MAX_VOCAB_SIZE = 1 << 20
MAX_UNITS = 1 << 15
MAX_LAYERS = 64
MAX_ATTENTION = 1 << 13  # outputs that attention looks back on: they are part of every state
MAX_ROUNDS = 32
MAX_LOOK_BACK = 1 << 16  # pieces that a penalty remembers
MAX_BIAS = 100.0  # nats: enough to force or forbid a piece
MAX_NUMBER = 1 << 1000  # that is whole: it goes into a float, and prints in a line
SETTINGS_BYTES = 1 << 20  # of a TOML file at most


@dataclass(frozen=True)
class CorpusConfig:
    """How files become documents."""

    documents: str | None = None  # what one document is: file, blank-line or line; None lets textgen guess
    encoding: str = "utf-8"  # of the files; a byte-order mark is taken off
    newlines: str = "normalize"  # normalize: \r\n and \r become \n; keep: as they are
    text_field: str = "text"  # where the text is in a line of a .jsonl file
    text_column: str = "text"  # where the text is in a .csv or .tsv file
    delimiter: str | None = None  # between the fields of a .csv or .tsv file; None: the file's first lines decide
    no_header: bool = False  # a .csv or .tsv file begins with data; its columns are numbers, from 1 on
    strict: bool = False  # a record without text ends the reading; otherwise it is left out, and that is said
    labels: str | None = None  # column or field that holds a document's label, or folder: the name of the file's

    def __post_init__(self) -> None:
        if self.documents is not None:
            _one_of("documents", self.documents, DOCUMENT_MODES)
        _one_of("newlines", self.newlines, NEWLINES)
        _check_types(self)
        if self.labels == "":
            raise ConfigError("labels must be the name of a column or a field, or folder. Received: ''.")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ConfigError(
                "delimiter must be one character, such as ; or a tab, but no quote and no newline. "
                f"Received: {self.delimiter!r}."
            )


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes pieces."""

    tokenizer: str = "unigram"  # unigram, bpe, char, word (lossy: for word-level benchmarks) or byte
    vocab_size: int | None = None  # pieces, special ones included; None chooses from the corpus
    sample_bytes: int = 20_000_000  # at most so much of the corpus trains the vocabulary

    def __post_init__(self) -> None:
        _one_of("tokenizer", self.tokenizer, TOKENIZERS)
        if self.vocab_size is not None:
            _between("vocab_size", self.vocab_size, 4, MAX_VOCAB_SIZE)
        _between("sample_bytes", self.sample_bytes, 1, math.inf)
        _check_types(self)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the network."""

    vocab_size: int  # V: pieces in the vocabulary
    embedding_dim: int = 256  # E: numbers that stand for a piece
    hidden_units: int = 256  # H: units of each recurrent layer
    num_layers: int = 2  # L: recurrent layers, one on top of the other
    dropout: float = 0.2  # share of units silenced between layers and before the output, in training
    embedding_dropout: float = 0.1  # the same, of the embedding
    tie_embeddings: bool = True  # the output layer reads the embedding table instead of having its own
    cell: str = "lstm"  # what the recurrent layers are made of: lstm, gru, rnn, peephole or mogrifier
    reset_after: bool = True  # of a gru: the reset gate comes after the recurrent product, as in cuDNN and PyTorch
    activation: str = "tanh"  # of an rnn: tanh or relu
    mogrifier_rounds: int = 5  # of a mogrifier: how often input and memory act on one another before a step
    mogrifier_rank: int | None = None  # of the matrices between them; None: full
    residual: bool = False  # each layer adds to what it reads instead of replacing it
    layer_norm: bool = False  # each layer reads its input normalised
    attention: int = 0  # outputs that a causal head on top of the layers looks back on; 0: there is no head
    word_dropout: float = 0.0  # share of pieces whose whole embedding is silenced, in training
    weight_drop: float = 0.0  # share of the weights of the recurrent kernels that are silenced, in training
    direction: str = "forward"  # in which text is read: forward, backward or both; see `textgen.direction`

    def __post_init__(self) -> None:
        _between("vocab_size", self.vocab_size, 4, MAX_VOCAB_SIZE)
        _between("embedding_dim", self.embedding_dim, 1, MAX_UNITS)
        _between("hidden_units", self.hidden_units, 1, MAX_UNITS)
        _between("num_layers", self.num_layers, 1, MAX_LAYERS)
        for name in ("dropout", "embedding_dropout", "word_dropout", "weight_drop"):
            _between(name, getattr(self, name), 0.0, 0.95)
        _one_of("cell", self.cell, tuple(CELLS))
        _one_of("activation", self.activation, ACTIVATIONS)
        _one_of("direction", self.direction, DIRECTIONS)
        _between("mogrifier_rounds", self.mogrifier_rounds, 1, MAX_ROUNDS)
        if self.mogrifier_rank is not None:
            _between("mogrifier_rank", self.mogrifier_rank, 1, MAX_UNITS)
        _between("attention", self.attention, 0, MAX_ATTENTION)
        _check_types(self)
        if self.attention and self.direction == "both":
            raise ConfigError("attention goes with one direction: leave it out, or set direction forward or backward.")

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight, known without building the network."""
        embedding, hidden, vocab = self.embedding_dim, self.hidden_units, self.vocab_size
        shapes: dict[str, tuple[int, ...]] = {"embedding/table": (vocab, embedding)}
        for prefix in ("", BACKWARD)[: len(self.directions)]:
            for layer in range(self.num_layers):
                inputs, norm = embedding if layer == 0 else hidden, f"{prefix}norm_{layer}"
                if self.layer_norm:
                    shapes |= {f"{norm}/gamma": (inputs,), f"{norm}/beta": (inputs,)}
                cell = f"{prefix}{self.cell}_{layer}"
                shapes |= {f"{cell}/{part}": shape for part, shape in self.cell_shapes(inputs).items()}
        if self.attention:
            shapes |= {"attention/gamma": (hidden,), "attention/beta": (hidden,)}
            shapes |= {"attention/query": (hidden, hidden), "attention/output": (hidden, hidden)}
        if hidden != embedding:
            shapes["projection/kernel"] = (hidden, embedding)
            shapes["projection/bias"] = (embedding,)
        if not self.tie_embeddings:
            shapes["head/kernel"] = (embedding, vocab)
        shapes["head/bias"] = (vocab,)
        return shapes

    def cell_shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight of a recurrent layer that reads `inputs` numbers."""
        hidden, gates = self.hidden_units, GATES[self.cell] * self.hidden_units
        two_biases = self.cell == "gru" and self.reset_after
        shapes: dict[str, tuple[int, ...]] = {
            "kernel": (inputs, gates),
            "recurrent_kernel": (hidden, gates),
            "bias": (2, gates) if two_biases else (gates,),
        }
        if self.cell == "peephole":
            shapes["peepholes"] = (3, hidden)
        for number in range(1, self.mogrifier_rounds + 1 if self.cell == "mogrifier" else 1):
            ends = (hidden, inputs) if number % 2 else (inputs, hidden)
            if self.mogrifier_rank is None:
                shapes[f"round_{number}"] = ends
            else:
                shapes[f"round_{number}_left"] = (ends[0], self.mogrifier_rank)
                shapes[f"round_{number}_right"] = (self.mogrifier_rank, ends[1])
        return shapes

    @property
    def directions(self) -> tuple[str, ...]:
        """Forward, backward or both; the first is the one that is scored and writes."""
        return ("forward", "backward") if self.direction == "both" else (self.direction,)

    @property
    def num_parameters(self) -> int:
        """Numbers that training adjusts."""
        return sum(math.prod(shape) for shape in self.weight_shapes().values())


@dataclass(frozen=True)
class TrainingConfig:
    """How the network learns. The budget is `epochs`, `steps` or `minutes`; of several, what is spent first."""

    batch_size: int = 32  # B: streams of text read side by side
    accumulate: int = 1  # batches whose gradients make one update together, as one batch so many times as large would
    sequence_length: int = 64  # T: tokens that a gradient reaches back
    random_bptt: float = 0.0  # share of windows that are shorter, by lot; see `textgen.windows`
    carry_state: bool = True  # a window begins with the state after the one before it, not with zeros
    recurrent_initializer: str = "orthogonal"  # of fresh recurrent kernels: orthogonal or glorot
    forget_bias: float = 1.0  # where the biases of fresh forget gates begin; see `textgen.initialization`
    learning_rate: float = 3e-3  # peak of the schedule
    schedule: str = "cosine"  # how the learning rate goes on after warm-up and hold; see `textgen.schedules`
    warmup: float = 0.02  # share of the run in which the learning rate rises from 0
    hold: float = 0.0  # share of the run in which it then stays where the schedule begins
    final_learning_rate: float = 0.02  # where the schedule ends (triangular: begins, too), as a share of the peak
    decays: int = 3  # times that the step schedule lowers it, after stretches of equal length
    decay_factor: float = 0.5  # what step and plateau multiply it with each time
    plateau_patience: int = 1  # validations without a better score that plateau lets pass
    cycles: int = 4  # of the triangular schedule
    optimizer: str = "adamw"  # adamw, adam, sgd, asgd, rmsprop or lamb; see `textgen.optimizers`
    momentum: float = 0.0  # of sgd, asgd and rmsprop
    beta_1: float = 0.9  # memory of the mean gradient: adam, adamw, lamb
    beta_2: float = 0.99  # memory of the mean squared gradient: the same and rmsprop
    epsilon: float = 1e-8  # least divisor of the same
    nonmonotone: int = 5  # asgd averages from the first score that is worse than the best so many validations before
    average: str = "none"  # of the weights: none, ema or last-k; see `textgen.averaging`
    ema_decay: float = 0.999  # weight of a step in the mean, beside that of the step after it
    average_last: int = 5  # validations whose weights last-k takes the mean of
    weight_decay: float = 0.02  # on matrices only; with sgd, asgd, adam and rmsprop through the gradient
    activation_penalty: float = 0.0  # times the mean square of the last layer's outputs, added to the loss
    temporal_penalty: float = 0.0  # the same, of the steps between these outputs
    subword_alpha: float = 0.0  # how training text is cut into pieces by lot; 0: not at all; see `textgen.subwords`
    label_smoothing: float = 0.0  # share of each target that is spread over all pieces
    freeze: tuple[str, ...] = ()  # layers whose weights stay as they are, such as embedding or lstm_0
    clip_norm: float = 0.5  # gradients longer than this are shortened to it
    clip_value: float | None = None  # each number of a gradient is brought within it of 0; in the place of clip_norm
    epochs: float | None = None  # passes over the training text
    steps: int | None = None  # updates of the weights
    minutes: float | None = None  # wall-clock time; the schedule follows it to its end
    validations: int = 10  # how often in a run the held-out text is scored
    valid_tokens: int = 50_000  # of the held-out text that are scored each time; all of it at the end
    patience: int | None = 5  # validations without a better score before stopping; None never stops
    valid_fraction: float = 0.1  # share of the corpus held out
    label_dropout: float = 0.1  # share of labels that are withheld, so that the model can write without one, too
    save_minutes: float = 10.0  # a checkpoint at least so often; there is one at each validation, too
    keep_checkpoints: int = 2  # the newest ones; the best weights are kept besides
    max_rollbacks: int = 3  # times that a run goes back to a checkpoint before a fault ends it
    precision: str = "auto"  # of large matrix products; auto: the quickest on this processor; float16 scales its loss
    seed: int = 0  # of the weights, the order of documents and dropout

    def __post_init__(self) -> None:
        _between("batch_size", self.batch_size, 1, 1 << 16)
        _between("accumulate", self.accumulate, 1, 1 << 12)
        _between("sequence_length", self.sequence_length, 1, 1 << 16)
        _between("random_bptt", self.random_bptt, 0.0, 1.0)
        _one_of("recurrent_initializer", self.recurrent_initializer, INITIALIZERS)
        _between("forget_bias", self.forget_bias, -100.0, 100.0)
        _between("learning_rate", self.learning_rate, 0.0, 1e3)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("momentum", "beta_1", "beta_2"):
            _between(name, getattr(self, name), 0.0, 0.999999)
        _between("epsilon", self.epsilon, 1e-16, 1.0)
        _one_of("average", self.average, AVERAGES)
        _between("ema_decay", self.ema_decay, 0.0, 0.9999999)
        _between("average_last", self.average_last, 1, 1 << 10)
        _between("nonmonotone", self.nonmonotone, 1, 1 << 10)
        _between("warmup", self.warmup, 0.0, 1.0)
        _between("hold", self.hold, 0.0, 1.0)
        _between("final_learning_rate", self.final_learning_rate, 0.0, 1.0)
        _between("decays", self.decays, 1, 1 << 20)
        _between("decay_factor", self.decay_factor, 0.0, 1.0)
        _between("plateau_patience", self.plateau_patience, 0, 1 << 20)
        _between("cycles", self.cycles, 1, 1 << 20)
        _between("weight_decay", self.weight_decay, 0.0, 1e3)
        _between("activation_penalty", self.activation_penalty, 0.0, 1e3)
        _between("temporal_penalty", self.temporal_penalty, 0.0, 1e3)
        _between("subword_alpha", self.subword_alpha, 0.0, 1.0)
        _between("label_smoothing", self.label_smoothing, 0.0, 0.95)
        _between("clip_norm", self.clip_norm, 1e-12, math.inf)
        if self.clip_value is not None:
            _between("clip_value", self.clip_value, 1e-12, math.inf)
        for name in ("epochs", "steps", "minutes"):
            if getattr(self, name) is not None:
                _between(name, getattr(self, name), 1 if name == "steps" else 1e-9, 1e12)
        _between("validations", self.validations, 1, 1 << 20)
        _between("valid_tokens", self.valid_tokens, 1, 1 << 40)
        if self.patience is not None:
            _between("patience", self.patience, 1, 1 << 20)
        _between("label_dropout", self.label_dropout, 0.0, 1.0)
        _between("save_minutes", self.save_minutes, 0.0, math.inf)
        _between("keep_checkpoints", self.keep_checkpoints, 1, 1 << 20)
        _between("max_rollbacks", self.max_rollbacks, 0, 1 << 20)
        _between("valid_fraction", self.valid_fraction, 1e-6, 0.5)
        _between("seed", self.seed, 0, (1 << 63) - 1)
        _check_types(self)
        if self.optimizer == "asgd" and self.average != "none":
            raise ConfigError("The optimizer asgd averages by itself: leave out average, or choose sgd.")
        if self.schedule == "inverse-sqrt" and not self.warmup:
            raise ConfigError("The schedule inverse-sqrt is measured by its warm-up: set warmup above 0.")
        if self.schedule == "exponential" and not self.final_learning_rate:
            raise ConfigError("The schedule exponential never reaches 0: set final_learning_rate above 0.")

    @property
    def num_streams(self) -> int:
        """Streams of text that an update learns from: the rows of all batches that it accumulates."""
        return self.batch_size * self.accumulate


@dataclass(frozen=True)
class SamplingConfig:
    """How the next piece is drawn. Names and meanings are llama.cpp's, or transformers' where it lacks the setting."""

    temperature: float = 0.8  # below 1 is safer, above 1 is wilder, 0 always takes the likeliest piece
    top_k: int = 0  # draw from the k likeliest pieces only; 0 is off
    top_p: float = 1.0  # draw from the likeliest pieces that hold this much probability; 1 is off
    min_p: float = 0.05  # leave out pieces less likely than this share of the likeliest; 0 is off
    max_tokens: int = 500  # pieces at most, after the prompt
    max_seconds: float | None = None  # wall-clock time at most, the prompt's included; looked at after each piece
    stop: tuple[str, ...] = ()  # end before any of these texts
    until: str = "document"  # end with the document, or with the sentence, line or paragraph if that is earlier
    label: str | None = None  # write as texts with this label, one of those that the model was trained with
    heal: bool = True  # a prompt may end inside a piece: see `textgen.healing`
    seed: int | None = None  # the same seed gives the same text; None draws one
    top_logprobs: int | None = None  # report log probabilities, also of the N likeliest pieces; None reports none

    samplers: str = ";".join(SAMPLERS)  # which are applied, in this order; what is left out is off
    dynatemp_range: float = 0.0  # the temperature moves by up to this: lower where the model is sure; 0 is off
    dynatemp_exponent: float = 1.0  # how the entropy moves it: above 1 it rises late
    typical_p: float = 1.0  # draw from the pieces of most typical surprise that hold this probability; 1 is off
    top_n_sigma: float = 0.0  # leave out logits so many standard deviations below the highest; 0 is off
    epsilon_cutoff: float = 0.0  # leave out pieces less likely than this; 0 is off
    eta_cutoff: float = 0.0  # the same, but lower where the entropy is high; 0 is off
    xtc_probability: float = 0.0  # how often the likeliest pieces are left out; 0 is off
    xtc_threshold: float = 0.1  # they are those above this probability, but for the last of them
    mirostat: int = 0  # 1 or 2 steers to a steady surprise and takes the place of all that leave pieces out; 0 is off
    mirostat_tau: float = 5.0  # the surprise that it steers to, in bits a piece
    mirostat_eta: float = 0.1  # how fast

    repeat_penalty: float = 1.0  # divides the logits of pieces that came lately (multiplies below 0); 1 is off
    presence_penalty: float = 0.0  # subtracted from their logits
    frequency_penalty: float = 0.0  # subtracted as often as they came
    repeat_last_n: int = 64  # how many pieces back these three look
    dry_multiplier: float = 0.0  # penalty on a piece that prolongs a repetition; 0 is off
    dry_base: float = 1.75  # times this for each piece of a longer repetition
    dry_allowed_length: int = 2  # repetitions of fewer pieces are free
    dry_penalty_last_n: int = 1024  # how many pieces back it looks
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")  # no repetition goes beyond pieces with these
    no_repeat_ngram_size: int = 0  # no sequence of so many pieces comes twice in a text; 0 is off

    logit_bias: tuple[str, ...] = ()  # TEXT=NUMBER or #ID=NUMBER, added to the logit of that piece
    ban: tuple[str, ...] = ()  # texts that may not come about
    require: tuple[str, ...] = ()  # texts that must come before the text may end
    min_tokens: int = 0  # the document does not end before so many pieces
    no_copy: int | None = None  # no run of more pieces than this is taken from the training text; None is off

    def __post_init__(self) -> None:
        _between("temperature", self.temperature, 0.0, 100.0)
        _between("top_k", self.top_k, 0, MAX_VOCAB_SIZE)
        _between("top_p", self.top_p, 0.0, 1.0)
        _between("min_p", self.min_p, 0.0, 1.0)
        _between("max_tokens", self.max_tokens, 1, 1 << 62)
        if self.max_seconds is not None:
            _between("max_seconds", self.max_seconds, 0.0, 1e9)
        _one_of("until", self.until, UNITS)
        if self.top_logprobs is not None:
            _between("top_logprobs", self.top_logprobs, 0, MAX_VOCAB_SIZE)
        if self.seed is not None:
            _between("seed", self.seed, 0, (1 << 63) - 1)
        _between("dynatemp_range", self.dynatemp_range, 0.0, 100.0)
        _between("dynatemp_exponent", self.dynatemp_exponent, 0.0, 100.0)
        _between("typical_p", self.typical_p, 0.0, 1.0)
        _between("top_n_sigma", self.top_n_sigma, 0.0, 1e3)
        _between("epsilon_cutoff", self.epsilon_cutoff, 0.0, 1.0)
        _between("eta_cutoff", self.eta_cutoff, 0.0, 1.0)
        _between("xtc_probability", self.xtc_probability, 0.0, 1.0)
        _between("xtc_threshold", self.xtc_threshold, 0.0, 1.0)
        _between("mirostat", self.mirostat, 0, 2)
        _between("mirostat_tau", self.mirostat_tau, 0.0, 100.0)
        _between("mirostat_eta", self.mirostat_eta, 0.0, 1.0)
        _between("repeat_penalty", self.repeat_penalty, 0.01, 100.0)
        _between("presence_penalty", self.presence_penalty, -100.0, 100.0)
        _between("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        _between("repeat_last_n", self.repeat_last_n, 0, MAX_LOOK_BACK)
        _between("dry_multiplier", self.dry_multiplier, 0.0, 100.0)
        _between("dry_base", self.dry_base, 1.0, 100.0)
        _between("dry_allowed_length", self.dry_allowed_length, 1, MAX_LOOK_BACK)
        _between("dry_penalty_last_n", self.dry_penalty_last_n, 0, MAX_LOOK_BACK)
        _between("no_repeat_ngram_size", self.no_repeat_ngram_size, 0, MAX_LOOK_BACK)
        _between("min_tokens", self.min_tokens, 0, 1 << 62)
        if self.no_copy is not None:
            _between("no_copy", self.no_copy, 1, 1 << 62)
        _check_types(self)
        sampler_names(self.samplers)
        for name in ("stop", "ban", "require", "dry_sequence_breakers", "logit_bias"):
            _whole_text(name, *getattr(self, name))
        if self.label is not None:
            _whole_text("label", self.label)
        for entry in self.logit_bias:
            parse_bias(entry)
        for name in ("stop", "ban", "require", "dry_sequence_breakers"):
            if "" in getattr(self, name):
                raise ConfigError(f"{name} holds an empty text, which stands everywhere: leave it out.")
        if self.min_tokens > self.max_tokens:
            raise ConfigError(f"min_tokens ({self.min_tokens:,}) is more than max_tokens ({self.max_tokens:,}).")
        for text in self.require:
            for banned in self.ban:
                if banned in text:
                    raise ConfigError(f"A text cannot contain {text!r} (require) but not {banned!r} (ban).")


@dataclass(frozen=True)
class SearchConfig:
    """How likely texts are looked for, instead of drawn. Names and meanings are transformers'."""

    num_beams: int = 4  # texts that are followed side by side
    num_beam_groups: int = 1  # groups of beams, each of which avoids what those before it write
    diversity_penalty: float = 0.5  # nats off a piece for each beam of the groups before that takes it in this step
    length_penalty: float = 1.0  # a text counts its log probability / length^this: above 0 favours longer ones

    def __post_init__(self) -> None:
        _between("num_beams", self.num_beams, 1, 1 << 10)
        _between("num_beam_groups", self.num_beam_groups, 1, 1 << 10)
        _between("diversity_penalty", self.diversity_penalty, 0.0, 1e3)
        _between("length_penalty", self.length_penalty, -10.0, 10.0)  # length^10 is finite for any length
        if self.num_beams % self.num_beam_groups:
            raise ConfigError(
                f"num_beams ({self.num_beams}) must be a multiple of num_beam_groups ({self.num_beam_groups})."
            )
        _check_types(self)


@dataclass(frozen=True)
class CacheConfig:
    """The neural cache; see `textgen.cache`."""

    cache_window: int = 500  # pieces that it remembers
    cache_theta: float = 0.3  # how much more a state counts that is more alike; 0: all count the same
    cache_lambda: float = 0.1  # its share of the probability

    def __post_init__(self) -> None:
        _between("cache_window", self.cache_window, 1, MAX_LOOK_BACK)
        _between("cache_theta", self.cache_theta, 0.0, 100.0)
        _between("cache_lambda", self.cache_lambda, 0.0, 0.999)
        _check_types(self)


@dataclass(frozen=True)
class DynamicConfig:
    """Dynamic evaluation; see `textgen.dynamic`."""

    dynamic_learning_rate: float = 0.1  # of the steps from window to window
    dynamic_decay: float = 0.001  # share of the way back to the trained weights that each step goes
    dynamic_window: int = 16  # tokens that a step learns from
    dynamic_clip_norm: float = 1.0  # gradients longer than this are shortened to it
    dynamic_rms: bool = False  # each weight steps by the size of its own gradients so far

    def __post_init__(self) -> None:
        _between("dynamic_learning_rate", self.dynamic_learning_rate, 0.0, 1e3)
        _between("dynamic_decay", self.dynamic_decay, 0.0, 1.0)
        _between("dynamic_window", self.dynamic_window, 1, 1 << 16)
        _between("dynamic_clip_norm", self.dynamic_clip_norm, 1e-12, math.inf)
        _check_types(self)


@dataclass(frozen=True)
class TuningConfig:
    """How the state that texts begin in is trained; see `textgen.tuning`."""

    steps: int = 500  # at most
    learning_rate: float = 0.1  # of Adam
    seed: int = 0  # of the order of windows

    def __post_init__(self) -> None:
        _between("steps", self.steps, 1, 1 << 40)
        _between("learning_rate", self.learning_rate, 0.0, 1e3)
        _between("seed", self.seed, 0, (1 << 63) - 1)
        _check_types(self)


def sampler_names(text: str) -> tuple[str, ...]:
    """The names in a `samplers` setting, as `SAMPLERS` has them. Raises `ConfigError`."""
    names = tuple(name.strip().replace("-", "_") for name in re.split("[;,]", text) if name.strip())
    for name in names:
        if name not in SAMPLERS:
            raise ConfigError(f"There is no sampler {name!r}. There are: {', '.join(SAMPLERS)}.")
        if names.count(name) > 1:
            raise ConfigError(f"samplers has {name} more than once: each is applied once.")
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
            f"logit_bias must be TEXT=NUMBER or #ID=NUMBER, the number from -{MAX_BIAS:g} to {MAX_BIAS:g}. "
            f"Received: {entry!r}."
        )
    return int(text[1:]) if re.fullmatch("#[0-9]+", text) else text, bias


Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain values, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The config that `to_dict` wrote. Raises `ConfigError` for an unknown or missing key or a wrong type."""
    fields = _fields(kind)
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(f"{kind.__name__} has no setting {shown(name)}. It has: {', '.join(fields)}.")
        _of_type(name, value, str(fields[name].type))
    try:
        return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    except TypeError as error:
        raise ConfigError(f"{kind.__name__}: {error}.") from None


def select(kind: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the flat `settings` that belong to `kind`."""
    return {name: value for name, value in settings.items() if name in _fields(kind)}


def read_toml(path: str | Path) -> dict[str, Any]:
    """Flat settings from a TOML file such as `hidden_units = 512`. Raises `ConfigError`."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(SETTINGS_BYTES + 1)
        if len(data) > SETTINGS_BYTES:
            raise ValueError(f"it has more than the {SETTINGS_BYTES:,} bytes that a file of settings can have")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the settings in {path}: {error.strerror or error}.") from None
    except RecursionError:
        raise ConfigError(f"Cannot read the settings in {path}: tables or lists are nested too deep.") from None
    except ValueError as error:  # no UTF-8, no TOML, or a number of thousands of digits
        raise ConfigError(f"Cannot read the settings in {path}: {str(error).removesuffix('.')}.") from None


def _fields(kind: Any) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(kind)}


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}. Received: {shown(value)}.")


def _between(name: str, value: float, low: float, high: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (isinstance(value, int) and value > MAX_NUMBER):
        limits = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ConfigError(f"{name} must be a number {limits}. Received: {shown(value)}.")


def _whole_text(name: str, *texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{name} must be valid text. Received: {text!r}, which holds half a character (a lone surrogate)."
            ) from None


def _check_types(config: Any) -> None:
    """Checks the value of each field against its annotation, such as `int | None`."""
    for name, field in _fields(config).items():
        _of_type(name, getattr(config, name), str(field.type))


def _of_type(name: str, value: object, annotation: str) -> None:
    allowed: dict[str, tuple[type, ...]] = {
        "str": (str,), "int": (int,), "float": (int, float), "bool": (bool,),
        "None": (type(None),), "tuple[str, ...]": (list, tuple),
    }  # fmt: skip
    kinds = tuple(kind for part in annotation.split(" | ") for kind in allowed[part])
    wrong_item = isinstance(value, (list, tuple)) and any(not isinstance(item, str) for item in value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds) or wrong_item:
        raise ConfigError(f"{name} must be {annotation}. Received: {shown(value)}.")


def shown(value: object) -> str:
    """A wrong value as far as it goes into a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        return f"{type(value).__name__} of great size"
    return text if len(text) <= 200 else f"{text[:200]}..."
