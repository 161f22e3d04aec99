from __future__ import annotations

import json
from pathlib import Path

import pytest
import sentencepiece
from vocabularies import tokenizer_of

from textgen.errors import TokenizerError
from textgen.tokenizer.model_file import read_tokenizer


def test_a_model_of_another_program(tmp_path: Path) -> None:
    prefix = tmp_path / "other"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat"]), model_prefix=str(prefix), vocab_size=270, byte_fallback=True,
        pad_id=0, unk_id=1, eos_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=5,
    )  # fmt: skip
    with pytest.raises(TokenizerError, match=r"other\.model: .*another program"):
        read_tokenizer(prefix.with_suffix(".model"))


def test_reading_files_and_folders(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("bpe")
    tokenizer.save(tmp_path / "tokenizer.model")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.model"]
    for path in (tmp_path, tmp_path / "tokenizer.model"):
        assert read_tokenizer(path).fingerprint() == tokenizer.fingerprint()
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(TokenizerError, match="is empty"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(TokenizerError, match="No such file"):
        read_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"tokenizer": {"tokenizer": "byte"}}), encoding="utf-8")
    assert read_tokenizer(tmp_path).kind == "byte"
