"""Paths, globs and standard input -> files: what is found, what is passed over, and every path that leads nowhere."""

from __future__ import annotations

import gc
import gzip
import io
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from files import read, write

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.formats import extras
from textgen.corpus.source_finder import MAX_REASONS, SourceFinder
from textgen.errors import CorpusError, TextgenError
from textgen.storage.model_files import CONFIG


def test_files_of_desktop_programs_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.txt", "a")
    for name in ("~$a.txt", "desktop.ini", "Thumbs.db", "b/Desktop.ini", "b/~$b.docx"):
        write(tmp_path, name, "[.ShellClassInfo]")
    monkeypatch.chdir(tmp_path)
    for paths in (["."], ["*"], ["**/*"]):
        assert (read(*paths), Corpus(paths).skipped) == (["a"], [])
    assert read("desktop.ini", "~$a.txt", documents="file") == ["[.ShellClassInfo]"] * 2, "if named"


def test_backups_of_editors_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.txt", "a")
    for name in ("a.txt~", "a.bak", "b~/b.txt.orig", "b~/B.BAK", "c.swp"):
        write(tmp_path, name, name)
    write(tmp_path, "b~/c.txt", "c")
    monkeypatch.chdir(tmp_path)
    for paths in (["."], ["*"], ["**/*"]):
        assert (read(*paths), Corpus(paths).skipped) == (["a", "c"], [])
    assert read("*~", "*.bak", "b~/*.orig", documents="file") == ["a.txt~", "c", "a.bak", "b~/b.txt.orig"], "if meant"
    assert read("a.txt~", documents="file") == ["a.txt~"], "if named"
    Path("d").mkdir()
    write(tmp_path, "d/a.bak", "a")
    with pytest.raises(CorpusError, match=r"no files \(hidden files and backups of editors are ignored\)"):
        read("d")


def test_files_that_several_links_lead_to_are_read_once_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        path = write(tmp_path, f"all/{number}.txt", str(number))
        for name in ("blues", "jazz", "rock")[number:]:
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)

    def said(*paths: str, labels: str | None = None) -> list[str]:
        lines = list[str]()
        Corpus(paths, CorpusConfig(labels=labels)).say_findings(lines.append)
        return [line for line in lines if not line.startswith("Followed")]

    assert said("blues", "jazz", "rock") == [
        "Read 2 files only once, though several paths lead there, such as jazz/0.txt."
    ]
    assert said("blues", "jazz", "rock", labels="folder") == []
    assert said("rock", "rock/", "rock/*.txt", "./rock/0.txt") == [], "one path, however it is written"


def test_the_address_of_a_file_of_this_machine_is_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "texts/a text.txt", "a")
    write(tmp_path, "texts/b%20.txt", "b")
    monkeypatch.setenv("HOME", str(tmp_path))
    address = f"file://{tmp_path}/texts"
    assert Corpus([path, f"{address}/a text.txt", f"{address}/a%20text.txt", "file://~/texts/a text.txt"]).places == [
        str(path)
    ]
    for name in (address, f"FILE://{tmp_path}/texts/*.txt"):
        assert read(name, path) == ["a", "b"]
        assert Corpus([name]).files[0] == path
    with pytest.raises(CorpusError, match=rf"^{tmp_path}/texts/c\.txt does not exist\."):
        Corpus([f"{address}/c.txt"])


