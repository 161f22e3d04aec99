"""What commands write: on a terminal, into pipes and files, and where it cannot be written."""

from __future__ import annotations

import ast
import errno
import io
import json
import math
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import click
import pytest
from click.exceptions import Exit
from click.testing import CliRunner
from processes import child_process
from rich.console import Console
from windows_pipes import unread_on_windows

from textgen import cli
from textgen.cli import output, textgen
from textgen.errors import ConfigError, TextgenError
from textgen.generation.config import SamplingConfig
from textgen.settings import declared
from textgen.training.observers.observer import RunReport, ValidationReport
from textgen.training.observers.progress import Display
from textgen.wording import counted, json_text, visible

CLI = Path(__file__).parents[2] / "textgen" / "cli"
CLIPBOARD = "\x1b]52;c;bHM=\x07"  # sets the clipboard of a terminal
HOSTILE = f"a{CLIPBOARD}b\x9b31mc\r\u202ed\x7f"
SHOWN = "a\\x1b]52;c;bHM=\\x07b\\x9b31mc\\x0d\\u202ed\\x7f"


class Terminal(io.TextIOWrapper):
    """A terminal that keeps what it is sent."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.kept = io.BytesIO()
        super().__init__(self.kept, encoding=encoding, newline="")

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        self.flush()
        return self.kept.getvalue().decode(self.encoding)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command on a terminal; gives all that it was sent."""

    def run(*arguments: str, stdin: str = "") -> str:
        stream = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            with pytest.raises(SystemExit):
                textgen.main(list(arguments), prog_name="textgen")
        return stream.shown

    return run


# === One module for all that is written ===

WRITERS = {"echo", "secho", "print", "confirm", "prompt", "echo_via_pager", "Console", "print_json"}


def writes(tree: ast.AST) -> Iterator[str]:
    """Calls that write, and uses of the standard streams but to ask what they are."""
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            if name in WRITERS and not (isinstance(owner, ast.Name) and owner.id == "output"):
                yield f"line {node.lineno}: {name}()"
        if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr", "__stdout__", "__stderr__"):
            use = parents[node]
            if not (
                isinstance(use, ast.Compare) or (isinstance(use, ast.Attribute) and use.attr in ("isatty", "encoding"))
            ):
                yield f"line {node.lineno}: {node.attr}"


