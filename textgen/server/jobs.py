"""What the engine of a model is asked for, a text to write or a prompt to read, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from textgen.generation.generator import Generator
from textgen.generation.row import TextRow, Token
from textgen.generation.text_state import RECENT, TextState
from textgen.server.access import ANYBODY
from textgen.server.prompt_reading import ReadPrompt

Kind = tuple[Generator, bool]  # what texts that go together have in common: their network, and whether row by row


@dataclass(frozen=True)
class Ended:
    """The end of a text before its first token.

    Attributes:
        stop_reason: See `textgen.generation.generated_text.Generation`.
    """

    stop_reason: str


# a token; the end without one; what went wrong; or that the prompt of a job that only reads has been read
Event = Token | Ended | Exception | None


@dataclass(eq=False)
class Batch:
    """Jobs that were submitted together.

    Attributes:
        number: How many they are.
        owner: Whose they are.
        first: Whether they complete an answer that has begun.
        turn: Number of the slot after which they wait: of the last one that one of them got, or of the one before the
            last when they came.
        begun: Whether one of them has got a slot.
        prompts: Their prompts, each of which is read once: see `Engine._begun`.
    """

    number: int
    owner: str
    first: bool = False
    turn: int = 0
    begun: bool = False
    prompts: dict[Any, ReadPrompt] = field(default_factory=dict)


class Job:
    """A text to write, or a prompt to read.

    Attributes:
        row: The text.
        root: Tells what comes before the prompt and whose it is: see `PrefixCache.keys`.
        owner: Whose it is: see `textgen.server.access`.
        row_by_row: Whether it is computed as if it were alone.
        generator: The generator whose network writes it.
        writes: Whether a text is written after the prompt.
        prompt_tokens: Tokens of its prompt.
        prompt: How far its prompt has been read.
        state: The position at its end: of a job that only reads, and of a text whose row has `track`.
        cancelled: Whether nobody wants it any more.
        batch: The jobs that were submitted with it.
    """

    def __init__(
        self,
        row: TextRow,
        generator: Generator,
        listener: Callable[[Job, Event], None],
        root: bytes = b"",
        *,
        owner: str = ANYBODY,
        writes: bool = True,
    ) -> None:
        """Makes a job.

        Args:
            row: The text.
            generator: The generator that made it.
            listener: Called in the event loop with each event.
            root: Tells what comes before the prompt and whose it is.
            owner: Whose it is; the same for all on a server without keys.
            writes: Whether a text is written after the prompt.
        """
        self.row = row
        self.generator = generator
        self.listener = listener
        self.root = root
        self.owner = owner
        self.writes = writes
        self.row_by_row = False
        self.prompt_tokens = len(row.prompt_ids)
        self.prompt = ReadPrompt(row)
        self.state: TextState | None = None
        self.cancelled = False
        self._ids: list[int] = []
        self.batch = Batch(1, owner)

    @property
    def kind(self) -> Kind:
        """What it has in common with the texts that are written together with it."""
        return self.generator, self.row_by_row

    @property
    def cached_tokens(self) -> int:
        """Those tokens of its prompt that the prefix cache or another text of its request had."""
        return self.prompt.cached

    def note(self, token: Token) -> None:
        """Keeps the tokens for `state`; called in the thread of the engine after each token."""
        if self.row.track:
            self._ids.append(token.id)
            if token.stop_reason:
                ids = (*self.row.ids, *self._ids)[-RECENT:]
                self.state = TextState(self.row.model_state, ids, self.row.start.model)
