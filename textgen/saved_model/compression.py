"""Compressing a saved model: its weights in fewer bytes, after measuring the loss of accuracy.

On a text it is the rise of bits per byte. Without one, the model writes a text itself, with a fixed seed, and the
distributions of the next token before and after, p and q, are compared: since the text is drawn from p, the mean
Kullback-Leibler divergence D(p‖q) is the rise of bits per token on it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from textgen.errors import SavedModelError
from textgen.evaluation.scoring import Score, Scorer
from textgen.model.directions import one_way
from textgen.model.numpy_model import NumpyModel
from textgen.model.prediction_change import PredictionChange, compared_on_own_text
from textgen.saved_model.creation import check_place
from textgen.saved_model.folder_contents import has_file
from textgen.saved_model.layout import (
    CARD,
    CARD_BYTES,
    FILTER_BYTES,
    FLOAT32,
    INT8,
    NGRAMS,
    TRAINING,
    WORDS,
    read_bytes,
    shown_record,
    training_bytes,
)
from textgen.saved_model.loading import load_model
from textgen.saved_model.model_card import card_file, card_line
from textgen.saved_model.precision import compressed, restored
from textgen.saved_model.run_status import is_finished
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import (
    edited_card,
    keeps_card,
    model_files,
    save_model,
    saved_attribution,
    write_card,
)
from textgen.storage.files import write_own_file
from textgen.storage.folders import new_folder
from textgen.storage.leftovers import sweep
from textgen.storage.manifests import PENDING, update_folder
from textgen.wording import plain

log = logging.getLogger(__name__)

CARD_ADVICE = (
    "The weights are stored as {} already: free some space if it is needed, and compress the model again to renew the "
    "card."
)
MAX_RISE = 0.005  # maximum fraction of additional bits
SEED = 20  # of the text that a model writes
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
        change: The change of the predictions; None if the text was given.
    """

    unit: str
    before: float
    after: float
    tokens: int
    change: PredictionChange | None = None

    @property
    def rise(self) -> float:
        """The rise of bits as a fraction of the bits before; infinite if a weight is lost."""
        rise = self.after - self.before
        return rise / self.before if self.before > 0 else math.inf if rise > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields by name, with those of the change, which are None if the text was given."""
        change = self.change.to_dict() if self.change else dict.fromkeys(each.name for each in fields(PredictionChange))
        return {"cost_unit": self.unit, "before": self.before, "after": self.after} | change | {"tokens": self.tokens}

    def __str__(self) -> str:
        return (
            f"{plain(max(100 * self.rise, 0.0), 2)} % more bits per {self.unit} ({self.before:.4f} -> {self.after:.4f})"
        )


def unknown_cost() -> dict[str, None]:
    """The names of `Cost.to_dict` without values, where the full weights are gone."""
    return dict.fromkeys(Cost("token", 0.0, 0.0, 0).to_dict())


def cost_of(saved: ModelFolder, precision: str, texts: Iterable[str] | None = None) -> Cost:
    """Measures what storing the weights of a model in a precision costs.

    Args:
        saved: The model; it stays as it is.
        precision: "float16" or "int8".
        texts: Documents to measure on, of which the beginning is read. By default the model writes them.

    Returns:
        The cost; for a network of both directions that of the one where it is larger.

    Raises:
        SavedModelError: The model is compressed already, a weight is too large for the precision, or there is no text.
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
        key=lambda cost: cost.rise,
    )


