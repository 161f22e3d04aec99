from __future__ import annotations

import dataclasses
import gc
import itertools
import types
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import CountingModel, RecitingModel, SummingModel, as_model
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_fakes import Recital, TableModel, WordsTokenizer, writable

from textgen.errors import ConfigError, TokenizerError
from textgen.generation.config import SamplingConfig
from textgen.generation.decoding import Decoder
from textgen.generation.generator import Generator
from textgen.generation.request import Request
from textgen.generation.sampling.logit_filters import Candidates
from textgen.generation.sampling.random_numbers import row_generator
from textgen.generation.sampling.sampler_chain import active_samplers, draw, transform
from textgen.generation.sampling.sampler_settings import settings_of
from textgen.generation.stepping import PROMPT_WINDOW
from textgen.model import reference
from textgen.model.compiled_model import CompiledModel
from textgen.model.config import ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.model.numpy_model import NumpyModel
from textgen.model.protocols import StepModel
from textgen.settings import from_dict
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.kinds import ByteTokenizer

load_tensorflow()

TOKENIZER = ByteTokenizer()
PAD, UNK, EOS = TOKENIZER.pad_id, TOKENIZER.unk_id, TOKENIZER.eos_id
V = TOKENIZER.vocab_size
CONFIG = SamplingConfig(max_tokens=60, seed=3)
CHINESE = "床前明月光，疑是地上霜。🀄"
PROMPTS = ["", "a", "The cat sat", CHINESE, "The cat sat on the mat, and the dog saw it sit there." * 2]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """Tiny, but sure enough of what it says that the last digit of a logit decides nothing."""
    model = LanguageModel(ModelConfig(V, embedding_dim=8, hidden_units=12), pad_id=PAD)
    rng = np.random.default_rng(5)
    model.assign_weights(
        {name: rng.normal(0, 1.0, weight.shape).astype(np.float32) for name, weight in model.named_weights().items()}
    )
    return model


@pytest.fixture(scope="module", params=["numpy", "compiled"])
def generator(request: pytest.FixtureRequest, model: LanguageModel) -> Generator:
    return Generator(writers(model)[request.param], TOKENIZER)


def writers(model: LanguageModel) -> dict[str, StepModel]:
    return {"numpy": NumpyModel(model.config, model.weights_as_arrays()), "compiled": CompiledModel(model)}


@pytest.fixture(scope="module")
def counter() -> Generator:
    return Generator(as_model(CountingModel()), TOKENIZER)


def reciting(text: str, ends: bool = True) -> Generator:
    """Writes `text` after an empty prompt, whatever the seed."""
    ids = TOKENIZER.encode(text)
    return Generator(as_model(RecitingModel([*ids, EOS] if ends else ids)), TOKENIZER)


def written(generator: Generator, config: SamplingConfig, prompt: str = "") -> tuple[str, str]:
    """The text and why it ended; streaming must give the same."""
    (generation,) = generator.generate(prompt, config)
    assert "".join(generator.stream(prompt, config)) == generation.text
    return generation.text, generation.stop_reason


# === What is drawn ===


@pytest.mark.parametrize("max_tokens", [1, 2, 12, 25])
def test_counts_on_from_the_prompt(counter: Generator, max_tokens: int) -> None:
    (generation,) = counter.generate("xyza", replace(CONFIG, max_tokens=max_tokens))
    assert generation.text == "bcdefghijklmnopqrstuvwxyz"[:max_tokens]
    assert list(generation.ids) == TOKENIZER.encode(generation.text)
    assert generation.prompt == "xyza"
    assert generation.stop_reason == "length"
    assert generation.seed == 3


