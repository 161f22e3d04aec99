"""What GPUs make of textgen: results, kernels, speed, each precision, one GPU and all.

    python scripts/check_gpu.py [--only SECTION]

Runs on a CPU too, and says so. Each section is a line or a few; one that is wrong says WRONG, and the exit code is 1.
Please send what it prints along with a report about GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from textgen.machine import best_precision, machine, measure_flops, misses_gpu
from textgen.runtime import configure_process, full_float32, has_xla, load_tensorflow

configure_process()
load_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from textgen.model import reference  # noqa: E402
from textgen.model.compiled_model import CompiledModel  # noqa: E402
from textgen.model.config import ModelConfig  # noqa: E402
from textgen.model.language_model import LanguageModel  # noqa: E402
from textgen.model.layers.cudnn import kernel_path  # noqa: E402
from textgen.model.numpy_model import NumpyModel  # noqa: E402
from textgen.training.config import TrainingConfig  # noqa: E402
from textgen.training.distributed.distribution import Distribution, communication_options  # noqa: E402
from textgen.training.train_step import TrainStep  # noqa: E402

CONFIG = ModelConfig(8000, embedding_dim=512, hidden_units=512, num_layers=2, dropout=0.2, embedding_dropout=0.1)
SMALL = ModelConfig(50, embedding_dim=24, hidden_units=32, num_layers=2, dropout=0.0, embedding_dropout=0.0)
SCALE = 0.15  # of its weights; above 0.18 a plain RNN of this width is chaotic, and rounding grows from step to step
BATCH_SIZE, SEQUENCE_LENGTH, REPEATS = 64, 64, 10
PRECISIONS = {"float32": 2e-3, "bfloat16": 0.08, "float16": 0.02}  # and the maximum error of gradients
STEPS = 100  # number of steps in the comparison of losses with a CPU
FURTHEST = {"float32": 0.01, "bfloat16": 0.05, "float16": 0.03}  # nats by which a loss may differ from a CPU's
CUDNN_KERNELS = (b"cudnn", b"RNN_block", b"LSTM_elementWise", b"GRU_elementWise", b"elemWiseRNNcell")
ROWS_WRITTEN = 64  # number of texts written side by side


def seconds(run: Callable[[], object]) -> float:
    """Median time of a call, after two that do not count."""
    times = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return sorted(times[2:])[REPEATS // 2]


def verdict(is_right: bool) -> str:
    """What a line ends with."""
    return "right" if is_right else "WRONG"


# === Devices ===


def devices() -> Iterator[str]:
    """Versions, cards, and what textgen found out about them."""
    yield f"TensorFlow {tf.__version__}, {machine()}"
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        grows = tf.config.experimental.get_memory_growth(gpu)
        yield (
            f"{gpu.name}: {details.get('device_name')}, compute capability {details.get('compute_capability')}; "
            f"memory grows: {verdict(grows)}"
        )
    if not gpus:
        yield f"TensorFlow sees no GPU here: this is the CPU{': WRONG' if misses_gpu() else '.'}"
    yield f"LSTM by {kernel_path()}; XLA {'works' if has_xla() else 'does not work, so TensorFlow does without'}"
    yield f"--precision auto means {best_precision()}"
    yield f"{measure_flops():.1e} operations per second in float32 products, from which a run is planned"
    yield f"processes on several machines add gradients by {communication_options().implementation.value}"


# === Results ===


def results() -> Iterator[str]:
    """Loss and gradients of a small network beside those of the NumPy reference, in each precision."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, SMALL.vocab_size, (4, 21)).astype(np.int32)
    for cell in ("lstm", "gru", "rnn"):
        config = ModelConfig(**{**vars(SMALL), "cell": cell})
        weights = {name: rng.normal(0, SCALE, shape) for name, shape in config.weight_shapes().items()}
        stack = reference.stack_of(config)
        state = reference.initial_state(weights, len(ids), stack)
        loss, gradients, _, _ = reference.loss_and_gradients(weights, ids[:, :-1], ids[:, 1:], state, stack=stack)
        for precision, tolerance in PRECISIONS.items():
            model = LanguageModel(config, pad_id=0, precision=precision)
            model.assign_weights({name: weight.astype(np.float32) for name, weight in weights.items()})
            step = TrainStep(model, TrainingConfig(batch_size=len(ids), sequence_length=20), Distribution())
            inputs, targets = tf.constant(ids[:, :-1]), tf.constant(ids[:, 1:])
            with full_float32():
                ours = step.gradient(inputs, targets, model.initial_state(len(ids)), 0)
            names = {id(weight): name for name, weight in model.named_weights().items()}
            pairs = [(ours.gradients[k].numpy(), gradients[names[id(w)]]) for k, w in enumerate(step.weights)]
            off = max(float(np.linalg.norm(mine - other) / np.linalg.norm(other)) for mine, other in pairs)
            is_right = off < tolerance and abs(ours.nats - loss) < tolerance
            yield (
                f"{cell:<5} {precision:<9} loss {ours.nats:.4f}, by the reference {loss:.4f}; gradients differ by "
                f"{100 * off:.2f} %: {verdict(is_right)}"
            )


