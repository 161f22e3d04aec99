"""The page that writes, opened from a file in Chromium, Firefox and WebKit. Run with `make test-browsers`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from browsers import ENGINES, Browser, Chromium, opened
from click.testing import CliRunner
from networks import random_weights
from pages import HOSTILE, hostile_model

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.export import html
from textgen.export.attribution import Attribution
from textgen.export.html import export_html
from textgen.export.packing import joined
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.pieces import FIRST_LEARNED, NEWLINE
from textgen.tokenizer.tokenizer import Tokenizer

pytestmark = [pytest.mark.browsers, pytest.mark.timeout(1800)]

TEXT = "document.getElementById('text').textContent.replace(/\\n$/, '')"
IS_READY = "document.documentElement.dataset.ready !== undefined"
HAS_RUN = "document.getElementById('write').dataset.word === 'another'"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> ModelFolder:
    return hostile_model(tmp_path_factory.mktemp("pages") / "hostile", tokenizer)


@pytest.fixture(scope="module")
def page(model: ModelFolder) -> str:
    """The address of the page."""
    export_html(
        model, model.folder.parent / "page.html", Attribution(note="<img src=x onerror=\"document.title='x'\">")
    )
    return (model.folder.parent / "page.html").as_uri()


@pytest.fixture(scope="module", params=ENGINES)
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with opened(request.param) as there:
        yield there


def type_text(browser: Browser, text: str) -> None:
    """Puts a text in the place of the one on the page, as a person who types does."""
    editor = "document.getElementById('text')"
    browser.evaluate(f"(() => {{ {editor}.textContent = {json.dumps(text)}; }})()")
    browser.evaluate(f"{editor}.dispatchEvent(new InputEvent('input'))")


def open_empty(browser: Browser, address: str) -> None:
    """Opens a page, with no text that it has kept."""
    browser.open("about:blank")
    browser.open(address)
    browser.until(IS_READY)
    type_text(browser, "")


def written(browser: Browser, page: str, start: str = "", **asked: str | float) -> str:
    """The text that the page writes when a link to it is followed."""
    open_empty(browser, page + start)
    browser.evaluate(f"(() => {{ location.hash = {json.dumps(urlencode(asked))}; }})()")
    browser.until(HAS_RUN)
    return str(browser.evaluate(TEXT))


def write_another(browser: Browser, seed: int, tokens: int) -> None:
    """Writes another text in the page that is open."""
    asked = urlencode({"prompt": "The", "seed": seed, "max_tokens": tokens})
    browser.evaluate(f"(() => {{ location.hash = {json.dumps(asked)}; }})()")
    browser.until(f"document.getElementById('seed').value === '{seed}' && {HAS_RUN}")


def click(browser: Browser, name: str) -> None:
    browser.evaluate(f"document.getElementById({json.dumps(name)}).click()")


def on_the_command_line(model: ModelFolder, *arguments: str) -> str:
    words = ["sample", str(model.folder), "--exact", *arguments]
    done = CliRunner().invoke(textgen, words, catch_exceptions=False, prog_name="textgen")
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("start", ["", "#plain=1"], ids=["webassembly", "plain"])
def test_the_text_is_that_of_the_command_line(browser: Browser, page: str, model: ModelFolder, start: str) -> None:
    """For the same prompt, seed and settings; with nothing asked of the network and no error."""
    browser.requests.clear()
    for seed, prompt in ((7, "The cat"), (8, ""), (9, "月光 😀\nThe")):
        found = written(browser, page, start, prompt=prompt, seed=seed, temperature=0.7, max_tokens=60)
        is_simd = browser.evaluate("document.getElementById('facts').textContent.includes('WebAssembly')")
        assert is_simd is (start == "")
        asked = ["--seed", str(seed), "--max-tokens", "60", "--temperature", "0.7", "--prompt", prompt]
        assert found == on_the_command_line(model, *asked).removesuffix("\n"), (seed, prompt)
    browser.check_faults()
    elsewhere = [url for url in browser.requests if not url.startswith(("file:", "blob:", "about:", "data:"))]
    assert elsewhere == []


def test_hostile_text_stays_text(browser: Browser, page: str) -> None:
    found = written(browser, page, prompt="<img src=x onerror=\"document.title='x'\">", seed=1, max_tokens=5)
    assert found.startswith("<img src=x onerror=")
    labels = browser.evaluate("[...document.getElementById('label').options].slice(1).map((each) => each.value)")
    assert labels == list(HOSTILE)
    assert browser.evaluate("document.querySelectorAll('img, iframe, object').length") == 0
    assert browser.evaluate("document.title") == "hostile"
    browser.check_faults()


def test_write_more_stop_undo_and_take_another_token(browser: Browser, page: str, model: ModelFolder) -> None:
    first = written(browser, page, prompt="The", seed=3, max_tokens=30)
    click(browser, "more")
    browser.until(HAS_RUN + f" && {TEXT}.length > {len(first)}")
    longer = str(browser.evaluate(TEXT))
    assert longer.startswith(first)
    tokens = str(browser.evaluate("new URLSearchParams(location.hash.slice(1)).get('max_tokens') ?? '100'"))
    assert longer == on_the_command_line(model, "--seed", "3", "--prompt", "The", "--max-tokens", tokens).removesuffix(
        "\n"
    )
    click(browser, "undo")
    assert browser.evaluate(TEXT) == first
    browser.evaluate("document.getElementById('text').focus()")
    browser.evaluate("getSelection().collapse(document.getElementById('text').firstChild, 6)")
    browser.until("!document.getElementById('panel').hidden")
    browser.evaluate("document.querySelector('#alternatives button:enabled').click()")
    browser.until(HAS_RUN)
    assert str(browser.evaluate(TEXT)).startswith(first[:3])
    click(browser, "undo")
    assert browser.evaluate(TEXT) == first
    browser.check_faults()


def test_what_is_typed_stands_where_it_was_typed(browser: Browser, page: str) -> None:
    """At the end of the text, in its middle and after a newline at its end."""
    open_empty(browser, page)
    browser.evaluate("document.getElementById('text').focus()")
    browser.type("third")
    assert browser.evaluate(TEXT) == "third"
    browser.type("\nand")
    assert browser.evaluate(TEXT) == "third\nand"
    for _ in range(3):
        browser.press("ArrowLeft")
    browser.type("xy ")
    browser.press("End")
    browser.press("Backspace")
    browser.type("t.")
    assert browser.evaluate(TEXT) == "third\nxy ant."
    kept = "JSON.parse(Object.values(localStorage).find((each) => JSON.parse(each).text.startsWith('third'))).text"
    for keys, expected in (
        (["Enter", "Enter"], "third\nxy ant.\n\n"), (["Backspace"], "third\nxy ant.\n"), (["a"], "third\nxy ant.\na"),
        (["Backspace", "Backspace"], "third\nxy ant."), (["Home", "Enter"], "third\n\nxy ant."),
        (["End", "Enter", "b", "Enter"], "third\n\nxy ant.\nb\n"),
    ):  # fmt: skip
        for key in keys:
            browser.press(key)
        browser.evaluate("dispatchEvent(new Event('pagehide'))")
        assert browser.evaluate(kept) == expected, keys
    browser.check_faults()


def test_each_line_begins_on_the_side_where_it_is_read_from(browser: Browser, page: str) -> None:
    open_empty(browser, page)
    type_text(browser, "ab\nשלום עולם.")
    left, right, inner_left, inner_right = browser.evaluate("""(() => {
      const text = document.getElementById("text");
      const { paddingLeft, paddingRight } = getComputedStyle(text);
      const { left, right } = text.getBoundingClientRect();
      const range = document.createRange();
      const at = (place) => {
        range.setStart(text.firstChild, place);
        range.setEnd(text.firstChild, place + 1);
        return range.getBoundingClientRect();
      };
      return [at(0).left, at(3).right, left + parseFloat(paddingLeft), right - parseFloat(paddingRight)];
    })()""")
    assert abs(left - inner_left) < 2
    assert abs(right - inner_right) < 2


def test_on_a_mac_option_alone_is_left_to_the_system(browser: Browser, page: str) -> None:
    written(browser, page, prompt="The", seed=3, max_tokens=30)
    browser.evaluate("Object.defineProperty(navigator, 'platform', { get: () => 'MacIntel' }) && null")
    browser.evaluate("document.getElementById('text').focus()")
    browser.evaluate("getSelection().collapse(document.getElementById('text').firstChild, 6)")
    browser.until("!document.getElementById('panel').hidden")
    browser.press("Alt+ArrowDown")
    assert browser.evaluate("document.activeElement.id") == "text"
    browser.evaluate("getSelection().collapse(document.getElementById('text').firstChild, 6)")
    browser.until("!document.getElementById('panel').hidden")
    browser.press("Control+Alt+ArrowDown")
    assert browser.evaluate("document.getElementById('alternatives').contains(document.activeElement)")


def begin_long_text(browser: Browser, page: str, **settings: float) -> None:
    """Opens a page that writes, and waits until there is some text."""
    open_empty(browser, page)
    asked = urlencode({"prompt": "The", "seed": 5, "max_tokens": 100_000, **({"temperature": 0.0} | settings)})
    browser.evaluate(f"(() => {{ location.hash = {json.dumps(asked)}; }})()")
    browser.until(f"{TEXT}.length > 200")


def test_stop_stops(browser: Browser, page: str) -> None:
    """And what is there then can be had again, and goes on."""
    begin_long_text(browser, page)
    click(browser, "write")
    text = str(browser.evaluate(TEXT))
    browser.evaluate("new Promise((done) => setTimeout(() => done(true), 300))")
    assert browser.evaluate(TEXT) == text
    assert browser.evaluate(HAS_RUN)
    assert browser.evaluate("document.getElementById('status').textContent") == "Stopped."
    click(browser, "more")
    browser.until(f"{HAS_RUN} && {TEXT}.length > {len(text)}")
    assert str(browser.evaluate(TEXT)).startswith(text)


def test_an_input_method_that_begins_stops_the_model(browser: Browser, page: str) -> None:
    """Tokens that came into the text would end the composition."""
    begin_long_text(browser, page)
    editor = "document.getElementById('text')"
    text = str(browser.evaluate(f"({editor}.dispatchEvent(new CompositionEvent('compositionstart')), {TEXT})"))
    composed = f"{editor}.firstChild.appendData('ni')"
    browser.evaluate(f"({composed}, new Promise((done) => setTimeout(() => done(true), 300)))")
    assert browser.evaluate(TEXT) == f"{text}ni"
    browser.evaluate(f"{editor}.dispatchEvent(new CompositionEvent('compositionend'))")
    assert browser.evaluate(TEXT) == f"{text}ni"
    assert browser.evaluate("document.getElementById('write').dataset.word") == "write"
    browser.check_faults()


def test_there_is_a_command_or_a_word_why_not(browser: Browser, page: str) -> None:
    said = "[...document.querySelectorAll('#command, #command-missing')].filter((it) => it.checkVisibility())"
    commands = []
    for prompt in ("The", "-"):
        written(browser, page, prompt=prompt, seed=3, max_tokens=10)
        commands.append(browser.evaluate(f"{said}.map((it) => it.textContent)"))
    assert commands == [
        ["textgen sample hostile --exact --prompt The --max-tokens 10 --seed 3"],
        ["A prompt that is only “-” cannot be given on the command line, where - means standard input."],
    ]


def test_the_address_is_that_of_the_text_or_of_none(browser: Browser, page: str) -> None:
    """Not that of a text that was there before it: after an edit, and for a text too long for an address."""
    address = "location.hash"
    first = written(browser, page, prompt="The", seed=3, max_tokens=10)
    short = str(browser.evaluate(address))
    assert short == "#prompt=The&seed=3&max_tokens=10"
    type_text(browser, "a" * 2500)
    assert browser.evaluate(address) == ""
    click(browser, "write")
    browser.until(HAS_RUN)
    assert browser.evaluate(address) == ""
    browser.until(f"(document.getElementById('undo').click(), {TEXT} === {json.dumps(first)})")
    assert browser.evaluate(address) == short
    browser.until(f"(document.getElementById('redo').click(), {TEXT}.length > 2500)")
    assert browser.evaluate(address) == ""
    browser.check_faults()


def test_while_another_text_is_written_the_address_is_not_that_of_the_one_before(
    browser: Browser, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    written(browser, model_of_pieces(tmp_path, tokenizer, "endless", end=-30.0), prompt="The", seed=3, max_tokens=10)
    for button in ("write", "more"):
        assert str(browser.evaluate("location.hash")).startswith("#prompt=The&seed=")
        address = browser.evaluate(f"(document.getElementById('{button}').click(), location.hash)")
        assert address == "", button
        browser.until(HAS_RUN)
    browser.check_faults()


def test_a_text_that_was_kept_under_the_address_of_another_one_takes_it_off(browser: Browser, page: str) -> None:
    open_empty(browser, page)
    type_text(browser, "My own text")
    keep = """(() => {
      dispatchEvent(new Event("pagehide"));
      for (const [name, value] of Object.entries(localStorage)) {
        const found = JSON.parse(value);
        if (found.text !== "My own text") continue;
        localStorage.setItem(name, JSON.stringify({ ...found, hash: "#prompt=The&seed=3", isLinked: false }));
      }
    })()"""
    browser.evaluate(keep)
    browser.evaluate("(() => { history.replaceState(null, '', '#prompt=The&seed=3'); window.isOld = true; })()")
    browser.evaluate("(() => { setTimeout(() => location.reload()); })()")
    browser.until(f"!window.isOld && document.documentElement && {IS_READY}")
    assert browser.evaluate(TEXT) == "My own text"
    assert browser.evaluate("location.hash") == ""
    browser.check_faults()


def test_a_link_to_the_text_gives_the_text(browser: Browser, page: str) -> None:
    first = written(browser, page, prompt="A b&c#d", seed=11, top_k=20, max_tokens=40)
    link = str(browser.evaluate("location.hash"))
    browser.open("about:blank")
    browser.open(page + link)
    browser.until(IS_READY)
    browser.until(HAS_RUN)
    assert browser.evaluate(TEXT) == first


def test_a_text_that_no_link_holds_is_there_after_a_reload(browser: Browser, page: str) -> None:
    """And after a link was opened in its place, undo brings it back."""
    open_empty(browser, page)
    type_text(browser, "My own text\nand more")
    for _ in range(2):
        browser.open("about:blank")
        browser.open(page)
        browser.until(IS_READY)
        assert browser.evaluate(TEXT) == "My own text\nand more"
    browser.open("about:blank")
    browser.open(f"{page}#prompt=The&seed=3&max_tokens=10")
    browser.until(HAS_RUN)
    assert str(browser.evaluate(TEXT)).startswith("The")
    click(browser, "undo")
    assert browser.evaluate(TEXT) == "My own text\nand more"
    browser.check_faults()


def test_a_text_is_there_after_the_page_was_closed(browser: Browser, page: str) -> None:
    """Also one that the model wrote, whose address is gone; a new text leaves it where it can be opened again."""
    if not isinstance(browser, Chromium):
        pytest.skip("only Chromium is told to close a tab")
    open_empty(browser, page)
    browser.evaluate("localStorage.clear()")
    type_text(browser, "My own text")
    browser.until("localStorage.length === 1")
    for _ in range(2):
        browser.renew()
        browser.open(page)
        browser.until(IS_READY)
        assert browser.evaluate(TEXT) == "My own text"
    assert browser.evaluate("document.getElementById('earlier-texts').hidden")
    click(browser, "new-text")
    assert browser.evaluate(TEXT) == ""
    first = written(browser, page, prompt="The", seed=3, max_tokens=10)
    browser.until(f"Object.values(localStorage).some((each) => JSON.parse(each).text === {json.dumps(first)})")
    browser.renew()
    browser.open(page)
    browser.until(IS_READY)
    assert browser.evaluate(TEXT) == first
    earlier = "[...document.querySelectorAll('#earlier button')]"
    assert [text.split(" · ")[0] for text in browser.evaluate(f"{earlier}.map((each) => each.textContent)")] == [
        "My own text"
    ]
    browser.evaluate(f"{earlier}[0].click()")
    assert browser.evaluate(TEXT) == "My own text"
    click(browser, "undo")
    assert browser.evaluate(TEXT) == first
    texts = "Object.values(localStorage).map((each) => JSON.parse(each).text).sort()"
    type_text(browser, f"{first}!")
    browser.until(f"({texts}).includes({json.dumps(first + '!')})")
    assert browser.evaluate(texts) == sorted([f"{first}!", "My own text"])
    browser.evaluate("localStorage.clear()")
    browser.check_faults()


def test_a_text_that_is_too_long_for_a_link_is_there_after_a_reload(
    browser: Browser, model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link asks for 100,000 tokens at most, here for 20: beyond that the page keeps the text itself."""
    limit = "100_000"
    assert joined(html.SCRIPT).count(limit) == 1
    monkeypatch.setattr(html, "joined", lambda names: joined(names).replace(limit, "20"))
    export_html(model, tmp_path / "short.html")
    page, off = (tmp_path / "short.html").as_uri(), "document.getElementById('copy-link').getAttribute('aria-disabled')"
    first = written(browser, page, prompt="The", seed=3, max_tokens=20)
    assert browser.evaluate("location.hash") == "#prompt=The&seed=3&max_tokens=20"
    assert browser.evaluate(off) == "false"
    click(browser, "more")
    browser.until(HAS_RUN + f" && {TEXT}.length > {len(first)}")
    longer = browser.evaluate(TEXT)
    assert (browser.evaluate("location.hash"), browser.evaluate(off)) == ("", "true")
    browser.open("about:blank")
    browser.open(page)
    browser.until(IS_READY)
    assert browser.evaluate(TEXT) == longer
    browser.check_faults()


