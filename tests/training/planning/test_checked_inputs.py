"""What a run is planned from is checked before its text is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from textgen.errors import TextgenError
from textgen.training.planning import checked_inputs
from textgen.training.planning.checked_inputs import open_inputs
from textgen.wording import silent


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": "nowhere"}, "There is no model 'nowhere'"),
        ({"tokenizer_from": "nowhere"}, "There is no model 'nowhere'"),
        ({"settings": {"hidden_units": 0}}, "hidden_units must be"),
    ],
    ids=["start", "vocabulary", "setting"],
)
def test_a_mistake_is_told_before_the_text_is_opened(
    given: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*paths: object, **options: object) -> None:
        raise AssertionError("the text is opened")

    monkeypatch.setattr(checked_inputs, "open_corpus", opened)
    settings = given.pop("settings", {})
    with pytest.raises(TextgenError, match=message):
        open_inputs(["-"], settings, models_dir=tmp_path, note=silent, **given)


def test_the_text_and_what_else_a_run_uses_are_opened(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a few words\n" * 300, encoding="utf-8")
    (tmp_path / "valid.txt").write_text("other words\n" * 300, encoding="utf-8")
    settings = {"documents": "line", "tokenizer": "byte"}
    text, sources = open_inputs([tmp_path / "text.txt"], settings, valid_file=tmp_path / "valid.txt", note=silent)
    assert text.documents_mode == "line"
    assert (sources.start, sources.tokenizer, sources.may_choose_base) == (None, None, True)
    assert sources.valid
    assert sources.valid.documents_mode == "line"
    _, sources = open_inputs([tmp_path / "text.txt"], settings, start="none", note=silent)
    assert (sources.valid, sources.start, sources.may_choose_base) == (None, None, False)
