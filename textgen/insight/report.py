"""An inspection as plain values: for `--json`, and with the arrays that a page draws."""

from __future__ import annotations

import base64
import math
from dataclasses import asdict
from typing import Any

import numpy as np

from textgen.generation.config import NUMPY, SamplingConfig
from textgen.insight.cells import Finding, all_cells, drawn_memory
from textgen.insight.estimates import Estimate
from textgen.insight.gradients import Flow
from textgen.insight.inspection import Inspection, cell_names, missing_parts
from textgen.insight.interventions import Change
from textgen.insight.memory import ContextLoss
from textgen.insight.texts import Text
from textgen.model.clamping import FORGET, VALUES
from textgen.model.config import CELLS
from textgen.wording import shell_word, visible

FORMAT = "textgen inspection 1"
MAX_STATES = 3_200_000  # values of cells in a page, one byte each
NUM_TOP = 10
NUM_GUESSES = 60  # first places of a text at which the guess of each lens is reported


def report(inspection: Inspection) -> dict[str, Any]:
    """Everything that was seen, as values for JSON; of cells over time only what was found in them."""
    text = inspection.text
    return {
        "format": FORMAT,
        "model": _model(inspection),
        "text": {
            "tokens": len(text.ids),
            "scored_tokens": int(text.is_scored.sum()),
            "characters": len(text.text),
            "num_documents": len(text.documents),
            "is_cut": text.is_cut,
            "is_last_cut": text.is_last_cut,
            "has_more": text.has_more,
            "direction": text.direction,
            "is_own": inspection.is_own,
            "bits_per_token": _number(inspection.bits_per_token),
        },
        "tokens": _tokens(inspection),
        "cells": [_finding(finding) for finding in inspection.findings],
        "changes": _changes(inspection),
        "written": _written(inspection),
        "context": _context(inspection.context),
        "half_lives": None if inspection.half_lives is None else [_numbers(each, 2) for each in inspection.half_lives],
        "saturation": {
            gate: {"closed": _numbers(closed, 3), "open": _numbers(open_, 3)}
            for gate, (closed, open_) in inspection.saturation.items()
        },
        "gradient": _gradient(inspection),
        "lenses": _lenses(inspection),
        "neighbours": _neighbours(inspection),
    }


def drawn(inspection: Inspection) -> dict[str, Any]:
    """What a page draws: arrays in base64, the likeliest tokens at each step, and where documents begin."""
    tokenizer, found, text = inspection.saved.tokenizer, inspection.predictions, inspection.text
    used = np.unique(found.top_ids)
    place = np.zeros(tokenizer.vocab_size, np.int64)
    place[used] = np.arange(len(used))
    probabilities = np.round(found.top_probabilities[:, :NUM_TOP] * 10_000)
    return {
        "documents": {
            "starts": np.flatnonzero(np.diff(text.document, prepend=-1)).tolist(),  # the first token of each
            "opening": text.opening,
        },
        "top": {
            "tokens": [tokenizer.piece(id) for id in used.tolist()],
            "number": found.top_ids.shape[1],
            "ids": _packed(place[found.top_ids].astype("<i4")),
            "probabilities": _packed(probabilities.astype("<u2")),
        },
        "states": _states(inspection),
        "shown": [_shown(inspection, layer, unit) for layer, unit in inspection.shown],
        "properties": {
            each.name: _packed(np.minimum(each.values, 65_535).astype("<u2"))
            for each in inspection.properties
            if any(finding.follows == each.name for finding in inspection.findings)
        },
    }


def _tokens(inspection: Inspection) -> dict[str, Any]:
    text, found = inspection.text, inspection.predictions
    return {
        "text": text.pieces(),
        "token": [inspection.saved.tokenizer.piece(id) for id in text.ids.tolist()],
        "surprisal": _scored(text, _numbers(found.surprisal, 3)),
        "rank": _scored(text, found.rank.tolist()),
        "entropy": _scored(text, _numbers(found.entropy, 3)),
    }


def _scored(text: Text, values: list[Any]) -> list[Any]:
    """A value for each token, which is None for the first one and for labels."""
    return [None, *(value if counts else None for value, counts in zip(values, text.is_scored, strict=True))]


