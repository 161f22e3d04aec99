"""The texts that textgen sample writes: from which prompts, in which order, and in which form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import song_model
from click.testing import CliRunner
from song_model import rows_of, run

from textgen.cli import textgen

models = song_model.models  # fixture


def test_the_same_seed_writes_the_same_text(models: Path) -> None:
    texts = {run("sample", "songs", "--models-dir", str(models), "--seed", "5").stdout for _ in range(2)}
    assert len(texts) == 1
    assert texts != {run("sample", "songs", "--models-dir", str(models), "--seed", "6").stdout}


def test_the_same_seed_writes_the_same_text_as_stream_batch_and_json(models: Path) -> None:
    options = ["sample", "songs", "--models-dir", str(models), "--prompt", "The", "--seed", "8", "--max-tokens", "40"]
    (alone,) = rows_of(models, "--prompt", "The", "--seed", "8", "--max-tokens", "40")
    assert run(*options).stdout == "The" + alone["text"] + "\n"
    assert run(*options, "--num", "3").stdout.startswith("The" + alone["text"] + "\n\nThe")
    together = rows_of(models, "--prompt", "The", "--seed", "8", "--max-tokens", "40", "--num", "3")
    assert together[0] == alone
    for size in ("1", "2"):
        assert together == rows_of(
            models, "--prompt", "The", "--seed", "8", "--max-tokens", "40", "--num", "3", "--batch-size", size
        )


def test_after_the_largest_seed_comes_the_lowest(models: Path) -> None:
    prompts = ["--prompt", "The", "--prompt", "A", "--num", "2", "--max-tokens", "2"]
    rows = rows_of(models, *prompts, "--seed", str((1 << 63) - 1))
    assert [row["seed"] for row in rows] == [(1 << 63) - 1, 0, 1, 2]


def test_sampling_with_no_model_named_takes_the_newest(models: Path) -> None:
    result = run("sample", "--models-dir", str(models), "--prompt", "春", "--max-tokens", "5")
    assert result.exit_code == 0
    assert result.stdout.startswith("春")


def test_prompts_from_standard_input_and_from_a_file(models: Path, tmp_path: Path) -> None:
    result = run("sample", "songs", "--models-dir", str(models), "--prompt", "-", "--seed", "1", stdin="The fox")
    assert result.stdout.startswith("The fox")
    (tmp_path / "prompt.txt").write_text("The fox", encoding="utf-8")
    again = run(
        "sample", "songs", "--models-dir", str(models), "--prompt-file", f"{tmp_path}/prompt.txt", "--seed", "1"
    )
    assert again.stdout == result.stdout


def test_each_line_is_a_prompt(models: Path, tmp_path: Path) -> None:
    lines = "The fox\n\nThe owl \r\n床前\n"
    rows = rows_of(models, "--prompt-lines", "-", "--max-tokens", "2", stdin=lines)
    assert [row["prompt"] for row in rows] == ["The fox", "The owl ", "床前"]
    (tmp_path / "lines.txt").write_bytes(lines.encode())
    rows = rows_of(models, "--prompt", "A", "--prompt-lines", str(tmp_path / "lines.txt"), "--num", "2")
    assert [row["prompt"] for row in rows] == [text for text in ("A", "The fox", "The owl ", "床前") for _ in "ab"]


def test_several_texts_and_json_lines(models: Path) -> None:
    options = ["--models-dir", str(models), "--seed", "3", "--max-tokens", "30", "--json"]
    result = run("sample", "songs", "--prompt", "Song", "--prompt", "The", "--num", "2", *options)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["prompt"] for row in rows] == ["Song", "Song", "The", "The"]
    assert [row["seed"] for row in rows] == [3, 4, 5, 6]
    assert {row["stop_reason"] for row in rows} <= {"end", "length"}
    assert {"model", "text", "ids"} <= rows[0].keys()


def test_many_prompts_with_settings_of_their_own(models: Path, tmp_path: Path) -> None:
    """In their order; each becomes what it would alone."""
    entries: list[dict[str, Any]] = [{"prompt": f"Song {number}\n"} for number in range(70)]
    entries[5] |= {"seed": 99, "max_tokens": 3}
    entries[6] |= {"temperature": 0, "stop": ["e"]}
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    options = ["--seed", "3", "--max-tokens", "12"]
    rows = rows_of(models, "--prompt-file", str(tmp_path / "prompts.jsonl"), *options)
    assert [row["prompt"] for row in rows] == [entry["prompt"] for entry in entries]
    assert [row["seed"] for row in rows] == [3, 4, 5, 6, 7, 99, *range(9, 73)]
    assert rows[5]["config"] == {"max_tokens": 3}
    assert rows[6]["config"] == {"max_tokens": 12, "temperature": 0, "stop": ["e"]}
    assert len(rows[5]["ids"]) == 3
    assert rows_of(models, "--prompt", "Song 69\n", "--seed", "72", "--max-tokens", "12") == rows[69:]


def test_prompts_with_settings_are_known_by_an_ending_in_upper_case(models: Path, tmp_path: Path) -> None:
    (tmp_path / "PROMPTS.JSONL").write_text('{"prompt": "The"}\n{"prompt": "A"}\n')
    rows = rows_of(models, "--prompt-file", str(tmp_path / "PROMPTS.JSONL"), "--max-tokens", "2")
    assert [row["prompt"] for row in rows] == ["The", "A"]


def test_log_probabilities_in_json_and_in_colour(models: Path) -> None:
    options = ["--prompt", "The", "--seed", "1", "--max-tokens", "9", "--min-tokens", "9"]
    (row,) = rows_of(models, *options, "--top-logprobs", "2")
    assert len(row["logprobs"]) == len(row["top_logprobs"]) == len(row["ids"]) == 9
    assert all(value <= 0 for value in row["logprobs"])
    assert all(len(top) == 2 for top in row["top_logprobs"])
    assert rows_of(models, *options)[0]["logprobs"] is None
    for more in ([], ["--num", "2"]):
        command = ["sample", "songs", "--models-dir", str(models), *options, "--show-probabilities", *more]
        coloured = CliRunner().invoke(textgen, command, color=True, catch_exceptions=False).stdout
        assert coloured.count("\x1b[0m") >= 5
        plain = CliRunner().invoke(textgen, command, catch_exceptions=False).stdout
        assert click.unstyle(coloured) == plain
        assert plain.startswith("The" + row["text"])


def test_a_search_prints_the_likeliest_texts(models: Path) -> None:
    options = ["--prompt", "The", "--max-tokens", "8"]
    rows = rows_of(models, *options, "--num-beams", "4", "--num", "3")
    totals = [sum(row["logprobs"]) for row in rows]
    assert len(rows) == 3
    assert totals == sorted(totals, reverse=True)
    drawn = rows_of(models, *options, "--num", "20", "--best-of", "20", "--seed", "0")
    assert max(sum(row["logprobs"]) for row in drawn if len(row["ids"]) == 8) <= totals[0] + 1e-4
    text = run("sample", "songs", "--models-dir", str(models), *options, "--num-beams", "4").stdout
    assert text == "The" + rows[0]["text"] + "\n"


def test_writing_loads_no_tensorflow(models: Path) -> None:
    code = (
        "import sys\nfrom textgen.cli import textgen\n"
        f"textgen(['sample', 'songs', '--models-dir', {str(models)!r}, '--max-tokens', '3'], standalone_mode=False)\n"
        "print({'tensorflow', 'keras'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "set()"


def test_a_closed_pipe_ends_quietly(models: Path) -> None:
    arguments = f"sample songs --models-dir {models} --num 3 --seed 1 --max-tokens 2000"
    command = f"{sys.executable} -m textgen {arguments} | head -c 10"
    result = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert b"Traceback" not in result.stderr
    assert len(result.stdout) == 10
