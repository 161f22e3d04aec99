"""Guesses from samples of a text whether its documents are files, blocks between blank lines, or lines.

When in doubt the guess is "file", which preserves all of the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

from textgen.corpus.verse_forms import names_form

MIN_BLOCKS = 5  # fewer blocks per file than this are no evidence for mode "blank-line"
MIN_LINES = 50  # fewer lines per file than this are no evidence for mode "line"

RUN_ON = "subtitles run on"  # reason given for a corpus of subtitles
RECORDS = "each record is a document"  # reason given for a corpus of tables and JSON lines
NARROW = 30  # in columns: narrower text is not considered wrapped
ITEM = 200  # in columns: longer lines that end like sentences are paragraphs

_CLOSERS = "\"'”’“‘»«›‹」』〟）)】》〉〕﹂﹄］｝〗 "  # may follow the punctuation at the end of a sentence
_SENTENCE_ENDS = tuple(".!?…。！？")
_HALF_STOPS = tuple(";:,；：，、")
_CLAUSE_ENDS = (*_SENTENCE_ENDS, *_HALF_STOPS)
_WIDE_ENDS = tuple("。！？，；、：")
_CODE_ENDS = tuple("{};")
_OPENERS = tuple("\"'“„‘‚«»‹›「『〝—–―-")  # beginnings of lines of speech
_WIDE_SPACES = tuple("\u3000\u2003\u2002\u00a0")  # with which paragraphs begin: ideographic, em, en, no-break
_INNER_END = re.compile(r"[.!?…][\"'”’“‘»«›‹)]*\s+[^\W\da-z_]|[。！？](?=\w)")  # the end of a sentence within a line
_WIDE = re.compile("[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff]")
_TIME = re.compile(r"\d:\d\d[:.,]\d")  # timestamp of a subtitle
_COLON = r"(?::(?:\s|$)|：)"  # after the name of a speaker
_GAP_BEFORE_SPEECH = rf"\u3000(?=.*[.!?…。！？—～][{re.escape(_CLOSERS)}]*$)"  # the same in a play; not in a table
_EMOJI = r"\u200d\u20e3\ufe0f\u2600-\u2604\u2607-\u260f\u2614-\u2712\u271d-\u2793\U0001f000-\U0001faff"
"""Without the marks that begin the items of lists, such as arrows, boxes, stars and check marks."""
_FIRST = rf"(?:[^\W\d_]|[{_EMOJI}])"  # of a name
_SPEAKER = re.compile(  # date and time or not, and a name; right after a digit, 日 is no name
    r"(?:[\[(（【]?[\d\-/:.,T 年月日]{4,40}[\])）】]?[ -]{0,9}(?<!\d))?"
    rf"(?:<([^<>]{{1,30}})>\s"
    rf"|({_FIRST}[\w .'’·・{_EMOJI}-]{{0,29}})(?:[(（][^()（）]{{1,30}}[)）])?(?:{_COLON}|{_GAP_BEFORE_SPEECH})"
    rf"|({_FIRST}[\w・{_EMOJI}]{{0,9}})[「『].*[」』]$)"
)
_SENT = re.compile(  # a message of an exported chat: date and time, in brackets or before a dash, and any name
    r"[\u200e\u200f\u202a-\u202e\u2066-\u2069]*[\[(]?\d{1,4}[./-] ?\d{1,2}[./-] ?\d{1,4}\.?,?\s{1,2}"
    r"(?:[^\W\d_]{1,4}\s?)?\d{1,2}[:.]\d\d(?:[:.]\d\d)?(?:\s?[^\W\d_]\.?\s?[^\W\d_]\.?)?"  # AM, p. m. or 下午
    rf"(?:[\])]\s?|\s[-–—]\s)([^:：\n]{{1,40}}){_COLON}"
)
_TABBED = re.compile(  # the same where tabs separate the time of day, the name and the message
    r"(?:[^\W\d_]{1,4}\s?)?\d{1,2}:\d\d(?:\s?[AaPp][Mm])?[\t ]([^\t:：]{1,40})\t"
)
_STAMP = re.compile(  # a date near the start of a line; a time of day alone may be that of a transcript
    r".{0,30}?(?<![\d.])("
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d\d?/\d\d?/\d\d|\d\d[-.]\d\d[-.]\d\d|(?:19|20)\d{6})"
    r"(?![\d.]*\d)"
    r"|[A-Z][a-z]{2,8}\.? {1,2}\d{1,2},? (?:\d{4},? )?\d{1,2}:\d\d"
    r"|\d{1,2}[ /-][A-Z][a-z]{2}[ /-]\d{4}|\d{2,4}年\d{1,2}月)"
)
_SAME_COLUMN = 8  # characters by which the starts of the dates of entries differ, at most
_BEGINNING = 8  # letters and gaps between words with which all entries of one kind begin
_GAP = re.compile(r"[\W\d_]+")
_LEVELS = frozenset([  # in logs
    "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL",
    "调试", "信息", "提示", "警告", "错误", "严重", "調試", "除錯", "資訊", "訊息", "錯誤", "嚴重",
])  # fmt: skip
_CLOCK = re.compile(  # a time of day, or one in a recording
    r"(?:(?:[上下]午|午[前後]|오[전후])\s?)?(?<!\d)\d{1,2}[:：]\d\d(?:[:：]\d\d)?(?:\s?[AaPp]\.?\s?[Mm]\b\.?)?"
)
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_DAY = r"\b\d{1,2}(?:st|nd|rd|th|\.)?"
_DATE = re.compile(  # a word between a day and a year is a month in any language
    r"(?<!\d)\d{1,4}[-/.]\d{1,2}(?:[-/.]\d{1,4})?(?!\d)|(?:\d{2,4}[年년]\s?)?\d{1,2}[月월]\s?\d{1,2}[日号일]"
    rf"|{_DAY}\s(?:de\s)?(?:[^\W\d_]{{3,12}}\.?,?\s(?:de\s)?\d{{4}}\b|{_MONTH})"
    rf"|[^\W\d_]{{3,12}}\.?\s{_DAY},?\s\d{{4}}\b|\b{_MONTH}\s{_DAY}(?!\d)"
    r"|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)\b"
    r"|(?:星期|礼拜|周)[一二三四五六日天]|[月火水木金土日]曜日?"
)


def guess_documents(samples: Sequence[str], num_files: int, has_records: bool = False) -> tuple[str, str]:
    """Guesses the documents mode from samples of the text.

    Args:
        samples: Beginnings of some plain-text files. Empty if all files contain records.
        num_files: Number of all files of the corpus.
        has_records: Whether some of the files contain records, each of which is a document in any mode.

    Returns:
        The mode, one of `textgen.corpus.config.DOCUMENT_MODES`, and the reason for it.

    Example:
        >>> guess_documents(["First Citizen:\\nSpeak, speak.\\n"], 1)
        ('file', 'the text runs on, with neither titled blocks nor a document a line')
    """
    if not samples:
        return "file", RECORDS
    # Short files are documents regardless of their lines, so the minimum applies to the average file.
    blocks = [block for sample in samples for block in _blocks(sample)]
    has_titles = len(blocks) >= MIN_BLOCKS * len(samples) and _titled(blocks)
    if has_titles and _of_poems(blocks):
        return "blank-line", "blank lines separate blocks that start with a title"
    lines = [line.rstrip() for sample in samples for line in sample.removesuffix("\n").split("\n")]
    full = [line for line in lines if line]
    if len(full) >= MIN_LINES * len(samples) and len(full) > 0.98 * len(lines) and _separate(full):
        return "line", "each line stands by itself"
    if has_records:
        return "file", "each file of text and each record is a document"
    if num_files > 1:
        return "file", f"each of the {num_files} files is a document"
    if len(full) >= MIN_LINES * len(samples) and _spoken(full):
        return "file", "most lines begin with the name of a speaker, as in a chat or a play"
    if has_titles:
        return "file", "the first lines of the blocks between blank lines repeat, like the names of speakers in a play"
    return "file", "the text runs on, with neither titled blocks nor a document a line"


def _blocks(text: str) -> list[list[str]]:
    """Splits a text into blocks of consecutive lines that are not blank."""
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line := line.rstrip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return blocks if blocks[-1] else blocks[:-1]


def _titled(blocks: Sequence[list[str]]) -> bool:
    """Checks whether blocks start with a title, like poems, recipes and speeches, unlike paragraphs and subtitles."""
    titles = [block[0] for block in blocks]
    longest = median(max(map(len, block)) for block in blocks)
    return (
        _fraction(len(block) >= 2 for block in blocks) >= 0.8
        and (median(map(len, titles)) <= 0.75 * longest or _above_verse(blocks))
        and not (_fraction(map(_is_timed, titles)) >= 0.8 and _of_messages(titles))
        and _fraction(_ends(title, (*_CLAUSE_ENDS, *_CODE_ENDS)) for title in titles) <= 0.2
        and _fraction(_indented(title) for title in titles) <= 0.1  # indented blocks of source code
        and _fraction(_indented(line) for block in blocks for line in block) <= 0.3  # functions of source code
        and _fraction(any(map(_TIME.search, block[:2])) for block in blocks) <= 0.2
    )


def _of_poems(blocks: Sequence[list[str]]) -> bool:
    """Checks whether the blocks under titles are documents, unlike the speeches of a play, whose speakers repeat.

    What repeats above poems is the name of a form, such as Sonnet, of a tune or of the poet; or the poems of one title
    stand together, while in a play another speaker answers.
    """
    titles = [block[0] for block in blocks]
    if _distinct(titles):
        return True
    if not _marked(blocks):
        return False
    is_grouped = _fraction(title == after for title, after in pairwise(titles)) >= 0.8
    inner = [block[1:] for block in blocks if len(block) > 1]
    return is_grouped or (_distinct([block[0] for block in inner]) and _titled(inner) and _marked(inner))


def _distinct(titles: Sequence[str]) -> bool:
    """Checks whether titles differ, or name forms of verse or tunes, which the titles of many poems do."""
    others = [title for title in titles if not names_form(title)]
    return len(titles) - len(others) + len(set(others)) >= 0.8 * len(titles)


def _marked(blocks: Sequence[list[str]]) -> bool:
    """Checks whether titles stand above some lines that have a mark at the end, as verse has.

    A speech or a message is often of one line, and in wrapped paragraphs most lines have no mark.
    """
    return (
        _fraction(len(block) >= 3 for block in blocks) >= 0.9
        and _fraction(_ends(line, _CLAUSE_ENDS) for block in blocks for line in block[1:]) >= 0.7
    )


def _above_verse(blocks: Sequence[list[str]]) -> bool:
    """Checks whether lines without a mark at the end stand above lines that all have one, as above Chinese verse.

    There a title may be as long as a line. In wrapped paragraphs only the last line has a mark.
    """
    others = [line for block in blocks for line in block[1:]]
    return (
        median(map(len, blocks)) >= 3
        and _fraction(_ends(block[0], _CLAUSE_ENDS) for block in blocks) <= 0.1
        and _fraction(_ends(line, _WIDE_ENDS) for line in others) >= 0.7
    )


def _is_timed(line: str) -> bool:
    return bool(_CLOCK.search(line))


def _of_messages(titles: Iterable[str]) -> bool:
    """Checks whether the titles with a time are the headers of messages, unlike those of entries of a diary or a log.

    Without times and dates, the headers repeat: they name one of a few senders, or nobody in a transcript. Titles of
    entries have a date, and either most dates differ or nothing but the date and the time does.
    """
    untimed = [_CLOCK.sub(" ", title) for title in titles if _is_timed(title)]
    dates = [" ".join(_DATE.findall(title)) for title in untimed]
    names = Counter(frozenset(re.findall(r"[^\W_]+", _DATE.sub(" ", title).upper())) - _LEVELS for title in untimed)
    is_dated = _fraction(map(bool, dates)) >= 0.8
    if is_dated and (max(names.values()) >= 0.9 * len(dates) or len(set(dates)) >= 0.8 * len(dates)):
        return False
    return len(names) < 0.8 * len(dates)


def _headed(lines: Sequence[str]) -> bool:
    """Checks whether the lines are messages without blank lines between them, each of a header and a few lines."""
    share = _fraction(map(_is_timed, lines))
    return 0.2 <= share <= 0.6 and _of_messages(lines)


def _separate(lines: Sequence[str]) -> bool:
    """Checks whether lines are independent, like names, headlines and log entries, unlike prose, verse and code."""
    widths = sorted(map(_width, lines))
    long = widths[int(0.95 * (len(widths) - 1))]
    return (
        long <= 1000
        and not _wrapped(lines, long)
        and not _spoken(lines)
        and not _headed(lines)
        and (_fraction(_ends(line, _SENTENCE_ENDS) for line in lines) <= 0.2 or _sentences(lines, long))
        and _fraction(line.endswith(_HALF_STOPS) for line in lines) <= 0.15  # verse
        and _fraction(line.endswith(_CODE_ENDS) for line in lines) <= 0.2
        and _fraction(_indented(line) or line.startswith(_WIDE_SPACES) for line in lines) <= 0.1
    )


def _wrapped(lines: Sequence[str], long: int) -> bool:
    """Checks whether the text is wrapped.

    In wrapped text, most lines end where the first word of the next line would no longer fit within `long` columns,
    and many lines end inside a sentence. Entries of one width look the same, so lines are entries if most of them have
    a date at about the same place near the start, as headlines may have, or begin with the same words, as entries of a
    log do.
    """
    words = median(len(line.split()) + len(_WIDE.findall(line)) for line in lines)
    return (
        NARROW <= long <= 100
        and words >= 4  # excludes codes and numbers of equal length
        and _fraction(_width(line) + _width(_first_word(after)) >= long for line, after in pairwise(lines)) > 0.5
        and _fraction(_ends(line, _SENTENCE_ENDS) for line in lines) < 0.8  # excludes one-line poems
        and not _stamped(lines)
        and not _alike(lines)
    )


def _stamped(lines: Sequence[str]) -> bool:
    """Checks whether most lines have a date at about the same place: dates in prose stand anywhere."""
    starts = [match.start(1) for line in lines if (match := _STAMP.match(line))]
    if not starts:
        return False
    usual = median(starts)
    return sum(abs(start - usual) <= _SAME_COLUMN for start in starts) >= 0.8 * len(lines)


def _alike(lines: Sequence[str]) -> bool:
    """Checks whether half of the lines begin with the same words, whatever numbers and marks stand between them.

    Equal lines count once: a text that repeats itself is no list.
    """
    beginnings = Counter(_GAP.sub("0", line)[:_BEGINNING] for line in set(lines))
    return max(beginnings.values()) >= 0.5 * len(lines)


def _first_word(line: str) -> str:
    """Returns the text before the first possible line break."""
    word = line.split(maxsplit=1)[0]
    return word[:1] if _WIDE.match(word) else word


def _sentences(lines: Sequence[str], long: int) -> bool:
    """Checks whether lines that end like sentences are one item each, like proverbs, unlike paragraphs and speech."""
    return (
        long <= ITEM
        and (_fraction(bool(_INNER_END.search(line)) for line in lines) <= 0.5 or _of_one_form(lines))
        and _fraction(line.lstrip().startswith(_OPENERS) for line in lines) <= 0.1
    )


def _of_one_form(lines: Sequence[str]) -> bool:
    """Checks whether many lines have the same length, like poems with a fixed number of characters."""
    return max(Counter(map(len, lines)).values()) >= 0.3 * len(lines)


def _spoken(lines: Sequence[str]) -> bool:
    """Checks whether most lines start with one of a few speakers, as in a chat or a play."""
    found = [_SENT.match(line) or _TABBED.match(line) or _SPEAKER.match(line) for line in lines]
    names = Counter(match[match.lastindex or 0] for match in found if match)
    for name in [name for name in names if not _LEVELS.isdisjoint(re.split(r"\W+", name.upper()))]:
        del names[name]
    return names.total() >= 0.6 * len(lines) and len(names) <= max(2, 0.2 * len(lines))


def _width(line: str) -> int:
    """Returns the width of a line in columns. Wide characters take two."""
    return len(line) + (0 if line.isascii() else len(_WIDE.findall(line)))


def _ends(line: str, marks: tuple[str, ...]) -> bool:
    return line.rstrip(_CLOSERS).endswith(marks)


def _indented(line: str) -> bool:
    return line.startswith(("\t", "  "))


def _fraction(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values)
