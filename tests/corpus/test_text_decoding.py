"""Encodings: newlines and characters across chunks, what is not text, and the guess which encoding it is."""

from __future__ import annotations

import encodings
import gzip
import pkgutil
import platform
import re
import shutil
import subprocess
from encodings.aliases import aliases as encoding_aliases
from pathlib import Path

import pytest
from charset_normalizer.constant import IANA_SUPPORTED
from files import read, write

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.encoding_guess import WIDE, _usual_fraction, guessed_encoding
from textgen.corpus.encodings import text_decoder
from textgen.corpus.text_decoding import iconv_command, utf8_text
from textgen.errors import CorpusError


@pytest.mark.parametrize(
    ("newlines", "mode", "expected"),
    [
        ("normalize", "file", ["a\nb\nc\n\nd"]),
        ("keep", "file", ["a\r\nb\rc\n\r\nd"]),
        ("normalize", "line", ["a", "b", "c", "d"]),
        ("keep", "line", ["a\r", "b\rc", "d"]),
        ("normalize", "blank-line", ["a\nb\nc", "d"]),
        ("keep", "blank-line", ["a\r\nb\rc", "d"]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 3, 1 << 18])
def test_newlines_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newlines: str, mode: str, expected: list[str], chunk: int
) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", chunk)
    path = write(tmp_path, "a.txt", "a\r\nb\rc\n\r\nd")
    assert read(path, newlines=newlines, documents=mode) == expected


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf-8", "诗".encode()),
        ("utf-8", "诗".encode("utf-8-sig")),
        ("UTF8", "诗".encode("utf-8-sig")),
        ("utf-16", "诗".encode("utf-16")),
        ("utf-16-le", "\ufeff诗".encode("utf-16-le")),
        ("utf-32", "诗".encode("utf-32")),
        ("gb18030", "诗".encode("gb18030")),
        ("big5", "詩".encode("big5")),
        ("latin-1", b"\xe9"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1 << 18])
def test_encodings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, data: bytes, chunk: int) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", chunk)
    expected = {"big5": "詩", "latin-1": "é"}.get(encoding, "诗")
    assert read(write(tmp_path, "a.txt", data), encoding=encoding) == [expected]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "UTF_8_SIG"])
def test_a_mark_is_dropped_only_at_the_start_of_the_file(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, "a.txt", "\ufeff\ufeffone\n\ufefftwo\n\ufeffthree\n")
    corpus = Corpus([path], CorpusConfig(encoding=encoding, documents="line"))
    whole = ["\ufeffone", "\ufefftwo", "\ufeffthree"]
    for count in (1, 2, 3, 7):
        assert [part.text for number in range(count) for part in corpus.section(number, count)] == whole


@pytest.mark.parametrize(
    ("encoding", "data", "where"),
    [
        ("utf-8", b"abc\xff", "byte 0xff at offset 3"),
        ("utf-8", "诗诗".encode() + b"\xe8\xaf", "byte 0xe8 at offset 6"),
        ("utf-8", b"x" * 300_000 + b"\xe9 " + b"x" * 300_000, "byte 0xe9 at offset 300000"),
        ("ascii", "déjà".encode(), "byte 0xc3 at offset 1"),
        ("gb18030", "诗".encode("gb18030") + b"\xff!", "byte 0xff at offset 2"),
        ("utf-16-le", b"a\0\x00\xd8a\0", "byte 0x00 at offset 2"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 5, 1 << 18])
def test_undecodable_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, data: bytes, where: str, chunk: int
) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", max(chunk, len(data) // 1000))
    path = write(tmp_path, "a.txt.gz", gzip.compress(data))
    with pytest.raises(CorpusError) as info:
        read(path, encoding=encoding)
    assert str(info.value).startswith(f"{path} is not {encoding} text: {where}. ")
    assert re.search("et encoding to |is damaged or truncated", str(info.value))


WRITTEN = {
    "cp1252": "“It was a café,” she said, naïve as ever… The price was 5 € there.\n",
    "gb18030": "床前明月光，疑是地上霜。举头望明月，低头思故乡。\n",
    "big5": "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。\n",
    "cp932": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n",
    "koi8_r": "Все счастливые семьи похожи друг на друга, каждая несчастливая по-своему.\n",
    "cp1251": "Все счастливые семьи похожи друг на друга, каждая несчастливая по-своему.\n",
    "cp1250": "Příliš žluťoučký kůň úpěl ďábelské ódy.\n",
    "utf-16-le": "The cat sat.\n",
    "utf-16-be": "The cat sat.\n",
    "utf-32-be": "The cat sat.\n",
}


