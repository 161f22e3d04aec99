"""The tensors that a run goes on from, which a checkpoint keeps.

weights/    the weights
optimizer/  the variables of the optimizer
average/    averages of the weights, if the settings ask for them
start/      the weights that the run started from, if the settings need them
state/      the recurrent state of all rows
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from textgen.errors import TrainingError
from textgen.model.language_model import LanguageModel
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Distribution
from textgen.training.optimizers import Update
from textgen.training.weight_averaging import Averaging
from textgen.training.window_reader import WindowReader


class RunTensors:
    """The tensors of a run: those of its network, of its optimizer and of its averages, and its recurrent state.

    Attributes:
        state: State of the streams after the last window, on the replicas that read them.
        start_weights: Weights by name of the model that the run started from, if the settings need them after the first
            step; otherwise empty.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: TrainingConfig,
        reader: WindowReader,
        averaging: Averaging,
        *,
        update: Update,
        distribution: Distribution,
    ) -> None:
        """Collects the tensors of a network with its first weights.

        Args:
            model: The network.
            config: Settings of training.
            reader: Knows which rows of a batch this process reads.
            averaging: Average of the weights.
            update: The optimizer, and the weights towards which it decays.
            distribution: Devices and processes that train together.
        """
        self.start_weights = model.weights_as_arrays() if config.needs_start else {}
        self._model = model
        self._reader = reader
        self._update = update
        self._averaging = averaging
        self._distribution = distribution
        self.reset_state()

    def reset_state(self) -> None:
        """Sets the state to that of streams that have read nothing."""
        self.state = self._distribution.split(self._model.initial_state(self._reader.num_rows))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All tensors by name, with the state of all rows. All processes must call it together."""
        arrays = {f"weights/{name}": array for name, array in self._model.weights_as_arrays().items()}
        for index, variable in enumerate(self._update.optimizer.variables):
            arrays[f"optimizer/{index}"] = np.asarray(variable.numpy())
        arrays |= {f"average/{name}": array for name, array in self._averaging.tensors().items()}
        arrays |= {f"start/{name}": array for name, array in self.start_weights.items()}
        for index, array in enumerate(tf.nest.flatten(self._distribution.gather(self.state))):
            arrays[f"state/{index:03d}"] = array.numpy()
        return arrays

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restores what `to_arrays` returned. All processes must call it together.

        Raises:
            TrainingError: It does not fit the model or the batch size.
        """
        arrays = {_present_name(name): array for name, array in arrays.items()}
        expected = self.to_arrays()
        if {k: v.shape for k, v in arrays.items()} != {k: v.shape for k, v in expected.items()}:
            raise TrainingError("The checkpoint does not fit the model and batch size of this run: train again.")
        self._model.assign_weights(_section(arrays, "weights"))
        for index, variable in enumerate(self._update.optimizer.variables):
            variable.assign(arrays[f"optimizer/{index}"].reshape(variable.shape))
        self._averaging.restore(_section(arrays, "average"))
        self.start_weights = _section(arrays, "start")
        self._update.set_start(self.start_weights)
        flat = [array[self._reader.rows] for _, array in sorted(_section(arrays, "state").items())]
        self.state = self._distribution.split(tf.nest.pack_sequence_as(self.state, flat))

    def weights_are_finite(self) -> bool:
        """Whether all trainable weights are finite."""
        return all(np.isfinite(weight.numpy()).all() for weight in self._model.trainable_variables)


def _present_name(name: str) -> str:
    """The name of an array, which an older version may have put into the section `base`."""
    return f"start/{name.removeprefix('base/')}" if name.startswith("base/") else name


def _section(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `name/`, without this prefix."""
    return {key.split("/", 1)[1]: array for key, array in arrays.items() if key.startswith(f"{name}/")}
