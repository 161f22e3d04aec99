"""The n-grams of a text in the page: against brute force, and what they cost."""

from __future__ import annotations

import random
from pathlib import Path

from javascript import in_node, needs_node

from textgen.export.packing import engine_script
from textgen.generation.constraints.ngrams import ngrams_of

pytestmark = needs_node
FORBIDDEN = """
return given.map(({ size, ids, others }) => {
  let text = new NGrams(size);
  for (const id of ids) text.append(id);
  const twin = text.fork();
  for (const id of others) twin.append(id);
  return [text, twin].map((each) => each.forbidden().sort((a, b) => a - b));
});
"""


def check(cases: list[tuple[int, list[int], list[int]]], folder: Path, script: str | None = None) -> None:
    """Asserts that texts, and copies that go on, forbid the tokens that those of textgen forbid."""
    given = [{"size": size, "ids": ids, "others": others} for size, ids, others in cases]
    found = in_node(FORBIDDEN, given, folder, before=script)
    for (size, ids, others), told in zip(cases, found, strict=True):
        expected = [sorted(ngrams_of(size, each).forbidden().tolist()) for each in (ids, ids + others)]
        assert told == expected, (size, ids, others)


def random_cases() -> list[tuple[int, list[int], list[int]]]:
    rng = random.Random(1)
    some = [[rng.randrange(3) for _ in range(rng.choice([0, 1, 5, 40]))] for _ in range(600)]
    return [(rng.randint(1, 6), *pair) for pair in zip(some[::2], some[1::2], strict=True)]


def test_what_is_forbidden_is_what_textgen_forbids(tmp_path: Path) -> None:
    check(random_cases(), tmp_path)


def test_runs_with_the_same_hash_are_told_apart(tmp_path: Path) -> None:
    """With a hash that only knows the last token of a run."""
    script = engine_script().replace("HASH_BASE = 0x1b873593", "HASH_BASE = 0")
    assert script != engine_script()
    check(random_cases(), tmp_path, script)


def test_a_token_is_kept_once_and_costs_the_same_however_long_the_ngrams_and_the_text_are(tmp_path: Path) -> None:
    code = """
      const made = (size) => {
        const text = new NGrams(size);
        const before = process.cpuUsage();
        for (const id of given) text.append(id);
        const { user, system } = process.cpuUsage(before);
        return { text, time: user + system };
      };
      const [once, short, long] = [1, 3, 500].map(made);
      return [once.text.forbidden().length, once.time, short.time, long.time];
    """
    ids = random.Random(2).choices(range(1000), k=20_000)
    kinds, once, short, long = in_node(code, ids, tmp_path)
    assert kinds == len(set(ids))
    assert max(once, long) < 10 * short
