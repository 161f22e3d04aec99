"""Each optimizer's steps against its equations in NumPy, and against PyTorch's where it has the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import keras
import numpy as np
import pytest
import tensorflow as tf

from textgen.model.config import ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.system.runtime import load_tensorflow
from textgen.training.config import DECOUPLED, OPTIMIZERS, TrainingConfig
from textgen.training.optimizers import Update, layer_depths

load_tensorflow()

STEPS = 6
RNG = np.random.default_rng(3)
SHAPE = ModelConfig(8, embedding_dim=3, hidden_units=4, num_layers=2, layer_norm=True)
LAYERS = {"kernel": "lstm_0/kernel", "bias": "head/bias", "gamma": "norm_1/gamma"}  # names of the weights in a network
START = {"kernel": RNG.normal(0, 1, (3, 4)), "bias": RNG.normal(0, 1, 4), "gamma": RNG.normal(1, 1, 4)}
GRADIENTS = {name: RNG.normal(0, 1, (STEPS, *array.shape)) for name, array in START.items()}


def config(optimizer: str, **settings: Any) -> TrainingConfig:
    values: dict[str, Any] = {"weight_decay": 0.1, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-6} | settings
    return TrainingConfig(optimizer=optimizer, **values)


def trained(settings: TrainingConfig, rates: list[float]) -> dict[str, np.ndarray]:
    """The weights after a step at each rate."""
    weights = [keras.Variable(array.astype(np.float32), name=name) for name, array in START.items()]
    model = SimpleNamespace(named_weights=lambda: {LAYERS[weight.name]: weight for weight in weights}, config=SHAPE)
    update = Update(settings, cast(LanguageModel, model))
    for step, rate in enumerate(rates):
        gradients = [tf.constant(gradient[step], tf.float32) for gradient in GRADIENTS.values()]
        update.apply(gradients, tf.constant(rate))
    return {weight.name: weight.numpy() for weight in weights}


# === Equations ===

Memory = dict[str, np.ndarray]


def sgd(w: np.ndarray, g: np.ndarray, lr: float, t: int, memory: Memory, c: TrainingConfig) -> np.ndarray:
    memory["v"] = c.momentum * memory.get("v", 0) - lr * g
    return memory["v"]


def rmsprop(w: np.ndarray, g: np.ndarray, lr: float, t: int, memory: Memory, c: TrainingConfig) -> np.ndarray:
    memory["s"] = c.beta_2 * memory.get("s", 0) + (1 - c.beta_2) * g**2
    memory["v"] = c.momentum * memory.get("v", 0) + lr * g / np.sqrt(memory["s"] + c.epsilon)
    return -memory["v"]


def adam(w: np.ndarray, g: np.ndarray, lr: float, t: int, memory: Memory, c: TrainingConfig) -> np.ndarray:
    memory["m"] = c.beta_1 * memory.get("m", 0) + (1 - c.beta_1) * g
    memory["s"] = c.beta_2 * memory.get("s", 0) + (1 - c.beta_2) * g**2
    return -lr * memory["m"] / (1 - c.beta_1**t) / (np.sqrt(memory["s"] / (1 - c.beta_2**t)) + c.epsilon)


def lamb(w: np.ndarray, g: np.ndarray, lr: float, t: int, memory: Memory, c: TrainingConfig) -> np.ndarray:
    step = adam(w, g, 1.0, t, memory, c)
    return lr * step * np.linalg.norm(w) / np.linalg.norm(step)


EQUATIONS: dict[str, Callable[..., np.ndarray]] = {
    "sgd": sgd, "asgd": sgd, "rmsprop": rmsprop, "adam": adam, "adamw": adam, "lamb": lamb,
}  # fmt: skip


DEPTHS = {"kernel": 2, "bias": 0, "gamma": 1}  # layers above that of the weight


def expected(settings: TrainingConfig, rates: list[float]) -> dict[str, np.ndarray]:
    results = {}
    for name, array in START.items():
        w = array.copy()
        memory: Memory = {}
        for step, of_top in enumerate(rates):
            g, rate = GRADIENTS[name][step], of_top * settings.layer_learning_rate_decay ** DEPTHS[name]
            target = array if settings.decay_target == "start" else 0.0
            decay = settings.weight_decay * (w - target) if name == "kernel" else 0.0
            if settings.optimizer in DECOUPLED:
                w = w - rate * decay
            else:
                g = g + decay
            w = w + EQUATIONS[settings.optimizer](w, g, rate, step + 1, memory, settings)
        results[name] = w
    return results


@pytest.mark.parametrize(
    ("optimizer", "momentum"), [*((name, 0.0) for name in OPTIMIZERS), ("sgd", 0.7), ("rmsprop", 0.7)]
)
def test_steps_are_the_equations(optimizer: str, momentum: float) -> None:
    settings, rates = config(optimizer, momentum=momentum), [0.1, 0.2, 0.3, 0.05, 0.1, 0.0]
    ours = trained(settings, rates)
    for name, weight in expected(settings, rates).items():
        np.testing.assert_allclose(ours[name], weight, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("target", ["zero", "start"])
@pytest.mark.parametrize("factor", [1.0, 0.4, 0.0])
@pytest.mark.parametrize(("optimizer", "momentum"), [("adamw", 0.0), ("adam", 0.0), ("sgd", 0.7), ("rmsprop", 0.7)])
def test_lower_layers_learn_slower_and_weights_decay_to_their_target(
    optimizer: str, momentum: float, factor: float, target: str
) -> None:
    settings = config(optimizer, momentum=momentum, layer_learning_rate_decay=factor, decay_target=target)
    rates = [0.1, 0.2, 0.3, 0.05, 0.1, 0.0]
    ours = trained(settings, rates)
    for name, weight in expected(settings, rates).items():
        np.testing.assert_allclose(ours[name], weight, atol=2e-5, err_msg=name)
    if not factor:
        np.testing.assert_array_equal(ours["kernel"], START["kernel"].astype(np.float32))


def test_lamb_scales_its_step_and_decays_to_the_start() -> None:
    settings, rates = config("lamb", layer_learning_rate_decay=0.4, decay_target="start"), [0.1, 0.05]
    ours = trained(settings, rates)
    full = trained(config("lamb", decay_target="start"), [0.04, 0.02])
    np.testing.assert_allclose(ours["gamma"], full["gamma"], atol=1e-6)  # a vector, one layer down
    assert np.abs(ours["kernel"] - START["kernel"]).max() > 1e-3
    still = trained(config("lamb", decay_target="start", weight_decay=1e3), [1e-6])
    np.testing.assert_allclose(still["kernel"], START["kernel"], atol=1e-5)  # nothing decays before the first step


def test_a_tied_table_learns_as_fast_as_the_output_layer_and_an_untied_one_is_the_lowest() -> None:
    tied = ModelConfig(9, embedding_dim=3, hidden_units=4, layer_norm=True, direction="both")
    depths = {"embedding": 0, "lstm_0": 2, "lstm_1": 1, "norm_0": 2, "norm_1": 1, "projection": 0, "head": 0}
    backward = {f"backward_{name}": depth for name, depth in depths.items() if name[-1].isdigit()}
    assert layer_depths(tied) == depths | backward
    assert layer_depths(replace(tied, tie_embeddings=False))["embedding"] == 3


@pytest.mark.oracles("torch")
@pytest.mark.filterwarnings("ignore:CUDA initialization")  # PyTorch looks for a GPU
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
def test_steps_are_pytorch_s(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)  # it crashes in a process that has loaded TensorFlow
    import torch

    settings = config(optimizer, momentum=0.7 if optimizer == "sgd" else 0.0, epsilon=1e-12)
    adam = {"betas": (settings.beta_1, settings.beta_2), "eps": settings.epsilon}
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "sgd": (torch.optim.SGD, {"momentum": settings.momentum}),
        "rmsprop": (torch.optim.RMSprop, {"alpha": settings.beta_2, "eps": settings.epsilon}),
        "adam": (torch.optim.Adam, adam),
        "adamw": (torch.optim.AdamW, adam),
    }
    kind, options = kinds[optimizer]
    weights = {name: torch.tensor(array, requires_grad=True) for name, array in START.items()}
    groups = [{"params": [weights["kernel"]], "weight_decay": 0.1}, {"params": [weights["bias"], weights["gamma"]]}]
    theirs = kind(groups, lr=0.1, weight_decay=0.0, **options)
    for step in range(STEPS):
        for name, weight in weights.items():
            weight.grad = torch.tensor(GRADIENTS[name][step])
        theirs.step()
    for name, array in trained(settings, [0.1] * STEPS).items():
        np.testing.assert_allclose(array, weights[name].detach().numpy(), atol=2e-5, err_msg=name)


def test_a_name_without_an_optimizer_is_no_adamw() -> None:
    settings = config("adamw")
    object.__setattr__(settings, "optimizer", "new")
    with pytest.raises(ValueError, match="no optimizer 'new'"):
        trained(settings, [0.1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_only_matrices_decay(optimizer: str) -> None:
    with_decay, without = (trained(config(optimizer, weight_decay=decay), [0.1, 0.1]) for decay in (0.3, 0.0))
    assert np.abs(with_decay["kernel"] - without["kernel"]).max() > 1e-3
    for name in ("bias", "gamma"):
        np.testing.assert_array_equal(with_decay[name], without[name])
