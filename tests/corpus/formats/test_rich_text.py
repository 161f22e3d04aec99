"""Files of word processors, books, pages and subtitles: their text, what has none, and how large they may become."""

from __future__ import annotations

import gzip
import io
import random
import re
import time
import tracemalloc
import zipfile
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from files import read, write
from rich_files import ODF, W, docx, epub, odt, paragraphs, pdf, pdf_file, zipped

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.formats import epub as books
from textgen.corpus.formats import extras, office, office_markup, page_markup, rich_text, rtf, web_pages
from textgen.corpus.formats import pdf as pdf_files
from textgen.corpus.formats import zipped as archives
from textgen.corpus.formats.page_markup import page_text
from textgen.errors import CorpusError

RTF = r"{\rtf1\ansi\ansicpg1252{\fonttbl\f0 Times;}\f0 Caf\'e9 \u26376?\par{\*\comment no}Line two\par}"
VTT = "WEBVTT\n\n00:01.000 --> 00:02.000\nHi there\n"


def one(path: Path, **config: Any) -> str:
    (text,) = read(path, **{"documents": "file", **config})
    return text


# === Texts ===


def test_a_docx_file(tmp_path: Path) -> None:
    body = (
        paragraphs("A  title &amp; more", "", "月")
        + '<w:p><w:pPr><w:tabs><w:tab w:val="left" w:pos="720"/></w:tabs></w:pPr><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t>'
        "<w:br/><w:t>c</w:t></w:r><w:ins><w:r><w:t> in</w:t></w:r></w:ins><w:del><w:r><w:delText>out</w:delText></w:r>"
        "</w:del><w:moveFrom><w:r><w:t>gone</w:t></w:r></w:moveFrom><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
        f"<w:sdt><w:sdtContent>{paragraphs('held')}</w:sdtContent></w:sdt>"
        f"<w:tbl><w:tr><w:tc>{paragraphs('1', '2')}</w:tc><w:tc>{paragraphs('3')}</w:tc></w:tr></w:tbl>"
    )
    expected = "A  title & more\n\n月\n\na\tb\nc in\n\nheld\n1\n2\t3\n"
    assert one(docx(tmp_path / "a.docx", body)) == expected
    assert one(docx(tmp_path / "b.DOCX", body, part="document2.xml")) == expected


@pytest.mark.parametrize("number", [0, 1, 2])
def test_characters_that_another_program_could_not_decode_are_counted(tmp_path: Path, number: int) -> None:
    path, said = docx(tmp_path / "a.docx", paragraphs("caf\ufffd" * number, "the end")), list[str]()
    corpus = Corpus([path], CorpusConfig(documents="file", strict=True))
    assert "".join(corpus.documents()).count("\ufffd") == number
    corpus.say_left_out(said.append)
    count = "1 character" if number == 1 else f"{number} characters"
    assert said == [
        f"Found {count} in {path} that another program could not decode: U+FFFD stands for each. Save it again from "
        "its source, or correct it."
    ] * bool(number)


def test_an_odt_file(tmp_path: Path) -> None:
    path = odt(
        tmp_path / "a.odt",
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes><text:h>Title</text:h>"
        '<text:p>one<text:s text:c="2"/>two<text:tab/>three<text:note><text:note-body><text:p>no</text:p>'
        "</text:note-body></text:note><text:line-break/><text:span>four\n  five</text:span></text:p>"
        "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell><table:table-cell>"
        "<text:p>b</text:p></table:table-cell></table:table-row></table:table>",
    )
    assert one(path) == "Title\none  two\tthree\nfour five\n\na\tb\n"


POEMS = [[f"Poem {number}", *(f"line {line} of poem {number}, and more" for line in range(4))] for number in range(200)]
STYLES = (
    f"<w:styles {W}><w:style w:styleId='1'><w:name w:val='heading 1'/></w:style><w:style w:styleId='a'><w:name "
    "w:val='Poem'/><w:pPr><w:outlineLvl w:val='1'/></w:pPr></w:style><w:style w:styleId='b'><w:name w:val='Body'/>"
    "<w:pPr><w:outlineLvl w:val='9'/></w:pPr></w:style></w:styles>"
)


def headed(style: str) -> str:
    """Poems whose title has a style, in a .docx file."""

    def heading(title: str) -> str:
        return f"<w:p><w:pPr>{style}</w:pPr><w:r><w:t>{title}</w:t></w:r></w:p>"

    return "".join(heading(title) + paragraphs(*lines) for title, *lines in POEMS)


def broken(lines: list[str], line_break: str) -> str:
    """Lines in one paragraph of a .docx file."""
    return f"<w:p>{line_break.join(f'<w:r><w:t>{line}</w:t></w:r>' for line in lines)}</w:p>"


DOCX_LAYOUTS = {
    "headings": headed('<w:pStyle w:val="Heading2"/>'),
    "headings in Chinese": headed('<w:pStyle w:val="1"/>'),
    "headings of a style of one's own": headed('<w:pStyle w:val="a"/>'),
    "levels": headed('<w:pStyle w:val="b"/><w:outlineLvl w:val="0"/>'),
    "empty paragraphs": "<w:p/>".join(paragraphs(*poem) for poem in POEMS),
    "breaks": "".join(broken(poem, "<w:r><w:br/></w:r>") for poem in POEMS),
    "breaks after headings": "".join(
        f'<w:p><w:pPr><w:pStyle w:val="Title"/></w:pPr><w:r><w:t>{title}</w:t></w:r></w:p>{broken(lines, "<w:cr/>")}'
        for title, *lines in POEMS
    ),
}
ODT_LAYOUTS = {
    "headings": "".join(
        f"<text:h>{title}</text:h>" + "".join(f"<text:p>{line}</text:p>" for line in lines) for title, *lines in POEMS
    ),
    "breaks": "".join(f"<text:p>{'<text:line-break/>'.join(poem)}</text:p>" for poem in POEMS),
}


@pytest.mark.parametrize("layout", DOCX_LAYOUTS)
def test_the_documents_of_a_docx_file_do_not_depend_on_its_layout(tmp_path: Path, layout: str) -> None:
    path = docx(tmp_path / "a.docx", DOCX_LAYOUTS[layout])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("word/styles.xml", STYLES)
    assert read(path) == ["\n".join(poem) for poem in POEMS]


