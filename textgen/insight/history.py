"""A cell through training: its memory in the same text at each checkpoint, and how well it follows a property."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textgen.insight.cells import score_of_cell
from textgen.insight.inspection import Inspection
from textgen.insight.memory import half_lives
from textgen.insight.reading import Reader
from textgen.model.directions import one_way
from textgen.saved_model.layout import CHECKPOINTS
from textgen.training.checkpoints import weights_by_step


@dataclass(frozen=True, eq=False)
class Moment:
    """A cell at one checkpoint.

    Attributes:
        step: Updates of the weights so far.
        memory: Its memory after each token of the text, [N].
        score: AUC or rank correlation with the property over the whole text; None without a property.
        half_life: Its half-life in steps; None for a cell without a gate that keeps.
    """

    step: int
    memory: np.ndarray
    score: float | None
    half_life: float | None


def through_training(inspection: Inspection, layer: int, unit: int) -> list[Moment]:
    """Reads the text with the weights of each checkpoint that a run has kept.

    Args:
        inspection: The inspection of the model of the run.
        layer: Layer of the cell.
        unit: Unit of the cell.

    Returns:
        The moments by rising step; none if the model has no checkpoints.
    """
    saved, names = inspection.saved, [f.follows for f in inspection.found if (f.layer, f.unit) == (layer, unit)]
    wanted = next((each for each in inspection.properties if each.name in names[:1]), None)
    shapes, moments = saved.model_config.weight_shapes(), list[Moment]()
    for step, weights in weights_by_step(saved.folder / CHECKPOINTS):
        if {name: weights[name].shape if name in weights else () for name in shapes} != shapes:
            continue  # of another network, whose folder this was
        own = {name: weights[name].astype(np.float32) for name in shapes}
        reader = Reader(*one_way(saved.model_config, own, inspection.text.direction))
        reading = reader.read(inspection.text.ids[None])
        memory = reading.layers[layer][reader.memory][0, :, unit]
        lives = half_lives(reading, reader.config.cell)
        score = None if wanted is None else score_of_cell(memory, wanted)
        moments.append(Moment(step, memory, score, None if lives is None else float(lives[layer][unit])))
    return moments
