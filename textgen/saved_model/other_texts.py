"""Other texts than that of the training: opened as a model reads them, and scored by it or by several models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen.corpus.config import ignoring_labels
from textgen.corpus.corpus import Corpus
from textgen.saved_model.ensembles import check_ensemble, say_other_documents
from textgen.saved_model.saved_model import ModelFolder
from textgen.system.runtime import load_tensorflow
from textgen.wording import Say

if TYPE_CHECKING:
    from textgen.dataset.token_stream import TokenStream
    from textgen.model.language_model import LanguageModel


def opened_text(saved: ModelFolder, paths: Sequence[str | Path], settings: Mapping[str, Any], note: Say) -> Corpus:
    """Opens a text for a saved model, with the settings of `ModelFolder.reading`.

    Args:
        saved: The model.
        paths: Files, folders, globs, or - for standard input.
        settings: Settings of `CorpusConfig` that replace those of the training.
        note: Called with a line about what is skipped, for each.

    Returns:
        The text.

    Raises:
        CorpusError: The text cannot be read, or has none of the labels that `settings` asks for.
        ConfigError: A setting is unknown, or a value is not allowed.
    """
    text = Corpus(paths, saved.reading(settings))
    text.say_findings(note, documents_given=settings.get("documents") is not None)
    if settings.get("labels"):
        text.labels()  # raises if the text has none
    return text


def text_to_score(
    saved: ModelFolder,
    others: Sequence[ModelFolder],
    paths: Sequence[str | Path],
    settings: Mapping[str, Any],
    label: str | None,
    note: Say,
) -> Corpus:
    """Opens a text that models score together, and checks that they can: see `scoring`.

    Args:
        saved: The first model, whose settings of reading are taken.
        others: The models whose probabilities are averaged with its own.
        paths: As of `opened_text`.
        settings: As of `opened_text`.
        label: The label that all documents are given. Their own are then not read.
        note: Called with each line about what is skipped, and about models of texts that were cut in another way.

    Returns:
        The text.

    Raises:
        CorpusError: The text cannot be read, or has none of the labels that `settings` asks for.
        ConfigError: A setting is not allowed, the model does not know the label, or a model has another vocabulary or
            does not read in the direction of the first.
    """
    check_ensemble(saved, others)
    saved.tokenizer.opening(label)  # raises before the slow part
    text = opened_text(saved, paths, settings if label is None else ignoring_labels(settings), note)
    say_other_documents(others, text.mode_as_read, note)
    return text


@contextmanager
def scoring(
    saved: ModelFolder,
    others: Sequence[ModelFolder],
    text: Corpus,
    label: str | None,
    *,
    adapts: bool,
    note: Say,
) -> Iterator[tuple[list[LanguageModel], TokenStream]]:
    """Loads the networks of models, and encodes a text of `text_to_score` for them while the block runs.

    Args:
        saved: The first model.
        others: The models whose probabilities are averaged with its own.
        text: The text.
        label: As of `text_to_score`.
        adapts: Whether they have a neural cache or learn from the text, for which they must read in one direction.
        note: Called with each line about parts of the text that are left out.

    Yields:
        The networks, that of `saved` first, and the tokens.

    Raises:
        CorpusError: There is no text.
        SavedModelError: Weights are damaged.
    """
    from textgen.dataset.token_cache import encoded

    text.require_text()
    load_tensorflow()
    direction = saved.main_direction if adapts or others else None
    networks = [each.network(direction) for each in (saved, *others)]  # before a training can save them anew
    with encoded(text, saved.tokenizer, label) as stream:
        text.say_left_out(note)
        yield networks, stream
