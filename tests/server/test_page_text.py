"""The text of the page and how it is kept, in Node."""

from __future__ import annotations

import json
import os
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from javascript import PASTED, in_node, needs_node, words_in_shell

from textgen.generation.config import SamplingConfig
from textgen.generation.infilling import GAP_TOKENS
from textgen.html_page import asset
from textgen.insight.page import page_script
from textgen.server.config import ServerConfig
from textgen.server.web_page import page_files
from textgen.wording import shell_word

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
    own = "".join(re.sub("^(export |import .*$)", "", FILES[name], flags=re.MULTILINE) for name in names)
    return in_node(code, given, folder, before=before + own)


def test_another_text_is_a_change_that_undo_takes_back(tmp_path: Path) -> None:
    code = """
      const other = new Story();
      other.change(0, 0, [{ text: "one", origin: "user" }], "typing");
      other.change(3, 0, [{ text: " two", origin: "model", token: { text: " two", logprob: -1, top: [] } }], "writing");
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


def test_a_token_whose_probabilities_cannot_be_shown_is_left_out(tmp_path: Path) -> None:
    code = """
      return given.map((token) => {
        const story = new Story();
        story.change(0, 0, [{ text: "a", origin: "model", token, other: 1 }], "writing");
        const copy = Story.fromJSON(JSON.parse(JSON.stringify(story)));
        copy.change(0, 1, [], "typing");
        const spans = [copy.nodes[1].added, Story.fromJSON(JSON.parse(JSON.stringify(copy))).nodes[2].removed];
        return spans.map(([{ token, ...rest }]) => [JSON.stringify(rest), token ?? null]);
      });
    """
    top = [{"text": "a", "logprob": -1}, {"text": "b", "logprob": -2.5}]
    good: dict[str, Any] = {"text": "a", "logprob": -1, "top": top, "healed": 2}
    lacking = [{name: good[name] for name in good if name != left_out} for left_out in ("text", "logprob", "top")]
    wrong: list[dict[str, Any]] = [
        {"top": "a"}, {"top": [None]}, {"top": [{"text": "b"}]}, {"top": [{"text": 1, "logprob": -1}]}, {"text": 1},
        {"logprob": "-1"}, {"healed": -1}, {"healed": 0.5}, {"healed": "1"},
    ]  # fmt: skip
    bad = ["a", 1, *lacking, *(good | each for each in wrong)]
    sound = [good, {"text": "a", "logprob": -1, "top": []}]
    found = in_page(code, [*sound, *bad], tmp_path, "story.js")
    span = '{"text":"a","origin":"model"}'
    assert found == [[[span, token]] * 2 for token in [*sound, *[None] * len(bad)]]


def test_a_story_that_was_kept_is_the_same(tmp_path: Path) -> None:
    """Also where a change has split a text that it replaced nothing of, and where nobody has gone to a branch."""
    code = """
      const story = new Story();
      const token = { text: "cd", logprob: -1, top: [], healed: 0 };
      story.type(0, 0, "ab");
      story.change(2, 0, [{ text: "cd", origin: "model", token }, { text: "e", origin: "model" }], "writing");
      story.type(1, 0, "x");
      story.change(4, 2, [{ text: "y", origin: "model", token: { ...token, top: [token] } }], "choice");
      for (const text of ["v", "w"]) {
        story.extend(story.branch(story.current, 5, [], "writing"), [{ text, origin: "model" }]);
      }
      const kept = JSON.stringify(story);
      return [kept, JSON.stringify(Story.fromJSON(JSON.parse(kept))), story.text];
    """
    kept, read, text = in_page(code, None, tmp_path, "story.js")
    assert (read, text) == (kept, "axbcy")
    assert '"removed":2' in kept


def test_a_text_of_which_nothing_comes_is_no_version(tmp_path: Path) -> None:
    """Whichever of several it is; and a single one, of which redo would show nothing."""
    code = """
      return given.map((pieces) => {
        const story = new Story();
        story.type(0, 0, "The wolf");
        const drafts = new Drafts(story, 8, "writing", pieces.length);
        for (const step of [0, 1]) {
          for (const [place, piece] of pieces.entries()) {
            if (piece) drafts.extend(place, { text: piece[step], origin: "model" });
          }
        }
        const texts = pieces.map((_, place) => drafts.text(place));
        return [story.text, texts, drafts.end(), story.nodes[1].children.map((node) => story.textAt(node)), story.redo()];
      });
    """  # noqa: E501 a line of JavaScript
    given = [["!?", "", "ab"], ["", "", "ab"], ["", ""], [""], ["ab"]]
    assert in_page(code, given, tmp_path, "story.js") == [
        ["The wolf", ["!?", "", "ab"], [1], ["The wolf!?", "The wolfab"], False],
        ["The wolf", ["", "", "ab"], [0, 1], ["The wolfab"], False],
        ["The wolf", ["", ""], [0, 1], [], False],
        ["The wolf", [""], [0], [], False],
        ["The wolfab", ["ab"], [], ["The wolfab"], False],
    ]


def test_redo_leads_where_it_led_before_a_text_that_did_not_come(tmp_path: Path) -> None:
    """Unless you went to another version while it was awaited."""
    code = """
      return given.map(([number, meanwhile]) => {
        const story = new Story();
        story.type(0, 0, "The wolf");
        const versions = [" ran", " sat", " hid"].map((text) => {
          story.goTo(1);
          return story.change(8, 0, [{ text, origin: "model" }], "writing");
        });
        story.goTo(versions[0]);
        story.undo();
        const drafts = new Drafts(story, 8, "writing", number);
        if (meanwhile !== null) story.goTo(versions[meanwhile]);
        drafts.end();
        story.goTo(1);
        if (meanwhile === null) story.redo();
        else while (story.redo());
        return story.text;
      });
    """
    given = [[1, None], [3, None], [1, 1], [3, 1]]
    found = in_page(code, given, tmp_path, "story.js")
    assert found == ["The wolf ran", "The wolf ran", "The wolf sat", "The wolf sat"]


def test_what_changes_have_replaced_is_found_again(tmp_path: Path) -> None:
    """Former versions of the page kept the spans themselves."""
    code = """
      let number = given;
      const below = (most) => (number = (number * 48271) % 2147483647) % most;
      const story = new Story();
      const token = { text: "b", logprob: -1, top: [], healed: 0 };
      for (let step = 0; step < 300; step++) {
        const [at, kind] = [below(story.text.length + 1), below(5)];
        const added = [{ text: "abcdefg".slice(below(7)), origin: "user" }, { text: "b", origin: "model", token }];
        if (kind < 2) story.change(at, below(6), added, "typing");
        if (kind === 2) story.goTo(below(story.nodes.length));
        if (kind === 3) story.branch(story.current, at, [], "writing");
        if (kind === 4) story.change(at, below(3), [], "emptied");
      }
      const former = { ...story.toJSON(), nodes: story.nodes };
      const [now, then] = [story, former].map((each) => Story.fromJSON(JSON.parse(JSON.stringify(each))));
      const removed = ({ nodes }) => JSON.stringify(nodes.map((node) => node.removed));
      const isSame = removed(now) === removed(then) && removed(now) === removed(story);
      const texts = ({ nodes, spans }) => JSON.stringify([spans, nodes.map(({ last }) => last)]);
      return [isSame, texts(now) === texts(then), now.text === story.text];
    """
    for seed in (1, 2, 3):
        assert in_page(code, seed, tmp_path, "story.js") == [True, True, True]


def test_a_change_of_a_kept_story_replaces_only_what_is_there(tmp_path: Path) -> None:
    """Former versions of the page kept changes that begin beyond the text, from which undo did not come back."""
    code = """
      const span = (text) => (text ? [{ text, origin: "user" }] : []);
      const nodes = given.map(([parent, at, removed, added]) => (
        { parent, at, removed: span(removed), added: span(added), last: -1, kind: "typing", pinned: false }
      ));
      const story = Story.fromJSON({ format: "textgen story 1", nodes, current: nodes.length - 1 });
      const texts = [story.text];
      while (story.undo()) texts.push(story.text);
      while (story.redo()) texts.push(story.text);
      const textsAt = nodes.map((_, node) => story.textAt(node));
      return [texts, textsAt, nodes.map((_, node) => story.ending(node, 99))];
    """
    nodes = [[-1, 0, "", ""], [0, 0, "", "Hello"], [0, 5, "", " world"], [2, 3, "rld and", "n"], [3, 9, "", "!"]]
    texts, texts_at, endings = in_page(code, nodes, tmp_path, "story.js")
    assert texts_at == endings == ["", "Hello", " world", " won", " won!"]
    assert texts == [" won!", " won", " world", "", " world", " won", " won!"]


def test_no_change_begins_beyond_the_text(tmp_path: Path) -> None:
    code = """
      const story = new Story();
      story.type(0, 0, "Hello");
      story.undo();
      story.change(5, 3, [{ text: " world", origin: "model" }], "suggestion");
      const found = [story.text, story.nodes.at(-1).at];
      story.undo(); found.push(story.text);
      story.redo(); found.push(story.text);
      return [...found, story.spans];
    """
    found = in_page(code, None, tmp_path, "story.js")
    assert found == [" world", 0, "", " world", [{"text": " world", "origin": "model"}]]


def test_a_run_of_the_model_ends_where_the_text_of_the_user_goes_on(tmp_path: Path) -> None:
    code = """
      const story = new Story();
      const token = { logprob: -1, top: [] };
      for (const [text, origin] of given) {
        story.change(story.text.length, 0, [{ text, origin, ...(origin === "model" && { token }) }], "x");
      }
      return [...story.text, ""].map((_, at) => story.endOfRun(at));
    """
    texts = [["ab", "user"], ["cd", "model"], ["e", "model"], ["fg", "user"], ["h", "model"]]
    assert in_page(code, texts, tmp_path, "story.js") == [0, 1, 5, 5, 5, 5, 6, 8, 8]


def test_the_ending_of_each_node_is_that_of_its_text(tmp_path: Path) -> None:
    code = """
      let state = given;
      const below = (n) => (state = (state * 48271) % 2147483647) % n;
      const word = () => "abcdefghij".slice(below(10)) + below(1000);
      const story = new Story();
      for (let step = 0; step < 150; step++) {
        const kind = below(4);
        if (kind === 0) story.type(below(story.text.length + 1), 0, word());
        if (kind === 1) story.undo();
        if (kind === 2) story.goTo(below(story.nodes.length));
        const [at, added] = [below(story.text.length + 1), { text: word(), origin: "model" }];
        if (kind === 3) story.change(at, below(9), [added, { ...added, token: { top: [] } }], "x");
      }
      const pairs = story.nodes.flatMap((_, node) => [1, 7, 80].map((most) => [story.ending(node, most), story.textAt(node).slice(-most)]));
      return [pairs.length, pairs.filter(([one, other]) => one !== other), new Set(pairs.flat()).size];
    """  # noqa: E501 a line of JavaScript
    for seed in (1, 2, 3):
        number, wrong, various = in_page(code, seed, tmp_path, "story.js")
        assert wrong == []
        assert various > number / 10


def test_the_endings_of_a_hundred_leaves_take_less_time_than_ten_texts(tmp_path: Path) -> None:
    code = """
      const story = new Story();
      const spans = Array.from({ length: 75 }, () => ({ text: "word", origin: "model", token: { top: [] } }));
      for (let step = 0; step < 200; step++) story.change(story.text.length, 0, spans, "writing");
      const leaves = Array.from({ length: 100 }, () => story.branch(story.current, story.text.length, [], "writing"));
      for (const leaf of leaves) story.nodes[leaf].added.push({ text: `${leaf}`, origin: "model" });
      const spent = (work) => {
        const before = process.cpuUsage();
        work();
        const { user, system } = process.cpuUsage(before);
        return user + system;
      };
      const endings = [];
      const times = [
        spent(() => { for (const leaf of leaves) endings.push(story.ending(leaf, 80)); }),
        spent(() => { for (const leaf of leaves.slice(0, 10)) story.textAt(leaf); }),
      ];
      return [story.text.length, times, endings.every((ending, number) => ending.endsWith(`word${leaves[number]}`))];
    """
    length, (endings, texts), are_right = in_page(code, None, tmp_path, "story.js")
    assert (length, are_right) == (60_000, True)
    assert endings < texts


def test_probabilities_are_shown_as_percentages(tmp_path: Path) -> None:
    code = "return given.map((probability) => percentOf(Math.log(probability)));"
    given = [1, 0.99999, 0.5, 0.0321, 0.001, 0.0001, 3.2e-11]
    expected = ["100 %", "100 %", "50 %", "3.2 %", "0.1 %", "< 0.1 %", "< 0.1 %"]
    assert in_page(code, given, tmp_path, "words.js") == expected


POEM = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n"
TRADITIONAL = (
    "話說天下大勢，分久必合，合久必分：周末七國分爭，并入於秦；及秦滅之後，楚、漢分爭，又并入於漢。\n",
    "千山鳥飛絕\r\n萬徑人蹤滅\r\n孤舟蓑笠翁\r\n獨釣寒江雪\r\n",
    "一個人上山，Tom 也上山：1999 年。\n",
)


def test_files_of_text_are_read_in_the_encodings_that_they_have(tmp_path: Path) -> None:
    code = """
      return given.map((bytes) => {
        try {
          return decoded(Uint8Array.from(bytes));
        } catch (error) {
          return error.name;
        }
      });
    """
    texts = ["", "plain", "für 5 €", POEM, f"1999 年, {POEM}"]
    encodings = ["utf-8", "utf-8-sig", "utf-16"]
    chinese = [(text, encoding) for text in texts[3:] for encoding in ("gbk", "gb18030")]
    pairs = [(text, encoding) for text in texts for encoding in encodings] + chinese
    pairs.append(("龍國 的 㐀 🙂", "gb18030"))
    pairs += [(text, encoding) for text in TRADITIONAL for encoding in ("utf-8", "gbk", "big5")]
    encoded = [text.encode(encoding) for text, encoding in pairs]
    encoded.append(b"\xfe\xff" + POEM.encode("utf-16-be"))
    damaged = [
        (POEM * 9).encode()[:-2],
        POEM.encode()[1:],
        POEM.encode().replace(b"\x98", b"", 1),
        "床前明".encode()[:-1],
    ]
    refused = [
        *damaged,
        "für".encode("cp1252"),
        "déjà vu".encode("latin-1"),
        "¡Mañana!".encode("latin-1"),
        b"\xa1\x80" * 9,  # private in GB 18030, and no Big5
        "a b".encode("utf-16-le"),
        b"\xff\xfe\x00",
        b"\xff",
    ]
    found = in_page(code, [list(data) for data in encoded + refused], tmp_path, "encodings.js")
    assert found == [*(text for text, _ in pairs), POEM, *["TypeError"] * len(refused)]


def test_the_first_word_of_a_suggestion_ends_where_the_next_one_begins(tmp_path: Path) -> None:
    """In scripts without spaces, too, of which a suggestion would be one word; elsewhere white space ends a word."""
    code = "return given.map((text) => firstWord(text) ?? null);"
    spaced = [
        " don't stop", "e.g. this", " (word) (x", "\n\n“well-known”, he", "https://a.b/c?d=1 e", "a—b c", "3.14 m",
        "— 1", "안녕하세요, b", "नमस्ते दुनिया", "🙂🙂 a", "... b", "word",
    ]  # fmt: skip
    unspaced = [
        ("明月松间照，清泉石上流。", "明月"), ("照，清泉", "照，"), ("，清泉石", "，清泉"), ("他：“你好……”她", "他："),
        ("“你好……”她", "“你好……”"), ("\n\u3000明月（松）", "\n\u3000明月"), (" Tom也上山", " Tom"), ("也Tom", "也"),
        ("月光 松", "月光"), ("3月", "3"), ("สวัสดีครับ", "สวัสดี"), ("……", "……"),
    ]  # fmt: skip
    found = in_page(code, ["", " \n", *spaced, *(text for text, _ in unspaced)], tmp_path, "suggestions.js")
    words = [re.match(r"\s*\S+", text) for text in spaced]
    assert found == [None, None, *(word and word[0] for word in words), *(word for _, word in unspaced)]


def test_the_button_of_the_other_language_is_in_it(tmp_path: Path) -> None:
    code = """
      const [root, button] = [{}, {}];
      globalThis.document = { documentElement: root, getElementById: () => button, querySelectorAll: () => [] };
      return ["en", "zh"].map((each) => { speak(each); return [root.lang, button.lang, say("language")]; });
    """
    found = in_page(code, None, tmp_path, "words.js")
    assert found == [["en", "zh-CN", "中文"], ["zh-CN", "en", "English"]]


def test_what_is_told_by_a_word_is_in_both_languages(tmp_path: Path) -> None:
    """So that it is told in the other language, too, once that is chosen."""
    calls = re.findall(r"\b(?:tell|ServerError)\((.*)", "".join(FILES.values()))
    told = {"lost", "notKept", "otherTab", *re.findall(r'"([a-z]\w*)"', " ".join(calls))}
    code = """
      const status = { dataset: {} };
      const querySelectorAll = (selector) => (selector === "[data-word]" ? [status] : []);
      globalThis.document = { documentElement: {}, getElementById: () => status, querySelectorAll };
      return given.map((word) => {
        speak("en");
        tell(word);
        const before = status.textContent;
        speak("zh");
        return [before, status.textContent];
      });
    """
    message, *pairs = in_page(code, ["A message.", *sorted(told)], tmp_path, "words.js", "dom.js")
    assert message == ["A message.", "A message."]
    assert len(pairs) > 10
    for word, (english, chinese) in zip(sorted(told), pairs, strict=True):
        assert english != chinese != word


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


def in_engine(code: str, given: Any, folder: Path) -> Any:
    """Runs a script after what asks the server."""
    texts = "".join(FILES[name] for name in ("story.js", "engine.js", "command.js"))
    return in_node(code, given, folder, before=re.sub("^(export |import .*$)", "", texts, flags=re.MULTILINE))


def test_what_is_sent_is_cut(tmp_path: Path) -> None:
    """A text of any length can be continued, and any gap be filled, with any vocabulary and whole characters."""
    texts = ["", "short", "a line\n" * 3000, "月" * 40_000, "🙂" * 40_001, "x" + "🙂" * 40_001]
    pairs = [(before, after) for before in texts for after in texts]
    found = in_engine("return given.map(([before, after]) => sentOf(before, after));", pairs, tmp_path)
    for (before, after), sent in zip(pairs, found, strict=True):
        whole = sent["prompt"] + sent["suffix"]
        assert len(whole.encode("utf-16-le")) <= 20_000
        assert len(whole.encode()) < ServerConfig().max_prompt, "a vocabulary may have a token for each byte"
        assert before.endswith(sent["prompt"])
        assert after.startswith(sent["suffix"])
        share = 1250 if after else 2500
        assert sent["prompt"] == before or len(sent["prompt"].encode("utf-16-le")) // 2 > share
        assert sent["suffix"] == after or len(sent["suffix"].encode("utf-16-le")) // 2 >= 2500


def test_the_server_is_sent_what_the_page_says(tmp_path: Path) -> None:
    code = """
      const bodies = [];
      globalThis.fetch = async (path, { body }) => {
        bodies.push(JSON.parse(body));
        return new Response("data: [DONE]\\n\\n");
      };
      for (const sent of given) await new HttpEngine().write({ model: "m", sent, n: 2, settings: { seed: 1 } });
      return bodies;
    """
    common = {"seed": 1, "model": "m", "n": 2, "stream": True}
    given = [{"prompt": "a", "suffix": "b"}, {"prompt": "a", "suffix": ""}]
    expected = [common | given[0], common | {"prompt": "a", "logprobs": 8}]
    assert in_engine(code, given, tmp_path) == expected


STREAMED = """
  const chunk = (index, text, reason = null) =>
    `data: ${JSON.stringify({ choices: [{ index, text, logprobs: null, finish_reason: reason }] })}\\n\\n`;
  const answer = async (stream, suffix, n) => {
    globalThis.fetch = async () => new Response(stream);
    const texts = Array(n).fill("");
    const onSpan = (index, span) => { texts[index] += span.text; };
    const writing = new HttpEngine().write({ model: "m", sent: { prompt: "a", suffix }, n, settings: {}, onSpan });
    return [texts, await writing.catch((error) => explain(error))];
  };