def test_the_page_asks_before_it_loses_a_text_that_it_may_not_keep(browser: Browser, page: str) -> None:
    asks = "!dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    open_empty(browser, page)
    browser.evaluate("(() => { Storage.prototype.setItem = () => { throw new Error('refused'); }; })()")
    found = [browser.evaluate(asks)]
    for text in ("mine", ""):
        type_text(browser, text)
        found.append(browser.evaluate(asks))
    assert found == [False, True, False]
    written(browser, page, prompt="The", seed=3, max_tokens=10)
    assert not browser.evaluate(asks)  # the address holds it


REFUSES_TO_COPY = """(() => {
  Object.defineProperty(navigator, "clipboard", { value: undefined, configurable: true });
  document.execCommand = () => false;
})()"""
STATUS = "document.getElementById('status').textContent"
FOCUSED = "document.activeElement.id"


def test_a_copy_that_the_browser_refuses_is_told(browser: Browser, page: str) -> None:
    open_empty(browser, page)
    type_text(browser, "mine")
    browser.evaluate(REFUSES_TO_COPY)
    browser.evaluate("document.getElementById('copy-text').focus()")
    click(browser, "copy-text")
    browser.until(f"{STATUS} !== ''")
    assert browser.evaluate(STATUS).startswith("Could not copy")
    assert browser.evaluate(FOCUSED) == "copy-text"
    assert browser.evaluate("document.querySelectorAll('textarea').length") == 0


