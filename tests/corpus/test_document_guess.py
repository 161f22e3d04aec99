"""What a document is in small corpora of many kinds, as people have them: guessed from the look of the text alone."""

from __future__ import annotations

import random
import textwrap
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from textgen.cli import textgen
from textgen.corpus.document_guess import RECORDS, guess_documents

R = random.Random(4)
FABLES = (Path(__file__).resolve().parents[2] / "corpora" / "fables.txt").read_text(encoding="utf-8")
PARAGRAPHS = [line for line in FABLES.split("\n") if len(line) > 80]
SENTENCES = [
    f"{part}." for line in PARAGRAPHS for part in line.rstrip(".").split(". ") if '"' not in part and len(part) < 150
]
CHINESE = (Path(__file__).resolve().parents[2] / "corpora" / "verse.txt").read_text(encoding="utf-8")
COUPLETS = [line for line in CHINESE.split("\n") if line.endswith("。")]
NAMES = str.split(
    "Emma Olivia Ava Isabella Sophia Mia Charlotte Amelia Harper Evelyn Abigail Emily Ella Elizabeth Camila "
    "Luna Sofia Avery Mila Aria Scarlett Penelope Layla Chloe Victoria Madison Eleanor Grace Nora Riley Zoey "
    "Hannah Hazel Lily Ellie Violet Lillian Zoe Stella Aurora Natalie Emilia Everly Leah Aubrey Willow Addison "
    "Lucy Audrey Bella Nova Brooklyn Paisley Savannah Claire Skylar Isla Genesis Naomi Elena Caroline Eliana "
    "Anna Maya Valentina Ruby Kennedy Ivy Ariana Aaliyah Cora Madelyn Alice Kinsley Hailey Gabriella Allison "
    "Gianna Serenity Samantha Sarah Autumn Quinn Eva Piper Sophie Sadie Delilah Josephine Nevaeh Adeline Arya "
    "Emery Lydia Clara Vivian Madeline Peyton Julia Rylee "
)
WORDS = sorted({word for line in PARAGRAPHS for word in line.split() if word.isalpha() and word.islower()})


def words(low: int, high: int) -> str:
    return " ".join(R.choices(WORDS, k=R.randint(low, high)))


def title() -> str:
    return f"The {R.choice(WORDS).title()} and the {R.choice(WORDS).title()}"


def lines(*made: str) -> str:
    return "\n".join(made) + "\n"


def stanza(count: int = 4) -> str:
    ends = [",", ",", ";", "."]
    return "\n".join(f"{words(6, 8).capitalize()}{ends[n % 4]}" for n in range(count))


def cue(number: int) -> str:
    start = f"00:{number // 20:02}:{number * 3 % 60:02},{R.randrange(1000):03}"
    return f"{number}\n{start} --> 00:59:59,000\n{words(3, 9)}"


def stamp() -> str:
    return f"2024-03-{R.randint(1, 28):02} {R.randrange(24):02}:{R.randrange(60):02}:{R.randrange(60):02}"


def speech() -> str:
    return f"{R.choice(['Anna', 'The old king', 'Bo', 'Mr. Hale'])}: {R.choice(SENTENCES)}"


def logged(form: str) -> str:
    level, path = R.choice(["INFO", "WARNING", "ERROR"]), f"/{R.choice(WORDS)}/{R.choice(WORDS)}"
    return form.format(stamp=stamp(), level=level, path=path, number=R.randrange(10**5), words=words(2, 9))


