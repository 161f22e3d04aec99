"""The script that counts texts that go in circles."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from script_modules import load_script

from textgen.errors import CorpusError
from textgen.generation.config import SamplingConfig


class Measured:
    """The script with a model whose texts are all the same; notes how they were asked for.

    Attributes:
        runtimes: What the generators run by.
        configs: Settings of each call.
    """

    def __init__(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtimes, self.configs = list[str](), list[SamplingConfig]()
        self._patch, self._text = monkeypatch, text
        self._script = load_script("measure_loops", monkeypatch)
        monkeypatch.setattr(
            self._script, "load_model", lambda model, models_dir: SimpleNamespace(generator=self._generator)
        )

    def main(self, corpus: Path, *flags: str) -> None:
        """Runs the script."""
        self._patch.setattr(sys, "argv", ["measure_loops.py", "model", str(corpus), "--texts", "4", *flags])
        self._script.main()

    def _generator(self, runtime: str) -> Any:
        self.runtimes.append(runtime)
        return SimpleNamespace(generate=self._generate)

    def _generate(self, prompt: str, config: SamplingConfig, num: int = 1) -> list[Any]:
        self.configs.append(config)
        return [SimpleNamespace(text=self._text)] * num


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("a cat on a mat\n" * 40, encoding="utf-8")
    return path


def test_texts_are_those_that_a_saved_model_writes(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the words that it knows, which a generator of its network alone does not have."""
    measured = Measured("a new cat\n" * 5, monkeypatch)
    measured.main(corpus, "--only", "default")
    assert measured.runtimes == ["numpy"]
    assert {config.coin_words for config in measured.configs} == {False}
    assert "| default | 0.3 | 100.0% | 100.0% | 0.0% | 33.3% |" in capsys.readouterr().out


def test_words_that_do_not_exist_are_written_if_asked_for(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Measured("a new cat\n" * 5, monkeypatch)
    measured.main(corpus, "--only", "default", "--coin-words")
    assert {config.coin_words for config in measured.configs} == {True}
    assert len(measured.configs) == 3  # the text that says how long stretches of the corpus are, and two temperatures


def test_a_corpus_shorter_than_a_text_is_refused(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorpusError, match=r"The corpus has 600 characters, and a text of the model 1,000: name a"):
        Measured("a new cat\n" * 100, monkeypatch).main(corpus)


def test_texts_shorter_than_a_stretch_have_no_share_that_is_copied(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Measured("a new cat\n", monkeypatch).main(corpus, "--only", "default")
    assert "| default | 0.3 | 0.0% | 0.0% |  | 33.3% |" in capsys.readouterr().out


def test_no_two_settings_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [SamplingConfig(**values) for values in load_script("measure_loops", monkeypatch).SETTINGS.values()]
    assert all(configs.count(config) == 1 for config in configs)
