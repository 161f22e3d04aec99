"""Which part of the held-out text validations score, and when scores of it can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_cache import TokenData, encode_and_split
from textgen.tokenizer.kinds import ByteTokenizer

if TYPE_CHECKING:
    from textgen.training.validator import Validator

HELD_OUT = 160  # characters: no whole number of windows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TokenData:
    """A text of one document, of which a tenth is held out."""
    folder = tmp_path_factory.mktemp("validator")
    (folder / "text.txt").write_text("abc cab bca acb " * HELD_OUT, encoding="utf-8")
    corpus = Corpus([folder / "text.txt"], CorpusConfig(documents="file"))
    return encode_and_split(corpus, ByteTokenizer(), cache=folder / "cache")


def validator_of(data: TokenData, folder: Path, valid_tokens: int) -> Validator:
    """That of a trainer of a small network."""
    from textgen.model.config import ModelConfig
    from textgen.model.language_model import LanguageModel
    from textgen.training.config import TrainingConfig
    from textgen.training.trainer import Trainer

    model = LanguageModel(ModelConfig(ByteTokenizer().vocab_size, 6, 8, 1), pad_id=0)
    config = TrainingConfig(batch_size=4, sequence_length=5, steps=1, valid_tokens=valid_tokens)
    return Trainer(model, data, config, folder / "checkpoints").validator


def test_scores_can_be_compared_if_they_are_of_the_same_part_of_the_text(data: TokenData, tmp_path: Path) -> None:
    length = len(data.valid)
    some, whole = validator_of(data, tmp_path, 64), validator_of(data, tmp_path, 10 * length)
    assert [some.is_same_text(before) for before in (None, 64, 65, length)] == [False, True, False, False]
    assert [whole.is_same_text(before) for before in (None, 64, length - 1)] == [False] * 3
    assert [whole.is_same_text(before) for before in (length, length + 1, 20 * length)] == [True] * 3


def test_as_many_tokens_as_the_text_has_are_all_of_it(data: TokenData, tmp_path: Path) -> None:
    """Not only the whole windows in it."""
    from textgen.training.position import Position

    validator = validator_of(data, tmp_path, len(data.valid))
    position = Position()
    report = validator.validate(position, with_sample=False)
    assert report
    assert validator.best_scores == validator.evaluator.scores(data.valid)
    assert position.best_nats_per_token == report.nats_per_token
