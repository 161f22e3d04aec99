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

LOOKS = """
import json, locale, logging, os, random, resource, signal, sys, threading, warnings
import numpy as np

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(2_500_000, np.float32) for _ in range(10)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def looks():
    seen = {
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
        "streams": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
        "python streams": [repr(sys.stdin), repr(sys.stdout), repr(sys.stderr)],
        "limits": [sys.getrecursionlimit(), sys.get_int_max_str_digits(), sys.getswitchinterval()],
        "hooks": [repr(sys.excepthook), repr(threading.excepthook), repr(sys.unraisablehook)],
        "path": sys.path[:],
        "memory is kept": [page_faults() for _ in range(2)][1] < 500,  # else about 5,000, 100 MB
        "umask": os.popen("umask").read(),
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
tf.random.set_seed(3)
tf.function(lambda: tf.ones(3), jit_compile=True)()
""",
}
CALLS = {
    "load": """
textgen.load("tiny", models_dir=models).generate("The", textgen.generation.config.SamplingConfig(seed=1, max_tokens=5))
""",
    "network": """
textgen.load("tiny", models).network()
""",
    "train": """
result = textgen.train(
    corpus, name="new", models_dir=models, tokenizer="byte", steps=3, batch_size=4, sequence_length=8,
    num_validations=1, embedding_dim=4, hidden_units=4, num_layers=1, documents="line", dropout=0.1)
result.generator.generate("The", textgen.generation.config.SamplingConfig(seed=1, max_tokens=5))
textgen.load("new", models_dir=models)
""",
}
IMPORTS = "import tensorflow, keras"
REPORTS = """
random.seed(11); np.random.seed(12); warnings.filterwarnings("ignore", message="mine")
signal.signal(signal.SIGTERM, lambda number, frame: None)
import textgen.settings
{before}
first = looks()
{call}
last = looks()
if "tensorflow" not in first:
    imported = last.pop("tensorflow", {{}})
differing = {{name: [first[name], last[name]] for name in first if first[name] != last[name]}}
print("REPORT" + json.dumps(differing))
"""


def differing(before: str, call: str, tiny_models: Path, tmp_path: Path) -> dict[str, list[Any]]:
    """What a process of its own finds changed after a call."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The cat sat on the mat.\n" * 60, encoding="utf-8")
    setup = f"models, corpus = {str(tiny_models)!r}, {str(corpus)!r}\n"
    program = LOOKS + setup + REPORTS.format(before=before, call=call)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("REPORT")]
    report: dict[str, list[Any]] = json.loads(line.removeprefix("REPORT"))
    return report


@pytest.mark.parametrize(("before", "call"), [("without TensorFlow", "load"), ("with XLA", "train")])
def test_a_call_leaves_the_process_as_it_was(before: str, call: str, tiny_models: Path, tmp_path: Path) -> None:
    models = shutil.copytree(tiny_models, tmp_path / "models")
    assert differing(BEFORE[before], CALLS[call], models, tmp_path) == {}


def test_the_first_use_of_tensorflow_leaves_what_its_import_leaves(tiny_models: Path, tmp_path: Path) -> None:
    """TensorFlow's own import sets variables and filters of warnings, and draws from `random`."""
    models = shutil.copytree(tiny_models, tmp_path / "models")
    imported = differing("", IMPORTS, models, tmp_path)
    assert differing("", CALLS["network"], models, tmp_path) == imported