LOGS = {
    "log of python": "{stamp},{number:05} - worker - {level} - Job 5: {words}",
    "log of python, with short times": "{stamp} - {level} - Job 5: {words}",
    "log in brackets": "[{stamp}] production.{level}: {words}",
    "log with paths in brackets": "[{stamp}] GET {path}: {words}",
    "log of a system": "{stamp} host sshd[{number}]: {words}",
    "log of a system, with zones": "{stamp}+00:00 app[web.1]: {words}",
    "log with paths after dashes": "{stamp} - GET {path}: {words}",
}
FULL_STAMP = "2026-11-{day:02} {hour:02}:{minute:02}:{second:02}"
ENTRIES = {  # all of nearly one width, as prose in columns is
    "of sshd": "Nov {day:02} {hour:02}:{minute:02}:{second:02} bastion sshd[{number}]: Accepted publickey for deploy",
    "of accesses": '10.0.45.{day} - - [29/Nov/2026:{hour:02}:{minute:02}:{second:02}] "GET /item/{number} HTTP/1.1" 2',
    "of jobs": f"{FULL_STAMP} INFO worker-3 job {{number}} finished in 201 ms",
    "of cron": "Nov {day:02} {hour:02}:{minute:02}:{second:02} web01 CRON[{number}]: (root) CMD (/usr/bin/backup -a)",
    "of counts": "[{number}.{hour:02}] new high-speed USB device of number {number} at port {second}",
    "of counts, chinese": "[{number}.{hour:02}] 第三号工人完成了每天的备份任务，用时{second:02}秒",
}
DATED = {
    "after a tab": "2026-11-{day:02}\t{title}",
    "after a date of digits": "202611{day:02}\t{title}",
    "after a colon": "2026-11-{day:02}: {title}",
    "after slashes": "11/{day:02}/2026 {title}",
    "after dots": "{day}.11.2026 {title}",
    "after a chinese date": "2026年11月{day}日：{title}",
}


def entry(form: str, title: str = "") -> str:
    now = {"hour": R.randrange(24), "minute": R.randrange(60), "second": R.randrange(60)}
    return form.format(day=R.randint(10, 28), number=R.randrange(10000, 99999), title=title, **now)


def english_title() -> str:
    """About 50 columns of words."""
    return textwrap.wrap(words(20, 20).capitalize(), 50)[0]


def chinese_title() -> str:
    return "".join(R.choices("春江花月夜山高水长风清云淡日暖", k=R.randint(17, 20)))


CHATS = {
    "ios, us": "[3/{day}/21, {hour}:{minute:02}:12 {m}] {name}: {words}",
    "ios, us, narrow space": "[3/{day}/21, {hour}:{minute:02}:12\u202f{m}] {name}: {words}",
    "ios, germany": "[{day:02}.03.21, {hour:02}:{minute:02}:12] {name}: {words}",
    "ios, marks": "\u200e[{day:02}.03.21, {hour:02}:{minute:02}:12] {name}: \u200e{words}",
    "android, us": "3/{day}/21, {hour}:{minute:02} {m} - {name}: {words}",
    "android, us, narrow space": "3/{day}/21, {hour}:{minute:02}\u202f{m} - {name}: {words}",
    "android, germany": "{day:02}.03.21, {hour:02}:{minute:02} - {name}: {words}",
    "android, spain": "3/{day}/21, {hour}:{minute:02} p.\u00a0m. - {name}: {words}",
    "android, china": "2021/3/{day} 下午{hour}:{minute:02} - {name}: {words}",
    "android, korea": "2021. 3. {day}. 오후 {hour}:{minute:02} - {name}: {words}",
    "android, no words": "{day:02}.03.21, {hour:02}:{minute:02} - {name}:",
}
PEOPLE = [
    ["Ann", "Bo"],
    ["Mum ❤️", "Ann (work)"],
    ["+49 170 1234567", "\u202a+1 (555) 010-9999\u202c"],
    ["张三", "李四"],
]


def message(form: str, people: list[str]) -> str:
    day, hour, minute = R.randint(1, 28), R.randint(1, 12), R.randrange(60)
    m, name = R.choice(["AM", "PM"]), R.choice(people)
    return form.format(day=day, hour=hour, minute=minute, m=m, name=name, words=words(1, 9))


C_CODE = [f"int f{n}(int x) {{\n    int y = x * {n};\n    return y + {n};\n}}" for n in range(60)]
RUBY = [f"def step_{n}(x)\n  y = x * {n}\n  y + {n}\nend" for n in range(60)]
FIVE_CHARACTERS = [half for line in COUPLETS for half in line.rstrip("。").split("，") if len(half) == 5]
WHOLE_POEMS = ["".join(R.sample([line for line in COUPLETS if len(line) == 12], 2)) for _ in range(100)]

