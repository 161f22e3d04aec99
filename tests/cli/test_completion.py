"""What a shell completes, and that Bash, zsh and fish complete it as their users type."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from command_tree import leaves
from files import write
from processes import child_process, controlling

from textgen.cli import textgen
from textgen.saved_model.layout import CONFIG, LOGS, TRAINING
from textgen.storage.manifests import MANIFEST

COMMANDS = dict(leaves(textgen))


def script_of(shell: str) -> str:
    """The script that the user loads."""
    result = CliRunner().invoke(textgen, ["completion", shell], prog_name="textgen", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def asked_by_bash(words: str, models: Path) -> dict[str, str]:
    """The variables by which Bash asks what it may offer for the last word."""
    return {
        "_TEXTGEN_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "TEXTGEN_MODELS": str(models),
    }


def complete(words: str, models: Path) -> list[str]:
    """What Bash is told to offer for the last word."""
    result = CliRunner().invoke(textgen, env=asked_by_bash(words, models), prog_name="textgen", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.strip().splitlines()


def test_the_program_completes_as_a_shell_asks_it(tiny_models: Path) -> None:
    environment = os.environ | asked_by_bash("textgen tr", tiny_models)
    command = [sys.executable, "-m", "textgen"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == complete("textgen tr", tiny_models) == ["plain,train"]


def test_commands_flags_values_and_models_are_completed(tiny_models: Path) -> None:
    assert complete("textgen tr", tiny_models) == ["plain,train"]
    assert complete("textgen corpus p", tiny_models) == ["plain,prepare"]
    assert complete("textgen train --warm", tiny_models) == ["plain,--warmup-fraction"]
    assert complete("textgen train --schedule co", tiny_models) == ["plain,cosine", "plain,constant"]
    assert "plain,tiny" in complete("textgen sample ti", tiny_models)
    assert complete("textgen train cor", tiny_models) == ["file,cor"]
    assert complete("textgen evaluate tiny cor", tiny_models) == ["file,cor"]
    assert complete("textgen sample --prompt-file cor", tiny_models) == ["file,cor"]
    assert complete("textgen sample models/cor", tiny_models) == ["file,models/cor"]


OF_OWN_RUNS = ("models remove", "tensorboard")
FREE = (
    "N", "X", "INTEGER", "FLOAT", "IDS", "TEXT", "NAME", "NAMES", "CHAR", "LAYER", "CELL", "NUMBER", "REGEX", "ADDRESS",
    "ORIGIN", "SECONDS",
)  # fmt: skip
"""Values that a shell cannot know, by the word that stands for them in the help."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_shell_completes_each_parameter(name: str, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTGEN_MODELS", str(tiny_models))
    command = COMMANDS[name]
    context = click.Context(command)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.is_flag:
            continue
        shown = parameter.make_metavar(context)
        words = set(re.findall(r"[A-Z]+", shown))
        found = [(item.type, item.value) for item in parameter.shell_complete(context, "cor")]
        if name in OF_OWN_RUNS and parameter.name == "model":
            continue
        if words & {"MODEL", "MODELS", "TOKENIZER"}:
            assert ("plain", "tiny") in [(item.type, item.value) for item in parameter.shell_complete(context, "ti")]
            assert found == [("file", "cor")], shown
        elif words & {"PATHS", "PATH", "FILE"}:
            assert found == [("file", "cor")], shown
        elif words & {"FOLDER", "DIRECTORY"}:
            assert found == [("dir", "cor")], shown
        elif "|" in shown:
            values = {item.value for item in parameter.shell_complete(context, "")}
            assert values == {
                value.replace("separator:TEXT", "separator:") for value in shown.strip("[]{} ").split("|")
            }
        else:
            assert not found
            assert words & set(FREE), f"{shown}: complete it, or name it in FREE"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell(shell: str) -> None:
    script = script_of(shell)
    assert f"_TEXTGEN_COMPLETE={shell}_complete" in script
    assert "textgen" in script


# === Models that a command accepts ===