def open_alternatives(browser: Browser, at: int) -> None:
    browser.evaluate("document.getElementById('text').focus()")
    browser.evaluate(f"getSelection().collapse(document.getElementById('text').firstChild, {at})")
    browser.until("!document.getElementById('panel').hidden")


def test_no_button_loses_the_focus_to_nothing(browser: Browser, tokenizer: Tokenizer, tmp_path: Path) -> None:
    address = model_of_pieces(tmp_path, tokenizer, "ending", end=2.0)
    text = written(browser, address, prompt="The", seed=4, temperature=1, min_p=0, max_tokens=8)
    for name in ("more", "undo", "redo"):
        browser.evaluate(f"document.getElementById('{name}').focus()")
        for _ in range(5):
            click(browser, name)
            browser.until("document.getElementById('write').dataset.word !== 'stop'")
        assert browser.evaluate(FOCUSED) == name
    while browser.evaluate(TEXT) != text:
        click(browser, "undo")
    open_alternatives(browser, 3)
    browser.evaluate("document.getElementById('close-panel').focus()")
    click(browser, "close-panel")
    browser.evaluate("new Promise((done) => setTimeout(() => done(true), 200))")
    assert browser.evaluate("document.getElementById('panel').hidden")
    assert browser.evaluate(FOCUSED) == "text"
    browser.evaluate("getSelection().collapse(document.getElementById('text').firstChild, 0)")
    open_alternatives(browser, 3)
    end = "[...document.querySelectorAll('#alternatives button')].find((it) => it.textContent.startsWith('end of'))"
    browser.evaluate(f"{end}.focus()")
    browser.evaluate(f"{end}.click()")
    assert browser.evaluate(TEXT) == "The"
    assert browser.evaluate(FOCUSED) == "text"
    browser.check_faults()