CASES: dict[str, tuple[str, str]] = {
    # an item a line
    "names": ("line", lines(*NAMES)),
    "names of five letters": ("line", lines(*[name for name in NAMES * 3 if len(name) == 5])),
    "full names": ("line", lines(*[f"{R.choice(NAMES)} {R.choice(NAMES)}" for _ in range(80)])),
    "codes": ("line", lines(*[f"AB-{R.randrange(10**6):06}-X{R.randrange(10)}" for _ in range(90)])),
    "long identifiers": ("line", lines(*[f"{R.getrandbits(160):040x}" for _ in range(90)])),
    "passwords": ("line", lines(*["".join(R.choices("abcdefgABCDEFG0123456789!?.", k=12)) for _ in range(100)])),
    "passphrases": ("line", lines(*[" ".join(R.choices(WORDS, k=4)) for _ in range(100)])),
    "headlines": ("line", lines(*[words(4, 12).capitalize() for _ in range(100)])),
    "proverbs": ("line", lines(*SENTENCES[:120])),
    "questions": ("line", lines(*[f"{words(4, 10).capitalize()}?" for _ in range(100)])),
    "tweets": (
        "line",
        lines(*[f"{R.choice(SENTENCES)} {R.choice(['#fables', '', 'lol', '!!', '🦊'])}".strip() for _ in range(120)]),
    ),
    "URLs": ("line", lines(*[f"https://example.org/{R.choice(WORDS)}/{R.choice(WORDS)}.html" for _ in range(80)])),
    "log": ("line", lines(*[f"{stamp()} INFO {words(3, 10)}" for _ in range(100)])),
    "log with levels": ("line", lines(*[f"{stamp()} {R.choice(['INFO', 'WARN'])}: {words(3, 9)}" for _ in range(100)])),
    **{name: ("line", lines(*[logged(form) for _ in range(100)])) for name, form in LOGS.items()},
    **{f"log {name}": ("line", lines(*[entry(form) for _ in range(200)])) for name, form in ENTRIES.items()},
    **{
        f"{made.__name__} {name}": ("line", lines(*[entry(form, made()) for _ in range(200)]))
        for made in (english_title, chinese_title)
        for name, form in DATED.items()
    },
    "rows of numbers": ("line", lines(*[f"{stamp()},{R.random():.4f},{R.randrange(99)},ok" for _ in range(100)])),
    "recipes' titles": ("line", lines(*[f"{title()} with {words(1, 3)}" for _ in range(80)])),
    "dictionary": ("line", lines(*[f"{word}: {words(3, 9)}." for word in WORDS[:100]])),
    "chinese lines of five": ("line", lines(*FIVE_CHARACTERS[:120])),
    "chinese poems, one a line": ("line", lines(*WHOLE_POEMS)),
    "chinese proverbs": ("line", lines(*[f"{line}。" for line in FIVE_CHARACTERS[:100]])),
    # blocks with titles
    "fables": ("blank-line", FABLES),
    "poems with titles": ("blank-line", "\n\n".join(f"{title()}\n{stanza()}" for _ in range(30))),
    "numbered poems": ("blank-line", "\n\n".join(f"{n}\n{stanza()}" for n in range(1, 40))),
    "chinese poems with titles": ("blank-line", CHINESE),
    "recipes": (
        "blank-line",
        "\n\n".join(f"{title()}\n2 eggs\n100 g flour\n{R.choice(PARAGRAPHS)}" for _ in range(20)),
    ),
    # all else
    "prose in columns": ("file", "\n\n".join(textwrap.fill(line, 72) for line in PARAGRAPHS[:60])),
    "prose in columns, without blank lines": ("file", lines(*[textwrap.fill(p, 72) for p in PARAGRAPHS[:60]])),
    "prose in narrow columns": ("file", lines(*[textwrap.fill(p, 40) for p in PARAGRAPHS[:60]])),
    "prose, a paragraph a line": ("file", lines(*PARAGRAPHS[:120])),
    "prose, a paragraph and a blank line": ("file", "\n\n".join(PARAGRAPHS[:120])),
    "a novel of speech": ("file", lines(*[R.choice([f'"{s}"', s]) for s in SENTENCES[:150]])),
    "a novel of speech after dashes": ("file", lines(*[R.choice([f"— {s}", s]) for s in SENTENCES[:150]])),
    "verse in stanzas": ("file", "\n\n".join(stanza() for _ in range(40))),
    "verse without stanzas": ("file", lines(*[stanza() for _ in range(30)])),
    "chinese verse, a line a half": ("file", lines(*[line.replace("，", "，\n") for line in COUPLETS[:80]])),
    "chinese prose": ("file", lines(*["".join(R.choices(COUPLETS, k=R.randint(4, 30))) for _ in range(80)])),
    "chinese prose in columns": (
        "file",
        lines(*[row for _ in range(40) for row in textwrap.wrap("".join(R.choices(COUPLETS, k=20)), 35)]),
    ),
    "prose in columns, with dates in it": (
        "file",
        lines(
            textwrap.fill(" ".join(f"{words(12, 20)}, in {R.randint(1500, 1900)}-05-{n}." for n in range(10, 99)), 60)
        ),
    ),
    "prose in columns, said again and again": ("file", lines(*[textwrap.fill(PARAGRAPHS[0], 60)] * 40)),
    "verses with numbers, in columns": (
        "file",
        lines(*[textwrap.fill(f"{n}:{10 + n} {words(24, 40)}.", 60) for n in range(1, 60)]),
    ),
    "transcript with times, in columns": (
        "file",
        lines(*[f"{n // 60}:{n % 60:02} {row}" for n, row in enumerate(textwrap.wrap(words(900, 900), 40))]),
    ),
    "verse with references, in columns": (
        "file",
        lines(*[f"1.4.{n} {row}" for n, row in enumerate(textwrap.wrap(words(900, 900), 44), 100)]),
    ),
    "prose in columns with numbers of lines": (
        "file",
        lines(*[f"{n:08} {row}" for n, row in enumerate(textwrap.wrap(words(900, 900), 60), 1)]),
    ),
    "play": ("file", "\n\n".join(speech().replace(": ", "\n") for _ in range(80))),
    "play, a speech a line": ("file", lines(*[speech() for _ in range(100)])),
    "dialogue": ("file", lines(*[f"{'AB'[n % 2]}: {R.choice(SENTENCES)}" for n in range(100)])),
    "chat": ("file", lines(*[f"<{R.choice(['ann', 'bob', 'zed'])}> {words(1, 12)}" for _ in range(150)])),
    "chat with times": (
        "file",
        lines(*[f"[{stamp()}] {R.choice(['ann', 'bob'])}: {words(1, 12)}" for _ in range(150)]),
    ),
    **{
        f"chat, {name}, with {people[0]}": ("file", lines(*[message(form, people) for _ in range(100)]))
        for name, form in CHATS.items()
        for people in PEOPLE
    },
    "subtitles": ("file", "\n\n".join(cue(n) for n in range(1, 120))),
    "subtitles without numbers": ("file", "\n\n".join(cue(n).split("\n", 1)[1] for n in range(1, 120))),
    "c": ("file", "\n\n".join(C_CODE)),
    "c without blank lines": ("file", lines(*C_CODE)),
    "ruby": ("file", "\n\n".join(RUBY)),
    "statements": ("file", lines(*[f"x{n} = f({n});" for n in range(100)])),
    "log with time, thread and level between tabs": (
        "line",
        lines(*[f"12:{n // 60:02}:{n % 60:02}\t[main]\tINFO\t{words(3, 9)}" for n in range(200)]),
    ),
    **{
        f"list of items after {mark}": (
            "line",
            lines(*[f"{mark} {R.choice(['Home', 'Work'])}: {words(2, 6)}" for _ in range(120)]),
        )
        for mark in "☐✓★→■▪➤"
    },
    "a short list": ("file", lines(*NAMES[:20])),
}


