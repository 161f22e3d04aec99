"""The README says what is so."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from textgen.cli import textgen

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from commands(child, f"{name} {child.name}")


def test_the_command_reference_is_that_of_the_program() -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from command_reference import with_reference
    finally:
        sys.path.pop(0)
    assert with_reference(README) == README, "run `make readme`"


@pytest.mark.parametrize(("name", "command"), list(commands(textgen, "textgen")))
def test_every_command_has_help_and_an_example_and_every_option_is_explained(name: str, command: click.Command) -> None:
    assert command.help
    if not isinstance(command, click.Group):
        assert f"Example:\n  {name}" in inspect.cleandoc(command.help).replace("\b\n", "")
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, f"{name} {parameter.name}"


def test_the_tree_names_every_file_of_the_package() -> None:
    tree = README[README.index("## The tree") :]
    tree = tree[: tree.index("\n## ")]
    for path in (ROOT / "textgen").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            assert re.search(rf"\b{re.escape(path.name)}\b", tree), path
    for path in [*(ROOT / "corpora").iterdir(), *(ROOT / "scripts").iterdir()]:
        if not path.name.startswith("__"):
            assert path.name in tree, path


def test_config_fields_are_flags() -> None:
    import dataclasses

    from textgen.corpus.config import CorpusConfig
    from textgen.evaluation.config import CacheConfig, DynamicConfig
    from textgen.generation.config import SamplingConfig, SearchConfig
    from textgen.model.config import ModelConfig
    from textgen.tokenizer.config import TokenizerConfig
    from textgen.training.config import TrainingConfig

    def flags(command: str) -> set[str]:
        return {parameter.name or "" for parameter in textgen.commands[command].params}

    for kind in (CorpusConfig, TokenizerConfig, ModelConfig, TrainingConfig):
        fields = {field.name for field in dataclasses.fields(kind)} - {"valid_fraction"}  # that one is --valid
        assert fields <= flags("train"), kind
    for kind in (SamplingConfig, SearchConfig):  # type: ignore[assignment]
        assert {field.name for field in dataclasses.fields(kind)} <= flags("sample")
    for kind in (CacheConfig, DynamicConfig):  # type: ignore[assignment]
        assert {field.name for field in dataclasses.fields(kind)} <= flags("evaluate") & flags("sample")