def model_in(folder: Path, name: str) -> Path:
    """What makes a model in the eyes of a list."""
    for file in (MANIFEST, CONFIG):
        write(folder / name, file, "{}")
    return folder / name


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model that was trained here, an imported one, a link to one, a run without a model, and a base."""
    folder = tmp_path / "models"
    (model_in(folder, "run-trained") / LOGS).mkdir()
    model_in(folder, "run-imported")
    (folder / "run-linked").symlink_to(model_in(tmp_path, "elsewhere"))
    write(folder / "run-begun", TRAINING, "{}")
    (folder / "run-begun" / LOGS).mkdir()
    write(tmp_path / "bases" / "english", MANIFEST, "{}")
    return folder


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("models remove r", ["plain,run-begun", "plain,run-imported", "plain,run-trained"]),
        ("models remove e", []),
        ("tensorboard r", ["plain,run-begun", "plain,run-trained"]),
        ("tensorboard e", ["file,e"]),
        ("sample r", ["plain,run-imported", "plain,run-linked", "plain,run-trained"]),
        ("sample e", ["plain,english"]),
        ("train --from r", ["plain,run-imported", "plain,run-linked", "plain,run-trained"]),
    ],
)
def test_only_models_that_a_command_accepts_are_completed(models: Path, words: str, offered: list[str]) -> None:
    assert complete(f"textgen {words}", models) == offered


def test_without_a_folder_of_models_that_can_be_read_the_rest_is_completed(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("textgen.saved_model.registry.os.scandir", refuse)
    assert complete("textgen train --from n", models) == ["plain,none"]
    assert complete("textgen train --from e", models) == ["plain,english"]
    assert complete("textgen models remove r", models) == []


def test_ctrl_c_while_a_shell_asks_ends_the_program_without_a_word(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("textgen.saved_model.registry.list_models", interrupt)
    try:
        result = CliRunner().invoke(textgen, env=asked_by_bash("textgen sample r", models), prog_name="textgen")
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C is not handled")
    assert (result.exit_code, result.output) == (130, "")


# === In Bash ===

NAMES = ("my novel", "größe", "a$b `c`", "it's", "n*", "x:yz", "run@2", "comma,s")


def write_program(place: Path, command: str) -> None:
    """Makes textgen a shell script in the folder."""
    write(place / "bin", "textgen", f"#!/bin/sh\n{command}\n")
    (place / "bin" / "textgen").chmod(0o755)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the program, its script, models, files and folders."""
    write_program(tmp_path, f'exec {sys.executable} -m textgen "$@"')
    write(tmp_path, "script", script_of("bash"))
    for name in NAMES:
        model_in(tmp_path / "models", name)
    for file in ("corpus.txt", "nothing.txt", "two words.txt", "co:lon.txt", "colon.txt", "saved.txt"):
        write(tmp_path, file, "")
    for folder in ("saved here", "co:folder"):
        (tmp_path / folder).mkdir()
    return tmp_path


