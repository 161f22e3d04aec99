"""What people read about a saved model."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from networks import random_weights
from repository import ROOT

from textgen.cli.plan_report import summary
from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.model_card import (
    MARK,
    attribution_in,
    card_file,
    is_edited,
    model_card,
    renamed_card,
    sample_command,
    with_attribution,
)
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.settings import to_dict
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.wording import shell_word

MODEL = ModelConfig(300, embedding_dim=6, hidden_units=8, num_layers=2)
KNOWN: dict[str, Any] = {
    "model": to_dict(MODEL),
    "tokenizer": {"tokenizer": "char"},
    "labels": [],
    "parameters": 98765,
}
TRAINED: dict[str, Any] = KNOWN | {
    "training": {"seed": 7},
    "corpus": {"paths": ["/home/me/poems.txt"], "characters": 12345, "num_documents": 6},
    "scores": {"bits_per_byte": 1.23456},
    "progress": {"step": 1000, "epochs": 2.5, "seconds": 90},
    "versions": {"textgen": "0.1.0"},
}
CARD = """# songs

A recurrent language model, trained with textgen 0.1.0 on `poems.txt`
(12,345 characters in 6 documents).

    textgen sample songs --prompt "..."

| | |
|---|---|
| network | 2 LSTM layers of 8 units, embedding of 6 |
| parameters | 98,765 |
| vocabulary | 300 tokens (char) |
| trained for | 1,000 steps, 2.5 epochs, 1.5 minutes |
| seed | 7 |

Scores on held-out text, by which these weights were chosen:

| | |
|---|---|
| bits per byte | 1.235 |

The text it writes imitates the corpus and nothing else: expect its style, its words and its mistakes, and
now and then a passage that is copied from the corpus word for word. The copyright in the corpus remains with
its owners.
"""


def test_a_card() -> None:
    assert model_card("songs", TRAINED) == CARD


def test_a_card_groups_the_digits_of_sizes() -> None:
    model = ModelConfig(30_000, embedding_dim=1024, hidden_units=4096, num_layers=2)
    card = model_card("songs", KNOWN | {"model": to_dict(model)})
    assert "| network | 2 LSTM layers of 4,096 units, embedding of 1,024 |\n" in card


def test_a_card_without_a_training_leaves_out_what_is_not_known() -> None:
    card = model_card("songs", KNOWN | {"labels": ["a b", "c"]})
    for line in CARD.splitlines():
        unknown = any(word in line for word in ("trained", "characters in", "seed", "held-out", "bits"))
        assert (line in card) == (not unknown and "sample" not in line), line
    assert "A recurrent language model, of whose training nothing is known here.\n" in card
    assert "| labels | a b, c |" in card
    assert """textgen sample songs --label 'a b' --prompt "...\"""" in card


def test_a_card_of_a_run_that_was_stopped_before_its_first_validation_has_no_scores() -> None:
    without = {name: section for name, section in TRAINED.items() if name != "scores"}
    card = model_card("songs", TRAINED | {"scores": {}})
    assert "held-out" not in card
    assert card == model_card("songs", without)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "many files"), (2, "`0.txt`, `1.txt`"), (6, "`0.txt`, `1.txt`, `2.txt`, `3.txt`, `4.txt` and 1 more file")],
)
def test_a_card_names_the_first_files(number: int, expected: str) -> None:
    corpus = TRAINED["corpus"] | {"paths": [f"/home/me/{name}.txt" for name in range(number)]}
    assert f"trained with textgen 0.1.0 on {expected}\n" in model_card("songs", TRAINED | {"corpus": corpus})


HOSTILE = "\ud800\0\x1b[31m\n\n## Licence\n\n> mine\n| a | b |"
FOREIGN: dict[str, dict[str, Any]] = {
    "version": {"versions": {"textgen": HOSTILE}},
    "scores": {"scores": {HOSTILE: 1.0}},
    "labels": {"labels": [HOSTILE]},
    "paths": {"corpus": TRAINED["corpus"] | {"paths": [HOSTILE]}},
    "start": {"start": {"name": HOSTILE, "decided_by": HOSTILE, "reason": HOSTILE}},
    "precision": {"precision": HOSTILE},
    "a number as precision": {"precision": 8},
}


