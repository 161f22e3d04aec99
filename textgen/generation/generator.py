"""Prompts to texts: many in batches, one token by token, the best of several, or the result of a beam search."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from textgen.arguments import check_is_path, check_kind, check_prompt, several, several_texts
from textgen.dataset.ngram_index import NgramIndex
from textgen.dataset.word_filter import WordFilter
from textgen.errors import ConfigError
from textgen.generation.beam_search import search
from textgen.generation.config import NUMPY, SamplingConfig, SearchConfig
from textgen.generation.constraints.word_tokens import WordTokens, word_tokens
from textgen.generation.decoding import Decoder
from textgen.generation.generated_text import Generation, Stream, generation_of, missing_texts
from textgen.generation.request import Request, later_seed, require_best_of, require_number, sampling, seeded
from textgen.generation.row import Row, TextRow, Token
from textgen.generation.row_by_row_model import RowByRow
from textgen.generation.sampling.sampler_settings import DRAWING
from textgen.generation.sampling.vocabulary_tables import VocabularyTables
from textgen.generation.stepping import read_all
from textgen.generation.text_state import TextState, check_state, load_state, save_state
from textgen.generation.token_healing import Prefixes
from textgen.model.protocols import StepModel
from textgen.tokenizer.stream_decoder import check_ids
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import short_repr

if TYPE_CHECKING:
    import numpy as np

    from textgen.model.language_model import LanguageModel

BATCH_SIZE = 64  # texts generated side by side
GROUPS = 2  # texts join once one of this many parts of a batch is free: prompts are read faster together
AHEAD = 4  # maximum number of texts that have begun and are not yielded, as a multiple of the batch size


class Generator:
    """Generates text with a model and its tokenizer. Loads no files: `textgen.load` does.

    Threads may share it: between calls it keeps nothing but tables of its vocabulary.

    Attributes:
        model: The network.
        tokenizer: Its tokenizer.
        fingerprint: Tells this model from others; saved states carry it.
    """

    def __init__(
        self,
        model: StepModel,
        tokenizer: Tokenizer,
        *,
        read_index: Callable[[], NgramIndex | None] = lambda: None,
        read_words: Callable[[], WordFilter | None] = lambda: None,
        fingerprint: str = "",
        build_network: Callable[[], LanguageModel] | None = None,
    ) -> None:
        """Makes a generator.

        Args:
            model: The network.
            tokenizer: Its tokenizer.
            read_index: Returns the index of the training text; called when it is first needed, once for all generators
                of `with_model`. Only `SamplingConfig.no_copy` needs it.
            read_words: Returns the words of the training text; called when they are first needed. Without them, or with
                `SamplingConfig.coin_words`, any word may be written.
            fingerprint: Tells this model from others.
            build_network: Builds the network in Keras: see `network`.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self._read_index = cache(read_index)
        self._read_words = read_words
        self._build_network = build_network

    def generate(
        self,
        prompts: str | Iterable[str] = "",
        config: SamplingConfig | None = None,
        num: int = 1,
        best_of: int | None = None,
    ) -> list[Generation]:
        """Generates texts side by side.

        Args:
            prompts: One prompt or several; a prompt may be empty.
            config: Settings of all texts. Text i has the seed `config.seed + i`, so each can be generated again alone;
                with `best_of` that is draft i. Without a seed, one is chosen at random.
            num: Texts for each prompt.
            best_of: Generate this many for each prompt and return the `num` with the highest mean log probability.

        Returns:
            The texts, in the order of the prompts.

        Raises:
            ConfigError: There is no prompt, one is not a text, `num` is less than 1, or `best_of` is less than `num`.
            TokenizerError: A prompt is not valid text.
        """
        prompts = list(several_texts("prompts", prompts))
        for number, prompt in enumerate(prompts):
            check_prompt(f"prompts[{number}]", prompt)
        require_best_of(num, best_of)
        if not prompts:
            raise ConfigError("There is nothing to generate: give at least one prompt; it may be empty.")
        config = seeded(sampling(config))
        requests = [
            Request(prompt, later_seed(config, number * (best_of or num))) for number, prompt in enumerate(prompts)
        ]
        return list(self.generate_requests(requests, num, best_of))

    def generate_requests(
        self,
        requests: Request | Iterable[Request],
        num: int = 1,
        best_of: int | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Generation]:
        """Generates texts for prompts with settings of their own, from a source of any length.

        A text depends on nothing but its prompt and settings, and on the last digits of matrix products, which change
        one text in several hundred; a `batch_size` of 1 rules that out.

        Args:
            requests: The prompts, or one. The texts for one prompt have its seed, the next seed, and so on.
            num: Texts for each prompt.
            best_of: Generate this many for each prompt and return the `num` with the highest mean log probability.
            batch_size: Texts generated side by side. Once half of them have ended, the next ones begin. So at most
                4 * `batch_size` texts are read from the source before the oldest of them is yielded.

        Yields:
            The texts, in the order of the requests, each as soon as it and those before it have ended; with `best_of`,
            as soon as all for its prompt have. The time until the next one is asked for, and the time in which further
            requests and their prompts are read, counts towards `max_seconds` of the texts that have not ended.

        Raises:
            ConfigError: `num` or `batch_size` is less than 1, or `best_of` is less than `num`.
            TokenizerError: A prompt is not valid text. The texts that have begun before are yielded first.
        """
        require_best_of(num, best_of)
        require_number("batch_size", batch_size)
        if isinstance(requests, Request):
            requests = [requests]
        copies = (
            replace(request, config=later_seed(config, number))
            for request in map(_checked_request, several("requests", requests, "request"))
            for config in [seeded(request.config)]  # once for all copies
            for number in range(best_of or num)
        )
        if best_of is None:
            yield from self._generate_all(copies, batch_size)
            return
        generations = self._generate_all(map(_with_logprobs, copies), batch_size)
        while drafts := list(islice(generations, best_of)):
            yield from sorted(drafts, key=lambda generation: -generation.mean_logprob)[:num]

    def search(
        self, prompt: str = "", config: SamplingConfig | None = None, settings: SearchConfig | None = None
    ) -> list[Generation]:
        """Searches the likeliest texts that continue a prompt: see `textgen.generation.beam_search`.

        Args:
            prompt: The text to continue.
            config: Settings of the texts. Nothing is drawn, so the seed and the settings of the samplers must be left
                at their defaults.
            settings: Settings of the search.

        Returns:
            The texts found, best first, each once: `num_beams`, or fewer if there are no more or groups find the same.

        Raises:
            ConfigError: A setting has no effect in a search, `top_logprobs` is set, or the model is exact.
            TokenizerError: The prompt is not valid text.
        """
        if self.model.exact:
            raise ConfigError("A search does not compute in exact arithmetic: draw texts, or use the model without it.")
        config = sampling(config)
        check_kind("settings", settings, SearchConfig)
        refuse_draws(config)
        config = replace(config, temperature=0.0, seed=0)
        row = self.row(prompt, config)
        return [
            Generation(
                prompt=prompt,
                text=beam.text,
                ids=beam.ids,
                stop_reason=beam.stop_reason,
                seed=0,
                config=config,
                healed=row.healed,
                logprobs=beam.logprobs,
                missing=missing_texts(row, beam.text),
            )
            for beam in search(self.decoder(), row, settings or SearchConfig())
        ]

    def tokens(self, prompt: str = "", config: SamplingConfig | None = None, start: TextState | None = None) -> Stream:
        """Generates one text token by token.

        Args:
            prompt: The text to continue.
            config: Settings of the text.
            start: A position in a text from which the prompt continues; the beginning of a document by default.

        Returns:
            An iterator over the tokens, which also has the position after each.

        Raises:
            ConfigError: The prompt is neither a text nor a list of tokens, the model does not know the label, or there
                is a label and the text has begun.
            SavedModelError: The state is that of another model, or does not fit this one.
            TokenizerError: The prompt is not valid text, or has tokens that are not in the vocabulary.
        """
        config = sampling(config)
        return Stream(self.decoder(), self.row(prompt, config, start, track=True))

    def stream(self, prompt: str = "", config: SamplingConfig | None = None) -> Iterator[str]:
        """Generates one text bit by bit, never half a character: see `tokens`.

        Yields:
            The text that each token adds, where it adds any.
        """
        return (token.text for token in self.tokens(prompt, config) if token.text)

    def with_model(self, model: StepModel, fingerprint: str) -> Generator:
        """Returns a generator with another network of the same vocabulary. It shares everything else in memory.

        Args:
            model: The network, such as this one with cells that are held.
            fingerprint: Tells it from others.
        """
        _ = self._prefixes, self._tables, self._word_tokens  # made once, for both
        other = copy.copy(self)
        other.model, other.fingerprint, other._build_network = model, fingerprint, None
        return other

    def decoder(self, *, row_by_row: bool = False) -> Decoder:
        """Returns a decoder without texts, for texts that join and leave: see `textgen.generation.decoding`.

        Args:
            row_by_row: Whether a text gets the numbers that it gets alone, to the last bit, which is slower. An exact
                model gives them in any case.
        """
        model = RowByRow(self.model) if row_by_row and not self.model.exact else self.model
        return Decoder(
            model,
            self.tokenizer,
            read_index=self._read_index,
            read_word_tokens=lambda: self._word_tokens,
            prefixes=self._prefixes,
            tables=self._tables,
        )

    def row(
        self,
        prompt: str | Sequence[int] = "",
        config: SamplingConfig | None = None,
        start: TextState | None = None,
        *,
        track: bool = False,
    ) -> TextRow:
        """Returns a text that can join a decoder.

        Args:
            prompt: The text to continue, or its tokens.
            config: Settings of the text; without a seed it gets one at random.
            start: A position before the prompt; the beginning of a document with the label of `config` by default.
            track: Whether the row keeps the state of the model after each token.

        Raises:
            ConfigError: The prompt is neither a text nor a list of tokens, the model does not know the label, or there
                is a label and the text has begun.
            SavedModelError: The state is that of another model, or does not fit this one.
            TokenizerError: The prompt is not valid text, or has tokens that are not in the vocabulary.
        """
        config = seeded(sampling(config))
        return TextRow(prompt, config, self.tokenizer, self._begin(start, config.label), track=track)

    def start(self, label: str | None = None) -> TextState:
        """Returns the position at the beginning of a document.

        Args:
            label: Label of the document.

        Raises:
            ConfigError: The model does not know the label.
        """
        state = TextState(self.model.initial_state(1), (self.tokenizer.eos_id,), self.fingerprint)
        return self.opened(state, label)

    def read(
        self, text: str | Sequence[int] | np.ndarray, start: TextState | None = None, label: str | None = None
    ) -> TextState:
        """Reads a text without generating any.

        Args:
            text: The text, or its tokens.
            start: The position before it; the beginning of a document by default.
            label: Label of the document, if one begins here.

        Returns:
            The position after it.

        Raises:
            ConfigError: It is neither a text nor a list of tokens, the model does not know the label, or there is a
                label and the text has begun.
            SavedModelError: The state is that of another model, or does not fit this one.
            TokenizerError: The text is not valid text, or has tokens that are not in the vocabulary.
        """
        start = self._begin(start, label)
        check_prompt("text", text)
        ids = self.tokenizer.encode(text) if isinstance(text, str) else list(map(int, text))  # of NumPy, perhaps
        check_ids(ids, self.tokenizer.vocab_size)
        return start.after(ids, read_all(self.model, [[start.ids[-1], *ids][:-1]], start.model_state))

    def save_state(self, path: str | Path, state: TextState) -> None:
        """Saves a position in a text to a file, to continue from it later.

        Raises:
            TextgenError: The file cannot be written, or the state is that of another model or does not fit this one.
        """
        check_is_path("path", path)
        save_state(Path(path), self._checked_state(state), self.fingerprint)

    def load_state(self, path: str | Path) -> TextState:
        """Loads a position that `save_state` saved.

        Raises:
            SavedModelError: The file is damaged or belongs to another model.
        """
        check_is_path("path", path)
        return load_state(Path(path), self.start().model_state, self.fingerprint, self.tokenizer.vocab_size)

    @property
    def index(self) -> NgramIndex | None:
        """The index of the training text; None if there is none.

        Raises:
            SavedModelError: The index is damaged.
        """
        return self._read_index()

    @property
    def runtime(self) -> str:
        """What computes the network: "numpy", "onnx" or "tensorflow"."""
        return getattr(self.model, "runtime", NUMPY)

    def network(self) -> LanguageModel:
        """The network that writes, as a `keras.Model`, built anew at each call: of both directions the forward one.

        Its call takes token ids, int32 [B, T], and returns logits [B, T, V] and the state after them.
        `keras.models.load_model` loads a file that its `save` wrote in programs that have imported
        `textgen.model.language_model`.

        Raises:
            ConfigError: The generator was made from a model alone, or from a saved model that is changed before it
                writes.
        """
        if self._build_network is None:
            raise ConfigError(
                "This generator has no network in Keras: it was made from a model alone, or from a saved model with "
                "adapt, neural_cache, clamps or ensemble. Use textgen.load(NAME).network()."
            )
        return self._build_network()

    def _checked_state(self, state: TextState) -> TextState:
        return check_state(state, self.model.initial_state(1), self.fingerprint, self.tokenizer.vocab_size)

    def _begin(self, start: TextState | None, label: str | None) -> TextState:
        """The position from which a text goes on, from a caller, after the label of the document if one begins."""
        return self.start(label) if start is None else self.opened(self._checked_state(start), label)

    @cached_property
    def _word_tokens(self) -> WordTokens | None:
        return word_tokens(self.tokenizer, self._read_words())

    @cached_property
    def _prefixes(self) -> Prefixes:
        return Prefixes(self.tokenizer)

    @cached_property
    def _tables(self) -> VocabularyTables:
        return VocabularyTables(self.tokenizer)

    def opened(self, state: TextState, label: str | None) -> TextState:
        """Returns the position after the label of a document, if a document begins at a position and has labels.

        Args:
            state: The position.
            label: Label of the document.

        Raises:
            ConfigError: The model does not know the label, or the text has begun.
        """
        opening = self.tokenizer.opening(label)
        if state.ids[-1] != self.tokenizer.eos_id:
            if label is not None:
                raise ConfigError(f"The text has begun, so it cannot have the label {label!r}: leave label out.")
            return state
        if len(opening) == 1:
            return state
        return state.after(opening[1:], read_all(self.model, [opening[:-1]], state.model_state))

    def _generate_all(self, requests: Iterator[Request], batch_size: int) -> Iterator[Generation]:
        """Generates texts side by side; as some end, others take their places. Yields them in the order asked for."""
        texts, start = _TextsInOrder(self.decoder()), cache(self.start)  # for each label
        while True:
            try:
                if free := texts.free(batch_size):
                    batch = list(islice(requests, free))
                    texts.join(
                        [TextRow(each.prompt, each.config, self.tokenizer, start(each.config.label)) for each in batch]
                    )
            except Exception:
                while texts.rows:  # what has begun does not depend on what cannot begin
                    yield from texts.step()
                raise
            if not texts.rows:
                return
            yield from texts.step()


