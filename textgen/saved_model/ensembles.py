"""Saved models that predict a text together: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from textgen.errors import ConfigError
from textgen.saved_model.saved_model import ModelFolder
from textgen.wording import Say


def check_vocabularies(saved: ModelFolder, others: Sequence[ModelFolder]) -> None:
    """Checks that the probabilities of models can be averaged.

    Args:
        saved: One model.
        others: The models that are averaged with it.

    Raises:
        ConfigError: One of them has another vocabulary.
    """
    for other in others:
        if other.tokenizer.serialized != saved.tokenizer.serialized:
            raise ConfigError(
                f"{other.name} and {saved.name} have different vocabularies, so their probabilities cannot be "
                "averaged: train one with the vocabulary of the other, which tokenizer_from names."
            )


def say_other_documents(others: Sequence[ModelFolder], mode: str, say: Say) -> None:
    """Says which models were trained on text cut into documents in another way than the text to score.

    Args:
        others: The models.
        mode: Document mode of the text.
        say: Called with a line of text for each.
    """
    for other in others:
        if (own := other.corpus_config.documents) not in (None, mode):
            say(
                f"{other.name} was trained with documents by {own}, but this text is cut by {mode}: that model may "
                "predict it worse."
            )
