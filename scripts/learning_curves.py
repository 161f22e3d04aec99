"""What a base is worth: held-out bits per byte by the size of the text, with a base and without.

    python scripts/learning_curves.py --text tales=tales.txt --text verse=verse.txt --json curves.jsonl
    python scripts/learning_curves.py --misfits --json misfits.jsonl

Each text is cut to each size that it reaches. A run is what `textgen train` does when nothing is said, or with
`--from none`, planned for a machine of the same speed wherever it is measured, so that it has the same updates. Runs
whose results are in the file are not repeated, so that an interrupted one goes on; it must be given the same texts and
settings. --misfits adds six texts that bases do not fit (see misfit_texts.py), at 100 KB: there the rule must not
choose a base, or one that does as well.

--set NAME=VALUE changes a setting of the runs with a base, and --from says which base they start from; compare with
another file. A base with a vocabulary that is learned from the text:

    python scripts/learning_curves.py --text tales=tales.txt --only with --from english --set vocab_size=8000 --json own
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import misfit_texts
from benchmarking import (
    Result,
    add_result,
    by_worker,
    check_same,
    digest,
    earlier_results,
    known_results,
    named_text,
    named_value,
    positive_int,
    report,
    require_own_names,
    run_script,
)

KILOBYTES = (10, 30, 100, 300, 1000, 3000)
MISFIT_KILOBYTES = 100
RESULT = ("text", "kilobytes", "seed", "without", "bits_per_byte", "base", "decided_by")  # what is read of a result
SPEED = 2.9e11  # operations a second for which all runs are planned: two cores, free


def cut(text: bytes, size: int, path: Path) -> None:
    """Writes the first bytes of a text, up to the end of a line or at least of a character."""
    piece = text[:size]
    end = piece.rfind(b"\n") + 1
    path.write_bytes(piece[:end] if end > size // 2 else piece.decode(errors="ignore").encode())


def train(path: Path, seed: int, start: str, settings: dict[str, Any]) -> Result:
    """One run, in this process."""
    from textgen.corpus.config import CorpusConfig
    from textgen.corpus.corpus import Corpus
    from textgen.system.runtime import configure_process, load_tensorflow

    configure_process()
    from textgen.training.planning.plan import Hardware, Sources, make_plan
    from textgen.training.planning.start_choice import given_start

    sources = Sources(start=given_start(start or None, None), may_choose_base=not start)  # before the slow part
    load_tensorflow()
    from textgen.training import run

    plan = make_plan(
        Corpus([path], CorpusConfig()), {"seed": seed, **settings}, sources=sources, hardware=Hardware(flops=SPEED)
    )
    saved = run.train(plan, path.parent / "model")
    record, began = saved.training, saved.training["start"]
    return {
        "base": began["name"], "decided_by": began["decided_by"], "reason": began["reason"],
        "token_ratio": began["token_ratio"], "unknown_byte_fraction": began["unknown_byte_fraction"],
        "bits_per_byte": record["scores"]["bits_per_byte"], "steps": record["progress"]["step"],
        "best_step": record["progress"]["best_step"], "epochs": record["progress"]["epochs"],
        "seconds": record["progress"]["seconds"], "vocab_size": record["model"]["vocab_size"],
        "dropout": record["model"]["dropout"], "learning_rate": record["training"]["learning_rate"],
    }  # fmt: skip


def measured(text: bytes, wanted: Result, start: str, settings: dict[str, Any]) -> Result:
    """One run in a process of its own, with its results."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        cut(text, 1000 * wanted["kilobytes"], path)
        job = {"path": str(path), "seed": wanted["seed"], "start": start, "set": settings}
        return {**wanted, **by_worker(__file__, job, str(wanted))}