def test_what_is_skipped_for_one_reason_takes_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "text/a.txt", "a")
    for number in range(30):
        write(tmp_path, f"text/{number:02}.jpg", b"\0")
        write(tmp_path, f"text/{number:02}.zip", b"PK\3\4\0")
        write(tmp_path, f"text/{number:02}.doc", b"PK\3\4\0")
        write(tmp_path, f"text/{number:02}.pdf", b"PK\3\4\0")
        (tmp_path / "text" / f"{number:02}.txt").symlink_to("nowhere.txt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extras, "_is_there", lambda module: False)
    said = list[str]()
    Corpus(["text"]).say_findings(said.append)
    skipped, links, lacking = said[: MAX_REASONS + 1], said[MAX_REASONS + 1 : -1], said[-1]
    assert skipped[1] == "Skipped text/00.jpg, text/01.jpg, text/02.jpg and 27 more: each looks like a binary file."
    assert skipped[0].startswith("Skipped text/00.doc, text/01.doc, text/02.doc and 27 more: each looks like a binary")
    assert skipped[2].startswith("Skipped text/00.zip: it is an archive: name 'zip://::text/00.zip' to read")
    assert skipped[-1] == "Skipped 22 more binary files."
    assert links[:-1] == [
        f"Skipped text/0{number}.txt: it is a link to nowhere.txt, which does not exist." for number in range(3)
    ]
    assert links[-1] == "Skipped 27 more links to nowhere."
    assert lacking.startswith(
        "Skipped text/00.pdf, text/01.pdf, text/02.pdf and 27 more. Such files are read with pypdf:"
    )


def test_what_is_skipped_is_counted_once_however_many_links_lead_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in {"a.txt": b"a", "b.jpg": b"\0", "c.pdf": b"%PDF", "model/MANIFEST.json": b"{}"}.items():
        write(tmp_path, f"text/more/{name}", content)
    (tmp_path / "text/more/model" / CONFIG).write_text("{}", encoding="utf-8")
    (tmp_path / "text/more/gone").symlink_to("nowhere")
    (tmp_path / "text/more/loop").symlink_to("..")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extras, "_is_there", lambda module: False)
    said = list[str]()
    corpus = Corpus(["text/**", "text", "text/more"])
    corpus.say_findings(said.append)
    counts = [len(each) for each in (corpus.skipped, corpus.broken, corpus.models, corpus.lacking, corpus.files)]
    assert counts == [1, 1, 1, 1, 1]
    skipped = [line.partition(":")[0].partition(". ")[0] for line in said if line.startswith("Skipped")]
    assert [line.rpartition("/")[2] for line in skipped] == ["b.jpg", "gone", "model", "c.pdf"]


def test_files_in_utf8_that_are_read_in_another_encoding_are_named(tmp_path: Path) -> None:
    def said(*names: str, encoding: str | None = "cp1252") -> list[str]:
        lines = list[str]()
        Corpus([tmp_path / name for name in names], CorpusConfig(encoding=encoding)).say_findings(lines.append)
        return lines

    for name in "abcd":
        write(tmp_path, f"text/{name}.txt", "é und ü und ö und ß\n")
    write(tmp_path, "text/e.txt", "é und ü und ö und ß".encode("cp1252"))
    write(tmp_path, "text/f.txt", "only a few: é\n")
    write(tmp_path, "text/g.txt", "\ufeffé und ü und ö und ß, with a mark\n")
    assert said("text") == [
        f"Read as cp1252, but most likely UTF-8: {tmp_path / 'text/a.txt'}, {tmp_path / 'text/b.txt'}, "
        f"{tmp_path / 'text/c.txt'} and 1 more. If so, convert the other files with iconv -f cp1252 -t utf-8 "
        "FILE > NEW, and leave encoding out."
    ]
    assert said("text/a.txt") == [
        f"Read as cp1252, but most likely UTF-8: {tmp_path / 'text/a.txt'}. If so, leave encoding out."
    ]
    assert said("text/a.txt", encoding=None) == said("text/a.txt", encoding="UTF8") == []


@pytest.mark.parametrize(("name", "text"), [("a.csv", "text\n{}\n"), ("a.jsonl", '{{"text": "{}"}}\n')])
def test_tables_and_json_in_utf8_that_are_read_in_another_encoding_are_named(
    tmp_path: Path, name: str, text: str
) -> None:
    path, lines = write(tmp_path, name, text.format("é und ü und ö und ß")), list[str]()
    Corpus([path], CorpusConfig(encoding="cp1252")).say_findings(lines.append)
    assert lines == [f"Read as cp1252, but most likely UTF-8: {path}. If so, leave encoding out."]


