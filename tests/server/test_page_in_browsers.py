"""The page for writing as people use it, in Chromium, Firefox and WebKit. Run with `make test-browsers`."""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import shutil
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import ENGINES, Browser, Chromium, axe_source, opened
from javascript import words_in_shell
from model_folders import save
from servers import Running, python_with, running

from textgen.dataset.ngram_index import NgramIndex
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_ngrams
from textgen.server.config import ServerConfig
from textgen.storage.manifests import MANIFEST

pytestmark = [pytest.mark.browsers, pytest.mark.timeout(3600)]

SHOWN = "[...document.querySelectorAll('#text .line')].map((line) => line.textContent).join('\\n')"
MARKED = "[...CSS.highlights.values()].flatMap((each) => [...each]).map((each) => each.startOffset)"
IS_IDLE = "document.getElementById('write').dataset.word === 'write'"
CHECK = """(async () => {
  const { story, view } = await import("./page/main.js");
  const { Story } = await import("./page/story.js");
  const wrong = [];
  const must = (is, what) => is || wrong.push(what);
  must(story.text === story.spans.map(({ text }) => text).join(""), "the text is that of its spans");
  must(SHOWN === story.text, "the text is what is shown");
  must(view.text === story.text, "the editor knows the text");
  const copy = Story.fromJSON(JSON.parse(JSON.stringify(story)));
  must(copy.text === story.text, "a text that was saved is the same");
  while (copy.undo());
  must(copy.text === "", "undo leads to the beginning");
  copy.goTo(story.current);
  must(copy.text === story.text, "redo leads back");
  must(document.querySelectorAll("#text > .part > .line").length === story.text.split("\\n").length, "a block a line");
  return wrong;
})()""".replace("SHOWN", SHOWN)
KEPT = """(async () => {
  const { story } = await import("./page/main.js");
  const { kept } = await import("./page/shelf.js");
  return JSON.stringify((await kept()).story) === JSON.stringify(story);
})()"""
SAVED = """await (async () => {
  const { Story } = await import("./page/story.js");
  const { kept } = await import("./page/shelf.js");
  const found = (await kept()).story;
  return found ? Story.fromJSON(found).text.length : 0;
})()"""
# A module of another address is another one, as another tab has it.
OTHER_TAB_KEEPS_THEIRS = """(async () => {
  const { Story } = await import("./page/story.js");
  const other = await import("./page/shelf.js?of-another-tab");
  const story = new Story();
  story.type(0, 0, "theirs");
  other.accept((await other.kept()).revision);
  await other.keep(story);
})()"""
KEEPS = """((story) => new Promise((done, fail) => {
  const request = indexedDB.open("textgen", 1);
  request.onsuccess = () => {
    const transaction = request.result.transaction("stories", "readwrite");
    transaction.objectStore("stories").put({ revision: "another", story }, "current");
    transaction.oncomplete = () => done(request.result.close());
    transaction.onerror = () => fail(transaction.error);
  };
}))"""
FORGET = """new Promise((done) => {
  localStorage.clear();
  const request = indexedDB.deleteDatabase("textgen");
  request.onsuccess = request.onerror = request.onblocked = () => done(true);
})"""
OPENED = """(([name, content]) => {
  const files = new DataTransfer();
  files.items.add(new File([typeof content === "string" ? content : Uint8Array.from(content)], name));
  const input = document.getElementById("load-file");
  input.files = files.files;
  input.dispatchEvent(new Event("change"));
})"""
# The middle of an element, once it can be seen there.
PLACE = """((element) => {
  for (let panel = element.closest("details"); panel; panel = panel.parentElement.closest("details")) panel.open = true;
  const seen = () => {
    const { left, top, width, height } = element.getBoundingClientRect();
    const [x, y] = [Math.round(left + width / 2), Math.round(top + height / 2)];
    return element.contains(document.elementFromPoint(x, y)) ? [x, y] : null;
  };
  return seen() ?? (element.scrollIntoView({ block: "center" }), seen());
})"""
GHOST = "document.querySelector('[data-ghost]')?.dataset.ghost ?? ''"
STATUS = "document.getElementById('status').textContent"
SELECTED = "document.getElementById('model').value"
FOCUSED = "document.activeElement.id"
COMMAND = "['command-title', 'command'].map((id) => document.getElementById(id).textContent)"
CARET = "import('./page/main.js').then(({ view }) => view.caret)"
# What is asked of the server from now on, in `sent`.
SENT = """(() => {
  const ask = window.fetch;
  window.sent = [];
  window.fetch = (path, options) => {
    sent.push(JSON.parse(options.body));
    return ask(path, options);
  };
})()"""
# What is asked of the server waits for `go()`.
HOLD = """(() => {
  const ask = window.fetch;
  window.fetch = async (...given) => {
    await new Promise((go) => { window.go = go; });
    window.fetch = ask;
    return ask(...given);
  };
})()"""
# The model ends these texts.
ANSWER = """((texts) => {
  const ask = window.fetch;
  window.fetch = async () => {
    window.fetch = ask;
    const choices = texts.flatMap((text, index) => [{ index, text }, { index, text: "", finish_reason: "stop" }]);
    return new Response(choices.map((each) => `data: ${JSON.stringify({ choices: [each] })}\\n\\n`).join("") + "data: [DONE]\\n\\n");
  };
})"""  # noqa: E501 a line of JavaScript
# The next text is what `feed` is given, piece by piece, until `end()`.
FEED = """(() => {
  const ask = window.fetch;
  window.fetch = async () => {
    window.fetch = ask;
    return new Response(new ReadableStream({ start(controller) {
      const send = (data) => controller.enqueue(new TextEncoder().encode(`data: ${data}\\n\\n`));
      window.feed = (text) => send(JSON.stringify({ choices: [{ index: 0, text }] }));
      window.end = () => send("[DONE]");
    } }));
  };
})()"""
# How many pixels the end of a character of the text is above the bar; negative if the bar covers it.
ABOVE_THE_BAR = """((at) => {
  const lines = [...document.querySelectorAll("#text .line")];
  const line = lines.find((each) => at < each.textContent.length || (at -= each.textContent.length + 1) < 0);
  const range = document.createRange();
  range.setStart(line.firstChild, at);
  range.setEnd(line.firstChild, at + 1);
  return document.querySelector(".bar").getBoundingClientRect().top - range.getBoundingClientRect().bottom;
})"""
# What the page says in words of its own.
SAID = """(() => {
  const own = "noscript, #text, #model, #command, .offer p, .piece, .ending";
  const texts = document.evaluate("//body//text()", document, null, XPathResult.ORDERED_NODE_SNAPSHOT_TYPE);
  const nodes = Array.from({ length: texts.snapshotLength }, (_, place) => texts.snapshotItem(place));
  const said = nodes.filter(({ parentElement }) => !parentElement.closest(own)).map(({ data }) => data.trim());
  for (const element of document.querySelectorAll("body *")) {
    for (const name of ["aria-label", "title", "placeholder", "data-hint"]) said.push(element.getAttribute(name) ?? "");
  }
  return said;
})()"""
# The middle of a character of the text, or of an empty line.
POINT = """((at) => {
  const lines = [...document.querySelectorAll("#text .line")];
  const line = lines.find((each) => at < (each.textContent.length || 1) || (at -= each.textContent.length + 1) < 0);
  const range = document.createRange();
  range.selectNode(line);
  if (line.textContent) {
    range.setStart(line.firstChild, at);
    range.setEnd(line.firstChild, at + 1);
  }
  const { left, top, height } = range.getBoundingClientRect();
  return [left + 1, top + height / 2];
})"""
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