def test_greedy_is_argmax_of_one_pass(model: LanguageModel, generator: Generator) -> None:
    generations = generator.generate(PROMPTS, replace(CONFIG, temperature=0.0))
    assert len({generation.text for generation in generations}) > 1
    for generation in generations:
        prompt = [EOS, *TOKENIZER.encode(generation.prompt)]
        logits, _ = model(np.array([[*prompt, *generation.ids[:-1]]], np.int32))
        logits = logits[0].numpy()[len(prompt) - 1 :]
        allowed = [writable(TOKENIZER, generation.ids[:at]) for at in range(len(generation.ids))]
        assert generation.ids == tuple(np.where(allowed, logits, -np.inf).argmax(axis=-1).tolist())


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, temperature=1.0, min_p=0.0),
        replace(CONFIG, temperature=2.0, top_k=20, top_p=0.8, min_p=0.01),
    ],
    ids=["usual", "plain", "all transforms"],
)
def test_draws_what_the_reference_would(model: LanguageModel, generator: Generator, config: SamplingConfig) -> None:
    """The NumPy network, the NumPy transforms and the row's own random numbers, one step after the other."""
    (generation,) = generator.generate("The cat", config)
    weights = {name: value.astype(np.float64) for name, value in model.weights_as_arrays().items()}
    state = reference.initial_state(weights, 1)
    read, ids, rng = [EOS, *TOKENIZER.encode("The cat")], list[int](), row_generator(3)
    while len(ids) < config.max_tokens and EOS not in ids:
        logits, state, _ = reference.forward(weights, np.array([read]), state)
        last = logits[:, -1]
        last[:, ~writable(TOKENIZER, ids)] = -np.inf
        inputs = settings_of([config])
        left = transform(Candidates(last), inputs, active_samplers(inputs))
        read = left.ids_at(draw(left, rng.random(1))).tolist()
        ids += read
    assert list(generation.ids) == ids


def test_same_seed_same_text(model: LanguageModel, generator: Generator) -> None:
    first = generator.generate(PROMPTS, CONFIG, num=2)
    assert generator.generate(PROMPTS, CONFIG, num=2) == first
    for writer in writers(model).values():
        assert Generator(writer, TOKENIZER).generate(PROMPTS, CONFIG, num=2) == first
    assert [g.text for g in generator.generate(PROMPTS, replace(CONFIG, seed=99), num=2)] != [g.text for g in first]


def test_without_a_seed_one_is_drawn_and_told(generator: Generator) -> None:
    config = replace(CONFIG, seed=None)
    first, second = generator.generate("a", config, num=2)
    assert second.seed == first.seed + 1
    assert generator.generate("a", replace(CONFIG, seed=second.seed)) == [second]
    assert generator.generate("a", config)[0].seed != first.seed


def test_after_the_largest_seed_comes_the_lowest(generator: Generator) -> None:
    largest = (1 << 63) - 1
    first, second = generator.generate("a", replace(CONFIG, seed=largest), num=2)
    assert (first.seed, second.seed) == (largest, 0)
    assert generator.generate("a", replace(CONFIG, seed=0)) == [second]


def test_a_row_is_the_same_alone(generator: Generator) -> None:
    """Prompts of different lengths, each twice."""
    together = generator.generate(PROMPTS, CONFIG, num=2)
    assert [g.prompt for g in together] == [prompt for prompt in PROMPTS for _ in range(2)]
    assert len({g.text for g in together}) == len(together)
    for row, generation in enumerate(together):
        assert generation.seed == 3 + row
        assert generator.generate(generation.prompt, replace(CONFIG, seed=generation.seed)) == [generation]


@pytest.mark.parametrize(
    "lengths",
    [
        [PROMPT_WINDOW - 1],
        [PROMPT_WINDOW],
        [PROMPT_WINDOW + 1],
        [2 * PROMPT_WINDOW + 77],
        [0, 1, 4, 5, PROMPT_WINDOW, 3 * PROMPT_WINDOW],
    ],
    ids=str,
)
def test_every_piece_of_a_prompt_is_read_once(lengths: list[int]) -> None:
    generator = Generator(as_model(SummingModel()), TOKENIZER)
    prompts = ["".join(itertools.islice(itertools.cycle("The cat. "), length)) for length in lengths]
    for prompt, generation in zip(prompts, generator.generate(prompts, replace(CONFIG, max_tokens=10)), strict=True):
        read = [EOS, *TOKENIZER.encode(prompt)]
        for character in generation.text:
            assert character == chr(ord("a") + (sum(read) + len(read)) % 26)
            read += TOKENIZER.encode(character)
        assert len(generation.text) == 10