CHINESE_PARAGRAPHS = [f"{R.choice(COUPLETS)}{R.choice(COUPLETS)[:5]}。" for _ in range(120)]
SPOKEN_LINES = R.sample(COUPLETS, 100)
SAID = [f"{words(4, 12).capitalize()}." for _ in range(120)]
INDENTS = {"two ideographic spaces": "\u3000\u3000", "em spaces": "\u2003", "en spaces": "\u2002", "no-break": "\u00a0"}
QUOTES = ["»{}«", "‹{}›", "›{}‹", "«{}»", "„{}“", "‚{}‘", "‘{}’", "“{}”", "― {}", "〝{}〟"]
CHINESE_TALK = {
    "play": "{name}：{said}",
    "play with directions": "{name}（笑）：{said}",
    "play with brackets": "{name}「{said}」",
    "chat": "2023-01-{day} {hour}:{minute:02} {name}：{said}",
    "chat in brackets": "[2023-01-{day} {hour}:{minute:02}] {name}：{said}",
    "chat with a dash": "2023/1/{day} {hour}:{minute:02} - {name}：{said}",
    "chat with units": "2023年1月{day}日 {hour}:{minute:02} {name}：{said}",
    "chat of line": "{hour}:{minute:02}\t{name}\t{said}",
    "chat of line before noon": "上午{hour}:{minute:02}\t{name}\t{said}",
    "play with a wide space": "{name}\u3000{said}",
}
EMOJI_NAMES = {"both": ["🌸小花", "阿明☀️"], "one": ["🌸小花", "阿明"], "joined": ["👨‍👩‍👧一家人", "❤️"]}
CLAUSES = [
    f"{half}{mark}" for line in COUPLETS for half, mark in [(line[:5], "，"), (line[6:11], "。")] if len(line) == 12
]
VERSE_TITLES = ["".join(R.choices("春江花月夜山高水长风清云淡日暖", k=5)) for _ in range(40)]


