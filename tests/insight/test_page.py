"""The page: complete in itself, with words in both languages, and safe whatever the text holds."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import ENGINES, Browser, axe_source, opened
from javascript import in_node, needs_node
from networks import planted, quoted_text, random_weights
from servers import python_with

from textgen.corpus.config import CorpusConfig
from textgen.html_page import asset, joined_modules
from textgen.insight import report as report_module
from textgen.insight.config import InspectConfig
from textgen.insight.inspection import Inspection, cell_names, inspect_model
from textgen.insight.lesson import lesson
from textgen.insight.memory import ContextLoss
from textgen.insight.page import MODULES, filled, page, page_script
from textgen.insight.properties import CHINESE, RULES, Backward
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer

HOSTILE = "</script><script>alert(1)</script>{{data}}<!--\u2028\"'&amp; "


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    folder = tmp_path_factory.mktemp("models")
    config, weights, tokenizer = planted()
    save_model(folder / "planted", weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    text = quoted_text(700, seed=1) + HOSTILE + quoted_text(300, seed=2)
    return inspect_model(load_model("planted", folder), [text], InspectConfig(max_tokens=900, cell=("L0/2",)))


class Scripts(HTMLParser):
    """The elements of a page, and the contents of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.closed = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.closed = False

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and not self.closed:
            self.raw.append((*self.tags[-1], data))

    def handle_endtag(self, tag: str) -> None:
        self.closed = True


def parsed(html: str) -> Scripts:
    parser = Scripts()
    parser.feed(html)
    return parser


def test_the_page_allows_its_own_script_and_style_and_nothing_else(inspection: Inspection) -> None:
    found = parsed(page(inspection, with_lesson=True).decode())
    policy = next(str(attributes["content"]) for tag, attributes in found.tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag, attributes, text in found.raw:
        if attributes.get("type") != "application/json":
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
    assert [tag for tag, _ in found.tags].count("script") == 3
    assert not any({"src", "style", "onclick"} & attributes.keys() for _, attributes in found.tags)


def test_nothing_in_the_page_asks_the_network(inspection: Inspection) -> None:
    assets = page_script() + "".join(asset("textgen.insight", f"page/{name}") for name in ("page.html", "page.css"))
    for way in ("fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon", "EventSource", "import(", "@import", "url(http"):
        assert way not in assets
    addresses = re.findall(r"(?:https?:)?//[a-z][\w.]*\.\w+[^\s\"']*", assets)
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}  # a name, which nothing loads
    assert "innerHTML" not in assets


def test_a_hostile_text_stays_text(inspection: Inspection) -> None:
    found = parsed(page(inspection).decode())
    (data,) = [json.loads(text) for _, attributes, text in found.raw if attributes.get("id") == "data"]
    assert HOSTILE in "".join(data["tokens"]["text"])
    assert [tag for tag, _ in found.tags].count("script") == 3


def test_a_title_is_escaped() -> None:
    assert "<title>&lt;b&gt;</title>" in filled({}, "<b>")


def test_a_page_shows_a_name_that_is_no_text_in_utf_8(inspection: Inspection) -> None:
    saved = inspection.saved
    training = {**saved.training, "start": {"name": "th\udce9"}}
    saved = replace(saved, folder=saved.folder.with_name("caf\udce9"), training=training)
    found = parsed(page(replace(inspection, saved=saved), with_lesson=True).decode())
    (data,) = [json.loads(text) for _, attributes, text in found.raw if attributes.get("id") == "data"]
    assert (data["model"]["name"], data["gradient"]["started_from"]) == ("caf\\xe9", "th\\xe9")


def test_the_page_holds_what_was_computed(inspection: Inspection) -> None:
    found = parsed(page(inspection, with_lesson=True).decode())
    (data,) = [json.loads(text) for _, attributes, text in found.raw if attributes.get("id") == "data"]
    states = np.frombuffer(base64.b64decode(data["states"]["values"]), np.int8).reshape(-1, data["text"]["tokens"])
    c = inspection.reading.layers[0]["c"][0]
    np.testing.assert_allclose(states.T / 127, np.tanh(c), atol=0.005)
    (shown,) = [cell for cell in data["shown"] if (cell["layer"], cell["unit"]) == (0, 2)]
    for name, values in shown["values"].items():
        series = np.frombuffer(base64.b64decode(values["values"]), "<i2") * values["scale"]
        np.testing.assert_allclose(series, inspection.reading.layers[0][name][0, :, 2], atol=1e-3)
    assert data["tokens"]["surprisal"][0] is None
    assert data["lesson"]["kept"]["cell"][0] == 1