def table(results: list[Result]) -> list[list[str]]:
    """A row for each text and size: means over the seeds that both have, and the change that a base makes."""
    scores = {_key(result): result for result in results}
    rows = []
    for name, size in dict.fromkeys((result["text"], result["kilobytes"]) for result in results):
        seeds = {seed for *place, seed, _ in scores if place == [name, size]}
        both = [seed for seed in seeds if {(name, size, seed, True), (name, size, seed, False)} <= scores.keys()]
        if both:
            chosen = [scores[name, size, seed, False] for seed in both]
            alone = statistics.mean(scores[name, size, seed, True]["bits_per_byte"] for seed in both)
            based = statistics.mean(one["bits_per_byte"] for one in chosen)
            names = ", ".join(dict.fromkeys(f"{one['base'] or 'none'} ({one['decided_by']})" for one in chosen))
            change = f"{100 * (based / alone - 1):+.1f} %"
            rows.append([name, f"{size:,} KB", f"{alone:.3f}", f"{based:.3f}", change, names, str(len(both))])
    return rows


def known(path: Path, texts: Mapping[str, bytes], start: str, settings: Result) -> list[Result]:
    """The results of the file. Raises `ConfigError` if they are of other texts, or have another start or settings."""
    results = earlier_results(path, RESULT)
    for name, text in texts.items():
        own = [result for result in results if result["text"] == name]
        check_same(path, own, f"another text called {name!r}", sha256=digest(text))
    with_base = [result for result in results if not result["without"]]
    check_same(path, with_base, "runs with another base or other settings", start=start, settings=settings)
    return results


def _key(result: Result) -> tuple[str, int, int, bool]:
    return result["text"], result["kilobytes"], result["seed"], result["without"]


def main() -> None:
    """The runs that are missing, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--text", action="append", type=named_text, default=[], metavar="NAME=FILE", help="a text, and what to call it"
    )
    parser.add_argument("--misfits", action="store_true", help="add the six texts of misfit_texts.py")
    parser.add_argument(
        "--kilobytes", type=positive_int, nargs="+", default=KILOBYTES, metavar="N", help="sizes of the texts"
    )
    parser.add_argument("--seeds", type=positive_int, default=2, metavar="N", help="runs of each text, size and start")
    parser.add_argument("--only", choices=["with", "without"], help="run only those with a base, or without")
    parser.add_argument("--from", dest="start", default="", metavar="NAME", help="the base, instead of choosing one")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, with a base only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where each result is added")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        job = json.loads(options.worker)
        print(json.dumps(train(Path(job["path"]), job["seed"], job["start"], job["set"])))
        return
    if not options.json:
        parser.error("--json is missing: name the file of the results.")
    if not (options.text or options.misfits or known_results(options.json)):
        parser.error(f"--text and --misfits are missing, and {options.json} has no results to show: name a text.")
    names = [name for name, _ in options.text]
    require_own_names(parser, [*names, *misfit_texts.TEXTS] if options.misfits else names)
    texts = {name: Path(path).read_bytes() for name, path in options.text}
    cuts = [(name, size) for size in sorted(options.kilobytes) for name in texts if len(texts[name]) >= 990 * size]
    if options.misfits:
        texts |= {name: misfit_texts.text(name, 1000 * MISFIT_KILOBYTES).encode() for name in misfit_texts.TEXTS}
        cuts += [(name, MISFIT_KILOBYTES) for name in misfit_texts.TEXTS]
    wanted = [
        {"text": name, "kilobytes": size, "seed": seed, "without": without}
        for seed in range(options.seeds)
        for name, size in dict.fromkeys(cuts)
        for without in (True, False)
        if options.only != ("with" if without else "without")
    ]
    settings = dict(map(named_value, options.set))
    results = known(options.json, texts, options.start, settings)
    done = {_key(result) for result in results}
    for run in wanted:
        if _key(run) in done:
            continue
        print(", ".join(f"{key} {value}" for key, value in run.items()), "...", file=sys.stderr)
        text = texts[run["text"]]
        start, changed = ("none", {}) if run["without"] else (options.start, settings)
        what = {"sha256": digest(text), "start": start, "settings": changed}
        results.append({**measured(text, run, start, changed), **what})
        add_result(options.json, results[-1])
        print(f"  {results[-1]['bits_per_byte']:.4f} bits per byte, {results[-1]['seconds']:.0f} s", file=sys.stderr)
    report("Learning curves", ["text", "size", "without", "with", "change", "started from", "seeds"], table(results))


if __name__ == "__main__":
    run_script(main)
