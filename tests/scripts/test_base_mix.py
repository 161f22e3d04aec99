"""The mix that a base is trained on: what is taken, once, and what is held out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from base_scripts import PARTS, base_mix, write_data, write_records

from textgen.errors import CorpusError

Document = base_mix.Document
TRADITIONAL = "秦川雄帝宅，函谷壯皇居。\n綺殿千尋起，離宮百雉餘。"
SIMPLIFIED = "秦川雄帝宅，函谷壮皇居。\n绮殿千寻起，离宫百雉余。"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def mix(data: Path, seed: int = 0) -> tuple[list[base_mix.Document], list[base_mix.Document]]:
    return base_mix.make_mix(PARTS, data, base_mix.LeftOut(), seed)


def test_a_mix_takes_what_its_recipe_says(data: Path) -> None:
    train, valid = mix(data)
    counts = Counter(document.source for document in train)
    assert counts["tales"] == 3 * 119
    assert set(Counter(document.text for document in train if document.source == "tales").values()) == {3}
    assert (counts["shi"], counts["ci"]) == (89, 59)
    assert all(document.text[0] in "門门" and document.text[1] == " " for document in train if document.source == "shi")
    assert Counter(document.source for document in valid) == {"tales": 1, "shi": 1, "ci": 1, "books": 1}


def test_books_are_cut_at_chapters_and_no_author_has_too_much(data: Path) -> None:
    train, valid = mix(data)
    chapters = [document.text for document in train if document.source == "books"]
    assert all(text.lower().startswith("chapter ") for text in chapters)
    authors = {}
    for record in base_mix.records(data / "books.jsonl.zst"):
        for chapter in base_mix.chapters(record["text"]):
            authors[chapter] = record["author"]
    sizes = Counter[str]()
    for text in chapters:
        sizes[authors[text]] += len(text)
    assert 10_000 < max(sizes.values()) <= 12_000
    assert 55_000 < sum(sizes.values()) + sum(len(document.text) for document in valid) < 65_000


def test_no_chapter_of_a_book_that_is_held_out_is_trained_on(data: Path) -> None:
    train, valid = mix(data)
    (held,) = (document.text for document in valid if document.source == "books")
    (book,) = (record["text"] for record in base_mix.records(data / "books.jsonl.zst") if held in record["text"])
    assert len(base_mix.chapters(book)) == 2
    assert not [document for document in train if document.text in book]


def test_a_long_document_is_not_held_out() -> None:
    works = [[Document("a" * 70_000, "books")], *([Document(f"{n}", "books")] for n in range(5))]
    kept, held = base_mix._hold_out(works)
    assert [document.text for document in held] == ["0"]
    assert len(kept) == 5


def test_the_only_work_of_a_source_is_trained_on() -> None:
    assert base_mix._hold_out([[Document("a", "books")]]) == ([Document("a", "books")], [])


def test_a_mix_is_the_same_for_the_same_seed(data: Path) -> None:
    assert mix(data) == mix(data)
    assert mix(data)[1] != mix(data, seed=1)[1]


def test_a_text_is_taken_once_whichever_file_and_script_it_is_in(data: Path, tmp_path: Path) -> None:
    twins = [{"title": "一", "kind": "诗", "text": TRADITIONAL}, {"title": "二", "kind": "词", "text": SIMPLIFIED}]
    write_records(data / "poems.jsonl.zst", twins)
    book = {"title": "b", "author": "c", "kind": "prose", "text": f"CHAPTER I\n{'The fox. ' * 200}"}
    write_records(data / "books.jsonl.zst", [book, book | {"text": book["text"].upper()}])
    train, valid = mix(data)
    for source in ("poems", "books"):
        names = {"shi", "ci"} if source == "poems" else {"books"}
        assert len([document for document in (*train, *valid) if document.source in names]) == 1


@pytest.mark.parametrize("text", [TRADITIONAL, SIMPLIFIED])
def test_texts_of_a_file_are_left_out_in_either_script(data: Path, tmp_path: Path, text: str) -> None:
    kept = [{"title": "三", "kind": "诗", "text": "明月松間照，清泉石上流。\n隨意春芳歇，王孫自可留。"}] * 2
    write_records(data / "poems.jsonl.zst", [{"title": "一", "kind": "诗", "text": text}, *kept])
    file = tmp_path / "poems.txt"
    file.write_text(f"帝京篇十首 一\n{TRADITIONAL}\n\n別的詩\n空山不見人，但聞人語響。\n", encoding="utf-8")
    train, valid = base_mix.make_mix(PARTS, data, base_mix.LeftOut([file]), 0)
    assert {document.text for document in (*train, *valid) if document.source == "shi"} == {f"三\n{kept[0]['text']}"}


def test_a_text_with_half_of_its_sentences_is_left_out_and_one_with_fewer_is_not(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("The fox came to the river. The moon was in the water.", encoding="utf-8")
    left_out = base_mix.LeftOut([file])
    assert left_out.has("the FOX came to the river! And what did he see there?")
    assert not left_out.has("The fox came to the river. And what did he see there? Nothing at all, I say.")
    assert not left_out.has("Ho!")
    assert not base_mix.LeftOut().has("")


def test_the_script_of_a_text() -> None:
    assert base_mix.script(TRADITIONAL) == "traditional"
    assert base_mix.script(SIMPLIFIED) == "simplified"
    assert base_mix.script("The fox") == ""
    assert base_mix.script("床前明月光") == ""
    assert base_mix.folded(TRADITIONAL) == base_mix.folded(SIMPLIFIED)


def test_files_of_a_mix_are_made_once(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    files = base_mix.write_mix("small", PARTS, data, folder)
    assert files == base_mix.mix_files(folder, "small")
    times = [path.stat().st_mtime_ns for path in files]
    assert base_mix.write_mix("small", PARTS, data, folder) == files
    assert [path.stat().st_mtime_ns for path in files] == times
    with pytest.raises(CorpusError, match="holds another mix"):
        base_mix.write_mix("small", PARTS, data, folder, seed=1)
    assert [path.stat().st_mtime_ns for path in files] == times
    train, valid = mix(data)
    assert [base_mix.read_mix(path, PARTS) for path in files] == [train, valid]


def test_a_mix_that_was_interrupted_is_made_again(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    files = base_mix.write_mix("small", PARTS, data, folder)
    before = [path.read_bytes() for path in files]
    (folder / base_mix.MIX).unlink()
    files[1].unlink()
    assert [path.read_bytes() for path in base_mix.write_mix("small", PARTS, data, folder)] == before


def test_sources_are_found_by_the_text(data: Path, tmp_path: Path) -> None:
    train, _ = mix(data)
    path = tmp_path / "old.jsonl"
    path.write_text("".join(json.dumps({"text": document.text}) + "\n" for document in train), encoding="utf-8")
    with pytest.raises(CorpusError, match="does not say where its documents are from"):
        base_mix.read_mix(path, PARTS)
    assert base_mix.read_mix(path, PARTS, data) == train
    path.write_text(json.dumps({"text": "Nobody wrote this"}), encoding="utf-8")
    with pytest.raises(CorpusError, match="has the text that begins with 'Nobody wrote this'"):
        base_mix.read_mix(path, PARTS, data)


def test_a_missing_or_damaged_file_is_named(data: Path, tmp_path: Path) -> None:
    (data / "tales.jsonl.zst").write_bytes(b"nothing compressed")
    with pytest.raises(CorpusError, match=r"Cannot read .*tales\.jsonl\.zst"):
        mix(data)
    (data / "tales.jsonl.zst").unlink()
    for make in (lambda: mix(data), lambda: base_mix.write_mix("small", PARTS, data, tmp_path / "work")):
        with pytest.raises(CorpusError, match=r"There is no .*tales\.jsonl\.zst"):
            make()
    assert not (tmp_path / "work").exists()