def _model(inspection: Inspection) -> dict[str, Any]:
    saved, config = inspection.saved, inspection.reader.config
    return {
        "name": visible(saved.name),  # a page in UTF-8 cannot hold every byte of the name of a folder
        "cell": config.cell,
        "cell_name": CELLS[config.cell],
        "activation": config.activation,
        "reset_after": config.reset_after,
        "mogrifier_rounds": config.mogrifier_rounds,
        "num_layers": config.num_layers,
        "hidden_units": config.hidden_units,
        "embedding_dim": config.embedding_dim,
        "vocab_size": config.vocab_size,
        "tokenizer": saved.tokenizer.kind,
        "parameters": saved.model_config.num_parameters,
        "directions": list(saved.model_config.directions),
        "memory": inspection.reader.memory,
        "values": list(VALUES[config.cell]),
        "keeping_gate": FORGET.get(config.cell),
        "missing": list(missing_parts(config.cell)),
        "tie_embeddings": config.tie_embeddings,
        "residual": config.residual,
        "layer_norm": config.layer_norm,
        "projection": config.hidden_units != config.embedding_dim,
        "attention": config.attention,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    values = asdict(finding)
    values["others"] = [
        {"layer": layer, "unit": unit, "first": _number(score)} for layer, unit, score in finding.others
    ]
    numbers = {name: _number(value) for name, value in values.items() if isinstance(value, float)}
    return {**values, **numbers, "is_found": finding.is_found}


def _changes(inspection: Inspection) -> dict[str, Any]:
    return {
        "steps": inspection.interventions.steps,
        "random_bits": _numbers(np.array(inspection.interventions.random_bits)),
        "cells": [
            {"layer": cell.layer, "unit": cell.unit}
            | {name: _change(inspection, getattr(cell, name)) for name in ("mean", "low", "high")}
            for cell in inspection.interventions.cells
        ],
    }


def _change(inspection: Inspection, change: Change) -> dict[str, Any]:
    tokenizer = inspection.saved.tokenizer
    moved = {
        name: [
            {"token": tokenizer.piece(id), "before": float(f"{before:.3g}"), "after": float(f"{after:.3g}")}
            for id, before, after in getattr(change, name)
        ]
        for name in ("rising", "falling")
    }
    bits = {
        name: getattr(change, name) or Estimate(math.nan, math.nan) for name in ("bits", "bits_with", "bits_without")
    }
    means = {name: _measured(each.mean) for name, each in bits.items()}
    errors = {f"{name}_error": _measured(each.error) for name, each in bits.items()}
    return {"number": _number(change.number), **means, **errors, **moved}


def _written(inspection: Inspection) -> list[dict[str, Any]]:
    """The texts that were written, each with the command that writes it again."""
    name, found = inspection.saved.shell_name, list[dict[str, Any]]()
    for written, cell in zip(inspection.written, inspection.interventions.cells, strict=False):
        texts = {f"text_{kind}": getattr(written, kind) for kind in ("free", "low", "high")}
        clamps = {kind: f"L{cell.layer}/{cell.unit}={getattr(cell, kind).number}" for kind in ("low", "high")}
        commands = {"command_free": _command(name, written.settings, ["--runtime", NUMPY])} | {
            f"command_{kind}": _command(name, written.settings, ["--clamp", clamp]) for kind, clamp in clamps.items()
        }
        seed = written.settings.seed
        found.append({"layer": cell.layer, "unit": cell.unit, "seed": seed, **texts, **commands})
    return found


def _command(name: str, settings: SamplingConfig, options: list[str]) -> str:
    """The command that writes a text again, with the model as it is called in a shell.

    A clamp implies NumPy, which computes otherwise than 8-bit weights.
    """
    label = [] if settings.label is None else ["--label", settings.label]
    seeded = ["--seed", str(settings.seed), "--max-tokens", str(settings.max_tokens)]
    return " ".join(["textgen", "sample", name, *map(shell_word, [*seeded, *label, *options])])


def _context(found: ContextLoss) -> dict[str, Any]:
    """The values of the curves; None where nothing was measured."""
    names = ("dropped", "dropped_error", "shuffled", "difference_error", "full_at")
    curves = {name: [_measured(bits) for bits in getattr(found, name)] for name in names}
    places = {"num_shuffled": found.num_shuffled, "places": found.places}
    return {"lengths": found.lengths, **curves, **places, "full": _measured(found.full)}


def _measured(bits: float) -> float | None:
    """A value for JSON, which has no NaN."""
    return None if math.isnan(bits) else _number(bits)


def _gradient(inspection: Inspection) -> dict[str, Any]:
    return {
        "trained": _norms(inspection.flow),
        "hundredth_at": inspection.flow.hundredth_lag,
        "window": inspection.window,
        "started_from": inspection.started_from and visible(inspection.started_from),
        "untrained": {
            cell: {"norms": _norms(flow), "hundredth_at": flow.hundredth_lag}
            for cell, flow in inspection.untrained.items()
        },
    }


def _norms(flow: Flow) -> list[float]:
    return [float(f"{norm:.4g}") for norm in flow.norms]


def _lenses(inspection: Inspection) -> dict[str, Any]:
    tokenizer = inspection.saved.tokenizer
    return {
        "start": inspection.lenses.start,
        "tokens": inspection.lenses.num_tokens,
        "model_bits": _number(inspection.lenses.model),
        "levels": [
            {
                "name": level.name,
                "logit_lens": _measured(level.logit_lens.mean),
                "logit_lens_error": _measured(level.logit_lens.error),
                "fitted_lens": _measured(level.fitted_lens.mean),
                "fitted_lens_error": _measured(level.fitted_lens.error),
                "guesses": [tokenizer.piece(id) for id in level.guesses[:NUM_GUESSES].tolist()],
            }
            for level in inspection.lenses.levels
        ],
    }


def _neighbours(inspection: Inspection) -> list[dict[str, Any]]:
    return [
        {
            "token": inspection.saved.tokenizer.piece(each.id),
            "inputs": _pieces(inspection, each.inputs),
            "outputs": None if each.outputs is None else _pieces(inspection, each.outputs),
        }
        for each in inspection.neighbours
    ]


def _pieces(inspection: Inspection, found: list[tuple[int, float]]) -> list[dict[str, Any]]:
    return [{"token": inspection.saved.tokenizer.piece(id), "cosine": round(cosine, 3)} for id, cosine in found]


def _states(inspection: Inspection) -> dict[str, Any]:
    """The memory of cells at each token, in one byte each.

    The cells are those found, then those that vary most, up to a limit of bytes.
    """
    memory, units = inspection.reader.memory, inspection.reader.config.hidden_units
    squashed = drawn_memory(all_cells(inspection.reading, memory), memory)  # [N, C]
    first = {layer * units + unit for layer, unit in [*cell_names(inspection), *inspection.shown]}
    order = list(dict.fromkeys([*sorted(first), *np.argsort(-squashed.std(axis=0), kind="stable").tolist()]))
    kept = np.sort(order[: max(len(first), MAX_STATES // len(squashed))])
    return {
        "cells": kept.tolist(),
        "values": _packed(np.round(127 * squashed[:, kept]).astype(np.int8).T),
        "total": int(squashed.shape[1]),
    }


def _shown(inspection: Inspection, layer: int, unit: int) -> dict[str, Any]:
    """Every value of a cell over time, as 16-bit integers and a scale."""
    values = {}
    for name, array in inspection.reading.layers[layer].items():
        series = array[0, :, unit]
        scale = max(float(np.abs(series).max()), 1e-9) / 32_767
        values[name] = {"scale": scale, "values": _packed(np.round(series / scale).astype("<i2"))}
    life = None if inspection.half_lives is None else _number(inspection.half_lives[layer][unit])
    names = cell_names(inspection).get((layer, unit), [])
    return {"layer": layer, "unit": unit, "follows": names, "half_life": life, "values": values}


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _number(value: float) -> float:
    return round(float(value), 4) + 0.0  # not -0.0


def _numbers(values: np.ndarray, digits: int = 4) -> list[float]:
    return [round(value, digits) for value in values.astype(float).tolist()]