def test_a_page_of_short_labelled_texts(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer(["a", "b"])
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
    save_model(tmp_path / "labelled", random_weights(shape), shape, TokenizerConfig("byte"), CorpusConfig(), tokenizer)
    saved = load_model("labelled", tmp_path)
    for length in (21, 26, 32):
        seen = inspect_model(saved, ["abc def abc def abc def abc def abc def"[:length], "abc def abc"], label="a")
        assert page(seen, with_lesson=True)


def test_what_was_measured_nowhere_is_null(inspection: Inspection) -> None:
    context = ContextLoss(
        lengths=[1, 2],
        dropped=[math.nan, 1.0],
        dropped_error=[math.nan, 0.25],
        num_shuffled=64,
        shuffled=[0.5, math.nan],
        difference_error=[0.012345, math.nan],
        places=[0, 96],
        full=math.nan,
        full_at=[math.nan, 2.5],
    )
    found = parsed(page(replace(inspection, context=context), with_lesson=True).decode())
    (data,) = [json.loads(text) for _, attributes, text in found.raw if attributes.get("id") == "data"]
    assert data["context"] == {
        "lengths": [1, 2],
        "dropped": [None, 1.0],
        "dropped_error": [None, 0.25],
        "num_shuffled": 64,
        "shuffled": [0.5, None],
        "difference_error": [0.0123, None],
        "places": [0, 96],
        "full": None,
        "full_at": [None, 2.5],
    }


def test_a_page_keeps_the_cells_that_matter_and_as_many_others_as_fit(
    inspection: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "MAX_STATES", 20 * len(inspection.text.ids))
    states = report_module.drawn(inspection)["states"]
    kept = states["cells"]
    assert (len(kept), states["total"]) == (20, inspection.reader.config.hidden_units)
    assert {unit for _, unit in [*inspection.shown, *cell_names(inspection)]} <= set(kept)
    assert len(base64.b64decode(states["values"])) == 20 * len(inspection.text.ids)


# === A text that is read backward ===

DOCUMENTS = [f"{quoted_text(150, seed=number)}{number}" for number in (3, 4, 5)]


@pytest.fixture(scope="module")
def backward(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """Of three documents."""
    folder = tmp_path_factory.mktemp("backward")
    config, weights, tokenizer = planted()
    config = replace(config, direction="backward")
    save_model(folder / "back", weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    return inspect_model(load_model("back", folder), DOCUMENTS)


@needs_node
def test_a_text_that_is_read_backward_is_shown_forward_document_by_document(
    backward: Inspection, tmp_path: Path
) -> None:
    order = module("inspection").split("// === The order of the text ===")[1].replace("export ", "")
    data = report_module.report(backward) | report_module.drawn(backward)
    code = f"""
    const D = given, N = D.text.tokens;
    {order}
    return [textOf(0, N - 1), inTextOrder(0, N - 1), textOf(10, 14), textOf(N - 5, N - 1), textOf(3, 2)];
    """
    whole, tokens, near, last, nothing = in_node(code, data, tmp_path, before="")
    first, size = DOCUMENTS[0], data["documents"]["starts"][1]
    assert (data["documents"]["opening"], size) == (1, len(first) + 1)
    assert whole == "".join(DOCUMENTS)
    assert tokens[:3] == [0, size - 1, size - 2]
    assert tokens[size] == size  # what stands before the second document
    assert sorted(tokens) == list(range(data["text"]["tokens"]))
    assert near == first[len(first) - 14 : len(first) - 9]  # the token 1 is the last of the first document
    assert (last, nothing) == (DOCUMENTS[-1][:5], "")


CHARACTERS = "月光疑是地上霜。" * 4


def of_bytes(direction: str, folder: Path) -> Inspection:
    """Of a text whose characters are three tokens each."""
    config, tokenizer = ModelConfig(259, embedding_dim=6, hidden_units=8, direction=direction), ByteTokenizer()
    save_model(folder / "bytes", random_weights(config), config, TokenizerConfig("byte"), CorpusConfig(), tokenizer)
    return inspect_model(load_model("bytes", folder), [CHARACTERS])


@needs_node
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_of_a_character_that_is_not_complete_the_lesson_shows_the_bytes_that_were_read(
    direction: str, tmp_path: Path
) -> None:
    seen = of_bytes(direction, tmp_path)
    data = report_module.report(seen) | report_module.drawn(seen) | {"lesson": lesson(seen)}
    code = "return [1, 2, 3, 4, 5, 6, 7, 8, 9].map((last) => textRead(0, last));"
    read = CHARACTERS if direction == "forward" else CHARACTERS[::-1]  # by characters
    expected = []
    for number in range(1, 10):
        whole, rest = divmod(number, 3)
        names = [f"<0x{byte:02X}>" for byte in read[whole].encode()]
        expected.append(
            read[:whole] + "".join(names[:rest])
            if direction == "forward"
            else "".join(names[3 - rest :]) + read[:whole][::-1]
        )
    assert drawn_in_node(data, code, tmp_path) == expected
    step = next(t for t in range(9, 40) if not seen.text.pieces()[t] and not seen.text.pieces()[t + 1])
    data["lesson"]["step"] = step + 1
    code = "return lessonSection().textContent"
    byte = data["tokens"]["token"][step]
    said = f"{byte}What came was" if direction == "forward" else f"to every token that may come next:{byte}"
    assert said in drawn_in_node(data, code, tmp_path)


# === Words ===


@cache
def words() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asset("textgen.insight", "page/words.json"))
    return found


def module(name: str) -> str:
    return asset("textgen.insight", f"page/{name}.js")


def test_every_word_is_there_in_english_and_chinese_with_the_same_numbers_in_it() -> None:
    for key, (english, chinese) in words().items():
        assert english, key
        assert re.search("[\u4e00-\u9fff]", chinese) or key in ("comma",) or not re.search("[a-z]{4}", english), key
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), key


def test_the_script_and_the_words_know_each_other() -> None:
    named = set(re.findall(r'\b(?:say|paragraph|soft|section|block|question)\((?:"\w+", )?"([^"]+)"', page_script()))
    assert len(named) > 80
    assert named <= set(words())
    begins = ("property: ", "property backward: ", "missing: ", "held ", "written ", "note ", "untrained ")
    script = page_script()
    for key in words():
        assert f'"{key}"' in script or key.startswith(begins), key
    rules = RULES | CHINESE
    for name in rules:
        assert f"property: {name}" in words()
    mirrored = {f"property backward: {name}" for name, rule in rules.items() if rule.backward is Backward.MIRRORED}
    assert mirrored == {key for key in words() if key.startswith("property backward: ")}


def test_the_script_joins_all_modules_each_after_those_that_it_uses() -> None:
    script = page_script()
    assert script.startswith('"use strict";\n')
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
    assert "</script" not in script.lower()
    folder = Path(__file__).parents[2] / "textgen" / "insight" / "page"
    assert {f"{name}.js" for name in MODULES} == {path.name for path in folder.glob("*.js")}
    exported: dict[str, str] = {}  # name -> the module that exports it; names of all modules share one script
    for name in MODULES:
        for names, source in re.findall(r'^import {([^}]*)} from "\./(\w+)\.js";$', module(name), re.MULTILINE):
            imported = {each.strip() for each in names.split(",")} - {""}
            assert {exported.get(each) for each in imported} == {source}, (name, imported)
        own = re.findall(r"^export (?:function|const) (\w+)", module(name), re.MULTILINE)
        assert len(own) == module(name).count("\nexport ")
        assert not exported.keys() & set(own)
        exported |= dict.fromkeys(own, name)


def test_the_package_takes_the_page_along() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"insight/page/*"' in project


def spoken(asked: list[tuple[str, dict[str, Any]]], said: dict[str, list[str]], folder: Path, language: str) -> Any:
    """What the page says for keys of these words."""
    before = f'''
      globalThis.document = {{ getElementById: () => ({{ textContent: {json.dumps(json.dumps(said))} }}) }};
      Object.defineProperty(globalThis, "navigator", {{ value: {{ language: "{language}" }} }});
    ''' + re.sub("^export ", "", module("words"), flags=re.MULTILINE)
    return in_node("return given.map(([key, values]) => say(key, values));", asked, folder, before=before)


@needs_node
def test_no_space_parts_chinese_from_chinese_that_fills_it(tmp_path: Path) -> None:
    said = {
        "steps": ["{a}, {b} and {c} steps.", "分别是 {a}、{b} 和 {c}。"],
        "next": ["{a} {b}", "{a} {b} 步"],
        "name": ["the RNN {a} is", "未训练的 RNN {a} 是"],
    }
    late = "超过 32"
    expected: list[tuple[str, dict[str, Any], str]] = [
        ("steps", {"a": late, "b": 8, "c": late}, "分别是超过 32、8 和超过 32。"),
        ("steps", {"a": 1, "b": 2, "c": 3}, "分别是 1、2 和 3。"),
        ("next", {"a": late, "b": "月 光"}, "超过 32 月 光步"),
        ("next", {"a": "月 光", "b": "超过 32"}, "月 光超过 32 步"),
        ("name", {"a": late}, "未训练的 RNN 超过 32 是"),
        ("name", {"a": "月"}, "未训练的 RNN 月是"),
        ("next", {"a": "超过"}, "超过 {b} 步"),
        ("no key", {}, "no key"),
    ]
    asked = [(key, values) for key, values, _ in expected]
    assert spoken(asked, said, tmp_path, "zh-CN") == [text for *_, text in expected]
    assert spoken(asked[:1], said, tmp_path, "en") == ["超过 32, 8 and 超过 32 steps."]


# === Drawn in Node ===

ELEMENTS = """
class Element {
  constructor() { Object.assign(this, { style: {}, dataset: {}, children: [], clientWidth: 800 }); }
  setAttribute(name, value) { (this.attributes ??= {})[name] = value; }
  addEventListener() {}
  querySelector() { return null; }
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; }
  get classList() { return { add() {}, remove() {}, toggle() {} }; }
  get textContent() { return this.children.map((child) => child.textContent ?? child).join(""); }
}
globalThis.document = {
  documentElement: new Element(), createElement: () => new Element(), createElementNS: () => new Element(),
  getElementById: (id) => ({ textContent: JSON.stringify(PARTS[id]) }),
};
"""


def drawn_in_node(data: dict[str, Any], code: str, folder: Path, language: str = "en") -> Any:
    """What a script returns that runs after the modules of the page, with the data of a page."""
    parts = f"const PARTS = {json.dumps({'words': words(), 'data': data})};\n"
    navigator = f'Object.defineProperty(globalThis, "navigator", {{ value: {{ language: "{language}" }} }});\n'
    modules = joined_modules("textgen.insight", "page", [name for name in MODULES if name != "page"])
    return in_node(code, None, folder, before=parts + navigator + ELEMENTS + modules)


def sections(seen: Inspection, names: Sequence[str], folder: Path, language: str = "en") -> list[str]:
    """The text of sections of the page of an inspection."""
    data = report_module.report(seen) | report_module.drawn(seen) | {"lesson": lesson(seen)}
    code = f"return [{', '.join(f'{name}()' for name in names)}].map((section) => section.textContent);"
    found: list[str] = drawn_in_node(data, code, folder, language)
    return found


@needs_node
def test_both_sections_about_gradients_say_where_training_cut_them(inspection: Inspection, tmp_path: Path) -> None:
    record = {"training": {"sequence_length": 48}}
    known = replace(inspection, saved=replace(inspection.saved, training=record))
    names = ("gradientSection", "lessonSection")
    assert report_module.report(known)["gradient"]["window"] == 48
    for text in sections(known, names, tmp_path):
        assert "whose length was at most 48: at a lag of 48 or more it was not computed" in text
    for text in sections(known, names, tmp_path, language="zh-CN"):
        assert "窗口长度至多为 48 个词元" in text
    later = replace(inspection, saved=replace(inspection.saved, training=record | {"start": {"name": "novel"}}))
    assert report_module.report(later)["gradient"]["started_from"] == "novel"
    for text in sections(later, names, tmp_path):
        assert "In its last training, which started from novel, the gradient stopped" in text
        assert "In training the gradient stopped" not in text
    for text in sections(later, names, tmp_path, language="zh-CN"):
        assert "训练 novel 时所用的窗口可能更长" in text
    assert report_module.report(known)["gradient"]["started_from"] is None
    assert report_module.report(inspection)["gradient"]["window"] is None
    assert not [text for text in sections(inspection, names, tmp_path) if "In training the gradient stopped" in text]


@needs_node
def test_the_table_below_a_chart_has_the_values_that_are_drawn_at_its_lower_edge(
    inspection: Inspection, tmp_path: Path
) -> None:
    kept = [1.0, 1e-5, 1.25e-14, 0.0]
    data = report_module.report(inspection) | report_module.drawn(inspection) | {"lesson": lesson(inspection)}
    data["lesson"]["kept"] = dict.fromkeys(("gate", "cell", "median", "upper"), kept)
    code = """
    const all = (it) => [it, ...(it.children ?? []).flatMap(all)];
    const isCaption = (it) => /^Product of/.test(it.textContent);
    const figure = all(lessonSection()).find((it) => it.children?.some(isCaption));
    const points = all(figure).map((one) => one.attributes?.points).filter(Boolean);
    return [figure.textContent, points.map((line) => line.split(" ").map((point) => +point.split(",")[1]))];
    """
    text, lines = drawn_in_node(data, code, tmp_path)
    rows = [[str(step), *[value] * 3] for step, value in enumerate(("1", "10⁻⁵", "1.3·10⁻¹⁴", "0"))]
    assert "".join("".join(row) for row in rows) in text
    for top, upper, low, lowest in lines:  # of a cell, the median and the upper tenth
        assert top < upper < low == lowest


@needs_node
def test_no_option_and_no_text_is_promised_for_cells_that_cannot_be_clamped_while_a_model_writes(
    inspection: Inspection, backward: Inspection, tmp_path: Path
) -> None:
    for language, promise in (("en", "the commands write the same texts again"), ("zh-CN", "所附命令")):
        for seen, is_forward in ((inspection, True), (backward, False)):
            assert seen.interventions.cells
            (text,) = sections(seen, ["changesSection"], tmp_path, language)
            said = [part in text for part in (words()["to write so"][language != "en"], "--clamp L0/", promise)]
            assert said == [is_forward] * 3
            assert f"{seen.interventions.cells[0].low.number:.2f}".replace("-", "−") in text


@needs_node
@pytest.mark.parametrize("kind", [{}, {"cell": "gru"}, {"cell": "rnn", "activation": "relu"}], ids=str)
def test_a_memory_of_which_the_page_has_one_byte_is_said_to_be_approximate(
    kind: dict[str, Any], tmp_path: Path
) -> None:
    config, tokenizer = ModelConfig(259, embedding_dim=6, hidden_units=16, num_layers=1, **kind), ByteTokenizer()
    save_model(
        tmp_path / "m", random_weights(config, scale=0.3), config, TokenizerConfig("byte"), CorpusConfig(), tokenizer
    )
    seen = inspect_model(load_model("m", tmp_path), [quoted_text(200)])
    data = report_module.report(seen) | report_module.drawn(seen) | {"lesson": None}
    code = """
    const section = textSection(), known = new Set(SHOWN.map(indexOf));
    const line = (cell, token) => {
      choose({ colour: "cell", cell, token });
      return [cell, token, known.has(cell), section.textContent, roughMemory(cell, token)];
    };
    return D.states.cells.flatMap((cell) => [20, 41, 83].map((token) => line(cell, token)));
    """
    memory, told = seen.reader.memory, set()
    exact = r"c = (-?\d+\.\d{3}), tanh\(c\) = (-?\d+\.\d\d)" if memory == "c" else r"h = (-?\d+\.\d{3})"
    for cell, t, is_known, text, rough in drawn_in_node(data, code, tmp_path):
        value = float(seen.reading.layers[0][memory][0, t, cell])
        squashed = math.tanh(value) if memory == "c" else value
        line = text.split(f"L0/{cell} · ")[-1].replace("−", "-")
        if is_known:
            found = re.match(exact, line)
            assert found
            numbers = [float(each) for each in found.groups()]
            assert numbers[0] == pytest.approx(value, abs=2e-3)
            assert numbers[1:] == ([pytest.approx(squashed, abs=6e-3)] if memory == "c" else [])
        else:
            assert "=" not in line
            assert rough.replace("−", "-") in line
        if rough == "h ≥ 1":
            assert kind.get("activation") == "relu"
            assert value > 0.99
        else:
            found = re.fullmatch(rf"{'tanh.c.' if memory == 'c' else 'h'} ≈ (-?\d\.\d\d)", rough.replace("−", "-"))
            assert found
            assert float(found[1]) == pytest.approx(squashed, abs=0.01)
        told.add(is_known)
    assert told == {True, False}


@needs_node
def test_the_lesson_gives_the_loss_in_nats_as_well(inspection: Inspection, tmp_path: Path) -> None:
    (text,) = sections(inspection, ["lessonSection"], tmp_path)
    bits = inspection.bits_per_token
    assert f"{bits:.2f} bits per token (= {bits * math.log(2):.2f} nats, the unit of textgen train" in text


@needs_node
def test_cells_that_stand_out_in_a_range_and_passages_like_it(tmp_path: Path) -> None:
    """As NumPy finds them. One cell stands out in two passages."""
    values = np.random.default_rng(0).integers(-127, 128, (6, 200))
    values[3, 90:96] = values[3, 150:156] = 127
    functions = module("selection").split("function cellsOfRange", 1)[1]
    code = f"""
    const N = 200, D = {{ states: {{ cells: [0, 1, 2, 3, 4, 5] }} }}, statesOf = (index) => given[index];
    function cellsOfRange{functions}
    const found = cellsOfRange(90, 95);
    return [found, passagesLike(90, 95, found.slice(0, 3))];
    """
    found, passages = in_node(code, values.tolist(), tmp_path, before="")

    states, place = values / 127, np.arange(200)
    is_inside = (place >= 90) & (place <= 95)
    around = states[:, (place >= 60) & (place <= 125) & ~is_inside]
    z = (states[:, is_inside].mean(axis=1) - around.mean(axis=1)) / around.std(axis=1)
    order = np.argsort(-abs(z))
    assert [each["index"] for each in found] == order.tolist()
    np.testing.assert_allclose([each["z"] for each in found], z[order], rtol=1e-6)

    means = np.stack([np.convolve(row, np.ones(6) / 6, "valid") for row in states[order[:3]]])
    chosen: list[int] = []
    for start in np.argsort(abs(means - means[:, [90]]).sum(axis=0), kind="stable").tolist():
        if all(abs(start - other) >= 6 for other in (90, *chosen)):
            chosen.append(start)
    assert passages == chosen[:5]


@needs_node
def test_ticks_of_an_axis_are_round_and_inside_it(tmp_path: Path) -> None:
    functions = module("charts").split("function ticksOf", 1)[1].split("const valuesOf")[0]
    code = f"""
    function ticksOf{functions}
    return given.map(([low, high, log]) => ticksOf(low, high, log).map((tick) => +tick.toPrecision(6)));
    """
    axes = [[0, 1, False], [0, 7, False], [-3, 3, False], [1, 256, True], [1e-6, 1, True]]
    assert in_node(code, axes, tmp_path, before="") == [
        [0, 0.2, 0.4, 0.6, 0.8, 1],
        [0, 2, 4, 6],
        [-2, 0, 2],
        [1, 10, 100],
        [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1],
    ]


@needs_node
def test_numbers_have_as_many_digits_as_they_need(tmp_path: Path) -> None:
    before = "const isChinese = () => false;\n" + joined_modules("textgen.insight", "page", ["numbers"])
    code = """
    const errors = [withError(1, null), withError(-1, 0.25, 2), signedWithError(1, 0.5, 1), withError(null, 1)];
    return [[0.5, 0.1, 0.0625, 0.00003, -0.25].map(percent), [0.5, 0, -0.25].map((value) => signed(value, 2)), errors];
    """
    assert in_node(code, None, tmp_path, before=before) == [
        ["50.0 %", "10.0 %", "6.25 %", "3.0·10⁻⁵", "−25.0 %"],
        ["+0.50", "0.00", "−0.25"],
        ["1.000", "−1.00 ± 0.25", "+1.0 ± 0.5", "–"],
    ]


# === In browsers ===


@pytest.fixture(scope="module")
def shown(inspection: Inspection, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the page as a file."""
    path = tmp_path_factory.mktemp("page") / "inspect.html"
    path.write_bytes(page(inspection, with_lesson=True))
    return path.as_uri()


def asked(browser: Browser, url: str) -> list[str]:
    """What a page has asked for besides itself.

    An address that holds its content asks nobody: Firefox loads a font of its own so, which the policy of the page
    forbids to the page.
    """
    return [each for each in browser.requests if each != url and not each.startswith("data:")]


def check_shown(browser: Browser, url: str) -> None:
    """Opens the page from its file: it draws everything, tells no error, and asks for nothing."""
    browser.open(url)
    browser.until("document.querySelectorAll('main section').length > 5")
    drawn = "[...document.querySelectorAll('canvas, svg')].map((each) => each.getBoundingClientRect())"
    assert all(width > 0 < height for width, height in browser.evaluate(f"{drawn}.map((it) => [it.width, it.height])"))
    assert browser.evaluate("document.querySelectorAll('main svg').length") > 2
    browser.check_faults()
    assert asked(browser, url) == []
    assert browser.evaluate("performance.getEntriesByType('resource').map((each) => each.name)") == []


def test_the_page_is_shown_by_a_browser_from_its_file(shown: str, backward: Inspection, tmp_path: Path) -> None:
    """The quickest check of all; `make test-browsers` uses the page in three browsers."""
    file = tmp_path / "backward.html"
    file.write_bytes(page(backward, with_lesson=True))
    with opened("chromium") as browser:
        check_shown(browser, shown)
        browser.requests.clear()
        check_shown(browser, file.as_uri())
        found = str(browser.evaluate("document.querySelector('.text').textContent"))
        assert found.replace("⏎\n", "\n") == "¶\n".join(DOCUMENTS)
        read = str(browser.evaluate("document.querySelector('.lesson pre').textContent"))
        assert read.endswith("…")
        assert read.removesuffix("…") in "".join(DOCUMENTS)


def test_each_byte_of_a_character_can_be_chosen_in_the_text(tmp_path: Path) -> None:
    file, seen = tmp_path / "bytes.html", of_bytes("forward", tmp_path)
    file.write_bytes(page(seen))
    with opened("chromium") as browser:
        browser.open(file.as_uri())
        browser.until("document.querySelector('.panel b') !== null")
        spans = browser.evaluate("[...document.querySelectorAll('.text span')].map((it) => it.dataset.token)")
        assert spans == [str(token) for token in range(1, len(seen.text.ids))]
        assert browser.evaluate("document.querySelector('.text').textContent").replace("·", "") == CHARACTERS
        chosen = (
            "document.querySelector('.text .now').dataset.token + ' ' + document.querySelector('.panel b').textContent"
        )
        browser.evaluate("document.querySelectorAll('.text .part')[0].click()")
        assert browser.evaluate(chosen) == "1 <0xE6>"
        key = "document.querySelector('.text').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }))"
        for expected in ("2 <0x9C>", "3 <0x88>"):
            browser.evaluate(key)
            assert browser.evaluate(chosen) == expected
        assert "A dot · stands for a byte" in browser.evaluate("document.querySelector('#text').textContent")
        browser.check_faults()


@pytest.mark.browsers
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_page_works_from_its_file(shown: str, engine: str) -> None:
    with opened(engine) as browser:
        browser.resize(1200, 900)
        check_shown(browser, shown)
        text = "document.getElementById('main').textContent"
        english = browser.evaluate(text)
        browser.evaluate("[...document.querySelectorAll('button')].find((it) => it.textContent === '中文').click()")
        chinese = browser.evaluate(text)
        assert re.search("[\u4e00-\u9fff]{4}", chinese)
        browser.open("about:blank")
        check_shown(browser, shown)
        assert browser.evaluate(text) == chinese
        assert len(re.findall("[\u4e00-\u9fff]", english)) < len(re.findall("[\u4e00-\u9fff]", chinese)) / 10
        browser.evaluate("[...document.querySelectorAll('button')].find((it) => it.textContent === 'English').click()")
        assert browser.evaluate(text) == english
        browser.evaluate("document.querySelectorAll('main button, main summary').forEach((each) => each.click())")
        source = axe_source(python_with("axe", ["--no-deps", "axe-playwright-python==0.1.7"]).parent.parent)
        browser.evaluate(f"(() => {{ {source}; window.axe = axe; }})()")
        for width in (1200, 360):
            browser.resize(width, 800)
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            rules = json.dumps(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"])
            found = browser.evaluate(f"axe.run({{ runOnly: {rules} }}).then((found) => found.violations)")
            assert not found, [(each["id"], each["nodes"][0]["html"]) for each in found]
        browser.check_faults()
        assert asked(browser, shown) == []


@pytest.mark.browsers
@pytest.mark.timeout(1800)
def test_where_the_system_forces_its_colours_those_that_tell_something_stay(shown: str) -> None:
    with opened("chromium") as browser:
        browser.resize(1200, 900)
        check_shown(browser, shown)
        for scheme in ("light", "dark"):
            browser.force_colours(scheme)
            browser.evaluate("document.getElementById('text').scrollIntoView({ behavior: 'instant' })")
            assert len(browser.colours("document.querySelector('.scale i')")) > 20
            assert {browser.colour("var(--panel)"), browser.colour("var(--ink)")} <= browser.colours(
                "document.querySelector('.text')"
            )
            assert browser.colour("var(--a)") in browser.colours("document.querySelector('.top')")


# What is written under the gates, and how far each of it reaches beyond the picture.
UNDER_GATES = """(() => {
  const svg = document.querySelector("#gates svg");
  const [labels, edge] = [[...svg.querySelectorAll("text[font-size]")], svg.getBoundingClientRect()];
  const boxes = labels.map((label) => label.getBoundingClientRect());
  return [labels.map((label) => label.textContent), boxes.map((box) => Math.max(box.bottom - edge.bottom, edge.left - box.left))];
})()"""  # noqa: E501 a line of JavaScript


@pytest.mark.browsers
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_names_of_tokens_under_the_gates_are_not_cut_off(
    inspection: Inspection, engine: str, tmp_path: Path
) -> None:
    """Whatever their characters; and none of these is cut in two."""
    data = report_module.report(inspection) | report_module.drawn(inspection) | {"lesson": None}
    file = tmp_path / "inspect.html"
    names = {
        " parents": "parent", "WWWWWWW": "WWWWWW", "春眠不觉晓处处闻啼鸟": "春眠不觉晓处",
        "a😀😀😀😀😀😀": "a😀😀😀😀😀", "щщщщщщ": "щщщщщщ", "สวัสดี": "สวัสดี", "a": "a", "\n": "⏎", " ": "·",
    }  # fmt: skip
    with opened(engine) as browser:
        browser.resize(1200, 900)
        for name, shown_name in names.items():
            data["tokens"]["text"] = [name] * len(data["tokens"]["text"])
            file.write_text(filled(data, "Names"), encoding="utf-8")
            browser.open(file.as_uri())
            browser.until("document.querySelector('#gates svg') !== null")
            pieces, beyond = browser.evaluate(UNDER_GATES)
            assert set(pieces) == {shown_name}
            assert max(beyond) <= 0, name
        browser.check_faults()