@pytest.mark.parametrize(
    "path",
    [path for path in CLI.rglob("*.py") if path.name not in ("output.py", "stderr.py", "windows_streams.py")],
    ids=lambda p: p.name,
)
def test_commands_write_through_one_module(path: Path) -> None:
    assert list(writes(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "line",
    ["click.echo(1)", "print(1)", "from click import echo\necho(1)", "sys.stdout.write('')", "Console()", "c.print(1)"],
)
def test_the_test_above_can_fail(line: str) -> None:
    assert list(writes(ast.parse(line)))


# === A terminal ===


def test_json_has_null_for_numbers_that_it_cannot_hold() -> None:
    values = {"a": [math.inf, 1.5], "b": {"c": (-math.inf, math.nan)}, "d": 1}
    assert json.loads(json_text(values), parse_constant=pytest.fail) == {
        "a": [None, 1.5],
        "b": {"c": [None, None]},
        "d": 1,
    }


def test_hidden_characters_are_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    output.write(HOSTILE)
    output.line(f"\t{HOSTILE}\u3000月\u200d")
    output.data(HOSTILE.encode())
    output.json_line({"text": HOSTILE})
    *lines, values = stream.shown.splitlines()
    assert "".join(lines) == f"{SHOWN}\t{SHOWN}\u3000月\u200d{SHOWN}"[: -len(SHOWN)]
    assert visible(values) == values
    assert json.loads(values.removeprefix(SHOWN)) == {"text": HOSTILE}


@pytest.mark.parametrize(
    ("name", "value", "is_bold", "is_red", "is_asked_red"),
    [
        ("TERM", "xterm", True, True, True),
        ("TERM", "dumb", False, False, False),
        ("TERM", "unknown", False, False, False),
        ("NO_COLOR", "1", True, False, True),
        ("NO_COLOR", "", True, True, True),
    ],
)
def test_colours_are_for_terminals_and_users_that_want_them(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, is_bold: bool, is_red: bool, is_asked_red: bool
) -> None:
    stream = Terminal()
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", stream)
    output.write("a", bold=True)
    output.write("b", fg="red")
    output.write("c", fg="red", is_asked=True)
    bold = "\x1b[1ma\x1b[0m" if is_bold else "a"
    red, asked = ("\x1b[31m{}\x1b[0m" if each else "{}" for each in (is_red, is_asked_red))
    assert stream.shown == bold + red.format("b") + asked.format("c")


def test_errors_and_notes_are_shown_wherever_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    output.note(HOSTILE)
    output.Failure(HOSTILE).show()
    Display(output.console()).say(HOSTILE)
    assert stream.getvalue() == f"{SHOWN}\nError: {SHOWN}\n{SHOWN}\n"


def test_names_of_emoji_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    output.console().print("I :heart: you", markup=False)
    assert stream.getvalue() == "I :heart: you\n"


@pytest.mark.parametrize(("encoding", "bar"), [("utf-8", "━━━"), ("ascii", "---"), ("latin-1", "---")])
def test_a_bar_is_shown_with_lines_above_it_and_characters_that_the_terminal_has(
    encoding: str, bar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal(encoding)
    stream.reconfigure(errors="backslashreplace")  # as standard error is
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    display = Display(output.console())
    display.on_start(RunReport("songs", {}))
    display.say("a line")
    output.note("a note")
    display.on_end()
    assert bar in stream.shown
    for line in ("a line", "a note"):
        assert stream.shown.count(f"{line}\n") == 1
    assert "\\u" not in stream.shown


def test_samples_of_a_training_are_shown() -> None:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=True, width=200, color_system=None))
    display.on_validation(ValidationReport(1, 1.0, 1.0, 1.0, 1.0, 1.0, improved=True, sample=HOSTILE))
    display.say(HOSTILE)
    assert out.getvalue().count(SHOWN) == 2
    assert "\x1b" not in out.getvalue()


COMMANDS = {
    "sample": ["sample", "tiny", "--prompt", HOSTILE, "--max-tokens", "1", "--no-heal"],
    "sample, several": [
        "sample",
        "tiny",
        "--prompt",
        HOSTILE,
        "--max-tokens",
        "1",
        "--num",
        "2",
        "--show-probabilities",
    ],
    "sample, json": ["sample", "tiny", "--prompt", HOSTILE, "--max-tokens", "1", "--json"],
    "score": ["score", "tiny", "-"],
    "score, json": ["score", "tiny", "-", "--json"],
    "score, tokens": ["score", "tiny", "-", "--tokens"],
    "score, follow": ["score", "tiny", "-", "--follow", "--all"],
    "embed": ["embed", "tiny", "-", "--search", "cat"],
    "embed, vectors": ["embed", "tiny", "-"],
    "encode": ["tokenizer", "encode", "byte", HOSTILE, "--tokens"],
    "decode": ["tokenizer", "decode", "byte", *(str(byte + 3) for byte in HOSTILE.encode())],
    "show": ["models", "show", "tiny"],
    "remove": ["models", "remove", HOSTILE],
    "nobody": ["sample", HOSTILE],
    "wrong usage": ["sample", f"--{HOSTILE}"],
    "wrong command": [HOSTILE],
    "wrong path": ["corpus", "stats", HOSTILE],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_command_lets_an_escape_through_to_a_terminal(
    terminal: Callable[..., str], tiny_models: Path, tmp_path: Path, command: list[str]
) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_models, models)
    shutil.copytree(models / "tiny", models / f"other{HOSTILE}")
    if command[:2] == ["models", "show"]:
        (models / "tiny").rename(models / f"tiny{HOSTILE}")
        command = [*command[:2], f"tiny{HOSTILE}"]
    shown = terminal(*command, stdin=f"{HOSTILE}\n")
    allowed = shown
    for colour in (0, 1, 31, 32, 33, 36):  # our own
        allowed = allowed.replace(f"\x1b[{colour}m", "")
    assert allowed == visible(allowed)
    assert re.search("x1b|u001b|<0x1B>", shown)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_folder_with_hidden_characters_in_its_name_is_named_beside_the_list(
    terminal: Callable[..., str], tiny_models: Path, options: list[str], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_models, models)
    shutil.copytree(models / "tiny", models / f"other{HOSTILE}")
    shown = terminal("models", "list", *options)
    assert shown == visible(shown)
    assert "tiny" in shown
    assert shown.count("other") == 1
    assert re.search(r"othera\\x1b.* holds a model, but a model cannot be called so: it has characters", shown)


