"""What the bases are trained on: mixes of public-domain texts, made anew from a folder of them.

The folder holds one JSON object a line (`text`, `title`, `kind`, maybe `author`) in the files that `RECIPES` names. A
mix is the same for the same files, recipe and seed. Texts count as the same if their letters are: see `folded`.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import zstandard

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import CorpusError
from textgen.storage.file_reading import sha256
from textgen.storage.files import json_bytes, write_file

HELD_OUT = 0.01  # share of the documents of each source
HELD_OUT_CHAPTERS = 8  # maximum number of held-out chapters of a work; its other chapters are left out
HELD_OUT_CHARACTERS = 60_000  # maximum held out of a document, since one long novel would outweigh all others
MIN_CHAPTER_CHARS = 1500  # minimum number of characters; a shorter chapter is joined to the next
CHAPTER = re.compile(r"^(?=(?:chapter|stave)\b.{0,100}$)", re.IGNORECASE | re.MULTILINE)
SENTENCE_END = re.compile(r"[。！？；.!?;\n]+")
NOT_LETTERS = re.compile(r"[\W_]+")
SENTENCES = 40  # number of sentences at the beginning of a text by which its source is found
SENTENCE_BYTES = 15  # minimum bytes of letters; a shorter sentence says little about its source
RARE_IN_BIG5, NOWHERE = b"\xc9\x40", b"\xff\xff"
MIX = "MIX.json"

MERGED = (
    "后云里谷台干面余松丑斗几系卷只曲了征郁御胡朴涂出冲范钟划回向伙沈姜杰杯板表才采彩吃升占志周注准制致舍咸"
    "借克困秋千签纤适术同万与于折症岳游佣欲布当淀复合哄获饥家尽据累历帘霉弥蔑蒙泛仆启确群洒尸拾弦凶须旋岩"
    "药涌欣叶异荫踊猪筑庄着它并糕"
)
"""Characters that stand for several in simplified script, or are written in several ways in either."""


@dataclass(frozen=True)
class Part:
    """A file of a recipe, and how much of it is taken.

    Attributes:
        file: Name of the file.
        source: What its documents are called in scores.
        origin: Where the text comes from, and its licence, for the model card.
        characters: Characters to take, about; None for all.
        times: How often each document is in the training text.
        per_author: Characters of one author, at most.
        in_chapters: Whether a record is cut at its chapters.
        titled: Whether a document begins with its title, on a line of its own.
        by_kind: Sources of the records of some kinds, if it is not `source`.
    """

    file: str
    source: str
    origin: str
    characters: int | None = None
    times: int = 1
    per_author: int | None = None
    in_chapters: bool = False
    titled: bool = False
    by_kind: Mapping[str, str] = field(default_factory=dict)


RECIPES = {
    "english": (
        Part("en-tales.jsonl.zst", "tales", "uci-soe/FairytaleQAData (Apache-2.0), by Project Gutenberg", times=3),
        Part("en-poems.jsonl.zst", "poems", "facjure/public-domain-poetry (Apache-2.0)", 11_000_000),
        Part(
            "en-books.jsonl.zst", "books", "mlschmitt/classic-books-markdown (public domain)", 55_000_000,
            per_author=900_000, in_chapters=True,
        ),
    ),
    "chinese": (
        Part(
            "zh-poems.jsonl.zst", "poems", "chinese-poetry/chinese-poetry (MIT)", 12_000_000,
            titled=True, by_kind={"诗": "poems (shi)", "词": "poems (ci)", "曲": "poems (qu)"},
        ),
        Part("zh-novels.jsonl.zst", "novels", "NiuTrans/Classical-Modern (MIT), tennessine/corpus", 9_000_000),
        Part("zh-prose.jsonl.zst", "prose", "NiuTrans/Classical-Modern (MIT)", 4_000_000),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Document:
    """A text of a mix, and what kind of text it is."""

    text: str
    source: str


# === The letters of a text ===


@cache
def _of_one_script() -> dict[int, None]:
    """The Chinese characters that may be written differently in simplified and traditional script, to be deleted.

    All others are in GB 2312 and among the frequent characters of Big5.
    """
    characters = map(chr, range(0x3400, 0xA000))
    in_both = (one for one in characters if _in(one, "gb2312") < NOWHERE and _in(one, "big5") < RARE_IN_BIG5)
    return dict.fromkeys({*range(0x3400, 0xA000)} - {ord(one) for one in in_both if one not in MERGED})


def _in(character: str, encoding: str) -> bytes:
    """The bytes of a character in an encoding; `NOWHERE` if it is not in it."""
    try:
        return character.encode(encoding)
    except UnicodeEncodeError:
        return NOWHERE


def folded(text: str) -> str:
    """Returns the letters and digits of a text in lower case, without Chinese characters of one script only.

    The same poem in simplified and in traditional script gives the same letters.

    Example:
        >>> folded("秦川雄帝宅，函谷壯皇居。") == folded("秦川雄帝宅,函谷壮皇居")
        True
        >>> folded("The Fox, AND the grapes")
        'thefoxandthegrapes'
    """
    return NOT_LETTERS.sub("", text.casefold()).translate(_of_one_script())


def sentences(text: str) -> Iterator[str]:
    """Iterates over the folded sentences of a text that are long enough to say where it is from."""
    for sentence in SENTENCE_END.split(text):
        if len(sentence.encode(errors="replace")) >= SENTENCE_BYTES:
            letters = folded(sentence)
            if len(letters.encode(errors="replace")) >= SENTENCE_BYTES:
                yield letters


def script(text: str) -> str:
    """Returns the script of a text: "simplified", "traditional", or "" if it has no character of one of them only.

    A character of GB 2312 that Big5 lacks is taken for simplified, and one of Big5 that GB 2312 lacks for traditional.

    Example:
        >>> script("门前"), script("門前"), script("床前"), script("the door")
        ('simplified', 'traditional', '', '')
    """
    if text.isascii():
        return ""
    counts = Counter[str]()
    for character, count in Counter(text).items():
        counts[_script_of(character)] += count
    if counts["simplified"] == counts["traditional"]:
        return ""
    return max("simplified", "traditional", key=lambda name: counts[name])


@cache
def _script_of(character: str) -> str:
    in_gb, in_big5 = _in(character, "gb2312") < NOWHERE, _in(character, "big5") < NOWHERE
    is_han = "\u3400" <= character <= "\u9fff"
    return "" if in_gb == in_big5 or not is_han else "simplified" if in_gb else "traditional"


class LeftOut:
    """Texts that a mix must not hold, such as those of a benchmark."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        """Reads the texts: files of any kind that textgen reads, such as one poem a block."""
        documents = [text for path in paths for text in Corpus([path], CorpusConfig()).documents()]
        self._whole = {letters for text in documents for letters in (folded(text), folded(text.partition("\n")[2]))}
        self._sentences = {sentence for text in documents for sentence in sentences(text)}

    def has(self, text: str) -> bool:
        """Checks whether a text is one of them: at least half of its sentences are, in either script."""
        if not self._whole:
            return False
        found = [sentence in self._sentences for sentence in sentences(text)]
        return sum(found) * 2 >= len(found) if found else folded(text) in self._whole


# === The mix ===


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Iterates over the records of a .jsonl file, which may be compressed with zstd.

    Raises:
        CorpusError: The file is missing or is not what it should be.
    """
    try:
        with path.open("rb") as file:
            stream = zstandard.ZstdDecompressor().stream_reader(file) if path.suffix == ".zst" else file
            with io.TextIOWrapper(stream, encoding="utf-8") as lines:
                for record in map(json.loads, lines):
                    if record["text"].strip():
                        yield record
    except FileNotFoundError:
        raise CorpusError(f"There is no {path}: name the folder of the texts that the bases are made of.") from None
    except (OSError, ValueError, KeyError, TypeError, zstandard.ZstdError) as error:
        raise CorpusError(f"Cannot read {path}: {error}. It should hold one JSON object with a text a line.") from None