"""


def test_a_text_has_ended_only_where_the_model_has_ended_it(tmp_path: Path) -> None:
    code = f"""{STREAMED}
      const found = [];
      for (const [reasons, suffix] of given) {{
        const chunks = reasons.map((reason, index) => chunk(index, "b") + (reason ? chunk(index, "", reason) : ""));
        found.push((await answer(`${{chunks.join("")}}data: [DONE]\\n\\n`, suffix, reasons.length))[1]);
      }}
      return found;
    """
    given = [
        (["stop"], ""), (["stop", "stop"], ""), (["length"], ""), (["stop", "length"], ""), ([None, "stop"], ""),
        (["stop"], "after"), (["length"], "after"),
    ]  # fmt: skip
    assert in_engine(code, given, tmp_path) == [True, True, *[False] * 5]


def test_a_stream_without_its_last_event_is_a_lost_connection(tmp_path: Path) -> None:
    code = f"""{STREAMED}
      const begun = chunk(0, "b") + chunk(0, "c");
      const whole = begun + chunk(0, "", "stop") + "data: [DONE]\\n\\n";
      const streams = [begun, begun + chunk(0, "", "stop"), whole.trimEnd(), "", "<html>\\n\\n</html>\\n\\n", whole];
      const found = [];
      for (const stream of streams) found.push(await answer(stream, "", 1));
      return found;
    """
    expected = [[["bc"], "lost"]] * 3 + [[[""], "lost"]] * 2 + [[["bc"], True]]
    assert in_engine(code, None, tmp_path) == expected


def test_the_lines_of_a_stream_may_end_in_a_return_and_a_newline(tmp_path: Path) -> None:
    code = f"""{STREAMED}
      const whole = ": ping\\n\\n" + chunk(0, "b") + chunk(0, "", "length") + "data: [DONE]\\n\\n";
      const lines = new TextEncoder().encode(whole.replaceAll("\\n", "\\r\\n"));
      const start = (controller) => {{
        for (const byte of lines) controller.enqueue(Uint8Array.of(byte));
        controller.close();
      }};
      return answer(new ReadableStream({{ start }}), "", 1);
    """
    assert in_engine(code, None, tmp_path) == [["b"], False]


def test_the_command_writes_what_the_page_asks_for(tmp_path: Path) -> None:
    settings = {"temperature": 0.8, "min_p": 0.05, "top_p": 1, "top_k": 0, "repeat_penalty": 1, "max_tokens": 500}
    plain: dict[str, Any] = {
        "model": "my novel",
        "sent": {"prompt": "", "suffix": ""},
        "n": 1,
        "settings": settings,
        "isExact": False,
    }
    long = "It's a 🙂\n" * 900
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({}, []),
        ({"sent": {"prompt": long, "suffix": ""}}, ["--prompt", long]),
        ({"sent": {"prompt": "-a", "suffix": "'"}}, ["--prompt", "-a", "--suffix", "'", "--max-tokens", "500"]),
        ({"sent": {"prompt": "", "suffix": "b"}}, ["--suffix", "b"]),
        (
            {"sent": {"prompt": "a", "suffix": "b"}, "settings": settings | {"max_tokens": 40}},
            ["--prompt", "a", "--suffix", "b"],
        ),
        (
            {"n": 3, "isExact": True, "settings": settings | {"top_k": 5, "seed": 0, "clamp": ["L0/3=5", "L0/2.o=-1"]}},
            ["--num", "3", "--top-k", "5", "--seed", "0", "--clamp", "L0/3=5", "--clamp", "L0/2.o=-1"],
        ),
        ({"isExact": True, "settings": settings | {"seed": 0}}, ["--seed", "0", "--exact"]),
        ({"isExact": True, "sent": {"prompt": "", "suffix": "b"}}, ["--suffix", "b"]),
        ({"settings": settings | {"label": "Edgar Poe"}}, ["--label", "Edgar Poe"]),
        ({"sent": {"prompt": "", "suffix": "b"}, "settings": settings | {"label": "poe"}}, ["--suffix", "b"]),
    ]
    commands = in_engine("return given.map(commandOf);", [plain | case for case, _ in cases], tmp_path)
    assert [shlex.split(command) for command in commands] == [
        ["textgen", "sample", "my novel", *words] for _, words in cases
    ]
    none: list[dict[str, Any]] = [{"model": ""}, {"sent": {"prompt": "-", "suffix": ""}}]
    assert in_engine("return given.map(commandOf);", [plain | case for case in none], tmp_path) == ["", ""]


def test_the_seed_that_the_server_has_drawn_is_told_before_the_text_and_if_it_is_stopped(tmp_path: Path) -> None:
    code = """
      const found = [];
      for (const isStopped of [false, true]) {
        const abort = new AbortController();
        const event = (text) => `data: ${JSON.stringify({ seed: 7, choices: [{ index: 0, text, logprobs: null }] })}\\n\\n`;
        const start = (controller) => {
          controller.enqueue(new TextEncoder().encode(event("a") + event("b")));
          abort.signal.addEventListener("abort", () => controller.error(abort.signal.reason));
          if (!isStopped) controller.enqueue(new TextEncoder().encode("data: [DONE]\\n\\n"));
        };
        globalThis.fetch = async () => new Response(new ReadableStream({ start }));
        const told = [];
        const onSeed = (seed) => told.push(seed);
        const onSpan = (_, { text }) => { told.push(text); if (isStopped && text === "b") abort.abort(); };
        const sent = { prompt: "", suffix: "" };
        const writing = new HttpEngine().write({ model: "m", sent, n: 1, settings: {}, onSeed, onSpan });
        found.push([told, await writing.then(() => "done", (error) => error.name)]);
      }
      return found;
    """  # noqa: E501 a line of JavaScript
    assert in_engine(code, None, tmp_path) == [[[7, "a", "b"], "done"], [[7, "a", "b"], "AbortError"]]


def test_the_command_writes_the_text_again_while_that_is_shown_and_nothing_else_is_chosen(tmp_path: Path) -> None:
    """With several texts at once, as long as they are offered and when one was taken."""
    code = """
      const story = new Story();
      story.type(0, 0, "The cat");
      const written = new Written();
      const found = [];
      const next = (more = {}) => ({ model: "m", sent: sentOf(story.text, ""), n: 1, settings: { top_k: 5 }, ...more });
      const show = (request = next(), caret = story.text.length) => {
        const again = written.requestAt(story, caret, request);
        found.push(again ? commandOf(again) : null);
      };
      const write = (request, texts, seed) => {
        const [from, at] = [story.current, story.text.length];
        const drafts = new Drafts(story, at, "writing", request.n);
        for (const [place, text] of texts.entries()) if (text) drafts.extend(place, { text, origin: "model" });
        drafts.end();
        written.note({ story, request, seed, from, at, nodes: drafts.written });
        return drafts.written;
      };
      show();
      write(next(), [" sat"], 7); show();
      for (const more of [{ settings: { top_k: 6 } }, { model: "n" }, { n: 2 }, { isGap: true }]) show(next(more));
      show(next(), 3);
      story.type(11, 0, "."); show();
      story.undo(); show();
      story.undo(); show();
      story.redo(); show();
      const [first, last] = write(next({ n: 3 }), [" on", "", " in"], 9); show(next({ n: 3 }));
      story.goTo(last); show(next({ n: 3 }));
      write(next(), [""], 8); show();
      story.type(story.text.length, 0, " a"); show();
      written.forget(); show();
      return found;
    """
    found = in_page(code, None, tmp_path, "story.js", "engine.js", "command.js", "written.js")
    one = "textgen sample m --prompt 'The cat' --top-k 5 --seed 7"
    three = "textgen sample m --prompt 'The cat sat' --num 3 --top-k 5 --seed 9"
    assert found == [None, one, *[None] * 6, one, None, one, three, three, None, None, None]


def test_a_command_can_be_pasted_whatever_is_in_its_texts(tmp_path: Path) -> None:
    asked = [
        {"model": text, "sent": {"prompt": text, "suffix": text}, "n": 1, "settings": {"clamp": [text]}}
        for text in (*PASTED, "a\0b")
    ]
    *commands, none = in_engine("return given.map(commandOf);", asked, tmp_path)
    for text, command in zip(PASTED, commands, strict=True):
        expected = ["textgen", "sample", text, "--prompt", text, "--suffix", text, "--clamp", text]
        assert words_in_shell(command) == expected
    assert none == ""


def test_words_of_any_script_are_not_quoted_as_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell of Windows would take single quotes for a part of them."""
    words = ["novel", "-a", "绝句", "हिन्दी", "Größe", "٣", "一.txt", "a b", "床前，", "", "🙂", "a\u200db"]
    monkeypatch.setattr(os, "name", "posix")
    found = [shell_word(word) for word in words]
    monkeypatch.undo()
    assert found[:7] == words[:7]
    assert in_engine("return given.map(quoted);", words, tmp_path) == found


