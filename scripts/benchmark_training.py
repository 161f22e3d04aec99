"""Training speed of textgen beside PyTorch and Keras: same data, batch, clipping and optimizer.

    pip install -e ".[benchmark]"
    python scripts/benchmark_training.py

Each contender runs whole training steps (forward, backward, clipping by global norm, AdamW, the loss read back) in
a process of its own, in turn. PyTorch runs at its best: time-first batches, fused AdamW, float32 and bfloat16
autocast, once as it comes and once with the allocator told to keep its memory, as textgen does by itself. Its network
is that of textgen: the output layer is tied to the embedding, and the state of a batch goes on in the next one. That of
Keras is the usual one: the output layer has weights of its own, and each batch begins with an empty state.

textgen also trains the word models with its sampled softmax, which computes less than the others: the logits of 1,024
tokens instead of those of all 8,000.

"Products" is how fast the same cores would be if they did nothing but a step's matrix products, at the speed of large
square ones in that precision: what no program can exceed.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarking import Result, arguments, chosen, interleave, peak_memory, report, require_torch, run_script

SEQUENCE_LENGTH = 64
CONFIGS = {
    "word, B=64": {"hidden_units": 512, "vocab_size": 8000, "batch_size": 64},
    "word, B=128": {"hidden_units": 512, "vocab_size": 8000, "batch_size": 128},
    "character, B=32": {"hidden_units": 256, "vocab_size": 65, "batch_size": 32},
}
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-3, 0.01, 0.5
SAMPLED = 1024  # number of tokens in the sampled softmax
SECONDS = 6.0  # duration of the measurement in each run
KERAS_BATCHES = 4  # batches in a call of `fit`
SQUARE = 2048  # rows and columns of the products that say what the machine can do


def contenders() -> list[Result]:
    """What runs against what."""
    runs = []
    for config, sizes in CONFIGS.items():
        for precision in ("float32", "bfloat16"):
            common = {"config": config, "precision": precision, **sizes}
            runs.append({"framework": "textgen", "allocator": "own", **common})
            if sizes["vocab_size"] > SAMPLED:
                runs.append({"framework": "textgen sampled", "allocator": "own", **common})
            runs.append({"framework": "torch", "allocator": "default", **common})
            runs.append({"framework": "torch", "allocator": "tuned", **common})
            runs.append({"framework": "products", "allocator": "own", **common})
        runs.append({"framework": "keras", "allocator": "default", "config": config, "precision": "float32", **sizes})
    for run in runs:
        run["name"] = f"{run['config']}: {run['framework']} {run['precision']} {run['allocator']}"
    return runs


def measure(step: Callable[[], float], tokens: float, least: int = 5) -> Result:
    """Median speed of a step that reads `tokens`, after some that do not count."""
    for _ in range(min(3, least)):
        step()
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until or len(times) < least:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return {"tokens_per_second": tokens / statistics.median(times), "peak_memory": peak_memory()}


def textgen_step(run: Result) -> Callable[[], float]:
    """A training step as `textgen train` takes it; returns the loss."""
    from textgen.system.runtime import configure_process, load_tensorflow

    configure_process()
    load_tensorflow()
    import numpy as np
    import tensorflow as tf

    from textgen.model.config import ModelConfig
    from textgen.model.language_model import LanguageModel
    from textgen.training.config import TrainingConfig
    from textgen.training.distributed.distribution import Distribution
    from textgen.training.train_step import TrainStep

    units, rows = run["hidden_units"], run["batch_size"]
    sizes = {"embedding_dim": units, "hidden_units": units, "num_layers": 2, "dropout": 0.0, "embedding_dropout": 0.0}
    model = LanguageModel(ModelConfig(run["vocab_size"], **sizes), pad_id=0, precision=run["precision"])
    sampled = SAMPLED if run["framework"] == "textgen sampled" else 0
    config = TrainingConfig(
        batch_size=rows, steps=1, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM, sampled_softmax=sampled
    )
    counts = 1e6 / np.arange(1, run["vocab_size"] + 1)  # as often as words in text (Zipf)
    update = TrainStep(model, config, Distribution(), counts)
    ids = np.random.default_rng(0).integers(1, run["vocab_size"], (2, rows, SEQUENCE_LENGTH)).astype(np.int32)
    inputs, targets = tf.constant(ids[0]), tf.constant(ids[1])
    state = model.initial_state(rows)

    def step() -> float:
        nonlocal state
        gradient = update.gradient(inputs, targets, state, 0)
        update.apply(gradient, LEARNING_RATE)
        state = gradient.state
        return gradient.nats

    return step


def torch_step(run: Result) -> Callable[[], float]:
    """The same by PyTorch."""
    import torch
    from torch import nn

    from textgen.system.machine import num_cores

    torch.set_num_threads(num_cores())
    units, rows, vocab = run["hidden_units"], run["batch_size"], run["vocab_size"]
    embedding, lstm, output = nn.Embedding(vocab, units), nn.LSTM(units, units, 2), nn.Linear(units, vocab)
    output.weight = embedding.weight
    parameters = list(nn.ModuleList([embedding, lstm, output]).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    inputs, targets = torch.randint(1, vocab, (2, SEQUENCE_LENGTH, rows))
    state: Any = None

    def step() -> float:
        nonlocal state
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=run["precision"] == "bfloat16"):
            features, after = lstm(embedding(inputs), state)
            loss = nn.functional.cross_entropy(output(features).view(-1, vocab), targets.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        state = tuple(tensor.detach() for tensor in after)
        return float(loss)

    return step


def keras_step(run: Result) -> Callable[[], float]:
    """keras.layers.LSTM under `fit`, as tutorials have it; some batches a call, so that `fit` itself costs little."""
    import keras
    import numpy as np

    units, rows, vocab = run["hidden_units"], run["batch_size"], run["vocab_size"]
    layers = [keras.layers.LSTM(units, return_sequences=True) for _ in range(2)]
    model = keras.Sequential([keras.layers.Embedding(vocab, units), *layers, keras.layers.Dense(vocab)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(LEARNING_RATE, WEIGHT_DECAY, global_clipnorm=CLIP_NORM), loss)
    ids = np.random.default_rng(0).integers(1, vocab, (2, KERAS_BATCHES * rows, SEQUENCE_LENGTH)).astype(np.int32)
    return lambda: model.fit(ids[0], ids[1], batch_size=rows, epochs=1, verbose=0).history["loss"][0]


def operations(run: Result) -> float:
    """Of the matrix products of a training step, for each token: forward, and twice as many backward."""
    units = run["hidden_units"]
    return 6.0 * (2 * 2 * units * 4 * units + units * run["vocab_size"])


def products_step(run: Result) -> Callable[[], float]:
    """A large square product on each core, all at once."""
    from textgen.system.machine import num_cores
    from textgen.system.runtime import configure_process, load_tensorflow

    configure_process()
    load_tensorflow()
    import tensorflow as tf

    matrices = [tf.cast(tf.random.normal((SQUARE, SQUARE)), run["precision"]) for _ in range(num_cores())]
    multiply = tf.function(lambda: [tf.matmul(matrix, matrix)[0, 0] for matrix in matrices])
    return lambda: float(multiply()[0])


def work(run: Result) -> Result:
    """Tokens a second and memory of one contender."""
    tokens = run["batch_size"] * SEQUENCE_LENGTH
    if run["framework"] == "products":
        from textgen.system.machine import num_cores

        return measure(products_step(run), num_cores() * 2 * SQUARE**3 / operations(run))
    if run["framework"] == "keras":
        return measure(keras_step(run), KERAS_BATCHES * tokens, least=3)
    return measure((torch_step if run["framework"] == "torch" else textgen_step)(run), tokens)


def main() -> None:
    """The parent starts a worker for each run; a worker prints what it measured."""
    parser = arguments((__doc__ or "").partition("\n")[0])
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(json.loads(options.worker))))
        return
    runs = chosen(contenders(), options.only)
    require_torch(runs)
    results = interleave(__file__, runs, options.rounds, options.json)
    best = {r["config"]: 0.0 for r in results}
    for r in results:
        if r["framework"] == "textgen":
            best[r["config"]] = max(best[r["config"]], r["tokens_per_second"])
    most = {(r["config"], r["precision"]): r["tokens_per_second"] for r in results if r["framework"] == "products"}
    rows = [
        [
            r["config"], r["framework"], r["precision"], r["allocator"], f"{r['tokens_per_second']:,.0f}",
            f"{best[r['config']] / r['tokens_per_second']:.2f}",
            f"{100 * r['tokens_per_second'] / most.get((r['config'], r['precision']), math.inf):.0f}",
            f"{r['peak_memory'] / 1e9:.2f}",
        ]
        for r in results
    ]  # fmt: skip
    header = ["network", "program", "precision", "allocator", "tokens/s", "textgen's best is x times this"]
    header += ["% of the products alone", "GB"]
    report("Training, whole steps", header, rows)


if __name__ == "__main__":
    run_script(main)
