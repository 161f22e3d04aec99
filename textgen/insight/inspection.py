"""One inspection of a model: everything that is seen while it reads a text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from textgen.errors import ConfigError, CorpusError
from textgen.generation.config import SamplingConfig
from textgen.generation.generated_text import Generation
from textgen.generation.generator import Generator
from textgen.insight.cells import Finding, all_cells, find_cells
from textgen.insight.config import InspectConfig
from textgen.insight.gradients import Flow, gradient_flow, untrained_flows
from textgen.insight.interventions import Interventions, intervene
from textgen.insight.lenses import Lenses, lenses
from textgen.insight.memory import ContextLoss, context_loss, half_lives
from textgen.insight.neighbours import Neighbours, neighbours
from textgen.insight.properties import Property, parse_tracks, properties_of
from textgen.insight.reading import Predictions, Reader, Reading
from textgen.insight.texts import Text, read_documents
from textgen.model.clamping import CLOSED, FORGET, GATE_VALUES, OPEN, PLACE, VALUES, Clamp, Place, parse_place
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.saved_model import ModelFolder
from textgen.wording import Say, counted, short_repr, silent

Value = TypeVar("Value")
NUM_CHANGED = 6  # found cells that are ablated and clamped
NUM_WRITTEN, WRITTEN_TOKENS = 3, 80  # found cells with which texts are written, and the tokens of each text
NUM_SEEDS, MIN_FREE_TOKENS = 8, 25  # seeds to choose from, for a text of at least so many tokens with a free cell
NUM_SHOWN = 12  # cells whose gates are shown


@dataclass(frozen=True)
class Written:
    """Texts that a model writes from one seed while a cell is free, low or high.

    Attributes:
        layer: Layer of the cell.
        unit: Unit of the cell.
        settings: Settings of the texts, with their seed.
        free: The text without a clamp.
        low: The text with the cell at its 5 % quantile.
        high: The text with the cell at its 95 % quantile.
    """

    layer: int
    unit: int
    settings: SamplingConfig
    free: str
    low: str
    high: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """What was seen.

    Attributes:
        saved: The model.
        reader: Its network in the direction of the text.
        text: The text.
        is_own: Whether the model wrote the text itself.
        reading: What happened inside while it was read.
        predictions: What was expected at each step and what came; one fewer than tokens.
        properties: Properties of the text.
        findings: The best cell for each property; those found first.
        interventions: Changes of the cells found.
        written: Texts written with some of them held.
        shown: Layer and unit of the cells whose gates are shown, the cells found first.
        half_lives: The half-life of each cell by layer; None for cells without a gate that keeps.
        context: The loss against the length of the context.
        flow: The gradient by lag.
        untrained: The same for networks before training.
        lenses: What each layer knows.
        neighbours: Tokens with similar embeddings.
    """

    saved: ModelFolder
    reader: Reader
    text: Text
    is_own: bool
    reading: Reading
    predictions: Predictions
    properties: list[Property]
    findings: list[Finding]
    interventions: Interventions
    written: list[Written]
    shown: list[tuple[int, int]]
    half_lives: list[np.ndarray] | None
    context: ContextLoss
    flow: Flow
    untrained: dict[str, Flow]
    lenses: Lenses
    neighbours: list[Neighbours]

    @property
    def found(self) -> list[Finding]:
        """The findings that hold on both halves of the text."""
        return [finding for finding in self.findings if finding.is_found]

    @property
    def bits_per_token(self) -> float:
        """Mean loss on the text. Labels are read, not scored."""
        return float(self.predictions.surprisal[self.text.is_scored].mean())

    @property
    def window(self) -> int | None:
        """Maximum number of tokens in a window of the last training; None if it is not known.

        In that training no gradient reached further. One that it started from may have had longer windows.
        """
        length: int | None = self.saved.training.get("training", {}).get("sequence_length")
        return length

    @property
    def started_from(self) -> str | None:
        """The name of the model whose weights the last training started from; None if there was none."""
        name: str | None = self.saved.training.get("start", {}).get("name")
        return name

    @property
    def saturation(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each gate, such as "lstm_0/f", the fractions of steps below 0.1 and above 0.9, each [H]."""
        return {
            f"{self.reader.config.cell}_{number}/{name}": ((x[0] < CLOSED).mean(axis=0), (x[0] > OPEN).mean(axis=0))
            for number, values in enumerate(self.reading.layers)
            for name, x in values.items()
            if name in GATE_VALUES
        }


