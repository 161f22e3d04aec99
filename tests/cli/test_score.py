"""textgen score, as a user runs it."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from loaded_modules import modules_after
from repository import ROOT

from textgen.cli import options, textgen
from textgen.cli import score as cli_score
from textgen.cli.text_printer import colour_of
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.left_out import LeftOut
from textgen.evaluation import scoring
from textgen.evaluation.scoring import Scorer, TextScore
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

TEXT = "The cat sat on the mat.\n\n床前明月光\nThe dog\n"
LINES = ["The cat sat on the mat.", "床前明月光", "The dog"]


def score(models: Path, *arguments: str, stdin: str | bytes | None = None) -> Result:
    arguments = ("score", "tiny", *arguments, "--models-dir", str(models))
    return CliRunner().invoke(textgen, arguments, input=stdin, catch_exceptions=False, prog_name="textgen")


def scorer(models: Path) -> Scorer:
    saved = load_model("tiny", models)
    return Scorer(saved.numpy_model(), saved.tokenizer)


def test_two_models_are_compared_as_the_page_says(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "textgen" / "evaluation" / "README.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if '"log_probability"' in block)
    (tmp_path / "test.txt").write_text("\n".join(LINES), encoding="utf-8")
    rows = score(tiny_models, str(tmp_path / "test.txt"), "--documents", "line", "--json").stdout
    (tmp_path / "old.jsonl").write_text(rows, encoding="utf-8")
    better = [json.loads(row) for row in rows.splitlines()]
    for row, bits in zip(better, (1, 2, 3), strict=True):
        row["log_probability"] += bits * math.log(2)
    (tmp_path / "new.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in better), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out == "-2.000 ± 0.577 bits per document in 3 documents\n"


def test_a_text_a_line_and_their_sum(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    result = score(tiny_models, str(tmp_path / "text.txt"))
    rows = [line.split() for line in result.stdout.splitlines()]
    totals = [text.total for text in scorer(tiny_models).scores(LINES)]
    assert len(rows) == 1 + len(LINES) + 1
    for row, total in zip(rows[1:], totals, strict=False):
        assert [float(row[0]), int(row[3])] == [round(-total.nats, 2), total.tokens]
    assert float(rows[-1][0]) == pytest.approx(-sum(total.nats for total in totals), abs=0.01)
    assert result.stdout.splitlines()[1].endswith("  The cat sat on the mat.")
    assert result.stdout.splitlines()[-1].endswith("all 3 texts")
    assert score(tiny_models, stdin=TEXT).stdout == result.stdout == score(tiny_models, "-", stdin=TEXT).stdout


def test_json_says_what_evaluate_says(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The cat\n", encoding="utf-8")
    (found,) = map(json.loads, score(tiny_models, str(tmp_path / "text.txt"), "--json").stdout.splitlines())
    assert (found["text"], found["model"], found["tokens"], found["bytes"]) == ("The cat", "tiny", 8, 7)
    arguments = ["evaluate", "tiny", str(tmp_path / "text.txt"), "--json", "--models-dir", str(tiny_models)]
    evaluated = json.loads(CliRunner().invoke(textgen, arguments, catch_exceptions=False).stdout)
    for name in ("nats_per_token", "perplexity_per_token", "bits_per_byte", "tokens", "bytes"):
        assert found[name] == pytest.approx(evaluated[name], rel=1e-5)
    assert found["log_probability"] == pytest.approx(-8 * found["nats_per_token"])


def test_tokens(tiny_models: Path) -> None:
    plain = [line.split() for line in score(tiny_models, "--tokens", stdin="cat\n").stdout.splitlines()]
    assert [label for _, label in plain] == ["c", "a", "t", "<eos>"]
    beginning = score(tiny_models, "--tokens", "--no-end", stdin="cat").stdout.splitlines()
    assert [line.split()[1] for line in beginning] == ["c", "a", "t"]
    found = json.loads(score(tiny_models, "--tokens", "--json", stdin="cat\n").stdout)
    assert found["token_texts"] == ["c", "a", "t", "<eos>"]
    assert [float(bits) for bits, _ in plain] == pytest.approx(found["surprisal"], abs=0.01)
    assert sum(found["surprisal"]) * math.log(2) == pytest.approx(-found["log_probability"], rel=1e-4)
    assert score(tiny_models, "--tokens", stdin="a\nb\n").stdout.count("\n\n") == 1


def test_the_texts_in_the_colours_of_their_surprisals(tiny_models: Path) -> None:
    command = ["score", "tiny", "-", "--show-probabilities", "--no-end", "--models-dir", str(tiny_models)]
    shown = CliRunner().invoke(textgen, command, input=TEXT, color=True, catch_exceptions=False).stdout
    assert click.unstyle(shown) == "\n".join(LINES) + "\n"
    assert score(tiny_models, *command[2:5], stdin=TEXT).stdout == click.unstyle(shown)
    bits = next(scorer(tiny_models).scores(LINES[:1], ends=False)).surprisal
    assert shown.startswith(click.style("T", fg=colour_of(bits[0])) + click.style("h", fg=colour_of(bits[1])))


def test_a_character_of_several_tokens_has_one_colour() -> None:
    tokenizer = ByteTokenizer()
    scored = TextScore("aé", (*tokenizer.encode("aé"), tokenizer.eos_id), np.array([1.0, 2.0, 3.5, 9.0]))
    assert [*cli_score._parts(tokenizer, scored)] == [("a", 1.0), ("é", 5.5), ("", 0.0)]


def test_white_space_that_a_vocabulary_of_words_loses_is_shown() -> None:
    tokenizer = train_tokenizer(["the cat\nthe dog\n"] * 3, TokenizerConfig("word"))
    text = "the  owl\n\tcat \u2581dog "
    ids = tokenizer.encode(text)
    assert len(ids) == 5
    parts = ["the", "  owl", "\n", "\tcat", " \u2581dog", " "]
    assert [part for part, _ in cli_score._parts(tokenizer, TextScore(text, tuple(ids), np.arange(5.0)))] == parts


def test_json_lines_keep_their_other_fields(tiny_models: Path, tmp_path: Path) -> None:
    lines = '{"id": 7, "body": "The cat"}\n\n{"body": "", "token_texts": [1]}\n"The dog"\n'
    (tmp_path / "texts").write_text(lines, encoding="utf-8-sig")
    for paths, stdin in (([str(tmp_path / "texts")], None), (["-"], lines), ([], lines)):
        result = score(tiny_models, *paths, "--jsonl", "--text-field", "body", stdin=stdin)
        first, second, third = map(json.loads, result.stdout.splitlines())
        assert (first["id"], first["body"], first["tokens"]) == (7, "The cat", 8)
        assert (second["body"], second["tokens"], second["token_texts"]) == ("", 1, [1])
        assert (third["body"], third["tokens"]) == ("The dog", 8)
        assert first["log_probability"] == pytest.approx(-scorer(tiny_models).score("The cat").total.nats, rel=1e-5)


def test_files_of_json_lines_are_found_as_others_are(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "b.jsonl").write_text('{"text": "b"}\n', encoding="utf-8")
    with gzip.open(folder / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write('{"text": "a"}\n{"text": "the\\r\\ncat"}\n')
    (folder / "c.bin").write_bytes(bytes(100))

    def texts(*paths: str, stdin: str | None = None) -> list[str]:
        result = score(tiny_models, *paths, "--jsonl", stdin=stdin)
        assert result.exit_code == 0, result.stderr
        assert result.stderr.count("looks like a binary file") == (str(folder) in paths)
        return [json.loads(line)["text"] for line in result.stdout.splitlines()]

    assert texts(str(folder / "a.jsonl.gz")) == ["a", "the\r\ncat"]
    assert texts(str(folder)) == ["a", "the\r\ncat", "b"]
    assert texts(str(folder / "*.jsonl")) == ["b"]
    assert texts(str(folder / "b.jsonl"), "-", str(folder / "a*"), stdin='"c"\n') == ["b", "c", "a", "the\r\ncat"]


def test_the_text_of_a_json_line_is_scored_as_the_model_reads_it(tiny_models: Path) -> None:
    windows, plain = '{"text": "the\\r\\ncat"}\n', '{"text": "the\\ncat"}\n'

    def tokens(stdin: str, *flags: str) -> int:
        return int(json.loads(score(tiny_models, "--jsonl", *flags, stdin=stdin).stdout)["tokens"])

    assert tokens(windows) == tokens(plain)
    assert tokens(windows, "--newlines", "keep") == tokens(plain) + 1


def test_a_line_is_scored_while_the_stream_goes_on(tiny_models: Path) -> None:
    read: list[str] = []

    class Slow(io.BytesIO):
        def readline(self, size: int | None = -1) -> bytes:
            read.append("a line")
            return super().readline(size)

    rows = cli_score._row_readers(["-"], CorpusConfig())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "standard_bytes", lambda: Slow(b'"a"\n"b"\n'))
        found = rows[0](LeftOut())
        assert next(found)[1:] == ("a", "a")
        assert len(read) == 1


@pytest.mark.parametrize(
    ("row", "flags", "field"),
    [
        ({"text": "a", "tokens": 3}, [], "tokens"),
        ({"text": "a", "id": 1, "model": "gpt-2"}, [], "model"),
        ({"text": "a", "token_texts": ["a"]}, ["--tokens"], "token_texts"),
        ({"text": "a", "surprisal": 1}, ["--tokens"], "surprisal"),
        ({"tokens": "a"}, ["--text-field", "tokens"], "tokens"),
    ],
)
def test_a_field_that_a_score_would_replace_is_refused(
    tiny_models: Path, row: dict[str, object], flags: list[str], field: str
) -> None:
    result = score(tiny_models, "--jsonl", *flags, stdin=f"\n{json.dumps(row)}\n")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: standard input, line 2: the field '{field}' has the name of a score, which would replace it. "
        "Rename it.\n"
    )


@pytest.mark.parametrize("value", ["1e400", "NaN", '[0, {"a": -Infinity}]'])
def test_a_number_that_cannot_be_passed_on_is_refused(tiny_models: Path, value: str) -> None:
    """Null in its place would be another record."""
    result = score(tiny_models, "--jsonl", stdin=f'{{"text": "a", "n": 1e30}}\n{{"text": "a", "n": {value}}}\n')
    assert (result.exit_code, result.stdout.count("\n")) == (1, 1)
    assert json.loads(result.stdout)["n"] == 1e30
    assert result.stderr == (
        "Error: standard input, line 2: the field 'n' has a number that is infinite, too large or NaN, which JSON "
        "cannot pass on. Make it null or text.\n"
    )


def test_a_line_that_was_scored_before_is_scored_again(tiny_models: Path) -> None:
    scored = score(tiny_models, "--jsonl", "--tokens", stdin='{"text": "the cat", "id": 1}\n').stdout
    assert score(tiny_models, "--jsonl", "--tokens", stdin=scored).stdout == scored
    stale = json.dumps({**json.loads(scored), "model": "other", "bits_per_byte": 0, "unknown_words": 3})
    without = json.loads(score(tiny_models, "--jsonl", stdin=stale).stdout)
    assert without == {
        key: value for key, value in json.loads(scored).items() if key not in ("token_texts", "surprisal")
    }


def test_many_texts_keep_their_order(tiny_models: Path) -> None:
    rows = "".join(json.dumps({"text": "cat " * (n % 7), "n": n}) + "\n" for n in range(700))
    found = [json.loads(line) for line in score(tiny_models, "--jsonl", stdin=rows).stdout.splitlines()]
    assert [row["n"] for row in found] == list(range(700))
    assert all(row["bytes"] == 4 * (row["n"] % 7) for row in found)


def test_a_jsonl_file_is_read_as_a_corpus_is(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "The cat"}\n{"text": "two\\nlines"}\n', encoding="utf-8")
    found = [json.loads(row) for row in score(tiny_models, str(tmp_path / "texts.jsonl"), "--json").stdout.splitlines()]
    assert [row["text"] for row in found] == ["The cat", "two\nlines"]


class Text(str):
    """A text of which one can tell whether it is still held."""


@pytest.mark.parametrize("flags", [[], ["--tokens"], ["--json"]])
def test_memory_does_not_grow_with_the_texts(
    tiny_models: Path, tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Text]] = []
    most = 0

    def documents(_: Corpus) -> Iterator[str]:
        nonlocal most
        for number in range(40):
            text = Text(f"cat {number}")
            held.append(weakref.ref(text))
            yield text
            most = max(most, sum(each() is not None for each in held))

    monkeypatch.setattr(Corpus, "documents", documents)
    monkeypatch.setattr(scoring, "AHEAD_TEXTS", 4)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    assert score(tiny_models, str(tmp_path / "text.txt"), *flags).exit_code == 0
    assert len(held) == 40
    assert 4 <= most <= 8, "those of a group, and of the one that is printed"


# === Settings of the corpus ===


@pytest.mark.parametrize("flags", [["--text-column", "a"], ["--documents", "file"], ["--header"]])
def test_what_json_lines_do_not_read_is_wrong_usage(tiny_models: Path, flags: list[str]) -> None:
    result = score(tiny_models, "--jsonl", *flags, stdin='{"text": "The cat"}\n')
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"cannot be combined with {flags[0].replace('--header', '--no-header')}." in result.stderr
    read = score(tiny_models, "--jsonl", "--text-field", "a", "--encoding", "utf-8", stdin='{"a": "The cat"}\n')
    assert read.exit_code == 0


def test_files_that_are_skipped_are_noted(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT, encoding="utf-8")
    (folder / "b.bin").write_bytes(bytes(100))
    for command in (
        ["score", "tiny", str(folder)],
        ["inspect", "tiny", str(folder), "--max-tokens", "64"],
        ["models", "compress", "tiny", str(folder), "--out", "small", "--accept-loss"],
        ["sample", "tiny", "--adapt", str(folder), "--max-tokens", "2"],
    ):
        arguments = [*command, "--models-dir", str(tmp_path)]
        shutil.copytree(tiny_models / "tiny", tmp_path / "tiny", dirs_exist_ok=True)
        result = CliRunner().invoke(textgen, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        assert result.stderr.count(f"Skipped {folder / 'b.bin'}: it looks like a binary file.\n") == 1


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (["models", "compress", "tiny", "FILE", "--out", "small", "--accept-loss"], "FILE"),
        (["sample", "tiny", "--adapt", "FILE", "--max-tokens", "2"], "--adapt"),
    ],
)
def test_what_a_message_tells_to_set_can_be_set(
    tiny_models: Path, tmp_path: Path, command: list[str], needed: str
) -> None:
    shutil.copytree(tiny_models / "tiny", tmp_path / "tiny")
    (tmp_path / "a.csv").write_bytes("title\nthe café on the mat\n".encode("cp1252") * 9)

    def run(*more: str, arguments: list[str] = command) -> Result:
        named = [str(tmp_path / "a.csv") if word == "FILE" else word for word in arguments]
        return CliRunner().invoke(textgen, [*named, *more, "--models-dir", str(tmp_path)], catch_exceptions=False)

    assert "set --encoding to" in run().stderr
    assert "Set --text-column" in run("--encoding", "cp1252").stderr
    done = run("--encoding", "cp1252", "--text-column", "title")
    assert done.exit_code == 0, done.stderr
    without = run("--encoding", "cp1252", arguments=[word for word in command if word not in ("FILE", "--adapt")])
    assert (without.exit_code, without.stdout) == (2, "")
    assert f"--encoding needs {needed}." in without.stderr


@pytest.mark.parametrize("way", [["--follow", "--all", "--json"], ["--jsonl"]])
def test_lines_in_other_encodings(tiny_models: Path, way: list[str]) -> None:
    result = score(tiny_models, *way, "--encoding", "latin-1", stdin='"für"\n'.encode("latin-1"))
    assert json.loads(result.stdout)["text"].strip('"') == "für"


def test_the_newlines_of_a_separator_are_those_of_the_lines(tiny_models: Path) -> None:
    bits = {
        separator: [
            json.loads(row)["bits_per_character"]
            for row in score(
                tiny_models, "--follow", "--all", "--json", "--documents", f"separator:{separator}", stdin="a\n--\nb\n"
            ).stdout.splitlines()
        ]
        for separator in ("\\n--\\n", "\\r\\n--\\r\\n", "%")
    }
    assert len(bits["\\n--\\n"]) == 2
    assert bits["\\r\\n--\\r\\n"] == bits["\\n--\\n"] != bits["%"]


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_the_mark_of_a_stream_of_json_lines_decides(tiny_models: Path, mark: str) -> None:
    result = score(tiny_models, "--jsonl", "--encoding", "latin-1", stdin='"für"\n"dich"\n'.encode(mark))
    assert [json.loads(row)["text"] for row in result.stdout.splitlines()] == ["für", "dich"]


def test_the_encoding_of_files_and_of_a_stream_is_one(tiny_models: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('"für"\n'.encode("latin-1"))
    alone, beside = (score(tiny_models, "--jsonl", str(path), *rest, stdin='"a"').stderr for rest in ([], ["-"]))
    assert ("convert it with iconv" in alone, "convert it with iconv" in beside) == (False, True)


@pytest.fixture(scope="module")
def western(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Path:
    """A folder with `tiny` as if it had been trained on a text in cp1252."""
    folder = tmp_path_factory.mktemp("western") / "models"
    saved = load_model("tiny", tiny_models)
    corpus = replace(saved.corpus_config, encoding="cp1252")
    configs = saved.model_config, saved.tokenizer_config, corpus
    save_model(folder / "tiny", saved.weights(), *configs, saved.tokenizer)
    return folder


@pytest.mark.parametrize("way", [["--json"], ["--jsonl"], ["--follow", "--all", "--json"]])
def test_the_encoding_of_the_training_text_is_not_that_of_other_texts(
    tiny_models: Path, western: Path, way: list[str]
) -> None:
    result = score(western, *way, stdin='"café"\n'.encode())
    assert json.loads(result.stdout)["text"].strip('"') == "café"
    assert result.stdout == score(tiny_models, *way, stdin='"café"\n'.encode()).stdout


def test_files_are_read_as_utf_8_whatever_the_training_text_was(
    tiny_models: Path, western: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("Le café est là, tout près.\n" * 4, encoding="utf-8")
    (tmp_path / "western.txt").write_text("Le café est là, tout près.\n" * 4, encoding="cp1252")

    def results(models: Path, file: str, *more: str) -> list[str]:
        commands = [
            ["evaluate", "tiny", str(tmp_path / file), "--json"],
            ["inspect", "tiny", str(tmp_path / file), "--documents", "file", "--json"],
        ]
        return [
            CliRunner().invoke(textgen, [*each, *more, "--models-dir", str(models)], catch_exceptions=False).stdout
            for each in commands
        ]

    expected = results(tiny_models, "text.txt")
    assert all(expected)
    assert results(western, "text.txt") == results(western, "western.txt", "--encoding", "cp1252") == expected


@pytest.mark.parametrize(
    ("command", "can_stop"),
    [
        (["score", "tiny", "FILE"], True),
        (["score", "tiny", "FILE", "--jsonl"], True),
        (["evaluate", "tiny", "FILE"], True),
        (["embed", "tiny", "FILE"], False),
        (["sample", "tiny", "--adapt", "FILE", "--max-tokens", "2"], False),
        (["models", "compress", "tiny", "FILE", "--out", "small", "--accept-loss"], False),
    ],
)
def test_a_training_that_stops_at_a_record_without_text_lets_other_commands_skip_it(
    tiny_models: Path, tmp_path: Path, command: list[str], can_stop: bool
) -> None:
    saved = load_model("tiny", tiny_models)
    configs = saved.model_config, saved.tokenizer_config, replace(saved.corpus_config, strict=True)
    save_model(tmp_path / "tiny", saved.weights(), *configs, saved.tokenizer)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "the cat"}\n' * 9 + '{"body": "b"}\n', encoding="utf-8")
    words = [str(path) if word == "FILE" else word for word in command] + ["--models-dir", str(tmp_path)]
    result = CliRunner().invoke(textgen, words, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert "Skipped 1 record without text" in result.stderr
    if can_stop:
        assert "leave --strict out" in CliRunner().invoke(textgen, [*words, "--strict"]).stderr


# === What it needs, and mistakes ===


def test_scoring_loads_no_tensorflow(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    stdin = "import io; sys.stdin = io.TextIOWrapper(io.BytesIO(b'the cat'))"
    for arguments in ([str(tmp_path / "text.txt")], ["--follow"]):
        words = ["score", "tiny", *arguments, "--models-dir", str(tiny_models)]
        code = f"{stdin}; from textgen.cli import textgen\ntextgen({words}, standalone_mode=False)"
        assert "sentencepiece" in (loaded := modules_after(code))
        assert not {"tensorflow", "keras"} & loaded


BAD: list[tuple[list[str], str | bytes | None, int, str]] = [
    (["missing.txt"], None, 1, "missing.txt"),
    ([], "", 1, "No text in standard input"),
    ([], " \n\n", 1, "No text"),
    ([], b"the caf\xff", 1, "encoding"),
    (["missing.txt", "--jsonl"], None, 1, "missing.txt does not exist. Check the path."),
    (["--jsonl", "nothing*.jsonl"], None, 1, "Nothing matches nothing*.jsonl."),
    (["--jsonl"], "", 1, "No text in standard input: it is empty or has only white space"),
    (["--jsonl"], "{", 1, "standard input, line 1: not JSON"),
    (["--jsonl", "--strict"], '{"text": "a"}\n{"body": "b"}\n', 1, "line 2: a record without text (field 'text' is"),
    (
        ["--jsonl"],
        '{"body": "b"}\n',
        1,
        "no field 'text' in any record. Set --text-field to one that holds text: body.",
    ),
    (["--jsonl"], '{"text": 3}', 1, "is a number"),
    (["--jsonl"], b'"a"\n"\xff"\n', 1, "line 2: not utf-8"),
    (["--jsonl"], b"\xef\xbb\xbf" + b'"a"\n"\xff"\n', 1, "Save it again in the encoding of its byte-order mark."),
    (["--follow", "missing.txt"], None, 1, "Cannot read missing.txt: No such file or directory. Name a file"),
    (["--follow", "."], None, 1, "Is a directory"),
    (["--follow", "a", "b"], None, 2, "name only one"),
    (
        ["--follow", "y2023.csv"],
        None,
        2,
        "plain lines, and y2023.csv is a table: leave out --follow, or pipe the column.",
    ),
    (["--follow", "a/b.TSV"], None, 2, "a/b.TSV is a table: leave out --follow, or pipe the column."),
    (["--follow", "a.json"], None, 2, "a.json holds JSON: leave out --follow, or pipe the texts in it."),
    (["--follow", "a.jsonl"], None, 2, "a.jsonl holds JSON: leave out --follow"),
    (["--follow", "a.csv.gz"], None, 2, "a.csv.gz is compressed: leave out --follow, or pipe its unpacked lines."),
    (["--follow", "a.pdf"], None, 2, "a.pdf is a .pdf document: leave out --follow, or pipe its text."),
    (["--follow", "--tokens"], None, 2, "cannot be combined with --tokens"),
    (["--follow", "--show-probabilities"], None, 2, "cannot be combined with --show-probabilities"),
    (["--tokens", "--show-probabilities"], None, 2, "cannot be combined with --tokens"),
    (["--json", "--show-probabilities"], None, 2, "cannot be combined with --json"),
    (["--follow", "--jsonl"], None, 2, "cannot be combined with --jsonl"),
    (["--follow", "--encoding", "utf-16"], "", 1, "cannot be split into lines while it arrives"),
    (["--follow", "--text-field", "body"], None, 2, "cannot be combined with --text-field"),
    (["--all"], None, 2, "--all needs --follow"),
    (["--threshold", "0"], None, 2, "--threshold needs --follow"),
    (["--window", "30"], None, 2, "--window needs --follow"),
    (["--follow", "--threshold", "-1"], None, 2, "threshold"),
    (["--follow", "--window", "3"], None, 2, "window"),
]


@pytest.mark.parametrize(("arguments", "stdin", "code", "expected"), BAD, ids=[row[3] for row in BAD])
def test_a_mistake_is_one_clear_line(
    tiny_models: Path, arguments: list[str], stdin: str | bytes | None, code: int, expected: str
) -> None:
    result = score(tiny_models, *arguments, stdin=stdin)
    assert result.exit_code == code
    assert expected in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_no_such_model(tiny_models: Path) -> None:
    result = CliRunner().invoke(textgen, ["score", "nobody", "--models-dir", str(tiny_models)])
    assert (result.exit_code, "There are: tiny" in result.stderr) == (1, True)
