"""What GPUs make of textgen: results, kernels, speed, each precision, one GPU and all.

    python scripts/check_gpu.py [--only SECTION]

Runs on a CPU too, and says so. Each section is a line or a few; one that is wrong says WRONG, and the exit code is 1.
An error is wrong, too, and the other sections and cases go on. Please send what it prints along with a report about
GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarking import run_script

from textgen.system.machine import best_precision, gpus, machine, measure_flops, misses_gpu
from textgen.system.runtime import configure_process, full_float32, has_xla, load_tensorflow

configure_process()
load_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from textgen.model import reference  # noqa: E402
from textgen.model.compiled_model import CompiledModel  # noqa: E402
from textgen.model.config import ModelConfig  # noqa: E402
from textgen.model.language_model import LanguageModel  # noqa: E402
from textgen.model.layers.cudnn import backend, packed  # noqa: E402
from textgen.model.numpy_model import NumpyModel  # noqa: E402
from textgen.training.config import TrainingConfig  # noqa: E402
from textgen.training.distributed.distribution import Distribution  # noqa: E402
from textgen.training.distributed.joining import communication_options  # noqa: E402
from textgen.training.train_step import Gradient, TrainStep  # noqa: E402

CONFIG = ModelConfig(8000, embedding_dim=512, hidden_units=512, num_layers=2, dropout=0.2, embedding_dropout=0.1)
SMALL = ModelConfig(50, embedding_dim=24, hidden_units=32, num_layers=2, dropout=0.0, embedding_dropout=0.0)
SCALE = 0.15  # of its weights; above 0.18 a plain RNN of this width is chaotic, and rounding grows from step to step
BATCH_SIZE, SEQUENCE_LENGTH, REPEATS = 64, 64, 10
PRECISIONS = {"float32": 2e-3, "bfloat16": 0.08, "float16": 0.02}  # and the maximum error of gradients
STEPS = 100  # number of steps in the comparison of losses with a CPU
CASES = {  # of that comparison: precision, weight drop, and the nats by which a loss may differ
    "float32": ("float32", 0.0, 0.01),
    "bfloat16": ("bfloat16", 0.0, 0.05),
    "float16": ("float16", 0.0, 0.03),
    "weight drop": ("float32", 0.3, 0.01),
}
CPU_SECONDS = 240  # for which the training on a CPU may take
CUDNN_SIZES = ((24, 32), (23, 33))  # inputs and units of the layers whose weights are packed for cuDNN
CUDNN_KERNELS = (b"cudnn", b"RNN_block", b"LSTM_elementWise", b"GRU_elementWise", b"elemWiseRNNcell")
ROWS_WRITTEN = 64  # number of texts written side by side
TOKENS_READ = 20  # number of tokens of each text that are read first


def seconds(run: Callable[[], object]) -> float:
    """Median time of a call, after two that do not count."""
    times = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def verdict(is_right: bool) -> str:
    """What a line ends with."""
    return "right" if is_right else "WRONG"


def failure(error: Exception) -> str:
    """The kind of an error and the last line of its message."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[-1]}: WRONG"


def tried(name: str, case: Callable[[], str]) -> str:
    """The line of a case, which begins with its name; an error is a line too, so that the other cases go on."""
    try:
        return f"{name} {case()}"
    except Exception as error:  # noqa: BLE001 - whatever a GPU makes of it
        return f"{name} {failure(error)}"