@pytest.mark.parametrize("encoding", WRITTEN)
@pytest.mark.parametrize("times", [1, 200, 5000])
def test_the_encoding_is_guessed_and_the_guess_can_be_obeyed(tmp_path: Path, encoding: str, times: int) -> None:
    text = WRITTEN[encoding] * times
    path = write(tmp_path, "a.txt", text.encode(encoding))
    with pytest.raises(CorpusError, match=f"set encoding to {encoding}[,.]"):
        read(path)
    assert read(path, encoding=encoding, documents="file") == [text]


@pytest.mark.parametrize(
    "data", [b"caf\xe9 au lait\n", b"It was a caf\xe9 there.\n" * 9, b"abc\xff", b"\x93No\x94 \x97 he said."]
)
def test_a_few_odd_bytes_are_taken_for_the_commonest_encoding(data: bytes) -> None:
    assert guessed_encoding(data) == "cp1252"


@pytest.mark.parametrize("text", ["床前明月光，疑是地上霜。", "Привет, мир!", "It’s “naïve”, they said."])
@pytest.mark.parametrize("times", [1, 200])
def test_utf_8_that_is_damaged_is_not_taken_for_another_encoding(tmp_path: Path, text: str, times: int) -> None:
    data = f"{text}\n".encode() * times
    odd = data.index(max(data))  # the first byte of a character
    for damaged in (data[: odd + 1], data[:odd] + data[odd + 1 :], data[:-1] + data[odd : odd + 1]):
        path = write(tmp_path, "a.txt", "é".encode() * 2 + damaged)
        for encoding in ("utf-8", "UTF8", "utf-8-sig"):
            with pytest.raises(CorpusError, match="looks like utf-8 that is damaged or truncated: save or download it"):
                read(path, encoding=encoding)
        with pytest.raises(CorpusError, match=r"It looks like utf-8: set encoding to utf-8[,.]"):
            read(path, encoding="ascii")