def chapters(text: str) -> list[str]:
    """Cuts a book before the headings of its chapters. What is short, as in a table of contents, stays with the next.

    Example:
        >>> [len(chapter) for chapter in chapters(f"CHAPTER I\\n{'a' * 2000}\\nChapter 2 - The fox\\n{'b' * 2000}")]
        [2010, 2020]
    """
    found, held = list[str](), ""
    for part in CHAPTER.split(text):
        held += part
        if len(held) >= MIN_CHAPTER_CHARS:
            found.append(held.strip())
            held = ""
    if held.strip():
        found.append(held.strip())
    return found


def make_mix(parts: Sequence[Part], data: Path, left_out: LeftOut, seed: int) -> tuple[list[Document], list[Document]]:
    """Makes the text to train on and the held-out text.

    Args:
        parts: The recipe.
        data: Folder of the files.
        left_out: Texts that are in neither.
        seed: Decides which documents are taken and held out, and their order.

    Returns:
        The documents to train on, and those that are held out: of a work whole chapters, none of which is trained on.

    Raises:
        CorpusError: A file is missing or damaged.
    """
    train, valid, seen = list[Document](), list[Document](), set[str]()
    for part in parts:
        works = defaultdict[str, list[list[Document]]](list)
        for work in _works(part, data / part.file, left_out, seen, random.Random(f"{seed}-{part.file}")):
            works[work[0].source].append(work)
        for of_source in works.values():
            kept, held = _hold_out(of_source)
            train += kept * part.times
            valid += held
    random.Random(seed).shuffle(train)
    return train, valid