def clauses(number: int) -> str:
    """A poem of eight lines, with a clause in each."""
    return "\n".join(CLAUSES[8 * number : 8 * number + 8])


def couplets(number: int) -> str:
    """The same poem, with a couplet in each line."""
    return clauses(number).replace("，\n", "，")


def chinese_columns(low: int, high: int) -> str:
    """A paragraph of this many lines of Chinese prose of one width."""
    text = "".join(R.choices(COUPLETS, k=20)).replace("\n", "")
    return "\n".join(textwrap.wrap(text[: R.randint(31 * (low - 1), 30 * high)] + "。", 30))


HEADERS = {  # of messages
    "otter": "Speaker {number}  {hour}:{minute:02}",
    "a transcript of one speaker": "Speaker 1  {hour}:{minute:02}",
    "a transcript of times": "{hour}:{minute:02}",
    "discord": "[1/{day}/2023 {hour}:{minute:02} PM] {name}",
    "discord, this week": "{name} — Yesterday at {hour}:{minute:02} AM",
    "slack": "{name}  {hour}:{minute:02} PM",
    "telegram": "{name}, [{day}.01.2023 {hour}:{minute:02}]",
    "a forum": "Posted by {name} on January {day}, 2023 {hour}:{minute:02} pm",
    "a forum, german": "{name}, {day}. Januar 2023, {hour}:{minute:02} Uhr",
    "wechat": "{name} 2023年1月{day}日 下午{hour}:{minute:02}",
}
DIARIES = {  # titles of the entries of many days
    "without a time": "{day} {month} {year}",
    "with a time": "{day} {month} {year}, {hour}:{minute:02}",
    "with a time before noon or after": "{month} {day}, {year}, {hour}:{minute:02} {m}",
    "german": "Montag, {day}. Januar {year}, {hour}:{minute:02} Uhr",
    "with a place": "{day} {month} {year}, {hour}:{minute:02}, {name}",
    "iso": "{year}-{day}-10 {hour}:{minute:02}",
    "chinese": "{year}年1月{day}日 星期一 {hour}:{minute:02}",
}


def headed(form: str, name: str = "") -> str:
    """The header of a message or an entry."""
    return form.format(
        name=name or R.choice(["ann", "bob", "Zed 9", "Mr. Hale"]),
        number=R.randint(1, 3),
        year=R.randint(1900, 2020),
        month=R.choice(["January", "May", "October"]),
        day=R.randint(10, 28),
        hour=R.randint(1, 12),
        minute=R.randrange(60),
        m=R.choice(["AM", "PM"]),
        said=R.choice(SPOKEN_LINES),
    )