def test_undo_shows_the_settings_of_the_text(browser: Browser, page: str) -> None:
    shown = "document.getElementById('temperature-number').value"
    first = written(browser, page, prompt="The", seed=3, temperature=0.7, max_tokens=10)
    browser.evaluate(
        f"({shown} = '1.5', document.getElementById('temperature-number').dispatchEvent(new Event('change')))"
    )
    click(browser, "write")
    browser.until(f"{HAS_RUN} && location.hash.includes('temperature=1.5')")
    found = []
    for name in ("undo", "redo", "undo"):
        click(browser, name)
        found.append((browser.evaluate(shown), browser.evaluate("location.hash.match(/temperature=([0-9.]+)/)[1]")))
    assert found == [("0.7", "0.7"), ("1.5", "1.5"), ("0.7", "0.7")]
    assert browser.evaluate(TEXT) == first


def test_the_keys_that_write_take_the_number_that_is_being_typed(browser: Browser, page: str) -> None:
    open_empty(browser, page)
    browser.evaluate("(() => { document.getElementById('settings').open = true; })()")
    browser.evaluate("document.getElementById('max_tokens-number').select()")
    browser.type("7")
    browser.press("Control+Enter")
    browser.until("location.hash")  # there is none while a text is written
    assert browser.evaluate("new URLSearchParams(location.hash.slice(1)).get('max_tokens')") == "7"
    assert browser.evaluate("document.getElementById('max_tokens-range').value") == "7"
    browser.check_faults()


