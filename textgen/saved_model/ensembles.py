"""Saved models that predict a text together: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

from textgen.errors import ConfigError
from textgen.saved_model.saved_model import ModelFolder
from textgen.wording import Say, counted, with_escapes

if TYPE_CHECKING:
    from textgen.dataset.ngram_index import NgramIndex
    from textgen.dataset.word_filter import WordFilter


def check_ensemble(saved: ModelFolder, others: Sequence[ModelFolder]) -> None:
    """Checks that the probabilities of models can be averaged.

    Args:
        saved: One model.
        others: The models that are averaged with it.

    Raises:
        ConfigError: One of them has another vocabulary, or does not read in the main direction of the first.
    """
    for other in others:
        if other.tokenizer.serialized != saved.tokenizer.serialized:
            raise ConfigError(
                f"{other.name} and {saved.name} have different vocabularies, so their probabilities cannot be "
                "averaged: train one with the vocabulary of the other, which tokenizer_from names."
            )
        if saved.main_direction not in other.model_config.directions:
            raise ConfigError(
                f"{other.name} reads text {other.model_config.direction} only, but a model that reads "
                f"{saved.main_direction} is needed, as {saved.name} does: leave it out."
            )


def common_words(models: Sequence[ModelFolder]) -> WordFilter | None:
    """Reads the filter of the words of all training texts.

    Args:
        models: The models, at least one.

    Returns:
        The filter; None if a model has none, so that it may coin words.

    Raises:
        SavedModelError: A file is damaged.
    """
    found = [filter_ for model in models if (filter_ := model.words()) is not None]
    return reduce(lambda one, other: one.with_other(other), found) if len(found) == len(models) else None


def common_index(models: Sequence[ModelFolder]) -> NgramIndex | None:
    """Reads the index of the n-grams of all training texts.

    Args:
        models: The models, at least one.

    Returns:
        The index; None if a model has none.

    Raises:
        ConfigError: Their n-grams differ in length.
        SavedModelError: A file is damaged.
    """
    if not all(model.has_ngrams for model in models):
        return None
    found = [model.ngrams() for model in models]
    for model, index in zip(models, found, strict=True):
        if index.ngram != found[0].ngram:
            raise ConfigError(
                f"The indexes of the training texts of {models[0].name} and {model.name} contain runs of "
                f"{found[0].ngram} and of {counted(index.ngram, 'token')}, so copies of both cannot be detected "
                "together: leave out no_copy and novelty, or one of the models."
            )
    return reduce(lambda one, other: one.with_other(other), found)


def say_other_documents(others: Sequence[ModelFolder], mode: str, say: Say) -> None:
    """Says which models were trained on text cut into documents in another way than the text to score.

    Args:
        others: The models.
        mode: Document mode of the text, as `Corpus.mode_as_read`.
        say: Called with a line of text for each.
    """
    for other in others:
        config = other.corpus_config
        if config.documents and (own := config.as_read(config.documents)) != mode:
            say(
                f"{other.name} was trained with documents by {with_escapes(own)}, but this text is cut by "
                f"{with_escapes(mode)}: that model may predict it worse."
            )