def test_long_prompts_equal_one_pass(model: LanguageModel, generator: Generator) -> None:
    prompt = "The cat sat on the mat. " * 30  # more than two windows
    (generation,) = generator.generate(prompt, replace(CONFIG, temperature=0.0, max_tokens=20))
    ids = [EOS, *TOKENIZER.encode(prompt)]
    logits = model(np.array([[*ids, *generation.ids]], np.int32))[0][0].numpy()[len(ids) - 1 : -1]
    allowed = [writable(TOKENIZER, generation.ids[:at]) for at in range(20)]
    assert list(generation.ids) == np.where(allowed, logits, -np.inf).argmax(axis=-1).tolist()
    short, long = generator.generate(["a", prompt], replace(CONFIG, temperature=0.0, max_tokens=20))
    assert long == replace(generation, seed=long.seed)
    assert short.ids == generator.generate("a", replace(CONFIG, temperature=0.0, max_tokens=20))[0].ids


@pytest.mark.parametrize("piece", [PAD, UNK])
def test_pad_and_unk_are_never_drawn(piece: int) -> None:
    """By a model that wants nothing else; then all the others are equally likely."""
    fake = CountingModel(after=dict.fromkeys(range(V), piece))
    generator = Generator(as_model(fake), TOKENIZER)
    config = replace(CONFIG, min_p=0.0, max_tokens=100)
    drawn = {id for generation in generator.generate("", config, num=20) for id in generation.ids}
    assert len(drawn) > V / 2
    assert not drawn & {PAD, UNK}
    assert generator.generate("", replace(config, temperature=0.0))[0].ids == (EOS,)


# === What ends a text ===


def test_end_of_document_ends_the_text() -> None:
    generator = reciting("The end.")
    (generation,) = generator.generate("", CONFIG)
    assert generation.text == "The end."
    assert generation.ids == (*TOKENIZER.encode("The end."), EOS)
    assert generation.stop_reason == "end"
    assert written(generator, replace(CONFIG, max_tokens=9)) == ("The end.", "end")
    assert written(generator, replace(CONFIG, max_tokens=8)) == ("The end.", "length")


def test_an_empty_document() -> None:
    assert written(reciting(""), CONFIG) == ("", "end")


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", (" two",), "one"),
        ("one two three", ("three",), "one two "),
        ("one two three", ("one",), ""),
        ("one two three", ("e",), "on"),
        ("one two three", ("three", "two", "one t"), ""),
        ("one two three", ("absent", "w"), "one t"),
        ("aaab", ("aab",), "a"),
        ("abababac", ("ababac",), "ab"),
        ("abcabd", ("abd", "abcx"), "abc"),
        ("abcdef", ("bcdx", "cde"), "ab"),
        ("abcdef", ("abcdefg", "def"), "abc"),
        ("x" * 9 + "s" * 70 + "t" + "y", ("s" * 70 + "t",), "x" * 9),
        (CHINESE, ("，",), "床前明月光"),
        (CHINESE, ("上霜。",), "床前明月光，疑是地"),
        ("a\n\nb", ("\n\n",), "a"),
    ],
)
def test_stop_texts(text: str, stop: tuple[str, ...], expected: str) -> None:
    assert written(reciting(text), replace(CONFIG, max_tokens=200, stop=stop)) == (expected, "stop")


def test_no_stop_text_comes_up() -> None:
    config = replace(CONFIG, max_tokens=200, stop=("threeX", "ee ", "one  "))
    assert written(reciting("one two three"), config) == ("one two three", "end")
    assert written(reciting("one two three"), replace(config, max_tokens=11)) == ("one two thr", "length")


@pytest.mark.parametrize(
    ("read", "prompt", "expected"),
    [
        (None, "I met Mr", ". Smith there."),
        ("I met Mr", "", ". Smith there."),
        ("I met M", "r", ". Smith there."),
        ("I met Mr\0", "", "."),
    ],
)
def test_a_sentence_goes_on_from_the_text_before_it(read: str | None, prompt: str, expected: str) -> None:
    """Also from a position in a text, but not from another document, which ends at \\0 here."""
    before = [EOS if id == TOKENIZER.encode("\0")[0] else id for id in TOKENIZER.encode((read or "") + prompt)]
    generator = Generator(Recital([*before, *TOKENIZER.encode(". Smith there. He left."), EOS], V), TOKENIZER)
    start = None if read is None else generator.read(before[: len(read)])
    stream = generator.tokens(prompt, replace(CONFIG, until="sentence", temperature=0.0, heal=False), start)
    assert ("".join(token.text for token in stream), stream.row.stop_reason) == (expected, "until")


