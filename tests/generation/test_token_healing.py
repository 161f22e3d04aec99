from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_fakes import TableModel, WordsTokenizer

from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.token_healing import Prefixes, choose_cut, choose_cut_exactly
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

CONFIG = SamplingConfig(temperature=1.0, min_p=0.0, max_tokens=3, seed=1)
WORDS = WordsTokenizer([" c", " ca", " cat", " came", "at", "The", "床前", "床前明月", "👩", "👩‍🚀"])


def ids(*words: str) -> list[int]:
    return [id for word in words for id in WORDS.encode(word)]


@pytest.mark.parametrize(
    ("prompt", "covers"),
    [
        ("The ca", [[" cat", " came"]]),
        ("The c", [[" ca", " cat", " came"]]),
        ("The cat", []),
        ("The", []),
        ("T", [["The"]]),
        ("The ", [[" c", " ca", " cat", " came"]]),
        ("x cam", [[" came"], []]),  # the pieces " ca" and "m" are covered together, "m" alone is not
        ("床前", [["床前明月"]]),
        ("床", [["床前", "床前明月"], [], []]),  # three bytes
        ("床前明", [["床前明月"], [], [], []]),
        ("👩", [["👩‍🚀"]]),
        ("The\n", []),
        ("", []),
    ],
)
def test_what_may_cover_the_end_of_a_prompt(prompt: str, covers: list[list[str]]) -> None:
    expected = [sorted(itertools.chain.from_iterable(ids(word) for word in cover)) for cover in covers]
    assert [sorted(cover) for cover in Prefixes(WORDS).covers(WORDS.encode(prompt))] == expected


def test_bytes_have_nothing_to_heal() -> None:
    assert Prefixes(ByteTokenizer()).covers([70, 71]) == []


def test_the_cut_and_the_piece_are_drawn_as_the_model_has_them() -> None:
    """Against all ways to go on from "x cam", added up by hand."""
    model, prompt = TableModel(WORDS.vocab_size, scale=0.5), "x cam"
    read = [WORDS.eos_id, *ids("x")]
    ca, m, came = *ids(" ca"), *ids("m"), *ids(" came")
    first = model.log_probs(read)
    whole = first[ca] + model.log_probs([*read, ca])[m]
    fraction = 1 / (1 + np.exp(whole - first[came]))  # of " came"
    generations = Generator(model, WORDS).generate(prompt, replace(CONFIG, max_tokens=1), num=4000)
    healed = [generation for generation in generations if generation.healed]
    assert {generation.ids for generation in healed} == {(came,)}
    assert {generation.text for generation in healed} == {"e"}
    assert abs(len(healed) / 4000 - fraction) < 4 * np.sqrt(fraction * (1 - fraction) / 4000)


def test_the_choice_among_cuts() -> None:
    log_probs = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    # cut after 0: p(2) = 0.25; after 1: p(0) p(0) = 0.05; whole: p(0) p(1) = 0.4
    covers, end = [[2], [0]], [0, 1]
    drawn = [choose_cut(log_probs, end, covers, 1.0, uniform) for uniform in (np.arange(700) + 0.5) / 700]
    assert [drawn.count(cut) for cut in range(3)] == [250, 50, 400]
    assert choose_cut(log_probs, end, covers, 0.0, 0.0) == 2
    assert choose_cut(log_probs, end, [[2], []], 1.0, 0.999999) == 2
    assert choose_cut(log_probs, end, covers, 1e-320, 0.5) == 2, "without a warning of NumPy"
    drawn = [choose_cut(log_probs, end, covers, 0.5, uniform) for uniform in (np.arange(2250) + 0.5) / 2250]
    assert [drawn.count(cut) for cut in range(3)] == [625, 25, 1600]


def test_the_choice_in_exact_arithmetic_is_the_ordinary_one() -> None:
    rng = np.random.default_rng(0)
    cuts = set()
    for _ in range(300):
        k = int(rng.integers(1, 4))
        log_probs = np.log(rng.dirichlet(np.ones(20), k))
        ids = rng.integers(0, 20, k).tolist()
        covers = [rng.choice(20, rng.integers(0, 5), replace=False).tolist() for _ in range(k)]
        for t in (0.0, 0.5, 2.0):
            uniform = float(rng.random())
            cut = choose_cut_exactly(log_probs, ids, covers, t, uniform)
            assert cut == choose_cut(log_probs, ids, covers, t, uniform)
            cuts.add(cut)
    assert cuts == {0, 1, 2, 3}


class ExactTable(TableModel):
    exact = True

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        logits, state = super().step(ids, state)
        return logits.astype(np.float64), state


def undecided(kind: type[TableModel]) -> TableModel:
    """Ends "x cam" with " came" about as often as with " ca" and "m"."""
    model = kind(WORDS.vocab_size, scale=0.5)
    model.tables[:, ids(" ca"), ids("m")] = 6.0
    return model


