"""Saved models that predict a text together: which can, and what of their training texts they share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.dataset.ngram_index import NgramIndex
from textgen.dataset.word_filter import WordFilter
from textgen.errors import ConfigError
from textgen.model.config import ModelConfig
from textgen.saved_model.ensembles import check_ensemble, common_index, common_words
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model, save_ngrams, save_words
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

EOS = 1


def saved(folder: Path, name: str, vocabulary: Tokenizer, direction: str = "forward") -> Path:
    config = ModelConfig(vocabulary.vocab_size, embedding_dim=3, hidden_units=4, direction=direction)
    corpus = CorpusConfig(documents="line")
    save_model(folder / name, random_weights(config), config, TokenizerConfig("char"), corpus, vocabulary)
    return folder / name


def index_of(*ids: int, ngram: int = 3) -> NgramIndex:
    return NgramIndex.build([np.array([*ids, EOS], np.int32)], ngram, 100, EOS)


@pytest.fixture
def both(tmp_path: Path, tokenizer: Tokenizer) -> list[Path]:
    return [saved(tmp_path, name, tokenizer) for name in ("verse", "fables")]


def opened(folders: list[Path]) -> list[ModelFolder]:
    return [load_model(folder) for folder in folders]


def test_models_of_one_vocabulary_and_direction_fit(tmp_path: Path, both: list[Path], tokenizer: Tokenizer) -> None:
    verse, fables = opened(both)
    two_way, backward = (load_model(saved(tmp_path, name, tokenizer, name)) for name in ("both", "backward"))
    check_ensemble(verse, [])
    check_ensemble(verse, [fables, verse, two_way])
    check_ensemble(two_way, [fables])
    check_ensemble(backward, [two_way])
    message = (
        "^backward reads text backward only, but a model that reads forward is needed, as verse does: leave it out"
    )
    with pytest.raises(ConfigError, match=message):
        check_ensemble(verse, [fables, backward])


@pytest.mark.parametrize("labels", [["author"], ["author", "other"]])
def test_other_labels_are_another_vocabulary(
    tmp_path: Path, both: list[Path], tokenizer: Tokenizer, labels: list[str]
) -> None:
    labelled = load_model(saved(tmp_path, "labelled", tokenizer.with_labels(labels)))
    other = load_model(saved(tmp_path, "other", tokenizer.with_labels(["author", "nobody"])))
    for first in (load_model(both[0]), other):
        with pytest.raises(ConfigError, match=f"^labelled and {first.name} have different vocabularies"):
            check_ensemble(first, [labelled])


def test_the_words_of_all_are_known(both: list[Path]) -> None:
    base = WordFilter.build(["cat"])
    save_words(both[0], WordFilter.build(["rose"], base))
    assert common_words(opened(both)) is None, "one of them may write any word"
    save_words(both[1], WordFilter.build(["fox"], base))
    words = common_words(opened(both))
    assert words is not None
    assert words.knows(["cat", "rose", "fox", "dog"]).tolist() == [True, True, True, False]
    assert len(words._filters) == 3, "that of the base once"
    alone = common_words(opened(both[:1]))
    assert alone is not None
    assert alone.knows(["rose", "fox"]).tolist() == [True, False]


def test_copies_of_all_training_texts_are_found(both: list[Path]) -> None:
    base = index_of(3, 4, 5)
    save_ngrams(both[0], index_of(6, 7, 8).with_base(base))
    assert common_index(opened(both)) is None
    save_ngrams(both[1], index_of(9, 10, 11).with_base(base))
    index = common_index(opened(both))
    assert index is not None
    ids = np.array([3, 4, 5, 6, 7, 8, 9, 10, 11], np.int32)
    assert np.flatnonzero(index.contains(ids)).tolist() == [0, 3, 6]
    assert len(index._filters) == 3, "that of the base once"


def test_indexes_of_other_lengths_are_refused(both: list[Path]) -> None:
    save_ngrams(both[0], index_of(3, 4, 5))
    save_ngrams(both[1], index_of(3, 4, 5, 6, ngram=4))
    with pytest.raises(ConfigError, match=r"of verse and fables contain runs of 3 and of 4 tokens.* leave out no_copy"):
        common_index(opened(both))