def test_the_command_leaves_out_what_the_command_line_does_by_itself() -> None:
    usual = SamplingConfig()
    found = dict(re.findall(r"(\w+): ([\d.]+)", FILES["command.js"].partition("USUAL = {")[2].partition("}")[0]))
    assert {name: float(value) for name, value in found.items()} == {name: getattr(usual, name) for name in found}
    assert found.keys() == set(re.findall(r"^  (\w+): { usual", FILES["settings.js"], re.MULTILINE))
    assert f"GAP_TOKENS = {GAP_TOKENS};" in FILES["command.js"]


def function(name: str, code: str) -> str:
    """The text of a function in a script, as a declaration of some lines or as an arrow function of one line."""
    form = rf"^(?:(?:async )?function {re.escape(name)}\(.*?^}}|const {re.escape(name)} = \(.*?;)$"
    (found,) = re.findall(form, code.replace("export ", ""), re.MULTILINE | re.DOTALL)
    return str(found)


def test_what_was_asked_before_other_marks_were_chosen_is_not_shown(tmp_path: Path) -> None:
    before = """
      const elements = { model: { value: "m" }, marks: { value: "copied" }, "no-index": { hidden: true } };
      const [$, explain, asked] = [(id) => elements[id], String, () => ({})];
      const told = [];
      const tell = (word) => told.push(word);
    """
    code = """
      globalThis.setTimeout = (action) => action();
      globalThis.clearTimeout = () => {};
      const answers = [];
      const copies = ({ signal }) => new Promise((resolve, reject) => {
        answers.push(() => resolve(null));
        signal.addEventListener("abort", () => reject(signal.reason));
      });
      const scores = new Scores(new Story(), { copies }, () => told.push("found"));
      const found = [];
      for (const marks of ["copied", "origin"]) {
        scores.ask();
        $("marks").value = marks;
        if (marks !== "copied") scores.ask();
        answers.at(-1)();
        await new Promise((done) => setImmediate(done));
        found.push($("no-index").hidden);
      }
      return [...found, told];
    """
    found = in_page(code, None, tmp_path, "story.js", "scores.js", before=before)
    assert found == [False, True, ["found"]]


