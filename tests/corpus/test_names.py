"""Names that are no text, as old archives leave them, names that are too long, links, and folders that are closed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from files import read, write

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import CorpusError
from textgen.saved_model.layout import read_json
from textgen.storage.files import json_bytes, write_file
from textgen.wording import shell_word

ODD = os.fsdecode(b"caf\xe9")  # in latin-1; no text in UTF-8
TEXT = "The cat sat on the mat. The dog saw the cat.\n"
TINY = ["--tokenizer", "char", "--hidden-units", "4", "--embedding-dim", "4", "--num-layers", "1", "--steps", "1"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(textgen, list(map(str, arguments)), prog_name="textgen", catch_exceptions=False)


# === Names that are no text ===


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A model whose corpus, held-out text, labels and folder have names that are no text."""
    folder = tmp_path_factory.mktemp("names") / f"in-{ODD}"
    for number in range(3):
        write(folder, f"{ODD}/{ODD}-{number}.txt", TEXT * 9)
    write(folder, f"valid-{ODD}.txt", TEXT * 9)
    arguments = ["--valid-file", folder / f"valid-{ODD}.txt", "--labels", "folder", "--name", "cafe"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEXTGEN_CACHE", str(folder / "cache"))
        return folder, run("train", folder / ODD, *arguments, "--models-dir", folder, *TINY)


def test_a_model_can_be_trained_on_names_that_are_no_text(trained: tuple[Path, Result]) -> None:
    folder, result = trained
    assert result.exit_code == 0, result.stderr
    assert "\\xe9" in result.stdout
    result.stdout.encode()
    result.stderr.encode()
    record = read_json(folder / "cafe" / "training.json")
    files = [Path(path) for path in record["corpus"]["paths"]]
    assert [file.name for file in files] == [f"{ODD}-{number}.txt" for number in range(3)]
    assert all(file.is_file() for file in [*files, *map(Path, record["corpus"]["valid"])])
    assert record["labels"] == ["caf\\xe9"]


def test_such_a_model_is_found_shown_and_resumed(trained: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = trained
    monkeypatch.setenv("TEXTGEN_CACHE", str(folder / "cache"))
    where = ["--models-dir", folder]
    assert "cafe " in run("models", "list", *where).stdout
    assert json.loads(run("models", "list", "--json", *where).stdout)[0]["name"] == "cafe"
    assert "caf\\xe9" in run("models", "show", "cafe", *where).stdout
    sample = run("sample", "cafe", "--max-tokens", "2", "--seed", "1", "--label", "caf\\xe9", *where)
    assert (sample.exit_code, sample.stderr) == (0, "")
    shutil.rmtree(folder / "cache" / "tokens")  # the corpus is read again
    resumed = run("train", "--resume", "--name", "cafe", "--steps", "2", *where)
    assert resumed.exit_code == 0, resumed.stderr
    assert f"Resuming {folder}".replace(ODD, "caf\\xe9") in resumed.stderr


def test_a_model_has_a_name_that_can_be_shown(tmp_path: Path) -> None:
    text = write(tmp_path, "songs.txt", TEXT * 9)
    result = run("train", text, "--name", f"name-{ODD}", "--models-dir", tmp_path, *TINY)
    assert result.exit_code == 1
    assert "characters that cannot be shown" in result.stderr
    assert "name-caf" in result.stderr
    assert list(tmp_path.iterdir()) == [text]


def test_a_corpus_is_prepared_whose_names_are_no_text(tmp_path: Path) -> None:
    write(tmp_path, f"{ODD}/{ODD}.txt", TEXT * 99)
    out = tmp_path / f"out-{ODD}"
    command = ["corpus", "prepare", tmp_path / ODD, "--out", out, "--tokenizer", "byte"]
    first = run(*command, "--json")
    assert first.exit_code == 0, first.stderr
    assert json.loads(first.stdout)["folder"] == str(out)
    again = run(*command)
    assert "already exists" in again.stderr
    assert f"Train on it: textgen train {shell_word(str(out))}" in again.stdout


def test_other_commands_take_names_that_are_no_text(tmp_path: Path, tiny_models: Path) -> None:
    text = write(tmp_path, f"{ODD}.txt", TEXT)
    where = ["--models-dir", tiny_models]
    assert run("corpus", "stats", tmp_path).exit_code == 0
    assert run("score", "tiny", text, *where).exit_code == 0
    found = run("embed", "tiny", text, "--search", "cat", *where)
    assert "caf\\xe9.txt:1" in found.stdout
    missing = run("corpus", "stats", tmp_path / f"{ODD}.tx")
    assert "caf\\xe9.tx does not exist. Did you mean" in missing.stderr
    nobody = run("sample", f"no-{ODD}", *where)
    assert nobody.exit_code == 1
    assert "Traceback" not in nobody.stderr


def test_json_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    write_file(tmp_path / "a.json", json_bytes({"path": ODD}))
    assert (tmp_path / "a.json").read_bytes().isascii()
    assert read_json(tmp_path / "a.json") == {"path": ODD}


def test_a_shell_finds_the_name_in_a_command_again(tmp_path: Path) -> None:
    import subprocess

    for name in (ODD, f"it's \\ {ODD}\n\x1b[m", "a b", "a\nb\tc", "'", "$x", "a\x85\u202eb", "绝句", "हिन्दी"):
        command = f"printf %s {shell_word(name)}"
        assert command.isprintable()
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
        assert os.fsdecode(done.stdout) == name


# === Names that are too long, and folders that are closed ===

LONG = "x" * 300


@pytest.fixture
def text_and_model(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder has the text a.txt, and the models folder the model `tiny`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEXTGEN_MODELS", str(tiny_models))
    write(tmp_path, "a.txt", TEXT * 99)


@pytest.mark.parametrize(
    "command",
    [
        ["corpus", "stats", LONG],
        ["train", LONG],
        ["train", "a.txt", "--valid-file", LONG],
        ["train", "a.txt", "--tokenizer-from", LONG],
        ["train", "a.txt", "--from", LONG],
        ["train", "a.txt", "--config", LONG],
        ["train", "a.txt", "--name", LONG, *TINY],
        ["corpus", "prepare", "a.txt", "--out", LONG, "--tokenizer", "byte"],
        ["sample", LONG],
        ["sample", "tiny", "--prompt-file", LONG],
        ["sample", "tiny", "--adapt", LONG],
        ["sample", "tiny", "--save-state", LONG],
        ["sample", "tiny", "--load-state", LONG],
        ["score", "tiny", LONG],
        ["score", "tiny", LONG, "--jsonl"],
        ["score", "tiny", LONG, "--follow"],
        ["embed", "tiny", LONG],
        ["models", "show", LONG],
        ["models", "remove", LONG],
        ["tokenizer", "train", "a.txt", "--out", LONG],
        ["tokenizer", "info", LONG],
        ["tensorboard", LONG],
    ],
    ids=lambda command: " ".join(command).replace(LONG, "LONG"),
)
def test_a_name_that_is_too_long_is_one_line(text_and_model: None, command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code in (1, 2)
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "[Errno" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["corpus", "stats", ""],
        ["train", "", "--dry-run"],
        ["train", "a.txt", "--valid-file", "", "--dry-run"],
        ["train", "a.txt", "--tokenizer-from", "", "--dry-run"],
        ["train", "a.txt", "--config", "", "--dry-run"],
        ["train", "a.txt", "--models-dir", "", "--dry-run"],
        ["corpus", "prepare", "a.txt", "--out", "", "--tokenizer", "byte"],
        ["sample", "tiny", "--prompt-file", ""],
        ["sample", "tiny", "--adapt", ""],
        ["score", "tiny", ""],
        ["score", "tiny", "", "--jsonl"],
        ["score", "tiny", "", "--follow"],
        ["evaluate", "tiny", ""],
        ["evaluate", "tiny", "a.txt", "--ensemble", "tiny", "--ensemble", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_current_folder(text_and_model: None, command: list[str]) -> None:
    result = run(*command)
    assert (result.exit_code in (1, 2), result.stdout) == (True, "")
    assert "is empty: name a file or a folder" in result.stderr
    with pytest.raises(CorpusError, match="A path is empty"):
        Corpus("")


@pytest.mark.parametrize("command", [["score", "", "--jsonl"], ["sample", ""], ["models", "show", ""]], ids=" ".join)
def test_an_empty_name_is_that_of_no_model(text_and_model: None, command: list[str]) -> None:
    result = run(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.replace("[MODEL]", "MODEL").endswith("'MODEL' is empty: name a model.\n")


def test_a_folder_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "closed/a.txt", "a")
    scan = os.scandir

    def refuse(path: str | Path) -> object:
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # rights do not bind the root user
    for path in (tmp_path, tmp_path / "closed"):
        result = run("corpus", "stats", path)
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: Cannot read {tmp_path / 'closed'}: permission denied. Ask the owner for permission to read it.\n"
        )


# === Links ===


def test_linked_folders_are_read_once_however_they_are_linked(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/deep/b.txt", "b")
    write(tmp_path, "elsewhere/.hidden/c.txt", "c")
    write(tmp_path, "text/a.txt", "a")
    (tmp_path / "text/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "text/again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "text/deep").symlink_to(tmp_path / "elsewhere/deep")
    (tmp_path / "text/.link").symlink_to(tmp_path / "elsewhere/.hidden")
    (tmp_path / "text/itself").symlink_to(tmp_path / "text")
    (tmp_path / "elsewhere/deep/up").symlink_to(tmp_path)
    assert sorted(read(tmp_path / "text", documents="file")) == ["a", "b"]
    assert sorted(read(tmp_path / "text" / "link", tmp_path / "text" / "a.txt", documents="file")) == ["a", "b"]


def test_links_among_many_folders_end(tmp_path: Path) -> None:
    for name in "abcdefghij":
        write(tmp_path, f"{name}/{name}.txt", name)
    for name in "abcdefghij":
        for other in "abcdefghij":
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    assert sorted(read(tmp_path / "a", documents="file")) == list("abcdefghij")


def test_the_label_of_a_linked_file_is_the_folder_where_it_lies(tmp_path: Path) -> None:
    write(tmp_path, "Shelley/b.txt", "b")
    write(tmp_path, "text/Poe/a.txt", "a")
    (tmp_path / "text/linked").symlink_to(tmp_path / "Shelley")
    assert Corpus([tmp_path / "text"], CorpusConfig(labels="folder")).labels() == {"Poe": 1, "Shelley": 1}


def test_links_to_nowhere_are_named(tmp_path: Path) -> None:
    write(tmp_path, "text/a.txt", "a")
    link, loop = tmp_path / "text/link.txt", tmp_path / "text/loop"
    link.symlink_to("gone.txt")
    loop.symlink_to(loop)
    result = run("corpus", "stats", tmp_path / "text")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"Skipped {link}: it is a link to gone.txt, which does not exist.",
        f"Skipped {loop}: it is a link to {loop}, which leads back to it, or through too many links.",
    ]
    assert f"Cannot read {loop}: it is a link to {loop}, which leads back to it" in run("corpus", "stats", loop).stderr
    for path in (link, tmp_path / "text" / "link*"):
        with pytest.raises(CorpusError, match=r"link\.txt"):
            Corpus([path])
    assert "it is a link to gone.txt, which does not exist" in run("corpus", "stats", link).stderr
    (tmp_path / "text/a.txt").unlink()
    with pytest.raises(CorpusError, match=r"nothing but 2 links to nowhere, such as .*link\.txt"):
        Corpus([tmp_path / "text"])