def inspect_model(
    saved: ModelFolder,
    documents: Iterable[str] | None = None,
    config: InspectConfig | None = None,
    *,
    direction: str | None = None,
    label: str | None = None,
    say: Say = silent,
) -> Inspection:
    """Reads a text with a model and looks at everything.

    Args:
        saved: The model.
        documents: The text, document by document; by default the model writes one.
        config: What to look at.
        direction: "forward" or "backward"; by default the main direction of the model.
        label: Label of the documents.
        say: Receives a line for each stage.

    Returns:
        Everything that was measured.

    Raises:
        ConfigError: A setting does not fit the model or the text.
        CorpusError: There is too little text.
        SavedModelError: The weights are damaged.
    """
    config, direction = config or InspectConfig(), direction or saved.main_direction
    tracks = parse_tracks(config.track)
    places = [_cell(text, saved.model_config) for text in config.cell]
    saved.tokenizer.opening(label)  # raises before the slow part
    reader = Reader(*saved.one_way(direction))
    text = _text_to_read(saved, reader, documents, direction, label, config, say)
    properties = properties_of(text, tracks)
    reading, predictions, findings = _read_and_searched(reader, text, properties, config.seed, say)
    lives = half_lives(reading, reader.config.cell)
    changed, of_cells = _changed(findings, properties, places)
    say("Clamping these cells, and measuring memory and gradients ...")
    measuring = _in_thread(lambda: _memory_and_gradients(reader, text, reading, predictions, config.seed))
    interventions = intervene(reader, reading, changed, of_cells, text.is_scored, config.seed)
    written = _written(saved, reader, interventions, label, config.seed) if direction == "forward" else []
    context, flow = measuring.result()
    return Inspection(
        saved=saved,
        reader=reader,
        text=text,
        is_own=documents is None,
        reading=reading,
        predictions=predictions,
        properties=properties,
        findings=findings,
        interventions=interventions,
        written=written,
        shown=_shown(findings, places, lives, reading, reader.memory),
        half_lives=lives,
        context=context,
        flow=flow,
        untrained=untrained_flows(reader.config),
        lenses=lenses(reader, reading, text.is_scored),
        neighbours=neighbours(reader.weights, text.ids, range(saved.tokenizer.eos_id + 1, saved.tokenizer.first_label)),
    )


def cell_names(inspection: Inspection) -> dict[tuple[int, int], list[str]]:
    """The properties that each cell follows."""
    names: dict[tuple[int, int], list[str]] = {}
    for finding in inspection.found:
        names.setdefault((finding.layer, finding.unit), []).append(finding.follows)
    return names


def missing_parts(cell: str) -> tuple[str, ...]:
    """What a cell kind does not have of the things that are shown: "cell state", "gates", "forget gate".

    Example:
        >>> missing_parts("rnn")
        ('cell state', 'gates', 'forget gate')
    """
    parts = {
        "cell state": "c" in VALUES[cell],
        "gates": bool(GATE_VALUES & set(VALUES[cell])),
        "forget gate": FORGET.get(cell) == "f",
    }
    return tuple(name for name, has in parts.items() if not has)


def _cell(text: str, config: ModelConfig) -> Place:
    """Reads a cell such as L1/89. Raises `ConfigError`, also for one of its values alone."""
    if not PLACE.fullmatch(text.strip()):
        raise ConfigError(f"A cell is written as in L1/89. Received: {short_repr(text)}.")
    name, *value = text.split(".")
    place = parse_place(name, config)
    if value:
        raise ConfigError(
            f"A cell is written as in L{place.layer}/{place.unit}; all of its values are shown. "
            f"Received: {short_repr(text)}."
        )
    return place


def _in_thread(work: Callable[[], Value]) -> Future[Value]:
    """Runs a function on another core: NumPy lets other threads go on during a matrix product.

    The thread ends with the program, so that Ctrl-C does not wait for it.
    """
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _text_to_read(
    saved: ModelFolder,
    reader: Reader,
    documents: Iterable[str] | None,
    direction: str,
    label: str | None,
    config: InspectConfig,
    say: Say,
) -> Text:
    """The given documents as tokens, or without any those that the model writes."""
    if documents is None:
        say("The model writes the text ...")
        documents = _own_text(saved, reader, direction, label, config)
    return read_documents(documents, saved.tokenizer, config.read_tokens, direction, label)