def test_the_page_says_that_a_chosen_label_is_gone(tmp_path: Path) -> None:
    """As it does for a model; a label that is there stays chosen."""
    before = """
      const elements = {};
      const named = () => ({
        value: "", style: {}, dataset: {}, classList: { toggle() {} }, children: [],
        get firstChild() { return this.children[0]; }, replaceChildren(...children) { this.children = children; },
      });
      const $ = (id) => (elements[id] ??= named());
      const element = (tag, properties) => Object.assign(named(), properties);
      const [say, spoken, readFrom, writeTo] = [(word) => word, () => "en", () => null, () => {}];
      const told = [];
      const tell = (word) => told.push(word);
      const document = { documentElement: { style: { setProperty() {}, removeProperty() {} } } };
    """
    code = """
      const models = (...labels) => [{ name: "m", labels }];
      const found = [];
      for (const then of [models("poe", "tang"), models("tang"), [{ name: "n", labels: [] }]]) {
        showModels(models("poe"));
        $("model").value = "m";
        $("label").value = "poe";
        chooseModel();
        showModels(then);
        found.push([told.splice(0), $("label").value]);
      }
      return found;
    """
    found = in_page(code, None, tmp_path, "settings.js", before=before)
    assert found == [[[], "poe"], [["otherLabel"], ""], [["otherModel"], ""]]


