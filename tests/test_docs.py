"""The pages say what is so."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from repository import ROOT, files_of_the_repository

from textgen.cli import textgen

PAGES = [
    path
    for path in files_of_the_repository(ROOT)
    if path.suffix == ".md" and "bases" not in path.parts  # the cards of the bases are generated
]
FRONT_PAGES = ("README.md", "README.zh-CN.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`]+)`")
NOT_PRINTED = ("__init__.py", "__main__.py")  # a package needs them, whatever is in them


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str = "") -> list[str]:
    """The blocks of code of a page in a language; "" are those that name none."""
    return [text for kind, text in FENCE.findall(text_of(page)) if kind == language]


def spans(page: Path) -> list[str]:
    """The code within the sentences and tables of a page."""
    return CODE_SPAN.findall(FENCE.sub("", text_of(page)))


# === Commands ===


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child, name
            yield from commands(child, click.Context(child, parent=context, info_name=name))


COMMANDS = dict(commands(textgen, click.Context(textgen, info_name="textgen")))


def test_the_command_reference_is_that_of_the_program() -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from command_reference import REFERENCE, reference
    finally:
        sys.path.pop(0)
    assert reference() == text_of(REFERENCE), "run `make readme`"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_an_example_and_every_option_is_explained(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    if not isinstance(command, click.Group):
        assert f"Example:\n  {name}" in inspect.cleandoc(command.help).replace("\b\n", "")
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, f"{name} {parameter.name}"


def command_lines(page: Path) -> Iterator[str]:
    """What a page tells people to type: lines of blocks of code, and spans of code that begin with textgen."""
    text = text_of(page)
    for language, block in FENCE.findall(text):
        if language in ("", "sh", "console"):
            for line in block.replace("\\\n", " ").split("\n"):
                yield from programs(line.removeprefix("$ "))
    for span in spans(page):
        if span.startswith("textgen "):
            yield from programs(span)


def programs(line: str) -> Iterator[str]:
    """The calls of textgen in a line of shell, one for each part of a pipe; none in lines that are no shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>&;")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in [*lexer, "|"]:
            if not word.strip("|<>&;"):
                if len(words) > 1 and words[0].rpartition("/")[2] == "textgen" and "[OPTIONS]" not in words:
                    yield shlex.join(words[1:])
                words = []
            else:
                words.append(word)
    except ValueError:  # an apostrophe in prose
        return


TYPED = sorted({(name_of(page), line) for page in PAGES for line in command_lines(page)})


COMMENTED = re.compile(r"(\$ )?(textgen|make|pip|curl|python3?|git|sbatch|kubectl|docker) .*\s#(\s|$)")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_command_lines_have_no_comments(page: Path) -> None:
    """The interactive zsh, the default shell of a Mac, takes the words of a comment for arguments."""
    lines = (line for kind in ("", "sh", "console") for block in blocks(page, kind) for line in block.split("\n"))
    assert not [line for line in lines if COMMENTED.match(line)]


def test_pages_show_command_lines() -> None:
    assert len(TYPED) > 100


@pytest.mark.parametrize(("page", "line"), TYPED)
def test_every_command_line_in_a_page_parses(page: str, line: str) -> None:
    command: click.Command = textgen
    context, words = click.Context(textgen, info_name="textgen"), shlex.split(line)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        child = command.get_command(context, name)
        assert child, f"{page}: there is no command {name!r} in {context.command_path}"
        command, context = child, click.Context(child, parent=context, info_name=name)
    values, _, _ = command.make_parser(context).parse_args(words)  # raises for an unknown option
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice) and parameter.name in values:
            parameter.type_cast_value(context, values[parameter.name])


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_every_flag_in_a_page_is_one_of_the_program(page: Path) -> None:
    options = [option for command in COMMANDS.values() for option in command.params if isinstance(option, click.Option)]
    flags = {"--help", *(flag for option in options for flag in (*option.opts, *option.secondary_opts))}
    named = {flag for span in spans(page) if span.startswith("--") for flag in re.findall(r"--[a-z][\w-]*", span)}
    assert named <= flags