@pytest.mark.parametrize("damage", ["cut", "empty", "other bytes"])
def test_damaged_styles_leave_a_docx_file_readable(tmp_path: Path, damage: str) -> None:
    path = docx(tmp_path / "a.docx", DOCX_LAYOUTS["headings"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("word/styles.xml", {"cut": STYLES[:-9], "empty": ""}.get(damage, STYLES))
    if damage == "other bytes":
        path.write_bytes(path.read_bytes().replace(b"heading 1", b"heading 2"))  # which its checksum shows
    assert read(path) == ["\n".join(poem) for poem in POEMS]


@pytest.mark.parametrize("layout", ODT_LAYOUTS)
def test_the_documents_of_an_odt_file_do_not_depend_on_its_layout(tmp_path: Path, layout: str) -> None:
    assert read(odt(tmp_path / "a.odt", ODT_LAYOUTS[layout])) == ["\n".join(poem) for poem in POEMS]


def test_body_text_and_former_headings_are_no_headings(tmp_path: Path) -> None:
    styles = (
        '<w:pStyle w:val="b"/>',
        '<w:outlineLvl w:val="9"/>',
        '<w:pPrChange><w:pPr><w:pStyle w:val="Heading1"/></w:pPr></w:pPrChange>',
    )
    for style in styles:
        body = f"{paragraphs('one')}<w:p><w:pPr>{style}</w:pPr><w:r><w:t>two</w:t></w:r></w:p>"
        assert one(docx(tmp_path / "a.docx", body)) == "one\ntwo\n"


def test_a_long_paragraph_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office_markup, "MAX_HELD_CHARS", 3)
    body = paragraphs("a") + broken(["long", "b"], "<w:r><w:br/></w:r>") + paragraphs("c")
    assert one(docx(tmp_path / "a.docx", body)) == "a\nlong\nb\n\nc\n"


def test_readings_and_descriptions_are_no_running_text(tmp_path: Path) -> None:
    def run(text: str) -> str:
        return f"<w:r><w:t>{text}</w:t></w:r>"

    ruby = f"<w:ruby><w:rt>{run('no')}</w:rt><w:rubyBase>{run('月')}</w:rubyBase></w:ruby>"
    assert one(docx(tmp_path / "a.docx", f"<w:p>{run('a')}<w:r>{ruby}</w:r>{run('b')}</w:p>")) == "a月b\n"
    path = odt(
        tmp_path / "a.odt",
        "<text:p>a<text:ruby><text:ruby-base>月</text:ruby-base><text:ruby-text>no</text:ruby-text></text:ruby>b "
        "<text:title>Title</text:title><draw:frame><draw:image><office:binary-data>bm8=</office:binary-data>"
        "</draw:image><svg:title>no</svg:title><svg:desc>no</svg:desc></draw:frame><text:script>no()</text:script>"
        "</text:p>",
    )
    assert one(path) == "a月b Title\n"


PAGE = """<!doctype html><html><head><title>No</title><style>p {}</style><script>if (a < b) {}</script></head><body>
<nav><a href=x>Menu</a></nav><h1>The
  cat</h1><p>One <b>bold</b>&nbsp;word,<br>then <i>an</i>other.<p>Two<script>no()</script></p>
<ul><li>a</li><li>b</li></ul><pre>  kept
 as is</pre><div>x</div><div>y<span hidden>no</span></div><table><tr><td>1</td><td>2</td></tr></table>
<ruby>月<rt>yue</rt></ruby></body></html>"""


@pytest.mark.parametrize("suffix", [".html", ".HTM", ".xhtml", ".html.gz"])
@pytest.mark.parametrize("size", [1, 7, 1 << 18])
def test_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, size: int) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", size)
    data = gzip.compress(PAGE.encode()) if suffix.endswith("gz") else PAGE.encode()
    assert one(write(tmp_path, f"a{suffix}", data)) == (
        "The cat\n\nOne bold\xa0word,\nthen another.\n\nTwo\n\na\nb\n\n  kept\n as is\n\nx\ny\n\n1 2\n\n月\n"
    )


@pytest.mark.parametrize("suffix", [".html", ".xhtml", ".epub"])
def test_a_page_of_elements_that_do_not_end_is_refused_in_time(tmp_path: Path, suffix: str) -> None:
    page = "<html><body>text<p>" + "<b>" * 80_000 + "x" + "</i>" * 80_000
    if suffix == ".epub":
        guide = '<reference type="toc" href="text/one.xhtml"/>'
        path = epub(tmp_path / "a.epub", {"one": page}, guide=guide)
    else:
        path = write(tmp_path, f"a{suffix}", page)
    start = time.process_time()
    with pytest.raises(CorpusError, match=r"has \d+,\d+ elements within each other that do not end"):
        one(path)
    assert time.process_time() - start < 20  # seconds; minutes if it is parsed to the end


@pytest.mark.parametrize("tag", ["font size=2", "wbr", "p", "li", "br", "div"])
def test_a_page_whose_elements_have_no_ends_is_read(tmp_path: Path, tag: str) -> None:
    lines = 5_000
    page = "".join(f"<{tag}><i>{number}</i><br>" for number in range(lines))
    assert one(write(tmp_path, "a.html", f"<div>{page}</div>")).split() == list(map(str, range(lines)))


@pytest.mark.parametrize("line", ["春眠不觉晓，<wbr>处处闻啼鸟。<br>", "<wbr><i>春</i>眠<b>不</b>觉<br>"])
def test_a_long_page_whose_words_may_be_divided_is_read(tmp_path: Path, line: str) -> None:
    """The parser holds <wbr> for open, but end tags that end something cost no time."""
    lines = 36_000
    text = one(write(tmp_path, "a.html", f"<div>{line * lines}</div>"))
    assert (text.count("春"), text.count("觉")) == (lines, lines)


