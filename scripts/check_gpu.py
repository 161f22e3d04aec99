"""What GPUs make of textgen: kernel path, tokens a second, share of the recurrence, each precision, one and all.

    python scripts/check_gpu.py

Runs on a CPU too, and says so. Please send what it prints along with a report about speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from textgen.machine import best_precision, machine
from textgen.runtime import configure_process, load_tensorflow

configure_process()
load_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from textgen.model.config import ModelConfig  # noqa: E402
from textgen.model.language_model import LanguageModel  # noqa: E402
from textgen.model.layers.lstm import kernel_path  # noqa: E402
from textgen.training.config import TrainingConfig  # noqa: E402
from textgen.training.distribution import Distribution  # noqa: E402
from textgen.training.train_step import TrainStep  # noqa: E402

CONFIG = ModelConfig(8000, embedding_dim=512, hidden_units=512, num_layers=2, dropout=0.2, embedding_dropout=0.1)
BATCH_SIZE, SEQUENCE_LENGTH, REPEATS = 64, 64, 10


def seconds(run: Callable[[], object]) -> float:
    """Median time of a call, after two that do not count."""
    times = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return sorted(times[2:])[REPEATS // 2]


def step_seconds(precision: str, distribution: Distribution) -> tuple[float, LanguageModel]:
    """Of an update with `BATCH_SIZE` rows for each replica, and the model."""
    rows = BATCH_SIZE * distribution.num_replicas
    with distribution.strategy.scope():
        model = LanguageModel(CONFIG, pad_id=0, precision=precision)
    config = TrainingConfig(batch_size=rows, sequence_length=SEQUENCE_LENGTH, steps=1)
    update = TrainStep(model, config, distribution)
    ids = np.random.default_rng(0).integers(1, 8000, (rows, SEQUENCE_LENGTH)).astype(np.int32)
    ids, state = distribution.split(ids), distribution.split(model.initial_state(rows))
    return seconds(lambda: update.apply(update.gradient(ids, ids, state, 0), 1e-3)), model


def check(precision: str) -> str:
    """A line about training on one device."""
    whole, model = step_seconds(precision, Distribution())
    state = model.initial_state(BATCH_SIZE)
    x = tf.zeros((BATCH_SIZE, SEQUENCE_LENGTH, 512), precision)

    @tf.function
    def recurrence() -> tf.Tensor:
        weights = [weight.value for weight in model.recurrent.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([x, *weights])
            outputs, _ = model.recurrent(x, state=state)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32))
        return tf.add_n([tf.reduce_sum(tf.cast(g, tf.float32)) for g in tape.gradient(loss, [x, *weights])])

    share = seconds(lambda: recurrence().numpy()) / whole
    speed = BATCH_SIZE * SEQUENCE_LENGTH / whole
    return f"{precision:<9} {speed:10,.0f} tokens/s, {100 * share:3.0f} % of the time in the recurrent layers"


def check_all(precision: str) -> str:
    """A line about training on all GPUs, each with as many rows as the one had."""
    distribution = Distribution(tf.distribute.MirroredStrategy())
    whole, _ = step_seconds(precision, distribution)
    speed = distribution.num_replicas * BATCH_SIZE * SEQUENCE_LENGTH / whole
    return f"{precision:<9} {speed:10,.0f} tokens/s on {distribution.num_replicas} replicas (MirroredStrategy)"


def main() -> None:
    """Prints the report."""
    print(f"TensorFlow {tf.__version__}, {machine()}")
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        print(f"{device.name}: {details.get('device_name')}, compute capability {details.get('compute_capability')}")
    if not tf.config.list_physical_devices("GPU"):
        print("TensorFlow sees no GPU here: this is the CPU.")
    print(f"LSTM by {kernel_path()}; --precision auto means {best_precision()}")
    for precision in ("float32", "bfloat16"):
        print(check(precision))
        print(check_all(precision))


if __name__ == "__main__":
    main()
