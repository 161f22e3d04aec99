"""How generated texts are printed."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from textgen.cli import output
from textgen.cli import score as cli_score
from textgen.cli.text_printer import Printer, between, colour_of
from textgen.corpus.config import CorpusConfig
from textgen.evaluation.scoring import TextScore
from textgen.generation.config import SamplingConfig
from textgen.generation.generated_text import Generation
from textgen.generation.row import TextRow, Token
from textgen.tokenizer.kinds import ByteTokenizer

MODE = "separator:\r\n---\r\n"
BITS = (0.5, 3.0, 3.0, 3.0, 2.0, 3.5, 0.5, 20.0)  # of the bytes of "a春éb", and of the end


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """The texts with their colours."""
    texts: list[tuple[str, str | None]] = []
    monkeypatch.setattr(output, "write", lambda text, fg=None, **_: texts.extend([(text, fg)] if text else []))
    return texts


def test_a_character_of_several_tokens_has_the_colour_of_all(printed: list[tuple[str, str | None]]) -> None:
    """As in `textgen score`, whether the text is printed as it is written or afterwards."""
    tokenizer, config = ByteTokenizer(), SamplingConfig(seed=1, max_tokens=20)
    ids = (*tokenizer.encode("a春éb"), tokenizer.eos_id)
    logprobs = tuple(-bits * math.log(2) for bits in BITS)
    row = TextRow("", config, tokenizer, SimpleNamespace(ids=(tokenizer.eos_id,)))  # type: ignore[arg-type]
    tokens = [
        Token(token.id, token.text, logprob=value) for token, value in zip(map(row.append, ids), logprobs, strict=True)
    ]
    model: Any = SimpleNamespace(tokenizer=tokenizer)
    printer = Printer(model, show_probabilities=True, fingerprint="")
    printer.print_as_written("", tokens, keep=False)
    written = [span for span in printed if span != ("\n", None)]
    assert written[1] == ("春", colour_of(9.0)) != ("春", colour_of(3.0))
    result = Generation("", "a春éb", ids, "end", 1, config, logprobs=logprobs)
    assert [span for span in printer._spans(result) if span[0]] == written
    scored = TextScore("a春éb", ids, np.array(BITS))
    assert [(part, colour_of(of)) for part, of in cli_score._parts(tokenizer, scored) if part] == written


@pytest.mark.parametrize(
    ("config", "found", "shown"),
    [
        (CorpusConfig(documents="line"), None, "\n"),
        (CorpusConfig(), "blank-line", "\n\n"),
        (CorpusConfig(), None, "\n\n---\n\n"),
        (CorpusConfig(documents=MODE), None, "\n---\n"),
        (CorpusConfig(documents=MODE, newlines="keep"), None, "\n\r\n---\r\n"),
    ],
)
def test_texts_are_separated_as_documents_are_once_they_are_read(
    config: CorpusConfig, found: str | None, shown: str
) -> None:
    assert between(config, found) == shown
