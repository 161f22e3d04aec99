"""The script that measures how fast texts are written."""

from __future__ import annotations

from typing import Any

import pytest
from script_modules import load_script

from textgen.generation.sampling import sampler
from textgen.generation.sampling.sampler import Sampler


@pytest.mark.parametrize(
    ("chain", "keeps_to_words"),
    [("temperature", False), ("default settings", True), ("all samplers and coin_words", False)],
)
def test_the_temperature_alone_and_coin_words_write_any_word(
    chain: str, keeps_to_words: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, made = load_script("benchmark_sampling", monkeypatch), list[Sampler]()

    class Kept(Sampler):
        def __init__(self, *arguments: Any, **others: Any) -> None:
            super().__init__(*arguments, **others)
            made.append(self)

    monkeypatch.setattr(sampler, "Sampler", Kept)
    monkeypatch.setattr(script, "UNITS", 8)
    steps, spent = script.textgen_steps({"rows": 2, "chain": chain})
    steps()
    assert spent["sampling"] > 0
    assert [constraints.word_guard is not None for constraints in made[0].constraints] == [keeps_to_words] * 2
