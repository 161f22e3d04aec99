"""Settings of models that adapt to the text they score: neural cache and dynamic evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from textgen.settings import UNLIMITED, Settings, setting

MAX_CACHE_WINDOW = 1 << 16
SECTION = "Adaptation"


@dataclass(frozen=True)
class NeuralCacheConfig(Settings):
    """The neural cache (Grave et al. 2017); see `textgen.evaluation.neural_cache`."""

    neural_cache_window: int = setting(
        500, "Number of recent tokens that the neural cache remembers.", low=1, high=MAX_CACHE_WINDOW, section=SECTION
    )
    neural_cache_theta: float = setting(
        0.3,
        "How strongly the neural cache prefers hidden states that match the present one; 0 weighs all alike.",
        low=0.0,
        high=100.0,
        section=SECTION,
    )
    neural_cache_lambda: float = setting(
        0.1,
        "Weight of the neural cache, as a fraction, when its probabilities are mixed with those of the network.",
        low=0.0,
        high=0.999,
        section=SECTION,
    )


@dataclass(frozen=True)
class DynamicConfig(Settings):
    """Dynamic evaluation (Krause et al. 2018); see `textgen.evaluation.dynamic_evaluation`."""

    dynamic_learning_rate: float = setting(
        0.1,
        "Learning rate of each step of dynamic evaluation, which adapts the weights to a text.",
        low=0.0,
        high=1e3,
        section=SECTION,
    )
    dynamic_decay: float = setting(
        0.001,
        "Fraction by which each step of dynamic evaluation draws the weights back to the trained ones.",
        low=0.0,
        high=1.0,
        section=SECTION,
    )
    dynamic_window: int = setting(
        16, "Number of tokens that each step of dynamic evaluation learns from.", low=1, high=1 << 16, section=SECTION
    )
    dynamic_clip_norm: float = setting(
        1.0,
        "Clip the norm of the gradient in dynamic evaluation to this; a large number, such as 1e9, clips nothing.",
        low=1e-12,
        high=UNLIMITED,
        section=SECTION,
    )
    dynamic_rms: bool = setting(
        False,
        "In dynamic evaluation, divide each weight's step by the root mean square of its gradients; try a "
        "learning rate of 0.4.",
        section=SECTION,
    )