def test_a_terminal_gets_no_escape_from_a_real_process(tiny_models: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "textgen", *COMMANDS["sample"]]
    subprocess.run(
        command, stdout=theirs, stderr=theirs, env=os.environ | {"TEXTGEN_MODELS": str(tiny_models)}, check=True
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "a\\x1b]52;c;bHM=\\x07b" in shown
    assert "\x1b]" not in shown


# === A pipe or a file ===


def test_in_a_pipe_a_text_is_what_it_is(tiny_models: Path) -> None:
    text = HOSTILE + "\x1b[1mbold\x1b[0m"
    where = ["--models-dir", str(tiny_models)]
    written = CliRunner().invoke(
        textgen, ["sample", "tiny", "--prompt", text, "--max-tokens", "1", "--no-heal", *where]
    )
    assert written.stdout_bytes.startswith(text.encode())
    found = CliRunner().invoke(textgen, ["embed", "tiny", "--text", text, "--search", "a", *where])
    assert text.encode() in found.stdout_bytes
    ids = [str(byte + 3) for byte in text.encode()]
    assert CliRunner().invoke(textgen, ["tokenizer", "decode", "byte", *ids]).stdout_bytes == text.encode()


# === Standard output that fails ===

FAILING = {
    "help": ["--help"],
    "version": ["--version"],
    "help of a command": ["sample", "--help"],
    "text": ["tokenizer", "encode", "byte", "a"],
    "json": ["models", "list", "--json"],
    "bytes": ["tokenizer", "decode", "byte", "70"],
    "sample": ["sample", "tiny", "--max-tokens", "2"],
    "score": ["score", "tiny", "-", "--follow", "--all"],
    "embed": ["embed", "tiny", "-", "--format", "npy"],
}


@contextmanager
def full() -> Iterator[io.TextIOWrapper]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    with io.TextIOWrapper(io.FileIO(descriptor, "wb", closefd=False)) as stream:
        yield stream
    os.close(descriptor)


def end_of(
    command: list[str], stream: io.TextIOWrapper, models: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[object, list[str]]:
    """The exit code of a command that writes to a stream, and its lines on standard error."""
    errors = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setenv("TEXTGEN_MODELS", str(models))
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", errors)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The cat\n")))
        with pytest.raises(SystemExit) as ended:
            textgen.main(command, prog_name="textgen")
    return ended.value.code, [line for line in errors.getvalue().splitlines() if "unusual" not in line]


@pytest.mark.parametrize("command", FAILING.values(), ids=FAILING)
def test_full_standard_output_is_one_line_and_1(
    monkeypatch: pytest.MonkeyPatch, tiny_models: Path, command: list[str]
) -> None:
    with full() as stream:
        code, errors = end_of(command, stream, tiny_models, monkeypatch)
    assert code == 1
    expected = "Error: Cannot write to standard output: No space left on device. Free some space, or send it elsewhere."
    assert errors == [expected]


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        (">/dev/full", 1, "Error: Cannot write to standard output: No space left on device. "
         "Free some space, or send it elsewhere.\n"),
        (">&-", 1, "Error: Cannot write the result: standard output is closed. Open it, or send it to a file.\n"),
        ("2>&- >/dev/full", 1, ""),
        ("2>/dev/full >/dev/full", 1, ""),
    ],
)  # fmt: skip
def test_a_process_whose_standard_output_fails(redirection: str, code: int, message: str) -> None:
    command = f'"$0" -m textgen tokenizer encode byte "The cat" {redirection}'
    result = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (code, "", message)