def losses_of(precision: str) -> list[float]:
    """Losses of `STEPS` updates of a network of 2 x 64 units on a text that it can learn."""
    config = ModelConfig(50, embedding_dim=64, hidden_units=64, num_layers=2, dropout=0.1)
    model = LanguageModel(config, pad_id=0, seed=1, precision=precision)
    step = TrainStep(model, TrainingConfig(batch_size=8, sequence_length=32), Distribution())
    rng, state, losses = np.random.default_rng(0), model.initial_state(8), []
    text = np.cumsum(rng.integers(1, 4, (8, 32 * STEPS + 1)), axis=1) % 49 + 1
    for number in range(STEPS):
        window = text[:, 32 * number : 32 * number + 33].astype(np.int32)
        gradient = step.gradient(tf.constant(window[:, :-1]), tf.constant(window[:, 1:]), state, number)
        step.apply(gradient, 3e-3)
        state = gradient.state
        losses.append(gradient.nats)
    return losses


def losses() -> Iterator[str]:
    """Losses of a short training beside those of a process that sees no GPU."""
    code = f"import check_gpu, json; print(json.dumps({{p: check_gpu.losses_of(p) for p in {list(FURTHEST)!r}}}))"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, cwd=Path(__file__).parent, capture_output=True, text=True)
    if run.returncode:
        yield f"the training on the CPU failed: WRONG\n{run.stderr[-2000:]}"
        return
    on_cpu = json.loads(run.stdout.splitlines()[-1])
    for precision, most in FURTHEST.items():
        with full_float32():
            here = losses_of(precision)
        off = float(np.abs(np.subtract(here, on_cpu[precision])).max())
        yield (
            f"{precision:<9} losses of {STEPS} steps from {here[0]:.3f} to {here[-1]:.3f} nats, at most {off:.4f} from "
            f"those of a CPU: {verdict(off < most and here[-1] < here[0])}"
        )


# === Kernels and speed ===


def kernels() -> Iterator[str]:
    """Which kernels of cuDNN TensorFlow's profiler saw in a step."""
    update = update_of("bfloat16", Distribution())
    update()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        update()
        tf.profiler.experimental.stop()
        trace = b"".join(path.read_bytes() for path in Path(folder).rglob("*.pb"))
    trace = trace.lower().replace(b"cudnnrnn", b"")  # TensorFlow's operation, which the profile also names
    seen = [name.decode() for name in CUDNN_KERNELS if name.lower() in trace]
    is_right = bool(seen) or not tf.config.list_physical_devices("GPU")
    yield f"kernels of cuDNN in a profile: {', '.join(seen) or 'none'}: {verdict(is_right)}"


def update_of(precision: str, distribution: Distribution) -> Callable[[], None]:
    """A function that makes an update with `BATCH_SIZE` rows for each replica."""
    rows = BATCH_SIZE * distribution.num_replicas
    with distribution.strategy.scope():
        model = LanguageModel(CONFIG, pad_id=0, precision=precision)
    step = TrainStep(model, TrainingConfig(batch_size=rows, sequence_length=SEQUENCE_LENGTH, steps=1), distribution)
    ids = np.random.default_rng(0).integers(1, 8000, (rows, SEQUENCE_LENGTH)).astype(np.int32)
    ids, state = distribution.split(ids), distribution.split(model.initial_state(rows))
    return lambda: step.apply(step.gradient(ids, ids, state, 0), 1e-3)


