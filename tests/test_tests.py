"""The tests can fail: each asserts something, itself or by a helper, and nothing that holds whatever happens."""

from __future__ import annotations

import ast
import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from processes import child_process

from textgen.generation.config import SamplingConfig
from textgen.generation.request import seeded

CHECKS = ("pytest.raises", "pytest.warns", "pytest.fail")  # and `np.testing.assert_...`
FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def functions_of(path: Path) -> dict[str, ast.FunctionDef]:
    """All functions and methods of a file by name, also those inside others."""
    return {node.name: node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)}


@cache
def imported_from(path: Path) -> dict[str, Path]:
    """Names that a file takes from the helpers."""
    names: dict[str, Path] = {}
    for node in tree_of(path).body:
        if isinstance(node, ast.ImportFrom) and (other := FOLDER / "helpers" / f"{node.module}.py").is_file():
            names |= {alias.asname or alias.name: other for alias in node.names}
    return names


def checks(path: Path, function: ast.FunctionDef, seen: frozenset[tuple[Path, str]] = frozenset()) -> bool:
    """Whether a function asserts something, or calls one that does, of its own file or of a helper."""
    imported = imported_from(path)
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in CHECKS or called.startswith("np.testing.assert_"):
            return True
        name = called.rpartition(".")[2]
        places = [path, imported.get(name, path), *(imported.values() if "." in called else ())]  # a method of theirs
        for place in places:
            is_new = name in functions_of(place) and (place, name) not in seen
            if is_new and checks(place, functions_of(place)[name], seen | {(place, name)}):
                return True
    return False


def always_true(assertion: ast.Assert) -> bool:
    """Whether nothing that a program does can make it fail: constants, a thing compared with itself, lengths >= 0."""
    test = assertion.test
    if not any(isinstance(node, ast.Name | ast.Call | ast.Attribute) for node in ast.walk(test)):
        return True
    if isinstance(test, ast.Tuple):
        return True
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return False
    left, (right,), (operator,) = test.left, test.comparators, test.ops
    if ast.unparse(left) == ast.unparse(right) and not isinstance(left, ast.Call):
        return isinstance(operator, ast.Eq | ast.LtE | ast.GtE | ast.Is)
    is_length = isinstance(left, ast.Call) and ast.unparse(left.func) == "len"
    return is_length and isinstance(operator, ast.GtE) and ast.unparse(right) == "0"


def conftest_of(config: pytest.Config) -> Any:
    """The module of fixtures, as pytest has loaded it."""
    path = str(FOLDER / "conftest.py")
    return next(plugin for plugin in config.pluginmanager.get_plugins() if getattr(plugin, "__file__", "") == path)


def written(source: str, folder: Path) -> Path:
    path = folder / "test_example.py"
    path.write_text(source, encoding="utf-8")
    return path


def faults(path: Path) -> Iterator[str]:
    """The tests of a file that cannot fail, and the assertions that hold whatever happens."""
    for name, function in functions_of(path).items():
        if name.startswith("test_") and not checks(path, function):
            yield name
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Assert) and always_true(node):
            yield ast.unparse(node)


def test_every_test_can_fail() -> None:
    assert [(str(path), fault) for path in FILES for fault in faults(path)] == []


def test_nothing_is_imported_from_conftest() -> None:
    """It would be loaded a second time, as a module of another name."""
    assert [path for path in FILES if "conftest" in imports_of(path)] == []


def test_no_program_outlives_its_test() -> None:
    """`child_process` ends those that run beside a test; others are waited for, as by `subprocess.run`."""
    assert [path.name for path in FILES if "Popen" in called_in(path)] == ["processes.py"]


def imports_of(path: Path) -> set[str | None]:
    """The modules that a file imports."""
    nodes = list(ast.walk(tree_of(path)))
    whole = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return whole | {node.module for node in nodes if isinstance(node, ast.ImportFrom)}


def called_in(path: Path) -> set[str]:
    """The functions that a file calls, by their own names."""
    calls = (node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))
    return {ast.unparse(called).rpartition(".")[2] for called in calls}


def test_a_program_beside_a_test_ends_with_it() -> None:
    with pytest.raises(ZeroDivisionError), child_process(["sleep", "600"]) as process:
        1 / 0  # noqa: B018
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def folders_of_a_module() -> dict[str, Path]:
    """The folders that fixtures of a whole module use, which come before those of any test."""
    return {name: Path(os.environ[name]) for name in ("TEXTGEN_CACHE", "TEXTGEN_MODELS", "TEXTGEN_BASES")}


def test_no_folder_of_the_user_is_used(
    folders_of_a_module: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name, folder in folders_of_a_module.items():
        assert folder.is_relative_to(tmp_path_factory.getbasetemp())
        assert Path(os.environ[name]).is_relative_to(tmp_path), "a test has folders of its own"


@pytest.mark.parametrize("program", [None, "/usr/bin/firefox"])
def test_tests_in_browsers_are_refused_where_none_is_installed(
    program: str | None, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: program if name == "firefox" else None)
    asked = SimpleNamespace(option=SimpleNamespace(markexpr="browsers"))
    refused = nullcontext() if program else pytest.raises(pytest.UsageError, match="No browser is installed")
    with refused:
        conftest_of(pytestconfig).pytest_configure(asked)


GOOD = """
def helper(value):
    assert value > 1
def deeper(value):
    helper(value)
def test_by_helpers():
    deeper(2)
def test_by_numpy():
    np.testing.assert_array_equal(1, 1)
def test_by_errors():
    with pytest.raises(ValueError):
        int("x")
"""
BAD = {
    "def test_nothing(): print(1)": ["test_nothing"],
    "def helper(): helper()\ndef test_round(): helper()": ["test_round"],
    "def test_calls_another(): unknown.check()": ["test_calls_another"],
    "def test_constant(): assert 1 == 1.0": ["assert 1 == 1.0"],
    "def test_itself(x): assert x == x": ["assert x == x"],
    "def test_length(x): assert len(x) >= 0": ["assert len(x) >= 0"],
    "def test_pair(x): assert (x, 'message')": ["assert (x, 'message')"],
}


def test_tests_that_can_fail_are_left_alone(tmp_path: Path) -> None:
    assert list(faults(written(GOOD, tmp_path))) == []


@pytest.mark.parametrize(("source", "expected"), BAD.items(), ids=lambda value: str(value)[:24])
def test_tests_that_cannot_fail_are_found(source: str, expected: list[str], tmp_path: Path) -> None:
    assert list(faults(written(source, tmp_path))) == expected


@pytest.mark.parametrize("run", [1, 2])
def test_texts_without_a_seed_are_the_same_in_each_run(run: int) -> None:
    texts = [seeded(SamplingConfig()).seed for _ in range(3)]
    assert texts == [3626764237, 1654615998, 3255389356], "the first numbers of Python's generator with the seed 0"


def test_properties_are_tested_with_the_same_examples_in_each_run(pytestconfig: pytest.Config) -> None:
    is_asked_for_others = pytestconfig.getoption("--hypothesis-profile") == "search"
    assert settings().derandomize is not is_asked_for_others