class _TextsInOrder:
    """Texts that are generated side by side, and those that wait for one before them to end.

    Attributes:
        rows: The texts that `step` has not yielded, in the order in which they joined.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.rows = deque[TextRow]()
        self._tokens: dict[Row, list[Token]] = {}  # tokens of each text that has not been yielded
        self._decoder = decoder

    def free(self, batch_size: int) -> int:
        """Returns how many texts may join; 0 if they are too few to read their prompts together."""
        free = min(batch_size - len(self._decoder.rows), AHEAD * batch_size - len(self.rows))
        return free if free * GROUPS >= batch_size else 0

    def join(self, rows: Sequence[TextRow]) -> None:
        """Reads the prompts of further texts: see `Decoder.join`."""
        self._decoder.join(rows)
        self.rows.extend(rows)
        self._tokens |= {row: [] for row in rows}

    def step(self) -> Iterator[Generation]:
        """Generates the next tokens, and yields each text that has ended and is after no other one that has not."""
        for row, token in self._decoder.step():
            self._tokens[row].append(token)
        while self.rows and self.rows[0].stop_reason:
            row = self.rows.popleft()
            yield generation_of(row, self._tokens.pop(row))


def refuse_draws(config: SamplingConfig) -> None:
    """Refuses settings that a search does not use: those of random draws, and `top_logprobs`.

    Raises:
        ConfigError: They have a setting of random draws, or `top_logprobs`.
    """
    without_effect = sorted(
        name for name in {*DRAWING, "seed"} if getattr(config, name) != getattr(SamplingConfig, name)
    )
    if without_effect:
        raise ConfigError(f"A search makes no random draws: leave out {', '.join(without_effect)}.")
    if config.top_logprobs:
        raise ConfigError("A search computes no probabilities of other tokens: leave out top_logprobs.")


def _checked_request(request: Request) -> Request:
    if not isinstance(request, Request):
        raise ConfigError(f"requests must be a list of textgen.Request. Received one that is {short_repr(request)}.")
    return request


def _with_logprobs(request: Request) -> Request:
    return replace(request, config=replace(request.config, top_logprobs=request.config.top_logprobs or 0))