def is_in(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


EAST_ASIAN = {
    "gb18030": WRITTEN["gb18030"],
    "big5": WRITTEN["big5"],
    "cp932": WRITTEN["cp932"],
    "euc_jp": WRITTEN["cp932"],
    "euc_kr": "나는 고양이로소이다. 이름은 아직 없다. 어디서 태어났는지 도무지 짐작이 가지 않는다.\n",
}


@pytest.mark.parametrize("encoding", EAST_ASIAN)
@pytest.mark.parametrize(("times", "is_removed"), [(1, False), (50, False), (50, True), (2000, False), (2000, True)])
def test_an_east_asian_text_that_is_damaged_is_not_taken_for_another_encoding(
    tmp_path: Path, encoding: str, times: int, is_removed: bool
) -> None:
    data = (EAST_ASIAN[encoding] * times).encode(encoding)
    if is_removed:  # some bytes are not missed: the others happen to be characters
        shorter = (data[:place] + data[place + 1 :] for place in range(10, len(data)))
        damaged = next(part for part in shorter if not is_in(part, encoding))
    else:
        damaged = data.replace(b"\n", b"\x81\xff\n", 1)
    path = write(tmp_path, "a.txt", damaged)
    with pytest.raises(CorpusError, match=f"It looks like {encoding} that is damaged or truncated: save or download"):
        read(path, encoding=encoding)
    if times > 1:
        guess = {"euc_kr": "cp949"}.get(encoding, encoding)
        advice = f"It looks like {guess} that is damaged or truncated: save or download it again, and "
        with pytest.raises(CorpusError, match=rf"{advice}set encoding to {guess}\.$"):
            read(path)
        with pytest.raises(CorpusError, match=rf"{advice}convert it with iconv -f {guess.replace('_', '-')} "):
            utf8_text(damaged, "a.txt")


@pytest.mark.parametrize("encoding", EAST_ASIAN)
@pytest.mark.parametrize("before", ["", "1", "12", "123"])
def test_a_line_that_is_longer_than_what_is_used_for_the_guess_may_end_within_a_character(
    tmp_path: Path, encoding: str, before: str
) -> None:
    text = before + EAST_ASIAN[encoding].strip() * 2000
    path = write(tmp_path, "a.txt", text.encode(encoding))
    guess = {"euc_kr": "cp949"}.get(encoding, encoding)
    with pytest.raises(CorpusError, match=f"It looks like {guess}: set encoding to {guess}, or "):
        read(path)
    assert read(path, encoding=encoding, documents="file") == [text]


@pytest.mark.parametrize(
    ("given", "encoding", "text", "hint"),
    [
        ("gb2312", "gb18030", "朱镕基", "gb18030: set"),
        ("gbk", "gb18030", "㐀", "gb18030: set"),
        ("euc_kr", "cp949", "펲시맨", "cp949: set"),
        ("big5", "big5hkscs", "啲嗰嚿", "big5hkscs: set"),
        ("euc_kr", "cp1251", "Все счастливые семьи похожи друг на друга.", "cp1251: set"),
        ("gb18030", "cp1252", "Où est l'été ? À l'école.", "cp1252: set"),
    ],
)
@pytest.mark.parametrize("times", [1, 20])
def test_a_text_in_another_encoding_than_the_given_one_is_not_damaged(
    tmp_path: Path, given: str, encoding: str, text: str, hint: str, times: int
) -> None:
    usual = (
        ""
        if encoding.startswith("cp125")
        else EAST_ASIAN[{"cp949": "euc_kr", "big5hkscs": "big5"}.get(encoding, encoding)]
    )
    path = write(tmp_path, "a.txt", (usual * times + text).encode(encoding))
    with pytest.raises(CorpusError, match=f"It looks like {hint}"):
        read(path, encoding=given)


@pytest.mark.parametrize(
    ("names", "encoding", "guesses"),
    [
        ("日期,版面,标题,链接", "gb18030", {"gb18030"}),
        ("编号,姓名,内容", "gb18030", {"gb18030"}),
        ("日期,标题", "gb18030", {"gb18030"}),
        ("날짜,제목", "cp949", {"cp949", "euc_kr"}),
        ("이름,날짜,내용", "cp949", {"cp949", "euc_kr"}),
        ("日期,標題,內容", "big5", {"big5", "big5hkscs"}),
        ("日付,タイトル,本文", "euc_jp", {"euc_jp", "euc_jis_2004"}),
        ("Été,Étude,Éclair,Église", "cp1252", {"cp1252"}),
        ("Äpfel,Ärger,Ähre,Äste", "cp1252", {"cp1252"}),
    ],
)
@pytest.mark.parametrize("times", [1, 300])
def test_the_encoding_of_a_few_names_of_columns_is_guessed(
    names: str, encoding: str, guesses: set[str], times: int
) -> None:
    rows = "2020-01-31,A1,The cat sat on the mat.,https://example.org\n" * times
    assert guessed_encoding(f"{names}\n{rows}".encode(encoding)) in guesses


def test_a_text_of_which_all_is_damaged_has_no_usual_characters() -> None:
    assert _usual_fraction(b"\xff\xff", "gb18030", minimum=1) == 0.0


SINGLE_BYTES = {
    "cp1252": "Où est l'été ? À l'école, près d'un chêne.",
    "cp1250": WRITTEN["cp1250"],
    "cp1251": WRITTEN["cp1251"],
    "koi8_r": WRITTEN["koi8_r"],
    "cp1253": "Όλες οι ευτυχισμένες οικογένειες μοιάζουν μεταξύ τους.",
    "cp1255": "כל המשפחות המאושרות דומות זו לזו.",
    "cp1256": "كل العائلات السعيدة متشابهة.",
    "cp874": "ครอบครัวที่มีความสุขทุกครอบครัวล้วนเหมือนกันแต่ครอบครัวที่ไม่มีความสุขต่างก็ทุกข์ในแบบของตน",
    "cp850": f"Un café ?\n{'─' * 70}\n",
}


@pytest.mark.parametrize("encoding", SINGLE_BYTES)
@pytest.mark.parametrize("between", ["\n", " ", ""])
@pytest.mark.parametrize("times", [1, 10, 100])
def test_a_text_with_one_byte_a_character_is_not_taken_for_an_east_asian_one(
    encoding: str, between: str, times: int
) -> None:
    text = (SINGLE_BYTES[encoding].strip() + between) * times
    for given in ("", *EAST_ASIAN):
        guess = guessed_encoding(text.encode(encoding), given)
        assert guess not in {*EAST_ASIAN, "cp949"}


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ("The cat sat.\n".encode("utf-16-le"), "It looks like utf-16-le: set encoding to utf-16-le"),
        ("The cat sat.\n".encode("utf-16-be"), "It looks like utf-16-be: set encoding to utf-16-be"),
        ("床前明月光\n".encode("utf-16-be"), "It looks like utf-16-be: set encoding to utf-16-be"),
        ("床前明月光\n".encode(), "It looks like utf-8: set encoding to utf-8"),
        ("ab".encode("utf-16-le"), "such as utf-16-le or utf-16-be"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-16", "UTF16"])
def test_the_order_of_bytes_is_guessed_where_no_mark_tells_it(
    tmp_path: Path, data: bytes, hint: str, encoding: str
) -> None:
    with pytest.raises(CorpusError, match=rf"a\.txt is not {encoding} text: UTF-16 stream.* BOM\. .*{hint}"):
        read(write(tmp_path, "a.txt", data), encoding=encoding)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16", "UTF16"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.srt"])