def speed() -> Iterator[str]:
    """Tokens a second on one device, in each precision, and the share of the recurrent layers."""
    for precision in PRECISIONS:
        whole = seconds(update_of(precision, Distribution()))
        share = seconds(recurrence_of(precision)) / whole
        each = BATCH_SIZE * SEQUENCE_LENGTH / whole
        yield f"{precision:<9} {each:10,.0f} tokens/s, {100 * share:3.0f} % of the time in the recurrent layers"


def recurrence_of(precision: str) -> Callable[[], object]:
    """The recurrent layers of a step alone, forward and backward."""
    model = LanguageModel(CONFIG, pad_id=0, precision=precision)
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

    return lambda: recurrence().numpy()


def all_devices() -> Iterator[str]:
    """Tokens a second on all GPUs, each with as many rows as the one had."""
    distribution = Distribution(tf.distribute.MirroredStrategy())
    for precision in ("float32", "bfloat16"):
        whole = seconds(update_of(precision, distribution))
        each = distribution.num_replicas * BATCH_SIZE * SEQUENCE_LENGTH / whole
        yield f"{precision:<9} {each:10,.0f} tokens/s on {distribution.num_replicas} replicas (MirroredStrategy)"


def pytorch() -> Iterator[str]:
    """Tokens a second of PyTorch's LSTM, which is cuDNN's on a GPU, with the same sizes and AdamW."""
    try:
        import torch
    except ImportError:
        yield "PyTorch is not installed here: `pip install torch` to compare with it."
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table = torch.nn.Embedding(8000, 512).to(device)
    layers = torch.nn.LSTM(512, 512, 2, batch_first=True, dropout=0.2).to(device)
    weights = [*table.parameters(), *layers.parameters()]
    optimizer = torch.optim.AdamW(weights, 1e-3)
    ids = torch.randint(1, 8000, (BATCH_SIZE, SEQUENCE_LENGTH), device=device)
    for precision in ("float32", "bfloat16"):

        def step(is_low: bool = precision != "float32") -> float:
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=is_low):
                logits = layers(table(ids))[0] @ table.weight.T
                loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids.flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 0.5)
            optimizer.step()
            return loss.item()

        each = BATCH_SIZE * SEQUENCE_LENGTH / seconds(step)
        yield f"{precision:<9} {each:10,.0f} tokens/s by PyTorch {torch.__version__} on {device}"


def writing() -> Iterator[str]:
    """Tokens a second when writing, by TensorFlow on this device and by NumPy, and whether both say the same."""
    model = LanguageModel(CONFIG, pad_id=0, seed=1)
    ids = np.arange(1, ROWS_WRITTEN + 1, dtype=np.int32)
    logits = []
    for name, writer in (
        ("TensorFlow", CompiledModel(model)),
        ("NumPy", NumpyModel(CONFIG, model.weights_as_arrays())),
    ):
        state = writer.initial_state(ROWS_WRITTEN)
        logits.append(np.asarray(writer.step(ids, state)[0]))
        each = ROWS_WRITTEN / seconds(partial(writer.step, ids, state))
        yield f"{name:<10} writes {each:10,.0f} tokens/s, {ROWS_WRITTEN} texts side by side"
    off = float(np.abs(logits[0] - logits[1]).max())
    yield f"logits differ by at most {off:.1e}: {verdict(off < 1e-2)}"


SECTIONS: dict[str, Callable[[], Iterator[str]]] = {
    each.__name__: each for each in (devices, results, losses, kernels, speed, all_devices, pytorch, writing)
}


def main() -> int:
    """Prints the report. Returns 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=SECTIONS, action="append", metavar="SECTION", help=", ".join(SECTIONS))
    is_wrong = False
    for name in parser.parse_args().only or SECTIONS:
        print(f"# {name}", flush=True)
        for line in SECTIONS[name]():
            print(line, flush=True)
            is_wrong = is_wrong or "WRONG" in line
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
