"""How the exported page keeps its texts, in Node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from javascript import in_node, needs_node
from tabs import STORAGE, in_page_tabs

from textgen.export.packing import joined

pytestmark = needs_node
BROWSER = """
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
    return in_node(code, given, folder, before=joined(["shelf"]) + STORAGE + BROWSER)


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


def test_a_time_that_is_none_is_that_of_the_oldest_text(tmp_path: Path) -> None:
    code = """
      const put = (number, at) => local.setItem(`a page ${number}`, JSON.stringify({ text: `${at}`, at }));
      for (const [number, at] of given.entries()) put(number, at);
      const one = open();
      one.begin(false);
      return one.earlier().map(({ text, at }) => [text, at]);
    """
    given = [1e17, -1e17, "soon", None, 5]
    times = [["5", 5], ["100000000000000000", 0], ["-100000000000000000", 0], ["soon", 0], ["null", 0]]
    assert in_tabs(code, tmp_path, given) == times


def test_a_tab_whose_text_was_not_kept_for_good_writes_over_no_text_of_another_one(tmp_path: Path) -> None:
    """Also when it was loaded again meanwhile. If no other tab has changed its own text, it writes over that."""
    code = """
      const one = open();
      one.begin(true);
      one.keep(kept("a"));
      full.is = true;
      const found = [one.keep(kept("a b"))];
      const same = open(one.session);
      const other = open();
      found.push(same.begin(true).text, other.begin(true).text);
      full.is = false;
      other.keep(kept("theirs"));
      found.push(same.keep(kept("a b c")), all(), open(one.session).begin(true).text);
      found.push(same.earlier().map(({ text }) => text));
      full.is = true;
      same.keep(kept("a b c d"));
      full.is = false;
      return [...found, same.keep(kept("a b c d")), all()];
    """
    both = ["a b c", "theirs"]
    expected = [False, "a b", "a", True, both, "a b c", ["theirs"], True, ["a b c d", "theirs"]]
    assert in_tabs(code, tmp_path) == expected


def test_a_link_that_is_opened_again_takes_the_place_of_the_text_that_it_writes(tmp_path: Path) -> None:
    code = """
      const local = storage();
      const found = [];
      for (let number = 0; number < 3; number++) {
        const tab = open(local, storage(), "#prompt=a&seed=3&max_tokens=1");
        tab.ready();
        tab.tokens([" b"]);
        found.push(tab.close(), tab.text(), kept(local));
      }
      return found;
    """
    assert in_page_tabs(code, tmp_path) == [False, "a b", ["a b"]] * 3


def test_a_text_is_kept_with_the_address_that_writes_it_when_another_link_is_followed(tmp_path: Path) -> None:
    code = """
      const local = storage();
      const tab = open(local);
      tab.ready();
      for (const prompt of ["The", "A"]) {
        tab.follow(`#prompt=${prompt}&seed=3&max_tokens=1`);
        tab.tokens([" end"]);
      }
      tab.follow("#prompt=A&seed=4&max_tokens=9");
      tab.tokens([" way"], false);
      tab.follow("#prompt=B&seed=3&max_tokens=9");
      tab.tokens([" and"], false);
      tab.close();
      const found = [...local.items.values()].map((value) => JSON.parse(value));
      return found.map(({ text, hash, isLinked }) => [text, hash, isLinked]).sort();
    """
    expected = [
        ["A end", "#prompt=A&seed=3&max_tokens=1", True],
        ["A way", "#prompt=A&seed=4&max_tokens=9", False],
        ["B and", "#prompt=B&seed=3&max_tokens=9", True],
        ["The end", "#prompt=The&seed=3&max_tokens=1", True],
    ]
    assert in_page_tabs(code, tmp_path) == expected


LINKED = """
const linked = () => { // a text that the model wrote, in a tab that is closed
  const [local, session] = [storage(), storage()];
  const tab = open(local, session);
  tab.ready();
  tab.click("write");
  tab.tokens(["Once ", "upon ", "a time"]);
  tab.close();
  return { local, again: open(local, session, tab.location.hash) };
};
"""