@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_is_wider_than_the_window(browser: Browser, page: str, width: int) -> None:
    browser.resize(width, 740)
    written(browser, page, prompt="The", seed=3, max_tokens=30)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_speaks_chinese(browser: Browser, page: str) -> None:
    written(browser, page, prompt="The", seed=3, max_tokens=5)
    click(browser, "language")
    assert browser.evaluate("document.documentElement.lang") == "zh-CN"
    assert browser.evaluate("document.getElementById('write').textContent") == "再写一版"
    assert browser.evaluate("document.getElementById('facts').textContent.includes('个参数，')")
    browser.open("about:blank")
    browser.open(page)
    browser.until(IS_READY)
    assert browser.evaluate("document.documentElement.lang") == "zh-CN"
    browser.evaluate("(() => { localStorage['textgen language'] = 'x'; })()")  # damaged
    browser.open("about:blank")
    browser.open(page)
    browser.until(IS_READY)
    assert browser.evaluate("document.documentElement.lang") == "en"
    written(browser, page, prompt="The", seed=3, max_tokens=5)
    click(browser, "language")
    click(browser, "language")
    assert browser.evaluate("document.getElementById('write').textContent") == "Another"


def model_of_pieces(folder: Path, tokenizer: Tokenizer, name: str, **biases: float) -> str:
    """The address of the page of a model that likes or avoids pieces."""
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=8, hidden_units=8)
    weights = random_weights(config)
    weights["head/bias"][NEWLINE + 1 : FIRST_LEARNED] = -30.0  # bytes: of odd characters a browser looks for the fonts
    for piece, bias in biases.items():
        weights["head/bias"][{"newline": NEWLINE, "end": tokenizer.eos_id}[piece]] = bias
    save_model(folder / name, weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    export_html(load_model(str(folder / name)), folder / f"{name}.html")
    return (folder / f"{name}.html").as_uri()


HEARD = """new Promise((done) => {
  let times = 0;
  const count = () => ++times === 8 && (watcher.disconnect(), done(true));
  const watcher = new MutationObserver(count);
  watcher.observe(document.getElementById("text"), { subtree: true, characterData: true });
})"""  # eight times from the model: long texts are slow where the processor is busy
SELECTION = "(({ anchorOffset, focusOffset }) => [anchorOffset, focusOffset])(getSelection())"


def test_a_selection_stays_while_the_model_writes(browser: Browser, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Also where what has come so far ends in a line break."""
    begin_long_text(
        browser, model_of_pieces(tmp_path, tokenizer, "lines", newline=4.0, end=-30.0), temperature=1, min_p=0
    )
    browser.evaluate("document.getElementById('text').focus()")
    node = "document.getElementById('text').firstChild"
    browser.evaluate(f"getSelection().setBaseAndExtent({node}, 5, {node}, 9)")
    browser.evaluate(HEARD)
    assert browser.evaluate("document.getElementById('write').dataset.word") == "stop"  # it still writes
    assert browser.evaluate(SELECTION) == [5, 9]
    click(browser, "write")
    assert browser.evaluate(f"{TEXT}.split('\\n').length") > 20
    browser.check_faults()


def test_where_the_system_forces_its_colours_those_that_tell_something_stay(browser: Browser, page: str) -> None:
    if not isinstance(browser, Chromium):
        pytest.skip("only Chromium can be told to force colours")
    written(browser, page, prompt="The", seed=3, max_tokens=30)
    browser.evaluate("document.getElementById('text').focus()")
    browser.evaluate("getSelection().collapse(document.getElementById('text').firstChild, 6)")
    browser.until("!document.getElementById('panel').hidden")
    for scheme in ("light", "dark"):
        browser.force_colours(scheme)
        found = browser.colours("document.getElementById('text')")
        assert browser.colour("Highlight") not in found  # nothing is selected
        assert {browser.colour("Canvas"), browser.colour("CanvasText")} <= found
        assert browser.colour("var(--share)") in browser.colours("document.getElementById('alternatives')")
    browser.prefer("light")


# How many pixels the end of the text is above the bar, which covers it if that is negative.
ABOVE_THE_BAR = """(() => {
  const node = document.getElementById("text").firstChild;
  const range = document.createRange();
  range.setStart(node, node.length - 1);
  range.setEnd(node, node.length);
  return document.querySelector(".bar").getBoundingClientRect().top - range.getBoundingClientRect().bottom;
})()"""
# Notes in `seen` where the end of the text is after each piece that comes, and scrolls up after the second if asked to.
WATCHED = """((scrollsUp) => {
  window.seen = [];
  window.watcher?.disconnect();
  window.watcher = new MutationObserver(() => {
    seen.push(ABOVE_THE_BAR);
    if (scrollsUp && seen.length === 2) window.place = (scrollBy(0, -150), scrollY);
  });
  watcher.observe(document.getElementById("text"), { subtree: true, childList: true, characterData: true });
})""".replace("ABOVE_THE_BAR", ABOVE_THE_BAR)


@pytest.mark.parametrize(("width", "height"), [(1280, 700), (375, 667)])
def test_the_page_follows_what_the_model_writes(
    browser: Browser, tokenizer: Tokenizer, tmp_path: Path, width: int, height: int
) -> None:
    """But nobody who reads something else."""
    browser.resize(width, height)
    open_empty(browser, model_of_pieces(tmp_path, tokenizer, "lines", newline=2.0, end=-30.0))
    asked = urlencode({"prompt": "The", "seed": 5, "max_tokens": 2000, "temperature": 1, "min_p": 0})
    browser.evaluate(f"{WATCHED}(false)")
    browser.evaluate(f"(() => {{ location.hash = {json.dumps(asked)}; }})()")
    browser.until(HAS_RUN)
    seen = browser.evaluate("seen")
    assert len(seen) >= 3, seen
    assert min(seen) >= 0, seen
    assert seen[-1] < height / 2
    assert browser.evaluate("scrollY") > height
    tokens = "document.getElementById('max_tokens-number')"
    browser.evaluate(f"({tokens}.value = 2000, {tokens}.dispatchEvent(new Event('change')))")
    browser.evaluate(f"{WATCHED}(true)")
    click(browser, "more")
    browser.until(f"{HAS_RUN} && seen.length > 2")
    assert browser.evaluate("scrollY === place && place > 0")
    browser.evaluate(f"{WATCHED}(false)")
    click(browser, "more")  # shown, since it was asked for
    browser.until(f"{HAS_RUN} && seen.length > 2")
    assert min(browser.evaluate("seen")) >= 0
    browser.check_faults()


@pytest.mark.slow
def test_the_heap_does_not_grow(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """That of the page and that of its Worker, from text to text, once there are tokens that the page forgets."""
    address = model_of_pieces(tmp_path, tokenizer, "endless", end=-30.0)  # so that texts are long
    with opened("chromium") as browser:
        browser.open(address)
        browser.until(IS_READY)
        heaps = []
        for seed in range(36):
            write_another(browser, seed, 1000)
            is_disabled = browser.evaluate("document.getElementById('more').getAttribute('aria-disabled')")
            assert is_disabled == "false"  # the text has not ended
            heaps.append(browser.heaps())
        assert len(heaps[0]) == 2  # the page and its Worker
        for first, last in zip(heaps[12], heaps[-1], strict=True):
            assert last - first < 2_000_000, heaps
        browser.check_faults()