def test_folders_globs_and_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.txt", "a.txt", "sub/c.txt", "sub/.hidden.txt", ".git/d.txt", "odd[1].txt"):
        write(tmp_path, name, name)
    write(tmp_path, "sub/e.png", b"\x89PNG\0\0")
    monkeypatch.chdir(tmp_path)
    everything = ["a.txt", "b.txt", "odd[1].txt", "sub/c.txt"]
    cases: list[tuple[list[str], list[str], list[str]]] = [
        (["."], everything, ["e.png"]),
        (["b.txt", ".", "./a.txt", "b.txt"], ["b.txt", "a.txt", "odd[1].txt", "sub/c.txt"], ["e.png"]),
        (["*.txt"], ["a.txt", "b.txt", "odd[1].txt"], []),
        (["**/*.txt"], everything, []),
        (["*", "sub"], everything, ["e.png"]),
        (["odd[1].txt"], ["odd[1].txt"], []),
        (["sub/.hidden.txt"], ["sub/.hidden.txt"], []),
    ]
    for paths, expected, skipped in cases:
        found = Corpus(paths)
        assert [str(path) for path in found.files] == expected, paths
        assert list(found.documents()) == expected
        assert [Path(path).name for path in found.skipped] == skipped


def test_formats_whose_markup_is_learned_are_said_once_each(tmp_path: Path) -> None:
    for name in ("a.mhtml", "b.EML", "c.eml", "d.xml.gz", "e.html", "f.txt"):
        write(tmp_path, name, gzip.compress(b"<p>one") if name.endswith("gz") else "<p>one")
    found, said = Corpus([tmp_path, tmp_path / "b.EML"]), list[str]()
    found.say_findings(said.append)
    assert said == [
        f"Read {tmp_path}/a.mhtml as plain text, with all markup. To learn the text alone, save pages as .html.",
        f"Read 2 .eml files, such as {tmp_path}/b.EML, as plain text, with all markup. To learn the text alone, save "
        "messages as .txt.",
        f"Read {tmp_path}/d.xml.gz as plain text, with all markup. To learn the text alone, extract it first.",
    ]


LICENCE = "The Project Gutenberg eBook of Emma\n\nRelease date: 1994 [eBook #158]\n\n"
START = "*** START OF THE PROJECT GUTENBERG EBOOK EMMA ***\n\nEMMA\n"


def test_books_with_their_licence_are_said(tmp_path: Path) -> None:
    def said(*names: str) -> list[str]:
        lines = list[str]()
        Corpus([tmp_path / name for name in names], CorpusConfig(documents="file")).say_findings(lines.append)
        return lines

    has, alone = (
        "has the licence of Project Gutenberg at both ends, which is read, too.",
        "To learn the text alone, get",
    )
    fetch = "with textgen corpus fetch gutenberg:"
    for name, data in {
        "a.txt": f"{LICENCE}{START}".encode("utf-16"),
        "b.txt.gz": gzip.compress(f"{LICENCE}{START}".encode("utf-8-sig")),
        "old.txt": START.replace("THE", "THIS").encode(),
        "text.txt": b"EMMA\n\n[eBook #158]\n",
        "records.csv": f'text\n"{LICENCE}{START}"\n'.encode(),
    }.items():
        write(tmp_path, f"texts/{name}", data)
    for name in ("a.txt", "b.txt.gz"):
        assert said(f"texts/{name}") == [f"{tmp_path}/texts/{name} {has} {alone} it {fetch}158."]
    assert said("texts/old.txt") == [f"{tmp_path}/texts/old.txt {has} {alone} it {fetch}NUMBER."]
    assert said("texts") == [
        f"{tmp_path}/texts/a.txt, {tmp_path}/texts/b.txt.gz, {tmp_path}/texts/old.txt {has.replace('has', 'have')} "
        f"{alone} each {fetch}NUMBER."
    ]
    assert said("texts/text.txt", "texts/records.csv") == []


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.ass", "convert subtitles to .srt"),
        ("a.ssa", "convert subtitles to .srt"),
        ("a.ttml", "convert subtitles to .srt"),
        ("a.lrc", "remove the times first"),
        ("a.ipynb", "convert notebooks to .md or .py"),
        ("a.fodt", "save documents as .odt"),
    ],
)
def test_what_to_do_with_a_format_whose_markup_is_learned(tmp_path: Path, name: str, advice: str) -> None:
    path, said = write(tmp_path, name, "one"), list[str]()
    Corpus([path]).say_findings(said.append)
    assert said == [f"Read {path} as plain text, with all markup. To learn the text alone, {advice}."]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, "诗\r\n".encode())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = Corpus(["-", "-"])
    assert [list(found.documents()) for _ in range(2)] == [["诗\n"]] * 2
    assert len(list(tmp_path.iterdir())) == 1
    found.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text("text"))
    writer.start()
    found = Corpus([path])
    writer.join()
    assert [list(found.documents()) for _ in range(2)] == [["text"]] * 2


