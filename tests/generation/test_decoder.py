"""Rows that join and leave the decode loop: each writes what it would write alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from networks import random_weights
from plain_fakes import TableModel, WordsTokenizer

from textgen.errors import ConfigError, SavedModelError, TextgenError
from textgen.generation import decoding
from textgen.generation.config import SamplingConfig
from textgen.generation.decoding import Decoder
from textgen.generation.generated_text import Generation
from textgen.generation.generator import Generator
from textgen.generation.row import Row, TextRow, Token
from textgen.generation.stepping import Stepper
from textgen.generation.text_state import TextState, join, pick
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.model.protocols import StepModel

TOKENIZER = WordsTokenizer(["The", " cat", " c", "at", "\n\n", "。"])
V = TOKENIZER.vocab_size
PROMPTS = ["", "The c", "a", "床前明月光。", "The cat sat on the mat. " * 20, "x\ny", "The cat"]
CONFIG = SamplingConfig(temperature=1.0, min_p=0.0, max_tokens=40)
CONFIGS = [
    CONFIG,
    replace(CONFIG, top_k=20, repeat_penalty=1.3, repeat_last_n=5),
    replace(CONFIG, top_p=0.7, temperature=0.5, max_tokens=3),
    replace(CONFIG, dry_multiplier=0.8, dry_penalty_last_n=100, dry_sequence_breakers=("a",)),
    replace(CONFIG, dry_multiplier=2.0, dry_allowed_length=1, dry_penalty_last_n=7, presence_penalty=0.5),
    replace(CONFIG, mirostat=2, mirostat_tau=3.0),
    replace(CONFIG, mirostat=1, top_logprobs=2),
    replace(CONFIG, xtc_probability=0.5, xtc_threshold=0.01),
    replace(CONFIG, samplers="temperature;top_k", top_k=9, temperature=2.0),
    replace(CONFIG, samplers="top_p;penalties", top_p=0.9, frequency_penalty=0.4, repeat_last_n=30),
    replace(CONFIG, ban=("e", "the"), require=("dog",), no_repeat_ngram_size=2, min_tokens=5),
    replace(CONFIG, stop=("e", "ab"), until="line", heal=False),
    replace(CONFIG, typical_p=0.6, min_p=0.1, eta_cutoff=0.01, top_n_sigma=2.0),
]


class OneByOne:
    """A model whose every row is computed alone, so that a text is the same to the last bit in any company."""

    exact = False

    def __init__(self, model: StepModel) -> None:
        self._model = model
        self.initial_state = model.initial_state

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        return join([self._model.read(inputs[[row]], pick(state, [row])) for row in range(len(inputs))])

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        results = [self._model.step(ids[[row]], pick(state, [row])) for row in range(len(ids))]
        return np.concatenate([logits for logits, _ in results]), join([after for _, after in results])


def network() -> OneByOne:
    config = ModelConfig(V, embedding_dim=12, hidden_units=16, num_layers=2)
    weights = random_weights(config, scale=0.6)
    return OneByOne(NumpyModel(config, weights))


MODELS: dict[str, Callable[[], StepModel]] = {"fake": lambda: TableModel(V), "network": network}


@pytest.fixture(params=MODELS)
def generator(request: pytest.FixtureRequest) -> Generator:
    return Generator(MODELS[request.param](), TOKENIZER)


def rows_of(generator: Generator, number: int) -> Iterator[TextRow]:
    """Rows with prompts and settings of all kinds."""
    for seed, prompt, config in zip(range(number), itertools.cycle(PROMPTS), itertools.cycle(CONFIGS), strict=False):
        yield generator.row(prompt, replace(config, seed=seed))


def alone(generator: Generator, row: TextRow) -> Generation:
    (generation,) = generator.generate(row.prompt, row.config)
    return generation


def is_beginning(tokens: list[Token], generation: Generation) -> bool:
    text = "".join(token.text for token in tokens)
    return generation.ids[: len(tokens)] == tuple(token.id for token in tokens) and generation.text.startswith(text)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_a_text_is_the_same_whoever_joins_and_leaves(generator: Generator, seed: int) -> None:
    rng = random.Random(seed)
    rows, decoder = list(rows_of(generator, 60)), generator.decoder()
    waiting, tokens = list(rows), {row: list[Token]() for row in rows}
    cancelled: set[Row] = set()
    while waiting or decoder.rows:
        if waiting and rng.random() < 0.4:
            number = rng.choice([1, 1, 2, 5])
            decoder.join(waiting[:number])
            del waiting[:number]
        if decoder.rows and rng.random() < 0.1:
            row = rng.choice(decoder.rows)
            decoder.leave(row)
            cancelled.add(row)
        before = list(decoder.rows)
        taken = decoder.step()
        assert [row for row, _ in taken] == before
        for row, token in taken:
            assert isinstance(row, TextRow)
            tokens[row].append(token)
            assert (row in decoder.rows) == (not token.stop_reason)
    assert 2 < len(cancelled) < 30
    for row in rows:
        expected = alone(generator, row)
        assert is_beginning(tokens[row], expected)
        if row not in cancelled:
            assert (len(tokens[row]), row.stop_reason, row.healed) == (
                len(expected.ids),
                expected.stop_reason,
                expected.healed,
            )


@pytest.mark.parametrize("generator", ["fake", pytest.param("network", marks=pytest.mark.slow)], indirect=True)
def test_every_pair_of_settings_goes_together(generator: Generator) -> None:
    """The second joins at the tenth token of the first, and the first then leaves."""
    configs = [replace(config, seed=5, max_tokens=min(config.max_tokens, 25)) for config in CONFIGS]
    expected = [alone(generator, generator.row("The c", config)).ids for config in configs]
    for first, second in itertools.permutations(range(len(configs)), 2):
        rows = [generator.row("The c", configs[number]) for number in (first, second)]
        decoder = generator.decoder()
        decoder.join(rows[:1])
        ids: dict[Row, tuple[int, ...]] = dict.fromkeys(rows, ())
        for step in itertools.count():
            if step == 10:
                decoder.join(rows[1:])
            if step == 15 and rows[0] in decoder.rows:
                decoder.leave(rows[0])
            if step > 10 and not decoder.rows:
                break
            for row, token in decoder.step():
                ids[row] += (token.id,)
        assert ids[rows[0]] == expected[first][:15]
        assert ids[rows[1]] == expected[second]


def test_a_row_that_cannot_join_changes_nothing(generator: Generator) -> None:
    row, *_ = rows_of(generator, 1)
    decoder = generator.decoder()
    decoder.join([row])
    ids = [token.id for _, token in decoder.step()]
    for config in (replace(CONFIG, no_copy=5), replace(CONFIG, require=("dog " * 20,))):
        with pytest.raises(ConfigError):
            decoder.join([generator.row("a"), generator.row("b", config)])
    assert decoder.rows == [row]
    while decoder.rows:
        ids += [token.id for _, token in decoder.step()]
    assert tuple(ids) == alone(generator, row).ids


def test_an_empty_decoder_steps_nothing_and_takes_rows_again(generator: Generator) -> None:
    decoder = generator.decoder()
    assert decoder.step() == []
    decoder.join([])
    for row in rows_of(generator, 3):
        decoder.join([row])
        decoder.leave(row)
        assert decoder.rows == []
        assert decoder.step() == []
    (row,) = rows_of(generator, 1)
    decoder.join([row])
    decoder.leave(generator.row("a stranger"))
    assert decoder.rows == [row]


def test_the_state_of_a_row_goes_with_it(generator: Generator) -> None:
    """A text continues alone from where it stood beside others."""
    config = replace(CONFIG, seed=3, temperature=0.0, max_tokens=12)
    first, second = generator.row("The", config, track=True), generator.row("x", config)
    decoder = generator.decoder()
    decoder.join([second])
    decoder.join([first])
    ids: list[int] = []
    for _ in range(5):
        ids += [token.id for row, token in decoder.step() if row is first]
    state = TextState(first.model_state, (*first.ids, *ids))
    rest = [token.id for token in generator.tokens("", replace(config, max_tokens=7), state)]
    assert (*ids, *rest) == generator.generate("The", config)[0].ids
    assert second.model_state is None


def test_a_row_without_text_ends_with_its_document_or_its_length() -> None:
    model = TableModel(V)
    model.tables[:, :, TOKENIZER.eos_id] += 3.0
    start = TextState(model.initial_state(1), (TOKENIZER.eos_id,))
    rows = [Row(start, (5, 6), replace(CONFIG, max_tokens=6, seed=seed), TOKENIZER) for seed in range(30)]
    decoder = Decoder(model, TOKENIZER)
    decoder.join(rows)
    lengths = dict.fromkeys(rows, 0)
    while decoder.rows:
        for row, token in decoder.step():
            lengths[row] += 1
            assert token.text == ""
            assert (row.stop_reason == "end") == (token.id == TOKENIZER.eos_id)
    assert {row.stop_reason for row in rows} == {"end", "length"}
    assert {lengths[row] for row in rows if row.stop_reason == "length"} == {6}


def test_logits_that_are_not_finite_are_refused() -> None:
    model = TableModel(V)
    decoder = Generator(model, TOKENIZER).decoder()
    decoder.join([Generator(model, TOKENIZER).row("a", CONFIG)])
    model.tables[:] = np.nan
    with pytest.raises(SavedModelError, match="not finite"):
        decoder.step()


def test_texts_that_are_as_they_were_go_on(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, seed=5, max_tokens=6)
    decoder, row = generator.decoder(), generator.row("a", config)
    decoder.join([row])
    ids = [token.id for _, token in decoder.step()]
    for name in ("Stepper.step", "Sampler.draw"):
        owner, method = name.split(".")
        with monkeypatch.context() as patch:
            patch.setattr(getattr(decoding, owner), method, not_finite)
            with pytest.raises(SavedModelError, match="not finite"):
                decoder.step()
    while decoder.rows:
        ids += [token.id for _, token in decoder.step()]
    assert tuple(ids) == alone(generator, row).ids


def not_finite(*_: Any) -> Any:
    raise SavedModelError("not finite")


@pytest.mark.parametrize("part", ["Stepper.step", "Sampler.draw", "Stepper.join", "Sampler.join", "Stepper.keep"])
def test_texts_that_were_interrupted_do_not_go_on(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(TableModel(V), TOKENIZER)
    first, second, third = (generator.row("a", CONFIG) for _ in range(3))
    decoder = generator.decoder()
    decoder.join([first, second])

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    owner, method = part.split(".")
    uses = {"join": lambda: decoder.join([third]), "keep": lambda: decoder.leave(first)}
    use: Callable[[], object] = uses.get(method, decoder.step)
    with monkeypatch.context() as patch:
        patch.setattr(getattr(decoding, owner), method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            use()
    for use in (decoder.step, lambda: decoder.join([generator.row("b")]), lambda: decoder.leave(second)):
        with pytest.raises(TextgenError, match="begin them again"):
            use()


def test_a_stepper_forks_reorders_and_drops_texts() -> None:
    model = TableModel(V)
    stepper = Stepper(model, np.array([3, 4, 5], np.int32), model.initial_state(3))
    stepper.step()
    stepper.advance(np.array([7, 8, 9], np.int32), [2, 0, 2])
    ((total,), read) = stepper.state
    assert (total[:, 0].tolist(), stepper.ids.tolist()) == ([5, 3, 5], [7, 8, 9])
    stepper.join(Stepper(model, np.array([1], np.int32), model.initial_state(1)))
    stepper.keep([1, 3])
    ((total,), read) = stepper.state
    assert (total[:, 0].tolist(), read[:, 0].tolist(), stepper.ids.tolist()) == ([3, 0], [1, 0], [8, 1])
    np.testing.assert_array_equal(stepper.step()[0], model.tables[3, 8])
