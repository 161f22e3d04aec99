"""Encoding speed: a corpus to shards of ids on disk, beside SentencePiece alone on all cores.

    python scripts/benchmark_encoding.py TEXT [--megabytes 200]

SentencePiece gets the lines in memory and its own threads, and keeps nothing; textgen reads the file, encodes,
counts and writes. Memory is that of all processes together.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarking import (
    Result,
    arguments,
    chosen,
    digest,
    interleave,
    positive_int,
    read_text,
    report,
    run_script,
    with_memory,
)


def work(run: Result) -> Result:
    """Megabytes per second and memory of one contender."""
    import sentencepiece

    from textgen.corpus.config import CorpusConfig
    from textgen.corpus.corpus import Corpus
    from textgen.dataset.token_cache import encode_corpus
    from textgen.system.machine import num_cores
    from textgen.tokenizer.kinds import load_tokenizer

    path, serialized = Path(run["text"]), Path(run["vocabulary"]).read_bytes()
    if run["program"] == "SentencePiece":
        processor = sentencepiece.SentencePieceProcessor(model_proto=serialized)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        seconds, peak = with_memory(lambda: processor.encode(lines, num_threads=num_cores()))
    else:
        tokenizer = load_tokenizer(serialized)
        with tempfile.TemporaryDirectory() as folder:
            corpus, target = Corpus([path], CorpusConfig(documents="file")), Path(folder) / "tokens"
            seconds, peak = with_memory(lambda: encode_corpus(corpus, tokenizer, target))
    return {"megabytes_per_second": path.stat().st_size / 1e6 / seconds, "peak_memory": peak}


def main() -> None:
    """The parent starts a worker for each run; a worker prints what it measured."""
    parser = arguments((__doc__ or "").partition("\n")[0])
    parser.add_argument("text", nargs="?", type=Path, help="UTF-8 text, repeated to the size wanted")
    parser.add_argument("--megabytes", type=positive_int, default=200)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(json.loads(options.worker))))
        return
    if not options.text:
        parser.error("name a text")
    from textgen.errors import CorpusError
    from textgen.tokenizer.config import TokenizerConfig
    from textgen.tokenizer.vocabulary import train_tokenizer

    programs = chosen([{"name": name, "program": name} for name in ("textgen", "SentencePiece")], options.only)
    text = read_text(options.text)
    if not text:
        raise CorpusError(f"{options.text} is empty: name a text.")
    what = {"megabytes": options.megabytes, "sha256": digest(text.encode())}
    with tempfile.TemporaryDirectory() as folder:
        corpus, vocabulary = Path(folder) / "text.txt", Path(folder) / "vocabulary.model"
        corpus.write_text(text * max(1, round(options.megabytes * 1e6 / len(text.encode()))), encoding="utf-8")
        vocabulary.write_bytes(train_tokenizer([text], TokenizerConfig()).serialized)
        places = {"text": str(corpus), "vocabulary": str(vocabulary)}
        contenders = [program | what for program in programs]
        results = interleave(__file__, contenders, options.rounds, options.json, places)
    ours = [r["megabytes_per_second"] for r in results if r["program"] == "textgen"]
    rows = [
        [
            r["program"], f"{r['megabytes_per_second']:.1f}",
            " ".join(f"{own / r['megabytes_per_second']:.2f}" for own in ours), f"{r['peak_memory'] / 1e9:.2f}",
        ]
        for r in results
    ]  # fmt: skip
    report("Encoding", ["program", "MB/s", "textgen is x times this", "GB"], rows)


if __name__ == "__main__":
    run_script(main)