def test_a_byte_order_mark_decides(tmp_path: Path, mark: str, encoding: str, name: str) -> None:
    content = {
        "a.csv": "text\ncafé 月\n",
        "a.jsonl": '{"text": "café 月"}\n',
        "a.srt": "1\n00:00:01,000 --> 00:00:02,000\ncafé 月\n",
    }.get(name, "café 月\n")
    path = write(tmp_path, name, content.encode(mark))
    assert read(path, encoding=encoding, documents="line") == ["café 月"]


def test_the_sections_of_a_file_are_in_the_encoding_of_its_mark(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "".join(f"café {number}\n" for number in range(30)).encode("utf-8-sig"))
    corpus = Corpus([path], CorpusConfig(encoding="cp1252", documents="line"))
    for count in (1, 2, 7):
        parts = [part.text for number in range(count) for part in corpus.section(number, count)]
        assert parts == [f"café {number}" for number in range(30)]


def test_the_mark_of_utf_32_is_not_taken_from_utf_16(tmp_path: Path) -> None:
    assert read(write(tmp_path, "b.txt", "\0cat\n".encode("utf-16")), encoding="utf-16") == ["\0cat\n"]


def test_one_of_several_files_can_be_converted(tmp_path: Path) -> None:
    write(tmp_path, "texts/a.txt", "The cat sat.\n")
    path = write(tmp_path, "texts/b.txt", WRITTEN["gb18030"].encode("gb18030"))
    advice = "or convert it with iconv -f gb18030 -t utf-8 FILE > NEW."
    with pytest.raises(
        CorpusError, match="set encoding to gb18030, or to the one it was written in, if that is"
    ) as info:
        read(tmp_path / "texts", documents="line")
    assert str(info.value).endswith(advice)
    with pytest.raises(CorpusError) as info:
        read(path)
    assert "iconv" not in str(info.value)


def test_of_mixed_files_all_that_are_wrong_are_named_and_the_advice_is_no_circle(tmp_path: Path) -> None:
    for number in range(20):
        text = f"Où est l'été ? À l'école, près d'un chêne ; né en {number}.\n"
        write(tmp_path, f"texts/{number:02}.txt", text.encode("cp1252" if number % 2 else "utf-8"))
    wrong = [str(tmp_path / f"texts/{number}.txt") for number in ("01", "03", "05")]
    for config in (CorpusConfig(documents="line"), CorpusConfig()):
        with pytest.raises(CorpusError) as info:
            list(Corpus([tmp_path / "texts"], config).documents())
        assert str(info.value).endswith(
            "if that is the encoding of all files; or convert it with iconv -f cp1252 -t utf-8 FILE > NEW. At least 10 "
            f"of 20 files are not utf-8: {', '.join(wrong)} and 7 more."
        )
    with pytest.raises(CorpusError) as info:
        read(tmp_path / "texts", encoding="ascii", documents="line")
    assert "00.txt is not ascii text: byte 0xc3 at offset 1. It looks like utf-8. Convert the other files with " in (
        str(info.value)
    )
    assert "iconv -f ascii -t utf-8 FILE > NEW, and leave encoding out. At least 20 of 20 files" in str(info.value)


FILES = " FILE > NEW"
OF_ICONV = [*WIDE, "euc_jp", "koi8_r", "shift_jis", "iso2022_jp", "mac_roman", "latin_1"]


