"""Files in a format that their name does not tell: refused or skipped with what to do, or read with a message."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest
from files import COMPRESS, read, write
from rich_files import docx, paragraphs, pdf, zipped

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.formats.archives import format_of_name
from textgen.corpus.formats.decompression import COMPRESSIONS
from textgen.corpus.formats.rich_text import WHOLE
from textgen.corpus.text_decoding import utf8_text
from textgen.errors import CorpusError

BODY = b"1 0 obj << /Type /Page >> endobj\n" * 300
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
OFFICE = "a Word file of before 2007, or another Office file: save it as .docx or as text"
STORED = b"PK\3\4\x14" + b"\0" * 25 + b"mimetypeapplication/"
KINDS: dict[str, tuple[bytes, str]] = {
    "pdf": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + BODY, "a PDF file: rename it to .pdf"),
    "pdf in ASCII": (b"%PDF-1.4\n" + BODY, "a PDF file: rename it to .pdf"),
    "pdf, NULs": (b"%PDF-2.0 \r\n%\0\0" + BODY, "a PDF file: rename it to .pdf"),
    "doc": (OLE + b"\xff" * 9000, OFFICE),
    "doc, NULs": (OLE + b"\0" * 9000, OFFICE),
    "odt": (STORED + b"vnd.oasis.opendocument.textPK", "an OpenDocument text: rename it to .odt"),
    "epub": (STORED + b"epub+zipPK", "an e-book: rename it to .epub"),
    "parquet": (b"PAR1\x15\4\x15\x10", "a Parquet table: rename it to .parquet"),
    "gzip": (gzip.compress(BODY), "compressed with gzip: decompress it, or add .gz to its name"),
    "bzip2": (bz2.compress(BODY), "compressed with bzip2: decompress it, or add .bz2 to its name"),
    "xz": (lzma.compress(BODY), "compressed with xz: decompress it, or add .xz to its name"),
    "zstd": (COMPRESS[".zst"](BODY), "compressed with zstd: decompress it, or add .zst to its name"),
}


@pytest.mark.parametrize("encoding", [None, "cp1252", "utf-16"])
@pytest.mark.parametrize("case", KINDS.values(), ids=KINDS.keys())
def test_a_file_in_another_format_than_its_name_tells(
    tmp_path: Path, case: tuple[bytes, str], encoding: str | None
) -> None:
    (data, what), said = case, list[str]()
    text = write(tmp_path, "text/a.txt", "The cat sat.\n".encode(encoding or "utf-8"))
    paths = [write(tmp_path, f"text/{name}", data) for name in ("b.txt", "c")]
    for path in paths:
        with pytest.raises(CorpusError) as info:
            Corpus([path], CorpusConfig(encoding=encoding))
        assert str(info.value) == f"{path} is {what}."
    for found in (Corpus([place], CorpusConfig(encoding=encoding)) for place in (text.parent, f"{text.parent}/*")):
        assert found.files == [text]
        found.say_findings(said.append)
    assert said == [f"Skipped {paths[0]}, {paths[1]}: each is {what}."] * 2
    text.unlink()
    with pytest.raises(CorpusError, match=f"nothing but 2 binary files .*b.txt is {what}"):
        Corpus([text.parent])


def test_a_renamed_file_is_read_as_the_message_says(tmp_path: Path) -> None:
    for path in (pdf(tmp_path / "a.txt", [["one"]]), docx(tmp_path / "b.rtf", paragraphs("one"))):
        with pytest.raises(CorpusError, match=r"rename it to (.*)\.$") as info:
            read(path)
        suffix = str(info.value).split()[-1].rstrip(".")
        assert read(path.rename(path.with_suffix(suffix)))[0].strip() == "one"
    path = write(tmp_path, "c.txt", gzip.compress(b"one"))
    with pytest.raises(CorpusError, match=r"add \.gz to its name"):
        read(path)
    assert read(path.rename(tmp_path / "c.txt.gz")) == ["one"]


def test_a_compressed_file_in_another_format_is_decompressed_first(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt.gz", gzip.compress(b"%PDF-1.4\n" + BODY))
    with pytest.raises(CorpusError, match=r"a\.txt\.gz is a PDF file: decompress it, and rename it to \.pdf\.$"):
        read(path)
    path = write(tmp_path, "b.txt.gz", gzip.compress(gzip.compress(b"one")))
    with pytest.raises(CorpusError, match=r"b\.txt\.gz is compressed with gzip: decompress it\.$"):
        read(path)


def test_what_cannot_be_renamed_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"%PDF-1.4\n" + BODY)))
    with pytest.raises(CorpusError, match=r"^standard input is a PDF file: save it as \.pdf, and name that file\.$"):
        read("-")


@pytest.mark.parametrize(
    "text",
    [
        "%PDF-1.4 is how a file begins.\n",
        " %PDF-1.4\n",
        "GIF89a is a format.\n",
        "PAR1 is at both ends.\n",
        "BZh stands for bzip2.\n",
        "x" * 257 + "ustar is the mark of an archive.\n",
    ],
)
def test_a_text_about_a_format_is_text(tmp_path: Path, text: str) -> None:
    assert read(write(tmp_path, "a.txt", text), documents="file") == [text]


def test_an_archive_with_few_nuls_is_no_text(tmp_path: Path) -> None:
    data, about = io.BytesIO(), tarfile.TarInfo("b" * 90)
    about.size = len(BODY)
    with tarfile.open(fileobj=data, mode="w") as file:
        file.addfile(about, io.BytesIO(BODY))
    with pytest.raises(CorpusError, match="is an archive: name 'tar://"):
        read(write(tmp_path, "a.tar", data.getvalue()))


def test_a_zip_archive_of_texts_is_no_word_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is an archive: name 'zip://"):
        read(zipped(tmp_path / "a.zip", {"word/a.txt": "The cat sat.\n"}))


PAGE = "<p>one</p></html>"
MARKUP = {
    "html": f"<html>{PAGE}",
    "doctype": f"<!DOCTYPE html>\n<html>{PAGE}",
    "doctype, lower case": f"<!doctype html><html>{PAGE}",
    "xhtml": f'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN"><html>{PAGE}',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("text", [*MARKUP.values(), r"{\rtf1\ansi one\par}"], ids=[*MARKUP, "rtf"])
def test_hidden_markup_is_said(tmp_path: Path, text: str, encoding: str) -> None:
    advice = "rename RTF files to .rtf" if "rtf" in text else "rename pages to .html"
    path, said = write(tmp_path, "text/a.txt", text.encode(encoding)), list[str]()
    for place in (path, path.parent):
        found = Corpus([place], CorpusConfig(documents="file"))
        assert list(found.documents()) == [text]
        found.say_findings(said.append)
    assert said == [f"Read {path} as plain text, with all markup. To learn the text alone, {advice}."] * 2
    write(tmp_path, "text/b", text.encode(encoding))
    Corpus([path.parent]).say_findings(said.append)
    kind = "RTF" if "rtf" in text else "HTML"
    assert said[2:] == [
        f"Read 2 {kind} files, such as {path}, as plain text, with all markup. To learn the text alone, {advice}."
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "The tag <html> begins a page.\n"),
        ("a.txt", "<htmlx>\n"),
        ("a.txt", r"A file begins with {\rtf1."),
        ("a.jsonl", '"<html>one"'),
        ("a.csv", "<html>,text\n1,one\n"),
        ("a.html", "<html>one"),
        ("a.rtf", r"{\rtf1\ansi one\par}"),
    ],
)
def test_other_texts_have_no_hidden_markup(tmp_path: Path, name: str, text: str) -> None:
    said = list[str]()
    Corpus([write(tmp_path, name, text)]).say_findings(said.append)
    assert said == []


def test_markup_that_is_piped_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(MARKUP["html"].encode())))
    Corpus(["-"]).say_findings(said.append)
    assert said == []


@pytest.mark.parametrize(("data", "what"), [KINDS["pdf"], KINDS["doc"], KINDS["gzip"]])
def test_what_must_be_utf8_is_not_called_text_in_another_encoding(data: bytes, what: str) -> None:
    with pytest.raises(CorpusError, match=rf"not UTF-8 .* It is {what.split(':')[0]}: save its text as UTF-8 first\.$"):
        utf8_text(data, "a.txt")


@pytest.mark.parametrize("suffix", [*WHOLE, *COMPRESSIONS, ".rtf", ".parquet"])
def test_the_name_of_each_format_that_is_no_plain_text_is_known(suffix: str) -> None:
    assert format_of_name(f"chapter{suffix}") == format_of_name(f"CHAPTER.txt{suffix.upper()}") != ""
