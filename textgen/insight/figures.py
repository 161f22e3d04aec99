"""Pictures of an inspection as PNG files. They need matplotlib, the extra `figures`."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from textgen.insight.cells import all_cells, drawn_memory
from textgen.insight.gradients import compared_names
from textgen.insight.history import Moment
from textgen.insight.inspection import Inspection
from textgen.versions import require
from textgen.wording import visible

STEPS_SHOWN = 120  # tokens of the text in pictures of gates
DOTS = 110  # dots per inch
MEMORY_LABELS = {"c": "tanh(c)", "h": "h"}  # of `drawn_memory`


def require_matplotlib() -> None:
    """Checks that pictures can be drawn.

    Raises:
        TextgenError: matplotlib is not installed.
    """
    require("Drawing pictures", ["matplotlib"], "figures")


def figures(inspection: Inspection) -> dict[str, bytes]:
    """Draws the pictures.

    Returns:
        PNG files by name, such as "gradient".

    Raises:
        TextgenError: matplotlib is not installed.
    """
    require_matplotlib()
    drawings: dict[str, Callable[[Any], None]] = {
        "memory": partial(_draw_memory, inspection),
        "gradient": partial(_draw_gradient, inspection),
        "cells": partial(_draw_cells, inspection),
    }
    for gate in inspection.saturation:
        drawings[f"saturation-{gate.replace('/', '-')}"] = partial(_draw_saturation, inspection, gate)
    for layer, unit in inspection.shown[:4]:
        drawings[f"gates-L{layer}-{unit}"] = partial(_draw_gates, inspection, layer, unit)
    return {name: _png(draw) for name, draw in drawings.items()}


def cell_picture(moment: Moment, title: str, memory: str) -> bytes:
    """The memory of a cell over the first tokens of the text at one checkpoint, as a PNG file.

    Args:
        moment: The cell at the checkpoint.
        title: Title of the picture.
        memory: Name of the value that carries the memory: "c" or "h".
    """

    def draw(axes: Any) -> None:
        axes.plot(drawn_memory(moment.memory[: 2 * STEPS_SHOWN], memory), linewidth=1)
        axes.set(ylim=(-1.05, 1.05), xlabel="token", ylabel=MEMORY_LABELS[memory], title=title)

    return _png(draw)


def _png(draw: Callable[[Any], None]) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot, which would look for a screen

    file = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a matplotlibrc in the current folder could start LaTeX
        figure = Figure(figsize=(8, 4.5), layout="tight")
        draw(figure.add_subplot())
        figure.savefig(file, format="png", dpi=DOTS)
    return file.getvalue()


def _draw_memory(inspection: Inspection, axes: Any) -> None:
    found = inspection.context
    shuffled = f"the {found.num_shuffled} before: shuffled (error of the difference)"
    axes.errorbar(found.lengths, found.dropped, found.dropped_error, fmt="o-", label="beyond: dropped (standard error)")
    axes.errorbar(found.lengths, found.shuffled, found.difference_error, fmt="s--", label=shuffled)
    axes.set(xscale="log", xlabel="tokens of context", ylabel="bits per token lost")
    axes.set_title("Loss against the length of the context")
    axes.legend()


def _draw_gradient(inspection: Inspection, axes: Any) -> None:
    own = visible(inspection.saved.name).replace("$", r"\$")  # which begins a formula in matplotlib
    flows = {own: inspection.flow}
    names = compared_names(inspection.reader.config)
    flows |= {f"{names[name]}, untrained": flow for name, flow in inspection.untrained.items()}
    for style, (name, flow) in zip(("-", "--", (0, (5, 1)), ":", "-."), flows.items(), strict=True):
        axes.semilogy(np.array(flow.norms) / max(flow.norms), linestyle=style, label=name)
    axes.set(ylim=(1e-12, 2), xlabel="steps back", ylabel="norm, relative to the largest", title="Gradient by lag")
    axes.legend()


def _draw_cells(inspection: Inspection, axes: Any) -> None:
    memory = inspection.reader.memory
    values = drawn_memory(all_cells(inspection.reading, memory), memory)
    image = axes.imshow(values.T, aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.figure.colorbar(image, label=MEMORY_LABELS[memory])
    axes.set(xlabel="token", ylabel="cell, layer after layer", title="All cells over time")


def _draw_saturation(inspection: Inspection, gate: str, axes: Any) -> None:
    closed, open_ = inspection.saturation[gate]
    axes.plot([0, 1], [1, 0], color="0.7")
    axes.scatter(closed, open_, s=8, alpha=0.6)
    axes.set(xlabel="fraction of steps below 0.1", ylabel="fraction of steps above 0.9", title=gate)
    axes.set_aspect("equal")


def _draw_gates(inspection: Inspection, layer: int, unit: int, axes: Any) -> None:
    for name, values in inspection.reading.layers[layer].items():
        axes.plot(values[0, :STEPS_SHOWN, unit], label=name, linewidth=1)
    axes.set(xlabel="token", title=f"Values of L{layer}/{unit}")
    axes.legend(ncols=6)