def farthest(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The largest relative distance of an array from the one that it should be; not a number if any array has one."""
    return float(np.max([np.linalg.norm(mine - other) / np.linalg.norm(other) for mine, other in pairs]))


# === Devices ===


def devices() -> Iterator[str]:
    """Versions, cards, and what textgen found out about them."""
    yield f"TensorFlow {tf.__version__}, {machine()}"
    for gpu in gpus():
        details = tf.config.experimental.get_device_details(gpu)
        grows = tf.config.experimental.get_memory_growth(gpu)
        yield (
            f"{gpu.name}: {details.get('device_name')}, compute capability {details.get('compute_capability')}; "
            f"memory grows: {verdict(grows)}"
        )
    if not gpus():
        yield f"TensorFlow sees no GPU here: this is the CPU{': WRONG' if misses_gpu() else '.'}"
    yield f"LSTM by {backend()}: {verdict(backend() == 'cuDNN' or not gpus())}"
    yield f"XLA {'works' if has_xla() else 'does not work, so TensorFlow does without'}"
    yield f"--precision auto means {best_precision()}"
    yield f"{measure_flops():.1e} operations per second in float32 products, from which a run is planned"
    yield f"processes on several machines add gradients by {communication_options().implementation.value}"


# === Results ===


def packing() -> Iterator[str]:
    """Number of weights that cuDNN wants for a layer beside the number that it is given."""
    if not gpus():
        yield "no GPU, so there is no cuDNN to ask"
        return
    for cell, gates in (("lstm", 4), ("gru", 3)):
        for inputs, units in CUDNN_SIZES:
            for dtype in (tf.float32, tf.float16):
                name = f"{cell:<5} {dtype.name:<9} {inputs} inputs, {units} units:"
                yield tried(name, partial(packed_length, cell, gates, inputs, units, dtype))


def packed_length(cell: str, gates: int, inputs: int, units: int, dtype: tf.DType) -> str:
    """The weights that cuDNN wants for a layer, and those that it is given."""
    wanted = tf.raw_ops.CudnnRNNParamsSize(
        num_layers=1, num_units=units, input_size=inputs, T=dtype, S=tf.int32, rnn_mode=cell
    )
    shapes = (inputs, gates * units), (units, gates * units), (gates * units,), (gates * units,)
    given = len(packed(cell, [tf.zeros(shape) for shape in shapes], dtype))
    number = int(np.asarray(wanted).reshape(-1)[0])
    return f"{given:,} weights, cuDNN wants {number:,}: {verdict(given == number)}"


def results() -> Iterator[str]:
    """Loss, gradients and state of a small network beside those of the NumPy reference, in each precision."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, SMALL.vocab_size, (4, 21)).astype(np.int32)
    for cell in ("lstm", "gru", "rnn"):
        config = ModelConfig(**{**vars(SMALL), "cell": cell})
        weights = {name: rng.normal(0, SCALE, shape) for name, shape in config.weight_shapes().items()}
        for precision in PRECISIONS:
            yield tried(f"{cell:<5} {precision:<9}", partial(compared, config, precision, weights, ids))


def compared(config: ModelConfig, precision: str, weights: dict[str, np.ndarray], ids: np.ndarray) -> str:
    """A window of a network beside the same one of the NumPy reference."""
    stack, tolerance = reference.stack_of(config), PRECISIONS[precision]
    before = reference.initial_state(weights, len(ids), stack)
    loss, gradients, after, _ = reference.loss_and_gradients(weights, ids[:, :-1], ids[:, 1:], before, stack=stack)
    model = LanguageModel(config, pad_id=0, precision=precision)
    model.assign_weights({name: weight.astype(np.float32) for name, weight in weights.items()})
    step = TrainStep(model, TrainingConfig(batch_size=len(ids), sequence_length=20), Distribution())
    with full_float32():
        ours = step.gradient(tf.constant(ids[:, :-1]), tf.constant(ids[:, 1:]), model.initial_state(len(ids)), 0)
    names = {id(weight): name for name, weight in model.named_weights().items()}
    off = farthest([(ours.gradients[k].numpy(), gradients[names[id(w)]]) for k, w in enumerate(step.weights)])
    states = zip(tf.nest.flatten(ours.state), tf.nest.flatten(after), strict=True)
    state_off = farthest([(mine.numpy(), other) for mine, other in states])
    is_right = off < tolerance and state_off < tolerance and abs(ours.nats - loss) < tolerance
    return (
        f"loss {ours.nats:.4f}, by the reference {loss:.4f}; gradients differ by {100 * off:.2f} %, the state by "
        f"{100 * state_off:.2f} %: {verdict(is_right)}"
    )


class ShortTraining:
    """A training of 2 x 64 units on a text that they can learn, as a run makes its steps: on a GPU, ahead of losses."""

    def __init__(self, case: str) -> None:
        precision, weight_drop, _ = CASES[case]
        config = ModelConfig(50, embedding_dim=64, hidden_units=64, num_layers=2, dropout=0.1, weight_drop=weight_drop)
        self.model = LanguageModel(config, pad_id=0, seed=1, precision=precision)
        self.step = TrainStep(self.model, TrainingConfig(batch_size=8, sequence_length=32), Distribution())
        self.state = self.model.initial_state(8)
        steps = np.random.default_rng(0).integers(1, 4, (8, 32 * STEPS + 1))
        self.text = (np.cumsum(steps, axis=1) % 49 + 1).astype(np.int32)

    def losses(self, first: int, last: int) -> list[float]:
        """Losses of the steps from `first` to before `last`."""
        gradients = []
        for number in range(first, last):
            window = self.text[:, 32 * number : 32 * number + 33]
            gradient = self.step.gradient(tf.constant(window[:, :-1]), tf.constant(window[:, 1:]), self.state, number)
            self.state = updated(self.step, gradient, self.state, 3e-3)
            gradients.append(replace(gradient, gradients=None, state=None))
        return [gradient.nats for gradient in gradients]

    def saved(self) -> list[np.ndarray]:
        """All that a training goes on from."""
        variables = [variable.numpy() for variable in self.step.update.variables]
        return [*variables, *(array.numpy() for array in tf.nest.flatten(self.state))]

    def restore(self, saved: list[np.ndarray]) -> None:
        """Goes on from there."""
        variables = self.step.update.variables
        for variable, array in zip(variables, saved[: len(variables)], strict=True):
            variable.assign(array)
        state = [tf.constant(array) for array in saved[len(variables) :]]
        self.state = tf.nest.pack_sequence_as(self.state, state)


def updated(step: TrainStep, gradient: Gradient, state: Any, rate: float) -> Any:
    """Updates the weights as a run does. Returns the state after the window."""
    if step.can_run_ahead:
        return step.apply_unread(gradient, state, rate)
    step.apply(gradient, rate)
    return gradient.state


def losses_of(case: str) -> list[float]:
    """Losses of `STEPS` updates."""
    return ShortTraining(case).losses(0, STEPS)


def losses() -> Iterator[str]:
    """Losses of a short training beside those of a process that sees no GPU."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parent)!r}); import check_gpu, json; "
        f"print(json.dumps({{case: check_gpu.losses_of(case) for case in {list(CASES)!r}}}))"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", code]
    try:
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=CPU_SECONDS)
    except subprocess.TimeoutExpired:
        yield f"the training on the CPU took longer than {CPU_SECONDS} seconds: WRONG"
        return
    if run.returncode:
        yield f"the training on the CPU failed: WRONG\n{run.stderr[-2000:]}"
        return
    on_cpu = json.loads(run.stdout.splitlines()[-1])
    for case in CASES:
        yield tried(f"{case:<11}", partial(beside_cpu, case, on_cpu[case]))


def beside_cpu(case: str, on_cpu: list[float]) -> str:
    """The losses of a short training here, beside those of a CPU."""
    with full_float32():
        here = losses_of(case)
    off = float(np.abs(np.subtract(here, on_cpu)).max())
    return (
        f"losses of {STEPS} steps from {here[0]:.3f} to {here[-1]:.3f} nats, at most {off:.4f} from those of a CPU: "
        f"{verdict(off < CASES[case][2] and here[-1] < here[0])}"
    )


def resumption() -> Iterator[str]:
    """Losses after saving and restoring beside those of the same training without a break."""
    with full_float32():
        whole, resumed = ShortTraining("float32"), ShortTraining("float32")
        whole.losses(0, 10)
        saved = whole.saved()
        resumed.restore(saved)
        off = float(np.abs(np.subtract(resumed.losses(10, 20), whole.losses(10, 20))).max())
    yield f"losses of 10 steps after a save differ by at most {off:.1e}: {verdict(off < 1e-4)}"


# === Kernels and speed ===


def kernels() -> Iterator[str]:
    """Which kernels of cuDNN TensorFlow's profiler saw in a step."""
    update = update_of("float16", Distribution())
    update()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        update()
        tf.profiler.experimental.stop()
        trace = b"".join(path.read_bytes() for path in Path(folder).rglob("*.pb"))
    trace = trace.lower().replace(b"cudnnrnn", b"")  # TensorFlow's operation, which the profile also names
    seen = [name.decode() for name in CUDNN_KERNELS if name.lower() in trace]
    is_right = bool(seen) or not gpus()
    yield f"kernels of cuDNN in a profile: {', '.join(seen) or 'none'}: {verdict(is_right)}"


def update_of(precision: str, distribution: Distribution) -> Callable[[], None]:
    """A function that makes an update with `BATCH_SIZE` rows for each replica, and waits for it or the one before."""
    rows = BATCH_SIZE * distribution.num_replicas
    with distribution.strategy.scope():
        model = LanguageModel(CONFIG, pad_id=0, precision=precision)
    step = TrainStep(model, TrainingConfig(batch_size=rows, sequence_length=SEQUENCE_LENGTH, steps=1), distribution)
    ids = np.random.default_rng(0).integers(1, 8000, (rows, SEQUENCE_LENGTH)).astype(np.int32)
    ids, state = distribution.split(ids), distribution.split(model.initial_state(rows))
    waiting = deque[Gradient]()

    def update() -> None:
        gradient = step.gradient(ids, ids, state, 0)
        updated(step, gradient, state, 1e-3)
        waiting.append(replace(gradient, gradients=None, state=None))
        while len(waiting) > int(step.can_run_ahead):
            waiting.popleft().nats  # noqa: B018 - waits for the device

    return update


def speed() -> Iterator[str]:
    """Tokens a second on one device, in each precision, and the share of the recurrent layers."""
    for precision in PRECISIONS:
        yield tried(f"{precision:<9}", partial(speed_of, precision))


def speed_of(precision: str) -> str:
    """Tokens a second in a precision, and the share of the recurrent layers."""
    whole = seconds(update_of(precision, Distribution()))
    share = seconds(recurrence_of(precision)) / whole
    each = BATCH_SIZE * SEQUENCE_LENGTH / whole
    return f"{each:10,.0f} tokens/s, {100 * share:3.0f} % of the time in the recurrent layers"


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
    for precision in PRECISIONS:
        yield tried(f"{precision:<9}", partial(speed_together, precision, distribution))


def speed_together(precision: str, distribution: Distribution) -> str:
    """Tokens a second in a precision on all replicas."""
    whole = seconds(update_of(precision, distribution))
    each = distribution.num_replicas * BATCH_SIZE * SEQUENCE_LENGTH / whole
    return f"{each:10,.0f} tokens/s on {distribution.num_replicas} replicas (MirroredStrategy)"


def pytorch() -> Iterator[str]:
    """Tokens a second of PyTorch's LSTM, which is cuDNN's on a GPU, with the same sizes and AdamW.

    On a GPU it multiplies float32 in TF32 and reads the loss a step late, as textgen does.
    """
    try:
        import torch
    except ImportError:
        yield "PyTorch is not installed here: `pip install torch` to compare with it."
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    on_gpu = device == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    table = torch.nn.Embedding(8000, 512).to(device)
    layers = torch.nn.LSTM(512, 512, 2, batch_first=True, dropout=0.2).to(device)
    weights = [*table.parameters(), *layers.parameters()]
    optimizer = torch.optim.AdamW(weights, 1e-3, fused=on_gpu)
    ids = torch.randint(1, 8000, (BATCH_SIZE, SEQUENCE_LENGTH), device=device)
    waiting = deque[Any]()  # losses that were not read
    for precision in ("float32", "bfloat16"):

        def step(is_low: bool = precision != "float32") -> None:
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=is_low):
                logits = layers(table(ids))[0] @ table.weight.T
                loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids.flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 0.5)
            optimizer.step()
            waiting.append(loss.detach())
            while len(waiting) > int(on_gpu):
                waiting.popleft().item()  # waits for the device

        each = BATCH_SIZE * SEQUENCE_LENGTH / seconds(step)
        less = "without dropout on the embedding, a bias of the output layer and a check of the gradients"
        yield f"{precision:<9} {each:10,.0f} tokens/s by PyTorch {torch.__version__} on {device}, {less}"