def test_a_reader_that_leaves_ends_a_command_without_a_word(tiny_models: Path) -> None:
    environment = os.environ | {"TEXTGEN_MODELS": str(tiny_models)}
    command = [sys.executable, "-m", "textgen", "sample", "tiny", "--num", "500", "--max-tokens", "50", "--json"]
    with child_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@contextmanager
def unread() -> Iterator[io.TextIOWrapper]:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    with io.TextIOWrapper(io.FileIO(writer, "wb", closefd=False)) as stream:
        yield stream
    os.close(writer)


@pytest.mark.parametrize("command", FAILING.values(), ids=FAILING)
def test_a_reader_that_has_left_is_141_for_every_command(
    monkeypatch: pytest.MonkeyPatch, tiny_models: Path, command: list[str]
) -> None:
    with unread() as stream:
        assert end_of(command, stream, tiny_models, monkeypatch) == (141, [])


def test_on_windows_an_invalid_argument_says_that_the_reader_has_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with unread_on_windows(tmp_path) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(os, "name", "nt")
        for write in (partial(output.line, "text"), partial(output.json_line, []), output.flush):
            with pytest.raises(Exit) as left:
                write()
            assert left.value.exit_code == 141
        with pytest.raises(Exit), cli._quiet_without_reader():
            click.echo("help")
        with pytest.raises(OSError, match="elsewhere"), cli._quiet_without_reader():
            raise OSError(errno.EINVAL, "elsewhere")


def test_elsewhere_an_invalid_argument_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with unread_on_windows(tmp_path) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(os, "name", "posix")
        with pytest.raises(TextgenError, match="Cannot write to standard output: Invalid argument"):
            output.line("text")
        with pytest.raises(OSError, match="Invalid argument"), cli._quiet_without_reader():
            click.echo("help")


# === Words ===


def test_counts_have_their_nouns() -> None:
    assert [counted(number, "piece") for number in (0, 1, 2, 1000)] == [
        "0 pieces",
        "1 piece",
        "2 pieces",
        "1,000 pieces",
    ]


NOUNS = "document|character|token|line|step|record|text|validation|restart|layer|unit|parameter"


def test_no_message_counts_one_of_several() -> None:
    found = []
    for path in CLI.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for value, after in pairwise(node.values) if isinstance(node, ast.JoinedStr) else ():
                text = str(after.value) if isinstance(after, ast.Constant) else ""
                if isinstance(value, ast.FormattedValue) and re.match(f" ({NOUNS})s\\b(?!/)", text):
                    is_share = value.format_spec is not None and "f" in ast.unparse(value.format_spec)[1:]
                    if not is_share and not is_constant(value.value):
                        found.append(f"{path.name}, line {value.lineno}: {text}")
    assert found == []


def is_constant(node: ast.expr) -> bool:
    """A number of ours, such as `2 * WINDOW`."""
    names = [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]
    return not any(isinstance(each, ast.Call | ast.Attribute) for each in ast.walk(node)) and all(
        map(str.isupper, names)
    )


def test_a_long_name_moves_no_other_line(terminal: Callable[..., str], tiny_models: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_models, models)
    before = terminal("models", "list").splitlines()
    shutil.copytree(models / "tiny", models / ("a" * 200))
    after = terminal("models", "list").splitlines()
    assert [line for line in after if not line.startswith("aaa")] == before
    assert len(after) == len(before) + 1


def test_json_escapes_what_an_encoding_lacks_and_comes_back_the_same() -> None:
    value = {"月": ["caf\udce9", "😀é", "\x9b\x7f\x1b"]}
    for encoding in ("utf-8", "ascii", "latin-1", "cp1252"):
        text = json_text(value, encoding=encoding, is_shown=True)
        assert json.loads(text.encode(encoding).decode(encoding)) == value
        assert visible(text) == text
    assert json_text(value) == '{"月": ["caf\\udce9", "😀é", "\x9b\x7f\\u001b"]}'