def test_a_text_that_its_link_writes_again_stays_kept_as_a_whole(tmp_path: Path) -> None:
    """Whatever comes between: before the model is loaded, before its first token, or halfway."""
    code = f"""
      {LINKED}
      return Object.entries({{
        closeHalfway: (tab) => {{ tab.ready(); tab.tokens(["Once "], false); tab.close(); }},
        closeBefore: (tab) => {{ tab.ready(); tab.close(); }},
        type: (tab) => tab.type("X"),
        undo: (tab) => {{ tab.press("z"); tab.ready(); tab.tokens(["Once ", "upon ", "a time"]); }},
        redo: (tab) => {{ tab.press("y"); tab.ready(); tab.settle(); tab.close(); }},
        stop: (tab) => {{ tab.ready(); tab.tokens(["Once "], false); tab.click("write"); tab.settle(); }},
        undoStopped: (tab) => {{ tab.ready(); tab.tokens(["Once "], false); tab.click("undo"); tab.settle(); }},
        fail: (tab) => {{ tab.ready(); tab.tokens(["Once "], false); tab.fail(); tab.type("Once and"); }},
        newText: (tab) => {{ tab.click("new-text"); tab.type("mine"); }},
        follow: (tab) => {{ tab.ready(); tab.follow("#prompt=The&seed=3&max_tokens=1"); tab.tokens([" end"]); }},
        whole: (tab) => {{ tab.ready(); tab.tokens(["Once ", "upon ", "a time"]); tab.type("Once upon a time!"); }},
      }}).map(([name, action]) => {{
        const {{ local, again }} = linked();
        action(again);
        return [name, again.text(), again.earlier(), kept(local)];
      }});
    """
    whole = "Once upon a time"
    assert in_page_tabs(code, tmp_path) == [
        ["closeHalfway", "Once ", [], [whole]],
        ["closeBefore", "", [], [whole]],
        ["type", "X", [whole], [whole, "X"]],
        ["undo", whole, [], [whole]],
        ["redo", "", [], [whole]],
        ["stop", "Once ", [whole], ["Once ", whole]],
        ["undoStopped", "", [whole], [whole]],
        ["fail", "Once and", [whole], ["Once and", whole]],
        ["newText", "mine", [whole], [whole, "mine"]],
        ["follow", "The end", [whole], [whole, "The end"]],
        ["whole", "Once upon a time!", [], ["Once upon a time!"]],
    ]


def test_the_page_asks_also_for_a_text_that_was_left_and_could_not_be_kept(tmp_path: Path) -> None:
    """By a new text, by a link, and by undo; also if its address wrote it, but not if a link did that was followed."""
    code = """
      const leave = {
        newText: (tab) => tab.click("new-text"),
        link: (tab) => { tab.follow("#prompt=The&seed=3&max_tokens=1"); tab.tokens([" end"]); },
        undo: (tab, full) => {
          full.is = true;
          tab.follow("#prompt=The&seed=3&max_tokens=1");
          for (const id of ["more", "undo", "undo"]) {
            tab.tokens([" end"]);
            tab.click(id);
          }
        },
        write: (tab, full) => {
          full.is = true;
          tab.click("write");
          tab.tokens([" end"]);
          tab.click("new-text");
        },
        followTwo: (tab, full) => {
          full.is = true;
          for (const prompt of ["The", "A"]) {
            tab.follow(`#prompt=${prompt}&seed=3&max_tokens=1`);
            tab.tokens([" end"]);
          }
        },
        nothing: () => {},
      };
      return [{ is: true }, { isRefused: true }, {}].map((how) => Object.values(leave).map((action) => {
        const full = { ...how };
        const tab = open(storage(full), storage(full));
        tab.ready();
        tab.type("precious");
        action(tab, full);
        tab.settle();
        return tab.close();
      }));
    """
    always = [True] * 6
    assert in_page_tabs(code, tmp_path) == [always, always, [False, False, True, True, False, False]]


def test_the_page_says_that_texts_stay_only_where_they_are_kept(tmp_path: Path) -> None:
    code = """
      return [{ is: true }, { isRefused: true }, {}].map((full) => {
        const tab = open(storage(full), storage(full));
        const found = [tab.$("kept-note").hidden];
        tab.ready();
        for (const text of ["mine", ""]) {
          tab.type(text);
          found.push(tab.$("kept-note").hidden);
        }
        return found;
      });
    """
    assert in_page_tabs(code, tmp_path) == [[False, True, False], [True] * 3, [False] * 3]


def test_the_earlier_texts_are_those_beside_the_text_that_is_shown(tmp_path: Path) -> None:
    """After a link, after undo and redo, and after a text that another tab has emptied was asked for."""
    code = """
      const local = storage();
      const tab = open(local);
      tab.ready();
      tab.type("first");
      tab.follow("#prompt=The&seed=3&max_tokens=1");
      tab.tokens([" end"]);
      const found = [tab.earlier(), tab.$("earlier-texts").hidden];
      for (const id of ["undo", "redo"]) {
        tab.click(id);
        tab.settle();
        found.push(tab.text(), tab.earlier());
      }
      const other = open(local); // with the text that was kept last
      other.openEarlier(0);
      found.push(other.text());
      other.type("");
      tab.openEarlier(0);
      return [...found, tab.text(), tab.$("status").textContent, tab.earlier(), kept(local)];
    """
    gone = "This text is no longer kept: it was emptied in another tab."
    assert in_page_tabs(code, tmp_path) == [
        ["first"], False, "first", ["The end"], "The end", ["first"], "first", "The end", gone, [], ["The end"],
    ]  # fmt: skip
