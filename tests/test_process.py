"""A call of the library leaves the process as it was: each of these programs looks at itself before and after."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich_files import pdf

LOOKS = """
import csv, gc, json, locale, logging, os, random, resource, signal, sys, threading, warnings
from pathlib import Path
import numpy as np

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(2_500_000, np.float32) for _ in range(10)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def open_files():
    numbers = map(int, os.listdir("/proc/self/fd"))
    return [f"{number} {os.readlink(f'/proc/self/fd/{number}')}" for number in numbers if is_open(number)]

def is_open(number):
    try:
        os.fstat(number)
    except OSError:  # it was that of the list
        return False
    return True

def looks():
    gc.collect()
    seen = {
        "open files": open_files(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "random": repr(random.getstate()),
        "numpy": repr(np.random.get_state(legacy=False)),
        "numpy errors": repr(np.geterr()),
        "signals": {number.name: repr(signal.getsignal(number)) for number in signal.valid_signals()
                    if isinstance(number, signal.Signals)},
        "alarm": signal.getitimer(signal.ITIMER_REAL),
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": repr(warnings.filters),
        "logging": [repr(logging.root.handlers), logging.root.level, logging.root.manager.disable],
        "loggers": [logging.getLogger(name).level for name in ("textgen", "pypdf")],
        "fields of tables": csv.field_size_limit(),
        "streams": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
        "python streams": [repr(sys.stdin), repr(sys.stdout), repr(sys.stderr)],
        "limits": [sys.getrecursionlimit(), sys.get_int_max_str_digits(), sys.getswitchinterval()],
        "hooks": [repr(sys.excepthook), repr(threading.excepthook), repr(sys.unraisablehook)],
        "path": sys.path[:],
        "memory is kept": [page_faults() for _ in range(2)][1] < 500,  # else about 5,000, 100 MB
        "umask": Path("/proc/self/status").read_text().split("Umask:")[1].split()[0],
    }
    if "tensorflow" in sys.modules:
        import keras, tensorflow as tf
        from tensorflow.python.eager import context
        threads = tf.config.threading
        seen["tensorflow"] = {
            "threads": [threads.get_inter_op_parallelism_threads(), threads.get_intra_op_parallelism_threads()],
            "seed": context.global_seed(),
            "devices": [device.name for device in tf.config.list_logical_devices()],
            "verbosity": tf.get_logger().level,
            "handlers": repr(tf.get_logger().handlers),
            "eagerly": tf.config.functions_run_eagerly(),
            "jit": tf.config.optimizer.get_jit(),
            "options": repr(tf.config.optimizer.get_experimental_options()),
            "strategy": tf.distribute.has_strategy(),
            "keras": [keras.config.floatx(), keras.config.epsilon(), keras.config.dtype_policy().name,
                      keras.config.image_data_format(), keras.config.is_traceback_filtering_enabled()],
            "drawn": float(tf.random.Generator.from_seed(1).uniform(())),
        }
    return json.loads(json.dumps(seen))
"""
BEFORE = {
    "without TensorFlow": "",
    "with XLA": """
import keras, tensorflow as tf
imported = looks()
tf.random.set_seed(3)
tf.function(lambda: tf.ones(3), jit_compile=True)()
""",
}
CALLS = {
    "load": """
textgen.load("tiny", models_dir=models).generate("The", textgen.generation.config.SamplingConfig(seed=1, max_tokens=5))
""",
    "network": """
textgen.load("tiny", models_dir=models).network()
""",
    "train and evaluate": """
result = textgen.train(
    corpus, name="new", models_dir=models, tokenizer="byte", steps=3, batch_size=4, sequence_length=8,
    num_validations=1, embedding_dim=4, hidden_units=4, num_layers=1, documents="line", dropout=0.1)
result.generator.generate("The", textgen.generation.config.SamplingConfig(seed=1, max_tokens=5))
textgen.load("new", models_dir=models)
for name in ("corpus.txt", "table.csv", "page.pdf"):
    textgen.evaluate("tiny", os.path.join(os.path.dirname(corpus), name), models_dir=models, documents="file")
""",
}
REPORTS = """
random.seed(11); np.random.seed(12); warnings.filterwarnings("ignore", message="mine")
signal.signal(signal.SIGTERM, lambda number, frame: None)
import textgen.settings
start = imported = looks()
{before}
first = looks()
{call}
last = looks()

def differing(first, last):
    keys = [key for key in first if first[key] != last.get(key)] + [key for key in last if key not in first]
    return {{key: [first.get(key), last.get(key)] for key in keys}}

def changes(first, last):
    found = differing(first, {{name: last[name] for name in first}})
    return {{name: differing(*both) if isinstance(both[0], dict) else both for name, both in found.items()}}

print("REPORT" + json.dumps([changes(start, imported), changes(first, last)]))
"""
Changes = dict[str, Any]  # what was seen first and last, where they differ


def differing(before: str, call: str, models: Path, folder: Path) -> tuple[Changes, Changes]:
    """What a process of its own finds changed by importing TensorFlow before a call, and by the call."""
    folder.mkdir()
    corpus = folder / "corpus.txt"
    corpus.write_text("The cat sat on the mat.\n" * 60, encoding="utf-8")
    (folder / "table.csv").write_text("text\nThe cat sat.\n", encoding="utf-8")
    pdf(folder / "page.pdf", [["The cat sat."]])
    models = shutil.copytree(models, folder / "models")
    setup = f"models, corpus = {str(models)!r}, {str(corpus)!r}\n"
    program = LOOKS + setup + REPORTS.format(before=before, call=call)
    own = {f"TEXTGEN_{name}": str(folder / name.lower()) for name in ("CACHE", "MODELS", "BASES")}
    others = {name: value for name, value in os.environ.items() if not name.startswith(("TF", "XLA_", "TEXTGEN_"))}
    done = subprocess.run(
        [sys.executable, "-c", program], env=others | own, capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("REPORT")]
    by_import, by_call = json.loads(line.removeprefix("REPORT"))
    return by_import, by_call


@pytest.fixture(scope="module")
def by_import_and_training(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Changes, Changes]:
    """What TensorFlow's import changes, and what a training and an evaluation then do."""
    folder = tmp_path_factory.mktemp("process") / "train"
    return differing(BEFORE["with XLA"], CALLS["train and evaluate"], tiny_models, folder)


def test_writing_leaves_the_process_as_it_was(tiny_models: Path, tmp_path: Path) -> None:
    assert differing(BEFORE["without TensorFlow"], CALLS["load"], tiny_models, tmp_path / "load")[1] == {}


def test_training_and_evaluating_leave_the_process_as_it_was(by_import_and_training: tuple[Changes, Changes]) -> None:
    assert by_import_and_training[1] == {}


@pytest.mark.slow
def test_the_first_use_of_tensorflow_leaves_what_its_import_leaves(
    by_import_and_training: tuple[Changes, Changes], tiny_models: Path, tmp_path: Path
) -> None:
    """TensorFlow's own import sets variables and filters of warnings, and draws from `random`."""
    imported, _ = by_import_and_training
    assert "environment" in imported
    assert differing("", CALLS["network"], tiny_models, tmp_path / "network")[1] == imported