FLAGS = {name: f"--{name.replace('_', '-')}" for name in ("seed", "text_column", "labels", "encoding", "max_tokens")}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "no column 'text_column'. Set text_column to one of: a.",
            "no column 'text_column'. Set --text-column to one of: a.",
        ),
        ("Set labels to a column.", "Set --labels to a column."),
        ("seed must be a number.", "--seed must be a number."),
        ("The labels must be short; leave seed out.", "The labels must be short; leave --seed out."),
        ("a.jsonl, line 3: seed must be a number.", "a.jsonl, line 3: seed must be a number."),
        ("seed cannot be set here.", "--seed cannot be set here."),
        ("Leave out seed, please.", "Leave out --seed, please."),
        ("the encoding of a/max_tokens.txt", "the encoding of a/max_tokens.txt"),
        ("max_tokens.", "--max-tokens."),
        ("Train one with the setting seed 3.", "Train one with --seed 3."),
        ("Train one with the setting steps 3.", "Train one with the setting steps 3."),
        ("the model's seed isn't set", "the model's seed isn't set"),
        ("Run `set seed` in max_tokens_x", "Run `set seed` in max_tokens_x"),
    ],
)
def test_the_command_line_speaks_of_flags(message: str, expected: str) -> None:
    assert output.as_flags(message, FLAGS) == expected


def test_notes_speak_of_flags_and_errors_in_a_file_of_settings_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    heard = list[str]()
    message = "Leave encoding out, or set text_column to a."
    with click.Context(
        click.Command("stats", params=[click.Option([f"--{name}"]) for name in ("encoding", "text-column")])
    ):
        output.note(message)
        output.with_flags(heard.append)(message)
        output.Failure("a.toml: text_column must be a text.").show()
    output.note(message)
    flagged = "Leave --encoding out, or set --text-column to a."
    assert heard == [flagged]
    assert capsys.readouterr().err.splitlines() == [flagged, "Error: a.toml: text_column must be a text.", message]


def test_messages_of_the_library_name_no_flags() -> None:
    """But for those to clients of a server, which is always started by its command."""
    found = []
    for path in CLI.parent.rglob("*.py"):
        if CLI in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            if called != "ApiError" and (called == "say" or called.endswith(("Error", "Interrupted"))):
                texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
                found += [f"{path.name}: {text}" for text in texts if isinstance(text, str) and " --" in text]
    assert found == []


def all_commands() -> dict[str, click.Command]:
    """Each command and group, by its words after textgen."""
    contexts = [click.Context(textgen, info_name="textgen")]
    for context in contexts:
        if isinstance(context.command, click.Group):
            names = context.command.list_commands(context)
            found = [(name, context.command.get_command(context, name)) for name in names]
            contexts += [click.Context(command, parent=context, info_name=name) for name, command in found if command]
    return {context.command_path.partition(" ")[2]: context.command for context in contexts}


def all_flags() -> dict[str, str]:
    """The flag of each option of each command, by the name that messages have for it."""
    return {name: flag for command in all_commands().values() for name, flag in cli.flags_of(command).items()}


TOLD = re.compile(r"\b(?:[Ll]eave (?:out )?(?!it\b|one\b|a\b|the\b)([a-z_]+)\b|[Ss]et ([a-z_]+) to\b)")
"""What a message tells to leave out, or to set to a value."""