def test_functions_that_pages_share_are_alike() -> None:
    """The exported page is a file of its own, so it cannot import from the server's page."""
    exported = {name: asset("textgen.export", f"onefile/{name}.js") for name in ("page", "story")}
    for name in ("$", "isOff", "visible", "element", "copy", "copySelected"):
        assert function(name, FILES["dom.js"]) == function(name, exported["page"])
    assert function("quoted", FILES["command.js"]) == function("quoted", exported["story"])
    pages = [FILES["editor.js"], exported["page"], asset("textgen.insight", "page/elements.js")]
    assert len({function("isComposing", code) for code in pages}) == 1


def test_keys_of_an_input_method_are_left_to_it(tmp_path: Path) -> None:
    """Safari tells of the key that ends a composition after it, with the code 229."""
    given = [{"isComposing": True}, {"keyCode": 229}, {"isComposing": False, "keyCode": 13}, {"isComposing": False}]
    before = function("isComposing", FILES["editor.js"])
    assert in_node("return given.map(isComposing);", given, tmp_path, before) == [True, True, False, False]
    others = {
        "onefile": asset("textgen.export", "onefile/page.js"),
        "insight": page_script(),
    }
    asked = {name: len(re.findall(r"\bevent\.isComposing|keyCode", code)) for name, code in (FILES | others).items()}
    assert {name: number for name, number in asked.items() if number} == {"editor.js": 2, "onefile": 2, "insight": 2}


