"""Compressing a saved model: its weights in fewer bytes, after measuring the loss of accuracy.

On a text it is the rise of bits per byte. Without one, the model writes a text itself, with a fixed seed, and the
distributions of the next token before and after are compared: since the text is drawn from the first, the mean
Kullback-Leibler divergence is the rise of bits per token on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textgen.errors import SavedModelError
from textgen.evaluation.scoring import Score, Scorer
from textgen.model.directions import one_way
from textgen.model.numpy_model import NumpyModel
from textgen.model.probabilities import log_softmax
from textgen.model.rounding import spread
from textgen.saved_model.creation import check_place
from textgen.saved_model.layout import CARD, FLOAT32, INT8, NGRAMS, TRAINING, training_bytes
from textgen.saved_model.model_card import model_card
from textgen.saved_model.precision import compressed, restored
from textgen.saved_model.saved_model import ModelFolder, load_model
from textgen.saved_model.saving import FILTER_BYTES, model_files, save_model
from textgen.storage.addresses import without_secrets
from textgen.storage.files import write_own_file
from textgen.storage.folders import new_folder

LIMIT = 0.005  # maximum share of additional bits
ROWS, STEPS = 32, 64  # number of texts that the model writes, and of tokens in each
SEED = 20
ONLY_FOR_RESUMING = ("tokens", "files", "signature")  # fields of training.json
PART, PARTS = 1000, 32  # characters in a part that is scored at a time, and maximum number of parts


@dataclass(frozen=True)
class Cost:
    """What compressing costs on some text.

    Attributes:
        unit: "byte" if the text was given, "token" if the model wrote it.
        before: Bits per unit of the model as it is.
        after: Bits per unit of the compressed model.
        tokens: Number of tokens measured.
        same_top: Share of tokens where the likeliest one stays the same; None if the text was given.
    """

    unit: str
    before: float
    after: float
    tokens: int
    same_top: float | None = None

    @property
    def share(self) -> float:
        """The rise of bits as a share of the bits before; infinite if a weight is lost."""
        rise = self.after - self.before
        return rise / self.before if self.before > 0 else math.inf if rise > 0 else 0.0

    def __str__(self) -> str:
        return f"{max(100 * self.share, 0):.2g} % more bits per {self.unit} ({self.before:.4f} -> {self.after:.4f})"


def cost_of(saved: ModelFolder, precision: str, texts: Iterable[str] | None = None) -> Cost:
    """Measures what storing the weights of a model in a precision costs.

    Args:
        saved: The model; it stays as it is.
        precision: "float16" or "int8".
        texts: Documents to measure on, of which the beginning is read. By default the model writes them.

    Returns:
        The cost; for a network of both directions that of the one where it is larger.

    Raises:
        SavedModelError: The model is compressed already, a weight is too large for float16, or there is no text.
    """
    if saved.precision != FLOAT32:
        raise SavedModelError(
            f"{saved.folder} is stored as {saved.precision} already, and its full weights are not in it: compress a "
            "model in float32. If the checkpoints are there, a resumed run saves float32 again once it finds better "
            "weights."
        )
    before = saved.weights()
    after = restored(compressed(before, precision), precision)
    parts = None if texts is None else list(_parts(texts))
    if parts is not None and not any(part.strip() for part in parts):
        raise SavedModelError("There is no text to measure on: name a file with text.")
    return max(
        (_cost_in(direction, saved, before, after, parts) for direction in saved.model_config.directions),
        key=lambda cost: cost.share,
    )


def checked_cost(
    saved: ModelFolder, precision: str, texts: Iterable[str] | None = None, *, accept_loss: bool = False
) -> Cost:
    """Measures what storing the weights of a model in a precision costs, and refuses a cost above `LIMIT`.

    Args:
        saved: The model; it stays as it is.
        precision: "float16" or "int8".
        texts: Documents to measure on; see `cost_of`.
        accept_loss: Whether any cost is accepted.

    Returns:
        The cost.

    Raises:
        SavedModelError: The cost is too high, or cannot be measured.
    """
    cost = cost_of(saved, precision, texts)
    if not cost.share <= LIMIT and not accept_loss:  # nor if it is not a number
        raise SavedModelError(
            f"{saved.name} was left as it is: as {precision} it needs {cost}, and the limit is {100 * LIMIT:g} %. "
            + (
                "Set precision to float16, or use accept_loss."
                if precision == INT8
                else "Use accept_loss to compress it."
            )
        )
    return cost


def compress(saved: ModelFolder, precision: str) -> None:
    """Stores the weights of a model in a precision, in its folder. Checkpoints stay as they are.

    Args:
        saved: The model. Hold its folder with `textgen.storage.locks.locked`.
        precision: "float16" or "int8".
    """
    configs = (saved.model_config, saved.tokenizer_config, saved.corpus_config)
    save_model(saved.folder, saved.weights(), *configs, saved.tokenizer, precision)
    _write_card(saved.folder)


def compressed_copy(saved: ModelFolder, target: Path, precision: str, *, with_index: bool = True) -> None:
    """Makes a model of the same weights in a precision, without checkpoints and logs.

    The record of the training keeps the names of the text's files, and not where they were.

    Args:
        saved: The model.
        target: Folder of the new model.
        precision: "float16" or "int8".
        with_index: Whether the copy gets the n-gram index of the training text, if the model has one.

    Raises:
        SavedModelError: The name of the folder is not allowed for a model, or it lies in the folder of another model.
        TextgenError: The folder exists, or cannot be written.
    """
    check_place(target)
    configs = (saved.model_config, saved.tokenizer_config, saved.corpus_config)
    written = model_files(saved.weights(), *configs, saved.tokenizer, precision)
    others = [name for name in saved.files if name not in written and (with_index or name != NGRAMS)]
    record = record_of_copy(saved.training) if saved.training else saved.record
    if saved.training:
        written[TRAINING] = training_bytes(record)
    written[CARD] = model_card(target.name, record | {"precision": precision}).encode()
    with new_folder(target, replace=False, unlisted=(TRAINING, CARD)) as folder:
        for name, data in written.items():
            write_own_file(folder / name, data)
        for name in others:
            write_own_file(folder / name, saved.read_file(name, FILTER_BYTES))


# === Measuring ===


def _cost_in(
    direction: str,
    saved: ModelFolder,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    parts: list[str] | None,
) -> Cost:
    """The cost in one direction of the network."""
    models = [NumpyModel(*one_way(saved.model_config, weights, direction)) for weights in (before, after)]
    if parts is None:
        return _cost_on_own_text(models[0], models[1], saved)
    totals = []
    for model in models:
        scores = Scorer(model, saved.tokenizer, direction).scores(parts, ends=False)
        totals.append(sum((score.total for score in scores), Score()))
    return Cost("byte", totals[0].bits_per_byte, totals[1].bits_per_byte, totals[0].tokens)


def _cost_on_own_text(model: NumpyModel, other: NumpyModel, saved: ModelFolder) -> Cost:
    """The cost on texts that `model` writes, from the beginning of a document, with different labels if it has any."""
    random = np.random.default_rng(SEED)
    *read, last = spread(saved.tokenizer.openings, ROWS).T
    state, other_state = (_after(read, each) for each in (model, other))
    ids = last
    entropy = crossed = same = 0.0
    for _ in range(STEPS):
        logits, state = model.step(ids, state)
        other_logits, other_state = other.step(ids, other_state)
        for each in (logits, other_logits):
            each[:, saved.tokenizer.never_written] = -1e9
        p, q = log_softmax(logits.astype(np.float64)), log_softmax(other_logits.astype(np.float64))
        entropy -= float((np.exp(p) * p).sum())
        crossed -= float((np.exp(p) * q).sum())
        same += float((p.argmax(axis=1) == q.argmax(axis=1)).sum())
        ids = (p + random.gumbel(size=p.shape)).argmax(axis=1).astype(np.int32)
    tokens = ROWS * STEPS
    bits = tokens * math.log(2)
    return Cost("token", entropy / bits, crossed / bits, tokens, same / tokens)


def _after(read: list[np.ndarray], model: NumpyModel) -> Any:
    """The state after some ids [B] each."""
    state = model.initial_state(ROWS)
    return model.read(np.stack(read, axis=1), state) if read else state


def _parts(texts: Iterable[str]) -> Iterator[str]:
    """The first `PART` x `PARTS` characters of documents in parts of at most `PART`, which can be read side by side."""
    left = PART * PARTS
    for text in texts:
        text = text[:left]
        for start in range(0, len(text), PART):
            yield text[start : start + PART]
        left -= len(text)
        if not left:
            return


# === Writing ===


def _write_card(folder: Path) -> None:
    """Writes the model card again, since it says how the weights are stored."""
    saved = load_model(str(folder.absolute()))
    write_own_file(folder / CARD, model_card(folder.name, saved.record).encode())


def record_of_copy(training: Mapping[str, Any]) -> dict[str, Any]:
    """training.json without what only resuming reads, and without paths."""
    corpus = dict(training["corpus"])
    corpus["paths"] = [Path(without_secrets(path)).name for path in corpus["paths"]]
    if corpus.get("valid"):
        corpus["valid"] = [Path(without_secrets(path)).name for path in corpus["valid"]]
    left = {name: value for name, value in training.items() if name not in ONLY_FOR_RESUMING}
    if not str(training.get("state", "")).startswith("finished"):
        left.pop("state", None)
    return left | {"corpus": corpus}
