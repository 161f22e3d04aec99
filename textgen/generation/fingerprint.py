"""What tells a network that writes from others, as text: its weights, and all that changes its states."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields

from textgen.errors import ConfigError
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.model.clamping import PLACE, Clamp, Place
from textgen.schema import decoded_json
from textgen.settings import Config, Settings, declared, from_dict

ON = "true"
OLD_SETTINGS = re.compile(r" (CacheConfig|DynamicConfig)\(([^()]*)\)")  # as Python shows them
CHECKSUM = re.compile("[0-9a-f]{64}")
KINDS: dict[str, tuple[str, type[Settings]]] = {  # the switch and the settings of each
    "CacheConfig": ("neural_cache", NeuralCacheConfig),
    "DynamicConfig": ("dynamic", DynamicConfig),
}
OLD_CACHE = re.compile(r"^cache(?=_|=|$)")  # at the beginning of a key about the neural cache


@dataclass(frozen=True)
class Fingerprint:
    """Tells a network that writes from others: a state can be continued by a network of the same fingerprint alone.

    As text it is the checksum of the weights and a `key=value` for each other attribute, between spaces. Settings that
    have their defaults are left out, so that a new setting does not change the text.

    Attributes:
        weights: SHA-256 of the file of weights.
        is_exact: Whether the network computes in exact arithmetic.
        neural_cache: Settings of the neural cache that it writes with.
        adapted_to: SHA-256 of the token ids of the text that it learned from.
        dynamic: Settings of that training.
        clamps: Values of cells that are held.
        ensemble: SHA-256 of the files of weights of the further networks whose probabilities are averaged with its own.

    Example:
        >>> cache = NeuralCacheConfig(neural_cache_window=9)
        >>> str(Fingerprint("ab12", neural_cache=cache, clamps=(Clamp(Place(0, 3, "c"), 5.0),)))
        'ab12 neural_cache=true neural_cache_window=9 clamp=L0/3.c=5.0'
    """

    weights: str
    is_exact: bool = False
    neural_cache: NeuralCacheConfig | None = None
    adapted_to: str | None = None
    dynamic: DynamicConfig | None = None
    clamps: tuple[Clamp, ...] = ()
    ensemble: tuple[str, ...] = ()

    def __str__(self) -> str:
        pairs = [("exact", ON)] * self.is_exact
        if self.neural_cache is not None:
            pairs += [("neural_cache", ON), *_changed(self.neural_cache)]
        if self.adapted_to is not None:
            pairs.append(("adapted_to", self.adapted_to))
        if self.dynamic is not None:
            pairs += [("dynamic", ON), *_changed(self.dynamic)]
        pairs += [("clamp", str(clamp)) for clamp in self.clamps]
        pairs += [("ensemble", weights) for weights in self.ensemble]
        return " ".join([self.weights, *(f"{key}={value}" for key, value in pairs)])

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """Reads the text of a fingerprint, also one that an older version wrote.

        Args:
            text: The text.

        Returns:
            The fingerprint.

        Raises:
            ValueError: It is not the text of a fingerprint.

        Example:
            >>> Fingerprint.parse("ab12 exact") == Fingerprint.parse("ab12 exact=true")
            True
        """
        weights, *words = _with_pairs(text)
        found: dict[str, list[str]] = {}
        for word in words:
            key, _, value = word.partition("=")
            found.setdefault(key, []).append(value)
        clamps, ensemble = tuple(map(_clamp, found.pop("clamp", []))), tuple(found.pop("ensemble", []))
        if any(len(values) > 1 for values in found.values()):
            raise ValueError(f"a key comes twice in {text!r}")
        single = {key: values[0] for key, values in found.items()}
        made = cls(
            weights,
            is_exact=_is_on(single, "exact"),
            neural_cache=_settings(NeuralCacheConfig, single, "neural_cache"),
            adapted_to=single.pop("adapted_to", None),
            dynamic=_settings(DynamicConfig, single, "dynamic"),
            clamps=clamps,
            ensemble=ensemble,
        )
        if single:
            raise ValueError(f"unknown keys in {text!r}")
        return made


def is_same(one: str, other: str) -> bool:
    """Checks whether two texts are those of one fingerprint, in whatever version they were written.

    Example:
        >>> is_same("ab12 exact", "ab12 exact=true"), is_same("ab12", "ab12 exact=true")
        (True, False)
    """
    if one == other:
        return True
    try:
        return Fingerprint.parse(one) == Fingerprint.parse(other)
    except ValueError:
        return False


def _changed(settings: Settings) -> list[tuple[str, str]]:
    """The settings that differ from their defaults, as JSON."""
    values = [(field, getattr(settings, field.name)) for field in fields(settings)]
    return [(field.name, json.dumps(value)) for field, value in values if value != field.default]


def _is_on(pairs: dict[str, str], key: str) -> bool:
    """Whether something is switched on; takes its pair out."""
    value = pairs.pop(key, None)
    if value not in (None, ON):
        raise ValueError(f"{key} should be {ON}, not {value!r}")
    return value is not None


def _settings(kind: type[Config], pairs: dict[str, str], switch: str) -> Config | None:
    """Settings of a kind, if they are switched on; takes their pairs out."""
    given = {name: decoded_json(pairs.pop(name)) for name in declared(kind) if name in pairs}
    if not _is_on(pairs, switch):
        if given:
            raise ValueError(f"{next(iter(given))} needs {switch}")
        return None
    try:
        return from_dict(kind, given)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _clamp(text: str) -> Clamp:
    place, _, number = text.partition("=")
    match = PLACE.fullmatch(place)
    if not match or match[3] is None:
        raise ValueError(f"{text!r} is no clamp")
    return Clamp(Place(int(match[1]), int(match[2]), match[3]), float(number))


# === Older versions ===


def _with_pairs(text: str) -> list[str]:
    """The checksum, and a `key=value` for each word after it, in place of what older versions wrote."""
    plain = OLD_SETTINGS.sub(lambda match: " ".join(["", *_old_settings(*match.groups())]), text)
    weights, *words = plain.split(" ")
    return [weights, *map(_pair, words)]


def _old_settings(name: str, arguments: str) -> list[str]:
    """The pairs of settings that Python showed, such as cache_window=9, cache_theta=0.3."""
    switch, kind = KINDS[name]
    parts = (OLD_CACHE.sub("neural_cache", part).partition("=") for part in arguments.split(", "))
    given = {key: decoded_json(value.lower()) for key, _, value in parts}
    try:
        settings = from_dict(kind, given)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return [f"{switch}={ON}", *(f"{key}={value}" for key, value in _changed(settings))]


def _pair(word: str) -> str:
    if word == "exact":
        return f"exact={ON}"
    if PLACE.fullmatch(word.partition("=")[0]):
        return f"clamp={word}"
    if CHECKSUM.fullmatch(word):
        return f"adapted_to={word}"
    if "=" not in word:
        raise ValueError(f"{word!r} is no key=value")
    return OLD_CACHE.sub("neural_cache", word)