class Page:
    """The page in a browser."""

    def __init__(self, browser: Browser, server: Running) -> None:
        self.browser = browser
        self.url = f"http://127.0.0.1:{server.port}/"

    def fresh(self) -> None:
        """Opens the page as somebody sees it for the first time."""
        self.open()
        self.browser.evaluate(FORGET)
        self.open()
        self.fill("seed", "4")
        self.fill("max_tokens-number", "12")

    def open(self) -> None:
        self.browser.open(self.url)
        self.browser.until("document.documentElement.dataset.ready === 'yes'")

    @property
    def text(self) -> str:
        return str(self.browser.evaluate(SHOWN))

    def fill(self, name: str, value: str) -> None:
        """Gives a field or a choice a value, as a person who then leaves it."""
        self.browser.evaluate(
            f"(() => {{ const field = document.getElementById({json.dumps(name)}); field.value = {json.dumps(value)};"
            "field.dispatchEvent(new Event('input')); field.dispatchEvent(new Event('change')); })()"
        )

    def press(self, keys: str) -> None:
        self.browser.evaluate("document.getElementById('text').focus()")
        self.browser.press(keys)

    def type(self, text: str) -> None:
        """Types at the end of the text."""
        self.press("Control+End")
        self.browser.type(text)

    def push(self, name: str) -> None:
        """Presses a button with the mouse, which takes the focus from the text."""
        self.click(f"document.getElementById({json.dumps(name)})")

    def click(self, element: str) -> None:
        """Presses the mouse on an element, in a panel that is opened first, once it stays where it is."""
        place, before = self.browser.evaluate(f"{PLACE}({element})"), None
        while place != before:  # the page scrolls while the model writes
            before = place
            self.browser.evaluate("new Promise((done) => setTimeout(done, 50))")
            place = self.browser.evaluate(f"{PLACE}({element})")
        assert place, element
        self.browser.click(*place)

    def write(self) -> None:
        self.press("Control+Enter")
        self.browser.until(IS_IDLE)

    def paste(self, text: str) -> None:
        self.browser.evaluate(
            f"(() => {{ const [data, text] = [new DataTransfer(), {json.dumps(text)}];"
            "data.setData('text/plain', text);"
            "const own = { clipboardData: data, dataType: 'text/plain', data: text };"  # the last two for Firefox
            "const event = new ClipboardEvent('paste', { ...own, bubbles: true, cancelable: true });"
            "document.getElementById('text').dispatchEvent(event); })()"
        )

    def check(self) -> None:
        """Asserts that the text, its history and what is shown agree, and that nothing has gone wrong."""
        assert self.browser.evaluate(CHECK) == []
        self.browser.check_faults()
        assert [
            url for url in self.browser.requests if not url.startswith((self.url, "data:", "blob:", "about:"))
        ] == []


@pytest.fixture(scope="module")
def server(tiny_models: Path) -> Iterator[Running]:
    with running(tiny_models) as there:
        yield there


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with opened(request.param) as browser:
        browser.resize(1200, 800)
        yield browser


@pytest.fixture
def page(engine: Browser, server: Running) -> Iterator[Page]:
    page = Page(engine, server)
    page.fresh()
    yield page
    page.check()


@pytest.fixture
def chromium(page: Page) -> Chromium:
    if not isinstance(page.browser, Chromium):
        pytest.skip("only Chromium can be told to compose, to measure and to prefer colours")
    return page.browser


# === Writing ===


def test_a_word_is_written_chosen_and_undone(page: Page) -> None:
    page.type("The cat")
    page.write()
    first = page.text
    assert first.startswith("The cat")
    assert len(first) > len("The cat")
    page.press("Control+End")
    page.press("ArrowLeft")
    page.browser.until("document.querySelectorAll('.alternative').length >= 8")
    page.press("Alt+ArrowDown")
    page.browser.press("ArrowDown")
    page.browser.press("Enter")
    page.browser.until(f"{SHOWN} !== {json.dumps(first)} && {IS_IDLE}")
    for _ in range(2):  # what was written after the choice, and the choice
        if page.text != first:
            page.press("Control+z")
    assert page.text == first


def test_another_version_is_beside_the_first(page: Page) -> None:
    page.type("The cat")
    page.write()
    before = page.text
    page.fill("seed", "5")
    page.push("again")
    page.browser.until(IS_IDLE)
    assert page.browser.evaluate("document.getElementById('version').textContent") == "2/2"
    other = page.text
    assert other != before
    page.press("Alt+ArrowLeft")
    assert page.text == before
    page.press("Alt+ArrowRight")
    assert page.text == other


def feed(page: Page, text: str) -> None:
    page.browser.until("window.feed !== undefined")
    length = len(page.text)
    page.browser.evaluate(f"feed({json.dumps(text)})")
    page.browser.until(f"{SHOWN}.length === {length + len(text)}")


@pytest.mark.parametrize(("width", "height"), [(1280, 700), (375, 667)])
def test_the_page_follows_what_the_model_writes(page: Page, width: int, height: int) -> None:
    """But nobody who reads something else, wherever the text is that comes."""
    page.browser.resize(width, height)
    page.type("The cat")
    page.browser.evaluate(FEED)
    page.press("Control+Enter")
    for number in range(40):
        feed(page, f"\nverse {number} " + "word " * (number % 30) + "end")
        assert 0 <= page.browser.evaluate(f"{ABOVE_THE_BAR}({len(page.text) - 1})") < height - 60
    place = page.browser.evaluate("(scrollBy(0, -150), scrollY)")
    feed(page, "\none\ntwo")
    assert page.browser.evaluate("scrollY") == place
    page.browser.evaluate("scrollBy(0, 1000)")
    feed(page, "\none\ntwo\nthree")
    assert page.browser.evaluate(f"{ABOVE_THE_BAR}({len(page.text) - 1})") >= 0
    page.browser.evaluate("end()")
    page.browser.until(IS_IDLE)
    at = page.text.index("end\nverse 30")
    page.browser.evaluate(f"import('./page/main.js').then(({{ view }}) => {{ view.caret = {at}; }})")
    for _ in range(2):  # so that there is room for what comes; the bar comes with it
        page.browser.evaluate(f"scrollBy(0, 200 - {ABOVE_THE_BAR}({at}))")
    page.browser.evaluate(f"(delete window.feed, {FEED})")
    place = page.browser.evaluate("scrollY")
    page.press("Control+Enter")
    feed(page, "more\n")
    assert page.browser.evaluate("scrollY") == place
    feed(page, "and\nmore\nof\nthe\nsame\n\n\n\nlast")
    assert 0 <= page.browser.evaluate(f"{ABOVE_THE_BAR}({page.text.index('last')})") < height / 2
    page.browser.evaluate("end()")
    page.browser.until(IS_IDLE)
    page.press("Control+End")
    page.browser.evaluate("scrollTo(0, 0)")
    page.browser.evaluate(f"(delete window.feed, {FEED})")
    page.browser.press("Control+Enter")
    feed(page, "end")  # shown, since it was asked for
    assert page.browser.evaluate(f"{ABOVE_THE_BAR}({len(page.text) - 1})") >= 0
    page.browser.evaluate("end()")
    page.browser.until(IS_IDLE)
    page.browser.resize(1200, 800)


def test_one_of_several_texts_is_taken(page: Page) -> None:
    page.type("The cat")
    page.fill("number", "3")
    page.write()
    page.click("document.querySelectorAll('.offer button')[1]")
    taken = page.browser.evaluate("document.querySelectorAll('.offer p')[1].textContent")
    assert taken
    assert page.text == f"The cat{taken}"
    page.browser.press("x")  # goes on after it
    assert page.text == f"The cat{taken}x"


def test_one_of_several_texts_is_taken_by_keys(page: Page) -> None:
    page.type("The cat")
    page.fill("number", "2")
    page.write()
    taken = page.browser.evaluate("document.querySelector('.offer p').textContent")
    assert taken
    page.press("Tab")
    assert page.browser.evaluate("document.activeElement === document.querySelector('.offer button')")
    page.browser.press("Enter")
    page.browser.press("x")
    assert page.text == f"The cat{taken}x"


def test_the_model_goes_on_where_it_has_ended_though_a_button_has_the_focus(page: Page) -> None:
    page.type("The cat")
    texts = [page.text]
    for _ in range(3):
        page.push("write")
        page.browser.until(IS_IDLE)
        texts.append(page.text)
    for before, after in pairwise(texts):
        assert after.startswith(before)
    assert len(texts[-1]) > len(texts[1]) > len(texts[0])
    page.press("x")
    assert page.text == f"{texts[-1]}x"
    for key in "yz":
        page.push("undo")
        page.press(key)
        assert page.text == f"{texts[-1]}{key}"


def test_what_is_selected_stays_selected_when_the_focus_comes_back(page: Page) -> None:
    page.type("one two")
    for _ in range(3):
        page.browser.press("Shift+ArrowLeft")
    page.browser.evaluate("(document.getElementById('copy').focus(), document.getElementById('text').focus())")
    page.browser.press("x")
    assert page.text == "one x"