def _own_text(
    saved: ModelFolder, reader: Reader, direction: str, label: str | None, config: InspectConfig
) -> Iterable[str]:
    """Documents that the model writes, drawn from its own probabilities."""
    if direction == "backward":
        raise CorpusError("This network reads backward and writes no text from its beginning: name a file with text.")
    number = config.own_tokens
    settings = SamplingConfig(temperature=1.0, min_p=0.0, max_tokens=number, seed=config.seed, label=label)
    generator, texts, tokens = Generator(reader.model, saved.tokenizer), list[str](), 0
    opening = len(saved.tokenizer.opening(label))  # read before each document
    while (room := number - tokens - opening) > 0 and len(texts) < number:
        seed = _document_seed(config.seed, len(texts))
        (made,) = generator.generate("", replace(settings, seed=seed, max_tokens=room))
        texts.append(made.text)
        tokens += opening + len(made.ids)
    return [text for text in texts if text]


def _document_seed(seed: int, number: int) -> int:
    """The seed of a document of an own text: texts of neighbouring seeds have no document in common."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _read_and_searched(
    reader: Reader, text: Text, properties: list[Property], seed: int, say: Say
) -> tuple[Reading, Predictions, list[Finding]]:
    """What happens inside while a text is read, what is expected at each step, and the best cell for each property."""
    say(f"Reading {counted(len(text.ids), 'token')} ...")
    reading = reader.read(text.ids[None])
    predicting = _in_thread(lambda: reader.predictions(reading.features[0, :-1], text.ids[1:]))
    say("Looking for cells ...")
    findings = find_cells(all_cells(reading, reader.memory), properties, text.ids, reader.config.hidden_units, seed)
    return reading, predicting.result(), findings


def _memory_and_gradients(
    reader: Reader, text: Text, reading: Reading, predictions: Predictions, seed: int
) -> tuple[ContextLoss, Flow]:
    nats = np.where(text.is_scored, predictions.surprisal * np.log(2), np.nan)
    return context_loss(reader, reading, nats, seed), gradient_flow(reader, reading, text.is_scored)


def _shown(
    findings: Sequence[Finding],
    places: Sequence[Place],
    lives: list[np.ndarray] | None,
    reading: Reading,
    memory: str,
) -> list[tuple[int, int]]:
    """Cells worth a look: those asked for, those found, then those that keep longest, or else vary most."""
    order = [(place.layer, place.unit) for place in places]
    order += [(finding.layer, finding.unit) for finding in findings if finding.is_found]
    rank = lives or [values[memory][0].std(axis=0) for values in reading.layers]
    best = [np.argsort(-of_layer, kind="stable")[:NUM_SHOWN].tolist() for of_layer in rank]
    order += [(layer, units[number]) for number in range(min(map(len, best))) for layer, units in enumerate(best)]
    return list(dict.fromkeys(order))[: max(NUM_SHOWN, len(set(places)))]


def _changed(
    findings: Sequence[Finding], properties: Sequence[Property], places: Sequence[Place]
) -> tuple[list[tuple[int, int]], list[np.ndarray | None]]:
    """The cells to change, each once, and where their first property is there."""
    by_name = {each.name: each for each in properties}
    cells: dict[tuple[int, int], np.ndarray | None] = {}
    for finding in findings:
        if finding.is_found and len(cells) < NUM_CHANGED:
            wanted = by_name[finding.follows]
            cells.setdefault((finding.layer, finding.unit), None if wanted.is_count else wanted.values > 0)
    for place in places:
        cells.setdefault((place.layer, place.unit), None)
    return list(cells), list(cells.values())


def _written(
    saved: ModelFolder, reader: Reader, interventions: Interventions, label: str | None, seed: int
) -> list[Written]:
    """Texts of one seed with each of the first cells free, low and high, as `textgen sample` writes them."""

    def write(settings: SamplingConfig, *clamps: Clamp) -> Generation:
        model = NumpyModel(reader.config, reader.weights, clamps) if clamps else reader.model
        (made,) = Generator(model, saved.tokenizer, read_words=saved.words).generate("", settings)
        return made

    if not interventions.cells:
        return []
    free: list[Generation] = []
    for number in range(NUM_SEEDS):  # a model of short documents may end one at once
        free.append(write(SamplingConfig(max_tokens=WRITTEN_TOKENS, seed=seed + number, label=label)))
        if len(free[-1].ids) >= MIN_FREE_TOKENS:
            break
    chosen = free[-1] if len(free[-1].ids) >= MIN_FREE_TOKENS else max(free, key=lambda made: len(made.ids))
    return [
        Written(
            cell.layer,
            cell.unit,
            chosen.config,
            chosen.text,
            *(
                write(chosen.config, Clamp(Place(cell.layer, cell.unit, reader.memory), change.number)).text
                for change in (cell.low, cell.high)
            ),
        )
        for cell in interventions.cells[:NUM_WRITTEN]
    ]
