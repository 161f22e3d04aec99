"""Labels on the command line and from Python: labels of a corpus, and the label of a text."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import song_model
from command_tree import commands_with
from song_model import POEMS, TINY, rows_of, run

from textgen import evaluate, load
from textgen.cli import textgen
from textgen.errors import CorpusError
from textgen.generation.config import SamplingConfig

models = song_model.models  # fixture


@pytest.fixture(scope="module")
def labelled(models: Path) -> Path:
    """A table of songs, from which the model `labelled` has learned."""
    path = models.parent / "labelled.csv"
    songs = (song.replace("\n", " ").replace(",", "") for song in POEMS.split("\n\n"))
    path.write_text("by,text\n" + "".join(f"{('fox', 'owl')[n % 2]},{song}\n" for n, song in enumerate(songs)))
    result = run("train", str(path), "--models-dir", str(models), *TINY, "--labels", "by", "--name", "labelled")
    assert result.exit_code == 0, result.output
    assert "labels      2 by by: fox, owl" in result.stderr
    assert f"textgen sample {models / 'labelled'} --label fox\n" in result.stdout
    os.utime(models / "songs" / "MANIFEST.json")  # still the newest
    return path


def test_texts_by_label(models: Path, labelled: Path, tmp_path: Path) -> None:
    lines = [
        json.dumps({"prompt": "Song", "label": label, "seed": 3, "top_logprobs": 0}) for label in ("fox", "owl", None)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    common = ["--max-tokens", "30", "--prompt-file", str(tmp_path / "prompts.jsonl")]
    texts = rows_of(models, *common, model="labelled")
    assert [text["config"].get("label") for text in texts] == ["fox", "owl", None]
    assert len({tuple(text["logprobs"]) for text in texts}) == 3
    arguments = ["--prompt", "Song", "--label", "owl", "--seed", "3", "--max-tokens", "30"]
    assert rows_of(models, *arguments, model="labelled")[0]["text"] == texts[1]["text"]
    assert run("sample", "labelled", *arguments, "--models-dir", str(models)).stdout == f"Song{texts[1]['text']}\n"
    listed = json.loads(run("models", "list", "--models-dir", str(models), "--json").stdout)
    assert {model["name"]: model["labels"] for model in listed}["labelled"] == ["fox", "owl"]
    assert "| labels | fox, owl |" in run("models", "show", "labelled", "--models-dir", str(models)).stdout


def test_texts_are_scored_by_label(models: Path, labelled: Path) -> None:
    def bits(*arguments: str) -> float:
        result = run(*arguments, "--models-dir", str(models), "--json", stdin="The fox sings of the rain.")
        assert result.exit_code == 0, result.stderr
        return float(json.loads(result.stdout)["bits_per_byte"])

    for command in ("score", "evaluate"):
        assert len({bits(command, "labelled", "-", "--label", label) for label in ("fox", "owl")}) == 2
    counts = json.loads(run("corpus", "stats", str(labelled), "--labels", "by", "--json").stdout)
    assert counts["label_counts"] == {"fox": 24, "owl": 24}
    assert "24  fox" in run("corpus", "stats", str(labelled), "--labels", "by").stdout
    bits("evaluate", "labelled", str(labelled))


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "labelled", "--prompt", "The"],
        ["sample", "labelled", "--num-beams", "2"],
        ["score", "labelled", "-"],
        ["score", "labelled", "-", "--follow"],
        ["evaluate", "labelled", "-"],
    ],
    ids=" ".join,
)
def test_a_label_that_does_not_exist_is_one_clear_line(models: Path, labelled: Path, arguments: list[str]) -> None:
    result = run(*arguments, "--label", "ow", "--models-dir", str(models), stdin="The fox")
    assert result.exit_code == 1
    assert result.stderr == "Error: There is no label 'ow'. There are: owl, fox.\n"
    assert not result.stdout


@pytest.mark.parametrize("command", ["score", "score --jsonl", "embed", "evaluate", "inspect", "compress", "sample"])
def test_labels_that_are_not_used_need_not_be_readable(
    models: Path, labelled: Path, tmp_path: Path, command: str
) -> None:
    """Labels that are lists, which none has learned: an error only for what reads them."""
    path, in_models = tmp_path / "lists.jsonl", ["--models-dir", str(models)]
    row = json.dumps({"text": "The fox sings of the rain, and nobody minds.", "by": ["fox", "owl"]})
    path.write_text(f"{row}\n" * 20, encoding="utf-8")
    arguments = {
        "score": ["score", "labelled", str(path)],
        "score --jsonl": ["score", "labelled", str(path), "--jsonl"],
        "embed": ["embed", "labelled", str(path)],
        "evaluate": ["evaluate", "labelled", str(path), "--label", "fox"],
        "inspect": ["inspect", "labelled", str(path)],
        "compress": ["models", "compress", "labelled", str(path), "--out", "small", "--accept-loss"],
        "sample": ["sample", "labelled", "--adapt", str(path), "--label", "fox", "--max-tokens", "5"],
    }
    result = run(*arguments[command], *in_models)
    assert result.exit_code == 0, result.output


def test_a_label_given_from_python_stands_for_those_of_the_text(models: Path, labelled: Path, tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    path.write_text(f"{json.dumps({'text': 'The fox sings of the rain.', 'by': ['fox', 'owl']})}\n", encoding="utf-8")
    assert evaluate("labelled", path, label="fox", models_dir=models).tokens == len("The fox sings of the rain.") + 1
    assert load("labelled", adapt=path, label="fox", models_dir=models).generate("The", SamplingConfig(seed=1))[0].text
    for read in (
        lambda: evaluate("labelled", path, models_dir=models),
        lambda: load("labelled", adapt=path, models_dir=models),
    ):
        with pytest.raises(CorpusError, match="field 'by' does not contain a label"):
            read()


def test_labels_that_are_not_there_are_an_error_in_every_command(models: Path, labelled: Path, tmp_path: Path) -> None:
    """Every command that has the flag."""
    out, in_models = ["--out", str(tmp_path / "out")], ["--models-dir", str(models)]
    arguments = {
        "train": ["train"],
        "corpus prepare": ["corpus", "prepare", *out],
        "corpus stats": ["corpus", "stats"],
        "tokenizer train": ["tokenizer", "train", *out],
        "evaluate": ["evaluate", "labelled", *in_models],
        "tune-state": ["tune-state", "labelled", *out, *in_models],
    }
    assert set(arguments) == commands_with("labels", textgen)
    for command in arguments.values():
        result = run(*command, str(labelled), "--labels", "author")
        assert result.exit_code == 1, command
        assert "No document has a label 'author'" in result.stderr.splitlines()[-1]
        assert result.stderr.endswith("There are: by, text.\n")
    assert not (tmp_path / "out").exists()
