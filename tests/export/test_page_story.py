"""The logic of the page in Node: its text with undo, its links, its command line, and its Worker."""

from __future__ import annotations

import base64
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from javascript import PASTED, in_node, needs_node, words_in_shell
from networks import random_weights
from pages import HOSTILE, hostile_model

from textgen.corpus.config import CorpusConfig
from textgen.export.packing import engine_script, joined, packed_model
from textgen.html_page import asset
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

pytestmark = needs_node
TOKEN = "const token = (text, own = text) => ({ text, own, probability: 0.5, top: [] });"
RUN = 'const run = (prompt) => ({ prompt, seed: "7", label: null, settings: {} });'


def in_story(code: str, given: Any, folder: Path) -> Any:
    return in_node(f"{TOKEN} {RUN} {code}", given, folder, before=joined(["story"]))


WALK = """
let state = 12345;
const random = (below) => { state = (state * 1103515245 + 12345) % 2147483648; return state % below; };
const story = new Story();
const wrong = [];
const texts = [""], undone = [];
const check = (where) => {
  if (story.text !== texts.at(-1)) wrong.push([where, story.text, texts.at(-1)]);
  let end = 0;
  for (const each of story.tokens) {
    const isInside = each.start >= end && each.end <= story.text.length;
    if (!isInside || story.tokenAt(each.start) !== each) wrong.push([where, each]);
    if (story.text.slice(each.start, each.end) !== each.own) wrong.push([where, each.own, story.text]);
    end = each.end;
  }
  for (const mark of story.marks) if (mark.end > story.text.length || mark.start >= mark.end) wrong.push([where, mark]);
};
for (let number = 0; number < 3000; number++) {
  const kind = random(5);
  if (kind === 0) {
    const at = random(story.text.length + 1), removed = random(Math.min(4, story.text.length - at + 1));
    const added = "\\nabc".slice(0, 1 + random(4)); // with a newline: a step of its own
    story.edit(at, removed, added);
    texts.push(texts.at(-1).slice(0, at) + added + texts.at(-1).slice(at + removed)), undone.length = 0;
  } else if (kind === 1) {
    story.begin(run(story.text));
    for (const word of ["x", "", "yy"].slice(0, random(4))) story.append(token(word));
    texts.push(story.text), undone.length = 0;
    if (!story.text.startsWith(texts.at(-2))) wrong.push("prompt");
  } else if (kind === 2 && texts.length > 1) {
    story.undo(), undone.push(texts.pop());
  } else if (kind === 3 && undone.length) {
    story.redo(), texts.push(undone.pop());
  } else if (kind === 4 && story.tokens.length) {
    const place = story.tokens[random(story.tokens.length)];
    story.choose(place, { text: "zz", probability: 0.1, isEnd: false });
    texts.push(texts.at(-1).slice(0, place.start) + "zz"), undone.length = 0;
  }
  while (texts.length > 101) texts.shift(); // as many steps as are kept
  check(number + " " + kind);
}
return { wrong: wrong.slice(0, 3), length: story.text.length };
"""


def test_undo_comes_back_to_every_text(tmp_path: Path) -> None:
    """Typing, writing, choosing, undoing and redoing, at random; each token stays at its place in the text."""
    found = in_story(WALK, None, tmp_path)
    assert found["wrong"] == []


def test_what_is_typed_at_once_is_one_step(tmp_path: Path) -> None:
    code = """
    const story = new Story();
    for (const [at, letter] of [..."ab c"].entries()) story.edit(at, 0, letter);
    story.edit(4, 0, "\\n");
    story.edit(0, 0, "x");
    const found = [story.text];
    while (story.canUndo) { story.undo(); found.push(story.text); }
    while (story.canRedo) { story.redo(); found.push(story.text); }
    return found;
    """
    steps = ["", "ab c", "ab c\n", "xab c\n"]
    assert in_story(code, None, tmp_path) == [*steps[::-1], *steps[1:]]