def test_the_page_knows_whether_the_server_is_exact(tmp_path: Path) -> None:
    code = """
      const found = [];
      for (const data of given) {
        globalThis.fetch = async () => Response.json({ data });
        const engine = new HttpEngine();
        found.push([await engine.models(), engine.isExact]);
      }
      return found;
    """
    given: list[Any] = [
        [{"id": "a", "exact": True, "labels": []}], [{"id": "a", "exact": False, "labels": ["poe"]}], []
    ]  # fmt: skip
    expected = [[[{"name": "a", "labels": []}], True], [[{"name": "a", "labels": ["poe"]}], False], [[], False]]
    assert in_engine(code, given, tmp_path) == expected


def test_texts_and_scores_have_the_label_but_not_a_gap_that_is_filled(tmp_path: Path) -> None:
    code = """
      const found = [];
      globalThis.fetch = async (path, { body }) => {
        found.push(JSON.parse(body).label ?? null);
        throw new Error("far enough");
      };
      const engine = new HttpEngine();
      for (const each of given) await engine.write(each).catch(() => {});
      for (const { settings: { label } } of given) await engine.score({ model: "a", text: "b", label }).catch(() => {});
      return found;
    """
    sent = {"model": "a", "n": 1, "sent": {"prompt": "a", "suffix": ""}, "settings": {"label": "poe"}}
    given = [sent, sent | {"sent": {"prompt": "a", "suffix": "b"}}, sent | {"settings": {}}]
    assert in_engine(code, given, tmp_path) == ["poe", None, None, "poe", "poe", None]


