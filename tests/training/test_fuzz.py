"""Settings, files and models by the thousand, drawn from a seed: no traceback, no hang, nothing silently wrong.

Each test runs a few hundred cases by default, and many more where it is marked slow: enough that the fuzzers of
`make test-slow` together take ten minutes, of which half are spent on plans. A case that fails is named by its number:
the same seed and number give it again.
"""

from __future__ import annotations

import math
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from files import COMPRESS
from sample_text import LINES

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import TextgenError, TokenizerError
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.model.config import CELLS, DIRECTIONS, ModelConfig
from textgen.saved_model.loading import load_model
from textgen.settings import from_dict, to_dict
from textgen.storage.manifests import MANIFEST, read_manifest
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import load_tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer
from textgen.training.config import TrainingConfig
from textgen.training.planning.plan import Hardware, Plan, make_plan


def cases(few: int, many: int) -> pytest.MarkDecorator:
    """How many cases a test draws: a few, and in `make test-slow` many others."""
    return pytest.mark.parametrize(
        ("seed", "number"), [(0, few), pytest.param(1, many, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
    )


# === Settings through the planner ===

ODD: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 64, 10**6, 10**12, -(10**12), 1 << 63, 0.0, -0.0, 0.1, 0.5, 1.0, 1.5, 1e-300, 1e300,
    math.nan, math.inf, -math.inf, None, True, False, "", "auto", "none", "lstm_0", "x" * 300, (), ("lstm_0",), ("x",),
)  # fmt: skip
CHOICES: dict[str, tuple[Any, ...]] = {
    "cell": tuple(CELLS),
    "direction": DIRECTIONS,
    "tokenizer": ("unigram", "bpe", "char", "word", "byte"),
    "schedule": (
        "constant", "linear", "cosine", "exponential", "step", "triangular", "one-cycle", "plateau", "inverse-sqrt",
    ),
    "optimizer": ("adamw", "adam", "sgd", "asgd", "rmsprop", "lamb"),
    "weight_averaging": ("none", "ema", "last-k"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
}  # fmt: skip
SETTINGS = [each.name for config in (TokenizerConfig, ModelConfig, TrainingConfig) for each in fields(config)]


def drawn_settings(lots: random.Random) -> dict[str, Any]:
    """One to four settings: names that there are, and values that fit, nearly fit or do not."""
    settings: dict[str, Any] = {}
    for name in lots.sample(SETTINGS, lots.randint(1, 4)):
        if name in CHOICES and lots.random() < 0.8:
            settings[name] = lots.choice(CHOICES[name])
        elif lots.random() < 0.4:
            settings[name] = lots.choice(ODD)
        else:
            settings[name] = lots.choice([lots.randint(1, 300), lots.random(), 2.0 ** lots.randint(-12, 6)])
    if lots.random() < 0.02:
        settings[lots.choice(["size", "", "Cell"])] = 1
    return settings


def check_plan(plan: Plan, settings: dict[str, Any]) -> None:
    """What is given stays as it is, estimates are numbers, and all of it can be written down and read again."""
    configs = (plan.tokenizer_config, plan.model_config, plan.training_config)
    chosen = {name: value for config in configs for name, value in to_dict(config).items()}
    for name, value in settings.items():
        if name not in ("vocab_size", "precision") and value is not None:
            assert value == (tuple(chosen[name]) if isinstance(value, tuple) else chosen[name]), name
    for estimate in (
        plan.estimates.tokens,
        plan.estimates.tokens_per_second,
        plan.estimates.seconds,
        plan.estimates.memory_bytes,
        plan.estimates.epochs,
    ):
        assert math.isfinite(estimate)
        assert estimate >= 0
    for config in configs:
        assert from_dict(type(config), to_dict(config)) == config
    assert plan.training_config.precision in CHOICES["precision"][1:]


@cases(600, 50_000)
def test_settings_give_a_plan_or_one_clear_line(seed: int, number: int, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(LINES * 40, encoding="utf-8")
    corpus, lots, ends = Corpus([path], CorpusConfig(documents="line")), random.Random(seed), Counter[str]()
    for case in range(number):
        settings = drawn_settings(lots)
        try:
            check_plan(make_plan(corpus, settings, hardware=Hardware(flops=1e11)), settings)
            ends["planned"] += 1
        except TextgenError as error:
            assert_one_line(error)
            ends["refused"] += 1
        except Exception as error:
            raise AssertionError(f"case {case}: {settings}") from error
    assert min(ends["planned"], ends["refused"]) > number / 10, "both must be tried"


def assert_one_line(error: TextgenError) -> None:
    message = str(error)
    assert message.strip()
    assert "\n" not in message
    assert len(message) < 2000


# === SentencePiece models ===


def flipped(data: bytes, lots: random.Random) -> bytes:
    """A few bits turned over, half of the time near the beginning, and sometimes the rest cut off or doubled."""
    changed = bytearray(data)
    for _ in range(lots.choice([1, 1, 1, 2, 8])):
        place = lots.randrange(min(len(data), lots.choice([300, len(data)])))
        changed[place] ^= 1 << lots.randrange(8)
    if lots.random() < 0.1:
        return bytes(changed[: lots.randrange(len(changed))])
    return bytes(changed) * 2 if lots.random() < 0.02 else bytes(changed)


def hostile(data: bytes, lots: random.Random) -> bytes:
    """A model of another's making: pieces, scores, kinds and rules of normalization are what they should not be."""
    from sentencepiece import sentencepiece_model_pb2

    model: Any = getattr(sentencepiece_model_pb2, "ModelProto").FromString(data)  # noqa: B009 - made at run time
    for _ in range(lots.randint(1, 3)):
        piece = lots.choice(model.pieces)
        match lots.randrange(9):
            case 0:
                piece.piece = lots.choice(["", "\n", "\x00", "▁" * 500, "<0x41>", "</s>", "the", "x" * 100_000])
            case 1:
                piece.score = lots.choice([math.nan, math.inf, -math.inf, 1e38, 0.0])
            case 2:
                piece.type = lots.randint(1, 6)
            case 3:
                del model.pieces[lots.randrange(len(model.pieces)) :]
            case 4:
                model.pieces.add(piece=piece.piece, score=1.0)
            case 5:
                model.trainer_spec.model_type = lots.randint(1, 4)
            case 6:
                model.normalizer_spec.precompiled_charsmap = lots.randbytes(lots.choice([1, 4, 5, 400]))
            case 7:
                for name in ("unk_id", "bos_id", "eos_id", "pad_id"):
                    setattr(model.trainer_spec, name, lots.choice([-1, 0, 1, 2, 10**6]))
            case _:
                model.normalizer_spec.remove_extra_whitespaces = model.normalizer_spec.add_dummy_prefix = True
        if not model.pieces:
            break
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("damage", [flipped, hostile])
@cases(400, 20_000)
def test_a_vocabulary_from_elsewhere_works_or_is_refused(
    seed: int, number: int, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    """One that is taken gives ids that it has, and reads them back as text."""
    lots, ends = random.Random(seed), Counter[str]()
    kinds = ("char", "unigram", "bpe", "word")
    good = [train_tokenizer([LINES * 3], TokenizerConfig(kind)).serialized for kind in kinds]
    texts = [LINES[:60], "", "\x00 ▁ \ud7ff\U0010ffff"]
    for case in range(number):
        data = damage(lots.choice(good), lots)
        try:
            tokenizer = load_tokenizer(data)
            for text in texts:
                ids = tokenizer.encode(text)
                assert all(0 <= id < tokenizer.vocab_size for id in ids)
                assert isinstance(tokenizer.decode(ids), str)
            ends["taken"] += 1
        except TokenizerError as error:
            assert_one_line(error)
            ends["refused"] += 1
        except Exception as error:
            raise AssertionError(f"case {case}") from error
    assert min(ends["taken"], ends["refused"]) > number / 50, "both must be tried"


# === Bits of saved models ===


def said_by(folder: Path) -> tuple[Any, ...]:
    """Everything that a saved model is asked for."""
    saved = load_model(str(folder))
    generator = Generator(saved.numpy_model(), saved.tokenizer)
    text = generator.generate("The", SamplingConfig(max_tokens=4, seed=0))[0].text
    weights = {name: array.tobytes() for name, array in saved.weights().items()}
    return text, weights, saved.model_config, saved.tokenizer.serialized, saved.tokenizer_config, saved.corpus_config


@cases(300, 20_000)
def test_a_bit_of_a_model_that_has_turned_over_is_noticed_or_does_not_matter(
    seed: int, number: int, tiny_models: Path, tmp_path: Path
) -> None:
    """Of all files that writing reads: whoever changes the manifest as well can change anything."""
    lots, ends = random.Random(seed), Counter[str]()
    names = [*sorted(read_manifest(tiny_models / "tiny")["files"]), MANIFEST]
    expected = said_by(tiny_models / "tiny")
    folder = tmp_path / "tiny"
    folder.mkdir()
    contents = {name: (tiny_models / "tiny" / name).read_bytes() for name in names}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    for case in range(number):
        name = lots.choice(names)
        changed = bytearray(contents[name])
        changed[lots.randrange(len(changed))] ^= 1 << lots.randrange(8)
        (folder / name).write_bytes(changed)
        try:
            assert said_by(folder) == expected, f"case {case}: {name}"
            ends["the same"] += 1
        except TextgenError as error:
            assert_one_line(error)
            ends["refused"] += 1
        finally:
            (folder / name).write_bytes(contents[name])
    assert ends["refused"] > number / 2
    assert said_by(folder) == expected


# === Text that is larger than it looks ===


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESS if suffix])
@pytest.mark.parametrize("length", [1 << 16, 1 << 24], ids=["lines", "one line"])
def test_a_decompression_bomb_takes_no_more_memory_than_its_documents(suffix: str, length: int, tmp_path: Path) -> None:
    """32 MB in a few kilobytes. What is one line is one document, and has to be held."""
    size = 1 << 25
    path = tmp_path / f"bomb.txt{suffix}"
    path.write_bytes(COMPRESS[suffix]((b"a" * (length - 1) + b"\n") * (size // length)))
    assert path.stat().st_size < size / 100
    corpus = Corpus([path], CorpusConfig(documents="line"))
    tracemalloc.start()
    lengths = [len(document) for document in corpus.documents()]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lengths == [length - 1] * (size // length)
    held = 4 * size if suffix == ".zst" else size / 2  # zstd makes 30,000 bytes of one, and is fed 4 KiB at a time
    assert peak < 8 * length + held
