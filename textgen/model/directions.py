"""The direction in which a network reads: forward, backward, or both.

A backward network is a forward network that reads reversed text; nothing else about it differs:

    text        ab$ cde$        $ ends a document and opens the next one
    reversed    edc$ ba$        so it does here, too: what follows a $ is the end of a document

A network of both directions is two of them side by side, which share the embedding and the output layer. The weights
of its backward layers have names of their own, such as `backward_lstm_0/kernel`; everything else, such as
`lstm_0/kernel`, is as in a forward network. So each of its halves is a network by itself: `one_way`.

A batch for both is [B, 2T]: T tokens of each row in reading order, then T tokens of a row of the reversed text. The
loss is the mean over all of them, hence the mean of the two directions' losses. Each has states of its own, which are
carried from batch to batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from textgen.errors import ConfigError
from textgen.model.config import BACKWARD, ModelConfig


def one_way(
    config: ModelConfig, weights: Mapping[str, np.ndarray], direction: str
) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """The part of a network that reads in one direction, as a network with weights of its own names.

    Raises `ConfigError` where the network has no such part.
    """
    if direction not in config.directions:
        raise ConfigError(
            f"This model reads text {config.direction} only, and here it must be read {direction}: "
            f"train one of direction both, or {direction}."
        )
    own = dict(weights)
    if config.direction == "both":
        backward = {name: array for name, array in own.items() if name.startswith(BACKWARD)}
        own = {name: array for name, array in own.items() if name not in backward}
        if direction == "backward":
            own |= {name.removeprefix(BACKWARD): array for name, array in backward.items()}
    return replace(config, direction=direction), own