def test_end_tags_that_end_nothing_are_counted_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of an element that is open, but further out than one that it cannot end."""
    number, open_tags = 2_000, "<i><div>" + "<b>" * 1_000
    for ends, misses in ("</i>", number), ("<u></u></i>x", number), ("<u>x</u>", 0):
        path = write(tmp_path, "a.html", open_tags + "x" * page_markup.PIECE_BYTES + ends * number)
        monkeypatch.setattr(page_markup, "MAX_STEPS", 1_000 * misses * 9 // 10)  # some lie on borders of pieces
        with pytest.raises(CorpusError, match="do not end") if misses else nullcontext():
            one(path)
        monkeypatch.setattr(page_markup, "MAX_STEPS", 1_010 * misses)
        one(path)


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 18])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_what_only_xhtml_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, size: int) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", size)
    page = (
        f'<?xml version="1.0" encoding="{encoding}"?><html><head><title/><script src="a"/></head><body>'
        "<p>a<br/>b<![CDATA[ <i>&amp;</i> ]] 月]]><a id='x'/></p><p class='y'/><![CDATA[c]]><![CDATA[]]>"
        "<div title='<'/>d<script>//<![CDATA[\nno('</p>')\n//]]></script></body></html>"
    ).encode(encoding)
    expected = "a\nb <i>&amp;</i> ]] 月\n\nc\nd\n"
    assert one(epub(tmp_path / "a.epub", {"one": page})) == expected
    if size > 7 or encoding == "utf-8":  # a page names its encoding in its first chunk
        assert one(write(tmp_path, "a.xhtml", page)) == expected
    assert "月" not in one(write(tmp_path, "a.html", "<p>a<![CDATA[月]]></p>"))


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 18])
@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("<!-- <![CDATA[ x --><p>one</p><p>two<br/></p>", "one\n\ntwo\n"),
        ("<!-- <p>old</p><![CDATA[ a > b --><p>one</p><!-- c ]]> -->", "one\n"),
        ("<p>one</p><!-- see <![CDATA[x]]> here --><p>two</p>", "one\n\ntwo\n"),
        ("<p>a<![CDATA[<!-- b -->]]>c</p><![CDATA[<!--]]><p>d</p>", "a<!-- b -->c\n\n<!--\n\nd\n"),
        ("<p>a</p><!----><![CDATA[b]]><!-- <i/> -- > --><p>c</p>", "a\n\nb\n\nc\n"),
        ("<script><!--//--><![CDATA[//><!--\nif (a<b) no('</p>');\n//--><!]]></script><p>one</p>", "one\n"),
    ],
)
def test_comments_and_sections_do_not_begin_within_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, shown: str, size: int
) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", size)
    assert one(write(tmp_path, "a.xhtml", f"<html><body>{body}</body></html>")) == shown


def test_a_comment_is_passed_on_unchanged() -> None:
    page = "a<!-- <p/> <![CDATA[ <b/> ]]> --->b<!--<!-- -->c"
    for size in (1, 2, 7, 100):
        pieces = [page[start : start + size] for start in range(0, len(page), size)]
        assert "".join(web_pages.as_html(pieces)) == page


def test_an_old_parser_gets_a_page_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etree, fed = extras.load("lxml.etree", "a.html"), list[bytes]()
    whole: Any = etree.HTMLParser

    def feed(self: Any, data: bytes) -> None:
        fed.append(data)
        whole.feed(self, data)

    parser = type("Parser", (whole,), {"feed": feed})

    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", 7)
    monkeypatch.setattr(etree, "HTMLParser", parser)
    for version, pieces in (((2, 13, 8), 1), ((2, 14, 0), -(-len(PAGE.encode()) // 7))):
        monkeypatch.setattr(etree, "LIBXML_VERSION", version)
        fed.clear()
        assert "then another" in one(write(tmp_path, "a.html", PAGE.encode()))
        assert len(fed) == pieces


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("", "utf-8"),
        ("<meta charset='gb2312'>", "gb18030"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=ISO-8859-1">', "cp1252"),
        ("<meta charset=utf-16>", "utf-8"),
        ("<meta charset=nonsense>", "utf-8"),
        ("", "utf-16"),
    ],
)
def test_the_encoding_that_a_page_names(tmp_path: Path, head: str, encoding: str) -> None:
    text = "“café”" if encoding == "cp1252" else "床前明月光"
    path = write(tmp_path, "a.html", f"{head}<p>{text}".encode(encoding))
    assert one(path) == f"{text}\n"


LABELS = {
    "shift_jis shift-jis sjis x-sjis ms_kanji windows-31j csshiftjis": (b"\x87\x40\x93\xfa", "①日"),
    "euc-jp x-euc-jp": (b"\xad\xa1\xad\xf0\xc6\xfc\x8f\xb0\xa1\x8e\xb1\xf9\xa1\xfc\xfe", "①≒日丂ｱ纊＂"),
    "euc-kr ks_c_5601-1987 ks_c_5601-1989 korean ksc5601 windows-949": (b"\xb0\xa1\x94\xee", "가뷁"),
    "big5 big5-hkscs cn-big5 csbig5 x-x-big5": (b"\xa4\xe9\x9d\xf7", "日咗"),
    "gb2312 gbk x-gbk gb_2312-80 chinese gb18030": (b"\xc8\xd5\x81\x30\x84\x36", "日¥"),
    "iso-8859-1 ISO8859-1 latin1 ascii us-ascii windows-1252 x-cp1252": (b"\x93\xe9\x81\x94", "“é\x81”"),
    "iso-8859-2 iso88592 latin2": (b"\xa1\x80", "Ą\x80"),
    "iso-8859-6 iso88596": (b"\xc7", "ا"),
    "iso-8859-7 iso88597": (b"\xe1", "α"),
    "iso-8859-8-i iso88598 logical": (b"\xe0", "א"),
    "iso-8859-15 iso885915": (b"\xa4", "€"),
    "iso-8859-9 latin5 windows-1254": (b"\x93\xfe\x9e", "“ş\x9e"),
    "iso-8859-11 tis-620 windows-874 dos-874": (b"\x85\xa1\x81", "…ก\x81"),
    "windows-1251 x-cp1251": (b"\xe4\x98", "д\x98"),
    "koi8-r koi": (b"\xc4", "д"),
    "x-mac-cyrillic x-mac-ukrainian": (b"\xe4\xa0", "д†"),
    "macintosh mac x-mac-roman": (b"\x8e\xc9", "é…"),
    "utf8 unicode-1-1-utf-8": ("日".encode(), "日"),
}


@pytest.mark.parametrize("labels", LABELS)
def test_pages_are_in_the_encodings_in_which_browsers_read_them(tmp_path: Path, labels: str) -> None:
    data, text = LABELS[labels]
    for label in labels.split():
        page = b"<meta charset=%b><p>%b</p>" % (label.encode(), data)
        assert one(write(tmp_path, "a.html", page)) == f"{text}\n", label
        chapter = b"<?xml version='1.0' encoding='%b'?><p>%b</p>" % (label.encode(), data)
        assert one(epub(tmp_path / "a.epub", {"one": chapter})) == f"{text}\n", label


@pytest.mark.parametrize(
    ("label", "data"),
    [
        ("windows-1253", b"\xd2"),
        ("Shift_JIS (cp932)", b"\x81\x20"),
        ("x-sjis (cp932)", b"\x81\x20"),
        ("utf-8", b"\x81"),
        ("x-euc-jp (euc_jp)", b"\xf5\xa1"),
        ("euc-jp", b"\xf5\xa1"),
        ("euc-jp", b"\xf9\xff"),
        ("euc-jp", b"\xff\xa1"),
        ("euc-jp", b"\xad\x7f"),
        ("euc-jp", b"\xad"),
    ],
)
def test_a_page_that_is_not_in_its_encoding_is_refused(tmp_path: Path, label: str, data: bytes) -> None:
    """The message names the encoding as the page does."""
    page = b"<meta charset='%b'><p>" % label.partition(" ")[0].encode() + data
    with pytest.raises(CorpusError, match=rf"a\.html is not {re.escape(label)} text: byte 0x.. at offset \d+\."):
        read(write(tmp_path, "a.html", page))
    with pytest.raises(CorpusError, match=rf"its part .* is not {re.escape(label)} text \("):
        read(epub(tmp_path / "a.epub", {"one": page}))


@pytest.mark.parametrize("tag", ["main", "article", "section", "my-page", "p"])
@pytest.mark.parametrize("head", ["<title>No</title>", "<meta charset=utf-8><link href=a><title>No</title>"])
def test_a_page_without_tags_of_head_and_body(tmp_path: Path, head: str, tag: str) -> None:
    page = f"<!DOCTYPE html>{head}<style>p {{}}</style><script>no()</script><{tag}><b>Hello</b></{tag}>"
    assert one(write(tmp_path, "a.html", page.encode())) == "Hello\n"


def test_an_encoding_that_is_set_goes_before_that_of_the_page(tmp_path: Path) -> None:
    path = write(tmp_path, "a.html", "<meta charset=utf-8><p>é".encode("cp1252"))
    with pytest.raises(CorpusError, match=r"is not utf-8 text: .*set encoding to cp1252"):
        read(path)
    assert one(path, encoding="cp1252") == "é\n"


def test_utf8_that_is_set_goes_before_the_encoding_of_the_page(tmp_path: Path) -> None:
    path = write(tmp_path, "a.html", "<meta charset=windows-1252><p>é")
    assert (one(path), one(path, encoding="utf-8")) == ("Ã©\n", "é\n")


def test_pages_in_utf8_that_name_another_encoding_are_read_and_said(tmp_path: Path) -> None:
    said, text = list[str](), "床前明月光"
    write(tmp_path, "text/right.html", f"<meta charset=gb2312><p>{text}".encode("gb18030"))
    for name in "abcd":
        write(tmp_path, f"text/{name}.html", f"<meta charset=gb2312><p>{text} in {name}")
    for strict in (False, True):
        said.clear()
        corpus = Corpus([tmp_path / "text"], CorpusConfig(documents="file", strict=strict))
        assert list(corpus.documents()) == [*(f"{text} in {name}\n" for name in "abcd"), f"{text}\n"]
        corpus.say_left_out(said.append)
        files = ", ".join(str(tmp_path / "text" / f"{name}.html") for name in "abc")
        assert said == [
            "Read 4 pages as UTF-8 despite another encoding named there, since the bytes are valid UTF-8: "
            f"{files} and 1 more."
        ]


def test_a_book(tmp_path: Path) -> None:
    def page(body: str) -> str:
        head = '<?xml version="1.0" encoding="utf-8"?><html><head><title/><script src="a"/></head>'
        return f"{head}<body>{body}</body></html>"

    chapters = {"two": page("<h1>II</h1><p>b&#160;é</p>"), "one": page('<h1><a id="x"/>I</h1><p>a&nbsp;a</p>')}
    nav = '<item id="nav" href="text/nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    path = epub(tmp_path / "a.epub", chapters, order=["one", "two"], extra=nav)
    assert one(path) == "I\n\na\xa0a\n\nII\n\nb\xa0é\n"
    coded = {"one": page("é").replace("utf-8", "iso-8859-1").encode("latin-1")}
    assert one(epub(tmp_path / "b.epub", coded)) == "é\n"


@pytest.mark.parametrize("seed", range(3))
def test_a_book_with_copy_protection(tmp_path: Path, seed: int) -> None:
    listed = (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
        'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData><enc:CipherData>'
        '<enc:CipherReference URI="{}"/></enc:CipherData></enc:EncryptedData></encryption>'
    )
    pages: dict[str, str | bytes] = {"one": "<p>one</p>", "a b": "<p>two</p>"}
    protected = (
        r"a\.epub is protected: its part OEBPS/text/{}\.xhtml is encrypted, as books with copy protection are\. Name"
    )
    for uri in ("OEBPS/text/a%20b.xhtml", "/OEBPS/text/a b.xhtml"):
        others = {books.ENCRYPTION: listed.format(uri)}
        with pytest.raises(CorpusError, match=protected.format("a b")):
            read(epub(tmp_path / "a.epub", pages, others=others))
    for encryption in (listed.format("OEBPS/fonts/a.otf"), "<damaged"):
        assert one(epub(tmp_path / "a.epub", pages, others={books.ENCRYPTION: encryption})) == "one\n\ntwo\n"
    with pytest.raises(CorpusError, match=protected.format("one")):  # not listed
        read(epub(tmp_path / "a.epub", {"one": random.Random(seed).randbytes(2000)}))


def test_a_book_is_read_without_the_table_of_contents_that_its_guide_names(tmp_path: Path) -> None:
    links = "<a href='one.xhtml'>Chapter 1</a><a href='two.xhtml'>Chapter 2</a>"
    chapters = {"toc": f"<h1>Contents</h1>{links}", "one": f"<p>one</p>{links}<p>{'a ' * 99}</p>", "two": "<p>two</p>"}
    for href, has_table in {"text/toc.xhtml": False, "text/toc.xhtml#a": False, "text/one.xhtml#a": True}.items():
        guide = f'<reference type="cover" href="text/two.xhtml"/><reference type="toc" href="{href}"/>'
        text = one(epub(tmp_path / "a.epub", chapters, guide=guide))
        assert text.startswith("Contents" if has_table else "one")
        assert text.endswith("two\n")
        assert "a a" in text, "a page that holds other text, too, is read"


@pytest.mark.parametrize("page", [b"", b"<!-- -->", b"<?xml version='1.0'?>", b"<html/>"])
def test_a_book_with_an_empty_table_of_contents_is_read(tmp_path: Path, page: bytes) -> None:
    guide = '<reference type="toc" href="text/toc.xhtml"/>'
    assert one(epub(tmp_path / "a.epub", {"toc": page, "one": "<p>one</p>"}, guide=guide)).strip() == "one"


def said_of(path: Path) -> list[str]:
    """What is said about a file once it is read."""
    corpus, said = Corpus([path], CorpusConfig(documents="file")), list[str]()
    list(corpus.documents())
    corpus.say_left_out(said.append)
    return said


@pytest.mark.parametrize(
    "kind", ["application/xhtml+xml ", "Text/HTML", "application/x-dtbook+xml", "text/x-oeb1-document"]
)
def test_chapters_of_all_types_are_read(tmp_path: Path, kind: str) -> None:
    item = f'<item id="b" href="b.xml" media-type="{kind}"/>'
    path = epub(
        tmp_path / "a.epub",
        {"one": "<p>one</p>"},
        extra=item,
        entries='<itemref idref="b" linear="yes"/>',
        others={"OEBPS/b.xml": "<dtbook><book><p>two</p></book></dtbook>"},
    )
    assert one(path, strict=True) == "one\n\ntwo\n"
    assert said_of(path) == []


def test_chapters_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    items = (
        '<item id="b" href="b.svg" media-type="image/svg+xml"/><item id="c" href="c" fallback="d" media-type=""/>'
        '<item id="d" href="d" fallback="c"/><item id="e" href="e.pdf" media-type="application/pdf" fallback="f"/>'
        '<item id="f" href="f.html" media-type="text/html"/>'
        '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    )
    entries = "".join(f'<itemref idref="{name}"/>' for name in ("b", "c", "e", "gone", "ncx"))
    others = {"OEBPS/f.html": "<p>other</p>"}
    path = epub(tmp_path / "a.epub", {"one": "<p>one</p>"}, extra=items, entries=entries, others=others)
    assert one(path) == "one\n\nother\n", "a page in place of the .pdf file is read"
    assert said_of(path) == [
        f'Skipped 3 parts of {path} that cannot be read: "OEBPS/b.svg (image/svg+xml, no page)", '
        '"OEBPS/c (without a media type, no page)", gone (not in the list of its files). Convert the book to .epub '
        "again, or to .docx."
    ]
    with pytest.raises(CorpusError, match=r"^There are 3 parts of .*leave strict out"):
        read(path, strict=True)


PICTURE = "<svg xmlns='http://www.w3.org/2000/svg'>{}</svg>"


def test_a_chapter_that_a_book_names_many_times_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = list[str]()

    def noted(chunks: list[str], name: str) -> Any:
        names.append(name)
        return page_text(chunks, name)

    monkeypatch.setattr("textgen.corpus.formats.epub.page_text", noted)
    again = '<item id="again" href="text/one.xhtml#part" media-type="application/xhtml+xml"/>'
    again += "".join(f'<item id="p{n}" href="{n}.xml" media-type="text/xml" fallback="one"/>' for n in range(50))
    entries = '<itemref idref="one"/><itemref idref="again"/>' * 50
    entries += "".join(f'<itemref idref="p{number}"/>' for number in range(50))
    path = epub(tmp_path / "a.epub", {"one": "<p>one</p>", "two": "<p>two</p>"}, extra=again, entries=entries)
    assert one(path) == "one\n\ntwo\n"
    assert len(names) == 2


def test_the_time_for_chapters_in_place_of_each_other_does_not_explode(tmp_path: Path) -> None:
    numbers = range(4_000)
    items = [f'<item id="i{i}" href="{i}.xml" media-type="text/xml" fallback="i{i + 1}"/>' for i in numbers]
    entries = "".join(f'<itemref idref="i{number}"/>' for number in numbers)
    path = epub(tmp_path / "a.epub", {"one": "<p>text</p>"}, extra="".join(items), entries=entries)
    start = time.process_time()
    assert one(path) == "text\n"
    assert time.process_time() - start < 10  # seconds; most of a minute where each entry follows the whole chain
    assert said_of(path)[0].startswith("Skipped 4,000 parts of ")


@pytest.mark.parametrize(
    ("kind", "data", "is_lost"),
    [
        ("image/svg+xml", PICTURE.format("<title>Cover</title><path/>"), False),
        ("Image/SVG+XML", PICTURE.format("<g><text>words</text></g>"), True),
        ("image/svg+xml", PICTURE.format("<foreignObject><p>words</p></foreignObject>"), True),
        ("image/svg+xml", "<svg", True),
        ("image/jpeg", "", False),
        ("application/pdf", "", True),
    ],
)
def test_a_picture_among_the_chapters_is_no_lost_text(tmp_path: Path, kind: str, data: str, is_lost: bool) -> None:
    item = f'<item id="b" href="b" media-type="{kind}"/>'
    entry = '<itemref idref="b"/>'
    path = epub(tmp_path / "a.epub", {"one": "<p>one</p>"}, extra=item, entries=entry, others={"OEBPS/b": data})
    assert one(path) == "one\n"
    assert len(said_of(path)) == is_lost
    if is_lost:
        with pytest.raises(CorpusError, match=r"^There is 1 part of .*leave strict out"):
            read(path, strict=True)
    else:
        assert one(path, strict=True) == "one\n"


@pytest.mark.parametrize("page", ["<p>notes</p>", "<p><img src='cover.png'/></p>", None])
def test_text_that_a_book_puts_beside_its_text_is_said(tmp_path: Path, page: str | None) -> None:
    path = epub(
        tmp_path / "a.epub",
        {"one": "<p>one</p>"},
        extra='<item id="notes" href="notes.html" media-type="text/html"/>',
        entries='<itemref idref="notes" linear="no"/>',
        others={} if page is None else {"OEBPS/notes.html": page},
    )
    assert one(path, strict=True) == "one\n"
    assert said_of(path) == [
        f'Skipped 1 part with text of {path} that the book puts beside its text (linear="no"): OEBPS/notes.html. To '
        "learn it, too, unzip the book and name it."
    ] * (page is None or "notes" in page)


def test_a_pdf_file(tmp_path: Path) -> None:
    assert one(pdf(tmp_path / "a.pdf", [["One line", "and another."], [], ["Page three"]])) == (
        "One line\nand another.\nPage three\n"
    )


DRAWN = "BT /F 12 Tf 7 7 Td (drawn) Tj ET"
FONTS = "/Font << /F 6 0 R >>"
FORM = f"<< /Subtype /Form /Resources << {FONTS} >> /Length {len(DRAWN)} {{}} >>\nstream\n{DRAWN}\nendstream"


@pytest.mark.parametrize(
    ("drawn", "contents", "text"),
    [
        (FORM.format(""), "", "before\ndrawn\nafter\n"),
        (FORM.format("/Filter /Unknown"), "", "before\nafter\n"),
        ("<< /Type /XObject /Length 1 >>\nstream\n0\nendstream", "", "before\nafter\n"),
        (FORM.format(""), "<< /Type /Catalog >>", ""),
        (FORM.format(""), "damaged", ""),
    ],
    ids=["whole", "filter", "no form", "no contents", "damaged contents"],
)
def test_parts_of_a_pdf_file_that_cannot_be_decoded_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, drawn: str, contents: str, text: str
) -> None:
    shown = "BT /F 12 Tf 72 700 Td (before) Tj ET /Fm Do BT /F 12 Tf 72 600 Td (after) Tj ET"
    packed = zlib.compress(random.Random(0).randbytes(300).hex().encode())
    packed = packed[:60] + b"\xff" * 20 + packed[80:]
    stream = f"<< /Length {len(shown)} >>\nstream\n{shown}\nendstream"
    if contents == "damaged":
        contents = f"<< /Filter /FlateDecode /Length {len(packed)} >>\nstream\n{packed.decode('latin-1')}\nendstream"
    resources = f"<< {FONTS} /XObject << /Fm 5 0 R >> >>"
    page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {} 0 R /Resources {} >>"
    path = write(
        tmp_path,
        "a.pdf",
        pdf_file(
            [
                "<< /Type /Catalog /Pages 2 0 R >>",
                "<< /Type /Pages /Kids [8 0 R 3 0 R] /Count 2 >>",
                page.format(4, resources),
                contents or stream,
                drawn,
                "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
                "<< /Length 34 >>\nstream\nBT /F 12 Tf 72 700 Td (first) Tj ET\nendstream",
                page.format(7, resources),
            ]
        ),
    )
    assert one(path).replace("\n\n", "\n") == f"first\n{text}"
    if "drawn" in text:
        assert said_of(path) == []
        return
    assert said_of(path) == [
        f"Skipped parts of 1 page of the 2 in {path} that cannot be decoded, the first is page 2: text in them is "
        "missing. Save the file again, or print it to a new one."
    ]
    with pytest.raises(CorpusError, match=r"^There are parts of 1 page of .*leave strict out"):
        read(path, strict=True)
    assert caplog.records == []


def tree_of_pages(path: Path, kids: list[str]) -> Path:
    """A .pdf file in whose list of pages each part has what the next string says, and the last one is a page."""
    last = len(kids) + 2
    parts = [f"<< /Type /Pages /Kids [{inside}] /Count 1 >>" for inside in kids]
    content = "BT /F 12 Tf 72 700 Td (again) Tj ET"
    path.write_bytes(
        pdf_file(
            [
                "<< /Type /Catalog /Pages 2 0 R >>",
                *parts,
                f"<< /Type /Page /MediaBox [0 0 612 792] /Contents {last + 1} 0 R /Resources << /Font << /F "
                f"{last + 2} 0 R >> >> >>",
                f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
                "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            ]
        )
    )
    return path


def test_a_pdf_file_whose_few_parts_make_many_pages_is_refused(tmp_path: Path) -> None:
    path = tree_of_pages(tmp_path / "a.pdf", [f"{number} 0 R {number} 0 R" for number in range(3, 13)])
    with pytest.raises(CorpusError, match=r"a\.pdf is damaged: its list of pages names a part of itself twice\."):
        one(path)


def test_a_page_that_a_pdf_file_has_many_times_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, parsed = tree_of_pages(tmp_path / "a.pdf", ["3 0 R", "4 0 R " * 50]), list[int]()
    page_text = pdf_files._page_text

    def noted(page: Any, name: str, number: int) -> str:
        parsed.append(number)
        return page_text(page, name, number)

    monkeypatch.setattr(pdf_files, "_page_text", noted)
    assert one(path) == "again\n" * 50
    assert parsed == [1]


def test_an_rtf_file(tmp_path: Path) -> None:
    assert one(write(tmp_path, "a.rtf", RTF)).rstrip("\n") == "Café 月\nLine two"
    chinese = r"{\rtf1\ansi\ansicpg936 \'b4\'b2\par}"
    assert one(write(tmp_path, "b.rtf", chinese)).strip() == "床"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("gb18030", "床前明月光，疑是“地上霜”"), ("shift_jis", "ソース能力"), ("utf-8", "Привет, café”")],
)
def test_an_rtf_file_with_characters_that_are_not_escaped(tmp_path: Path, encoding: str, text: str) -> None:
    """UTF-8 need not be set, as in other files."""
    path = write(tmp_path, "a.rtf", rb"{\rtf1\ansi\ansicpg1252 " + text.encode(encoding) + rb"\par}")
    assert one(path, encoding=encoding) == f"{text}\n"


def test_what_to_set_for_an_rtf_file_is_said_and_helps(tmp_path: Path) -> None:
    text = "你好世界,这是一个测试文件吗。好的谢谢你们大家丂丂"  # with bytes that cp1252 lacks
    path = write(tmp_path, "a.rtf", rb"{\rtf1\ansi\ansicpg1252 " + text.encode("gb18030") + rb"\par}")
    with pytest.raises(CorpusError, match=r"is not cp1252 text: .* set encoding to gb18030"):
        read(path)
    assert one(path, encoding="gb18030") == f"{text}\n"


def test_an_encoding_that_is_set_leaves_other_rtf_files_as_they_are(tmp_path: Path) -> None:
    raw = write(tmp_path, "raw.rtf", "{\\rtf1\\ansi\\ansicpg1252 caf\xe9\\par}".encode("cp1252"))
    for encoding in ("utf-8", "utf-16"):
        assert one(write(tmp_path, "a.rtf", RTF), encoding=encoding).rstrip("\n") == "Café 月\nLine two"
        assert one(raw, encoding=encoding) == "café\n"


def test_tables_and_links_of_an_rtf_file(tmp_path: Path) -> None:
    link = r'{\field{\*\fldinst{HYPERLINK "http://a.b/"}}{\fldrslt{the site}}}'
    table = r"\trowd\cellx100\cellx200 A\cell B\cell\row\intbl{1}\cell {2}\cell\row\pard a\nestcell b\par "
    text = rf"{{\rtf1\ansi{table}See {link} now, then {link}.\par\\cell c|d\par}}"
    assert one(write(tmp_path, "a.rtf", text)) == ("A\tB\n1\t2\na\tb\nSee the site now, then the site.\n\\cell c|d\n")


@pytest.mark.parametrize(
    ("page", "source", "text"),
    [
        (932, r"\'83A\'83\'65 \'83\\!", "アテ ソ!"),  # the second bytes of A and of a backslash
        (932, r"\'83\{\'94\}\'83" + "\n" + r"\'41\uc2\u26376\'8c\'8eA", "ボ媒ア月A"),
        (936, r"\'81@\'81\'40", "丂丂"),
        (1252, r"caf\'e9A\\ \'e9\'e9s", r"caféA\ éés"),
    ],
)
def test_the_bytes_of_a_character_in_an_rtf_file(tmp_path: Path, page: int, source: str, text: str) -> None:
    path = write(tmp_path, "a.rtf", rf"{{\rtf1\ansi\ansicpg{page} {source}\par}}")
    assert one(path) == f"{text}\n"


def test_characters_of_an_rtf_file_that_are_lost_are_said(tmp_path: Path) -> None:
    written = r"written \u-3? and \u65533?"
    path = write(tmp_path, "a.rtf", rf"{{\rtf1\ansi\ansicpg932 one \'81 two \'81, half \u-10179?, {written}\par}}")
    corpus, said = Corpus([path]), list[str]()
    assert list(corpus.documents()) == ["one \ufffd two \ufffd, half \ufffd, written \ufffd and \ufffd\n"]
    corpus.say_left_out(said.append)
    assert [line.partition(":")[0] for line in said] == [f"Replaced 3 characters in {path} that cannot be decoded"]
    with pytest.raises(CorpusError, match=r"^There are 3 characters in .*leave strict out"):
        read(path, strict=True)
    own = write(tmp_path, "b.rtf", rf"{{\rtf1\ansi {written}\par}}")
    assert one(own, strict=True) == "written \ufffd and \ufffd\n", "nothing is lost"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"Kept {\deleted\revauthdel1 removed words }text{\v vanished}", "Kept text"),
        (r"a\v b\'e9\u26376?\par\{c\v0  d\deleted0 e", "a de"),
        (r"a{\v b{\b c}\plain  d}e{\deleted f{\v g\v0 h}\deleted0 i}j", "a dei" + "j"),
        (r"a{\deleted\v b\v0 c}\mvf d\mvf0 e\v1 f\v0 g", "aeg"),
        (r"\viewkind4 a\vertalc b\\v c\'5cv d", r"ab\v c\v d"),
        (r"a\v b{\*\bkmkstart no}\uc0\v0\u26376 c", "a月c"),
        (r"a{\v {\pict\bin3 }}{b}}c\cell\row", "ac"),
        (r"a}}b", "a"),
    ],
)
def test_text_of_an_rtf_file_that_a_reader_does_not_see_is_not_read(tmp_path: Path, source: str, text: str) -> None:
    path = write(tmp_path, "a.rtf", rf"{{\rtf1\ansi\ansicpg1252 {source}\v0\deleted0\par}}")
    assert one(path).strip() == text


@pytest.mark.parametrize(
    "source",
    [
        r"{\field{\*\fldinst{" * 20_000 + "}}",
        r"{\field{\*\FLDinst{" * 20_000 + "}}",
        r"{\fonttbl" + r"\f1\fcharset1" * 20_000 + "}",
        r"{\fonttbl" + r"\\f1\\fcharset1" * 20_000 + "}",
        r"{\fonttbl" + r"\f1\fnil " * 40_000 + "}",
        r"{\fonttbl\f" + "1" * 100_000 + "}",
        r"{\fonttbl\f1\fcharset" + "1" * 100_000 + "}",
        r"{\fonttbl{\pict\bin1 a}" + r"\f\pict}1\fc\pict}harset1" * 10_000 + "}",
        r"{\fonttbl{\pict\bin1 a}" + r"\\pict}f1\\pict}fcharset1" * 10_000 + "}",
    ],
    ids=["links", "links in capitals", "charsets", "escaped", "fonts", "number", "digits", "pictures", "both"],
)
def test_the_time_for_an_rtf_file_does_not_explode(tmp_path: Path, source: str) -> None:
    path = write(tmp_path, "a.rtf", rf"{{\rtf1 hello {source} text\par}}")
    start = time.process_time()
    assert one(path).startswith("hello")
    assert time.process_time() - start < 5  # seconds; minutes and hours where it grows with the square


def test_fonts_of_an_rtf_file_have_their_own_character_sets(tmp_path: Path) -> None:
    fonts = r"{\fonttbl{\f0\fnil Plain;}{\f1\fnil\fcharset128 Mincho;}{\f2\fcharset204{\*\falt B}Cyrillic;}}"
    source = rf"{{\rtf1\ansi\ansicpg1252\deff0{fonts}\f0 \'e9\f1\'83A\f2 \'e9 {{\f0 \\f1 \\pict \'e9}}\par}}"
    assert one(write(tmp_path, "a.rtf", source)) == "éアй \\f1 \\pict é\n"


@pytest.mark.parametrize("word", ["bin", "v", "fs"])
def test_a_number_of_many_digits_in_an_rtf_file_may_be_anything(tmp_path: Path, word: str) -> None:
    path = write(tmp_path, "a.rtf", rf"{{\rtf1\ansi a\v b\v0 c\{word}{'1' * 5000} d\par}}")
    assert one(path).startswith("ac")


def test_hidden_text_of_a_docx_file_is_not_read(tmp_path: Path) -> None:
    def run(text: str, properties: str = "") -> str:
        return f"<w:r><w:rPr>{properties}</w:rPr><w:t>{text}</w:t></w:r>"

    def style(name: str, inside: str, base: str = "") -> str:
        return f"<w:style w:styleId='{name}'><w:basedOn w:val='{base}'/><w:rPr>{inside}</w:rPr></w:style>"

    vanish, shown = "<w:vanish/>", "<w:vanish w:val='{}'/>"
    mark = f"<w:pPr><w:rPr>{vanish}</w:rPr></w:pPr>"  # only the end of the paragraph is hidden
    box = f"<w:r><w:rPr>{vanish}</w:rPr><w:t>no</w:t><w:pict><w:p>{mark}{run('boxed')}</w:p></w:pict><w:tab/></w:r>"
    box += f"<w:r><w:pict><w:p>{mark}{run('boxed')}</w:p></w:pict><w:t>and </w:t></w:r>"
    body = (
        f"<w:p>{run('a')}{run(' no', vanish)}{run(' no', shown.format('true'))}"
        f"{run(' b', shown.format('0'))}{run(' c', shown.format('false'))}{run(' d', '<w:webHidden/>')}"
        f"{run(' e', f'<w:rPrChange><w:rPr>{vanish}</w:rPr></w:rPrChange>')}</w:p>"
        f"<w:p>{run(' ')}{run('no', vanish)}<w:r><w:rPr>{vanish}</w:rPr><w:br/></w:r></w:p>"
        f"<w:p>{mark}{run('f')}{run('no', '<w:rStyle w:val=' + repr('h') + '/>')}</w:p>"
        f"<w:p><w:pPr><w:pStyle w:val='i'/></w:pPr>{run('no')}{run('g', shown.format('0'))}</w:p>"
        f"<w:p><w:pPr><w:pStyle w:val='s'/></w:pPr>{run('h')}</w:p><w:p>{box}{run('i')}</w:p>"
        f"<w:tbl><w:tr><w:tc><w:p>{run('1')}{run('no', vanish)}</w:p></w:tc><w:tc>{paragraphs('2')}</w:tc></w:tr>"
        "</w:tbl>"
    )
    path = docx(tmp_path / "a.docx", body)
    styles = style("h", vanish) + style("i", "", "h") + style("s", shown.format("0"), "h") + style("l", "", "l")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("word/styles.xml", f"<w:styles {W}>{styles}</w:styles>")
    assert one(path) == "a b c d e\nf\ng\nh\nboxed\nboxed\nand i\n1\t2\n"


def test_hidden_text_of_an_odt_file_is_not_read(tmp_path: Path) -> None:
    space = 'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0"'

    def style(name: str, shown: str, parent: str = "") -> str:
        display = f'text:display="{shown}"' if shown else ""
        return (
            f'<style:style {space} style:name="{name}" style:parent-style-name="{parent}"><style:text-properties '
            f"{display}/></style:style>"
        )

    path = odt(
        tmp_path / "a.odt",
        style("T1", "none")
        + style("T2", "", "Named")
        + style("T3", "true", "Named")
        + f'<text:list-style><style:text-properties {space} text:display="none"/></text:list-style>'
        '<text:p>a<text:span text:style-name="T1">no<text:span>no</text:span></text:span>'
        '<text:span text:style-name="T2">no</text:span><text:span text:style-name="T3"> b</text:span></text:p>'
        '<text:p text:style-name="T1">no</text:p><text:p><text:span text:style-name="Named">no</text:span></text:p>'
        '<text:section text:display="none"><text:p>no</text:p></text:section>'
        '<text:section text:display="true"><text:p>c</text:p></text:section>'
        '<text:p>d<text:hidden-text text:is-hidden="true">no</text:hidden-text>'
        '<text:hidden-text text:is-hidden="false"> e</text:hidden-text></text:p>',
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "styles.xml", f"<office:document-styles {ODF}>{style('Named', 'none')}</office:document-styles>"
        )
    assert one(path) == "a b\nc\nd e\n"


def test_styles_of_an_odt_file_that_are_based_on_hidden_ones_are_hidden(tmp_path: Path) -> None:
    def style(name: str, parent: str, shown: str = "") -> str:
        display = f'<text:text-properties text:display="{shown}"/>' if shown else ""
        return f'<text:style text:name="{name}" text:parent-style-name="{parent}">{display}</text:style>'

    names = ("grandchild", "hidden", "child", "shown", "below", "loop", "plain")
    path = odt(tmp_path / "a.odt", "".join(f'<text:p text:style-name="{name}">{name}</text:p>' for name in names))
    styles = style("grandchild", "child") + style("child", "hidden") + style("hidden", "plain", "none")
    styles += style("shown", "hidden", "true") + style("below", "shown") + style("loop", "loop")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("styles.xml", f"<office:document-styles {ODF}>{styles}</office:document-styles>")
    assert one(path) == "shown\nbelow\nloop\nplain\n"


@pytest.mark.parametrize("suffix", [".docx", ".odt"])
def test_the_time_for_a_long_chain_of_styles_does_not_explode(tmp_path: Path, suffix: str) -> None:
    numbers = range(10_000)  # each style is based on the next one
    if suffix == ".docx":
        hidden = "<w:p><w:pPr><w:pStyle w:val='0'/></w:pPr><w:r><w:t>no</w:t></w:r></w:p>"
        path = docx(tmp_path / "a.docx", paragraphs("a") + hidden)
        styles = [f"<w:style w:styleId='{number}'><w:basedOn w:val='{number + 1}'/>" for number in numbers]
        content = f"<w:styles {W}>{'</w:style>'.join(styles)}<w:rPr><w:vanish/></w:rPr></w:style></w:styles>"
    else:
        path = odt(tmp_path / "a.odt", "<text:p>a</text:p><text:p text:style-name='0'>no</text:p>")
        styles = [f"<text:style text:name='{number}' text:parent-style-name='{number + 1}'>" for number in numbers]
        last = "<text:text-properties text:display='none'/></text:style>"
        content = f"<office:document-styles {ODF}>{'</text:style>'.join(styles)}{last}</office:document-styles>"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("word/styles.xml" if suffix == ".docx" else "styles.xml", content)
    start = time.process_time()
    assert one(path) == "a\n"
    assert time.process_time() - start < 15  # seconds; a minute where each style follows the whole chain


def test_hidden_styles_of_the_headers_of_an_odt_file_do_not_hide_its_text(tmp_path: Path) -> None:
    path = odt(tmp_path / "a.odt", '<text:p text:style-name="P1">a</text:p>')
    style = '<text:style text:name="P1"><text:text-properties text:display="none"/></text:style>'
    styles = f"<office:automatic-styles>{style}</office:automatic-styles>"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("styles.xml", f"<office:document-styles {ODF}>{styles}</office:document-styles>")
    assert one(path) == "a\n"


HIDES, SHOWS = (f'<text:hidden-paragraph text:is-hidden="{value}"/>' for value in ("true", "false"))


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        (f"{HIDES}no", ""),
        (f"no{HIDES}", ""),
        (f"no<text:line-break/>no<text:span>no{HIDES}no</text:span>no<text:span>no<text:tab/></text:span>", ""),
        (f"{HIDES}<text:frame><text:p>no</text:p><text:p>no{SHOWS}</text:p></text:frame>no", ""),
        (f"{SHOWS}<text:line-break/>yes", "\nyes\n\n"),
        (f"yes<text:note><text:p>{HIDES}no</text:p></text:note> yes", "yes yes\n"),
    ],
)
def test_a_hidden_paragraph_of_an_odt_file_is_not_read(tmp_path: Path, inside: str, text: str) -> None:
    path = odt(tmp_path / "a.odt", f"<text:p>a</text:p><text:p>{inside}</text:p><text:p>b</text:p>")
    assert one(path) == f"a\n{text}b\n"


def test_a_hidden_paragraph_in_a_cell_of_an_odt_file_is_not_read(tmp_path: Path) -> None:
    def cell(inside: str) -> str:
        return f"<text:table-cell>{inside}</text:table-cell>"

    hidden = f"<text:p>{HIDES}no</text:p>"
    row = cell(f"{hidden}<text:p>a</text:p>{hidden}<text:p>b</text:p>") + cell("<text:p>c</text:p>")
    path = odt(tmp_path / "a.odt", f"<text:table-row>{row}</text:table-row><text:p>d</text:p>")
    assert one(path) == "a\nb\tc\nd\n"


def test_soft_hyphens_are_not_read(tmp_path: Path) -> None:
    word, page = "Wort\u00adtren\u00adnung", "<p>Wort&shy;tren\u00adnung</p>"
    files = [
        docx(tmp_path / "a.docx", paragraphs(word)),
        odt(tmp_path / "a.odt", f"<text:p>{word}</text:p>"),
        epub(tmp_path / "a.epub", {"one": page}),
        write(tmp_path, "a.html", page),
        write(tmp_path, "a.srt", f"00:01 --> 00:02\n{word}"),
        write(tmp_path, "a.rtf", r"{\rtf1\ansi Wort\-tren\'adnung}"),
    ]
    assert [one(path).strip() for path in files] == ["Worttrennung"] * len(files)
    path = pdf(tmp_path / "a.pdf", [["Worttren\\255", "nung"]])
    encoding = b"/Helvetica /Encoding << /Differences [173 /uni00AD] >>"
    path.write_bytes(path.read_bytes().replace(b"/Helvetica", encoding))
    assert one(path) == "Worttren-\nnung\n", "it is shown there"


def test_characters_in_two_halves(tmp_path: Path) -> None:
    halves = r"{\rtf1\ansi\uc1 I am \u-10179?\u-8704? happy, \u-10179? half\par}"
    assert one(write(tmp_path, "a.rtf", halves)).strip() == "I am 😀 happy, \ufffd half"
    path = pdf(tmp_path / "a.pdf", [["I am AB"]])
    encoding = b"/Helvetica /Encoding << /Differences [65 /uniD83D /uniDE00] >>"
    path.write_bytes(path.read_bytes().replace(b"/Helvetica", encoding))
    assert one(path).strip() == "I am 😀"


def test_documents_are_those_of_the_text(tmp_path: Path) -> None:
    path = docx(tmp_path / "a.docx", paragraphs("one", "two", "", "three"))
    assert read(path, documents="line") == ["one", "two", "three"]
    assert read(path, documents="blank-line") == ["one\ntwo", "three"]
    assert read(path, documents="separator:t") == ["one", "wo", "hree"]
    corpus = Corpus([path], CorpusConfig(documents="file", labels="folder"))
    assert corpus.labels() == {tmp_path.name: 1}
    assert "".join(part.text for index in range(3) for part in corpus.section(index, 3)) == "one\ntwo\n\nthree\n"


def test_a_file_is_converted_once_and_the_text_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    count = [0]

    def counted(*arguments: Any) -> Any:
        count[0] += 1
        return original(*arguments)

    original = office_markup.office_text
    monkeypatch.setattr(office, "office_text", counted)
    corpus = Corpus([docx(tmp_path / "a.docx", paragraphs("one"))])
    first = corpus.stats(), corpus.fingerprint(), list(corpus.documents())
    assert count == [1]
    assert list((tmp_path / "temporary").iterdir())
    corpus.close()
    assert not list((tmp_path / "temporary").iterdir())
    assert (corpus.stats(), corpus.fingerprint(), list(corpus.documents())) == first
    del corpus
    assert not list((tmp_path / "temporary").iterdir())


def test_the_fingerprint_is_that_of_the_text(tmp_path: Path) -> None:
    prints = [
        Corpus([docx(tmp_path / "a.docx", body)]).fingerprint()
        for body in (paragraphs("one"), "<w:sectPr/>" + paragraphs("one"), paragraphs("two"))
    ]
    assert prints[0] == prints[1] != prints[2]


# === Pages without text ===


def test_scanned_pages_are_said(tmp_path: Path) -> None:
    path = pdf(tmp_path / "a.pdf", [["text"], None, [], None])
    result = CliRunner().invoke(textgen, ["corpus", "stats", str(path)])
    assert result.exit_code == 0
    assert f"Skipped 2 pages without text of the 4 in {path}, the first is page 2: pictures of text" in result.stderr
    with pytest.raises(CorpusError, match=r"There are 2 pages without text.*leave strict out"):
        read(path, strict=True)
    scan = pdf(tmp_path / "scan.pdf", [None])
    with pytest.raises(CorpusError, match=r"No text in .*scan\.pdf.*1 page without text.*ocrmypdf"):
        read(scan)


@pytest.mark.parametrize("stamp", ["Scanned with CamScanner", f"{'Downloaded from a library ' * 3}, page # of 4"])
def test_scanned_pages_with_a_stamp_are_said(tmp_path: Path, stamp: str) -> None:
    path, said = pdf(tmp_path / "a.pdf", [["text " * 20], None, None, None], stamp=stamp), list[str]()
    corpus = Corpus([path], CorpusConfig(documents="line"))
    assert [line.rstrip() for line in corpus.documents()][1:] == [stamp.replace("#", str(page)) for page in (2, 3, 4)]
    corpus.say_left_out(said.append)
    assert said == [
        f"Found no more than a stamp or a caption beside a picture on 3 pages of the 4 in {path}, the first is page 2. "
        "If these are scans, recognize their text first, as with ocrmypdf."
    ]
    assert len(read(path, strict=True)) == 1, "nothing is lost"


def test_pages_with_pictures_among_their_text_are_no_scans(tmp_path: Path) -> None:
    pages = [[f"Chapter {number}", f"{word} " * 20] for number, word in enumerate(("one", "two", "three"))]
    assert len(read(pdf(tmp_path / "a.pdf", pages, has_pictures=True), documents="file", strict=True)) == 1


# === Libraries that are not there ===


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_is_there", lambda module: False)


@pytest.mark.usefixtures("without_libraries")
@pytest.mark.parametrize("suffix", [*extras.LIBRARIES, ".html.gz"])
def test_a_format_is_refused_by_name_without_its_library(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, f"a{suffix}", "<p>markup</p>")
    extra = "parquet" if suffix == ".parquet" else "documents"
    with pytest.raises(CorpusError, match=rf'Cannot read .*a{suffix}\. .*pip install "\.\[{extra}\]"'):
        Corpus([path])
    with pytest.raises(CorpusError, match=rf'No text in .*pip install "\.\[{extra}\]"'):
        Corpus([tmp_path])
    write(tmp_path, "b.txt", "text")
    result = CliRunner().invoke(textgen, ["corpus", "stats", str(tmp_path), "--json"])
    assert '"num_documents": 1' in result.stdout
    assert f"Skipped {path}. Such files are read with" in result.stderr


@pytest.mark.usefixtures("without_libraries")
def test_subtitles_and_a_copy_of_a_page_need_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(write(tmp_path, "a.vtt", VTT)) == "Hi there\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"<p>markup</p>")))
    assert read("-") == ["<p>markup</p>"]


# === Damage and sizes ===


@pytest.mark.parametrize("suffix", [".docx", ".odt", ".epub", ".pdf", ".rtf"])
@pytest.mark.parametrize("content", [b"", b"PK\3\4 no archive", b"no such file", b"%PDF-1.7\n%%EOF", b"{\\rtf1 {{{"])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    with pytest.raises(CorpusError) as info:
        read(write(tmp_path, f"a{suffix}", content))
    assert "\n" not in str(info.value)
    assert str(tmp_path / f"a{suffix}") in str(info.value)


@pytest.mark.parametrize("number", [1114112, 9999999999])
def test_a_number_that_is_no_character_is_one_clear_line(tmp_path: Path, number: int) -> None:
    with pytest.raises(CorpusError, match=r"a\.rtf is damaged: .*\. Save it again\."):
        read(write(tmp_path, "a.rtf", rf"{{\rtf1\ansi a\u{number}?b\par}}"))


@pytest.mark.parametrize("make", [docx, odt, epub, pdf], ids=lambda make: make.__name__)
def test_any_damage_is_one_clear_line(tmp_path: Path, make: Any) -> None:
    """Bytes are changed, and the file is cut, at random places: it is read, or refused in a line."""
    content: Any = {docx: paragraphs("one"), odt: "<text:p>one</text:p>", epub: {"a": "<p>one</p>"}, pdf: [["one"]]}
    path = make(tmp_path / f"a.{make.__name__}", content[make])
    data, rng = path.read_bytes(), random.Random(7)
    for _ in range(30):
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(changed[: rng.choice([len(changed), rng.randrange(len(changed))])])
        try:
            read(path)
        except CorpusError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_what_is_encrypted_is_said(tmp_path: Path) -> None:
    encrypted = (
        "/Encrypt << /Filter /Standard /V 1 /R 2 /O (" + "x" * 32 + ") /U (" + "y" * 32 + ") /P -4 >> /ID [(a) (b)] "
    )
    with pytest.raises(CorpusError, match=r"a\.pdf is protected by a password"):
        read(pdf(tmp_path / "a.pdf", [["one"]], trailer=encrypted))
    path = odt(tmp_path / "a.odt", "")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "META-INF/manifest.xml", "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>"
        )
    with pytest.raises(CorpusError, match=r"a\.odt is protected by a password\. Save it without one"):
        read(path)
    with pytest.raises(CorpusError, match=r"a\.docx is damaged, or protected by a password"):
        read(write(tmp_path, "a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)))


def test_a_file_that_becomes_very_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1 << 20)
    path = docx(tmp_path / "a.docx", "<w:p/>" * 400_000)
    assert path.stat().st_size < 20_000
    with pytest.raises(CorpusError, match=r"its part word/document\.xml has 2,400,\d+ bytes, more than the limit"):
        read(path)
    for module in (books, office, archives):
        monkeypatch.setattr(module, "MAX_CHAPTER_BYTES", 1 << 16)
    with pytest.raises(CorpusError, match=r"one\.xhtml has 70,000 bytes, more than the limit of 65,536"):
        read(epub(tmp_path / "a.epub", {"one": "x" * 70_000}))
    monkeypatch.setattr(rich_text, "MAX_TEXT_CHARS", 1000)
    with pytest.raises(CorpusError, match="has more than 1,000 characters of text, the limit"):
        read(write(tmp_path, "a.html", "<p>" + "x" * 1001))
    monkeypatch.setattr(rtf, "MAX_RTF_CHARS", 1000)
    with pytest.raises(CorpusError, match="has more than 1,000 characters, the limit"):
        read(write(tmp_path, "a.rtf", RTF + " " * 1000))
    monkeypatch.setattr(pdf_files, "MAX_PAGE_BYTES", 1000)
    with pytest.raises(CorpusError, match="page 1 is too large"):
        read(pdf(tmp_path / "a.pdf", [["x" * 1001]]))


def test_a_large_file_is_read_in_small_parts(tmp_path: Path) -> None:
    path = docx(tmp_path / "a.docx", paragraphs(*["word " * 1000] * 2_000))
    corpus = Corpus([path], CorpusConfig(documents="line"))
    tracemalloc.start()
    try:
        assert sum(len(part.text) for part in corpus.parts()) == 5000 * 2_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 << 20


def test_entities_do_not_multiply(tmp_path: Path) -> None:
    names = "abcdefghijk"
    laughs = "".join(
        f'<!ENTITY {name} "{"lol" if name == "a" else f"&{before};" * 10}">'
        for before, name in zip(" " + names, names, strict=False)
    )
    document = f"<!DOCTYPE x [{laughs}]><w:document {W}><w:body>{paragraphs('&k;')}</w:body></w:document>"
    with pytest.raises(CorpusError, match="is damaged"):
        read(zipped(tmp_path / "a.docx", {"_rels/.rels": "<x/>", "word/document.xml": document}))


def test_a_compressed_file_that_is_read_at_any_place_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.pdf.gz", gzip.compress(b"%PDF"))
    with pytest.raises(CorpusError, match=r"\.pdf files are compressed inside\. Decompress it first"):
        read(path)
