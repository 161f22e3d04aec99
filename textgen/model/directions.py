"""The direction in which a network reads: forward, backward, or both.

A backward network is a forward network that reads reversed text; nothing else about it differs:

    text        ab$ cde$        $ ends a document and opens the next one
    reversed    edc$ ba$        here, too, a $ lies between documents; after it comes the last token of a document

A network of both directions is two of them side by side that share the embedding and the output layer. The weights of
its backward layers have a prefix, as in `backward_lstm_0/kernel`; all other names are those of a forward network. Each
half is a complete network: see `one_way`.

A batch for both is [B, 2T]: T tokens of each row in reading order, then T tokens of a row of the reversed text. The
loss is the mean over all of them, which is the mean of the losses of both directions. Each direction has its own state,
which is carried from batch to batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from textgen.errors import ConfigError
from textgen.model.config import BACKWARD, ModelConfig
from textgen.settings import Setting, check_bounds

WAYS = ("forward", "backward")  # directions of a network that reads in one


def one_way(
    config: ModelConfig, weights: Mapping[str, np.ndarray], direction: str
) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """The part of a network that reads in one direction, as a network of its own.

    Args:
        config: Shape of the network.
        weights: Its weights by name.
        direction: "forward" or "backward".

    Returns:
        Shape and weights of the part, with names as in a network of one direction.

    Raises:
        ConfigError: The network does not read in this direction, or it is none.
    """
    if direction == "both":
        raise ConfigError(
            "One direction is needed, forward or backward. Received: 'both'. A saved model has network() for the whole "
            "network and numpy_models() for each direction."
        )
    check_bounds("direction", direction, Setting("", choices=WAYS))
    if direction not in config.directions:
        raise ConfigError(
            f"This model reads text {config.direction} only, but a model that reads {direction} is needed: "
            f"train one with the setting direction both, or {direction}."
        )
    own = dict(weights)
    if config.direction == "both":
        backward = {name: array for name, array in own.items() if name.startswith(BACKWARD)}
        own = {name: array for name, array in own.items() if name not in backward}
        if direction == "backward":
            own |= {name.removeprefix(BACKWARD): array for name, array in backward.items()}
    return replace(config, direction=direction), own