@pytest.mark.parametrize("field", FOREIGN)
def test_a_text_in_the_record_of_a_model_is_one_line_of_its_card(field: str) -> None:
    card = card_file("songs", TRAINED | FOREIGN[field])
    assert attribution_in(card) == {}
    assert not re.search(rb"[\0-\x08\x1b]", card)
    assert not is_edited(card, TRAINED | FOREIGN[field])
    assert is_edited(b"# songs\n", TRAINED | FOREIGN[field])


@pytest.mark.parametrize(
    ("text", "shown"),
    [("Poe|Co", r"Poe\|Co"), ("|", r"\|"), ("a\\|b", r"a\\\|b"), ("a\\", "a\\")],
)
@pytest.mark.parametrize("field", ["labels", "start", "scores", "precision"])
def test_a_bar_in_a_text_does_not_end_a_cell_of_the_table(field: str, text: str, shown: str) -> None:
    values: dict[str, Any] = {
        "labels": [text],
        "start": {"name": text, "decided_by": "rule", "reason": text},
        "scores": {text: 1.0},
        "precision": text,
    }
    rows = [line for line in model_card("songs", TRAINED | {field: values[field]}).split("\n") if line[:1] == "|"]
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {3}
    assert any(shown in row for row in rows)


@pytest.mark.parametrize(
    ("direction", "labels", "expected"),
    [
        ("forward", [], 'textgen sample songs --prompt "..."'),
        ("both", ["fox"], 'textgen sample songs --label fox --prompt "..."'),
        ("backward", [], 'textgen sample songs --suffix "..."'),
        ("forward", ["\x1b[mfox"], """textgen sample songs --label $'\\x1b[mfox' --prompt "...\""""),
        ("backward", ["it's"], f"""textgen sample songs --label {shell_word("it's")} --suffix "...\""""),
    ],
)
def test_the_command_that_writes(direction: str, labels: list[str], expected: str) -> None:
    assert sample_command("songs", {"direction": direction}, labels, prompt=' --prompt "..."') == expected


@pytest.fixture
def saved(tmp_path: Path) -> ModelFolder:
    config = ModelConfig(259, embedding_dim=6, hidden_units=8, direction="backward")
    folder = tmp_path / "models" / "my songs"
    save_model(folder, random_weights(config), config, TokenizerConfig("byte"), CorpusConfig(), ByteTokenizer())
    return load_model("my songs")