def run_in_bash(typed: str, place: Path, locale: str = "C.UTF-8") -> subprocess.CompletedProcess[str]:
    """Bash, which shows each word of a line after a Tab, in place of running it."""
    lines = ["PS1= PS2=", "each() { printf '\\n'; printf '%s\\n' \"$@\"; }", "source ./script", f"{typed}\t\x01each "]
    environment = os.environ | {
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(place),
        "INPUTRC": os.devnull,
        "LC_ALL": locale,
        "TERM": "dumb",
    }
    done = subprocess.run(
        ["bash", "--norc", "-i"],
        input="\n".join([*lines, ""]),
        cwd=place,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert not done.returncode, done.stderr
    return done


def printed_by_bash(typed: str, place: Path, locale: str = "C.UTF-8") -> str:
    """What Bash prints."""
    return run_in_bash(typed, place, locale).stdout


def typed_in_bash(typed: str, place: Path, locale: str = "C.UTF-8") -> list[str]:
    """The arguments of textgen after a Tab."""
    return printed_by_bash(typed, place, locale).rpartition("\ntextgen\n")[2].splitlines()


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs Bash")


@needs_bash
@pytest.mark.parametrize(
    ("typed", "last"),
    [
        ("my", "my novel"),
        (r"my\ n", "my novel"),
        ('"my', "my novel"),
        ('"my n', "my novel"),
        ("'my", "my novel"),
        ('m"y n', "my novel"),
        ("gr", "größe"),
        ("grö", "größe"),
        ("a", "a$b `c`"),
        ('"a', "a$b `c`"),
        ("'a", "a$b `c`"),
        ("it", "it's"),
        ("'it", "it's"),
        (r"n\*", "n*"),
        ("x:", "x:yz"),
        ("x:y", "x:yz"),
        ("run@", "run@2"),
        ("comma", "comma,s"),
        ("two", "two words.txt"),
    ],
)
def test_bash_completes_a_name_as_one_argument(typed: str, last: str, place: Path) -> None:
    assert typed_in_bash(f"textgen models show {typed}", place) == ["models", "show", last]


@needs_bash
def test_bash_completes_a_name_as_it_is_whatever_the_locale(place: Path) -> None:
    assert typed_in_bash("textgen models show gr", place, "C") == ["models", "show", "größe"]
    assert typed_in_bash("textgen models show my", place, "C") == ["models", "show", "my novel"]


@needs_bash
@pytest.mark.parametrize(
    ("typed", "argument"),
    [
        ("--preset=ti", "--preset=tiny"),
        ("--preset ti", "tiny"),
        ("--models-dir=saved", "--models-dir=saved here/"),
        ("--models-dir=co", "--models-dir=co:folder/"),
        ("--from=no", "--from=none"),
        ("--from=my", "--from=my novel"),
        ('--from="my n', "--from=my novel"),
        ("--from=x:", "--from=x:yz"),
        ("--schedule=cos", "--schedule=cosine"),
        ("--models-dir=models --from=my", "--from=my novel"),
        ("--valid-file=corp", "--valid-file=corpus.txt"),
        ("--valid-file=two", "--valid-file=two words.txt"),
        ("--documents=sep", "--documents=separator:"),
        ("--documents=separator:", "--documents=separator:"),
        ("--documents separator:", "separator:"),
        ("--documents separator:co", "separator:co"),
        ("s3://e", "s3://e"),
        ("co:l", "co:lon.txt"),
        ("co:f", "co:folder/"),
        ("--models-dir co:", "co:folder/"),
    ],
)
def test_bash_completes_words_with_an_equals_sign_or_a_colon(typed: str, argument: str, place: Path) -> None:
    assert typed_in_bash(f"textgen train {typed}", place)[-1] == argument


@needs_bash
def test_bash_completes_where_the_cursor_is(place: Path) -> None:
    back = "\x02" * len(" --dry-run")
    assert typed_in_bash(f"textgen train --preset=ti --dry-run{back}", place) == ["train", "--preset=tiny", "--dry-run"]


@needs_bash
def test_bash_completes_where_no_space_follows(place: Path) -> None:
    assert typed_in_bash("textgen train --documents=sep\tx", place) == ["train", "--documents=separator:x"]


@needs_bash
def test_bash_completes_a_file_after_a_redirection(place: Path) -> None:
    printed_by_bash("textgen models list > corp", place)
    assert (place / "corpus.txt").read_text() == "\ntextgen\nmodels\nlist\n"


@needs_bash
def test_bash_shows_no_errors_of_the_program_in_the_line_that_is_typed(place: Path) -> None:
    write_program(place, "echo noise >&2; echo plain,train")
    done = run_in_bash("textgen tr", place)
    assert done.stdout.endswith("\ntextgen\ntrain\n")
    assert "noise" not in done.stderr


# === In zsh and fish ===

START = {
    "zsh": """
        PROMPT= ; autoload -Uz compinit; compinit -u -D
        each() { print -rl -- "$@" "" >> shown }
        source ./script
    """,
    "fish": """
        function fish_prompt; end
        function each; printf '%s\\n' $argv "" >> shown; end
        source ./script
    """,
}
COMMANDS_OF = {"zsh": ["zsh", "-f", "-i"], "fish": ["fish", "--no-config", "-i"]}


def typed_in(shell: str, typed: list[str], place: Path) -> list[list[str]]:
    """The arguments of textgen after a Tab, for each line."""
    return run_in(shell, typed, place)[0]


def run_in(shell: str, typed: list[str], place: Path) -> tuple[list[list[str]], str]:
    """The arguments of textgen after a Tab, for each line, and all that was on the screen."""
    write(place, "script", script_of(shell))
    lines = [*(line.strip() for line in START[shell].strip().splitlines()), *(f"{line}\t\x01each " for line in typed)]
    environment = os.environ | {
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(place),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }
    screen, keyboard = pty.openpty()
    drawn = bytearray()
    with child_process(
        controlling(COMMANDS_OF[shell]),
        stdin=keyboard, stdout=keyboard, stderr=keyboard, cwd=place, env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(keyboard)
        os.write(screen, "\r".join([*lines, "exit 0", ""]).encode())
        try:
            while part := os.read(screen, 1 << 16):
                drawn += part
        except OSError:  # the shell has ended
            pass
        finally:
            os.close(screen)
        assert not process.wait(60)
    shown = (place / "shown").read_text(encoding="utf-8")
    lists = [arguments.split("\n")[1:] for arguments in shown.removesuffix("\n\n").split("\n\n")]
    return lists, drawn.decode(errors="replace")


other_shells = pytest.mark.parametrize(
    "shell",
    [
        pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"needs {shell}"))
        for shell in COMMANDS_OF
    ],
)


@other_shells
def test_zsh_and_fish_show_no_errors_of_the_program_in_the_line_that_is_typed(shell: str, place: Path) -> None:
    answer = {"zsh": "'plain\\ntrain\\n_\\n'", "fish": "'plain,train\\n'"}[shell]
    write_program(place, f"echo noise >&2; printf {answer}")
    found, drawn = run_in(shell, ["textgen tr"], place)
    assert found == [["train"]]
    assert "noise" not in drawn


@other_shells
def test_zsh_and_fish_complete_names_values_and_files(shell: str, place: Path) -> None:
    lines = {
        "textgen models show my": "my novel",
        "textgen models show comma": "comma,s",
        "textgen models show it": "it's",
        "textgen train --preset=ti": "--preset=tiny",
        "textgen train --preset ti": "tiny",
        "textgen train --from=my": "--from=my novel",
        "textgen train --models-dir=saved": "--models-dir=saved here",
        "textgen train --valid-file=two": "--valid-file=two words.txt",
        "textgen train two": "two words.txt",
        "textgen train --warmup-f": "--warmup-fraction",
    }
    assert [arguments[-1].rstrip("/") for arguments in typed_in(shell, list(lines), place)] == list(lines.values())