def writing() -> Iterator[str]:
    """Tokens a second when writing, by TensorFlow on this device and by NumPy, and whether both say the same."""
    model = LanguageModel(CONFIG, pad_id=0, seed=1)
    ids = np.arange(1, ROWS_WRITTEN + 1, dtype=np.int32)
    before = np.random.default_rng(0).integers(1, CONFIG.vocab_size, (ROWS_WRITTEN, TOKENS_READ)).astype(np.int32)
    logits = []
    for name, writer in (
        ("TensorFlow", CompiledModel(model)),
        ("NumPy", NumpyModel(CONFIG, model.weights_as_arrays())),
    ):
        with full_float32():
            state = writer.read(before, writer.initial_state(ROWS_WRITTEN))
            logits.append(np.asarray(writer.step(ids, state)[0]))
        each = ROWS_WRITTEN / seconds(partial(writer.step, ids, state))
        yield f"{name:<10} writes {each:10,.0f} tokens/s, {ROWS_WRITTEN} texts side by side"
    off = float(np.abs(logits[0] - logits[1]).max())
    yield f"logits differ by at most {off:.1e}: {verdict(off < 1e-2)}"


SECTIONS: dict[str, Callable[[], Iterator[str]]] = {
    each.__name__: each
    for each in (devices, packing, results, losses, resumption, kernels, speed, all_devices, writing, pytorch)
}  # PyTorch last, since it brings another copy of CUDA's libraries


def lines_of(section: Callable[[], Iterator[str]]) -> Iterator[str]:
    """The lines of a section; an error is the last of them, and the other sections go on."""
    try:
        yield from section()
    except Exception as error:  # noqa: BLE001 - whatever a GPU makes of it
        yield failure(error)


def main() -> int:
    """Prints the report. Returns 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    tf.get_logger().setLevel("ERROR")  # each network is compiled anew, of which TensorFlow warns
    parser.add_argument("--only", choices=SECTIONS, action="append", metavar="SECTION", help=", ".join(SECTIONS))
    is_wrong = False
    for name in parser.parse_args().only or SECTIONS:
        print(f"# {name}", flush=True)
        for line in lines_of(SECTIONS[name]):
            print(line, flush=True)
            is_wrong = is_wrong or "WRONG" in line
    return int(is_wrong)


if __name__ == "__main__":
    run_script(main)
