"""The plan of a run, as people read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from textgen.cli.plan_report import describe
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.training.plan import Hardware, make_plan


@pytest.mark.parametrize(
    ("sampled", "shown"),
    [(0, ""), (1, ", softmax of 1 token"), (4095, ", softmax of 4,095 tokens"), (4096, ""), (9000, "")],
)
def test_a_sampled_softmax_is_told_where_it_is_smaller_than_the_vocabulary(
    tmp_path: Path, sampled: int, shown: str
) -> None:
    text = tmp_path / "songs.txt"
    text.write_text("The miller told the fox about the river.\n" * 300, encoding="utf-8")
    settings = {"vocab_size": 4096, "sampled_softmax": sampled}
    plan = make_plan(Corpus([text], CorpusConfig(documents="line")), settings, hardware=Hardware(2e11))
    (line,) = [line for line in describe(plan, tmp_path).splitlines() if line.startswith("training")]
    assert line.endswith(f", adamw{shown}")
