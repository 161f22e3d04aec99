"""The page that writes: what it consists of, that nothing in a model gets out of its place, and the way back."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from html import unescape
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from model_folders import TRAINING_VALUES
from networks import random_weights
from pages import HOSTILE, Elements, hostile_model
from safetensors.numpy import save as to_safetensors

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.errors import SavedModelError, Unreadable
from textgen.export import html, packing
from textgen.export.attribution import Attribution
from textgen.export.html import OPENING, import_html, packed_in, page
from textgen.export.packing import contents_in, packed_model, shared_files
from textgen.html_page import asset
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.model_card import card_file
from textgen.saved_model.precision import compressed, restored
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model, write_training
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

OWN = ("page.html", "page.css", "page.js", "story.js", "shelf.js", "words.js", "worker.js")
FILES = {name: asset("textgen.export", f"onefile/{name}") for name in OWN}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> ModelFolder:
    return hostile_model(tmp_path_factory.mktemp("pages") / "hostile", tokenizer)


@pytest.fixture(scope="module")
def written(model: ModelFolder) -> bytes:
    return page(model, Attribution(licence="CC BY 4.0 </script>", note="<b>\u2028 & {{csp}}"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(textgen, list(map(str, arguments)), catch_exceptions=False, prog_name="textgen")


# === What it consists of ===


def test_the_policy_allows_its_own_script_and_style_and_no_request(written: bytes) -> None:
    elements = Elements(written.decode())
    style, worker, script, packed = elements.texts
    (policy,) = [attributes["content"] for _, attributes in elements.tags if "http-equiv" in attributes]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}' 'wasm-unsafe-eval'; style-src 'sha256-{hashes[1]}'; "
        "worker-src blob:; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert written.count(b"Content-Security-Policy") == 1
    assert written.index(b"Content-Security-Policy") < written.index(b"<script")
    assert worker.endswith(FILES["worker.js"])
    assert base64.b64decode(packed) == packed_in(written)


def test_it_names_no_other_place_and_no_code_stands_outside_its_script(written: bytes) -> None:
    text = written[: written.index(OPENING.encode())].decode()
    assert not re.search(r"https?://|//[\w-]+\.\w", re.sub(r"^\s*//.*", "", text, flags=re.MULTILINE))
    for tag, attributes in Elements(written.decode()).tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")], tag
        assert attributes.get("href") in (None, "data:,")
    for name, code in FILES.items():
        assert not re.search(
            r"innerHTML|insertAdjacentHTML|outerHTML|\beval\(|document\.write\b|fetch\(|import\(", code
        ), name


def test_hostile_names_labels_and_notes_stay_text(
    model: ModelFolder, written: bytes, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    plain = Elements(page(hostile_model(tmp_path / "plain", tokenizer, ("a", "b"))).decode())
    found = Elements(written.decode())
    differs = {"http-equiv", ("name", "fingerprint")}
    without_policy = [[tag for tag in each.tags if not differs & {*tag[1], *tag[1].items()}] for each in (plain, found)]
    assert without_policy[0] == without_policy[1]
    assert found.texts[:3] == plain.texts[:3]
    evil = "<img src=x onerror=alert(1)>&amp;{{model}}"
    shutil.copytree(model.folder, tmp_path / evil)
    named = Elements(page(load_model(str(tmp_path / evil))).decode())
    assert named.tags == found.tags
    titles = re.findall(r"<(?:title|h1)>(.*?)</", page(load_model(str(tmp_path / evil))).decode())
    assert [unescape(title) for title in titles] == [evil, evil]


def test_a_name_that_is_not_unicode_is_escaped(model: ModelFolder, tmp_path: Path) -> None:
    shutil.copytree(model.folder, tmp_path / "caf\udce9")
    assert "<h1>caf\\xe9</h1>" in page(load_model(str(tmp_path / "caf\udce9"))).decode()


def test_every_word_is_there_in_both_languages() -> None:
    english, chinese = (
        set(re.findall(r"^    (\w+):", block, re.MULTILINE)) for block in FILES["words.js"].split("  zh: {")
    )
    assert english == chinese
    used = set(re.findall(r'data-(?:word|label)="(\w+)"', FILES["page.html"]))
    used |= set(re.findall(r'\b(?:say|tell|finish)\("(\w+)"', FILES["page.js"]))
    assert used <= english
    unused = {
        word
        for word in english
        if not re.search(rf"\b{word.removesuffix('OnMac')}\b", FILES["page.html"] + FILES["page.js"])
    }
    assert unused == set()


def test_every_part_that_the_script_uses_is_on_the_page() -> None:
    ids = set(re.findall(r'\bid="([\w-]+)"', FILES["page.html"]))
    assert set(re.findall(r'\$\("([\w-]+)"\)', FILES["page.js"])) <= ids
    buttons = set(re.findall(r'<button id="([\w-]+)"', FILES["page.html"]))
    clicks = FILES["page.js"].split("const clicks = {")[1].split("\n  };")[0]
    assert buttons == set(re.findall(r'^    "?([\w-]+)"?:', clicks, re.MULTILINE)) | {"write", "more", "undo", "redo"}


# === The way back ===


def test_a_page_is_written_and_gives_the_model_back(model: ModelFolder, tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    done = run("export", model.folder, file, "--licence", "CC0", "--note", "Mine.")
    assert (done.exit_code, done.stdout) == (0, "")
    assert re.fullmatch(rf"Wrote {file}: [\d,]+ parameters as int8, 0\.\d MB\. Open it in a browser\.\n", done.stderr)
    back = run("import", file, "--name", "again")
    assert (back.exit_code, back.stdout) == (0, ""), back.stderr
    again = load_model("again")
    assert (again.precision, again.tokenizer.labels) == ("int8", HOSTILE)
    assert again.model_config == model.model_config
    rounded = restored(compressed(model.weights(), "int8"), "int8")
    for name, array in again.weights().items():
        np.testing.assert_array_equal(array, rounded[name])
    assert run("sample", "again", "--seed", "1", "--max-tokens", "20").exit_code == 0
    second = tmp_path / "second.html"
    assert run("export", "again", second, "--licence", "CC0", "--note", "Mine.").exit_code == 0
    (tmp_path / "models" / "third").mkdir()
    assert run("import", second, "--name", "fourth").exit_code == 0
    for name in ("config.json", "model.safetensors", "tokenizer.model", "MANIFEST.json"):
        assert (load_model("fourth").folder / name).read_bytes() == (again.folder / name).read_bytes()


def test_a_page_of_a_model_whose_record_is_not_valid_text_is_imported(model: ModelFolder, tmp_path: Path) -> None:
    odd = {"versions": {"textgen": "\ud800"}, "scores": {"\ud800": 1.0}}
    shutil.copytree(model.folder, tmp_path / "models" / "odd")
    write_training(tmp_path / "models" / "odd", TRAINING_VALUES | odd)
    export = tmp_path / "page.html"
    assert run("export", "odd", export).exit_code == 0
    assert run("import", export, "--name", "again").exit_code == 0
    assert load_model("again").training["scores"] == odd["scores"]


def test_the_card_of_an_imported_page_has_its_name(model: ModelFolder, tmp_path: Path) -> None:
    export, names = tmp_path / "page.html", ("first", "second", "third")
    source: Path | str = model.folder
    for name in names:
        assert run("export", source, export).exit_code == 0
        assert run("import", export, "--name", name).exit_code == 0
        card = (load_model(name).folder / "README.md").read_text(encoding="utf-8")
        assert card.encode() == card_file(name, load_model(name).record)
        assert f"textgen sample {name} " in card
        source = name
    own = card + "\nI trained it in a winter.\n"
    (load_model("third").folder / "README.md").write_text(own, encoding="utf-8")
    run("export", "third", export)
    run("import", export, "--name", "fourth")
    assert (load_model("fourth").folder / "README.md").read_text(encoding="utf-8") == own


def test_licence_and_note_of_a_page_come_back_and_are_those_of_the_next_export(
    model: ModelFolder, tmp_path: Path
) -> None:
    export, texts = tmp_path / "page.html", {"licence": "CC0", "note": "Mine.\n\n## Not a heading"}
    options = [f"--{name}={text}" for name, text in texts.items()]
    assert run("export", model.folder, export, *options).exit_code == 0
    for name in ("first", "second"):
        assert run("import", export, "--name", name).exit_code == 0
        folder = load_model(name).folder
        assert (folder / "README.md").read_bytes() == card_file(name, load_model(name).record, texts)
        assert run("export", name, export).exit_code == 0
        assert contents_in(packed_in(export.read_bytes()))[1].to_dict() == texts
    assert "## Licence\n\n> CC0\n" in run("models", "show", "second").stdout
    assert run("export", "second", export, "--licence", "", "--note", "Other.").exit_code == 0
    assert contents_in(packed_in(export.read_bytes()))[1].to_dict() == {"licence": "", "note": "Other."}
    (folder / "README.md").write_text("# Mine\n\n## License\n\nMIT\n", encoding="utf-8")
    assert run("export", "second", export, "--note", "Other.").exit_code == 0
    assert run("import", export, "--name", "third").exit_code == 0
    card = (load_model("third").folder / "README.md").read_text(encoding="utf-8")
    assert card == "# Mine\n\n## License\n\nMIT\n\n## Note\n\n> Other.\n"


@pytest.mark.parametrize("texts", [{"licence": "CC0", "note": ""}, {"licence": "", "note": ""}])
def test_a_model_without_a_card_gets_one_for_the_licence_of_its_page(
    model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: dict[str, str]
) -> None:
    """Pages of textgen have a card; those of other programs may have none."""
    files = {name: data for name, data in shared_files(model).items() if name != "README.md"}
    monkeypatch.setattr(packing, "shared_files", lambda model, attribution: files)
    (tmp_path / "page.html").write_bytes(page(model, Attribution(**texts)))
    found = import_html(tmp_path / "page.html", tmp_path / "found")
    card = found.folder / "README.md"
    expected = card_file("found", found.record, texts) if texts["licence"] else None
    assert (card.read_bytes() if card.exists() else None) == expected


def cut(data: bytes) -> bytes:
    return data[: data.index(OPENING.encode()) + 5000]


def other_weight(data: bytes) -> bytes:
    """One digit of the base64 text, in the middle of the weights."""
    at = data.index(OPENING.encode()) + (len(data) - data.index(OPENING.encode())) // 2
    return data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :]


def other_header(data: bytes) -> bytes:
    at = data.index(OPENING.encode()) + len(OPENING) + 80
    return data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :]


def not_base64(data: bytes) -> bytes:
    at = data.index(OPENING.encode()) + len(OPENING) + 1000
    return data[:at] + b"\xff*" + data[at + 2 :]


def forged(data: bytes) -> bytes:
    """All sums are right, but the configuration does not belong to the weights."""
    packed = packed_in(data)
    start = html_start(packed)
    header = json.loads(packed[48:start])
    entry = header["sections"]["config.json"]
    begin = start + entry["at"]
    config = packed[begin : begin + entry["size"]].replace(b'"num_layers": 2', b'"num_layers": 3')
    entry["sha256"] = hashlib.sha256(config).hexdigest()
    described = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    described += b" " * (start - 48 - len(described))
    made = packed[:16] + hashlib.sha256(described).digest() + described + packed[start:begin] + config
    return OPENING.encode() + base64.b64encode(made + packed[begin + len(config) :]) + b"</script>"


def html_start(packed: bytes) -> int:
    return 48 + int.from_bytes(packed[8:16], "little")


FOREIGN = "It is not a page that textgen export wrote, or it is cut off."
DAMAGED: dict[str, tuple[Any, str]] = {
    "cut off": (cut, "The page is cut off. Get it again."),
    "other weight": (other_weight, "model.safetensors does not match its checksum"),
    "other header": (other_header, "its header does not match its checksum"),
    "not base64": (not_base64, "The page is damaged: Only base64 data is allowed. Get it again."),
    "forged": (forged, "does not fit|lacks|missing|num_layers|names of the arrays"),
    "foreign": (
        lambda data: b"<!doctype html><p>Hello",
        "It is not a page that textgen export wrote, or it is cut off.",
    ),
    "empty": (lambda data: b"", FOREIGN),
    "no model": (lambda data: OPENING.encode() + b"AAAA</script>", "This is not a model that textgen has packed."),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_or_foreign_page_is_refused_in_a_line(kind: str, written: bytes, tmp_path: Path) -> None:
    damage, expected = DAMAGED[kind]
    file = tmp_path / "page.html"
    file.write_bytes(damage(written))
    result = run("import", file, "--name", "new")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert re.search(expected, result.stderr), result.stderr
    assert not list((tmp_path / "models").glob("*"))


def unknown_setting(data: bytes) -> bytes:
    """A configuration with a setting that does not exist."""
    return data.replace(b'"hidden_units"', b'"hidden_unit"')


SPOILT: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "setting": ("config.json", unknown_setting, r"the page cannot be used: .*hidden_unit.*\. Get it again\."),
    "no object": ("config.json", lambda data: b"[]", r"Cannot read config\.json: .*\. Get it again\."),
    "newer": (
        "config.json",
        lambda data: data.replace(b'"format_version": 2', b'"format_version": 9'),
        r"the page has the format version 9, this program reads 1 and 2\. Upgrade textgen\.",
    ),
    "other kind": (
        "config.json",
        lambda data: data.replace(b'"tokenizer": "char"', b'"tokenizer": "bpe"'),
        r"the page: the tokenizer is char and .* do not belong together\. Get it again\.",
    ),
    "weights": ("model.safetensors", lambda data: data[:-9], r"model\.safetensors is damaged: .*\. Get it again\."),
    "vocabulary": (
        "tokenizer.model",
        lambda data: data[:9],
        r"the page cannot be used: The vocabulary is not a SentencePiece model, or is damaged\. Get it again\.",
    ),
    "words": ("words.safetensors", lambda data: b"spoilt", r"words\.safetensors is damaged: .*\. Get it again\."),
    "no filter": ("words.safetensors", lambda data: to_safetensors({}), r"words\.safetensors is damaged: .*again\."),
    "record": ("training.json", lambda data: b"{}", r"training\.json is damaged: .*\. Get it again\."),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_page_of_a_model_that_cannot_be_loaded_is_named_and_no_temporary_folder(
    kind: str, model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksums are right, so that only loading tells."""
    name, spoil, expected = SPOILT[kind]
    files = shared_files(model)
    files[name] = spoil(files.get(name, b""))
    monkeypatch.setattr(packing, "shared_files", lambda *given: files)
    file = tmp_path / "page.html"
    file.write_bytes(page(model))
    result = run("import", file, "--name", "new")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(rf"Error: Cannot read a model from {file}: {expected}\n", result.stderr), result.stderr
    assert not re.search("textgen-tmp|folder again", result.stderr)
    assert not list((tmp_path / "models").glob("*"))