# === Links ===


def headings(page: Path) -> set[str]:
    """The anchors that code hosts make of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_a_link_leads_to_every_page() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(FENCE.sub("", text_of(page)))
    }
    assert {page for page in PAGES if name_of(page) != "README.md"} <= linked


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_or_a_heading(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", text_of(page))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in headings(there), target


# === Files ===


def printed_tree(text: str) -> set[str]:
    """The files in a block of code whose lines are folders, such as `corpus/`, and below them, indented, files."""
    folder, files = "", set()
    for line in text.split("\n"):
        if entry := re.match(r"(\S+/)(\s|$)", line):
            folder = entry[1]
        elif entry := re.match(r"(\s*)([\w.*-]+\.\w+)\s", line):
            files.add((folder if entry[1] else "") + entry[2])
    return files


def test_the_tree_names_every_file_of_the_package_and_no_other() -> None:
    page = ROOT / "textgen" / "README.md"
    tree = next(block for block in blocks(page) if "errors.py" in block)
    named = {path for path in printed_tree(tree) if path.endswith((".py", ".js")) and not path.endswith(NOT_PRINTED)}
    package = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*.py")}
    scripts = {f"{path.parents[1].name}/{path.name}" for path in page.parent.rglob("page/*.js")}  # below page.py
    assert named == {path for path in package if not path.endswith(NOT_PRINTED)} | scripts


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_of_ours_in_a_page_is_there(page: Path) -> None:
    package = ROOT / "textgen"
    for name in spans(page):
        if re.fullmatch(r"[\w./-]+\.(py|slurm|yaml)", name):
            places = [folder / name for folder in (page.parent, package, ROOT)]
            found = any(place.exists() for place in places) or any(package.rglob(name))
            assert found or any((ROOT / "tests").rglob(name)), name


def named_in_files(text: str) -> Iterator[tuple[str, str]]:
    """The names in back quotes with the file that a sentence places them in: before, or after "in" or a bracket."""
    for sentence in re.split(r"(?<=[.;|]) ", " ".join(text.split())):
        file = ""
        for span, _, after in re.findall(r"`([^`]+)`(?:( in | \()`([\w/]+\.\w+)`)?", sentence):
            if re.fullmatch(r"[\w/]+\.(py|js)", span):
                file = span
            elif re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", span) and (after or file):
                yield span, after or file


def test_the_guide_finds_names_where_they_are_defined() -> None:
    text = text_of(ROOT / "textgen" / "README.md")
    guide = text[text.index("## Where to find") : text.index("## Working on it")]
    found = list(named_in_files(guide))
    assert len(found) > 40
    for name, file in found:
        places = [path for path in (ROOT / "textgen" / file, ROOT / file) if path.exists()]
        code = "\n".join(text_of(path) for path in places or (ROOT / "textgen").rglob(file))
        for part in name.split("."):
            assert re.search(rf"\b(def|class|function) {part}\b|^\s*(const )?{part}\b\s*[:=]", code, re.MULTILINE), name


@pytest.mark.parametrize("folder", ["scripts", "corpora"])
def test_the_page_of_a_folder_names_all_of_its_files(folder: str) -> None:
    text = text_of(ROOT / folder / "README.md")
    entries = {path.relative_to(ROOT / folder).parts[0] for path in files_of_the_repository(ROOT / folder)}
    assert len(entries) > 2
    for name in entries - {"README.md"}:
        assert name in text, name


@pytest.mark.parametrize("page", FRONT_PAGES)
def test_front_pages_are_short(page: str) -> None:
    assert len(text_of(ROOT / page).splitlines()) <= 300


def test_the_plan_on_the_front_pages_is_that_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the lines that depend on the machine. Its speed is given, as one that is very busy would plan less."""
    monkeypatch.setattr("textgen.training.planning.inputs.measure_flops", lambda *cores: 1e11)
    monkeypatch.setenv("TEXTGEN_BASES", str(ROOT / "saved_models" / "bases"))
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(textgen, ["train", "corpora/fables.txt", "--dry-run", "--models-dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    names = ("corpus", "held out", "vocabulary", "start", "network", "dropout")
    lines = [line for line in result.output.splitlines() if line.startswith(names)]
    assert len(lines) == len(names)
    for page in FRONT_PAGES:
        assert set(lines) <= set(text_of(ROOT / page).splitlines())


def test_front_pages_link_to_the_same_places() -> None:
    english, chinese = (
        {link for link in LINK.findall(text_of(ROOT / page)) if link[0] != "#" and link not in FRONT_PAGES}
        for page in FRONT_PAGES
    )
    assert english == chinese - {"textgen/insight/CELLS.md#诗"}


def test_front_pages_show_the_same_commands() -> None:
    english, chinese = ([line for at, line in TYPED if at == page] for page in FRONT_PAGES)
    assert english == chinese


# === Python ===


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_in_a_page_compiles_and_what_it_imports_is_there(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("textgen"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


# === Docstrings ===


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The public functions and methods in a module, by their names there."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            is_public = not child.name.startswith("_") or child.name == "__init__"
            if is_public and isinstance(child, ast.ClassDef):
                yield from functions(child, f"{prefix}{child.name}.")
            elif is_public and not isinstance(child, ast.ClassDef):
                yield f"{prefix}{child.name}", child


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in (ROOT / "textgen").glob("*/__init__.py")))
def test_functions_of_many_arguments_explain_them(folder: str) -> None:
    """Commands explain theirs in the help of their options."""
    unexplained = []
    for path in (ROOT / "textgen" / folder).rglob("*.py"):
        for name, function in functions(ast.parse(text_of(path))):
            if any(".command" in ast.unparse(decorator) for decorator in function.decorator_list):
                continue
            given = function.args
            names = {each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)} - {"self", "cls"}
            about = " ".join((ast.get_docstring(function) or "").split())
            if len(names) >= 5 and "Args:" not in about and "The arguments are those of" not in about:
                unexplained.append(f"{name_of(path)}: {name}")
    assert not unexplained


# === Extras ===


def test_extras_are_installed_from_the_source_since_the_name_on_pypi_belongs_to_another_program() -> None:
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    named: set[str] = set()
    for path in (*PAGES, *(ROOT / "textgen").rglob("*.py")):
        text = text_of(path).replace("\\[", "[").replace("\\]", "]")
        assert not re.search(r"textgen\[[a-z]+\]", text), name_of(path)
        assert "pip install '" not in text, f"{name_of(path)}: on Windows only double quotes are quotes"
        named |= {extra for group in re.findall(r'"\.\[([a-z,]+)\]"', text) for extra in group.split(",")}
    assert named
    assert named <= set(extras)


# === Settings ===


def test_config_fields_are_flags() -> None:
    from textgen.corpus.config import CorpusConfig
    from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
    from textgen.generation.config import SamplingConfig, SearchConfig
    from textgen.model.config import ModelConfig
    from textgen.tokenizer.config import TokenizerConfig
    from textgen.training.config import TrainingConfig

    def flags(command: str) -> set[str]:
        return {parameter.name or "" for parameter in COMMANDS[f"textgen {command}"].params}

    for kind in (CorpusConfig, TokenizerConfig, ModelConfig, TrainingConfig):
        assert {field.name for field in dataclasses.fields(kind)} <= flags("train"), kind
    for kind in (SamplingConfig, SearchConfig):  # type: ignore[assignment]
        assert {field.name for field in dataclasses.fields(kind)} <= flags("sample")
    for kind in (NeuralCacheConfig, DynamicConfig):  # type: ignore[assignment]
        assert {field.name for field in dataclasses.fields(kind)} <= flags("evaluate") & flags("sample")