@pytest.mark.skipif(shutil.which("iconv") is None, reason="needs iconv")
@pytest.mark.parametrize("encoding", OF_ICONV)
def test_the_command_that_converts_a_text_is_one(encoding: str) -> None:
    text = "日本\n" if "jp" in encoding or "jis" in encoding else "Привет\n" if "koi8" in encoding else "cat\n"
    for source, target in ((encoding, "utf-8"), ("utf-8", encoding)):
        command = iconv_command(source, target).removesuffix(FILES).split()
        done = subprocess.run(command, input=text.encode(source), stdout=subprocess.PIPE)
        assert done.stdout.decode(target).removeprefix("\ufeff") == text


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other programs know other encodings")
@pytest.mark.skipif(shutil.which("iconv") is None, reason="needs iconv")
def test_no_command_names_an_encoding_that_iconv_lacks() -> None:
    commands = {iconv_command(encoding).removesuffix(FILES) for encoding in IANA_SUPPORTED} - {""}
    assert len(commands) > 60
    wrong = [command for command in commands if subprocess.run(command.split(), stdin=subprocess.DEVNULL).returncode]
    assert wrong == []


def test_a_text_that_iconv_cannot_convert_has_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [iconv_command("hz"), iconv_command("utf-8", "kz1048")] == ["", ""]
    monkeypatch.setattr("textgen.corpus.text_decoding.guessed_encoding", lambda *_: "hz")
    write(tmp_path, "a.txt", "The cat sat.\n")
    write(tmp_path, "b.txt", b"\xff\n")
    with pytest.raises(CorpusError, match=r"if that is the encoding of all files; or convert it to utf-8\.$"):
        read(tmp_path, documents="line")
    with pytest.raises(CorpusError, match=r"It looks like hz\. Convert it to UTF-8 first\.$"):
        utf8_text(b"\xff\n", "a.txt")


@pytest.mark.parametrize("times", [1, 5000])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_of_a_text_with_a_mark_no_other_encoding_is_advised(tmp_path: Path, encoding: str, times: int) -> None:
    """The mark decides, whatever the setting."""
    data = b"\xef\xbb\xbf" + b"The cat sat.\n" * times + WRITTEN["cp1252"].encode("cp1252")
    path = write(tmp_path, "a.txt", data)
    advice = (
        "It begins with the byte-order mark of utf-8, but this part looks like cp1252: save it again in one encoding."
    )
    with pytest.raises(CorpusError) as info:
        read(path, encoding=encoding, documents="line")
    assert str(info.value).endswith(f". {advice}")
    with pytest.raises(CorpusError, match=re.escape(advice)):
        utf8_text(data, "a.txt")
    path = write(tmp_path, "a.txt", "\ufeff床前明月光".encode()[:-1])
    with pytest.raises(CorpusError, match="It looks like utf-8 that is damaged or truncated"):
        read(path, encoding=encoding)
    for order in ("le", "be"):
        path = write(tmp_path, "a.txt", "\ufeffThe cat sat.\n".encode(f"utf-16-{order}") + b"\0")
        with pytest.raises(CorpusError, match="It looks like utf-16 that is damaged or truncated"):
            read(path, encoding=encoding)


def encodings_there_are() -> list[str]:
    return sorted({module.name for module in pkgutil.iter_modules(encodings.__path__)} | set(encoding_aliases.values()))


def outcome_of(path: Path, encoding: str) -> str:
    """`read`, once the text can be written in UTF-8, or the message of the `CorpusError`."""
    try:
        "".join(read(path, encoding=encoding)).encode()
    except CorpusError as error:
        return str(error)
    return "read"


@pytest.mark.parametrize("encoding", [*encodings_there_are(), "utf-9", "a\0b", "é", "", "x" * 300])
def test_every_encoding_reads_text_or_says_that_it_cannot(tmp_path: Path, encoding: str) -> None:
    samples = [
        b"The cat.\n" * 3,
        b"+2AA- \\ud800 \\x",
        bytes(range(1, 256)),
        "caf\xe9 月\n".encode("utf-16"),
        b"a-\xff-b.c\n",
    ]
    for data in samples:
        path = write(tmp_path, "a.txt", data)
        outcome = outcome_of(path, encoding)
        assert outcome == "read" or "ncoding" in outcome or "No text" in outcome
        assert "\n" not in outcome


def test_encodings_that_are_none_are_known(tmp_path: Path) -> None:
    assert text_decoder("utf-7").decode(b"caf+AOk-") == "café"
    assert read(write(tmp_path, "a.txt", b"caf+AOk-"), encoding="utf-7") == ["café"]
    with pytest.raises(CorpusError, match="half a character"):
        read(write(tmp_path, "b.txt", b"x +2AA- y"), encoding="utf-7")
    for encoding in ("hex", "rot13", "undefined", "zip"):
        with pytest.raises(CorpusError, match=f"There is no encoding '{encoding}'"):
            text_decoder(encoding)
