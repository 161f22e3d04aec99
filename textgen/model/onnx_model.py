"""The network for writing, run by ONNX Runtime: the extra `onnx`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from textgen.errors import ConfigError
from textgen.model.config import ModelConfig
from textgen.model.stepped_network import State, zero_state
from textgen.system.machine import num_cores
from textgen.versions import load, missing, require

LIBRARIES = ("onnx", "onnxruntime")
THREADS = 2  # cores for a product; more do not pay for networks of this kind
SPIN_MICROSECONDS = 150  # microseconds that a thread busy-waits for the next product
SPIN_VERSION = (1, 26)  # first version of ONNX Runtime in which this time can be set; its default is some milliseconds
CPU = "CPUExecutionProvider"
WARNINGS_OFF = 3  # ONNX Runtime's level of log messages


def is_installed() -> bool:
    """Whether the libraries of the extra `onnx` are there. They may lack a library of the system."""
    return not missing(LIBRARIES)


def require_onnx() -> None:
    """Raises `ConfigError` if a library of the extra is missing, or ONNX Runtime cannot be imported.

    The library onnx makes networks, and takes time to import: what has been made once does not need it.
    """
    if missing(LIBRARIES):
        require("ONNX Runtime", LIBRARIES, "onnx", ConfigError)
    load_onnxruntime()


def load_onnxruntime() -> Any:
    """Imports ONNX Runtime with its telemetry turned off. Raises `ConfigError` where that is impossible."""
    return load("onnxruntime", "ONNX Runtime", "onnx", ConfigError)


def session_options() -> Any:
    """The `onnxruntime.SessionOptions` of a network for writing.

    A step has a few short products. To wake a thread up for each takes about as long as the thread saves, so threads
    wait actively, but for a short time, so that they leave the cores to others when nothing is written.
    """
    onnxruntime = load_onnxruntime()
    spins = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= SPIN_VERSION
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(num_cores(), THREADS)
    options.inter_op_num_threads = 1
    options.log_severity_level = WARNINGS_OFF
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    if spins:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS))
    return options


class OnnxModel:
    """A network with the interface and the states of `textgen.model.numpy_model.NumpyModel`.

    Attributes:
        exact: False: its sums of float32 numbers may differ between machines.
        runtime: Its name in `textgen.generation.config.RUNTIMES`.
    """

    exact = False
    runtime = "onnx"

    def __init__(self, graph: bytes, config: ModelConfig) -> None:
        """Loads a graph.

        Args:
            graph: What `textgen.model.onnx_graph.step_graph` made, without an axis of time.
            config: Shape of the network.
        """
        onnxruntime = load_onnxruntime()
        self._config = config
        self._session = onnxruntime.InferenceSession(graph, session_options(), providers=[CPU])
        self._past = [each.name for each in self._session.get_inputs()][1:]
        self._outputs = [each.name for each in self._session.get_outputs()]
        self._present = self._outputs[1 : 1 + len(self._past)]
        self._without_logits = onnxruntime.RunOptions()
        self._without_logits.only_execute_path_to_fetches = True

    def initial_state(self, batch_size: int) -> State:
        """The state before the first token: zeros."""
        return zero_state(self._config, batch_size)

    def read(self, inputs: np.ndarray, state: State) -> State:
        """Reads token ids int32 [B, T] after a state, and returns the state after them."""
        for ids in inputs.T:
            state = self._after(self._run(ids, state, self._present, self._without_logits), state)
        return state

    def step(self, ids: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Reads one token of each text.

        Args:
            ids: Token ids int32 [B].
            state: State before them.

        Returns:
            The logits of the next tokens [B, V], and the state after `ids`.
        """
        logits, state, _ = self.step_with_more(ids, state)
        return logits, state

    def step_with_more(self, ids: np.ndarray, state: State) -> tuple[np.ndarray, State, list[np.ndarray]]:
        """Like `step`; also returns the further outputs that the graph has."""
        logits, *found = self._run(ids, state, self._outputs)
        return logits, self._after(found, state), found[len(self._present) :]

    def _run(self, ids: np.ndarray, state: State, outputs: list[str], options: Any = None) -> list[np.ndarray]:
        """Runs the graph for these outputs."""
        feed = dict(zip(self._past, chain.from_iterable(state), strict=True))
        feed["input_ids"] = ids.astype(np.int64)
        return self._session.run(outputs, feed, options)

    def _after(self, arrays: Sequence[np.ndarray], before: State) -> State:
        """Arranges the first of these arrays as a state."""
        left = iter(arrays)
        return tuple(tuple(islice(left, len(layer))) for layer in before)