def test_a_character_of_several_tokens_is_as_likely_as_all_of_them(tmp_path: Path) -> None:
    """What could have come in its place is what could have come in that of the first."""
    code = """
      const logprobsOf = (tokens) => ({
        tokens: tokens.map(([text]) => text), text_offset: tokens.map(([, at]) => at),
        token_logprobs: tokens.map(([, , logprob]) => logprob),
        top_logprobs: tokens.map(([text, , logprob]) => logprob === null ? null : { [`${text}?`]: -1 }),
      });
      const [tokens, pieces] = given;
      const shown = ({ start, end, token }) => [start, end, token && [token.text, token.logprob, token.top[0].text]];
      globalThis.fetch = async () => Response.json({ choices: [{ logprobs: logprobsOf(tokens) }] });
      const scores = await new HttpEngine().score({ model: "m", text: "月 b𝄞月" });
      const events = pieces.map(([text, ...token]) => ({ choices: [{ index: 0, text, logprobs: logprobsOf([token]) }] }));
      const stream = [...events.map((event) => JSON.stringify(event)), "[DONE]"].map((data) => `data: ${data}\\n\\n`);
      globalThis.fetch = async () => new Response(stream.join(""));
      const spans = [];
      const onSpan = (_, { text, token }) => spans.push([text, token.text, token.logprob, token.top[0].text]);
      await new HttpEngine().write({ model: "m", sent: { prompt: "", suffix: "" }, n: 1, settings: {}, onSpan });
      return [scores.map(shown), spans];
    """  # noqa: E501 a line of JavaScript
    tokens = [
        ("E6", 0, None), ("9C", 0, -2), ("88", 0, -1), (" b", 1, -3),
        ("F0", 3, -8), ("9D", 3, -4), ("84", 3, -2), ("9E", 3, -1), ("E6", 4, -4), ("9C88", 4, -0.5),
    ]  # fmt: skip
    pieces = [("", "E6", 0, -8), ("", "9C", 0, -4), ("月", "88", 0, -2), ("b", "b", 1, -1)]
    scores = [[0, 1, None], [1, 3, [" b", -3, " b?"]], [3, 5, ["F0", -15, "F0?"]], [5, 6, ["E6", -4.5, "E6?"]]]
    spans = [["月", "E6", -14, "E6?"], ["b", "b", -1, "b?"]]
    assert in_engine(code, [tokens, pieces], tmp_path) == [scores, spans]


def test_an_exact_server_fills_gaps_and_clamps_cells_in_float32(tmp_path: Path) -> None:
    code = """
      const found = [];
      globalThis.fetch = async (path, { body }) => {
        found.push(JSON.parse(body).exact ?? null);
        throw new Error("far enough");
      };
      const engine = new HttpEngine();
      engine.isExact = true;
      for (const each of given) await engine.write(each).catch(() => {});
      for (const { settings: { clamp } } of given) await engine.score({ model: "a", text: "b", clamp }).catch(() => {});
      return found;
    """
    sent = {"model": "a", "n": 1, "sent": {"prompt": "a", "suffix": ""}, "settings": {}}
    given = [sent, sent | {"sent": {"prompt": "a", "suffix": "b"}}, sent | {"settings": {"clamp": ["L0/3=5"]}}]
    assert in_engine(code, given, tmp_path) == [None, False, False, None, None, False]


def test_copies_are_told_in_the_units_of_the_page(tmp_path: Path) -> None:
    code = """
      const found = [];
      for (const copied of given) {
        globalThis.fetch = async (path, { body }) => {
          found.push(body);
          return Response.json({ choices: [{ copied }] });
        };
        found.push(await new HttpEngine().copies({ model: "a", text: "🙂🙂bc" }));
      }
      return found;
    """
    body, some, _, none = in_engine(code, [[[1, 3], [3, 4]], None], tmp_path)
    expected = {"model": "a", "prompt": "🙂🙂bc", "echo": True, "novelty": True, "max_tokens": 0}
    assert json.loads(body) == expected
    assert (some, none) == ([{"start": 2, "end": 5}, {"start": 5, "end": 6}], None)