def test_a_disk_without_room_for_the_model_of_a_page_is_no_fault_of_the_page(
    written: bytes, tmp_path: Path, disk_of: Callable[[int], AbstractContextManager[None]]
) -> None:
    (tmp_path / "page.html").write_bytes(written)
    with disk_of(1000):
        result = run("import", tmp_path / "page.html", "--name", "new")
    assert result.exit_code == 1
    assert re.search(r"Cannot write .*: File too large\. Free some space, or set TMPDIR", result.stderr)


def test_a_disk_that_fails_is_no_fault_of_the_page(
    written: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*given: object) -> None:
        raise Unreadable(tmp_path, "Input/output error", "Try again.")

    (tmp_path / "page.html").write_bytes(written)
    monkeypatch.setattr(ModelFolder, "weights", read)
    with pytest.raises(Unreadable, match=r"^Cannot read .*: Input/output error\. Try again\.$"):
        import_html(tmp_path / "page.html", tmp_path / "new")


def test_a_page_is_read_through_a_link_and_from_a_pipe(written: bytes, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(written)
    (tmp_path / "link.html").symlink_to("page.html")
    result = run("import", tmp_path / "link.html", "--name", "linked")
    assert result.exit_code == 0, result.stderr
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(written,), daemon=True)
    writer.start()
    result = run("import", pipe, "--name", "piped", "--format", "html")
    assert result.exit_code == 0, result.stderr
    writer.join()
    assert load_model("linked").fingerprint == load_model("piped").fingerprint