EDITED = """
let state = 12345;
const random = (below) => { state = (state * 1103515245 + 12345) % 2147483648; return (state >> 8) % below; };
const wrong = [];
for (let round = 0; round < 300; round++) {
  const story = new Story();
  const needed = new Set(); // texts of which something was deleted
  let wasDeleted = false;
  let at = 0; // of the cursor, which moves rarely, so that steps go on
  for (let number = 0; number < 60; number++) {
    const length = story.text.length;
    if (random(6) === 0) at = random(length + 1);
    const kind = random(5);
    const removed = [0, 0, Math.min(at, 1), Math.min(at, 1 + random(9)), Math.min(at, random(9))][kind];
    const added = [0, 1, 4].includes(kind) ? "abcde fgh".slice(0, 1 + random(4)) : "";
    if (!removed && !added) continue;
    if (removed && (!wasDeleted || removed > 1 || added)) needed.add(story.text);
    wasDeleted = removed > 0;
    at -= removed;
    story.edit(at, removed, added);
    at += added.length;
  }
  const last = story.text;
  const seen = new Set([last]);
  while (story.canUndo) { story.undo(); seen.add(story.text); }
  if (story.text !== "") wrong.push([round, "beginning", story.text]);
  for (const text of needed) if (!seen.has(text)) wrong.push([round, "lost", text]);
  while (story.canRedo) story.redo();
  if (story.text !== last) wrong.push([round, "end", story.text, last]);
}
return wrong;
"""


def test_undo_brings_back_every_text_of_which_something_was_deleted(tmp_path: Path) -> None:
    """By edits at random, without line breaks: those that go on with a step where they may."""
    assert in_story(EDITED, None, tmp_path) == []


