"""The example notebook runs, cell by cell, on a small text and for a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runs import TEXT

NOTEBOOK = Path(__file__).parents[2] / "scripts" / "example.ipynb"
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
SMALL = {
    'CORPUS = Path("../corpora/fables.txt")': 'CORPUS = Path("songs.txt")',
    'SETTINGS = {"minutes": 0.5, "start": "none"}': (
        'SETTINGS = dict(steps=2, start="none", tokenizer="char", hidden_units=8, embedding_dim=6, num_layers=1, '
        "batch_size=4, sequence_length=16, num_validations=1)"
    ),
}


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "songs.txt").write_text(TEXT, encoding="utf-8")
    code = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
    for line, small in SMALL.items():
        assert code[0].count(line) == 1
        code[0] = code[0].replace(line, small)
    space: dict[str, Any] = {}
    for number, source in enumerate(code):
        exec(compile(source, f"cell {number}", "exec"), space)
    assert space["longer"].model.training["progress"]["step"] == 4
    assert [report.step for report in space["longer"].history][-1] == 4
    out, err = capsys.readouterr()
    assert "nats per token" in out
    assert "(None, None, 8)" in out, "the summary"
    assert "step 2, epoch" in err, "the progress"
    assert (tmp_path / "example_models" / "fables").is_dir()


def test_the_notebook_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training refuses to replace a model."""
    monkeypatch.chdir(tmp_path)
    trained = list[Path]()

    def train(*corpus: Path, name: str, models_dir: Path, **settings: Any) -> SimpleNamespace:
        trained.append(models_dir / name)
        trained[-1].mkdir(parents=True)
        return SimpleNamespace(scores=None)

    monkeypatch.setattr("textgen.train", train)
    code = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
    space: dict[str, Any] = {}
    for source in (*code[:2], *code[:2]):
        exec(source, space)
    assert trained == [Path("example_models", "fables")] * 2


def test_the_notebook_trains_a_network_of_its_own_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base would be fine-tuned on a text in English."""
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {}
    monkeypatch.setattr("textgen.train", lambda *_, **settings: given.update(settings) or SimpleNamespace(scores=None))
    space: dict[str, Any] = {}
    for source in ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"][:2]:
        exec(source, space)
    assert "from random weights" in "".join(CELLS[0]["source"])
    assert given["start"] == "none"


def test_the_notebook_holds_no_output() -> None:
    for cell in CELLS:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