def _works(part: Part, path: Path, left_out: LeftOut, seen: set[str], lot: random.Random) -> Iterator[list[Document]]:
    """Iterates over the records to take, in random order, each as its documents; adds what is taken to `seen`."""
    found = list(records(path))
    lot.shuffle(found)
    by_author, taken = Counter[str](), 0
    for record in found:
        source = part.by_kind.get(record.get("kind", ""), part.source)
        work, author = list[Document](), record.get("author", "")
        for text in chapters(record["text"]) if part.in_chapters else [record["text"]]:
            if part.per_author is not None and by_author[author] + len(text) > part.per_author:
                break
            letters = folded(text)
            if letters in seen or not letters or left_out.has(text):
                continue
            seen.add(letters)
            by_author[author] += len(text)
            work.append(Document(f"{record['title']}\n{text}" if part.titled else text, source))
        if work:
            yield work
            taken += sum(len(document.text) for document in work)
        if part.characters is not None and taken >= part.characters:
            return


def _hold_out(works: Sequence[list[Document]]) -> tuple[list[Document], list[Document]]:
    """The documents to train on, and those of the first works without a long one, until there are enough of them."""
    wanted = max(1, round(HELD_OUT * sum(map(len, works))))
    kept, held = list[Document](), list[Document]()
    for number, work in enumerate(works):
        longest = max(len(document.text) for document in work)
        is_last = number == len(works) - 1 and not kept
        if len(held) < wanted and longest <= HELD_OUT_CHARACTERS and not is_last:
            held += work[: min(HELD_OUT_CHAPTERS, wanted - len(held))]
        else:
            kept += work
    return kept, held


# === Files ===


def mix_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Returns the paths of the text to train on and of the held-out text."""
    return folder / f"{name}-train.jsonl", folder / f"{name}-valid.jsonl"


def write_mix(
    name: str, parts: Sequence[Part], data: Path, folder: Path, left_out: Sequence[Path] = (), seed: int = 0
) -> tuple[Path, Path]:
    """Makes the files of a mix. If they are there and were made of the same, they are left as they are.

    Returns:
        The file to train on and the held-out file.

    Raises:
        TextgenError: A file is missing or damaged, the folder cannot be written, or it holds another mix.
    """
    files = [data / part.file for part in parts]
    for path in (*files, *left_out):
        if not path.is_file():
            raise CorpusError(f"There is no {path}: name the folder of the texts that the bases are made of.")
    origin = {
        "recipe": [asdict(part) for part in parts],
        "files": {path.name: sha256(path) for path in files},
        "left_out": {path.name: sha256(path) for path in left_out},
        "seed": seed,
    }
    train_file, valid_file = mix_files(folder, name)
    if (folder / MIX).exists():
        if json.loads((folder / MIX).read_bytes()) != json.loads(json_bytes(origin)):
            raise CorpusError(f"{folder} holds another mix: remove it, or keep this one in another folder.")
        return train_file, valid_file
    folder.mkdir(parents=True, exist_ok=True)
    for path, documents in zip((train_file, valid_file), make_mix(parts, data, LeftOut(left_out), seed), strict=True):
        lines = [json.dumps(asdict(document), ensure_ascii=False) + "\n" for document in documents]
        write_file(path, "".join(lines).encode())
    write_file(folder / MIX, json_bytes(origin))  # last: without it the mix is made again
    return train_file, valid_file


def read_mix(path: Path, parts: Sequence[Part], data: Path | None = None) -> list[Document]:
    """Reads a file of a mix. Documents without a source get that of the file in `data` that has their sentences.

    Raises:
        CorpusError: A file cannot be read, or a document has no source and `data` is None or lacks it.
    """
    found = [(record["text"], record.get("source")) for record in records(path)]
    unknown = [text for text, source in found if source is None]
    if unknown and data is None:
        raise CorpusError(f"{path} does not say where its documents are from: name the folder of the texts, too.")
    sources = iter(_sources(unknown, parts, data) if data and unknown else [])
    return [Document(text, next(sources) if source is None else source) for text, source in found]


def _sources(texts: Sequence[str], parts: Sequence[Part], data: Path) -> list[str]:
    """The source of each text: the one that has the most of its sentences."""
    places = defaultdict[str, list[int]](list)
    for number, text in enumerate(texts):
        for sentence in set(SENTENCE_END.split(text)[:SENTENCES]) - {""}:
            places[sentence].append(number)
    votes = [Counter[str]() for _ in texts]
    for part in parts:
        found = defaultdict[str, set[str]](set)
        for record in records(data / part.file):
            source = part.by_kind.get(record.get("kind", ""), part.source)
            found[source].update(places.keys() & set(SENTENCE_END.split(record["text"])))
        for source, in_source in found.items():
            for sentence in in_source:
                for number in places[sentence]:
                    votes[number][source] += len(sentence)
    for text, vote in zip(texts, votes, strict=True):
        if not vote:
            raise CorpusError(f"No file in {data} has the text that begins with {text[:40]!r}: name its own folder.")
    return [vote.most_common(1)[0][0] for vote in votes]