def test_a_key_that_no_header_can_hold_is_told_as_a_wrong_one(tmp_path: Path) -> None:
    code = """
      globalThis.fetch = async (path, { headers }) => Response.json({ data: [{ id: new Headers(headers).get("authorization") }] });
      const found = [];
      for (const key of given) {
        const engine = Object.assign(new HttpEngine(), { key });
        const names = engine.models().then((models) => models.map(({ name }) => name));
        found.push(await names.catch((error) => [error.status, error.message === "badKey"]));
      }
      return found;
    """  # noqa: E501 a line of JavaScript
    good, bad = ["abc", "a b~!"], ["ａｂｃ", "密钥", "ab\u00a0", "é", "a\tb"]
    found = in_engine(code, ["", *good, *bad], tmp_path)
    assert found == [[None], *([f"Bearer {key}"] for key in good), *[[401, True]] * len(bad)]


def test_an_error_without_words_is_told_by_its_number(tmp_path: Path) -> None:
    """As that of a proxy is, whose page is no JSON and, over HTTP/2, has no words in its status line."""
    code = """
      const told = [];
      for (const [status, statusText, body] of given) {
        globalThis.fetch = async () => new Response(body, { status, statusText });
        told.push(await new HttpEngine().models().catch((error) => [error.status, error.message]));
      }
      return told;
    """
    answers = [
        [502, "", "<html>"], [502, "Bad Gateway", "<html>"], [401, "", '{"error": {"message": "No key."}}'],
        [500, "", '{"error": {}}'],
    ]  # fmt: skip
    expected = [[502, "HTTP 502"], [502, "Bad Gateway"], [401, "No key."], [500, "HTTP 500"]]
    assert in_engine(code, answers, tmp_path) == expected


def in_tabs(code: str, folder: Path, given: Any = None) -> Any:
    """Runs a script that may open pages by `tab()`."""
    shelf = re.sub("^export ", "", FILES["shelf.js"], flags=re.MULTILINE)
    tabs = "function tab() {\n" + shelf + "\nreturn { accept, aside, keep, kept, newer, setAside };\n}\n"
    return in_node(code, given, folder, before=BROWSER + tabs)


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


def test_what_cannot_be_read_is_set_aside_before_anything_is_kept_in_its_place(tmp_path: Path) -> None:
    code = """
      const found = [];
      for (const kept of given) {
        records.set("current", kept);
        const one = tab();
        const { revision, story } = await one.kept();
        found.push(story === undefined, await refusal(one.keep("mine")));
        await one.setAside(revision);
        found.push((await tab().kept()).story, await refusal(one.keep("mine")), (await tab().kept()).story);
      }
      return [found, await tab().aside()];
    """
    kept = [{"revision": "r", "story": "{"}, {"revision": "s", "story": '["no story"'}, {"revision": "t", "story": {}}]
    found, aside = in_tabs(code, tmp_path, kept)
    assert found == [True, "Stale", None, None, "mine"] * 3
    assert aside == ["{", '["no story"', "{}"]


def test_what_another_tab_has_kept_meanwhile_is_not_set_aside(tmp_path: Path) -> None:
    code = """
      records.set("current", { revision: "r", story: "{" });
      const [one, other] = [tab(), tab()];
      const { revision } = await one.kept();
      await other.setAside((await other.kept()).revision);
      await other.keep("theirs");
      return [await refusal(one.setAside(revision)), await one.aside(), (await one.kept()).story];
    """
    assert in_tabs(code, tmp_path) == ["Stale", ["{"], "theirs"]


def test_a_text_that_takes_long_to_save_waits_longer_but_not_for_a_pause(tmp_path: Path) -> None:
    before = """
      let clock = 0;
      let timer = null;
      const [saves, listeners] = [[], {}];
      globalThis.performance = { now: () => clock };
      const setTimeout = (action, wait) => (timer = { action, at: clock + wait });
      const clearTimeout = () => { timer = null; };
      const addEventListener = (name, listener) => { listeners[name] = listener; };
      const document = { addEventListener() {} };
      const keep = (story) => { saves.push(clock); clock += story.cost; return Promise.resolve(); };
      const until = (end) => {
        while (timer && timer.at <= end) {
          const { action, at } = timer;
          [clock, timer] = [Math.max(clock, at), null];
          action();
        }
        clock = Math.max(clock, end);
      };
    """
    code = """
      const keeper = new Keeper({ cost: given }, {});
      for (let key = 0; key < 30; key++) {
        until(300 * key);
        keeper.note(false);
      }
      const number = saves.length;
      listeners.pagehide();
      return [saves.slice(0, number), saves.length - number];
    """
    saves, at_the_end = in_page(code, 0, tmp_path, "keeper.js", before=before)
    assert (saves, at_the_end) == ([300 * key + 150 for key in range(29)], 1)
    saves, at_the_end = in_page(code, 50, tmp_path, "keeper.js", before=before)
    assert len(saves) >= 6
    assert all(later - earlier >= 21 * 50 for earlier, later in pairwise(saves))
    assert at_the_end == 1


def test_a_text_that_cannot_be_kept_is_told_in_words_of_the_page(tmp_path: Path) -> None:
    """Browsers give their errors no message, or one in English."""
    before = """
      const [told, listeners] = [[], {}];
      const tell = (word) => told.push(word);
      class Stale extends Error {}
      const addEventListener = (name, listener) => { listeners[name] = listener; };
      const document = { addEventListener() {} };
      let failure = null;
      const keep = async () => { if (failure) throw failure; };
    """
    code = """
      const keeper = new Keeper({}, {});
      const errors = [new DOMException("", "QuotaExceededError"), new Error("It is refused."), new Stale()];
      for (failure of [null, ...errors, null, null]) {
        keeper.note(false);
        listeners.pagehide();
        await new Promise((done) => setTimeout(done));
      }
      return told;
    """
    told = in_page(code, None, tmp_path, "keeper.js", before=before)
    assert told == ["notKept", "notKept", "otherTab", "saved"]
