"""Settings of the process have other values only while they are needed, however blocks overlap."""

from __future__ import annotations

import csv
import logging
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich_files import pdf

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.system.process_settings import TemporarySetting, change_level


def test_the_last_of_overlapping_blocks_puts_the_value_back() -> None:
    logger = logging.Logger("one", logging.INFO)
    quiet = TemporarySetting(partial(change_level, logger), logging.ERROR)
    with quiet:
        with suppress(ZeroDivisionError), quiet:
            raise ZeroDivisionError
        assert logger.level == logging.ERROR
    assert logger.level == logging.INFO


def of_process() -> tuple[object, ...]:
    """The settings that reading files changes."""
    logger = logging.getLogger("pypdf")
    return csv.field_size_limit(), logger.level, logger.propagate, list(logger.handlers)


@pytest.mark.parametrize("name", ["table.csv", "pages.pdf"])
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_file_whose_reading_ends_or_is_given_up_leaves_the_process_as_it_was(
    tmp_path: Path, name: str, is_whole: bool
) -> None:
    (tmp_path / "table.csv").write_text("text\none\n" + "two" * 100_000 + "\n", encoding="utf-8")
    pdf(tmp_path / "pages.pdf", [["one"], ["two"]])
    before = of_process()
    lines: Any = Corpus([tmp_path / name], CorpusConfig(documents="line")).documents()
    assert next(lines) == "one"
    if is_whole:
        assert "two" in next(lines)
        assert next(lines, None) is None
    lines.close()
    assert of_process() == before
