"""The script that measures texts while a cell is held: its measures, and its table for a model with planted cells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from networks import COLUMN_UNIT, planted, quoted_text

from textgen.corpus.config import CorpusConfig
from textgen.insight.properties import CHINESE, RULES
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "measure_cells.py"
sys.path.insert(0, str(SCRIPT.parent))

from measure_cells import MEASURES, mean_of, shown, spread  # noqa: E402 a script

VERSE = "春\n床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。"
PLAY = "First:\nWe are here.\nNow.\n\nAll:\nSpeak.\n\nFir"
MEANS = [
    ("column", "characters a line", PLAY, (6 + 12 + 4 + 4 + 6) / 5),
    ("column", "share of lines over 60 characters", "a" * 61 + "\nb\n", 0.5),
    ("since a blank line", "characters a block", PLAY, (24 + 11) / 2),
    ("first line of a block", "characters a first line", PLAY, 5),
    ("first line of a block", "lines a block", PLAY, 2.5),
    ("inside a word", "letters a word", "a bcd", 2),
    ("capital letter", "share of capitals", "Ab 12", 0.5),
    ("inside quotes", "share inside quotes", '"ab"', 0.75),
    ("title line", "characters a title", VERSE, 1),
    ("place in the half-line", "characters a half-line", VERSE, 5),
    ("second half of a couplet", "characters a second half", "一二三，四五。\n六，七", 2),
    ("second half of a couplet", "characters a first half", "一二三，四五。\n六，七", 2),
    ("couplet number", "lines a document", VERSE, 2),
    ("document position", "characters a document", VERSE, len(VERSE)),
]


@pytest.mark.parametrize(("follows", "name", "text", "expected"), MEANS)
def test_measures_of_a_text(follows: str, name: str, text: str, expected: float) -> None:
    assert mean_of(MEASURES[follows][name], [text]) == pytest.approx((expected, 0.0), abs=1e-9)


def test_every_property_by_rule_has_a_measure() -> None:
    assert MEASURES.keys() == {*RULES, *CHINESE}


def test_the_mean_is_that_of_all_texts_together_and_has_a_standard_error() -> None:
    found = mean_of(len_of_words, ["a", "aaaa aaaa"])
    assert found
    assert found[0] == 3
    assert 0.5 < found[1] < 1.5


def test_texts_without_anything_to_measure_have_no_mean() -> None:
    assert mean_of(len_of_words, ["", ""]) is None
    assert shown(None) == spread(len_of_words, [["", ""]]) == "none"
    assert mean_of(len_of_words, ["", "aaa"]) == (3, 0)


def len_of_words(text: str) -> list[int]:
    return [len(word) for word in text.split()]


def test_a_table_of_texts_with_each_cell_held(tmp_path: Path) -> None:
    config, weights, tokenizer = planted()
    save_model(tmp_path / "planted", weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    (tmp_path / "text.txt").write_text(quoted_text(1500, seed=1), encoding="utf-8")
    command = [SCRIPT, "planted", tmp_path / "text.txt", "--models-dir", tmp_path, "--track", "line=^[^\\n]{12,}"]
    counts = ["--num", "2", "--max-tokens", "60", "--random", "1"]
    done = subprocess.run([sys.executable, *map(str, command), *counts], capture_output=True, text=True, check=True)
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines())
    assert head[3:] == ["free", "low", "high", "one at random", "five off", "five on", "five at random"]
    measures = {(cell, follows, measure) for cell, follows, measure, *_ in rows}
    assert (f"L0/{COLUMN_UNIT}", "column", "characters a line") in measures
    assert ("inside quotes", "share inside quotes") in {found[1:] for found in measures}
    assert "share of line" in {measure for _, _, measure in measures}
    for _, _, _, free, low, high, one, off, on, five in rows:
        assert all("±" in mean or mean.startswith("none") for mean in (free, low, high, off, on))
        assert " at " in low
        assert " at " in high
        assert " to " in one or one == "none"
        assert " to " in five or five == "none"
