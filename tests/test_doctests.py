"""The examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import shutil
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import textgen
from textgen.system.runtime import load_tensorflow

MODULES = sorted(module.name for module in pkgutil.walk_packages(textgen.__path__, "textgen."))
RUNS_THE_PROGRAM = ("textgen.__main__",)


@pytest.fixture(autouse=True, scope="module")
def tensorflow() -> None:
    """Loads it as the program does, before a module of a network imports it: later tests compare weights bit by bit."""
    load_tensorflow()


@pytest.mark.parametrize("name", [name for name in MODULES if name not in RUNS_THE_PROGRAM])
def test_the_examples_of_a_module(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert failed == 0, f"{failed} of {tried} examples fail: python -m doctest shows which"


@pytest.fixture
def novel(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts that the examples name. A model is copied in place of its training, and its scores are known."""
    scores = textgen.Scores(nats_per_token=2.0, bits_per_byte=3.0, perplexity_per_token=7.4, tokens=9, bytes=9)

    def trained(plan: object, folder: Path, options: object) -> textgen.ModelFolder:
        saved = textgen.load_model(shutil.copytree(tiny_models / "tiny", folder))
        return replace(saved, training={"scores": scores.to_dict()})

    evaluator = SimpleNamespace(scores=lambda stream: scores)
    monkeypatch.setattr("textgen.training.run.train", trained)
    monkeypatch.setattr("textgen.evaluation.evaluator.Evaluator", lambda *arguments: evaluator)
    monkeypatch.setattr(textgen.ModelFolder, "network", lambda *arguments: None)
    monkeypatch.chdir(tmp_path)
    for name in ("novel.txt", "other-novel.txt"):
        Path(name).write_text("It was raining.\nA storm came.\n" * 100, encoding="utf-8")


@pytest.mark.parametrize("function", [textgen.train, textgen.load, textgen.evaluate, textgen.score, textgen.embed])
def test_each_function_of_the_package_has_an_example_that_runs(
    function: Callable[..., object],
    novel: None,
    tiny_models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = inspect.cleandoc(function.__doc__ or "").partition("\nExample:\n")[2]
    assert f"textgen.{function.__name__}(" in example
    if function is not textgen.train:
        shutil.copytree(tiny_models / "tiny", tmp_path / "models" / "novel")
    exec(textwrap.dedent(example), {"textgen": textgen})
    assert capsys.readouterr().out


def test_there_are_examples_and_one_that_is_wrong_is_found() -> None:
    modules = [importlib.import_module(name) for name in MODULES if name not in RUNS_THE_PROGRAM]
    examples = [test for module in modules for test in doctest.DocTestFinder().find(module) if test.examples]
    assert len(examples) >= 20
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    results = doctest.DocTestRunner(verbose=False).run(wrong, out=lambda text: None)
    assert results.failed == 1