def healed(model: TableModel, prompt: str, config: SamplingConfig, num: int = 30) -> set[int]:
    """How many characters of a prompt are written again."""
    generations = Generator(model, WORDS).generate(prompt, replace(config, max_tokens=1), num=num)
    return {generation.healed for generation in generations}


BOTH = pytest.mark.parametrize("kind", [TableModel, ExactTable])


@BOTH
@pytest.mark.parametrize("prompt", ["x cam", "The c", "👩"])
def test_a_bias_on_what_covers_the_end_of_a_prompt_decides_where_it_is_cut(kind: type[TableModel], prompt: str) -> None:
    model = undecided(kind)
    covers = sorted({id for cover in Prefixes(WORDS).covers(WORDS.encode(prompt)) for id in cover})
    assert len(healed(model, prompt, CONFIG)) > 1
    never, always = (tuple(f"#{id}={bias}" for id in covers) for bias in (-100, 100))
    banned = tuple(WORDS.piece_bytes[id].decode() for id in covers)
    assert healed(model, prompt, replace(CONFIG, logit_bias=never)) == {0}
    assert healed(model, prompt, replace(CONFIG, ban=banned)) == {0}
    assert healed(model, prompt, replace(CONFIG, logit_bias=always)) == {
        len(prompt.removeprefix("x").removeprefix("The"))
    }


@BOTH
def test_a_bias_on_a_cover_counts_only_after_the_tokens_before_it(kind: type[TableModel]) -> None:
    model = undecided(kind)
    config = replace(CONFIG, logit_bias=("x came=100",))
    assert WORDS.encode("x came") == [*ids("x"), *ids(" came")]
    assert healed(model, "x cam", config) == {len(" cam")}
    assert healed(model, "The cam", config) == healed(model, "The cam", CONFIG) == {0, len(" cam")}


@BOTH
@pytest.mark.parametrize("values", [{"top_k": 1}, {"min_p": 1.0}, {"top_p": 0.0}, {"epsilon_cutoff": 1.0}])
def test_where_a_sampler_leaves_the_likeliest_token_a_prompt_is_cut_in_one_place(
    kind: type[TableModel], values: dict[str, Any]
) -> None:
    generator = Generator(undecided(kind), WORDS)
    config = replace(CONFIG, **values)
    assert len({generation.text for generation in generator.generate("x cam", config, num=30)}) == 1
    off = replace(config, mirostat=2, max_tokens=1), replace(config, samplers="temperature", max_tokens=1)
    for other in off:  # where the sampler is not applied
        assert len({generation.healed for generation in generator.generate("x cam", other, num=30)}) > 1


@BOTH
def test_the_temperature_counts_for_a_cut_only_where_it_is_applied(kind: type[TableModel]) -> None:
    model, config = undecided(kind), replace(CONFIG, temperature=0.0)
    assert len(healed(model, "x cam", config)) == 1
    assert len(healed(model, "x cam", replace(config, samplers="min_p"))) > 1


def test_healing_can_be_turned_off() -> None:
    model = TableModel(WORDS.vocab_size)
    generations = Generator(model, WORDS).generate("The c", replace(CONFIG, heal=False), num=20)
    assert not any(generation.healed for generation in generations)


TEXT = "The cat came.\nThe dog can see 床前明月光，疑是地上霜。👩‍🚀 naïve café über 日本語のテキスト\n" * 3


@pytest.fixture(scope="module", params=["unigram", "bpe", "char"])
def writer(request: pytest.FixtureRequest) -> Generator:
    """Writes no broken characters. It is shared by all examples, since its tables are large."""
    trained = train_tokenizer([TEXT], TokenizerConfig(request.param))
    model = TableModel(trained.vocab_size, seed=3)
    letters = [id for id, piece in enumerate(trained.piece_bytes) if len(piece) != 1 or piece[0] < 128]
    model.tables[:, :, [id for id in range(trained.vocab_size) if id not in letters]] -= 100.0
    return Generator(model, trained)


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.text(max_size=12)
    | st.builds(lambda a, b: TEXT[a : a + b], st.integers(0, len(TEXT)), st.integers(0, 20)),
    seed=st.integers(0, 1000),
)
def test_the_text_goes_on_from_the_prompt_exactly(writer: Generator, prompt: str, seed: int) -> None:
    config = replace(CONFIG, seed=seed, max_tokens=6)
    (generation,) = writer.generate(prompt, config)
    assert "\ufffd" not in generation.text
    assert "".join(writer.stream(prompt, config)) == generation.text
    written = b"".join(writer.tokenizer.piece_bytes[id] for id in generation.ids).decode()
    assert written[: generation.healed] == prompt[len(prompt) - generation.healed :]
    assert prompt + generation.text == prompt[: len(prompt) - generation.healed] + written
