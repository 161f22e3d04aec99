"""How far two networks are apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported import model_of

from textgen.errors import SavedModelError
from textgen.export.quality import check_quality
from textgen.model.numpy_model import NumpyModel
from textgen.tokenizer.tokenizer import Tokenizer


def test_a_refusal_says_how_much_is_lost(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = model_of(tmp_path, tokenizer)
    writer = model.numpy_model()
    assert check_quality(model, writer, "a", instead="b").divergence_nats == 0
    sharper = NumpyModel(model.model_config, {name: 2 * array for name, array in model.weights().items()})
    with pytest.raises(SavedModelError, match=r"a would lose too much by rounding: perplexity [+-]\d.*%.*as b\."):
        check_quality(model, sharper, "a", instead="b")