def test_a_sentence_goes_on_from_a_prompt_that_is_healed() -> None:
    tokenizer = WordsTokenizer(["Mr", "Mr."])
    generator = Generator(Recital(tokenizer.encode("I met Mr. Smith there. He left."), tokenizer.vocab_size), tokenizer)
    (generation,) = generator.generate("I met Mr", replace(CONFIG, until="sentence", temperature=0.0))
    assert (generation.text, generation.healed) == (". Smith there.", 2)


def test_a_stop_text_in_the_prompt_does_not_count(counter: Generator) -> None:
    config = replace(CONFIG, max_tokens=4, stop=("ab", "b"))
    assert written(counter, config, "ab") == ("cdef", "length")
    assert written(counter, replace(config, stop=("abc", "bcd")), "ab") == ("cdef", "length")


def test_the_last_piece_may_complete_a_stop_text() -> None:
    config = replace(CONFIG, max_tokens=7, stop=("two",))
    assert written(reciting("one two three"), config) == ("one ", "stop")


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (("lo",), "hel"),
        (("wor",), "hello "),
        (("o w", "ld"), "hell"),
        (("ell", "hello"), ""),
        (("d!", "rl"), "hello wo"),
    ],
)
def test_stop_texts_across_the_borders_of_pieces(stop: tuple[str, ...], expected: str) -> None:
    tokenizer = WordsTokenizer(["hel", "lo wo", "rld", "!"])
    fake = RecitingModel([V, V + 1, V + 2, V + 3, EOS], tokenizer.vocab_size)
    assert written(Generator(as_model(fake), tokenizer), replace(CONFIG, stop=stop)) == (expected, "stop")


def test_each_row_ends_in_its_own_way() -> None:
    fake = CountingModel(after={TOKENIZER.encode("g")[0]: EOS, TOKENIZER.encode("t")[0]: TOKENIZER.encode("A")[0]})
    generator = Generator(as_model(fake), TOKENIZER)
    config = replace(CONFIG, max_tokens=12, stop=("Q",))
    generations = generator.generate(["c", "h", "H", "M", "f", "g"], config)
    assert [(g.text, g.stop_reason) for g in generations] == [
        ("defg", "end"),
        ("ijklmnopqrst", "length"),
        ("IJKLMNOP", "stop"),
        ("NOP", "stop"),
        ("g", "end"),
        ("", "end"),
    ]


# === Streaming ===


@pytest.mark.parametrize("stop", [(), ("疑是", "地"), ("上天", "光。"), ("🀄",)], ids=str)
def test_a_stream_never_shows_half_a_character(stop: tuple[str, ...]) -> None:
    text = CHINESE * 5
    generator = reciting(text)
    config = replace(CONFIG, max_tokens=500, stop=stop)
    pieces = list(generator.stream("", config))
    assert "\ufffd" not in "".join(pieces)
    assert all(pieces)
    assert len(pieces) > 3 or any(mark in CHINESE for mark in stop)
    assert "".join(pieces) == generator.generate("", config)[0].text
    assert "".join(pieces) == text[: min((text.index(mark) for mark in stop if mark in text), default=None)]


def test_a_stream_never_shows_what_a_stop_text_takes_back() -> None:
    shown = ""
    for piece in reciting("one sto, two stop").stream("", replace(CONFIG, stop=("stop",))):
        shown += piece
        assert "one sto, two ".startswith(shown)
    assert shown == "one sto, two "


def test_a_character_cut_short() -> None:
    """By a limit: it is left out. The model, which would end the document within it, has to complete it."""
    assert written(reciting("月光"), replace(CONFIG, max_tokens=4)) == ("月", "length")
    cut = Generator(as_model(RecitingModel([*TOKENIZER.encode("月光")[:4], EOS])), TOKENIZER)
    text, reason = written(cut, replace(CONFIG, max_tokens=7))
    assert (text[0], len(text), reason) == ("月", 2, "length")
    assert text[1].encode()[0] == "光".encode()[0]


UNICODE = st.text(
    st.sampled_from("ab. \n。，！床前明月光👩\u200d🚀🏽é\u0301") | st.characters(exclude_categories=["Cs"])
)


