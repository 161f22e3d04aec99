"""Settings of models that adapt to the text they score: neural cache and dynamic evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from textgen.settings import UNLIMITED, Settings, setting

MAX_CACHE_WINDOW = 1 << 16
SECTION = "Adaptation"


@dataclass(frozen=True)
class CacheConfig(Settings):
    """The neural cache (Grave et al. 2017); see `textgen.evaluation.neural_cache`."""

    cache_window: int = setting(500, "Tokens that the cache remembers.", low=1, high=MAX_CACHE_WINDOW, section=SECTION)
    cache_theta: float = setting(
        0.3, "Sharpness of the match between hidden states; 0 weighs all alike.", low=0.0, high=100.0, section=SECTION
    )
    cache_lambda: float = setting(
        0.1, "Share of the cache in the mixed probability.", low=0.0, high=0.999, section=SECTION
    )


@dataclass(frozen=True)
class DynamicConfig(Settings):
    """Dynamic evaluation (Krause et al. 2018); see `textgen.evaluation.dynamic_evaluation`."""

    dynamic_learning_rate: float = setting(0.1, "Learning rate of each step.", low=0.0, high=1e3, section=SECTION)
    dynamic_decay: float = setting(
        0.001, "Decay towards the trained weights in each step.", low=0.0, high=1.0, section=SECTION
    )
    dynamic_window: int = setting(16, "Tokens that each step learns from.", low=1, high=1 << 16, section=SECTION)
    dynamic_clip_norm: float = setting(
        1.0, "Clip the norm of the gradient to this; a large number, such as 1e9, clips nothing.",
        low=1e-12, high=UNLIMITED, section=SECTION,
    )  # fmt: skip
    dynamic_rms: bool = setting(
        False,
        "Divide each weight's step by the root mean square of its gradients; try a learning rate of 0.4.",
        section=SECTION,
    )
