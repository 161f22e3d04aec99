"""The examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable

import pytest

import textgen
from textgen.runtime import load_tensorflow

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


@pytest.mark.parametrize("function", [textgen.train, textgen.load, textgen.evaluate, textgen.score, textgen.embed])
def test_each_function_of_the_package_has_an_example_that_calls_it(function: Callable[..., object]) -> None:
    example = inspect.cleandoc(function.__doc__ or "").partition("\nExample:\n")[2]
    assert f"textgen.{function.__name__}(" in example
    compile(textwrap.dedent(example), function.__name__, "exec")


def test_there_are_examples_and_one_that_is_wrong_is_found() -> None:
    modules = [importlib.import_module(name) for name in MODULES if name not in RUNS_THE_PROGRAM]
    examples = [test for module in modules for test in doctest.DocTestFinder().find(module) if test.examples]
    assert len(examples) >= 20
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    results = doctest.DocTestRunner(verbose=False).run(wrong, out=lambda text: None)
    assert results.failed == 1
