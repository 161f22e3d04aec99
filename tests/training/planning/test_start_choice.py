"""The rule that chooses a base or none, and what the plan says of it."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from base_models import FABLES, save_base

from textgen.cli.plan_report import describe, plan_values
from textgen.cli.setting_options import flag_of
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.corpus_preparation import prepare_corpus
from textgen.dataset.token_files import SplitSummary
from textgen.errors import ConfigError, CorpusError, SavedModelError
from textgen.saved_model.compression import compressed_copy
from textgen.saved_model.layout import WEIGHTS
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import write_training
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer
from textgen.training.distributed.distribution import Shares
from textgen.training.planning import start_choice
from textgen.training.planning.estimates import run_seconds
from textgen.training.planning.plan import Hardware, Plan, Sources, make_plan
from textgen.training.planning.relative_loss import relative_loss
from textgen.training.planning.start_choice import (
    SUITABLE_UP_TO,
    UNSUITABLE_ABOVE,
    Fit,
    given_fit,
    given_start,
    measure_fit,
)

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))
import misfit_texts

LAPTOP = Hardware(2e11)
TALES = FABLES[60_000:]


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bases with one in it. It is shared: copy it to change it."""
    return save_base(tmp_path_factory.mktemp("bases")).parent


@pytest.fixture(autouse=True)
def bases(english: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTGEN_BASES", str(english))


def corpus_of(tmp_path: Path, text: str) -> Corpus:
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    return Corpus([tmp_path / "text.txt"], CorpusConfig(documents="line"))


def planned(
    tmp_path: Path, text: str = TALES, *, preset: str | None = None, shares: Shares | None = None, **settings: Any
) -> Plan:
    sources, hardware = Sources(may_choose_base=True), Hardware(2e11, shares or Shares())
    return make_plan(corpus_of(tmp_path, text), settings, preset=preset, sources=sources, hardware=hardware)


def test_prose_starts_from_the_base_of_its_script(tmp_path: Path) -> None:
    made = planned(tmp_path)
    assert (made.choice.name, made.choice.decided_by, made.start_name, made.rival) == (
        "english",
        "rule",
        "english",
        None,
    )
    assert made.sources.start
    assert made.model_config.hidden_units == made.sources.start.model_config.hidden_units
    assert made.sources.tokenizer is made.sources.start.tokenizer
    there = sum(len(made.sources.tokenizer.encode(text)) + 1 for text in corpus_of(tmp_path, TALES).documents())
    assert made.estimates.tokens == pytest.approx((1 - made.training_config.valid_fraction) * there, rel=0.001)
    fit = made.choice.fit
    assert fit
    assert fit.token_ratio < SUITABLE_UP_TO.token_ratio
    line = f"start       english: its vocabulary covers {100 * (1 - fit.unknown_byte_fraction):.1f} % of the bytes, "
    line += f"and needs {fit.token_ratio:.2f} times as many tokens as one trained on the text\n"
    assert line in describe(made, tmp_path)
    assert f"\nvocabulary  unigram, {made.model_config.vocab_size:,} tokens; about " in describe(made, tmp_path)
    values = plan_values(made, tmp_path)["start"]
    assert (values["name"], values["decided_by"], values["tries_both"]) == ("english", "rule", False)
    assert values["token_ratio"] == pytest.approx(fit.token_ratio, abs=1e-4)


@pytest.mark.parametrize("name", list(misfit_texts.TEXTS))
def test_text_of_another_kind_starts_from_random_weights(tmp_path: Path, name: str) -> None:
    made = planned(tmp_path, misfit_texts.text(name, 20_000))
    assert (made.choice.name, made.choice.decided_by, made.start_name, made.rival) == (None, "rule", "none", None)
    alone = make_plan(corpus_of(tmp_path, misfit_texts.text(name, 20_000)), hardware=LAPTOP)
    assert made.training_config == alone.training_config
    assert made.model_config == alone.model_config
    assert f"\nstart       none: {made.choice.reason}\n" in describe(made, tmp_path)
    assert f"\nvocabulary  unigram, about {made.model_config.vocab_size:,} tokens; about " in describe(made, tmp_path)


def test_a_base_is_moved_in_one_cycle_unless_a_schedule_is_given(tmp_path: Path) -> None:
    def schedule(**settings: Any) -> tuple[str, float]:
        training = planned(tmp_path, **settings).training_config
        return training.schedule, training.warmup_fraction

    assert schedule() == ("one-cycle", 0.0)
    assert schedule(schedule="cosine") == ("cosine", 0.02)
    assert schedule(warmup_fraction=0.1) == ("cosine", 0.1)
    assert schedule(tokenizer="char") == ("cosine", 0.02)  # from random weights


def test_the_result_is_mixed_with_a_base_whose_vocabulary_it_keeps(tmp_path: Path, english: Path) -> None:
    assert planned(tmp_path).training_config.interpolate_start
    assert ", adamw, weights mixed with those of english at the end\n" in describe(planned(tmp_path), tmp_path)
    assert not planned(tmp_path, interpolate_start=False).training_config.interpolate_start
    assert not planned(tmp_path, tokenizer="char").training_config.interpolate_start  # from random weights
    own = train_tokenizer([TALES], TokenizerConfig("unigram", vocab_size=800))
    start = load_model(str(english / "english"))
    corpus = corpus_of(tmp_path, TALES)
    other = make_plan(corpus, sources=Sources(start=start, tokenizer=own), hardware=LAPTOP)
    assert other.training_config.schedule == "one-cycle"
    assert not other.training_config.interpolate_start


def test_a_mix_with_a_model_of_another_vocabulary_is_refused_by_the_plan(tmp_path: Path, english: Path) -> None:
    start, corpus = load_model(str(english / "english")), corpus_of(tmp_path, TALES)
    own = train_tokenizer([TALES], TokenizerConfig("unigram", vocab_size=800))
    cases: list[tuple[dict[str, Any], Tokenizer | None]] = [({"tokenizer": "char"}, None), ({}, own)]
    for settings, tokenizer in cases:
        sources = Sources(start=start, tokenizer=tokenizer)
        with pytest.raises(ConfigError, match="with the same vocabulary: keep the vocabulary of that model, or leave"):
            make_plan(corpus, {**settings, "interpolate_start": True}, sources=sources, hardware=LAPTOP)
    of_bytes = replace(start, tokenizer=ByteTokenizer())
    settings = {"tokenizer": "byte", "interpolate_start": True}
    assert make_plan(corpus, settings, sources=Sources(start=of_bytes), hardware=LAPTOP)


@pytest.mark.slow
def test_a_text_that_is_hard_for_a_base_gets_a_higher_learning_rate_and_more_passes(
    tmp_path: Path, english: Path
) -> None:
    """The rate rises with the cube of the relative loss above 1.4, up to three times."""
    base = load_model(str(english / "english"))
    start = replace(base, training={**has_read(60_000_000), "scores": {"bits_per_byte": 1.0}})
    bits = relative_loss(start, corpus_of(tmp_path, TALES).sample)
    assert bits

    def of_loss(loss: float, **settings: Any) -> Plan:
        scores = {"bits_per_byte": bits / loss}
        source = Sources(start=replace(start, training={**start.training, "scores": scores}))
        return make_plan(corpus_of(tmp_path, TALES), settings, sources=source, hardware=LAPTOP)

    usual = of_loss(1.0).training_config
    times = {0.5: 1, 1.2: 1, 1.4: 1, 1.75: 1.25**3, 2.5: 3}
    plans = {loss: of_loss(loss).training_config for loss in times}
    rates = {loss: plan.learning_rate / usual.learning_rate for loss, plan in plans.items()}
    assert rates == pytest.approx(times, rel=0.03)
    assert usual.epochs
    passes = {loss: (plan.epochs or 0) / usual.epochs for loss, plan in plans.items()}
    assert passes == pytest.approx({loss: value**0.4 for loss, value in times.items()}, rel=0.03)
    assert plan_values(of_loss(1.75), tmp_path)["start"]["relative_loss"] == 1.75
    line = "\nstart       english; loss 1.8 times that on its own text, so a higher learning rate and more epochs\n"
    assert line in describe(of_loss(1.75), tmp_path)
    for given in ({"epochs": 2}, {"steps": 9}):
        assert line.replace(" and more epochs", "") in describe(of_loss(1.75, **given), tmp_path)
        said = describe(of_loss(1.75, learning_rate=1e-3, **given), tmp_path)
        assert "\nstart       english; loss 1.8 times that on its own text\n" in said
    assert "higher learning rate" not in describe(of_loss(1.4), tmp_path)
    fixed = of_loss(1.75, learning_rate=1e-3)
    assert fixed.training_config == replace(plans[1.75], learning_rate=1e-3)
    assert line.replace("a higher learning rate and ", "") in describe(fixed, tmp_path)


def test_a_writing_system_without_a_base_and_a_base_that_is_not_there_are_named(tmp_path: Path) -> None:
    assert (
        planned(tmp_path, misfit_texts.text("thai", 5000)).choice.reason == "there is no base for this writing system"
    )
    verse = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n" * 60
    assert planned(tmp_path, verse).choice.reason == "the base chinese is not installed"


EXCLUDING: list[tuple[dict[str, Any], str]] = [
    ({"preset": "small"}, "the preset small is given"),
    ({"hidden_units": 64}, "hidden_units is given"),
    ({"cell": "gru"}, "cell is given"),
    ({"direction": "both"}, "direction is given"),
    ({"forget_bias": 0.0}, "forget_bias is given"),
    ({"tokenizer": "char"}, "the tokenizer char is given"),
    ({"tokenizer": "byte"}, "the tokenizer byte is given"),
    ({"tokenizer": "word"}, "the tokenizer word is given"),
    ({"vocab_size": 500}, "vocab_size is given"),
    ({"character_coverage": 0.99}, "character_coverage is given"),
]


@pytest.mark.parametrize(("settings", "reason"), EXCLUDING)
def test_what_is_given_excludes_a_base_with_the_reason_in_the_plan(
    tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    made = planned(tmp_path, **settings)
    assert (made.choice.name, made.choice.reason) == (None, reason)
    (line,) = [line for line in describe(made, tmp_path).splitlines() if line.startswith("start ")]
    is_setting = reason.split()[0] in settings
    assert line == f"start       none: {flag_of(reason) if is_setting else reason}"


def test_settings_that_do_not_touch_the_network_exclude_nothing(tmp_path: Path) -> None:
    made = planned(tmp_path, dropout=0.1, learning_rate=0.001, epochs=2.0, batch_size=4, seed=3)
    assert made.start_name == "english"
    assert (made.model_config.dropout, made.training_config.learning_rate) == (0.1, 0.001)
    assert made.training_config.epochs == 2.0


def test_labels_are_learned_from_a_base_too(tmp_path: Path) -> None:
    rows = [f"{'ab'[number % 2]}\t{line}" for number, line in enumerate(TALES.splitlines()) if len(line) > 60]
    (tmp_path / "text.tsv").write_text("\n".join(["author\ttext", *rows]), encoding="utf-8")
    corpus = Corpus([tmp_path / "text.tsv"], CorpusConfig(labels="author"))
    made = make_plan(corpus, sources=Sources(may_choose_base=True), hardware=LAPTOP)
    assert (made.start_name, sorted(made.facts.labels)) == ("english", ["a", "b"])


def test_a_vocabulary_that_is_given_and_that_of_a_prepared_corpus_stay(tmp_path: Path, english: Path) -> None:
    tokenizer = load_model(str(english / "english")).tokenizer
    sources = Sources(tokenizer=tokenizer, may_choose_base=True)
    assert make_plan(corpus_of(tmp_path, TALES), sources=sources, hardware=LAPTOP).choice.reason == (
        "a vocabulary is given"
    )
    prepared = prepare_corpus([str(tmp_path / "text.txt")], tmp_path / "prepared", {"tokenizer": "char"})
    made = make_plan(prepared, sources=Sources(may_choose_base=True), hardware=LAPTOP)
    assert made.choice.reason == "a prepared corpus has a vocabulary of its own"


def test_a_text_for_a_larger_network_than_the_base_has_starts_from_random_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_base(tmp_path / "narrow", units=8)
    monkeypatch.setenv("TEXTGEN_BASES", str(tmp_path / "narrow"))
    assert planned(tmp_path).choice.reason == "the text supports a larger network than that of english"


def test_a_long_text_unlike_what_a_base_has_read_starts_from_random_weights_if_there_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(loss: float, **settings: Any) -> str | None:
        monkeypatch.setattr("textgen.training.planning.basis.relative_loss", lambda *given: loss)
        return planned(tmp_path, **settings).choice.name

    assert name(1.8) == "english"  # the text is short
    monkeypatch.setattr("textgen.training.planning.plan.LONG_TEXT", 1000)
    assert name(1.8) is None
    assert planned(tmp_path).choice.reason == (
        "the text is long, and the loss of english on it is 1.80 times that on its own text"
    )
    assert planned(tmp_path).training_config.schedule == "cosine"
    assert name(1.5) == "english"
    assert name(1.8, decay_target="start") == name(1.8, epochs=5) == "english"


@pytest.mark.parametrize("long_text", [1000, 10_000_000])
def test_a_given_learning_rate_changes_neither_the_start_nor_the_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_text: int
) -> None:
    monkeypatch.setattr("textgen.training.planning.basis.relative_loss", lambda *given: 1.8)
    monkeypatch.setattr("textgen.training.planning.plan.LONG_TEXT", long_text)
    chosen, given = planned(tmp_path), planned(tmp_path, learning_rate=1e-3)
    assert chosen.start_name == ("none" if long_text == 1000 else "english")
    assert given.choice == chosen.choice
    assert given.training_config == replace(chosen.training_config, learning_rate=1e-3)
    assert given.model_config == chosen.model_config


def test_how_hard_a_text_is_is_measured_on_a_prepared_corpus_too(
    tmp_path: Path, english: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = load_model(str(english / "english"))
    corpus_of(tmp_path, TALES)
    settings, scored = {"documents": "line"}, list[list[str]]()
    prepared = prepare_corpus([str(tmp_path / "text.txt")], tmp_path / "prepared", settings, tokenizer=start.tokenizer)

    def loss(model: ModelFolder, texts: list[str]) -> float:
        scored.append(texts)
        return 1.8

    monkeypatch.setattr("textgen.training.planning.basis.relative_loss", loss)
    made = make_plan(prepared, sources=Sources(start=start), hardware=LAPTOP)
    assert made.choice.relative_loss == 1.8
    (texts,) = scored
    assert sum(map(len, texts)) > 16 * 500
    assert all(text in TALES for text in texts)


def test_too_little_text_is_refused_before_a_vocabulary_is_learned_from_it(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="The corpus has 4 characters, too few"):
        planned(tmp_path, "a\nb\nc\nd\n")


def test_a_damaged_base_is_named_and_does_not_stop_a_run(
    tmp_path: Path, english: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(english, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "english" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    monkeypatch.setenv("TEXTGEN_BASES", str(tmp_path / "damaged"))
    made = planned(tmp_path)
    assert made.start_name == "none"
    assert made.choice.reason.startswith("the base english cannot be used: ")
    assert "\n" not in made.choice.reason


def test_a_run_that_names_what_it_starts_from_has_no_choice(tmp_path: Path, english: Path) -> None:
    start = given_start("english", None)
    made = make_plan(corpus_of(tmp_path, misfit_texts.text("dna", 9000)), sources=Sources(start=start), hardware=LAPTOP)
    assert (made.choice.name, made.choice.decided_by) == ("english", "given")
    assert "\nstart       english\n" in describe(made, tmp_path)
    assert given_start("none", None) is None
    none = make_plan(corpus_of(tmp_path, TALES), sources=Sources(), hardware=LAPTOP)
    assert (none.choice.name, none.choice.decided_by, none.start_name) == (None, "given", "none")
    with pytest.raises(ConfigError, match="hidden_units cannot be set when fine-tuning: the model 'english' decides"):
        make_plan(corpus_of(tmp_path, TALES), {"hidden_units": 8}, sources=Sources(start=start), hardware=LAPTOP)
    with pytest.raises(SavedModelError, match="lacks the base 'chinese'"):
        given_start("chinese", None)


def test_a_vocabulary_that_is_given_and_does_not_suit_the_text_is_counted_with_and_warned_of(
    tmp_path: Path, english: Path
) -> None:
    start, corpus = load_model(str(english / "english")), corpus_of(tmp_path, "床前明月光，疑是地上霜。\n" * 100)
    covers = "does not suit the text: it covers .*"
    sources = {
        f"the vocabulary of english {covers}[.] Leave out --from, or use --from none": Sources(start=start),
        f"this vocabulary {covers}[.] Leave out --tokenizer-from": Sources(
            tokenizer=start.tokenizer, may_choose_base=True
        ),
    }
    for warning, source in sources.items():
        made = make_plan(corpus, {"valid_fraction": 0.1}, sources=source, hardware=LAPTOP)
        assert made.estimates.tokens == pytest.approx(0.9 * 3 * 12 * 100, rel=0.1)  # each byte is a token
        assert made.choice.fit
        assert made.choice.fit.unknown_byte_fraction > UNSUITABLE_ABOVE.unknown_byte_fraction
        (line,) = [line for line in describe(made, tmp_path).splitlines() if line.startswith("warning ")]
        assert re.fullmatch(f"warning     {warning}", line)
        assert plan_values(made, tmp_path)["start"]["unknown_byte_fraction"] > UNSUITABLE_ABOVE.unknown_byte_fraction
    suiting = make_plan(corpus_of(tmp_path, TALES), sources=Sources(start=start), hardware=LAPTOP)
    assert suiting.choice.fit
    assert "\nwarning" not in describe(suiting, tmp_path)


@pytest.mark.parametrize("kind", ["word", "byte"])
def test_a_vocabulary_of_words_or_bytes_has_no_fit_and_its_tokens_are_counted(tmp_path: Path, kind: str) -> None:
    tokenizer = train_tokenizer([FABLES], TokenizerConfig(kind))
    corpus = corpus_of(tmp_path, TALES)
    made = make_plan(corpus, {"valid_fraction": 0.1}, sources=Sources(tokenizer=tokenizer), hardware=LAPTOP)
    assert made.choice.fit is None
    assert made.estimates.tokens == pytest.approx(0.9 * len(tokenizer.encode(TALES)), rel=0.02)


def test_a_text_that_teaches_no_vocabulary_has_no_fit(tmp_path: Path, english: Path) -> None:
    tokenizer = load_model(str(english / "english")).tokenizer
    corpus = corpus_of(tmp_path, "\u2581\n" * 600)
    assert given_fit(corpus, tokenizer) is None
    assert given_fit(corpus, None) is None


@pytest.mark.parametrize(
    ("unknown", "ratio", "suits", "probable"),
    [
        (0.0, 0.9, True, True), (*SUITABLE_UP_TO, True, True), (SUITABLE_UP_TO[0] + 0.001, 1.0, None, True),
        (0.0, SUITABLE_UP_TO[1] + 0.01, None, True), (0.0, UNSUITABLE_ABOVE[1] - 0.01, None, False),
        (*UNSUITABLE_ABOVE, None, False), (UNSUITABLE_ABOVE[0] + 0.001, 1.0, False, False),
        (0.0, UNSUITABLE_ABOVE[1] + 0.01, False, False),
    ],
)  # fmt: skip
def test_the_rule_has_two_bounds_and_a_doubt_between(
    unknown: float, ratio: float, suits: bool | None, probable: bool
) -> None:
    assert Fit(unknown, ratio).suits is suits
    assert Fit(unknown, ratio).is_probable == probable


def test_a_short_text_is_not_in_doubt_because_of_its_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_choice, "SUITABLE_UP_TO", Fit(0.01, 0.1))
    made = planned(tmp_path)
    assert (made.start_name, made.rival, made.choice.decided_by) == ("english", None, "rule")
    assert made.choice.reason == f"its vocabulary {made.choice.fit}; a short text"
    monkeypatch.setattr(start_choice, "SHORT_TEXT", len(TALES) // 2)
    assert planned(tmp_path).rival
    monkeypatch.setattr(start_choice, "SHORT_TEXT", 10 * len(TALES))
    assert planned(tmp_path, TALES.replace("the", "thé")).rival  # spelled bytes leave it in doubt


def test_bytes_that_are_spelled_are_counted(english: Path) -> None:
    tokenizer = load_model(str(english / "english")).tokenizer
    fit = measure_fit(["the cat ßß" * 50], tokenizer, TokenizerConfig())
    assert fit.unknown_byte_fraction == pytest.approx(200 / 600)
    assert measure_fit([FABLES], tokenizer, TokenizerConfig()).unknown_byte_fraction == 0.0


@pytest.mark.parametrize("indent", ["\u3000\u3000", "\u2003", "\t"])
def test_white_space_at_the_start_of_lines_does_not_count(english: Path, indent: str) -> None:
    tokenizer = load_model(str(english / "english")).tokenizer
    plain = TALES[:20_000]
    indented = "\n".join(indent + line if line else "" for line in plain.split("\n"))
    assert measure_fit([indented], tokenizer, TokenizerConfig()) == measure_fit([plain], tokenizer, TokenizerConfig())


@pytest.fixture
def doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is in doubt."""
    monkeypatch.setattr(start_choice, "SHORT_TEXT", 0)
    monkeypatch.setattr(start_choice, "SUITABLE_UP_TO", Fit(0.0, 0.1))
    monkeypatch.setattr(start_choice, "UNSUITABLE_ABOVE", Fit(1.0, 9.0))


def test_a_text_in_doubt_gets_both_plans_and_the_dry_run_says_so(tmp_path: Path, doubt: None) -> None:
    made = planned(tmp_path)
    assert made.choice.is_open
    assert made.rival
    assert {made.start_name, made.rival.start_name} == {"english", "none"}
    line = "english or none, whichever does better in a tenth of the run: the vocabulary of english covers 100.0 % of"
    assert line in describe(made, tmp_path)
    assert plan_values(made, tmp_path)["start"]["tries_both"] is True


def test_plans_that_are_compared_validate_after_a_tenth_of_the_run(tmp_path: Path, doubt: None) -> None:
    cases: list[tuple[dict[str, Any], int]] = [({}, 10), ({"num_validations": 25}, 25)]
    for given, expected in cases:
        made = planned(tmp_path, **given)
        assert made.rival
        validations = [each.training_config.num_validations for each in (made, made.rival)]
        assert validations == [expected, expected]
        assert made.training_config.patience == max(5, expected // 2)


def test_plans_that_are_compared_take_the_time_of_their_validations_and_of_the_other_trial(
    tmp_path: Path, doubt: None
) -> None:
    cases: list[dict[str, Any]] = [{}, {"valid_tokens": 500}]
    for given in cases:
        made = planned(tmp_path, **given)
        assert made.rival
        both, alone = (made, made.rival), list[float]()
        for each in both:
            rough = each.estimates
            speeds = rough.tokens_per_second, rough.scoring_speed
            alone.append(run_seconds(each.model_config, each.training_config, rough.tokens, *speeds))
        expected = [alone[0] + alone[1] / 10, alone[1] + alone[0] / 10]
        assert [each.estimates.seconds for each in both] == pytest.approx(expected)


def counts(tokens: int, size: int) -> SplitSummary:
    return SplitSummary(tokens=tokens, documents=1, ends=1, characters=size, bytes=size, words=1)


def test_plans_that_are_compared_score_the_same_part_of_the_held_out_text(tmp_path: Path, doubt: None) -> None:
    made = planned(tmp_path, steps=2000)
    assert made.rival
    contenders = [made, made.rival]
    alone = [
        make_plan(corpus_of(tmp_path, TALES), {"steps": 2000}, sources=Sources(start=start), hardware=LAPTOP)
        for start in (None, made.sources.start or made.rival.sources.start)
    ]
    shares, own_shares = (
        [each.training_config.valid_tokens / each.estimates.tokens for each in plans] for plans in (contenders, alone)
    )
    assert shares == pytest.approx([max(own_shares)] * 2, rel=1e-3)
    texts = [(counts(50_000, 200_000), counts(5000, 20_000)), (counts(66_000, 200_000), counts(7000, 20_000))]
    own, other = (each.for_text(*text).training_config for each, text in zip(contenders, texts, strict=True))
    assert other.valid_tokens / own.valid_tokens == pytest.approx(7000 / 5000, rel=1e-3)
    given = planned(tmp_path, valid_tokens=500)
    assert given.rival
    assert [each.for_text(*texts[0]).training_config.valid_tokens for each in (given, given.rival)] == [500, 500]


def test_settings_for_fine_tuning_take_the_base_where_it_is_in_doubt_and_need_one_elsewhere(
    tmp_path: Path, doubt: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(tmp_path, decay_target="start")
    assert (made.start_name, made.rival) == ("english", None)
    assert made.choice.reason.endswith("; decay_target is given")
    assert planned(tmp_path, freeze_layers=["embedding"]).start_name == "english"
    monkeypatch.setattr(start_choice, "UNSUITABLE_ABOVE", Fit(0.0, 0.0))
    with pytest.raises(ConfigError, match="decay_target start needs a model to start from"):
        planned(tmp_path, decay_target="start")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"shares": Shares(2, 2)}, "several processes do not try both"),
        ({"num_validations": 4}, "fewer than 10 validations"),
        ({"minutes": 2.0}, "2 minutes are too short"),
    ],
)
def test_where_both_cannot_be_tried_the_likelier_is_taken(
    tmp_path: Path, doubt: None, settings: dict[str, Any], why: str
) -> None:
    made = planned(tmp_path, **settings)
    assert made.rival is None
    assert not made.choice.is_open
    assert made.start_name == "english"  # nearer to the bound below which it suits
    assert why in made.choice.reason


def test_a_base_gets_fewer_passes_and_more_dropout_than_random_weights(tmp_path: Path, english: Path) -> None:
    start = load_model(str(english / "english"))
    for characters in (5_000, len(TALES)):
        corpus = corpus_of(tmp_path, TALES[:characters])
        alone = make_plan(corpus, hardware=LAPTOP)
        tuned = make_plan(corpus, sources=Sources(start=start), hardware=LAPTOP)
        assert tuned.training_config.epochs
        assert alone.training_config.epochs
        assert tuned.training_config.epochs < alone.training_config.epochs
        assert tuned.model_config.dropout >= 0.3
    long = make_plan(corpus_of(tmp_path, TALES * 40), sources=Sources(start=start), hardware=LAPTOP)
    assert long.training_config.epochs
    assert long.training_config.epochs < 30
    assert long.model_config.dropout < tuned.model_config.dropout


def has_read(characters: int, epochs: float = 1.0) -> dict[str, Any]:
    """The record of a model that has read a text so many times."""
    return {
        "corpus": {"paths": [], "characters": characters, "num_documents": 1},
        "model": {"vocab_size": 1500, "embedding_dim": 128, "hidden_units": 128, "num_layers": 1},
        "tokenizer": {"tokenizer": "unigram"},
        "training": {"seed": 0},
        "versions": {"textgen": "1"},
        "parameters": 1,
        "progress": {"step": 1, "epochs": epochs, "seconds": 1.0},
        "scores": {},
        "tokens": {"folder": "", "train": characters // 4, "valid": 1},
    }


@pytest.mark.parametrize(("epochs", "read_much_more"), [(0.05, False), (0.9, True), (1.0, True), (40.0, True)])
def test_what_counts_is_the_part_of_its_text_that_a_model_has_read(
    tmp_path: Path, english: Path, epochs: float, read_much_more: bool
) -> None:
    start = load_model(str(english / "english"))
    start = replace(start, folder=tmp_path / "novel", training=has_read(12 * len(TALES), epochs))
    tuned = make_plan(corpus_of(tmp_path, TALES), sources=Sources(start=start), hardware=LAPTOP)
    assert tuned.training_config.schedule == ("one-cycle" if read_much_more else "cosine")
    unread = make_plan(corpus_of(tmp_path, TALES), sources=Sources(start=replace(start, training={})), hardware=LAPTOP)
    assert unread.training_config.schedule == "cosine"


def test_a_copy_of_a_model_has_read_as_much(tmp_path: Path) -> None:
    folder = save_base(tmp_path / "models", "novel")
    write_training(folder, has_read(20_000_000))
    model = load_model(str(folder))
    compressed_copy(model, tmp_path / "models" / "novel-small", "int8")
    copy = load_model(str(tmp_path / "models" / "novel-small"))
    assert "tokens" not in copy.training
    plans = [
        make_plan(corpus_of(tmp_path, TALES), sources=Sources(start=start), hardware=LAPTOP) for start in (model, copy)
    ]
    assert plans[0].training_config == plans[1].training_config
    assert plans[0].model_config == plans[1].model_config
    assert plans[0].training_config.schedule == "one-cycle"


def test_a_model_that_has_read_little_keeps_its_dropout_and_gets_more_passes(tmp_path: Path, english: Path) -> None:
    base = load_model(str(english / "english"))
    start = replace(base, folder=tmp_path / "novel", training=has_read(60_000))
    little = make_plan(corpus_of(tmp_path, TALES), sources=Sources(start=start), hardware=LAPTOP)
    assert little.model_config.dropout == base.model_config.dropout
    read = replace(start, training=has_read(60_000_000))
    pretrained = make_plan(corpus_of(tmp_path, TALES), sources=Sources(start=read), hardware=LAPTOP)
    based = make_plan(corpus_of(tmp_path, TALES), sources=Sources(start=base), hardware=LAPTOP)
    assert pretrained.training_config == based.training_config
    assert pretrained.model_config == based.model_config
    assert little.training_config.epochs
    assert based.training_config.epochs
    assert little.training_config.epochs > based.training_config.epochs
    assert little.training_config.learning_rate < based.training_config.learning_rate