def test_what_is_typed_before_another_version_begins_is_typed_into_what_is_shown(page: Page) -> None:
    for number in ("1", "2"):
        page.fill("number", "1")
        page.type("The cat")
        page.write()
        assert len(page.text) > len("The cat")
        page.fill("number", number)
        page.browser.evaluate(HOLD)
        page.push("again")
        assert page.text == "The cat"
        page.press("s")
        page.browser.evaluate("go()")
        page.browser.until(IS_IDLE)
        assert page.text == "The cats"
        page.check()
        page.push("empty")


@pytest.mark.parametrize("number", ["1", "3"])
@pytest.mark.parametrize("answer", ["Promise.reject(new TypeError('offline'))", "new Response('{}', { status: 429 })"])
def test_where_no_other_version_comes_the_text_stays(page: Page, number: str, answer: str) -> None:
    page.type("The cat")
    page.write()
    text = page.text
    assert len(text) > len("The cat")
    page.press("ArrowLeft")
    caret = page.browser.evaluate(CARET)
    page.fill("number", number)
    page.browser.evaluate(f"(() => {{ window.ask = window.fetch; window.fetch = async () => {answer}; }})()")
    page.push("again")
    page.browser.until(IS_IDLE)
    assert page.text == text
    assert page.browser.evaluate(CARET) == caret
    assert page.browser.evaluate("document.getElementById('version').textContent") == "1/1"
    page.press("Control+z")
    assert page.text == "The cat"
    page.fill("number", "1")
    page.write()
    assert page.text == "The cat"
    page.press("Control+y")
    assert page.text == text
    page.browser.evaluate("(() => { window.fetch = window.ask; })()")
    page.fill("seed", "5")
    page.push("again")
    page.browser.until(IS_IDLE)
    assert page.browser.evaluate("document.getElementById('version').textContent") == "2/2"


def test_a_suggestion_does_not_outlast_its_text(page: Page) -> None:
    page.push("ghost")
    page.type("The cat")
    page.browser.until(f"{GHOST} !== ''")
    page.press("Control+z")
    assert page.browser.evaluate(GHOST) == ""
    page.press("Tab")
    assert page.text == ""
    page.push("redo")
    assert page.text == "The cat"
    page.fill("number", "2")
    page.write()
    page.type("s")
    page.browser.until(f"{GHOST} !== ''")
    page.click("document.querySelector('.offer button')")
    assert page.browser.evaluate(GHOST) == ""


def test_a_suggestion_is_taken_whole_and_word_by_word(page: Page) -> None:
    page.push("ghost")
    page.type("The cat")
    page.browser.until(f"{GHOST} !== ''")
    ghost = str(page.browser.evaluate(GHOST))
    page.press("Control+ArrowRight")
    assert page.text.startswith("The cat")
    assert f"The cat{ghost}".startswith(page.text)
    if page.text != f"The cat{ghost}":
        page.press("Tab")
    assert page.text == f"The cat{ghost}"


def test_a_suggestion_is_taken_only_at_the_end_of_the_text(page: Page) -> None:
    page.push("ghost")
    page.type("The cat")
    page.browser.until(f"{GHOST} !== ''")
    for keys in ("Home", "Control+ArrowRight"):
        page.press(keys)
    assert page.text == "The cat"
    page.browser.until(f"!({GHOST})")
    page.press("Home")
    page.press("Tab")
    assert page.text == "The cat"


def test_keys_that_change_the_version_are_left_alone_where_there_is_no_other(page: Page) -> None:
    page.browser.evaluate(
        "(() => { window.taken = []; addEventListener('keydown', (event) => "
        "event.key === 'ArrowLeft' && taken.push(event.defaultPrevented)); })()"
    )
    page.type("one two")
    page.press("Alt+ArrowLeft")
    page.write()
    page.fill("seed", "5")
    page.push("again")
    page.browser.until(IS_IDLE)
    second = page.text
    page.press("Alt+ArrowLeft")
    assert page.browser.evaluate("taken") == [False, True]
    assert page.text != second


def test_on_a_mac_option_moves_by_a_word_and_control_and_option_change_the_version(page: Page) -> None:
    page.browser.evaluate("Object.defineProperty(navigator, 'platform', { get: () => 'MacIntel' }) && null")
    for _ in range(2):
        page.push("language")
    assert "Option" in page.browser.evaluate("document.querySelector('[data-word=keysList]').textContent")
    page.type("one two")
    page.write()
    page.fill("seed", "5")
    page.push("again")
    page.browser.until(IS_IDLE)
    second = page.text
    for keys in ("Alt+ArrowLeft", "Alt+ArrowRight"):
        page.press(keys)
        assert page.text == second
    page.press("Control+Alt+ArrowLeft")
    assert page.text != second
    page.press("Control+Alt+ArrowRight")
    assert page.text == second


def choose_another(page: Page) -> None:
    """Presses the mouse on the first alternative that can be taken."""
    before = page.text
    page.click("document.querySelector('.alternative[aria-disabled=false]')")
    page.browser.until(f"{SHOWN} !== {json.dumps(before)} && {IS_IDLE}")


def test_an_alternative_replaces_its_token_though_the_model_has_written_before_it(page: Page) -> None:
    page.type("The cat")
    page.write()
    length = page.browser.evaluate("import('./page/main.js').then(({ story }) => story.spans.at(-1).text.length)")
    for _ in range(length):
        page.browser.press("ArrowLeft")
    page.browser.until("document.querySelectorAll('.alternative').length >= 8")
    page.push("write")  # at the cursor, which is before the token that is shown
    page.browser.until(IS_IDLE)
    before = page.text
    choose_another(page)
    assert page.text.startswith(before[:-length])


def test_an_alternative_to_a_word_of_the_user_leaves_what_follows(page: Page) -> None:
    page.fill("marks", "surprisal")
    page.type("The cat sat")
    page.browser.until(f"{MARKED}.length > 3")
    for _ in range(5):
        page.browser.press("ArrowLeft")
    page.browser.until("document.getElementById('token').textContent.startsWith('t ')")  # not one on the way there
    choose_another(page)
    assert page.text.startswith("The ca")
    assert page.text.endswith(" sat")
    assert page.text != "The cat sat"


def test_a_text_that_did_not_come_is_not_offered(page: Page) -> None:
    page.type("The cat")
    page.fill("number", "2")
    page.fill("clamp", "L99/3=5")  # which the server refuses
    page.write()
    assert page.browser.evaluate("document.querySelectorAll('.offer').length") == 0
    assert page.browser.evaluate("document.getElementById('offers').hidden")
    assert page.text == "The cat"
    page.browser.faults = [fault for fault in page.browser.faults if "400" not in fault]  # the browser tells it too


def test_of_several_texts_one_that_ends_at_once_is_no_version(page: Page) -> None:
    page.type("The wolf")
    page.fill("number", "3")
    page.browser.evaluate(f"{ANSWER}([' ran', '', ' sat'])")
    page.write()
    assert page.browser.evaluate(STATUS) == "The text has ended here."
    shown = "[...document.querySelectorAll('.offer p')].map((each) => each.textContent)"
    assert page.browser.evaluate(shown) == [" ran", " sat"]
    page.click("document.querySelectorAll('.offer button')[1]")
    assert page.text == "The wolf sat"
    assert page.browser.evaluate("document.getElementById('version').textContent") == "2/2"
    page.press("Alt+ArrowLeft")
    assert page.text == "The wolf ran"


def test_a_gap_that_is_filled_is_no_end_of_the_text(page: Page) -> None:
    page.type("The wolf")
    page.push("fill")
    page.press("Home")
    page.browser.evaluate(f"{ANSWER}(['Look! '])")
    page.write()
    assert (page.text, page.browser.evaluate(STATUS)) == ("Look! The wolf", "Done")


def test_surprisal_is_shown_for_words_of_both(page: Page) -> None:
    page.type("The cat")
    page.write()
    assert 1 not in page.browser.evaluate(MARKED)
    page.fill("marks", "surprisal")
    page.browser.until(f"{MARKED}.includes(1)")  # the first token of a text has no probability


def test_cells_are_held(page: Page, server: Running) -> None:
    page.type("The cat")
    page.fill("clamp", "L0/3=5, L0/2.o=1")
    assert "--clamp L0/3=5 --clamp L0/2.o=1" in page.browser.evaluate("document.getElementById('command').textContent")
    page.write()
    how: dict[str, Any] = {"seed": 4, "max_tokens": 12, "logprobs": 8, "clamp": ["L0/3=5", "L0/2.o=1"]}
    assert page.text == "The cat" + server.complete(prompt="The cat", **how)["choices"][0]["text"]
    page.press("Control+z")
    page.fill("clamp", "L99/3=5")
    page.write()
    assert "L99/3" in page.browser.evaluate("document.getElementById('status').textContent")
    page.browser.faults = [fault for fault in page.browser.faults if "400" not in fault]  # the browser tells it too