STEPS = {  # edits -> the texts to which undo leads back
    "typed over": ([(0, 0, "A pasted text"), (0, 13, "x"), (1, 0, "y")], ["xy", "A pasted text", ""]),
    "deleted at once": ([(0, 0, "A pasted text"), (0, 13, "")], ["", "A pasted text", ""]),
    "Backspace held": (
        [(0, 0, "ab"), (2, 0, "c😀"), (3, 2, ""), (2, 1, ""), (1, 1, ""), (1, 0, "x")], ["ax", "a", "abc😀", ""],
    ),
    "Delete held": ([(0, 0, "abcd"), (1, 1, ""), (1, 1, ""), (1, 1, "")], ["a", "abcd", ""]),
    "words deleted one by one": ([(0, 0, "one two"), (3, 4, ""), (0, 3, "")], ["", "one", "one two", ""]),
    "a correction": ([(0, 0, "catt"), (3, 1, ""), (3, 0, "s")], ["cats", "cat", "catt", ""]),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_what_was_deleted_or_typed_over_comes_back(name: str, tmp_path: Path) -> None:
    code = """
    const story = new Story();
    for (const edit of given) story.edit(...edit);
    const found = [story.text];
    while (story.canUndo) { story.undo(); found.push(story.text); }
    while (story.canRedo) story.redo();
    return [found, story.text];
    """
    edits, texts = STEPS[name]
    assert in_story(code, edits, tmp_path) == [texts, texts[0]]


def test_a_prompt_of_another_text_is_nothing_that_the_model_wrote(tmp_path: Path) -> None:
    code = """
    const story = new Story();
    story.begin(run("The"));
    for (const word of [" cat", " sat"]) story.append(token(word));
    story.begin(run("The cat"));
    const kept = [story.text, story.tokens.length, story.marks];
    story.begin(run("A longer prompt"));
    const other = [story.text, story.tokens.length, story.marks, story.tokenAt(4)];
    story.undo();
    return [kept, other, [story.text, story.tokens.length, story.marks]];
    """
    kept, other, again = in_story(code, None, tmp_path)
    assert kept == again == ["The cat", 1, [{"start": 3, "end": 7}]]
    assert other == ["A longer prompt", 0, [], None]


def test_a_text_that_was_kept_is_the_first_one(tmp_path: Path) -> None:
    """With what the model wrote of it, as far as that can be."""
    code = """
    const story = new Story();
    story.recall("The cat", [{ start: 3, end: 7, more: 1 }, { start: 5, end: 8 }, { start: 2, end: 2 }]);
    const found = [story.text, story.marks, story.canUndo];
    story.edit(7, 0, "s");
    story.undo();
    return [...found, story.text];
    """
    assert in_story(code, None, tmp_path) == ["The cat", [{"start": 3, "end": 7}], False, "The cat"]


def test_the_button_of_the_other_language_is_in_it(tmp_path: Path) -> None:
    code = """
    const [root, button] = [{}, {}];
    globalThis.document = { documentElement: root, getElementById: () => button, querySelectorAll: () => [] };
    return ["en", "zh"].map((each) => { speak(each); return [root.lang, button.lang, say("language")]; });
    """
    found = in_node(code, None, tmp_path, before=joined(["words"]))
    assert found == [["en", "zh-CN", "中文"], ["zh-CN", "en", "English"]]


def test_old_steps_let_go_of_probabilities_and_keep_their_texts(tmp_path: Path) -> None:
    """Else a hundred long texts that can be undone to would hold the alternatives of each of their tokens."""
    code = """
    const story = new Story();
    const held = [];
    for (let number = 0; number < 60; number++) {
      story.begin(run("a"));
      for (let count = 0; count < 1000; count++) story.append(token(String(number % 10)));
      held.push(new Set([...story.past, story].flatMap((step) => step.tokens)).size);
    }
    const found = [];
    const tokens = [];
    while (story.canUndo) { story.undo(); found.push(story.text.slice(0, 2)); tokens.push(story.tokens.length); }
    return { held, found, tokens };
    """
    found = in_story(code, None, tmp_path)
    assert found["held"][-1] == found["held"][20] < 13_000
    assert found["found"] == [f"a{number % 10}" for number in range(58, -1, -1)] + [""]
    assert found["tokens"][:10] == [1000] * 10
    assert found["tokens"][12:] == [0] * 48


def test_a_token_that_comes_in_parts_is_one_place(tmp_path: Path) -> None:
    """The first bytes of a character add nothing to the text.

    What could have come in its place is what could have come in that of the first; it is as likely as all of them.
    """
    code = """
    const story = new Story();
    story.begin(run("a"));
    const parts = [["", "<E6>", 0.5], ["", "<9C>", 0.25], ["月", "<88>", 0.5], ["b", "b", 0.75]];
    for (const [text, own, probability] of parts) story.append({ ...token(text, own), probability });
    const tokens = story.tokens.map(({ start, end, own, probability }) => [start, end, own, probability]);
    return [story.text, story.run.written, tokens, story.marks];
    """
    expected = ["a月b", 4, [[1, 2, "<E6>", 0.0625], [2, 3, "b", 0.75]], [{"start": 1, "end": 3}]]
    assert in_story(code, None, tmp_path) == expected


def test_an_alternative_at_the_start_of_a_line_has_no_space_that_the_token_lost(tmp_path: Path) -> None:
    code = """
    const story = new Story();
    story.begin(run(""));
    story.append(token("the", " the"));
    story.append(token(" cat"));
    const found = [];
    for (const place of [1, 0]) {
      story.choose(story.tokens[place], { text: " dog", probability: 0.1, isEnd: false });
      found.push(story.text, story.run);
      story.undo();
    }
    story.choose(story.tokens[1], { text: "", probability: 0.1, isEnd: true });
    return [...found, story.text];
    """
    assert in_story(code, None, tmp_path) == ["the dog", None, "dog", None, "the"]


EDITS = (
    ("", "a", 1, [0, 0, "a"]),
    ("aa", "aaa", 1, [0, 0, "a"]),
    ("aa", "aaa", 2, [1, 0, "a"]),
    ("aaa", "aa", 1, [1, 1, ""]),
    ("abc", "axc", 2, [1, 1, "x"]),
    ("abc", "", 0, [0, 3, ""]),
    ("😀😃", "😀", 2, [2, 2, ""]),
    ("abab", "ab", 2, [2, 2, ""]),
)


def test_where_an_edit_was(tmp_path: Path) -> None:
    code = """
    return given.map((texts) => { const { at, removed, added } = difference(...texts); return [at, removed, added]; });
    """
    found = in_story(code, [edit[:3] for edit in EDITS], tmp_path)
    assert found == [edit[3] for edit in EDITS]


PROMPTS = ("", "The cat", "a&b=c#d+e%20f", 'it\'s $HOME `x` "y" \\', "two\nlines", "-x", "月光 😀", *HOSTILE)


def test_a_link_says_everything_and_damaged_ones_nothing(tmp_path: Path) -> None:
    code = """
    const known = {
      temperature: { low: 0, high: 2, step: 0.05, usual: 0.8 }, top_k: { low: 0, high: 9, step: 1, usual: 0 },
    };
    const usual = { temperature: 0.8, top_k: 0 };
    const { prompts, odd } = given;
    const back = prompts.map((prompt, number) => {
      const label = number % 2 ? prompt : null;
      const asked = { prompt, seed: "9223372036854775807", label, settings: { ...usual, top_k: 3 } };
      return JSON.stringify(readLink(linkOf(asked, usual), known)) === JSON.stringify(asked);
    });
    const link = linkOf({ prompt: "a b", seed: "7", label: null, settings: usual }, usual);
    return [back, link, odd.map((hash) => readLink(hash, known))];
    """
    odd = {
        "": None,
        "#": None,
        "#prompt=a": None,
        "#prompt=a&seed=-1": None,
        "#prompt=a&seed=9223372036854775808": None,
        "#prompt=a&seed=1e3": None,
        "#seed=7&temperature=9&top_k=1.5": {},
        "#seed=7&temperature=&top_k=x&evil=1": {},
        "#seed=007&temperature=0": {"temperature": 0},
    }
    back, link, found = in_story(code, {"prompts": PROMPTS, "odd": list(odd)}, tmp_path)
    assert back == [True] * len(PROMPTS)
    assert link == "#prompt=a+b&seed=7"
    for (hash_, settings), each in zip(odd.items(), found, strict=True):
        usual = {"temperature": 0.8, "top_k": 0}
        prompt = "a" if "prompt=a" in hash_ else ""
        expected = {"prompt": prompt, "seed": "7", "label": None, "settings": usual | (settings or {})}
        assert each == (None if settings is None else expected), hash_


def test_a_shell_reads_the_command_as_it_is_meant(tmp_path: Path) -> None:
    code = """
    const settings = { temperature: 0.5, top_k: 0 };
    const runOf = (text) => ({ prompt: text, seed: "7", label: text, settings });
    return given.map((text) => commandOf(text, runOf(text), { temperature: 0.8, top_k: 0 }));
    """
    for text, command in zip(PROMPTS, in_story(code, PROMPTS, tmp_path), strict=True):
        prompt = ["--prompt", text] if text else []
        expected = [
            "textgen",
            "sample",
            text,
            "--exact",
            *prompt,
            "--label",
            text,
            "--temperature",
            "0.5",
            "--seed",
            "7",
        ]
        assert shlex.split(command) == expected


def test_words_of_any_script_are_not_quoted(tmp_path: Path) -> None:
    """The shell of Windows would take single quotes for a part of them."""
    code = """
    const runOf = (text) => ({ prompt: text, seed: "7", label: text, settings: {} });
    return given.map((text) => commandOf(text, runOf(text), {}));
    """
    words = ["绝句", "हिन्दी", "Größe"]
    expected = [f"textgen sample {word} --exact --prompt {word} --label {word} --seed 7" for word in words]
    assert in_story(code, words, tmp_path) == expected


def test_a_command_can_be_pasted_whatever_is_in_its_texts(tmp_path: Path) -> None:
    code = """
    const runOf = (text) => ({ prompt: text, seed: "7", label: text, settings: {} });
    return given.map((text) => commandOf(text, runOf(text), {}));
    """
    for text, command in zip(PASTED, in_story(code, PASTED, tmp_path), strict=True):
        expected = ["textgen", "sample", text, "--exact", "--prompt", text, "--label", text, "--seed", "7"]
        assert words_in_shell(command) == expected
    assert in_story(code, ["a\0b"], tmp_path) == [""]


def test_a_prompt_that_the_command_line_reads_from_standard_input_has_no_command(tmp_path: Path) -> None:
    code = """
    const runOf = (prompt) => ({ prompt, seed: "7", label: null, settings: {} });
    return given.map((prompt) => commandOf("novel", runOf(prompt), {}));
    """
    none, dashes = in_story(code, ["-", "--"], tmp_path)
    assert none == ""
    assert shlex.split(dashes)[-4:] == ["--prompt", "--", "--seed", "7"]


# === The Worker ===

WORKER = """
const messages = [];
let heard = () => {};
globalThis.self = globalThis;
globalThis.postMessage = (message) => { messages.push({ ...message, at: performance.now() }); heard(); };
const until = async (condition) => { while (!condition()) await new Promise((resolve) => { heard = resolve; }); };
"""
USE = """
const ask = async (data) => { await self.onmessage({ data }); };
const textOf = (from) => messages.slice(from).flatMap(({ tokens }) => tokens).map(({ text }) => text).join("");
const usual = { kind: "write", prompt: "The", seed: "7", label: null, settings: {}, skip: 0, tokens: 40 };
const write = async (asked) => {
  const from = messages.length;
  await ask({ ...usual, number: from, ...asked });
  await until(() => messages.length > from && messages.at(-1).isLast);
  return textOf(from);
};
await ask({ kind: "load", model: given.model, wasm: true });
const done = await (async () => { %s })();
again.port1.close();
return done;
"""


ENDLESS = """
const real = writer;
writer = {
  tokenizer: real.tokenizer, written: 0,
  prepare() { this.written = 0; this.healedText = ""; },
  read() { return true; },
  next() {
    for (const end = performance.now() + 1; performance.now() < end; );
    this.written++;
    return { id: 5, text: "a", probability: 1, top: [], done: false };
  },
};
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> ModelFolder:
    return hostile_model(tmp_path_factory.mktemp("worker") / "hostile", tokenizer)


def in_worker(code: str, model: ModelFolder, folder: Path, **given: Any) -> Any:
    script = WORKER + engine_script() + asset("textgen.export", "onefile/worker.js") + joined(["story"])
    given["model"] = base64.b64encode(packed_model(model)).decode()
    return in_node(USE % code, given, folder, before=script)


def test_a_text_in_parts_is_the_text_at_once(model: ModelFolder, tmp_path: Path) -> None:
    """More, after a stop or after another text: the page says how much it has."""
    code = """
    const whole = await write({ tokens: 60 });
    const first = await write({ tokens: 25 });
    const rest = await write({ skip: 25, tokens: 35 });
    const other = await write({ seed: "8" });
    const late = await write({ skip: 25, tokens: 35 });
    return { whole, parts: first + rest, other, late, rest, ready: messages[0] };
    """
    found = in_worker(code, model, tmp_path)
    assert len(found["whole"]) > 20
    assert found["parts"] == found["whole"]
    assert found["late"] == found["rest"]
    assert found["other"] != found["whole"][: len(found["other"])]
    assert found["ready"]["card"]["labels"] == list(HOSTILE)
    assert found["ready"]["defaults"]["max_tokens"] == 500


def test_the_page_hears_at_most_twenty_times_a_second(model: ModelFolder, tmp_path: Path) -> None:
    code = """
    await write({ tokens: 400 });
    const times = messages.filter(({ kind }) => kind === "tokens").map(({ at }) => at);
    const counts = messages.slice(1).map(({ tokens }) => tokens.length);
    const gaps = times.slice(2, -1).map((at, number) => at - times[number + 1]);
    return { first: counts[0], shortest: Math.min(...gaps), messages: times.length };
    """
    found = in_worker(ENDLESS + code, model, tmp_path)
    assert found["first"] == 1
    assert found["messages"] > 3
    assert found["shortest"] >= 49


def test_a_stop_stops_and_a_failure_is_told(model: ModelFolder, tmp_path: Path) -> None:
    code = """
    await ask({ ...usual, number: 1, tokens: 1e9 });
    await until(() => messages.length > 3);
    await ask({ kind: "stop" });
    writer = real;
    const after = messages.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    const stopped = messages.length - after;
    await ask({ ...usual, number: 2, label: "no such label" });
    const { kind, message } = messages.at(-1);
    return { stopped, kind, message, next: await write({ number: 3, tokens: 10 }) };
    """
    found = in_worker(ENDLESS + code, model, tmp_path)
    assert found["stopped"] == 0
    assert found["kind"] == "failure"
    assert "no such label" in found["message"]
    assert found["next"]


def test_a_stop_stops_while_the_prompt_is_read(model: ModelFolder, tmp_path: Path) -> None:
    """What is read stays read; the text is the same, and so is another one."""
    code = """
    const [prompt, other] = ["The cat sat on the mat. ".repeat(200), "Another cat sat there and then"];
    const whole = [await write({ prompt, tokens: 30 }), await write({ prompt: other, tokens: 30 })];
    const read = writer.read;
    writer.read = function () { return read.call(this, () => true); }; // a slice of one token
    await ask({ ...usual, prompt, number: 100, tokens: 30 });
    const from = messages.length;
    const places = [];
    for (let time = 0; time < 3; time++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      await ask({ kind: "stop" });
      places.push(writer.reading.at);
      await new Promise((resolve) => setTimeout(resolve, 50));
      places.push(writer.reading.at);
      await ask({ ...usual, prompt, number: 101 + time, tokens: 30 });
    }
    await ask({ kind: "stop" });
    const told = messages.length - from;
    const again = [await write({ prompt, tokens: 30 })];
    await ask({ ...usual, prompt: prompt + prompt, number: 200, tokens: 30 });
    await new Promise((resolve) => setTimeout(resolve, 5));
    await ask({ kind: "stop" });
    again.push(await write({ prompt: other, tokens: 30 }));
    return { whole, places, told, again };
    """
    found = in_worker(code, model, tmp_path)
    assert found["told"] == 0
    before, after = found["places"][::2], found["places"][1::2]
    assert before == after
    assert 0 < before[0] < before[1] < before[2]
    assert found["again"] == found["whole"]
    assert all(found["whole"])


HEALED = """
const story = new Story();
const found = [];
for (const prompt of given.prompts) {
  for (let seed = 0; seed < 8; seed++) {
    const { healed } = writer.begin({ prompt, seed, top: 8 });
    const id = writer.next().id;
    const from = messages.length;
    await write({ prompt, seed, tokens: 1 });
    const [first] = messages[from].tokens;
    found.push({ prompt, healed, first, whole: writer.tokenizer.texts[id] });
    const taken = first.top.filter(({ text, isChosen }) => text && !isChosen);
    for (const alternative of taken) {
      story.begin({ prompt });
      story.append(first);
      story.choose(story.tokens[0], alternative);
      found.at(-1)[alternative.shown] = story.text;
    }
  }
}
return found;
"""


def test_another_token_in_the_place_of_a_healed_one_replaces_the_end_of_the_prompt_too(tmp_path: Path) -> None:
    """The prompt ends inside the first token, and any other token may come in its place."""
    tokenizer = train_tokenizer(
        ["Once upon a time a tiny titan timed it.\n中国中间中央国王\n" * 9], TokenizerConfig("bpe", 330)
    )
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=8, hidden_units=8)
    weights = random_weights(config)
    weights["head/bias"][4:260] = -9.0  # bytes
    save_model(tmp_path / "healing", weights, config, TokenizerConfig("bpe"), CorpusConfig(documents="line"), tokenizer)
    prompts = ["Once upon a ti", "Once upon a t", "a ", "中", "a 中"]
    found = in_worker(HEALED, load_model(str(tmp_path / "healing")), tmp_path, prompts=prompts)
    compared = 0
    for case in found:
        prompt, healed, first = case["prompt"], case["healed"], case["first"]
        assert prompt.endswith(healed)
        before = prompt.removesuffix(healed)
        assert prompt + first["text"] == prompt + first["own"] == before + case["whole"]
        assert first["healed"] == healed
        for each in first["top"]:
            if each["isEnd"]:
                continue
            assert (each["text"] is not None) == (each["shown"][:3] != "<0x"), (case, each)
            if each["text"] is not None:
                assert each["text"] == each["shown"]
                assert each["isChosen"] or case[each["shown"]] == before + each["shown"]
                compared += healed != "" and not each["shown"].startswith(healed)
    assert compared > 10


def test_a_prompt_that_was_changed_is_not_cut(tmp_path: Path) -> None:
    """Its end is then no longer what the token writes again."""
    code = """
    const first = { text: "ny", own: "ny", healed: "ti", probability: 0.5, top: [] };
    const found = [];
    for (const [at, removed, added] of given) {
      const story = new Story();
      story.begin(run("a ti"));
      story.append(first);
      story.edit(at, removed, added);
      story.choose(story.tokens[0], { text: "tall", probability: 0.1, isEnd: false });
      found.push(story.text);
    }
    return found;
    """
    assert in_story(code, [[0, 1, "the"], [2, 2, "cat "]], tmp_path) == ["the tall", "a cat tall"]


def test_base64_is_read_without_the_function_that_new_browsers_have(tmp_path: Path) -> None:
    code = """
    Uint8Array.fromBase64 = undefined;
    again.port1.close();
    return given.map((text) => [...fromBase64(text)]);
    """
    script = WORKER + engine_script() + asset("textgen.export", "onefile/worker.js")
    wanted = [os.urandom(length) for length in range(40)]
    given = [base64.b64encode(data).decode() for data in wanted]
    assert in_node(code, given, tmp_path, before=script) == [list(data) for data in wanted]


def test_an_end_in_the_place_of_a_healed_token_leaves_the_prompt_whole(tmp_path: Path) -> None:
    code = """
    const story = new Story();
    story.begin(run("a ti"));
    story.append({ ...token("ny"), healed: "ti" });
    story.append(token(" cat"));
    story.choose(story.tokens[0], { text: "", probability: 0.1, isEnd: true });
    return [story.text, story.marks, story.tokens.length];
    """
    assert in_story(code, None, tmp_path) == ["a ti", [], 0]


MARKED: tuple[tuple[list[Any], list[list[int]]], ...] = (
    ([3, 0, "xy"], [[0, 3], [5, 8]]),
    ([2, 2, "x"], [[0, 2], [3, 5]]),
    ([0, 2, "x"], [[1, 5]]),
    ([4, 2, "x"], [[0, 4]]),
    ([0, 6, "x"], []),
)


def test_what_is_typed_is_not_marked_as_written_by_the_model(tmp_path: Path) -> None:
    code = """
    return given.map((edit) => {
      const story = new Story();
      story.begin(run(""));
      story.append(token("abcdef"));
      story.edit(...edit);
      return story.marks.map(({ start, end }) => [start, end]);
    });
    """
    assert in_story(code, [edit for edit, _ in MARKED], tmp_path) == [marks for _, marks in MARKED]
