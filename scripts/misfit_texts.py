"""Six texts that a base model of English or Chinese prose does not fit: code, DNA, tunes, Thai, a log and a table.

    python scripts/misfit_texts.py --out FOLDER --bytes 100000

The code is Python's own standard library; the other five are generated, the same each time. They can be learned: each
has a structure of its own that repeats. `textgen train` must do as well on them with its bases installed as without.
"""

from __future__ import annotations

import argparse
import random
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarking import positive_int, run_script

SEED = 1
LEVELS = ("INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR")
EVENTS = (
    "GET /api/items/{n} 200 {n}ms", "GET /static/app.{h}.js 304 {n}ms", "POST /api/orders 201 {n}ms user={n}",
    "cache miss key=item:{n}", "worker {n} finished job {h} in {n}.{n}s", "connection from 10.0.{n}.{n} closed",
    "retry {n} of 5 for job {h}", "disk /dev/sd{n} at {n}%",
)  # fmt: skip
CITIES = ("Lyon", "Porto", "Graz", "Turku", "Gdansk", "Ghent", "Split", "Cork")
CONSONANTS, VOWELS, TONES = "กขคงจชซดตทธนบปผพมยรลวสหอ", ("ะ", "า", "ิ", "ี", "ุ", "ู", "ำ"), ("", "", "่", "้")


def code() -> Iterator[str]:
    """The modules of Python's standard library, by name."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        yield path.read_text(encoding="utf-8", errors="replace") + "\n"


def dna() -> Iterator[str]:
    """Lines of 60 bases: stretches by chance between copies, with one base in twenty changed, of a few genes."""
    rng = random.Random(SEED)
    genes = ["".join(rng.choices("ACGT", (3, 2, 2, 3), k=rng.randint(80, 300))) for _ in range(20)]
    pending = ""
    while True:
        gene = rng.choice(genes)
        pending += "".join(rng.choice("ACGT") if rng.random() < 0.05 else base for base in gene)
        pending += "".join(rng.choices("ACGT", (3, 2, 2, 3), k=rng.randint(10, 60)))
        while len(pending) >= 60:
            yield pending[:60] + "\n"
            pending = pending[60:]


def tunes() -> Iterator[str]:
    """Tunes in ABC notation: two parts of eight bars, some of which return, over the notes of the key."""
    rng = random.Random(SEED)
    number = 0
    while True:
        number += 1
        key, (metre, beats) = rng.choice(("D", "G", "Em", "Am", "A")), rng.choice((("6/8", 2), ("4/4", 4)))
        head = f"X:{number}\nT:Tune {number}\nM:{metre}\nL:1/8\nK:{key}\n"
        yield head + "".join(_part(rng, key, beats) for _ in range(2)) + "\n"


def _part(rng: random.Random, key: str, beats: int) -> str:
    bars = [" ".join(_beat(rng, key, 3 if beats == 2 else 2) for _ in range(beats)) for _ in range(4)]
    return "|:" + "|".join([*bars[:3], bars[3], *bars[:2], bars[2], f"{key[0]}{2 if beats == 4 else 3}"]) + ":|\n"


def _beat(rng: random.Random, key: str, length: int) -> str:
    scale = "CDEFGABcdefgab"
    at = scale.index(key[0]) + rng.choice((0, 2, 4, 7)) if rng.random() < 0.6 else rng.randrange(len(scale))
    notes = [scale[(at + step) % len(scale)] for step in rng.choice(((0, 1, 2), (0, -1, 0), (0, 2, 4), (0, 0, 1)))]
    return f"{notes[0]}{length}" if rng.random() < 0.2 else "".join(notes[:length])


def thai() -> Iterator[str]:
    """Lines of words of Thai syllables, each word followed mostly by one of a few."""
    rng = random.Random(SEED)
    syllables = [
        rng.choice(CONSONANTS) + rng.choice(VOWELS) + rng.choice(TONES) + rng.choice(("", rng.choice(CONSONANTS)))
        for _ in range(150)
    ]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(600)]
    weights = [1 / (rank + 5) for rank in range(len(words))]
    following = {word: rng.choices(words, weights, k=6) for word in words}
    while True:
        word, line = rng.choices(words, weights)[0], ""
        for _ in range(rng.randint(5, 25)):
            line += word + (" " if rng.random() < 0.15 else "")
            word = rng.choice(following[word]) if rng.random() < 0.8 else rng.choices(words, weights)[0]
        yield line + "\n"


def log() -> Iterator[str]:
    """Lines of a web server's log, in order of time."""
    rng = random.Random(SEED)
    seconds = 0.0
    while True:
        seconds += rng.expovariate(0.5)
        day, rest = divmod(int(seconds), 86_400)
        clock = f"2024-03-{1 + day % 28:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}Z"
        event = rng.choice(EVENTS)
        while "{n}" in event or "{h}" in event:
            event = event.replace("{n}", str(rng.randrange(1, 10 ** rng.randint(1, 3))), 1)
            event = event.replace("{h}", f"{rng.getrandbits(32):08x}", 1)
        yield f"{clock} {rng.choice(LEVELS)} [srv-{rng.randint(1, 4)}] {event}\n"


def table() -> Iterator[str]:
    """Rows of orders: identifier, date, city, quantity, price and their product."""
    rng = random.Random(SEED)
    yield "order,day,city,quantity,price,total,paid\n"
    number = 10_000
    while True:
        number += rng.randint(1, 9)
        quantity, cents = rng.randint(1, 12), rng.choice((199, 249, 499, 999, 1250, 2999))
        day = f"2023-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        row = f"{number},{day},{rng.choice(CITIES)},{quantity},{cents / 100:.2f},{quantity * cents / 100:.2f}"
        yield f"{row},{rng.choice(('yes', 'yes', 'yes', 'no'))}\n"


TEXTS: dict[str, Callable[[], Iterator[str]]] = {
    "code": code, "dna": dna, "tunes": tunes, "thai": thai, "log": log, "table": table,
}  # fmt: skip


def text(name: str, num_bytes: int) -> str:
    """Whole pieces of one of `TEXTS`, until there are `num_bytes` bytes of them or all."""
    pieces, size = list[str](), 0
    for piece in TEXTS[name]():
        if size >= num_bytes:
            break
        piece = piece.encode()[: num_bytes - size].decode(errors="ignore") if name == "code" else piece
        pieces.append(piece)
        size += len(piece.encode())
    return "".join(pieces)


def main() -> None:
    """Writes all six texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write NAME.txt")
    parser.add_argument(
        "--bytes", type=positive_int, default=100_000, metavar="N", help="size of each [default: 100,000]"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in TEXTS:
        (arguments.out / f"{name}.txt").write_text(text(name, arguments.bytes), encoding="utf-8", newline="")


if __name__ == "__main__":
    run_script(main)