CASES |= {
    # an item a line
    "chinese jokes": ("line", lines(*CHINESE_PARAGRAPHS[:100])),
    "chinese dictionary": ("line", lines(*[f"{word[:2]}{n}：{word}" for n, word in enumerate(SPOKEN_LINES)])),
    "chinese headlines": (
        "line",
        lines(*[f"{chinese_title()[:4]}：{chinese_title()[: R.randint(5, 20)]}" for _ in range(100)]),
    ),
    "chinese log": (
        "line",
        lines(
            *[headed("2023-01-{day} {hour}:{minute:02} {name}：{said}", R.choice(["信息", "错误"])) for _ in range(100)]
        ),
    ),
    "traditional chinese log": (
        "line",
        lines(
            *[headed("2023-01-{day} {hour}:{minute:02} {name}：{said}", R.choice(["資訊", "錯誤"])) for _ in range(100)]
        ),
    ),
    "chinese titles after a wide space": (
        "line",
        lines(*[f"{R.choice(['李白', '杜甫', '王维'])}\u3000{chinese_title()[:7]}" for _ in range(100)]),
    ),
    "chinese labels after a tab": ("line", lines(*[f"{R.choice(['好', '坏'])}\t{line}" for line in SPOKEN_LINES])),
    "headlines that begin with what was said": (
        "line",
        lines(*[R.choice(["‘{}’: {}", "»{}« – {}", "{} {}"]).format(words(2, 5), words(3, 6)) for _ in range(100)]),
    ),
    "proverbs, a few of them what was said": (
        "line",
        lines(*[f"‘{line[:-1]}.’" if n % 15 == 0 else line for n, line in enumerate(SENTENCES[:120])]),
    ),
    "log of logins": ("line", lines(*[f"{stamp()} {R.choice(['ann', 'bob'])} {words(1, 3)}" for _ in range(100)])),
    # blocks with titles
    "regulated verse, a clause a line": (
        "blank-line",
        "\n\n".join(f"{title}\n{clauses(n)}" for n, title in enumerate(VERSE_TITLES)),
    ),
    "regulated verse, below titles and poets": (
        "blank-line",
        "\n\n".join(f"《{title[:4]}》\u3000王维\n{couplets(n)}" for n, title in enumerate(VERSE_TITLES)),
    ),
    **{
        f"diary, {name}": ("blank-line", "\n\n".join(f"{headed(form)}\n{R.choice(PARAGRAPHS)}" for _ in range(40)))
        for name, form in DIARIES.items()
    },
    "log of watches, many a day": (
        "blank-line",
        "\n\n".join(f"{headed('{day} May 1843, {hour}:{minute:02} {m}')}\n{words(9, 30)}." for _ in range(100)),
    ),
    "log of reports": (
        "blank-line",
        "\n\n".join(
            f"{headed('2023-01-{day} {hour}:{minute:02}')} {R.choice(['INFO', 'ERROR'])}\n{words(9, 30)}\n{words(2, 9)}"
            for _ in range(100)
        ),
    ),
    "programme": (
        "blank-line",
        "\n\n".join(f"{headed('{hour}:{minute:02}')} {title()}\n{R.choice(PARAGRAPHS)}" for _ in range(40)),
    ),
    # all else
    **{
        f"chinese novel, indented by {name}": ("file", lines(*[f"{space}{line}" for line in CHINESE_PARAGRAPHS]))
        for name, space in INDENTS.items()
    },
    "chinese novel of speech, indented": (
        "file",
        lines(*[R.choice([f"\u3000\u3000“{line}”", line]) for line in CHINESE_PARAGRAPHS]),
    ),
    **{
        f"a novel of speech in {quotes}": ("file", lines(*[R.choice([quotes.format(s), s]) for s in SAID]))
        for quotes in QUOTES
    },
    "a novel of nothing but speech, german": ("file", lines(*[f"»{line}«" for line in SAID])),
    **{
        f"chinese {name}": ("file", lines(*[headed(form, R.choice(["王利发", "松二爷"])) for _ in range(100)]))
        for name, form in CHINESE_TALK.items()
    },
    **{
        f"chinese chat, {form}, with emoji in the names of {who}": (
            "file",
            lines(*[headed(CHINESE_TALK.get(form, "{name}：{said}"), R.choice(names)) for _ in range(100)]),
        )
        for form in ("without times", "chat")
        for who, names in EMOJI_NAMES.items()
    },
    "chinese novel, a blank line after each paragraph": ("file", "\n\n".join(CHINESE_PARAGRAPHS)),
    "chinese novel, indented, a blank line after each paragraph": (
        "file",
        "\n\n".join(f"\u3000\u3000{line}" for line in CHINESE_PARAGRAPHS),
    ),
    **{
        f"chinese novel in columns, paragraphs of {low} to {high} lines": (
            "file",
            "\n\n".join(chinese_columns(low, high) for _ in range(80)),
        )
        for low, high in ((2, 2), (2, 3), (2, 4), (3, 3), (3, 6))
    },
    "play in blocks, chinese": (
        "file",
        "\n\n".join(f"{R.choice(['鲁侍萍', '周朴园'])}\n{R.choice(COUPLETS)}\n{R.choice(COUPLETS)}" for _ in range(80)),
    ),
    "dialogue in blocks, chinese": (
        "file",
        "\n\n".join("\n".join(f"“{line}”" for line in R.choices(COUPLETS, k=4)) for _ in range(60)),
    ),
    **{
        f"messages, {name}": ("file", "\n\n".join(f"{headed(form)}\n{words(3, 30)}." for _ in range(100)))
        for name, form in HEADERS.items()
    },
    **{
        f"messages, {name}, without blank lines": (
            "file",
            lines(*[f"{headed(form)}\n{words(3, 15)}" for _ in range(100)]),
        )
        for name, form in HEADERS.items()
    },
}

