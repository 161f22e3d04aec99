"""What each layer already knows of the next token.

The logit lens (nostalgebraist 2020) reads the output of a layer as if it were that of the last one: through the
projection, if there is one, and the output layer. It is fair only where layers use the same directions for the same
things, as with residual connections. The tuned lens (after Belrose et al. 2023, arXiv:2303.08112) first maps the output
of the layer to the features of the whole network, by a linear map that is fitted by ridge regression on the first half
of the text and used on the second: least squares with a penalty on large weights. Level 0 is the embedding of the
newest token. With an attention head, the last level is its output, which is what the output layer of the network reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textgen.insight.estimates import Estimate, estimated
from textgen.insight.reading import Reader, Reading
from textgen.model.config import TABLE

RIDGE = 1e-2  # fraction of the mean variance that is added to each direction, so that the fit stays stable
FITTED = 2000  # tokens of the first half that the map is fitted on, at most
MEASURED = 300  # tokens of the second half that the lenses are used on, at most


@dataclass(frozen=True, eq=False)
class Level:
    """What the output of one layer tells.

    Attributes:
        name: "embedding", a layer such as "lstm_0", or "attention".
        logit_lens: Mean loss read by the logit lens, bits per token. The standard error is that of the difference from
            the loss of the network over the same tokens.
        fitted_lens: The same by the tuned lens.
        guesses: Likeliest next token by the tuned lens, by the token read, for the places measured, [M].
    """

    name: str
    logit_lens: Estimate
    fitted_lens: Estimate
    guesses: np.ndarray


@dataclass(frozen=True)
class Lenses:
    """The lenses at every level.

    Attributes:
        levels: From the embedding to the last layer, or to the attention head on it.
        start: The first token measured; the others follow.
        model: Mean loss of the network over the same places, bits per token.
        num_tokens: Tokens whose loss was measured.
    """

    levels: list[Level]
    start: int
    model: float
    num_tokens: int


def lenses(reader: Reader, reading: Reading, is_scored: np.ndarray) -> Lenses:
    """Reads every level of a network with both lenses.

    Args:
        reader: The network.
        reading: Its reading of one text.
        is_scored: Whether the token after each one counts, bool [N - 1].

    Returns:
        What each level knows of the next token.
    """
    ids = reading.ids[0]
    half = len(ids) // 2
    fit, start = slice(max(0, half - FITTED), half), half
    use = slice(start, min(len(ids) - 1, start + MEASURED))
    targets, features = ids[use.start + 1 : use.stop + 1], reading.features[0]
    counts = is_scored[use]

    def bits(found: np.ndarray) -> np.ndarray:
        return reader.losses(found[counts], targets[counts]) / np.log(2)

    of_model = bits(features[use])

    def compared(found: np.ndarray) -> Estimate:
        lost = bits(found)
        return Estimate(float(lost.mean()), estimated(lost - of_model).error)

    outputs = {"embedding": reader.weights[TABLE][ids]}
    outputs |= {f"{reader.config.cell}_{number}": array[0] for number, array in enumerate(reading.outputs)}
    if reader.config.attention:
        outputs["attention"] = features
    levels = []
    for name, x in outputs.items():
        plain = x[use] if name in ("embedding", "attention") else reader.project(x[use])  # [M, E]
        fitted = _fitted(x[fit], features[fit], x[use]).astype(np.float32)
        guesses = reader.predictions(fitted, targets, 1).top_ids[:, 0]
        levels.append(Level(name, compared(plain), compared(fitted), guesses))
    return Lenses(levels, start, float(of_model.mean()), len(of_model))


def _fitted(x: np.ndarray, y: np.ndarray, new_x: np.ndarray) -> np.ndarray:
    """Ridge regression of y [N, E] on x [N, n] with an intercept, applied to `new_x`."""
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    centred = (x - x_mean).astype(np.float64)
    covariance = centred.T @ centred
    ridge = RIDGE * np.trace(covariance) / len(covariance) + np.finfo(np.float32).tiny
    weights = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), centred.T @ (y - y_mean))
    return (new_x - x_mean) @ weights + y_mean