def first_end(text: str, stop: list[str]) -> str:
    """What is left of a text: it ends before the stop text that is complete first."""
    for end in range(len(text) + 1):
        if found := [at for mark in stop if (at := text.find(mark, 0, end)) >= 0]:
            return text[: min(found)]
    return text


@given(UNICODE, st.lists(UNICODE.filter(bool).map(lambda text: text[:3]), max_size=3), st.data())
@settings(deadline=None)
def test_no_text_in_the_world_is_shown_in_broken_characters(text: str, stop: list[str], data: st.DataObject) -> None:
    """Streamed byte by byte, and cut short by stop texts, some of which are parts of it, or by max_tokens."""
    if text:
        start = data.draw(st.integers(0, len(text) - 1))
        stop = [*stop, text[start : start + data.draw(st.integers(1, 3))]]
    whole = [*TOKENIZER.encode(text), EOS]
    most = data.draw(st.integers(1, len(whole)))
    config = replace(CONFIG, max_tokens=most, stop=tuple(stop), until="document")
    generator = Generator(Recital(whole, V), TOKENIZER)
    (generation,) = generator.generate("", config)
    parts = list(generator.stream("", config))
    shown = first_end(b"".join([TOKENIZER.piece_bytes[id] for id in whole[:most]]).decode(errors="ignore"), stop)
    assert "".join(parts) == generation.text == shown
    assert all(part.encode().decode() == part for part in parts)


@pytest.mark.parametrize("stop", [(), ("e",), (" ", "xx"), ("\ufffd",)], ids=str)
def test_a_stream_equals_the_text_of_a_real_model(generator: Generator, stop: tuple[str, ...]) -> None:
    config = replace(CONFIG, stop=stop, temperature=2.0)
    results = [written(generator, replace(config, seed=seed), "The cat") for seed in range(5)]
    assert len({text for text, _ in results}) > 1
    for text, reason in results:
        assert reason in ("end", "length", *["stop"] * bool(stop))
        assert not any(each in text for each in stop)


def test_the_first_text_comes_early(counter: Generator) -> None:
    assert next(counter.stream("a", replace(CONFIG, max_tokens=1 << 62))) == "b"


def steps_of_texts(generator: Generator, *lengths: int, **how: Any) -> list[int]:
    """How many steps the model has taken when each text of these lengths arrives."""
    requests = [Request("", replace(CONFIG, max_tokens=length)) for length in lengths]
    model: Any = generator.model
    return [len(model.batch_sizes) for _ in generator.generate_requests(requests, **how)]


def test_a_text_arrives_as_soon_as_it_and_those_before_it_have_ended() -> None:
    endless = TableModel(V)
    endless.tables[:, :, EOS] = -np.inf
    for lengths, expected in (((2, 9), [2, 9]), ((9, 2, 20), [9, 9, 20]), ((3, 3), [3, 3])):
        endless.batch_sizes.clear()
        assert steps_of_texts(Generator(endless, TOKENIZER), *lengths) == expected
    endless.batch_sizes.clear()
    assert steps_of_texts(Generator(endless, TOKENIZER), 2, 5, 1, batch_size=2) == [2, 5, 5]
    endless.batch_sizes.clear()
    assert steps_of_texts(Generator(endless, TOKENIZER), 2, 5, 1, batch_size=1) == [2, 7, 8]
    endless.batch_sizes.clear()
    assert steps_of_texts(Generator(endless, TOKENIZER), 2, 5, best_of=3) == [2, 5]


def test_a_reader_that_leaves_ends_the_other_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TableModel(V)
    model.tables[:, :, EOS] = -np.inf
    generator, decoders = Generator(model, TOKENIZER), list[weakref.ref[Decoder]]()
    make = generator.decoder

    def made() -> Decoder:
        decoder = make()
        decoders.append(weakref.ref(decoder))
        return decoder

    monkeypatch.setattr(generator, "decoder", made)
    requests = [Request("", replace(CONFIG, max_tokens=length)) for length in (2, 300)]
    texts = generator.generate_requests(requests)
    assert len(next(texts).ids) == 2
    assert isinstance(texts, types.GeneratorType)
    texts.close()
    gc.collect()
    assert (len(model.batch_sizes), decoders[0]()) == (2, None)


# === Compilation ===