Case = tuple[dict[str, str | bytes], str, str]
NOWHERE: dict[str, Case] = {
    "missing": (
        {"poems.txt": "a"},
        "poem.txt",
        r"poem\.txt does not exist\. Did you mean .*poems\.txt\?",
    ),
    "missing, nothing like it": ({}, "poems.txt", r"poems\.txt does not exist\. Check the path"),
    "missing, its suffix is there": (
        {"en.txt": "a", "zh.txt": "a", "empty.txt": ""},
        "nope.txt",
        r"nope\.txt does not exist\. Check the path",
    ),
    "missing, another suffix": ({"poems.md": "a"}, "poems.txt", r"not exist\. Did you mean .*poems\.md\?"),
    "missing folder": ({}, "no/such/poems.txt", r"does not exist\. Check the path"),
    "glob": ({"a.txt": "a"}, "*.md", r"Nothing matches .*\*\.md"),
    "empty folder": ({".hidden/a.txt": "a"}, ".", r"No text in .*: there are no files"),
    "folder of binaries": ({"a.png": b"\0"}, ".", r"No text in .*: there is nothing but 1 binary file \("),
}


@pytest.mark.parametrize("case", NOWHERE.values(), ids=NOWHERE.keys())
def test_a_path_that_leads_to_no_text(tmp_path: Path, case: Case) -> None:
    files, path, message = case
    for name, content in files.items():
        write(tmp_path, name, content)
    with pytest.raises(CorpusError, match=message) as info:
        SourceFinder(CorpusConfig()).find([tmp_path / path])
    assert "\n" not in str(info.value)
    assert str(info.value).endswith((".", "?"))


def test_a_folder_may_have_files_with_different_marks(tmp_path: Path) -> None:
    for name in ("utf-8", "utf-8-sig", "utf-16"):
        write(tmp_path, f"texts/{name}.txt", f"café {name}\n".encode(name))
    write(tmp_path, "texts/no mark.txt", "café\n".encode("utf-16-le"))
    corpus, said = Corpus([tmp_path / "texts"], CorpusConfig(documents="line")), list[str]()
    assert list(corpus.documents()) == ["café utf-16", "café utf-8-sig", "café utf-8"]
    corpus.say_findings(said.append)
    assert said == [
        f"Skipped {tmp_path}/texts/no mark.txt: it looks like text in utf-16-le without a byte-order mark: convert it "
        "with iconv -f utf-16le -t utf-8 FILE > NEW."
    ]


def test_no_paths() -> None:
    with pytest.raises(CorpusError, match="No files to read"):
        Corpus([])


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (Terminal(), "which is a terminal"),
        (None, "which is closed"),
        (io.TextIOWrapper(io.BytesIO()), "No text in standard input: it is empty"),
        (io.TextIOWrapper(io.BytesIO(b" \n")), "No text in standard input: it is empty or has only white space"),
        (io.TextIOWrapper(io.BytesIO(b"\0")), "standard input looks like a binary file"),
    ],
)
def test_bad_standard_input(monkeypatch: pytest.MonkeyPatch, stdin: io.TextIOBase, message: str) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(CorpusError, match=message):
        read("-")


def test_a_pipe_that_does_not_fit_on_the_disk_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk_of: Callable[[int], AbstractContextManager[None]]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The cat sat.\n" * 1000)))
    with disk_of(5000), pytest.raises(TextgenError, match=rf"Cannot write {tmp_path}/.*: File too large\. .*TMPDIR"):
        Corpus(["-"])
    gc.collect()
    assert list(tmp_path.iterdir()) == []
