"""What is suggested to those who mistype an option or a command."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from textgen.cli import textgen


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --nosuch", "No such option '--nosuch'."),
        ("train --epoch 3", "No such option '--epoch'. Did you mean '--epochs'?"),
        ("sample --temprature 1", "No such option '--temprature'. Did you mean '--temperature'?"),
        ("--versio", "No such option '--versio'. Did you mean '--version'?"),
        ("models --hepl", "No such option '--hepl'. Did you mean '--help'?"),
        ("modelss", "No such command 'modelss'. Did you mean 'models'? textgen --help lists the commands."),
        ("models lst", "No such command 'lst'. Did you mean 'list'? textgen models --help lists the commands."),
        ("qqq", "No such command 'qqq'. textgen --help lists the commands."),
        ("corpus qqq", "No such command 'qqq'. textgen corpus --help lists the commands."),
    ],
)
def test_similar_words_are_suggested(words: str, message: str) -> None:
    result = CliRunner().invoke(textgen, words.split(), prog_name="textgen")
    assert result.exit_code == 2
    assert result.stderr.endswith(f"\nError: {message}\n")
