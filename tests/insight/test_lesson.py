"""The numbers of the lesson are those of the model."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import Browser, opened
from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.insight.config import InspectConfig
from textgen.insight.gradients import MIN_NORM, gradient_flow
from textgen.insight.inspection import Inspection, inspect_model
from textgen.insight.lesson import chosen_step, decay, gate_parts, lesson
from textgen.insight.memory import ContextLoss
from textgen.insight.page import page
from textgen.insight.report import drawn, report
from textgen.model.clamping import FORGET
from textgen.model.config import CELLS, ModelConfig
from textgen.model.reference import initial_state, initial_weights, loss_and_gradients
from textgen.model.reference.network import stack_of
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer

BASE = ModelConfig(259, embedding_dim=6, hidden_units=8, num_layers=2)
KINDS: list[dict[str, Any]] = [
    *({"cell": cell} for cell in CELLS),
    {"cell": "mogrifier", "mogrifier_rounds": 1},
    {"cell": "gru", "reset_after": False},
    {"layer_norm": True, "residual": True, "tie_embeddings": False},
    {"direction": "backward"},
    {"attention": 4},
    {"cell": "rnn", "activation": "relu"},
]
TEXT = '"It was a dark night (so dark)."\n\nThe wind blew; 12 lamps went out.\n' * 3


def inspected(folder: Path, shape: dict[str, Any], **how: Any) -> Inspection:
    config = replace(BASE, **shape)
    weights = {name: array * 0.5 for name, array in random_weights(config).items()}
    save_model(folder / "small", weights, config, TokenizerConfig("byte"), CorpusConfig(), ByteTokenizer())
    return inspect_model(load_model("small", folder), [TEXT], InspectConfig(max_tokens=300, **how))


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


@pytest.mark.parametrize("shape", KINDS, ids=lambda shape: "-".join(map(str, shape.values())))
def test_the_parts_of_a_gate_add_up_to_it_in_every_cell(shape: dict[str, Any], tmp_path: Path) -> None:
    seen = inspected(tmp_path, shape)
    found = lesson(seen)
    cell, t = seen.reader.config.cell, found["step"]
    assert found["parts"] == gate_parts(seen, found["layer"], found["unit"], t)
    for layer in (0, 1):
        for part in gate_parts(seen, layer, 3, t):
            total = sum(value for name, value in part.items() if name != "gate")
            squash = np.tanh if part["gate"] in "gh" else sigmoid
            if shape.get("activation") == "relu":
                squash = lambda x: max(x, 0)  # noqa: E731
            value = seen.reading.layers[layer][part["gate"]][0, t, 3]
            assert squash(total) == pytest.approx(float(value), abs=1e-5)
    if cell in FORGET:
        gates = seen.reading.layers[found["layer"]][FORGET[cell]][0, :, found["unit"]]
        assert found["kept"]["gate"][:2] == pytest.approx([1, found["values"][FORGET[cell]]], rel=1e-4)
        assert found["kept"]["cell"][3] == pytest.approx(float(np.prod(gates[t - 2 : t + 1])), rel=1e-4)
    else:
        assert found["kept"] is None
    assert (found["slope"] is not None) == (shape.get("cell") == "rnn")
    if shape.get("activation") == "relu":
        assert found["slope"] == [float((layer["h"] > 0).mean()) for layer in seen.reading.layers]
    assert report(seen)["model"]["cell"] == cell
    assert report(seen)["model"]["activation"] == seen.reader.config.activation
    assert len(drawn(seen)["shown"]) == len(seen.shown) > 0


def test_the_step_may_be_any_byte_of_a_character_and_is_none_before_a_document(tmp_path: Path) -> None:
    """The step is that in the second quarter at which the memory of the cell changes most."""
    config, tokenizer = replace(BASE, vocab_size=261), ByteTokenizer().with_labels(["a"])
    save_model(tmp_path / "m", random_weights(config), config, TokenizerConfig("byte"), CorpusConfig(), tokenizer)
    seen = inspect_model(load_model("m", tmp_path), ["月光", "疑是", "地上", "霜。"] * 3, label="a")
    memory = seen.reading.layers[0]["c"][0, :, 2]
    quarter = range(len(memory) // 4, len(memory) // 2)
    assert not seen.text.is_of_document[quarter].all()
    for t in quarter:
        memory[:] = 0.01 * np.arange(len(memory))
        memory[t:] += 1
        assert (chosen_step(seen, 0, 2) == t) == seen.text.is_of_document[t]


def lines(number: int, seed: int) -> str:
    """Lines of dashes and one letter, which is another in each line."""
    rng = np.random.default_rng(seed)
    return "".join(
        "".join(np.where(rng.random(16) < 0.3, letter, "-")) + "\n" for letter in rng.choice([*"abcd"], number)
    )


def trained(cell: str, steps: int = 50, batch: int = 16, length: int = 24) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """A small network after some steps of Adam on such lines."""
    config = ModelConfig(259, embedding_dim=16, hidden_units=16, num_layers=1, cell=cell, tie_embeddings=False)
    stack, ids = stack_of(config), np.array(ByteTokenizer().encode(lines(2400, seed=0)))
    data = ids[: len(ids) // batch * batch].reshape(batch, -1)
    weights = initial_weights(config, np.random.default_rng(0))
    first = {name: np.zeros_like(array) for name, array in weights.items()}
    second, state = dict(first), initial_state(weights, batch, stack)
    for step in range(1, steps + 1):
        window = data[:, (step - 1) * length : step * length + 1]
        _, gradients, state, _ = loss_and_gradients(weights, window[:, :-1], window[:, 1:], state, stack=stack)
        for name, gradient in gradients.items():
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.99 * second[name] + 0.01 * np.square(gradient)
            mean, square = first[name] / (1 - 0.9**step), second[name] / (1 - 0.99**step)
            weights[name] = (weights[name] - 0.003 * mean / (np.sqrt(square) + 1e-8)).astype(np.float32)
    return config, weights


def test_the_gradient_vanishes_in_a_trained_rnn_and_not_in_a_trained_lstm(tmp_path: Path) -> None:
    found = {}
    for cell in ("rnn", "lstm"):
        config, weights = trained(cell)
        save_model(tmp_path / cell, weights, config, TokenizerConfig("byte"), CorpusConfig(), ByteTokenizer())
        seen = inspect_model(load_model(cell, tmp_path), [lines(40, seed=1)], InspectConfig(max_tokens=300))
        found[cell] = lesson(seen)
        flow = gradient_flow(seen.reader, seen.reading, seen.text.is_scored)
        assert found[cell]["decay"]["model"] == pytest.approx(decay(flow.norms))
        assert found[cell]["decay"]["model"] != pytest.approx(found[cell]["decay"][cell], rel=1e-3)  # before training
        h = seen.reading.layers[0]["h"][0]
        assert found[cell]["slope"] == ([pytest.approx(float((1 - h**2).mean()))] if cell == "rnn" else None)
    rnn, lstm = (found[cell]["decay"]["model"] for cell in ("rnn", "lstm"))
    assert rnn**20 < 0.1 * lstm**20  # what is left of a gradient after 20 steps
    kept = found["lstm"]["kept"]["median"]
    assert kept[20] > rnn**20  # along the memory alone
    assert found["rnn"]["kept"] is None


@pytest.mark.parametrize("factor", [0.1, 0.3, 0.5, 0.9, 1.1])
def test_the_decay_is_that_of_a_geometric_series(factor: float) -> None:
    """Also where norms that are too small to tell are all shown as the smallest one."""
    assert decay([max(factor**lag, MIN_NORM) for lag in range(100)]) == pytest.approx(factor)


def test_of_nothing_that_is_left_there_is_no_decay() -> None:
    assert decay([1.0, MIN_NORM, MIN_NORM]) is None


# === The words of the page ===

GATED = [
    "A gate is a squashed sum", "Backward, gate by gate", "a gate is open where", "what the gates let through",
    "are left out here.) So the fraction that arrives along the memory itself is the product of the gates",
]  # fmt: skip
UNGATED = ["What a unit adds up", "Backward, step by step", "this network has no gate to open"]
LETTERS = "i is the input gate, f the forget gate, o the output gate, g the candidate"
AS_FAST = "fade at least as fast as those of the RNN"
OF_GRU = "The update gate of a GRU starts with a bias of 0"
OF_ATTENTION = "The level before it is the last layer without the head."
HEAD_PATHS = [
    "There is one more path: the attention head reads up to 4 earlier outputs",
    "The attention head reads up to 4 earlier outputs directly, so the gradient also reaches them",
]
SCALED = "also read h′ through U, and through the x that h′ has scaled; these paths are left out here"
RESIDUAL = ["Layers have residual connections", "With residual connections the logit lens"]
PLAIN = "There are no residual connections"
L0_APART = ["not L0, whose input has another width", "of L0, whose input has another width, it reads h"]
SAID: list[tuple[dict[str, Any], list[str], list[str]]] = [  # a shape, what its page says, what it does not
    ({"cell": "lstm"}, [*GATED, LETTERS], [*UNGATED, OF_GRU, OF_ATTENTION, *HEAD_PATHS, "Not drawn"]),
    (
        {"attention": 4},
        [*GATED, LETTERS, OF_ATTENTION, *HEAD_PATHS, "to the features of the last level"],
        [*UNGATED, OF_GRU],
    ),
    (
        {"cell": "peephole"},
        [
            *GATED,
            LETTERS,
            "The peepholes add a fourth part",
            "Not drawn: the peepholes",
            "also read h′ through U, and the",
        ],
        UNGATED,
    ),
    (
        {"cell": "mogrifier"},
        [*GATED, LETTERS, "x and h′ first scale each other", "Not drawn: the rounds before this step", SCALED],
        UNGATED,
    ),
    (
        {"cell": "mogrifier", "mogrifier_rounds": 2},
        ["becomes 2·σ(x·Q)·h′. This model has 2 such rounds", "Not drawn: the rounds before this step", SCALED],
        ["this one round"],
    ),
    (
        {"cell": "mogrifier", "mogrifier_rounds": 1},
        ["h′ first scales x: x becomes 2·σ(h′·Q)·x. This model has this one round", "the round before this", SCALED],
        ["2·σ(x·Q)·h′", "scale each other", "rounds"],
    ),
    (
        {"cell": "gru"},
        [*GATED, OF_GRU, "r the reset gate", "scaled by the reset gate: r·(h′·U + b′)"],
        [*UNGATED, LETTERS],
    ),
    ({"cell": "gru", "reset_after": False}, [*GATED, OF_GRU, "the second part is (r·h′)·U"], [*UNGATED, "b′"]),
    (
        {"cell": "rnn"},
        [*UNGATED, "U · (1 - h²)", "RNN, untrained", AS_FAST],
        [*GATED, LETTERS, "[h > 0]", "RNN with relu"],
    ),
    (
        {"cell": "rnn", "activation": "relu"},
        [*UNGATED, "U · [h > 0]", "RNN with relu, untrained"],
        [*GATED, LETTERS, "1 - h²", "RNN, untrained", AS_FAST],  # its 8 units with relu fade fastest
    ),
    (
        {"residual": True, "embedding_dim": 8},
        [*RESIDUAL, "and the lenses read that sum.", "logit lens reads the sum that is passed on."],
        [*L0_APART, PLAIN],
    ),
    ({"residual": True}, [*RESIDUAL, *L0_APART], [PLAIN]),
    ({"residual": True, "num_layers": 1}, [PLAIN], [*RESIDUAL, *L0_APART]),
    ({"layer_norm": True}, ["x in the equations, also in x·W of the lesson, is the normalized input"], UNGATED),
]
LOOSE_NODES = """(() => {
  const ends = [...document.querySelectorAll('#step line.wire')].flatMap((wire) =>
    [['x1', 'y1'], ['x2', 'y2']].map((names) => names.map((name) => +wire.getAttribute(name))));
  const isNear = (at, from, size) => at > from - 12 && at < from + size + 12;
  const touches = (box) => ends.some(([x, y]) => isNear(x, box.x, box.width) && isNear(y, box.y, box.height));
  const nodes = [...document.querySelectorAll('#step g')];
  const loose = nodes.filter((node) => !touches(node.querySelector('.node').getBBox()));
  return [nodes.length, loose.map((node) => node.textContent)];
})()"""


def words_of(browser: Browser, seen: Inspection, file: Path) -> str:
    """Opens the page of an inspection: the words that it shows."""
    file.write_bytes(page(seen, with_lesson=True))
    browser.open(file.as_uri())
    browser.until("document.querySelectorAll('main section').length > 5")
    browser.check_faults()
    return text_of(browser, "#top") + text_of(browser, "#main")


def text_of(browser: Browser, selector: str) -> str:
    return str(browser.evaluate(f"document.querySelector('{selector}').textContent")).replace("−", "-")


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_page_says_what_holds_for_the_cell(tmp_path: Path) -> None:
    with opened("chromium") as browser:
        for place, (shape, there, absent) in enumerate(SAID):
            seen = inspected(tmp_path / str(place), shape)
            found = words_of(browser, seen, tmp_path / "lesson.html")
            steps = text_of(browser, "#lesson")
            assert not text_of(browser, "#top").endswith("null")
            assert "L1/89 is unit 89 of layer 1, both counted from 0" in steps
            assert browser.evaluate("document.querySelectorAll('#lesson h3').length") == 6
            assert [words for words in there if words not in found] == []
            assert [words for words in absent if words in found] == []
            nodes, loose = browser.evaluate(LOOSE_NODES)
            assert nodes > 5
            assert loose == []
            answer = re.search(r"1 / \S+(?: %)? = ([\d,.]+)\. For the mean loss, 2\^([\d.]+) = ([\d,.]+):", steps)
            assert answer
            bits = report(seen)["tokens"]["surprisal"][lesson(seen)["step"]]
            assert number(answer[1]) == pytest.approx(2**bits, rel=0.01)
            assert number(answer[3]) == pytest.approx(2 ** number(answer[2]), rel=0.01)


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_step_of_a_gru_shows_where_the_reset_gate_acts(reset_after: bool, tmp_path: Path) -> None:
    seen = inspected(tmp_path, {"cell": "gru", "reset_after": reset_after})
    layer, unit = next(((each.layer, each.unit) for each in seen.found), seen.shown[0])
    values, t = seen.reading.layers[layer], lesson(seen)["step"]
    part = "r·(h′·U + b′)" if reset_after else "(r·h′)·U"
    with opened("chromium") as browser:
        words_of(browser, seen, tmp_path / "lesson.html")
        step = text_of(browser, "#step pre")
    found = re.search(rf"g = tanh\(x·W \+ b \+ {re.escape(part)}\) = (\S+) +r = (\S+)", step)
    assert found
    for name, shown in zip("gr", found.groups(), strict=True):
        assert number(shown) == pytest.approx(float(values[name][0, t, unit]), abs=1e-3)


OF_LIMIT = "bits are missing (0.05, or twice the standard error where that is larger)"
NONE = math.nan
CURVES: list[tuple[list[float], list[float], list[str]]] = [
    # bits lost with 1, 2, 4 and 8 tokens of context, their standard errors, and what is said of them
    (
        [3.0, 0.04, 0.06, 0.03],
        [0.01] * 4,
        ["8tokens of useful context (approximately)", f"From about 8 tokens of context on, less than 0.05 {OF_LIMIT}"],
    ),
    (
        [3.0, 0.04, 0.06, 0.03],
        [0.2, 0.1, 0.15, 0.01],
        [
            "2tokens of useful context",
            f"From about 2 tokens of context on, less than 0.30 {OF_LIMIT}",
            "3.00 ± 0.20 bits",
        ],
    ),
    (
        [3.0, 0.04, 0.0, -0.1],
        [NONE] * 4,
        ["2tokens of useful context", "From about 2 tokens of context on, less than 0.05", "needs 3.00 bits per token"],
    ),
    (
        [0.04, 0.0, 0.0, 0.0],
        [0.0] * 4,
        ["1token of useful context", "From about 1 token of context on, less than 0.05"],
    ),
    (
        [3.0, 1.0, 0.5, 0.05],
        [0.02] * 4,
        ["> 8tokens of useful context", "With 8 tokens of context, the longest that was measured, 0.05 ± 0.02 bits"],
    ),
    ([NONE, 1.0, NONE, 0.04], [0.02] * 4, ["8tokens of useful context", "needs – bits per token more"]),
    (
        [3.0, 1.0, 0.5, NONE],
        [0.02] * 4,
        ["> 4tokens of useful context", "With 4 tokens of context, the longest that was measured, 0.50 ± 0.02 bits"],
    ),
    (
        [NONE] * 4,
        [NONE] * 4,
        ["> 0tokens of useful context", "the longest that was measured, – bits", "loss by less than 0.05 bits"],
    ),
]


def test_the_page_tells_how_far_back_the_model_looks_or_that_this_was_not_seen(tmp_path: Path) -> None:
    seen = inspected(tmp_path, {})
    with opened("chromium") as browser:
        for dropped, error, said in CURVES:
            context = ContextLoss(
                lengths=[1, 2, 4, 8],
                dropped=dropped,
                dropped_error=error,
                num_shuffled=64,
                shuffled=dropped,
                difference_error=error,
                places=[9] * 4,
                full=2.5,
                full_at=[1.75, 2.0, 3.0, 4.0],
            )
            found = words_of(browser, replace(seen, context=context), tmp_path / "lesson.html")
            assert [words for words in said if words not in found] == []
            assert "that is 1.75 at the places where this was measured" in found  # with one token of context
            assert ("that was measured" in found) == ("the longest that was measured" in said[1])
