"""Commands that name no model: before any training a base does the work, and says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen
from textgen.cli.default_model import note_if_training
from textgen.storage.locks import locked

NOTE = "There is no model in {} yet. Using the base {}. To train your own model: textgen train FILE\n"


@pytest.fixture
def work(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh installation with two bases, and no model."""
    for name in ("english", "chinese"):
        shutil.copytree(tiny_models / "tiny", tmp_path / "bases" / name)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("TEXTGEN_MODELS")
    for starting in ("os.execve", "textgen.server.serving.serve"):  # a page or a server is not started by any of these
        monkeypatch.setattr(starting, pytest.fail)
    Path("cat.txt").write_text("The cat sat on the mat.\n" * 3, encoding="utf-8")
    Path("moon.txt").write_text("床前明月光，疑是地上霜。\n", encoding="utf-8")
    Path("lines.csv").write_text("id,text\n1,床前明月光\n", encoding="utf-8")
    return tmp_path / "work"


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(textgen, arguments, input=stdin, catch_exceptions=False, prog_name="textgen")


def note(base: str) -> str:
    return NOTE.format("saved_models", base)


@pytest.mark.parametrize(
    ("arguments", "stdin", "base"),
    [
        (["sample", "--prompt", "The cat"], None, "english"),
        (["sample", "--prompt", "明月"], None, "chinese"),
        (["sample", "--prompt", "-"], "明月", "chinese"),
        (["sample"], None, "english"),
        (["sample", "--prompt", "1984"], None, "english"),
        (["score", "moon.txt"], None, "chinese"),
        (["score", "cat.txt", "moon.txt"], None, "english"),
        (["score", "-"], "明月", "chinese"),
        (["score", "-", "--follow", "--documents", "line"], "明月\n", "chinese"),
        (["evaluate", "moon.txt"], None, "chinese"),
        (["embed", "cat.txt"], None, "english"),
        (["embed", "-"], "明月\n", "chinese"),
        (["embed", "lines.csv"], None, "chinese"),
        (["embed", "--text", "明月"], None, "chinese"),
    ],
)
def test_before_any_training_a_base_is_used(work: Path, arguments: list[str], stdin: str | None, base: str) -> None:
    command, *rest = arguments
    limits = ["--max-tokens", "3", "--temperature", "0"] if command == "sample" else []
    result = run(*arguments, *limits, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(note(base))
    assert result.stderr.count(note(base)) == 1
    named = run(command, base, *rest, *limits, stdin=stdin)
    assert (named.stdout, named.stderr) == (result.stdout, result.stderr.replace(note(base), ""))


@pytest.mark.parametrize("named", [[], ["english"]])
def test_a_base_says_that_it_does_not_know_what_is_usual_in_a_stream(work: Path, named: list[str]) -> None:
    result = run("score", *named, "-", "--follow", stdin="GET /index.html 200\n")
    assert result.stderr == ("" if named else note("english")) + (
        "The base english has read books, not such lines, so it does not know what is usual in them: train on the log "
        "first (textgen train FILE), and name that model.\n1 line, 0 of them unusual.\n"
    )


CHINESE_LINES = "床前明月光，疑是地上霜。\n" * 3
ESCAPED = "".join(json.dumps({"title": "The moon", "text": line}) + "\n" for line in CHINESE_LINES.splitlines())


@pytest.mark.parametrize(
    ("name", "data", "flags"),
    [
        ("moon-gbk.txt", CHINESE_LINES.encode("gbk"), ["--encoding", "gbk"]),
        ("moon-big5.txt", "舉頭望明月，低頭思故鄉。\n".encode("big5"), ["--encoding", "big5"]),
        ("moon-16.txt", CHINESE_LINES.encode("utf-16"), []),
        ("moon.jsonl", ESCAPED.encode(), ["--jsonl"]),
        ("moon-json.txt", ESCAPED.encode(), ["--jsonl"]),
        ("moon-long.jsonl", (json.dumps({"title": "x", "text": CHINESE_LINES * 300}) + "\n").encode(), ["--jsonl"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_standard_input_gets_the_base_of_the_file(
    work: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, flags: list[str]
) -> None:
    monkeypatch.setattr("textgen.cli.score._score_texts", lambda *arguments: None)
    Path(name).write_bytes(data)
    for result in (run("score", name, *flags), run("score", "-", *flags, stdin=data)):
        assert (result.exit_code, result.stderr) == (0, note("chinese"))


def test_a_mistake_on_standard_input_is_told_by_what_reads_it(work: Path) -> None:
    result = run("score", "-", "--jsonl", stdin="{\n")
    assert result.exit_code == 1
    assert "Error: standard input, line 1: not JSON" in result.stderr
    result = run("score", "-", "--encoding", "moon", stdin="The cat")
    assert result.stderr.startswith("Error: There is no encoding 'moon'. ")


def test_json_names_the_base(work: Path) -> None:
    result = run("sample", "--prompt", "The cat", "--json", "--max-tokens", "2", "--seed", "1")
    assert json.loads(result.stdout)["model"] == "english"
    assert json.loads(run("score", "moon.txt", "--json").stdout)["model"] == "chinese"


@pytest.mark.parametrize("command", [["sample", "--prompt", "กาลครั้งหนึ่ง"], ["score", "thai.txt"]])
def test_a_writing_system_without_a_base_is_told_in_a_line(work: Path, command: list[str]) -> None:
    Path("thai.txt").write_text("กาลครั้งหนึ่ง\n", encoding="utf-8")
    result = run(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: There is no model in saved_models yet. There is no base for the writing system of this text (there "
        "are: english, for Latin letters; chinese, for Chinese characters): train a model on such text first.\n"
    )


def test_a_base_that_is_missing_is_told_in_a_line(work: Path) -> None:
    shutil.rmtree(work.parent / "bases" / "chinese")
    result = run("sample", "--prompt", "明月")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: This installation lacks the base 'chinese': ")


def test_without_bases_all_is_as_before(work: Path) -> None:
    shutil.rmtree(work.parent / "bases")
    assert run("sample").stderr == "Error: There is no model in saved_models yet. Train a model first.\n"
    assert run("score", "cat.txt").stderr == run("sample").stderr
    assert "This installation lacks the base 'english'" in run("sample", "english").stderr


def test_a_model_of_the_user_goes_before_the_bases(work: Path, tiny_models: Path) -> None:
    shutil.copytree(tiny_models / "tiny", work / "saved_models" / "mine")
    result = run("sample", "--prompt", "明月", "--json", "--max-tokens", "2")
    assert (json.loads(result.stdout)["model"], result.stderr) == ("mine", "")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal, for commands that need one."""
    monkeypatch.setattr("textgen.cli.write.needs_terminal", lambda: None)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["score", "cat.txt"], "Name a model before it."),
        (["score", "cat.txt", "moon.txt"], "Name a model before it."),
        (["evaluate", "cat.txt"], "Name a model before it."),
        (["evaluate", "cat.txt", "moon.txt"], "Name a model before it."),
        (["embed", "cat.txt"], "Name a model before it."),
        (["write", "cat.txt"], "Name a model before it."),
        (["inspect", "cat.txt"], "Name a model before it."),
        (["tune-state", "cat.txt", "--out", "state"], "Name a model before it."),
        (["tune-state", "cat.txt", "moon.txt", "--out", "state"], "Name a model before it."),
        (["sample", "cat.txt"], "To begin with the text of a file, use --prompt-file."),
        (["models", "show", "cat.txt"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_file_in_place_of_a_model_is_told(
    work: Path, tiny_models: Path, terminal: None, arguments: list[str], hint: str
) -> None:
    shutil.copytree(tiny_models / "tiny", work / "saved_models" / "mine")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    bases = "Bases: english, chinese."
    said = f"Error: 'cat.txt' is a file, not a model. There are: mine. {bases} {hint}"
    assert result.stderr == f"{said.rstrip()}\n"


@pytest.mark.parametrize("command", ["score", "evaluate", "embed", "write"])
def test_before_any_training_an_argument_may_be_meant_as_either(work: Path, terminal: None, command: str) -> None:
    result = run(command, "dog.txt")
    assert result.exit_code == 1
    said = "Error: There is neither a file nor a model 'dog.txt'. There is no model in saved_models yet."
    assert result.stderr == f"{said} Bases: english, chinese.\n"
    assert run(command, "englsh").stderr.endswith("yet. Bases: english, chinese. Did you mean 'english'?\n")
    mistyped = run(command, "dog.txt", "--models-dir", "mistyped")
    assert mistyped.stderr == "Error: There is no folder mistyped: correct --models-dir.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "cat.txt", "-", "--follow"],
        ["score", "cat.txt", "moon.txt", "--follow"],
        ["write", "cat.txt", "new.md"],
    ],
    ids=" ".join,
)
def test_a_file_with_the_name_of_a_missing_model_is_not_taken_for_one_text_too_many(
    work: Path, terminal: None, arguments: list[str]
) -> None:
    result = run(*arguments, stdin="a line\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: 'cat.txt' is a file, not a model. There is no model in saved_models yet. Bases: english, chinese.\n"
    )


@pytest.mark.parametrize("text", ["The cat sat", "床前，明月光", "春眠不觉晓", "Hello!"])
def test_a_prompt_in_place_of_a_model_is_told(work: Path, text: str) -> None:
    assert run("sample", text).stderr.endswith(" To begin with a text, use --prompt.\n")
    assert "use --prompt" not in run("sample", "novel-2").stderr


def test_what_is_missing_on_a_command_line_is_said_as_before(work: Path) -> None:
    for command, word in (("evaluate", "PATHS..."), ("score", "MODEL"), ("embed", "MODEL")):
        result = run(command, *(["english"] if command == "evaluate" else []))
        assert (result.exit_code, f"Missing argument '{word}'." in result.stderr) == (2, True), command
    assert "Missing argument 'MODEL'." in run("evaluate").stderr


def test_writing_together_needs_no_model(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def load(name: str | None, folder: Path | None, beginning: Callable[[], str], hint: str) -> None:
        seen.append(beginning())
        raise ZeroDivisionError

    monkeypatch.setattr("textgen.cli.write.load_model_or_base", load)
    monkeypatch.setattr("textgen.cli.write.needs_terminal", lambda: None)
    for arguments in ([], ["moon.txt"], ["english", "new.txt"], ["english", "moon.txt"]):
        with pytest.raises(ZeroDivisionError):
            run("write", *arguments)
    assert [text.strip() for text in seen] == ["", "床前明月光，疑是地上霜。", "", "床前明月光，疑是地上霜。"]


# --- models --------------------------------------------------------------------------------------------------


def test_the_list_has_bases_of_its_own(work: Path, tiny_models: Path) -> None:
    result = run("models", "list")
    assert result.stderr == "There is no model in saved_models yet. To train a model: textgen train FILE\n"
    heads = [line.split()[0] for line in result.stdout.splitlines()]
    assert heads == ["BASE", "english", "chinese"]
    shutil.copytree(tiny_models / "tiny", work / "saved_models" / "mine")
    lines = run("models", "list").stdout.splitlines()
    assert [line.split()[0] if line else "" for line in lines] == ["MODEL", "mine", "", "BASE", "english", "chinese"]
    assert (lines[0].split()[-1], lines[-1].endswith("part of textgen")) == ("STATUS", True)
    rows = json.loads(run("models", "list", "--json").stdout)
    assert [row["status"] for row in rows] == ["unknown"] * 3
    assert [(row["name"], row["is_base"]) for row in rows] == [
        ("mine", False), ("english", True), ("chinese", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        ["models", "list"],
        ["models", "list", "--json"],
        ["sample"],
        ["score", "cat.txt"],
        ["evaluate", "cat.txt"],
        ["embed", "cat.txt"],
        ["serve"],
        ["tensorboard"],
    ],
    ids=" ".join,
)
def test_a_folder_of_models_that_is_mistyped_is_not_taken_for_an_empty_one(work: Path, command: list[str]) -> None:
    for folder in ("mistyped", "cat.txt/models"):
        result = run(*command, "--models-dir", folder)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"Error: There is no folder {folder}: correct --models-dir.\n"
    assert not Path("mistyped").exists()


def test_a_folder_of_models_in_the_environment_may_be_made_later(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTGEN_MODELS", "later")
    monkeypatch.setattr("textgen.server.serving.serve", lambda *arguments: None)
    why = "There is no folder later yet, which TEXTGEN_MODELS names: textgen train makes it."
    result = run("sample", "--prompt", "The cat", "--max-tokens", "2")
    assert (result.exit_code, result.stderr.startswith(f"{why} Using the base english. ")) == (0, True)
    result = run("models", "list", "--json")
    assert (result.exit_code, len(json.loads(result.stdout))) == (0, 2)
    assert result.stderr == f"{why} To train a model: textgen train FILE\n"
    assert run("tensorboard").stderr == f"Error: {why}\n"
    assert run("serve").stderr == f"{why} The bases are served.\n"
    monkeypatch.setenv("TEXTGEN_MODELS", "cat.txt")
    assert run("tensorboard").stderr == "Error: There is no folder cat.txt: correct TEXTGEN_MODELS.\n"


def test_a_model_without_logs_is_not_shown_as_an_empty_page(work: Path, tiny_models: Path) -> None:
    shutil.copytree(tiny_models / "tiny", work / "saved_models" / "mine", ignore=shutil.ignore_patterns("logs"))
    result = run("tensorboard", "mine")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: mine has no logs: it was not trained here")
    assert "english is a base" in run("tensorboard", "english").stderr


def test_an_empty_folder_of_models_is_not_shown_as_an_empty_page(work: Path) -> None:
    (work / "saved_models").mkdir(exist_ok=True)
    result = run("tensorboard")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: There is no model in saved_models yet.\n"


def test_a_base_is_shown_and_not_removed(work: Path, tiny_models: Path) -> None:
    assert run("models", "show", "english").stdout.startswith("# english\n")
    result = run("models", "remove", "english", "--yes")
    assert result.exit_code == 1
    assert "english is a base, which is a part of the program: only your own models are removed." in result.stderr
    assert (work.parent / "bases" / "english" / "MANIFEST.json").exists()
    shutil.copytree(tiny_models / "tiny", work / "saved_models" / "english")
    assert run("models", "remove", "english", "--yes").exit_code == 0
    assert not (work / "saved_models" / "english").exists()


def test_python_finds_a_base_by_its_name(work: Path) -> None:
    import textgen as package

    assert package.load("english").generate("The cat", package.SamplingConfig(max_tokens=3))[0].prompt == "The cat"
    assert package.load_model("english").shell_name == "english"
    assert package.score("english", "The cat")[0].total.tokens > 0


@pytest.mark.parametrize(
    ("training", "is_noted"), [({"status": "running"}, True), ({"status": "finished: epochs"}, False), ({}, False)]
)
def test_a_model_that_another_process_compresses_is_not_in_training(
    training: dict[str, Any], is_noted: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved: Any = SimpleNamespace(folder=tmp_path, name="novel", training=training)
    with locked(tmp_path):
        note_if_training(saved)
    assert ("novel is being trained at the moment" in capsys.readouterr().err) is is_noted
