"""Other initial weights than the defaults of the layers, for experiments.

By default a recurrent kernel is orthogonal (Saxe, McClelland & Ganguli 2014, arXiv:1312.6120). That of an RNN, [H, H],
keeps the norm of the vectors it multiplies; in that of other cells, [H, 4H] or [H, 3H], only the blocks of all gates
together do so. The bias of forget gates is 1, so that the cell remembers at first (Gers, Schmidhuber & Cummins 2000;
Jozefowicz, Zaremba & Sutskever 2015).
"""

from __future__ import annotations

import keras
import numpy as np

from textgen.dataset.permutation import short_seed
from textgen.model.config import WITH_FORGET_GATE
from textgen.model.language_model import LanguageModel
from textgen.training.config import TrainingConfig


def initialize(model: LanguageModel, config: TrainingConfig) -> None:
    """Initializes the recurrent kernels and the biases of the forget gates as the settings say.

    A glorot kernel [H, gates * H] is uniform between -a and a, with a = sqrt(6 / (H + gates * H)) (Glorot & Bengio
    2010). Its variance 2 / (H + gates * H) keeps the scale of h with one gate; with three gates, h U has 0.71 times its
    standard deviation, with four 0.63 times. The forget gate is the second of the four gates of an LSTM, a peephole
    LSTM and a mogrifier LSTM; other cells have none.

    Args:
        model: A new network, changed in place.
        config: `recurrent_initializer`, `forget_bias` and `seed`.
    """
    weights = model.named_weights()
    for number, layer in enumerate(model.recurrent.layers):
        if config.recurrent_initializer == "glorot":
            kernel, draw = weights[f"{layer.name}/recurrent_kernel"], keras.initializers.GlorotUniform
            kernel.assign(draw(seed=short_seed(config.seed + number, 31))(kernel.shape))
        if model.config.cell in WITH_FORGET_GATE:
            bias = weights[f"{layer.name}/bias"]
            i, _, g, o = np.split(bias.numpy(), 4)
            bias.assign(np.concatenate([i, np.full_like(i, config.forget_bias), g, o]))
