"""How the weights of a fresh network begin, where a run asks for other values than its layers choose.

Layers begin with an orthogonal recurrent kernel, which keeps the length of what it is multiplied with (Saxe, McClelland
& Ganguli 2014, arXiv:1312.6120), and with forget gates that are mostly open, so that at first the cell remembers (Gers,
Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever 2015). Other values show what that is good for.
"""

from __future__ import annotations

import keras
import numpy as np

from textgen.dataset.permutation import short_seed
from textgen.model.config import GATES
from textgen.model.language_model import LanguageModel
from textgen.training.config import TrainingConfig


def initialize(model: LanguageModel, config: TrainingConfig) -> None:
    """Changes the recurrent kernels and the biases of forget gates of a fresh network to what `config` asks for.

    A glorot kernel [H, gates * H] is drawn between -a and a, a = sqrt(6 / (H + gates * H)) (Glorot & Bengio 2010, as
    Keras has it). The forget gate is the second of the four of an LSTM, of a peephole LSTM and of a mogrifier LSTM;
    the cells with fewer gates have none.
    """
    weights = model.named_weights()
    for number, layer in enumerate(model.recurrent.layers):
        if config.recurrent_initializer == "glorot":
            kernel, draw = weights[f"{layer.name}/recurrent_kernel"], keras.initializers.GlorotUniform
            kernel.assign(draw(seed=short_seed(config.seed + number, 31))(kernel.shape))
        if GATES[model.config.cell] == 4:
            bias = weights[f"{layer.name}/bias"]
            i, _, g, o = np.split(bias.numpy(), 4)
            bias.assign(np.concatenate([i, np.full_like(i, config.forget_bias), g, o]))
