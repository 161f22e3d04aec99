"""How the exported page keeps its texts, in Node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from javascript import in_node, needs_node

from textgen.export.packing import joined

pytestmark = needs_node
BROWSER = """
const storage = (full = {}) => {
  const items = new Map();
  const refuse = () => { if (full.is) throw new DOMException("It is full.", "QuotaExceededError"); };
  return {
    items, get length() { return items.size; }, key: (number) => [...items.keys()][number],
    getItem: (name) => items.get(name) ?? null, setItem: (name, value) => { refuse(); items.set(name, value); },
    removeItem: (name) => items.delete(name),
  };
};
let clock = 0;
Date.now = () => (clock += 1000);
const full = {};
const local = storage(full);
const open = (session = storage()) => {
  const shelf = new Shelf("a page", [() => local, () => session]);
  return Object.assign(shelf, { session });
};
const kept = (text, more = {}) => ({ text, marks: [], hash: "", isLinked: false, ...more });
const all = () => open().begin(true) && [...local.items.values()].map((value) => JSON.parse(value).text).sort();
"""


def in_tabs(code: str, folder: Path, given: Any = None) -> Any:
    """Runs a script that may open tabs of the page: each has a shelf and a `sessionStorage` of its own."""
    return in_node(code, given, folder, before=joined(["shelf"]) + BROWSER)


def test_a_text_is_there_after_its_tab_was_closed_and_a_reload_keeps_that_of_the_tab(tmp_path: Path) -> None:
    code = """
      const one = open();
      const found = [one.begin(true), one.keep(kept("mine", { marks: [{ start: 0, end: 2 }], hash: "#a" }))];
      const other = open();
      found.push(other.begin(false), other.keep(kept("theirs"))); // which a link began
      found.push(open(one.session).begin(true), open(other.session).begin(true).text, open().begin(true).text);
      found.push(open().begin(false), open().earlier().map(({ text }) => text));
      return found;
    """
    mine = {"text": "mine", "marks": [{"start": 0, "end": 2}], "hash": "#a", "isLinked": False}
    assert in_tabs(code, tmp_path) == [None, True, None, True, mine, "theirs", "theirs", None, ["theirs", "mine"]]


def test_a_tab_writes_over_nothing_that_another_one_has_changed(tmp_path: Path) -> None:
    """Also one that the browser has copied, and one that has not changed its text writes nothing."""
    code = """
      const one = open();
      one.begin(true);
      one.keep(kept("a"));
      const [copy, late, idle] = [open(storage()), open(), open()];
      copy.session.setItem("a page", one.session.getItem("a page"));
      for (const each of [copy, late, idle]) each.begin(true);
      one.keep(kept("a b"));
      const found = [copy.keep(kept("a c")), late.keep(kept("a d")), idle.keep(kept("a")), all()];
      one.keep(kept("a b b"));
      copy.keep(kept("a c c"));
      return [...found, all(), open(copy.session).begin(true).text, open(one.session).begin(true).text];
    """
    assert in_tabs(code, tmp_path) == [
        True, True, True, ["a b", "a c", "a d"], ["a b b", "a c c", "a d"], "a c c", "a b b",
    ]  # fmt: skip


def test_a_new_text_leaves_the_one_before_and_a_text_that_is_emptied_is_forgotten(tmp_path: Path) -> None:
    code = """
      const one = open();
      one.begin(true);
      one.keep(kept("first"));
      one.leave();
      const found = [one.keep(null), open(one.session).begin(true), one.earlier().map(({ text }) => text)];
      one.keep(kept("second"));
      const texts = () => one.earlier().map(({ text }) => text);
      found.push(texts(), one.take(one.earlier()[0].id).text, texts());
      one.keep(null);
      return [...found, all()];
    """
    assert in_tabs(code, tmp_path) == [True, None, ["first"], ["first"], "first", ["second"], ["second"]]


def test_undo_goes_back_to_where_the_text_before_is_kept(tmp_path: Path) -> None:
    """Unless another tab has changed that meanwhile."""
    code = """
      const one = open();
      one.begin(true);
      one.keep(kept("first"));
      const { home } = one;
      one.leave();
      one.keep(kept("second"));
      one.goTo(home);
      one.keep(kept("first, changed"));
      const found = [all()];
      const other = open();
      other.begin(true);
      other.keep(kept("theirs"));
      one.goTo(home);
      one.keep(kept("mine"));
      return [...found, all(), open(one.session).begin(true).text];
    """
    changed = [["first, changed", "second"], ["mine", "second", "theirs"], "mine"]
    assert in_tabs(code, tmp_path) == changed


def test_where_no_text_can_be_kept_for_good_it_is_kept_until_the_tab_is_closed(tmp_path: Path) -> None:
    """What was kept for good before stays, and is replaced as soon as that is possible again."""
    code = """
      const one = open();
      one.begin(true);
      one.keep(kept("old"));
      full.is = true;
      const found = [one.keep(kept("new")), one.keep(kept("new")), open(one.session).begin(true).text, open().begin(true).text];
      const other = open(one.session);
      other.begin(true);
      full.is = false;
      found.push(other.keep(kept("new")), all(), open(one.session).begin(true).text);
      const refused = new Shelf("a page", Array(2).fill(() => { throw new DOMException("No.", "SecurityError"); }));
      return [...found, refused.begin(true), refused.keep(kept("a")), refused.earlier(), refused.keep(null)];
    """  # noqa: E501 a line of JavaScript
    assert in_tabs(code, tmp_path) == [False, False, "new", "old", True, ["new"], "new", None, False, [], False]


def test_what_is_no_text_is_left_alone(tmp_path: Path) -> None:
    code = """
      for (const [number, value] of given.entries()) local.setItem(`a page ${number}`, value);
      local.setItem("a page of others", "x");
      local.setItem("another", JSON.stringify(kept("of another page")));
      const one = open();
      const found = [one.begin(true), one.keep(kept("mine")), one.earlier()];
      return [...found, local.length];
    """
    given = ["{", "null", "5", '{"text": 1}', "[]"]
    assert in_tabs(code, tmp_path, given) == [None, True, [], len(given) + 3]