@pytest.mark.parametrize("is_pipe", [False, True])
def test_a_page_that_is_too_large_is_refused(
    written: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_pipe: bool
) -> None:
    monkeypatch.setattr(html, "PAGE_BYTES", 1000)
    file = tmp_path / "page.html"
    if is_pipe:
        os.mkfifo(file)
        Thread(target=file.write_bytes, args=(written[:1001],), daemon=True).start()
    else:
        file.write_bytes(written)
    with pytest.raises(
        SavedModelError, match=f"Cannot read {file}: it has more than 1,000 bytes, the limit for a page"
    ):
        import_html(file, tmp_path / "new")


def test_a_page_that_cannot_be_read_or_a_name_that_is_taken(written: bytes, tmp_path: Path, model: ModelFolder) -> None:
    file = tmp_path / "page.html"
    assert "Name a page that textgen export MODEL FILE.html has made." in run("import", file, "--name", "new").stderr
    file.write_bytes(written)
    (tmp_path / "models" / "taken").mkdir(parents=True)
    taken = run("import", file, "--name", "taken")
    assert (taken.exit_code, list((tmp_path / "models" / "taken").iterdir())) == (1, [])
    assert "exists: choose another name" in taken.stderr
    for flag in (["--tokenizer-from", "x"], ["--activation", "relu"]):
        wrong = run("import", file, "--name", "new", *flag)
        assert (wrong.exit_code, f"{flag[0]} cannot be used with a page" in wrong.stderr) == (2, True)
    missing = run("import", tmp_path / "a.safetensors", "--name", "new")
    assert (missing.exit_code, "Cannot read" in missing.stderr) == (1, True)