def test_a_model_is_called_by_what_finds_it(
    saved: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert saved.shell_name == shell_word("my songs")
    monkeypatch.setenv("TEXTGEN_MODELS", str(tmp_path / "others"))
    assert saved.shell_name == shell_word(str(saved.folder))
    shutil.move(saved.folder, tmp_path / "others" / "novel")
    assert load_model("novel").shell_name == load_model("novel", tmp_path / "others").shell_name == "novel"
    monkeypatch.delenv("TEXTGEN_MODELS")
    assert load_model("novel", tmp_path / "others").shell_name == str(tmp_path / "others" / "novel")
    (tmp_path / "others").rename(tmp_path / "saved_models")
    monkeypatch.chdir(tmp_path)
    assert load_model("novel").shell_name == load_model(str(tmp_path / "saved_models" / "novel")).shell_name == "novel"


def test_a_record_without_training_has_the_names_of_one_with_it(saved: ModelFolder) -> None:
    assert saved.record == {
        "model": to_dict(saved.model_config),
        "tokenizer": to_dict(TokenizerConfig("byte")),
        "labels": [],
        "parameters": saved.model_config.num_parameters,
    }
    assert saved.record.keys() < TRAINED.keys()


def test_the_last_lines_of_a_training(saved: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"nats_per_token": 1.0, "perplexity_per_token": 2.7, "bits_per_byte": 1.5, "tokens": 1000}
    saved.training.update(TRAINED | {"model": to_dict(saved.model_config), "scores": scores, "status": "done"})
    assert summary(saved).splitlines()[-2:] == [
        "Write with it:  textgen sample 'my songs' --suffix \"...\"",
        "See the curves: textgen tensorboard 'my songs'",
    ]
    monkeypatch.delenv("TEXTGEN_MODELS")
    assert f"textgen sample '{saved.folder}' --suffix" in summary(saved)


@pytest.mark.parametrize(("tokens", "caution"), [(1000, ""), (999, " These are only 999 tokens: the score is rough.")])
def test_a_score_of_a_short_text_is_called_rough(saved: ModelFolder, tokens: int, caution: str) -> None:
    scores = {"nats_per_token": 1.0, "perplexity_per_token": 2.7, "bits_per_byte": 1.5, "tokens": tokens}
    saved.training.update(TRAINED | {"model": to_dict(saved.model_config), "scores": scores, "status": "done"})
    line = f"Held-out text: 1.000 nats per token, perplexity 2.70, 1.500 bits per byte.{caution}"
    assert summary(saved).splitlines()[1] == line


def test_a_card_says_what_a_vocabulary_of_words_loses() -> None:
    words = {**TRAINED, "tokenizer": {"tokenizer": "word"}}
    assert "| loses | words that it does not know, and white space" in model_card("words", words)
    assert "loses" not in model_card("pieces", TRAINED)


def test_a_card_under_another_name() -> None:
    """What a person has changed stays, and so does what cannot be a card."""
    card, expected = (card_file(name, TRAINED) for name in ("my songs", "songs again"))
    plain = model_card("my songs", TRAINED).encode()  # without a digest
    for own in (card, plain, card.replace(b"\n", b"\r\n")):
        assert renamed_card(own, "songs again", TRAINED) == expected
    for own in (card, plain):
        for other in (own + b"Mine.\n", b"Mine.\n" + own, own.replace(b"98,765", b"98,766"), own[:-9]):
            assert renamed_card(other, "songs again", TRAINED) == other
    for other in (b"", b"\xff\xfe", b"# \xff\n"):
        assert renamed_card(other, "songs again", TRAINED) == other


ATTRIBUTIONS: list[dict[str, str]] = [
    {"licence": "CC BY 4.0"},
    {"note": "Trained on my grandmother's letters."},
    {"licence": "CC0", "note": "## Note\n\n# songs\n> quoted\n\n  indented  \n"},
    {"licence": "\n", "note": f" a\u2028b\x1b {MARK} -->\n</script>"},
]


@pytest.mark.parametrize("texts", ATTRIBUTIONS)
def test_a_card_has_a_licence_and_a_note_that_come_back(texts: dict[str, str]) -> None:
    """Also in a card under another name, and in one that a person has changed."""
    card = card_file("my songs", TRAINED, texts)
    assert attribution_in(card) == attribution_in(model_card("songs", TRAINED, texts).encode()) == texts
    assert not is_edited(card, TRAINED)
    assert renamed_card(card, "songs", TRAINED) == card_file("songs", TRAINED, texts)
    assert renamed_card(card_file("my songs", TRAINED), "songs", TRAINED, texts) == card_file("songs", TRAINED, texts)
    for own in (CARD.encode() + b"\nMine.\n", card_file("songs", TRAINED).replace(b"98,765", b"98,766")):
        added = renamed_card(own, "songs", TRAINED, texts)
        assert attribution_in(added) == texts
        assert added.startswith(own[: own.index(b"its owners.")])
        assert is_edited(added, TRAINED)
        assert renamed_card(added, "again", TRAINED, texts) == added


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_a_licence_with_the_newlines_of_another_system_does_not_make_a_card_an_edited_one(newline: str) -> None:
    texts, plain = {"licence": f"CC0{newline}{newline}1.0{newline}"}, {"licence": "CC0\n\n1.0\n"}
    card = card_file("songs", TRAINED, texts)
    assert attribution_in(card) == plain
    assert not is_edited(card, TRAINED)
    assert not is_edited(renamed_card(card, "again", TRAINED), TRAINED)
    own = card_file("songs", TRAINED, plain).replace(b"98,765", b"98,766")
    assert with_attribution(own, texts) == own, "it says the same"


def test_a_licence_that_a_person_has_written_into_a_card_is_found() -> None:
    cards = {
        b"# novel\n\n## LICENSE\n\nMIT, or [so](a.txt)\n\n## Notes\n\nNone.\n": {"licence": "MIT, or [so](a.txt)"},
        b"## Licence\r\n\r\n> a\r\n> b\r\n\r\n# Note\r\nc": {"licence": "a\nb"},
        b"## Licence\n\nold\n\n## Licence\n\nnew\n": {"licence": "new"},
        b"## Licence\n\n## Note\n\n\xff\n": {"note": "\ufffd"},
        b"### Licence\n\nno\n": {},
        b"": {},
    }
    assert {card: attribution_in(card) for card in cards} == cards
    for name in ("english", "chinese"):
        card = (ROOT / "saved_models" / "bases" / name / "README.md").read_bytes()
        assert attribution_in(card) == {"licence": "Apache-2.0"}


def test_a_card_in_the_words_of_another_version_is_not_taken_for_an_edited_one() -> None:
    card = card_file("songs", TRAINED)
    assert not is_edited(card, TRAINED | {"versions": {"textgen": "0.9.0"}})
    assert card.startswith(CARD.encode())
    assert card.removeprefix(CARD.encode()).startswith(b"\n<!-- ")


def test_a_licence_in_an_edited_card_is_replaced_by_another_and_removed_by_an_empty_one() -> None:
    own = b"# Mine \xff\n\n## License\n\nMIT\n\n## Other\n\nText\n\n## LICENCE\n\nCC0\n\n## Note\n\nMy note\n"
    rest = b"# Mine \xff\n\n## Other\n\nText\n\n"
    for card in (own, own.replace(b"\n", b"\r\n")):
        found = with_attribution(card, {"licence": "GPL", "note": "My note"})
        assert found.replace(b"\r\n", b"\n") == rest + b"## Note\n\nMy note\n\n## Licence\n\n> GPL\n"
        assert attribution_in(found) == {"licence": "GPL", "note": "My note"}
        assert with_attribution(found, {"licence": "GPL", "note": "My note"}) == found
        assert with_attribution(card, {"note": ""}).replace(b"\r\n", b"\n") == own.partition(b"\n## Note")[0]
        assert attribution_in(with_attribution(card, {"licence": "", "note": ""})) == {}
        assert with_attribution(card, {"licence": "CC0"}) == card


def test_a_licence_below_the_mark_of_textgen_is_found_and_replaced() -> None:
    card = card_file("songs", TRAINED, {"note": "Mine."})
    own = card + b"\n## Licence\n\nMIT\n"
    assert attribution_in(own) == {"licence": "MIT", "note": "Mine."}
    found = with_attribution(own, {"licence": "GPL"})
    assert attribution_in(found) == {"licence": "GPL", "note": "Mine."}
    assert b"MIT" not in found
    assert card.partition(MARK.encode())[2] in found
    assert with_attribution(own, {"licence": ""}) == card


def test_a_card_under_another_name_keeps_the_licence_of_which_nothing_is_said() -> None:
    own = b"# Mine\n\n## Licence\n\nMIT\n"
    assert renamed_card(own, "songs", TRAINED, {"licence": "", "note": ""}) == own
    found = renamed_card(own, "songs", TRAINED, {"licence": "GPL", "note": ""})
    assert found == b"# Mine\n\n## Licence\n\n> GPL\n"