def test_what_a_message_of_the_library_tells_to_set_or_to_leave_out_is_a_setting() -> None:
    flags, told, unknown = all_flags(), set[str](), []
    for path in set(CLI.parent.rglob("*.py")) - set(CLI.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error")):
                continue
            texts = [str(each.value) for each in ast.walk(node) if isinstance(each, ast.Constant)]
            names = {found[1] or found[2] for text in texts for found in TOLD.finditer(text)}
            told |= names
            unknown += [f"{path.name}, line {node.lineno}: {name}" for name in names - set(flags)]
    assert unknown == []
    assert told > {"labels", "strict", "valid_file", "text_column"}


OF_USE = ("evaluation", "generation", "saved_model", "insight", "export", "editor")  # folders of what uses a model
TRAINING = ("train", "tokenizer train", "corpus prepare", "import")  # commands from which a model comes


def test_settings_of_training_in_messages_about_a_model_have_their_flags() -> None:
    """They appear in commands that have no such flag."""
    commands = all_commands()
    others = [each for words, each in commands.items() if words not in TRAINING and not isinstance(each, click.Group)]
    of_training = {name for words in TRAINING for name in cli.flags_of(commands[words])}
    of_training -= {name for command in others for name in cli.flags_of(command)}
    assert of_training > {"tokenizer_from", "hidden_units"}
    named = re.compile(rf"\b(?:{'|'.join(name for name in of_training if '_' in name)})\b|\bthe setting [a-z_]+")
    found, missed = [], []
    paths = [path for folder in OF_USE for path in (CLI.parent / folder).rglob("*.py")]
    for path in [*paths, CLI.parent / "model" / "directions.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
                texts = [str(each.value) for each in ast.walk(node) if isinstance(each, ast.Constant)]
                text = "".join(texts)
                if named.search(text):
                    found.append(text)
                    missed += [text] if named.search(output.flagged(text, commands["sample"])) else []
    assert missed == []
    assert len(found) >= 3


def test_messages_that_begin_with_an_option_are_translated() -> None:
    flags = all_flags()
    options, begun, missed = set(flags.values()), set(), []
    for path in set(CLI.parent.rglob("*.py")) - {CLI.parent / "api.py"}:  # of which no command is made
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error") and node.args):
                continue
            parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
            text = str(parts[0].value) if parts and isinstance(parts[0], ast.Constant) else ""
            found = re.match(r"([a-z]+) (?!and |should )", text)  # those are of files
            word = found[1] if found else ""
            if f"--{word}" in options:
                begun.add(word)
                shown = output.as_flags(text, flags)
                missed += [] if shown.startswith("--") else [f"{path.name}, line {node.lineno}: {text}"]
    assert missed == []
    assert begun > {"ban", "require", "track"}


def wrong_values() -> list[tuple[str, object]]:
    texts = [name for name, (annotation, _) in declared(SamplingConfig).items() if annotation == "Sequence[str]"]
    return [*((name, object()) for name in declared(SamplingConfig)), *((name, ("",)) for name in texts)]


@pytest.mark.parametrize(("name", "value"), wrong_values())
def test_what_is_wrong_with_a_setting_of_the_sampler_names_its_flag(name: str, value: object) -> None:
    flags = cli.flags_of(textgen.get_command(click.Context(textgen), "sample") or textgen)
    with pytest.raises(ConfigError, match=f"^{name} must ") as caught:
        SamplingConfig(**{name: value})  # type: ignore[arg-type]
    assert output.as_flags(str(caught.value), flags).startswith(f"{flags[name]} must ")


def test_names_of_samplers_are_no_flags(tiny_models: Path) -> None:
    arguments = ["sample", "tiny", "--models-dir", str(tiny_models), "--samplers"]
    assert "There are: 'penalties', 'dry', 'top_n_sigma'," in CliRunner().invoke(textgen, [*arguments, "x"]).stderr
    twice = CliRunner().invoke(textgen, [*arguments, "top-k,top-k"]).stderr
    assert twice == "Error: --samplers must not name 'top_k' twice: each is applied once.\n"
    held = CliRunner().invoke(textgen, [*arguments[:-1], "--clamp", "x"]).stderr
    assert held.startswith("Error: A clamp must be CELL=NUMBER, ")


def test_an_error_on_the_command_line_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title\nx\n")
    result = CliRunner().invoke(textgen, ["corpus", "stats", str(tmp_path / "a.csv")])
    assert "Set --text-column to one of: title" in result.stderr
    (tmp_path / "a.txt").write_text("x")
    result = CliRunner().invoke(textgen, ["train", str(tmp_path / "a.txt"), "--valid-fraction", "0.9"])
    assert "Error: --valid-fraction must be a number from 1e-06 to 0.5. Received: 0.9." in result.stderr
    assert result.exit_code == 2


def test_standard_output_that_is_closed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(TextgenError, match="standard output is closed"):
        output.line("text")
