"""The text of the page and how it is kept, in Node."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from javascript import in_node, needs_node

from textgen.server.web_page import page_files

pytestmark = needs_node
FILES = {name: data.decode() for name, data in page_files().items()}
BROWSER = """
const items = new Map();
const small = { isRefused: false };
const refuse = (value) => {
  if (small.isRefused) throw new DOMException("Access is denied.", "SecurityError");
  return value;
};
const localStorage = {
  getItem: (key) => refuse(items.get(key) ?? null), setItem: (key, value) => refuse(items.set(key, value)),
};
const records = new Map();
const disk = { isFull: false };
const later = () => new Promise((resolve) => setTimeout(resolve));
let last = later(); // transactions go one after another
const transaction = () => {
  const [made, requests, puts] = [{ error: null }, [], []];
  const ask = (value) => { requests.push({ value }); return requests.at(-1); };
  const get = (key) => ask(() => records.get(key));
  made.objectStore = () => ({ get, put: (value, key) => puts.push([key, value]) });
  last = last.then(async () => {
    for (const request of requests) {
      await later();
      request.result = request.value();
      request.onsuccess?.();
    }
    made.error = puts.length && disk.isFull ? new Error("The disk is full.") : null;
    if (!made.error) for (const [key, value] of puts) records.set(key, value);
    await later();
    (made.error ? made.onabort : made.oncomplete)();
  });
  return made;
};
const indexedDB = { open: () => {
  const request = { result: { transaction, close() {} } };
  later().then(() => request.onsuccess());
  return request;
} };
const refusal = (promise) => promise.then(() => null, (error) => error.message || error.constructor.name);
"""


def in_page(code: str, given: Any, folder: Path, *names: str, before: str = "") -> Any:
    """Runs a script after files of the page."""
    own = "".join(re.sub("^export ", "", FILES[name], flags=re.MULTILINE) for name in names)
    return in_node(code, given, folder, before=before + own)


def test_another_text_is_a_change_that_undo_takes_back(tmp_path: Path) -> None:
    code = """
      const other = new Story();
      other.change(0, 0, [{ text: "one", origin: "user" }], "typing");
      other.change(3, 0, [{ text: " two", origin: "model", token: { logprob: -1, top: [] } }], "writing");
      other.undo();
      other.change(3, 0, [{ text: " three", origin: "user" }], "typing");
      const fresh = new Story();
      fresh.adopt(Story.fromJSON(JSON.parse(JSON.stringify(other))));
      const story = new Story();
      story.type(0, 0, "before");
      const texts = [];
      const note = () => texts.push(story.text);
      story.adopt(Story.fromJSON(JSON.parse(JSON.stringify(other)))); note();
      story.undo(); note();
      story.redo(); note();
      story.change(0, story.text.length, [], "emptied"); note();
      story.undo(); note();
      story.undo(); note();
      const copy = Story.fromJSON(JSON.parse(JSON.stringify(story)));
      const leaves = copy.leaves().map((leaf) => copy.textAt(leaf));
      for (const leaf of copy.leaves()) copy.goTo(leaf);
      const isParent = (node, number) => node.children.every((child) => copy.nodes[child].parent === number);
      const consistent = copy.nodes.every(isParent);
      while (copy.undo());
      return { fresh: JSON.stringify(fresh) === JSON.stringify(other), texts, leaves, consistent, end: copy.text };
    """
    found = in_page(code, None, tmp_path, "story.js")
    assert found["fresh"]
    assert found["texts"] == ["one three", "before", "one three", "", "one three", "before"]
    assert sorted(found["leaves"]) == ["", "one three", "one two"]
    assert (found["consistent"], found["end"]) == (True, "")


def test_the_button_of_the_other_language_is_in_it(tmp_path: Path) -> None:
    code = """
      const [root, button] = [{}, {}];
      globalThis.document = { documentElement: root, getElementById: () => button, querySelectorAll: () => [] };
      return ["en", "zh"].map((each) => { speak(each); return [root.lang, button.lang, say("language")]; });
    """
    found = in_page(code, None, tmp_path, "words.js")
    assert found == [["en", "zh-CN", "中文"], ["zh-CN", "en", "English"]]


def cuts(texts: list[str], most: int, folder: Path) -> list[tuple[str, str]]:
    """The last and the first units of texts."""
    code = """
      return given.texts.map((text) => [
        text.slice(beginningOfLast(text, given.most)), text.slice(0, endOfFirst(text, given.most)),
      ]);
    """
    return [(last, first) for last, first in in_page(code, {"texts": texts, "most": most}, folder, "story.js")]


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def test_the_ends_of_a_text_that_are_sent_are_whole_lines_or_characters(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(100))
    texts = ["", "short\n", lines, lines + "x" * 7, "🙂" * 101, "a" + "🙂" * 101, "a" * 500 + "\n", "\n" + "a" * 500]
    for text, (last, first) in zip(texts, cuts(texts, 40, tmp_path), strict=True):
        assert text.endswith(last)
        assert text.startswith(first)
        assert min(units(text), 9) <= units(last) <= 40
        assert min(units(text), 19) <= units(first) <= 40
    (last, first), *_ = cuts([lines], 40, tmp_path)
    assert last.startswith("line ")
    assert first.endswith("\n")


def test_a_text_that_grows_keeps_the_beginning_that_is_sent(tmp_path: Path) -> None:
    """So that the server, which keeps what it has read, reads little."""
    text = "".join(f"line {number}\n" for number in range(1000))
    found = cuts([text[:end] for end in range(5000, 6000)], 1000, tmp_path)
    assert 2 <= len({end - len(last) for end, (last, _) in enumerate(found, 5000)}) <= 4


def test_what_is_sent_is_cut(tmp_path: Path) -> None:
    """A text of any length can be continued."""
    code = """
      const bodies = [];
      globalThis.fetch = async (path, { body }) => {
        bodies.push(JSON.parse(body));
        return { ok: true, body: new ReadableStream({ start: (controller) => controller.close() }) };
      };
      const text = given.repeat(20_000);
      await new HttpEngine().write({ model: "m", prompt: text, suffix: text, n: 1, settings: {} });
      return bodies[0];
    """
    story, engine = FILES["story.js"], re.sub("^import .*$", "", FILES["engine.js"], flags=re.MULTILINE)
    before = re.sub("^export ", "", story + engine, flags=re.MULTILINE)
    body = in_node(code, "a line\n", tmp_path, before=before)
    for sent in (body["prompt"], body["suffix"]):
        assert 2500 < len(sent) <= 10_000
        assert set(sent.splitlines()) == {"a line"}


def in_tabs(code: str, folder: Path) -> Any:
    """Runs a script that may open pages by `tab()`."""
    shelf = re.sub("^export ", "", FILES["shelf.js"], flags=re.MULTILINE)
    tabs = "function tab() {\n" + shelf + "\nreturn { accept, keep, kept, newer };\n}\n"
    return in_node(code, None, folder, before=BROWSER + tabs)


def test_a_stale_tab_writes_over_nothing(tmp_path: Path) -> None:
    code = """
      const [mine, other, third] = [tab(), tab(), tab()];
      await mine.keep("mine");
      const said = [await mine.newer(), (await other.newer()).story];
      said.push(await refusal(other.keep("of a tab that has read nothing")));
      other.accept((await other.newer()).revision);
      await other.keep("theirs");
      said.push(await refusal(mine.keep("old")), (await mine.kept()).story);
      mine.accept((await mine.newer()).revision);
      await mine.keep("newer");
      return [...said, (await third.kept()).story, await mine.newer()];
    """
    assert in_tabs(code, tmp_path) == [None, "mine", "Stale", "Stale", "theirs", "newer", None]


def test_of_two_tabs_that_keep_at_the_same_time_one_is_told(tmp_path: Path) -> None:
    code = """
      const tabs = [tab(), tab()];
      const said = await Promise.all(tabs.map((each, number) => refusal(each.keep(`${number}`))));
      return [said, (await tab().kept()).story];
    """
    assert in_tabs(code, tmp_path) == [[None, "Stale"], "0"]


def test_a_tab_that_reads_while_another_one_keeps_has_the_revision_of_what_it_reads(tmp_path: Path) -> None:
    code = """
      const [one, other] = [tab(), tab()];
      await one.keep("old");
      const reading = other.kept();
      const keeping = one.keep("new");
      const found = await reading;
      other.accept(found.revision);
      await keeping;
      return [found.story, await refusal(other.keep(`${found.story} and more`)), (await tab().kept()).story];
    """
    assert in_tabs(code, tmp_path) == ["old", "Stale", "new"]


def test_texts_that_a_tab_keeps_one_after_another_without_waiting_are_all_kept(tmp_path: Path) -> None:
    code = """
      const one = tab();
      const said = await Promise.all(["a", "b", "c"].map((text) => refusal(one.keep(text))));
      return [said, (await one.kept()).story];
    """
    assert in_tabs(code, tmp_path) == [[None, None, None], "c"]


def test_what_cannot_be_kept_leaves_no_revision(tmp_path: Path) -> None:
    code = """
      const [one, other] = [tab(), tab()];
      await one.keep("a");
      other.accept((await other.kept()).revision);
      disk.isFull = true;
      const said = [await refusal(one.keep("b")), await other.newer()];
      disk.isFull = false;
      await other.keep("c");
      return [...said, await refusal(one.keep("b")), (await one.newer()).story];
    """
    assert in_tabs(code, tmp_path) == ["The disk is full.", None, "Stale", "c"]


def test_where_the_small_storage_is_refused_stories_are_kept_and_those_of_other_tabs_found(tmp_path: Path) -> None:
    code = """
      small.isRefused = true;
      const [one, other] = [tab(), tab()];
      const said = [await one.newer(), await refusal(one.keep("a")), await one.newer(), (await other.newer()).story];
      other.accept((await other.newer()).revision);
      return [...said, await refusal(other.keep("b")), await refusal(one.keep("c")), (await one.newer()).story];
    """
    assert in_tabs(code, tmp_path) == [None, None, None, "a", None, "Stale", "b"]


def test_a_text_that_was_kept_without_a_revision_is_read_and_continued(tmp_path: Path) -> None:
    code = """
      records.set("current", JSON.stringify("before"));
      localStorage.setItem("textgen-revision", "of before");
      const one = tab();
      const { revision, story } = await one.kept();
      one.accept(revision);
      await one.keep(`${story} and after`);
      return [await one.newer(), (await tab().kept()).story];
    """
    assert in_tabs(code, tmp_path) == [None, "before and after"]