def test_what_was_found_with_other_cells_is_forgotten(page: Page) -> None:
    page.fill("marks", "surprisal")
    page.push("ghost")
    page.type("The wolf and the lamb")
    page.browser.until(f"{MARKED}.length > 0 && ({GHOST})")
    page.fill("clamp", "L1/0=1")
    assert page.browser.evaluate(f"[{MARKED}.length, {GHOST}]") == [0, ""]
    page.browser.until(f"{MARKED}.length > 0 && ({GHOST})")
    page.push("ghost")
    assert page.browser.evaluate(GHOST) == ""


def test_the_model_that_was_chosen_is_there_again_as_long_as_the_server_has_it(
    engine: Browser, tiny_models: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        shutil.copytree(tiny_models / "tiny", tmp_path / name)
    with running(tmp_path) as there:
        page = Page(engine, there)
        page.fresh()
        first, second = engine.evaluate("[...document.getElementById('model').options].map(({ value }) => value)")
        shown = "['model', 'clamp'].map((id) => document.getElementById(id).value)"
        page.fill("model", second)
        page.fill("clamp", "L1/0=1")
        for _ in range(2):
            page.open()
            assert engine.evaluate(shown) == [second, "L1/0=1"]
        page.fill("model", first)
        assert engine.evaluate(shown) == [first, ""]  # cells are those of a model
        page.fill("model", second)
        shutil.rmtree(tmp_path / second)
        page.open()
        assert engine.evaluate(shown) == [first, ""]
        assert "no longer there" in engine.evaluate(STATUS)
        engine.check_faults()
        engine.requests.clear()


def test_the_models_are_found_anew_where_the_server_has_that_one_no_longer(page: Page) -> None:
    page.type("The cat")
    page.browser.evaluate("""(() => {
      const ask = window.fetch;
      window.fetch = async (path) => {
        const error = { message: "There is no model 'tiny'." };
        if (path !== "v1/models") return Response.json({ error }, { status: 404 });
        window.fetch = ask;
        return Response.json({ data: [{ id: "other", labels: [] }] });
      };
    })()""")
    page.press("Control+Enter")
    page.browser.until(f"{SELECTED} === 'other'")
    page.browser.until(f"{STATUS} === \"There is no model 'tiny'.\"")
    assert page.text == "The cat"


def test_a_model_that_nobody_chose_gives_way_to_a_newer_one(engine: Browser, tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "tiny", tmp_path / "one")
    with running(tmp_path) as there:
        page = Page(engine, there)
        page.fresh()
        assert engine.evaluate(SELECTED) == "one"
        newer = shutil.copytree(tiny_models / "tiny", tmp_path / "two")
        os.utime(newer / MANIFEST, (later := time.time() + 60, later))
        page.open()
        assert [engine.evaluate(what) for what in (SELECTED, STATUS)] == ["two", ""]
        engine.check_faults()
        engine.requests.clear()


def test_the_command_that_is_shown_writes_the_text_of_a_seed_that_was_drawn_again(
    engine: Browser, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was stopped; in exact arithmetic, in which a seed gives the same text however it is computed."""
    monkeypatch.setattr(secrets, "randbits", lambda bits: 1234567)
    with running(tiny_models, ServerConfig(port=0, exact=True)) as there:
        page = Page(engine, there)
        page.fresh()
        page.fill("seed", "")
        page.type("The cat")
        for tokens in ("12", "500"):
            before = page.text
            page.fill("max_tokens-number", tokens)
            title, command = engine.evaluate(COMMAND)
            assert (title, words_in_shell(command)) == ("Equivalent command", words_of(before, tokens))
            page.press("Control+Enter")
            engine.until(f"{SHOWN} !== {json.dumps(before)}")
            if tokens == "500":
                page.press("Escape")
            engine.until(IS_IDLE)
            title, command = engine.evaluate(COMMAND)
            drawn = engine.evaluate("document.getElementById('seed').placeholder")
            assert (title, drawn) == ("Command that writes this text again", "random: 1234567")
            assert words_in_shell(command) == words_of(before, tokens, "--seed", "1234567")
            same = there.complete(prompt=before, max_tokens=int(tokens), seed=1234567)["choices"][0]["text"]
            assert (before + same).startswith(page.text)
            assert tokens == "500" or before + same == page.text
        page.press("ArrowLeft")
        assert engine.evaluate(COMMAND)[0] == "Equivalent command"
        assert engine.evaluate(CHECK) == []
        engine.check_faults()
        engine.requests.clear()


def words_of(prompt: str, tokens: str, *seed: str) -> list[str]:
    """The words of the command that the page shows for the model `tiny` of an exact server."""
    length = [] if tokens == "500" else ["--max-tokens", tokens]
    return ["textgen", "sample", "tiny", "--prompt", prompt, *length, *seed, "--exact"]


def test_a_model_with_labels_offers_them_and_writes_with_the_one_that_was_chosen(
    engine: Browser, tiny_models: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_models / "tiny", tmp_path / "tiny")
    save(tmp_path / "labelled", load_model("tiny", tiny_models).tokenizer.with_labels(["Jane Austen", "李白"]))
    with running(tmp_path) as there:
        page = Page(engine, there)
        page.fresh()
        page.fill("model", "labelled")
        shown = "[document.getElementById('labels').hidden, ...document.getElementById('label').options]"
        shown += ".map((each) => each.text ?? each)"
        assert engine.evaluate(shown) == [False, "none", "Jane Austen", "李白"]
        page.fill("label", "Jane Austen")
        page.type("The cat")
        assert "--label 'Jane Austen'" in engine.evaluate(COMMAND)[1]
        engine.evaluate(SENT)
        page.write()
        page.fill("marks", "surprisal")
        engine.until("window.sent.length === 2")
        page.fill("label", "")
        engine.until("window.sent.length === 3")
        assert [body.get("label") for body in engine.evaluate("window.sent")] == ["Jane Austen", "Jane Austen", None]
        page.fill("label", "李白")
        page.push("language")
        page.open()
        assert engine.evaluate("document.getElementById('label').value") == "李白"
        assert engine.evaluate(shown)[1] == "无"
        page.fill("model", "tiny")
        assert engine.evaluate(shown) == [True, "无"]
        page.fill("model", "labelled")  # its label was cleared
        assert engine.evaluate("document.getElementById('label').value") == ""
        assert engine.evaluate(CHECK) == []
        engine.check_faults()
        engine.requests.clear()


def test_what_is_copied_from_the_training_text_is_marked(engine: Browser, tiny_models: Path, tmp_path: Path) -> None:
    """A line says that a model has no index of that text."""
    for name in ("one", "two"):
        shutil.copytree(tiny_models / "tiny", tmp_path / name)
    tokenizer = load_model("tiny", tiny_models).tokenizer
    ids = np.array(tokenizer.encode("The cat sat on the mat.\n"), np.int32)
    save_ngrams(tmp_path / "one", NgramIndex.build([ids], 6, 1000, tokenizer.eos_id))
    hidden = "document.getElementById('no-index').hidden"
    ranges = "[...CSS.highlights.get('copied')].map((each) => [each.startOffset, each.endOffset])"
    with running(tmp_path) as there:
        page = Page(engine, there)
        page.fresh()
        page.fill("model", "one")
        page.type("So the cat sat on a bed.")
        page.fill("marks", "copied")
        page.browser.until(f"({ranges}).length > 0")
        assert page.browser.evaluate(ranges) == [[4, 18]]
        assert page.browser.evaluate(hidden)
        page.fill("model", "two")
        page.browser.until(f"!{hidden}")
        assert page.browser.evaluate(ranges) == []
        page.fill("marks", "origin")
        assert page.browser.evaluate(hidden)
        assert engine.evaluate(CHECK) == []
        engine.check_faults()
        engine.requests.clear()


def test_a_number_is_one_that_the_server_takes(page: Page) -> None:
    page.fill("max_tokens-number", "7.4")
    for typed in ("2.6", ""):
        page.fill("max_tokens-number", typed)
        assert page.browser.evaluate("document.getElementById('max_tokens-number').value") == "3"
    assert page.browser.evaluate("document.getElementById('seed').maxLength") == 15
    for typed, is_wrong in (("12a", "true"), ("12", "false"), ("", "false")):
        page.fill("seed", typed)
        assert page.browser.evaluate("document.getElementById('seed').getAttribute('aria-invalid')") == is_wrong
        assert ("seed" in page.browser.evaluate(STATUS)) == (is_wrong == "true")


def test_the_version_is_told_only_when_it_changes(page: Page) -> None:
    page.browser.evaluate(
        "(() => { window.told = 0; new MutationObserver((all) => { told += all.length; })"
        ".observe(document.getElementById('version'), { childList: true, characterData: true, subtree: true }); })()"
    )
    page.type("The cat")
    page.write()
    assert page.browser.evaluate("told") == 0
    page.fill("seed", "5")
    page.push("again")
    page.browser.until(IS_IDLE)
    assert page.browser.evaluate("told") > 0


def test_a_line_begins_on_the_side_where_it_is_read_from(page: Page) -> None:
    page.type("ab\nשלום עולם.")
    sides = page.browser.evaluate("""[...document.querySelectorAll("#text .line")].map((line) => {
      const range = document.createRange();
      const { left, right } = line.getBoundingClientRect();
      range.setStart(line.firstChild, 0);
      range.setEnd(line.firstChild, 1);
      const first = range.getBoundingClientRect();
      return first.left - left < 2 ? "left" : right - first.right < 2 ? "right" : "within";
    })""")
    assert sides == ["left", "right"]


def test_lines_of_a_file_may_end_in_a_return_alone(page: Page) -> None:
    page.browser.evaluate(f"{OPENED}(['old.txt', 'one\\rtwo\\r\\nthree'])")
    page.browser.until(f"{SHOWN} === 'one\\ntwo\\nthree'")
    page.type("!")
    story = page.browser.evaluate("import('./page/main.js').then(({ story }) => JSON.stringify(story))")
    page.push("empty")
    page.browser.evaluate(f"{OPENED}({json.dumps(['STORY.JSON', story])})")
    page.browser.until(f"{SHOWN} === 'one\\ntwo\\nthree!'")


def test_a_text_is_there_again_after_the_page_was_closed_while_writing(page: Page) -> None:
    page.fill("max_tokens-number", "400")
    page.type("The cat")
    page.press("Control+Enter")
    page.browser.until(f"{SHOWN}.length > 50")
    page.browser.until(f"{SAVED} > 50")
    text = page.text
    page.open()
    assert page.text[:50] == text[:50]
    assert len(page.text) > 50


def test_undo_takes_another_text_back(page: Page) -> None:
    page.type("The cat")
    page.write()
    text = page.text
    page.push("empty")
    assert page.text == ""
    page.press("Control+z")
    assert page.text == text
    story = page.browser.evaluate("import('./page/main.js').then(({ story }) => JSON.stringify(story))")
    for name, content, shown in [("a.txt", "one\r\ntwo", "one\ntwo"), ("a.json", story, text), ("a.json", story, text)]:
        page.browser.evaluate(f"{OPENED}({json.dumps([name, content])})")
        page.browser.until(f"{SHOWN} === {json.dumps(shown)} && document.getElementById('load-file').value === ''")
        page.check()
    for expected in (text, "one\ntwo", text):
        page.press("Control+z")
        assert page.text == expected
    page.browser.evaluate(f"{OPENED}({json.dumps(['a.json', '{}'])})")
    page.browser.until("document.getElementById('status').textContent.startsWith('This .json file was not saved')")
    assert page.text == text


def test_another_text_may_come_while_the_model_writes(page: Page) -> None:
    page.fill("max_tokens-number", "400")
    page.type("The cat")
    page.press("Control+Enter")
    page.browser.until(f"{SHOWN}.length > 20")
    page.push("empty")
    page.browser.until(IS_IDLE)
    assert page.text == ""
    page.press("Control+z")
    assert len(page.text) > 20


def test_a_text_that_cannot_be_read_is_set_aside(page: Page) -> None:
    page.type("mine")
    page.browser.until(KEPT)
    assert page.browser.evaluate("document.getElementById('save-aside').hidden")
    kept = '{"format": "textgen story 2"}'
    page.browser.evaluate(f"{KEEPS}({json.dumps(kept)})")
    page.open()
    assert page.browser.evaluate(STATUS).startswith("The text stored in this browser cannot be read")
    page.type("new")
    page.browser.until(KEPT)
    page.open()
    assert page.text == "new"
    assert page.browser.evaluate("import('./page/shelf.js').then(({ aside }) => aside())") == [kept]
    assert not page.browser.evaluate("document.getElementById('save-aside').hidden")


def test_a_file_in_an_encoding_of_chinese_is_opened_and_one_that_cannot_be_read_refused(page: Page) -> None:
    text = "床前明月光，疑是地上霜。"
    for encoding in ("gbk", "big5", "utf-16"):
        page.browser.evaluate(f"{OPENED}({json.dumps(['a.txt', list(text.encode(encoding))])})")
        page.browser.until(f"{SHOWN} === {json.dumps(text)}")
        page.push("empty")
    page.browser.evaluate(f"{OPENED}({json.dumps(['a.txt', list('für'.encode('latin-1'))])})")
    page.browser.until(f"{STATUS}.startsWith('This file is not text in UTF-8')")
    assert page.text == ""


def test_a_tab_that_another_one_has_overtaken_keeps_nothing(page: Page) -> None:
    page.type("mine")
    page.browser.until(KEPT)
    page.browser.evaluate(OTHER_TAB_KEEPS_THEIRS)
    page.type(" and old")
    page.browser.until(
        "document.getElementById('status').textContent.startsWith('Your text was changed in another tab')"
    )
    page.open()
    assert page.text == "theirs"
    page.type(" and new")
    page.browser.until(KEPT)


def test_what_was_chosen_is_there_whenever_the_page_is_opened_again(page: Page) -> None:
    chosen = {
        "marks": "surprisal", "font": "mono", "size": "24", "number": "3", "clamp": "L1/0=1",
        "temperature-number": "1.1",
    }  # fmt: skip
    for name, value in chosen.items():
        page.fill(name, value)
    for name in ("ghost", "fill"):
        page.push(name)
    for _ in range(3):
        page.open()
        found = page.browser.evaluate(
            f"Object.fromEntries({json.dumps([*chosen])}.map((id) => [id, document.getElementById(id).value]))"
        )
        assert found == chosen
        assert page.browser.evaluate("['ghost', 'fill'].map((id) => document.getElementById(id).checked)") == [True] * 2
    page.browser.evaluate("localStorage.clear()")


def test_a_tab_that_is_shown_again_has_what_another_one_kept(page: Page) -> None:
    page.type("mine")
    page.browser.until(KEPT)
    page.browser.evaluate(OTHER_TAB_KEEPS_THEIRS)
    page.browser.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.browser.until(f"{SHOWN} === 'theirs'")
    page.type(" and mine")
    page.browser.until(KEPT)
    assert page.text == "theirs and mine"


def test_what_is_shown_already_is_told_in_the_language_that_is_chosen(page: Page) -> None:
    page.type("The cat")
    page.write()
    page.press("ArrowLeft")
    page.browser.until("document.querySelectorAll('.alternative').length >= 8")
    page.browser.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.browser.until("document.querySelectorAll('#branches button').length >= 3")
    page.fill("number", "2")
    page.write()
    page.browser.evaluate("document.getElementById('text').focus()")
    before = set(page.browser.evaluate(SAID))
    assert {"Accept", "Accept 2", "Pin", "Done"} <= before
    page.push("language")
    after = set(page.browser.evaluate(SAID))
    assert {"采用", "采用 2", "置顶", "完成"} <= after
    assert {each for each in before & after if re.search("[A-Za-z]{4}", each)} == {"textgen"}
    assert [each for each in after if re.search("bits|rank| %", each)] == []
    page.push("language")
    assert set(page.browser.evaluate(SAID)) == before


REFUSED = """for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
  Object.defineProperty(window, name, { get() { throw new DOMException("Access is denied.", "SecurityError"); } });
}"""


def test_the_page_writes_where_site_data_are_refused(page: Page, chromium: Chromium) -> None:
    added = chromium.send("Page.addScriptToEvaluateOnNewDocument", {"source": REFUSED})
    page.open()
    assert str(page.browser.evaluate(STATUS)).startswith("This browser does not store your text: ")
    page.fill("max_tokens-number", "12")
    page.type("The cat")
    page.write()
    assert page.text.startswith("The cat")
    assert len(page.text) > len("The cat")
    page.push("language")
    assert page.browser.evaluate("document.documentElement.lang") == "zh-CN"
    chromium.check_faults()
    chromium.send("Page.removeScriptToEvaluateOnNewDocument", added)


def test_a_full_storage_is_told_in_the_language_of_the_page(page: Page) -> None:
    """A browser whose storage is full aborts the transaction, in Chromium with an error without a message."""
    put = "IDBObjectStore.prototype.put"
    page.browser.evaluate(f"(window.whole = {put}, {put} = function () {{ this.transaction.abort(); }}, null)")
    page.type("The cat")
    page.browser.until(f"{STATUS}.startsWith('This browser does not store your text: its storage is full')")
    page.push("language")
    assert str(page.browser.evaluate(STATUS)).startswith("浏览器没有保存文本：存储空间已满")
    page.browser.evaluate(f"({put} = window.whole, null)")
    page.type(" sat")
    page.browser.until(KEPT)
    page.browser.until(f"{STATUS} === '已保存'")


def test_a_long_text_is_continued(page: Page) -> None:
    text = "".join(f"line {number}\n" for number in range(9000))
    assert len(text) > 32_768
    page.browser.evaluate(f"{OPENED}({json.dumps(['a.txt', text])})")
    page.browser.until(f"{SHOWN}.length === {len(text)}")
    page.press("Control+End")
    page.write()
    assert page.text.startswith(text)
    assert len(page.text) > len(text)


# === Editing ===


def test_lines_are_split_and_joined_by_every_key(page: Page) -> None:
    steps: list[tuple[str, str]] = []

    def step(expected: str, *keys: str) -> None:
        for key in keys:
            page.press(key)
        steps.append((page.text, expected))

    page.type("ab\n\ncd")
    step("ab\n\ncd")
    step("ab\n\ncd\n", "Enter")
    step("ab\n\ncd\nx", "x")
    step("ab\n\ncdx", "Home", "Backspace")
    step("ab\ncdx", "ArrowUp", "Backspace")
    step("abcdx", "Delete")
    step("abcdx", "Control+Home", "Backspace")
    step("abcdx", "Control+End", "Delete")
    step("abcd", "Backspace")
    step("ab\ncd", "ArrowLeft", "ArrowLeft", "Enter")
    step("aycd", "ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowRight", "Shift+ArrowRight", "Backspace", "Backspace", "y")
    step("", "Control+a", "Delete")
    step("z", "z")
    step("", "Backspace")
    step("\n", "Enter")
    step("\nq", "q")
    assert [shown for shown, _ in steps] == [expected for _, expected in steps]
    while page.browser.evaluate("document.getElementById('undo').getAttribute('aria-disabled') === 'false'"):
        page.press("Control+z")
    assert page.text == ""


def test_what_is_pasted_or_cut_is_text_with_its_lines(page: Page) -> None:
    page.type("ab")
    page.press("ArrowLeft")
    page.paste("1\r\n2\n\n3")
    assert page.text == "a1\n2\n\n3b"
    page.press("Control+a")
    page.paste("c <b>d</b>\t e")
    assert page.text == "c <b>d</b>\t e"
    cut = page.browser.evaluate(
        "(() => { const data = new DataTransfer(); document.getElementById('text').focus();"
        "getSelection().selectAllChildren(document.getElementById('text'));"
        "const own = { clipboardData: data, dataType: 'text/plain', data: '' };"
        "const event = new ClipboardEvent('cut', { ...own, bubbles: true, cancelable: true });"
        "document.getElementById('text').dispatchEvent(event);"
        "return event.clipboardData.getData('text/plain'); })()"
    )
    assert (cut, page.text) == ("c <b>d</b>\t e", "")


def test_a_mouse_puts_the_cursor_where_it_points(page: Page) -> None:
    page.type("first\nsecond")
    x, y = page.browser.evaluate(
        "(({ left, top, height }) => [left + 1, top + height / 2])"
        "(document.querySelector('#text .line').getBoundingClientRect())"
    )
    page.browser.click(x, y)
    page.browser.press("X")
    assert page.text == "Xfirst\nsecond"


DRAGGED = """(([kind, at, text, ctrlKey]) => {
  const [clientX, clientY] = POINT(at);
  const data = new DataTransfer();
  data.setData("text/plain", text);
  const how = { bubbles: true, cancelable: true, ctrlKey, dataTransfer: data, clientX, clientY };
  document.elementFromPoint(clientX, clientY).dispatchEvent(new DragEvent(kind, how));
})""".replace("POINT", POINT)


def send_drag(page: Page, kind: str, at: int, text: str = "", *, is_copied: bool = False) -> None:
    """Sends an event of the mouse that drags a text."""
    page.browser.evaluate(f"{DRAGGED}({json.dumps([kind, at, text, is_copied])})")


def select(page: Page, at: int, length: int) -> None:
    """Selects characters by keys."""
    page.press("Control+Home")
    for _ in range(at):
        page.browser.press("ArrowRight")
    for _ in range(length):
        page.browser.press("Shift+ArrowRight")


def drag(page: Page, at: int, length: int, to: int, *, is_copied: bool = False) -> None:
    """Selects characters and drags them: in Chromium with the mouse, elsewhere by the events of a browser."""
    select(page, at, length)
    if isinstance(page.browser, Chromium) and not is_copied:
        places = [page.browser.evaluate(f"{POINT}({place})") for place in (at, to)]
        page.browser.drag(places[0], places[1])
        return
    for kind, place in (("dragstart", at), ("drop", to), ("dragend", 0)):
        send_drag(page, kind, place, is_copied=is_copied)


def test_what_is_dragged_within_the_text_is_moved_and_undo_takes_it_back(page: Page) -> None:
    page.type("one two\nthree four")
    before = page.text
    for given, expected in (
        ((0, 4, 14), "two\nthree one four"),
        ((8, 6, 4), "one three two\nfour"),
        ((4, 7, 14), "one ee two\nthrfour"),  # over the end of a line
        ((4, 3, 5), before),  # into itself
    ):
        drag(page, *given)
        assert page.text == expected, given
        while page.text != before:
            page.press("Control+z")
    drag(page, 0, 4, 14, is_copied=True)
    assert page.text == "one two\nthree one four"


def test_what_is_dropped_on_an_empty_line_stands_there(page: Page) -> None:
    page.type("one two\n\nthree")
    drag(page, 0, 4, 8)
    assert page.text == "two\none \nthree"
    page.press("Control+z")
    page.press("Control+z")
    assert page.text == "one two\n\nthree"
    page.press("Control+Home")
    send_drag(page, "drop", 8, "from\nelsewhere")
    assert page.text == "one two\nfrom\nelsewhere\nthree"


def test_a_file_that_is_dropped_on_the_text_is_opened(page: Page) -> None:
    page.type("one two")
    accepted = page.browser.evaluate("""["dragover", "drop"].map((kind) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(["Once\\r\\nmore"], "other.txt", { type: "text/plain" }));
      const event = new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true });
      return !document.querySelector("#text .line").dispatchEvent(event);
    })""")
    assert accepted == [True, True]
    page.browser.until(f"{SHOWN} === 'Once\\nmore'")
    page.press("Control+z")
    assert page.text == "one two"


def test_what_is_dragged_or_selected_is_the_same_though_the_model_writes_before_it(page: Page) -> None:
    for at, dragged in ((8, "three"), (3, " two")):
        page.type("one two three")
        select(page, 3, 0)
        page.browser.evaluate(HOLD)
        page.press("Control+Enter")
        select(page, at, len(dragged))
        send_drag(page, "dragstart", at)
        page.browser.evaluate("go()")
        page.browser.until(IS_IDLE)
        before = page.text
        assert len(before) > len("one two three")
        assert page.browser.evaluate("String(getSelection())") == dragged
        send_drag(page, "drop", 0)
        place = before.rindex("two three") + at - 4
        assert page.text == dragged + before[:place] + before[place + len(dragged) :]
        page.push("empty")


def test_undo_comes_back_to_each_text_and_redo_too(page: Page) -> None:
    rng = random.Random(1)
    page.fill("max_tokens-number", "2")
    stack, undone = [page.text], list[str]()
    for number in range(60):
        kind = rng.choice(["type", "write", "undo", "redo"])
        if kind == "undo" and len(stack) > 1:
            undone.append(stack.pop())
            page.press("Control+z")
        elif kind == "redo" and undone:
            stack.append(undone.pop())
            page.press("Control+Shift+z")
        elif kind in ("type", "write"):
            undone.clear()
            if kind == "type":
                page.type(f"\nx{number}")
                stack.append(f"{stack[-1]}\nx{number}")  # a line is one step
            else:
                page.write()
                if page.text != stack[-1]:
                    stack.append(page.text)
        assert page.text == stack[-1], (number, kind)


STEPS = {
    "type": 3, "line": 1, "erase": 1, "delete": 1, "move": 1, "select": 1, "replace": 1, "paste": 1, "point": 1,
    "write": 2, "stop": 1, "undo": 2, "redo": 2, "earlier": 1, "later": 1, "again": 1, "choose": 1, "several": 1,
    "reload": 1,
}  # fmt: skip


def random_step(page: Page, rng: random.Random) -> str:
    """Does something, and returns what."""
    (kind,) = rng.choices(list(STEPS), list(STEPS.values()))
    press = page.press
    if kind == "type":
        page.browser.evaluate(f"{FOCUSED} === 'text' || document.getElementById('text').focus()")
        page.browser.type(rng.choice(["a", "word ", "  ", "1,", "床前", "é🙂"]))
    elif kind in ("line", "erase", "delete"):
        for _ in range(rng.randint(1, 3)):
            press({"line": "Enter", "erase": "Backspace", "delete": "Delete"}[kind])
    elif kind == "move":
        press(rng.choice(["Home", "End", "ArrowUp", "ArrowDown", "Control+Home", "Control+End"]))
    elif kind in ("select", "replace"):
        for _ in range(rng.randint(1, 4)):
            press(rng.choice(["Shift+ArrowLeft", "Shift+ArrowUp", "Shift+ArrowRight", "Shift+Home"]))
        if kind == "replace":
            press(rng.choice(["x", "Enter", "Backspace", "Delete"]))
    elif kind == "paste":
        page.paste(rng.choice(["p", "q\nr", "\n", "诗\n\n歌"]))
    elif kind == "point":
        page.browser.click(rng.randint(100, 500), rng.randint(100, 300))
    elif kind in ("write", "stop", "several"):
        page.fill("number", "2" if kind == "several" else "1")
        press("Control+Enter")
        if kind == "stop":
            press("Escape")
        page.browser.until(IS_IDLE)
        if kind == "several":
            number = rng.randint(0, 1)
            if page.browser.evaluate("document.querySelectorAll('.offer').length") > number:  # it brought something
                page.click(f"document.querySelectorAll('.offer button')[{number}]")
    elif kind in ("undo", "redo", "again"):
        page.push(kind)
        page.browser.until(IS_IDLE)
    elif kind in ("earlier", "later"):
        press("Alt+ArrowLeft" if kind == "earlier" else "Alt+ArrowRight")
    elif kind == "choose":
        press("Alt+ArrowDown")
        page.browser.press("Enter")
        page.browser.until(IS_IDLE)
    else:
        page.browser.until(KEPT)
        before = page.text
        page.open()
        assert page.text == before
    return kind


def test_nothing_that_people_do_in_any_order_loses_text(page: Page) -> None:
    rng = random.Random(2)
    page.fill("max_tokens-number", "4")
    page.fill("seed", "")
    done: list[str] = []
    for _ in range(500 if isinstance(page.browser, Chromium) else 120):
        done.append(random_step(page, rng))
        assert not page.browser.evaluate(CHECK), (page.browser.evaluate(CHECK), " ".join(done))
        assert not page.browser.faults, (page.browser.faults, " ".join(done))
        if len(page.text) > 1500:
            page.push("empty")


# === Input methods ===

COMPOSED = {
    "pinyin": (["n", "ni", "ni h", "ni hao"], "你好"),
    "kana": (["k", "か", "かn", "かん"], "漢"),
    "hangul": (["ㅎ", "하", "한"], "한"),
}


@pytest.mark.parametrize("method", COMPOSED)
def test_an_input_method_composes_undisturbed(page: Page, chromium: Chromium, method: str) -> None:
    parts, result = COMPOSED[method]
    page.type("ab\ncd")
    page.press("ArrowLeft")
    for part in parts:
        chromium.send("Input.imeSetComposition", {"text": part, "selectionStart": len(part), "selectionEnd": len(part)})
        assert page.text == f"ab\nc{part}d"
    enter = {"type": "rawKeyDown", "windowsVirtualKeyCode": 229, "key": "Enter", "code": "Enter", "modifiers": 2}
    chromium.send("Input.dispatchKeyEvent", enter)
    assert chromium.evaluate(IS_IDLE)  # Ctrl+Enter while composing belongs to the input method
    chromium.send("Input.insertText", {"text": result})
    assert page.text == f"ab\nc{result}d"
    page.browser.type("x")
    assert page.text == f"ab\nc{result}xd"
    page.press("Control+z")
    assert page.text in ("ab\ncd", f"ab\nc{result}d")


def test_an_input_method_begins_a_text_and_replaces_lines(page: Page, chromium: Chromium) -> None:
    for before in ("", "one\ntwo\nthree"):
        page.type(before)
        page.press("Control+a")
        for part in ("ni", "", "ni"):
            place = len(part)
            chromium.send("Input.imeSetComposition", {"text": part, "selectionStart": place, "selectionEnd": place})
            has_hint = chromium.evaluate("document.getElementById('text').hasAttribute('data-empty')")
            assert has_hint == (page.text == "")  # it would stand over what is composed
        chromium.send("Input.insertText", {"text": "你"})
        assert page.text == "你"
        page.push("undo")
        assert page.text == before
    page.push("ghost")
    page.type(".")
    chromium.send("Input.imeSetComposition", {"text": "ni", "selectionStart": 2, "selectionEnd": 2})
    chromium.evaluate("new Promise((done) => setTimeout(done, 1500))")
    assert chromium.evaluate(GHOST) == ""
    chromium.send("Input.insertText", {"text": "你"})
    chromium.until(f"{GHOST} !== ''")


def test_what_is_composed_before_another_version_begins_is_composed_into_what_is_shown(
    page: Page, chromium: Chromium
) -> None:
    page.type("The cat")
    page.write()
    text = page.text
    assert len(text) > len("The cat")
    page.browser.evaluate(HOLD)
    page.push("again")
    assert page.text == "The cat"
    page.press("Control+End")
    chromium.send("Input.imeSetComposition", {"text": "ni", "selectionStart": 2, "selectionEnd": 2})
    page.browser.evaluate("go()")
    page.browser.until(IS_IDLE)
    chromium.send("Input.insertText", {"text": "你"})
    assert page.text == "The cat你"
    page.check()
    page.press("Control+z")
    assert page.text == "The cat"
    page.press("Alt+ArrowLeft")
    page.press("Control+y")
    page.press("Alt+ArrowLeft")
    assert page.text == text


def test_events_of_an_input_method_change_the_text_once(page: Page) -> None:
    """For browsers that no program can tell to compose: the events that they send, in their order."""
    page.type("ab")
    page.browser.evaluate(
        "(() => { const text = document.getElementById('text'); const line = text.querySelector('.line');"
        "const send = (Kind, name, more) => text.dispatchEvent(new Kind(name, { bubbles: true, ...more }));"
        "send(CompositionEvent, 'compositionstart', { data: '' });"
        "for (const part of ['n', 'ni', '你']) { line.firstChild.data = 'ab' + part;"
        "send(InputEvent, 'input', { isComposing: true, inputType: 'insertCompositionText', data: part }); }"
        "for (const key of ['Enter', 'z'])"
        "  send(KeyboardEvent, 'keydown', { key, ctrlKey: true, isComposing: true, cancelable: true });"
        "send(CompositionEvent, 'compositionend', { data: '你' });"
        "send(InputEvent, 'input', { inputType: 'insertCompositionText', data: '你' }); })()"
    )
    assert page.browser.evaluate(IS_IDLE)
    assert page.text == "ab你"
    page.check()


# === Long texts ===

LONG = """(async () => {
  const { Story } = await import("./page/story.js");
  let text = "";
  for (let number = 0; text.length < 1e6; number++) text += `${"word ".repeat(number % 120)}${number}\\n`;
  const files = new DataTransfer();
  files.items.add(new File([text], "long.txt"));
  const input = document.getElementById("load-file");
  input.files = files.files;
  input.dispatchEvent(new Event("change"));
  return text.length;
})()"""
MANY_BRANCHES = """(async () => {
  const { Story } = await import("./page/story.js");
  const story = new Story();
  const token = { text: "word", logprob: -1, top: [{ text: "word", logprob: -1 }] };
  const spans = Array.from({ length: 15 }, () => ({ text: "word", origin: "model", token }));
  for (let step = 0; step < 1000; step++) story.change(story.text.length, 0, spans, "writing");
  for (let number = 0; number < 100; number++) {
    const node = story.branch(story.current, story.text.length, [], "writing");
    story.nodes[node].added.push({ text: ` ${number}`, origin: "model" });
  }
  return JSON.stringify(story);
})()"""
PAINTED = "new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(true))))"


def open_long(page: Page) -> int:
    length = int(page.browser.evaluate(LONG))
    page.browser.until(f"{SHOWN}.length === {length}")
    page.browser.evaluate(PAINTED)
    return length


def spent(chromium: Chromium) -> float:
    """Seconds that the page has worked so far, as `Performance.enable` counts them."""
    metrics = chromium.send("Performance.getMetrics")["metrics"]
    return next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")


def test_a_text_of_a_megabyte_is_edited_anywhere(page: Page) -> None:
    length = open_long(page)
    page.type("x\ny")
    page.press("Control+Home")
    for key in ("a", "Enter", "b", "ArrowDown", "End", "ArrowRight", "c"):
        page.browser.press(key)
    text = page.text
    assert len(text) == length + 7
    assert text.endswith("\nx\ny")
    assert text.startswith("a\nb0\nword 1\ncword word 2\n")
    for _ in range(60):  # beyond the part that is laid out first
        page.browser.press("ArrowDown")
    page.browser.press("#")
    text = page.text
    assert len(text) == length + 8
    assert 2000 < text.index("#") < 20000, text.index("#")


BUSY = """(() => {
  setTimeout(() => {
    const start = performance.now();
    while (performance.now() - start < 1500);
  }, 50);
})()"""


@pytest.mark.parametrize(
    ("end", "place", "keys"),
    [("End", "Home", ["ArrowDown"] * 60), ("Home", "End", ["ArrowUp"] * 60), ("End", "Home", ["PageDown"] * 3)],
)
def test_a_key_that_comes_before_the_page_is_painted_moves_the_cursor_no_further(
    page: Page, chromium: Chromium, end: str, place: str, keys: list[str]
) -> None:
    length = open_long(page)
    page.press(f"Control+{end}")
    chromium.evaluate(PAINTED)
    chromium.evaluate(BUSY)
    time.sleep(0.2)  # until it is busy
    chromium.press_at_once(f"Control+{place}", *keys, "#")
    chromium.until(f"{SHOWN}.length === {length + 1}")
    at = page.text.index("#")
    assert 2000 < (at if place == "Home" else length - at) < 20000, at


def test_a_key_in_a_text_of_a_megabyte_takes_less_than_50_milliseconds(page: Page, chromium: Chromium) -> None:
    open_long(page)
    chromium.send("Performance.enable", {"timeDomain": "threadTicks"})
    for place in ("Control+End", "Control+Home"):
        page.press(place)
        times = []
        for number in range(20):
            page.browser.evaluate(PAINTED)
            before = spent(chromium)
            page.browser.press("x" if number % 5 else "Enter")
            page.browser.evaluate(PAINTED)
            times.append(1000 * (spent(chromium) - before))  # of the processor, from the key to the picture
        assert statistics.quantiles(times, n=20)[-1] < 50, times


def test_a_key_while_many_branches_are_shown_takes_less_than_a_second(page: Page, chromium: Chromium) -> None:
    page.browser.evaluate(f"{MANY_BRANCHES}.then((story) => {OPENED}(['a.json', story]))")
    page.browser.until(f"{SHOWN}.length === 60000")
    page.browser.evaluate("(() => { document.getElementById('branches').closest('details').open = true; })()")
    page.browser.until("document.querySelectorAll('#branches .ending').length === 100")
    chromium.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.press("Control+End")
    before = spent(chromium)
    page.browser.press("x")
    page.browser.until("document.querySelector('#branches .ending').textContent.endsWith('wordx')")
    time.sleep(0.2)  # until what is typed is kept
    page.browser.evaluate(PAINTED)
    assert spent(chromium) - before < 1
    endings = page.browser.evaluate("[...document.querySelectorAll('.ending')].map((each) => each.textContent)")
    assert len(endings) == 100
    assert endings[1] == "… " + f"{'word' * 20} 99"[-80:]


# === Buttons ===

REFUSES_TO_COPY = """(() => {
  Object.defineProperty(navigator, "clipboard", { value: undefined, configurable: true });
  document.execCommand = () => false;
})()"""


def test_a_copy_that_the_browser_refuses_is_told(page: Page) -> None:
    page.browser.evaluate(REFUSES_TO_COPY)
    page.browser.evaluate("document.getElementById('copy').focus()")
    page.push("copy")
    page.browser.until("document.getElementById('status').textContent.startsWith('Could not copy')")
    assert page.browser.evaluate("document.activeElement.id") == "copy"


def test_no_button_loses_the_focus_to_nothing(page: Page) -> None:
    page.type("a\nb")
    for name in ("undo", "redo", "previous", "next"):
        page.browser.evaluate(f"document.getElementById('{name}').focus()")
        for _ in range(4):
            page.push(name)
        assert page.browser.evaluate("document.activeElement.id") == name
    assert page.text == "a\nb"
    page.browser.evaluate("(() => { document.getElementById('branches').closest('details').open = true; })()")
    page.browser.until("document.querySelectorAll('#branches button').length >= 3")
    pin = "document.querySelectorAll('#branches button')[1]"
    page.click(pin)
    page.browser.until(f"{pin}.ariaPressed === 'true'")
    assert page.browser.evaluate(f"document.activeElement === {pin} && {pin}.ariaPressed") == "true"


# === Looks ===


def test_no_rule_of_accessibility_is_broken(page: Page) -> None:
    source = axe_source(python_with("axe", ["--no-deps", "axe-playwright-python==0.1.7"]).parent.parent)
    schemes = ("light", "dark") if isinstance(page.browser, Chromium) else ("light",)
    for width in (1440, 360):
        page.browser.resize(width, 800)
        for scheme in schemes:
            if isinstance(page.browser, Chromium):
                page.browser.prefer(scheme)
            page.fresh()
            page.type("The cat")
            page.write()
            page.press("ArrowLeft")
            page.browser.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            page.fill("number", "3")
            page.write()
            assert page.browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), (width, scheme)
            page.browser.evaluate(f"(() => {{ {source}; window.axe = axe; }})()")
            found = page.browser.evaluate(
                f"axe.run({{ runOnly: {json.dumps(WCAG)} }}).then((found) => found.violations)"
            )
            assert [(each["id"], each["nodes"][0]["html"]) for each in found] == [], (width, scheme)
    page.browser.resize(1200, 800)


def test_where_the_system_forces_its_colours_those_that_tell_something_stay(page: Page, chromium: Chromium) -> None:
    page.type("The cat")
    page.write()
    page.press("Control+End")
    page.press("ArrowLeft")
    page.browser.until("document.querySelectorAll('.alternative').length >= 8")
    page.browser.evaluate("document.activeElement.blur()")
    for scheme in ("light", "dark"):
        chromium.force_colours(scheme)
        page.fill("marks", "origin")
        found = chromium.colours("document.getElementById('text')")
        assert chromium.colour("Highlight") not in found  # nothing is selected
        assert {chromium.colour("Canvas"), chromium.colour("CanvasText")} <= found
        assert chromium.colour("var(--s2)") in chromium.colours("document.querySelector('.alternative')")
        page.fill("marks", "surprisal")
        levels = {chromium.colour(f"var(--s{number})") for number in (1, 2, 3, 4)}
        assert levels & chromium.colours("document.getElementById('text')")
        legend = "document.getElementById('legend')"
        chromium.evaluate(f"(() => {{ {legend}.closest('details').open = true; {legend}.scrollIntoView(); }})()")
        assert levels <= chromium.colours(legend)
        chromium.evaluate("document.getElementById('alternatives').scrollIntoView()")
    chromium.prefer("light")
