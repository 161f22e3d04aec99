"""The script that counts words that do not exist: its table, for a model that knows its words and one that does not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from script_modules import load_script

from textgen.dataset.word_filter import WordFilter
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model, save_words

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "measure_words.py"


@pytest.fixture
def tiny(tiny_models: Path, tmp_path: Path) -> Path:
    """A model with random weights that writes no bytes, which may end in letters of any script."""
    folder = Path(shutil.copytree(tiny_models / "tiny", tmp_path / "tiny"))
    model = load_model(str(folder))
    weights = model.weights()
    is_byte = [re.fullmatch("<0x..>", piece) is not None for piece in model.tokenizer.pieces()]
    weights["head/bias"][is_byte] = -30
    configs = model.model_config, model.tokenizer_config, model.corpus_config
    save_model(folder, weights, *configs, model.tokenizer)
    return folder


def rows(tiny: Path, folder: Path) -> list[list[str]]:
    (folder / "corpus.txt").write_text("The cat's hat.\n", encoding="utf-8")
    (folder / "list.txt").write_text("dog\n", encoding="utf-8")
    command = [SCRIPT, folder / "list.txt", tiny, "--corpus", folder / "corpus.txt", "--words", "300"]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=True)
    return [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:4]]


def test_a_table_of_words_that_do_not_exist(tiny: Path, tmp_path: Path) -> None:
    """A model with random weights spells words at random, unless it knows some."""
    known, any_words = rows(tiny, tmp_path)
    assert known[:4] == ["known words", *any_words[1:4]], "it has no words"
    assert any_words[1] == "300"
    assert float(any_words[2].rstrip("%")) > 50
    save_words(tiny, WordFilter.build(["the", "cat", "'s", "dog"]))
    known, coined = rows(tiny, tmp_path)
    assert float(known[2].rstrip("%")) < float(coined[2].rstrip("%")) / 2
    assert float(known[3].rstrip("%")) >= float(known[2].rstrip("%"))
    assert coined[:4] == any_words[:4]


@pytest.mark.parametrize(("word", "is_there"), [("cat", True), ("cat's", True), ("cats'", False), ("catch", False)])
def test_a_genitive_of_a_word_exists(word: str, is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_script("measure_words", monkeypatch)
    assert module.exists(word, {"cat"}) is is_there
