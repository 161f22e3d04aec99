"""Modules of the pages' scripts import what they use of each other, although one script is made of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from textgen.html_page import EXPORT, IMPORT

TEXTGEN = Path(__file__).resolve().parents[1] / "textgen"
PAGES = ("server/page", "insight/page", "export/onefile")
AFTER_ALL = {"worker.js"}  # no module: the Worker is the joined script, and then this file
TEXT_OR_COMMENT = re.compile(
    r"""/\*.*?\*/ | (?<![:"'`\w])//[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""", re.DOTALL | re.VERBOSE
)
DECLARED = re.compile(r"\b(?:const|let|function\*?|class)\s+(\w+)|\b(\w+)\s*=>")
SEVERAL_DECLARED = re.compile(r"\b(?:const|let)\s*([\[{][^=;]*?[\]}])\s*(?:=|of\b)|\(([^()]*)\)\s*(?:=>|\{)")
KEY = re.compile(r"(?<=[{,])\s*\w+\s*:")
NAME = re.compile(r"(?<![.\w#])[A-Za-z_]\w*")  # no property


def used_elsewhere(code: str, exported: set[str]) -> set[str]:
    """Names that other modules export and a module uses without an import or a declaration of its own.

    A declaration anywhere in the module counts for all of it, so a use outside its scope is not found.
    """
    imported = {name for statement in IMPORT.findall(code) for name in re.findall(r"\w+", statement)}
    code = KEY.sub("", TEXT_OR_COMMENT.sub("", IMPORT.sub("", code)))
    declared = {name for names in DECLARED.findall(code) for name in names}
    several = {name for names in SEVERAL_DECLARED.findall(code) for part in names for name in re.findall(r"\w+", part)}
    return exported & set(NAME.findall(code)) - imported - declared - several


@pytest.mark.parametrize("page", PAGES)
def test_modules_import_what_they_use(page: str) -> None:
    modules = {path.name: path.read_text(encoding="utf-8") for path in (TEXTGEN / page).glob("*.js")}
    exported = {name for code in modules.values() for name in EXPORT.findall(code)}
    assert len(exported) > 20
    missing = {name: used_elsewhere(code, exported) for name, code in modules.items() if name not in AFTER_ALL}
    assert not {name: names for name, names in missing.items() if names}


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ('import { say } from "./words.js";\nsay(`${count(1)}`);', {"count"}),
        ("const count = 1;\nfor (const say of []) count + say;", set()),
        ('"count"; a.count; ({ count: 1 }); // say', set()),
        ("const { count, other } = given;\nlist.map((say) => say);", set()),
        ("const other = isRight ? say : 1;", {"say"}),
    ],
)
def test_a_forgotten_import_is_found(code: str, missing: set[str]) -> None:
    assert used_elsewhere(code, {"say", "count"}) == missing


@pytest.mark.parametrize("page", ["server/page/index.html", "export/onefile/page.html"])
def test_a_page_says_the_same_before_its_script_runs(page: str) -> None:
    path = TEXTGEN / page
    english = (path.parent / "words.js").read_text(encoding="utf-8").split("zh: {")[0]
    words = dict(re.findall(r'^    (\w+): "([^"]*)",', english, re.MULTILINE))
    shown = re.findall(r'data-word="(\w+)"[^>]*>([^<]*)<', path.read_text(encoding="utf-8"))
    assert len(shown) > 10
    assert [(name, text) for name, text in shown if text] == [(name, words[name]) for name, text in shown if text]