TUNES = ["浣溪沙", "水调歌头", "菩萨蛮", "鷓鴣天", "西江月", "如梦令", "临江仙", "蝶恋花", "卜算子", "清平乐"]
SPEAKERS = ["BERNARDO", "The Queen", "Old Gobbo", "A Sailor"]


def chinese_lines(low: int, high: int) -> str:
    """Some lines of Chinese verse."""
    return "\n".join(R.choices(COUPLETS, k=R.randint(low, high)))


def blocks(number: int, form: str, names: list[str], low: int, high: int) -> str:
    """Blocks of verse, each below one of a few names."""
    made = (chinese_lines, lambda low, high: stanza(R.randint(low, high)))[names[0].isascii()]
    return "\n\n".join(
        form.format(name=R.choice(names), title=R.sample(VERSE_TITLES, 1)[0][:4], number=n) + "\n" + made(low, high)
        for n in range(number)
    )


def prose_speech() -> str:
    """A speaker above a few lines of wrapped prose."""
    return f"{R.choice(SPEAKERS)}\n{textwrap.fill(' '.join(R.choices(SENTENCES, k=R.randint(1, 4))), 60)}"


CASES |= {
    # blocks with titles that repeat
    "lyrics to a few tunes": ("blank-line", blocks(60, "{name}", TUNES, 2, 8)),
    "lyrics to a few tunes, two lines each": ("blank-line", blocks(60, "{name}", TUNES, 2, 2)),
    "lyrics to a few tunes, in brackets": ("blank-line", blocks(60, "《{name}》", TUNES, 2, 6)),
    "lyrics to a few tunes, with modes": ("blank-line", blocks(60, "【中吕】{name}", TUNES, 3, 6)),
    "lyrics to a few tunes, below their poets": ("blank-line", blocks(60, "苏轼\n{name}", TUNES, 3, 6)),
    "lyrics to a few tunes, above their poets": ("blank-line", blocks(60, "{name}\n苏轼", TUNES, 3, 6)),
    "lyrics to a few tunes, between poems with titles": (
        "blank-line",
        f"{blocks(30, '{name}', TUNES, 3, 6)}\n\n{CHINESE}",
    ),
    "poems without a title, chinese": ("blank-line", blocks(40, "无题", ["无题"], 2, 4)),
    "poems below a few poets": (
        "blank-line",
        blocks(15, "{name}\n{title}{number}", ["李清照", "辛弃疾", "苏轼"], 2, 6),
    ),
    "english poems below a few poets": (
        "blank-line",
        "\n\n".join(f"{R.choice(['J. Clare', 'A. Pope'])}\n{title()}\n{stanza()}" for _ in range(40)),
    ),
    "sonnets": ("blank-line", blocks(30, "Sonnet", ["Sonnet"], 14, 14)),
    "songs and hymns": ("blank-line", blocks(50, "{name}", ["Song", "Hymn", "A Lullaby"], 3, 9)),
    "poems of one title each year": (
        "blank-line",
        "\n\n".join(blocks(20, name, [name], 3, 9) for name in ("To the Moon", "At Sea", "Winter")),
    ),
    # plays, whose speakers repeat
    "play in verse": ("file", blocks(80, "{name}", SPEAKERS, 1, 9)),
    "play in verse, long speeches": ("file", blocks(80, "{name}", SPEAKERS, 3, 20)),
    "play in verse, with a Song among the speakers": ("file", blocks(80, "{name}", [*SPEAKERS, "Song"], 1, 9)),
    "play in wrapped prose": ("file", "\n\n".join(prose_speech() for _ in range(80))),
    "play in verse, chinese": ("file", blocks(80, "{name}", ["鲁侍萍", "周朴园", "四凤"], 1, 6)),
    "play in verse, chinese, with directions": (
        "file",
        "\n\n".join(
            f"{R.choice(['鲁侍萍', '周朴园'])}\n{R.choice(['（笑）', '（起身）', '（叹气）'])}\n{chinese_lines(2, 5)}"
            for _ in range(80)
        ),
    ),
    "monologues of few speakers": (
        "file",
        "\n\n".join(f"Speaker 1\n{' '.join(R.choices(SENTENCES, k=3))}" for _ in range(80)),
    ),
    "messages below names": (
        "file",
        "\n\n".join("\n".join([R.choice(["ann", "bob"]), *(words(1, 9) for _ in range(3))]) for _ in range(80)),
    ),
    "steps below two words": (
        "file",
        "\n\n".join(f"{('Ingredients', 'Method')[n % 2]}\n{stanza()}" for n in range(80)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_document_is(name: str) -> None:
    expected, text = CASES[name]
    mode, reason = guess_documents([text], 1)
    assert mode == expected, f"{reason}\n{text[:400]}"


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 40
    assert {mode for mode, _ in CASES.values()} == {"line", "blank-line", "file"}


def test_a_chat_is_called_one() -> None:
    for name, (_, text) in CASES.items():
        is_spoken = name.startswith(("chat", "chinese chat", "chinese play")) or name in (
            "dialogue",
            "play, a speech a line",
        )
        assert ("as in a chat or a play" in guess_documents([text], 1)[1]) is is_spoken, name


@pytest.mark.parametrize("name", ["play", "play in blocks, chinese", "play in verse", "play in verse, chinese"])
def test_first_lines_that_repeat_are_the_reason_against_blocks(name: str) -> None:
    assert "first lines of the blocks between blank lines repeat" in guess_documents([CASES[name][1]], 1)[1]


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("name", ["names", "subtitles", "play", "fables"])
def test_the_last_line_and_windows_newlines_change_nothing(name: str, newline: str) -> None:
    expected, text = CASES[name]
    assert guess_documents([text.rstrip("\n").replace("\n", newline)], 1)[0] == expected


def test_whoever_is_shown_a_guess_is_told_how_to_choose(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(CASES["names"][1] * 20, encoding="utf-8")
    (tmp_path / "rows.csv").write_text("text\n" + "a few words\n" * 200, encoding="utf-8")
    runner = CliRunner()
    for command in (["train", "--dry-run", "--preset", "tiny"], ["corpus", "stats"]):
        told = runner.invoke(textgen, [*command, str(tmp_path / "names.txt")], catch_exceptions=False).stdout
        assert "line (each line stands by itself; --documents chooses another)" in told
        chosen = [*command, str(tmp_path / "names.txt"), "--documents", "line"]
        assert "--documents" not in runner.invoke(textgen, chosen, catch_exceptions=False).stdout
        records = runner.invoke(textgen, [*command, str(tmp_path / "rows.csv")], catch_exceptions=False).stdout
        assert f"({RECORDS})" in records, "documents says nothing about tables"


@pytest.mark.parametrize(
    "unit",
    [
        "-",
        " ",
        ".",
        "1",
        "1-",
        ":",
        "：",
        "月",
        "年",
        "a",
        "A b. ",
        "1 月 ",
        "「",
        "a\u3000",
        "。」",
        "🌸",
        "1:00\t",
        '"',
        "\u200e",
    ],
)
def test_a_long_line_takes_little_time(unit: str) -> None:
    lines = [f"line {number}" for number in range(100)]
    start = time.process_time()
    for line in (unit * 20_000, f"[2024-01-01 12:00{unit * 20_000}", f"2024-01-01 {unit * 20_000}"):
        guess_documents(["\n".join([*lines, line])], 1)
        guess_documents(["\n\n".join([f"{number}\ntext" for number in range(9)] + [f"{line}\ntext"])], 1)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(("length", "expected"), [(50, "line"), (250, "file")])
def test_lines_of_more_than_a_thousand_characters_are_paragraphs(length: int, expected: str) -> None:
    text = "\n".join(f"{number} " + "word " * (length + number) for number in range(60))
    assert guess_documents([text], 1)[0] == expected
