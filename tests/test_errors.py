"""Errors for the user: they arrive from other processes and machines as they were."""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import textgen
from textgen.errors import TextgenError

PACKAGE = Path(str(textgen.__file__)).parent


def kinds() -> list[str]:
    """Module and name of each class of errors in the package, those of classes that are made of others last."""
    known, classes = {"TextgenError": "textgen.errors"}, dict[str, tuple[str, set[str]]]()
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(("textgen", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for name, bases in re.findall(r"^ *class (\w+)\(([^)]*)\)", path.read_text("utf-8"), re.MULTILINE):
            classes[name] = module, {*re.findall(r"\w+", bases)}
    while found := {
        name: module for name, (module, bases) in classes.items() if bases & {*known} and name not in known
    }:
        known |= found
    return [f"{module}:{name}" for name, module in known.items()]


def made(kind: type[TextgenError]) -> TextgenError:
    """An error with something in each of its arguments."""
    values: dict[str, Any] = {"Path": Path("/a/b"), "str": "It broke. Mend it.", "Advice": "Mend it.", "int": 15}
    own = kind.__init__ is not Exception.__init__
    parameters = inspect.signature(kind).parameters.values() if own else ()
    arguments = [values[each.annotation] for each in parameters if each.kind == each.POSITIONAL_OR_KEYWORD]
    return kind(*(arguments or ["It broke."]))


def test_all_kinds_are_found() -> None:
    assert {"textgen.storage.files:CannotWrite", "textgen.errors:Interrupted", "textgen.storage.locks:Gone"} <= {
        *kinds()
    }


@pytest.mark.parametrize("kind", kinds())
def test_errors_arrive_from_other_processes_as_they_were(kind: str) -> None:
    module, name = kind.split(":")
    error = made(getattr(importlib.import_module(module), name))
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert (str(arrived), arrived.args, vars(arrived)) == (str(error), error.args, vars(error))
    assert getattr(arrived, "exit_code", None) == getattr(error, "exit_code", None)