def checked_cost(
    saved: ModelFolder, precision: str, texts: Iterable[str] | None = None, *, accept_loss: bool = False
) -> Cost:
    """Measures what storing the weights of a model in a precision costs, and refuses a cost above `MAX_RISE`.

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
    if not cost.rise <= MAX_RISE and not accept_loss:  # nor if it is not a number
        raise SavedModelError(
            f"{saved.name} was left as it is: as {precision} it needs {cost}, and the limit is "
            f"{plain(100 * MAX_RISE)} %. "
            + (
                "Set precision to float16, or use accept_loss."
                if precision == INT8
                else "Use accept_loss to compress it."
            )
        )
    return cost


def compress(saved: ModelFolder, precision: str) -> None:
    """Stores the weights of a model in a precision, in its folder. Checkpoints and a card that was edited stay.

    Args:
        saved: The model. Hold its folder with `textgen.storage.locks.locked`.
        precision: "float16" or "int8".

    Raises:
        SavedModelError: A weight is too large for float16, or the files are damaged.
        CannotWrite: The folder cannot be written or is full.
        Gone: As of `save_model`.
    """
    is_kept = keeps_card(saved.folder, saved.record)
    save_model(saved.folder, saved.weights(), *saved.model_configs, saved.tokenizer, precision)
    if not is_kept:
        _write_card(load_model(str(saved.folder.absolute())))


def finish_compressing(saved: ModelFolder) -> bool:
    """Finishes what `compress` has left that was killed, or whose disk was full, after it had stored the weights.

    The new files get their names, and the card says how the weights are stored. A card that was edited stays.

    Args:
        saved: The compressed model. Hold its folder with `textgen.storage.locks.locked`.

    Returns:
        Whether anything was left.

    Raises:
        TextgenError: The folder cannot be written.
    """
    folder = saved.folder
    is_pending = any(has_file(folder, f"{name}{PENDING}") for name in saved.files)
    if is_pending:
        sweep(folder)
        update_folder(folder, {})
    line = card_line(saved.precision).encode()
    has_card = has_file(folder, CARD)
    if not has_card and not is_pending:
        return False  # somebody has removed it; no card is no sign of an interruption
    says_it = has_card and line in read_bytes(folder / CARD, CARD_BYTES)
    if says_it or keeps_card(folder, saved.record):
        return is_pending
    _write_card(saved)
    return True


def compressed_copy(saved: ModelFolder, target: Path, precision: str, *, with_index: bool = True) -> None:
    """Makes a model of the same weights in a precision, without checkpoints and logs.

    The record of the training keeps the names of the text's files, and not where they were. The card is that of the
    model if a person has changed it.

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
    written = model_files(saved.weights(), *saved.model_configs, saved.tokenizer, precision)
    others = [name for name in (NGRAMS, WORDS) if name in saved.files and (with_index or name != NGRAMS)]
    record = record_of_copy(saved.training) if saved.training else saved.record
    if saved.training:
        written[TRAINING] = training_bytes(record)
    card = edited_card(saved.folder, saved.record)
    if card is not None:
        log.warning("%s is not as textgen wrote it, so %s gets it unchanged.", saved.folder / CARD, target.name)
    if card is None:
        card = card_file(target.name, record | {"precision": precision}, saved_attribution(saved.folder))
    written[CARD] = card
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
    tokenizer = saved.tokenizer
    found = compared_on_own_text(model, other, tokenizer.openings, tokenizer.never_written, SEED)
    before, after = (
        nats / math.log(2) for nats in (found.entropy_nats, found.entropy_nats + found.change.divergence_nats)
    )
    return Cost("token", before, after, found.change.tokens, found.change)


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


def _write_card(saved: ModelFolder) -> None:
    """Writes the model card again, since it says how the weights are stored."""
    card = card_file(saved.folder.name, saved.record, saved_attribution(saved.folder))
    write_card(saved.folder, card, CARD_ADVICE.format(saved.precision))


def record_of_copy(training: Mapping[str, Any]) -> dict[str, Any]:
    """training.json without what only resuming reads, and without paths."""
    corpus = shown_record(training)["corpus"]
    for name in ("paths", "valid"):
        if corpus.get(name):
            corpus[name] = [Path(path).name for path in corpus[name]]
    left = {name: value for name, value in training.items() if name not in ONLY_FOR_RESUMING}
    if not is_finished(training):
        left.pop("status", None)
    return left | {"corpus": corpus}
