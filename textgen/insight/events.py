"""An inspection in TensorBoard: its pictures, and cells through the checkpoints of the run."""

from __future__ import annotations

from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary

from textgen.errors import SavedModelError
from textgen.insight.figures import cell_picture, figures, require_matplotlib
from textgen.insight.history import through_training
from textgen.insight.inspection import Inspection, cell_names
from textgen.saved_model.bases import is_base
from textgen.saved_model.layout import LOGS
from textgen.saved_model.saved_model import ModelFolder
from textgen.storage.files import check_folder_writable, writing
from textgen.storage.folders import refuse_links
from textgen.storage.remote_cache import is_copy
from textgen.training.observers.event_file import EventFile

FOLDER = "inspect"  # within the logs of the run: TensorBoard shows it as a run of its own
NUM_FOLLOWED = 4


def check_logs(saved: ModelFolder) -> None:
    """Checks that events may be written among the logs of a model.

    Raises:
        SavedModelError: It is a base or a copy of a model elsewhere, or there are links in its folder.
        CannotWrite: The folder is not writable.
    """
    whose = "the program" if is_base(saved.folder) else "a model elsewhere" if is_copy(saved.folder) else None
    if whose:
        raise SavedModelError(f"The logs of {saved.name} are those of {whose}: write pictures to a folder instead.")
    refuse_links(saved.folder)
    check_folder_writable(saved.folder / LOGS / FOLDER)


def write_events(inspection: Inspection) -> tuple[Path, int]:
    """Writes the pictures, and what the first cells shown were at each checkpoint.

    Returns:
        The folder of the event file, and the number of checkpoints.

    Raises:
        SavedModelError: `check_logs` does not pass.
        TextgenError: matplotlib is not installed, or the folder cannot be written.
    """
    require_matplotlib()
    check_logs(inspection.saved)
    pictures = figures(inspection)
    folder = inspection.saved.folder / LOGS / FOLDER
    steps, names = set[int](), cell_names(inspection)
    with writing(folder):
        folder.parent.mkdir(exist_ok=True)  # but not the model: another process may have removed it meanwhile
    file = EventFile(folder)
    try:
        for layer, unit in inspection.shown[:NUM_FOLLOWED]:
            cell = f"L{layer}/{unit}"
            for moment in through_training(inspection, layer, unit):
                steps.add(moment.step)
                followed = ", ".join(names.get((layer, unit), []))
                title = f"{cell} at step {moment.step:,}" + (f": {followed}" if followed else "")
                picture = cell_picture(moment, title, inspection.reader.memory)
                values = {"score": moment.score, "half_life": moment.half_life}
                points = [
                    Summary.Value(tag=f"{cell}/{name}", simple_value=value)
                    for name, value in values.items()
                    if value is not None
                ]
                file.write(moment.step, summary=Summary(value=[_image(f"{cell}/memory", picture), *points]))
        last = max(steps, default=0)
        for name, picture in pictures.items():
            file.write(last, summary=Summary(value=[_image(f"inspection/{name}", picture)]))
    finally:
        file.close()
    return folder, len(steps)


def _image(tag: str, png: bytes) -> Summary.Value:
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))  # of the header of a PNG file
    image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=4)
    return Summary.Value(tag=tag, image=image)