# === What cannot be a page ===


def test_a_network_that_reads_backward_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=8, hidden_units=8, direction="backward")
    folder = tmp_path / "odd"
    save_model(folder, random_weights(config), config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    file = tmp_path / "odd.html"
    file.write_text("old")
    result = run("export", folder, file)
    assert result.exit_code == 1
    assert (
        "cannot write with a network of direction backward: train one with --direction forward, or both"
        in result.stderr
    )
    assert file.read_text() == "old"


def test_a_model_that_int8_would_spoil_is_refused_with_figures(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A weight of 50, which multiplies zero, in each column of small ones: int8 rounds them to zero."""
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=8, hidden_units=8, num_layers=1, tie_embeddings=False)
    weights = {name: 4 * array for name, array in random_weights(config).items()}
    weights["lstm_0/bias"][3 * 8] = -100.0  # its output gate is closed
    weights["head/kernel"] *= 0.05
    weights["head/kernel"][0] = 50.0
    save_model(tmp_path / "odd", weights, config, TokenizerConfig("char"), CorpusConfig(documents="line"), tokenizer)
    result = run("export", tmp_path / "odd", tmp_path / "odd.html")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(
        r"odd\.html would lose too much by rounding: perplexity [+-]\d.*%, KL \d.* as onnx\.", result.stderr
    )
    assert not list(tmp_path.glob("*.html"))


def test_the_rounding_of_activations_counts_too(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """It is all that a page adds to a model whose weights are int8, and much where small changes have large effects."""
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=32, hidden_units=32)
    weights = random_weights(config, seed=1, scale=3.0)
    where = (TokenizerConfig("char"), CorpusConfig(documents="line"), tokenizer)
    save_model(tmp_path / "wild", weights, config, *where, precision="int8")
    result = run("export", tmp_path / "wild", tmp_path / "wild.html")
    assert result.exit_code == 1
    assert re.search(r"wild\.html would lose too much by rounding: perplexity \+\d{3,}", result.stderr)
    assert not list(tmp_path.glob("*.html"))


def test_a_page_that_would_hold_another_model_is_not_left(
    model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    other = hostile_model(tmp_path / "other", tokenizer, HOSTILE[::-1])
    right = packed_model
    monkeypatch.setattr(html, "packed_model", lambda model, *rest: right(other, *rest))
    result = run("export", model.folder, tmp_path / "page.html")
    assert result.exit_code == 1
    assert "The page would not hold the model hostile as it is. Nothing was written." in result.stderr
    assert not list(tmp_path.glob("page*"))


def test_texts_for_the_card_belong_to_pages(model: ModelFolder, tmp_path: Path) -> None:
    result = run("export", model.folder, tmp_path / "a.safetensors", "--note", "Mine.")
    assert (result.exit_code, "--note cannot be used with --format pytorch" in result.stderr) == (2, True)


def test_a_page_from_python(model: ModelFolder, written: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(written)
    assert import_html(tmp_path / "a.html", tmp_path / "back").tokenizer.labels == HOSTILE