def test_nothing_is_traced_twice() -> None:
    fake = CountingModel()
    generator = Generator(as_model(fake), TOKENIZER)
    generator.generate("a long prompt", CONFIG)
    traces = fake.traces
    assert 0 < traces <= 4
    for prompts in (["", "a"], ["b"] * 7, [CHINESE, "abc" * 200], [""]):
        for max_tokens in (1, 5, 100):
            generator.generate(prompts, replace(CONFIG, max_tokens=max_tokens, temperature=0.3, stop=("q",)))
    list(generator.stream("abc", CONFIG))
    assert fake.traces == traces


# === Prompts and settings ===


def test_one_prompt_or_many(counter: Generator) -> None:
    config = replace(CONFIG, max_tokens=2)
    assert [g.text for g in counter.generate("a", config)] == ["bc"]
    assert [g.text for g in counter.generate(("a", "m"), config)] == ["bc", "no"]
    assert [g.text for g in counter.generate(["a", "m"], config, num=2)] == ["bc", "bc", "no", "no"]
    assert len(counter.generate(num=3, config=config)) == 3


def test_default_settings() -> None:
    (generation,) = reciting("x").generate()
    assert (generation.prompt, generation.text, generation.stop_reason) == ("", "x", "end")
    assert "".join(reciting("x").stream()) == "x"


@pytest.mark.parametrize(
    "write",
    [
        lambda generator, prompt: generator.generate(prompt, CONFIG),
        lambda generator, prompt: generator.generate(["a", prompt], CONFIG),
        lambda generator, prompt: list(generator.stream(prompt, CONFIG)),
    ],
)
def test_a_prompt_that_is_no_text(counter: Generator, write: Callable[[Generator, str], object]) -> None:
    with pytest.raises(TokenizerError):
        write(counter, "a \ud800 b")


def test_nothing_to_write(counter: Generator) -> None:
    with pytest.raises(ConfigError, match="at least one prompt"):
        counter.generate([], CONFIG)


@pytest.mark.parametrize("number", [0, -1, (1 << 20) + 1, 1 << 80])
def test_fewer_texts_than_one_and_more_than_memory_holds_are_refused(counter: Generator, number: int) -> None:
    requests = [Request("a", CONFIG)]
    for write in (
        lambda: counter.generate("a", CONFIG, number),
        lambda: next(counter.generate_requests(requests, number)),
    ):
        with pytest.raises(ConfigError, match=f"^num must be a number from 1 to 1,048,576. Received: {number}."):
            write()
    with pytest.raises(ConfigError, match=f"^batch_size must be a number from 1 to 1,048,576. Received: {number}."):
        next(counter.generate_requests(requests, batch_size=number))
    with pytest.raises(ConfigError, match=f"^best_of must be a number from 1 to 1,048,576. Received: {number}."):
        next(counter.generate_requests(requests, best_of=number))


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_k": -1},
        {"top_k": 1.5},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"max_tokens": 0},
        {"stop": [""]},
        {"stop": "END"},
        {"seed": -1},
        {"heat": 1.0},
    ],
    ids=str,
)
def test_settings_that_make_no_sense(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        from_dict(SamplingConfig, values)


def test_generations_are_frozen(counter: Generator) -> None:
    (generation,) = counter.generate("a", CONFIG)
    with pytest.raises(dataclasses.FrozenInstanceError):
        generation.text = ""  # type: ignore[misc]


def test_a_request_alone_is_one_of_several(generator: Generator) -> None:
    request = Request("a", replace(CONFIG, seed=3, max_tokens=3))
    alone, first = list(generator.generate_requests(request)), list(generator.generate_requests([request]))
    assert [result.text for result in alone] == [result.text for result in first]


def test_copies_of_a_request_without_a_seed_have_seeds_one_after_the_other(generator: Generator) -> None:
    """With `best_of`, too: each can be made again on its own, and the others of its prompt with it."""
    config = replace(CONFIG, seed=None, max_tokens=3)
    for best_of in (None, 4):
        results = list(generator.generate_requests([Request("a", config), Request("b", config)], 3, best_of))
        for prompt in "ab":
            seeds = sorted(result.seed for result in results if result.prompt == prompt)
            assert len(set(seeds)) == 3
            assert seeds[-1] - seeds[0] < (best_of or 3)
        assert abs(results[0].seed - results[3].seed) > 10
