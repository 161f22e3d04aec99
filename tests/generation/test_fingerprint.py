"""What tells a network from others: as text and back, in this version, older and later ones."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.errors import SavedModelError
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.generation.fingerprint import Fingerprint, is_same
from textgen.generation.text_state import TextState, load_state, save_state
from textgen.model.clamping import Clamp, Place
from textgen.settings import setting

CLAMPS = (Clamp(Place(0, 3, "f"), 1.0), Clamp(Place(1, 5, "c"), 0.5))
WEIGHTS, TEXT = "ab" * 32, "cd" * 32


def settings_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Settings, each of which has its default or half of it."""
    defaults: dict[str, Any] = {field.name: field.default for field in fields(kind)}
    values = {
        name: st.sampled_from([value, not value if isinstance(value, bool) else value / 2])
        for name, value in defaults.items()
        if isinstance(value, (bool, float))
    }
    return st.none() | st.builds(kind, **values)


clamps = st.builds(
    Clamp,
    st.builds(Place, st.integers(0, 9), st.integers(0, 999_999), st.sampled_from("cfioh")),
    st.floats(-1e3, 1e3),
)


@given(
    st.builds(
        Fingerprint,
        st.text("0123456789abcdef", max_size=64),
        st.booleans(),
        settings_of(NeuralCacheConfig),
        st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
        settings_of(DynamicConfig),
        st.lists(clamps, max_size=3).map(tuple),
        st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), max_size=3).map(tuple),
    )
)
def test_its_text_is_read_back(fingerprint: Fingerprint) -> None:
    assert Fingerprint.parse(str(fingerprint)) == fingerprint
    assert is_same(str(fingerprint), str(fingerprint))


def test_the_models_of_an_ensemble_count_in_their_order() -> None:
    alone, two = Fingerprint(WEIGHTS), Fingerprint(WEIGHTS, ensemble=(TEXT, WEIGHTS))
    assert str(two) == f"{WEIGHTS} ensemble={TEXT} ensemble={WEIGHTS}"
    others = [alone, Fingerprint(WEIGHTS, ensemble=(WEIGHTS, TEXT)), Fingerprint(WEIGHTS, ensemble=(TEXT,))]
    assert not any(is_same(str(two), str(other)) for other in others)


@dataclass(frozen=True)
class LaterCache(NeuralCacheConfig):
    """With a setting that a later version may add."""

    neural_cache_decay: float = setting(0.5, "Decay.", low=0.0, high=1.0)


@dataclass(frozen=True)
class LaterDynamic(DynamicConfig):
    dynamic_layers: int = setting(2, "Layers.", low=0, high=9)


def test_a_new_setting_does_not_change_the_text() -> None:
    now = Fingerprint(WEIGHTS, False, NeuralCacheConfig(neural_cache_window=9), TEXT, DynamicConfig(dynamic_rms=True))
    later = Fingerprint(WEIGHTS, False, LaterCache(neural_cache_window=9), TEXT, LaterDynamic(dynamic_rms=True))
    assert str(later) == str(now)
    assert str(Fingerprint(WEIGHTS, neural_cache=LaterCache(neural_cache_decay=0.25))) != str(
        Fingerprint(WEIGHTS, neural_cache=NeuralCacheConfig())
    )


OLD_CACHE = "CacheConfig(cache_window=9, cache_theta=0.3, cache_lambda=0.1)"
OLD_DYNAMIC = (
    "DynamicConfig(dynamic_learning_rate=0.1, dynamic_decay=1e-05, dynamic_window=16, dynamic_clip_norm=1.0, "
    "dynamic_rms=True)"
)


@pytest.mark.parametrize(
    ("old", "meant"),
    [
        (WEIGHTS, Fingerprint(WEIGHTS)),
        (f"{WEIGHTS} exact", Fingerprint(WEIGHTS, is_exact=True)),
        (f"{WEIGHTS} L0/3.f=1.0 L1/5.c=0.5", Fingerprint(WEIGHTS, clamps=CLAMPS)),
        (
            f"{WEIGHTS} cache=true cache_window=9",
            Fingerprint(WEIGHTS, neural_cache=NeuralCacheConfig(neural_cache_window=9)),
        ),
        (f"{WEIGHTS} {OLD_CACHE}", Fingerprint(WEIGHTS, neural_cache=NeuralCacheConfig(neural_cache_window=9))),
        (
            f"{WEIGHTS} {OLD_CACHE} {TEXT} {OLD_DYNAMIC} L0/3.f=1.0 L1/5.c=0.5",
            Fingerprint(
                WEIGHTS,
                False,
                NeuralCacheConfig(neural_cache_window=9),
                TEXT,
                DynamicConfig(dynamic_decay=1e-5, dynamic_rms=True),
                CLAMPS,
            ),
        ),
    ],
)
def test_a_text_of_an_older_version_is_recognized(old: str, meant: Fingerprint, tmp_path: Path) -> None:
    assert Fingerprint.parse(old) == meant
    state = TextState((np.ones((1, 3), np.float32),), (1,))
    save_state(tmp_path / "old.state", state, old)
    assert load_state(tmp_path / "old.state", state.model_state, str(meant), 9).ids == (1,)
    with pytest.raises(SavedModelError, match="the state of another model"):
        load_state(tmp_path / "old.state", state.model_state, f"{meant} clamp=L7/7.c=1.0", 9)


@pytest.mark.parametrize(
    "text",
    [
        "ab that", "ab exact=1", "ab exact exact", "ab neural_cache_window=9", "ab cache=true cache_window=x",
        "ab neural_cache=true neural_cache_window=-1", "ab CacheConfig(cache_window=f)", "ab CacheConfig(cache=[[)",
        "ab cached=true", "ab later=1", "ab clamp=L0=1", "ab clamp=L0/3.c=x", "ab DynamicConfig()",
    ],
)  # fmt: skip
def test_what_is_no_fingerprint(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Fingerprint.parse(text)
    assert is_same(text, text)
    assert not is_same(text, "ab")
