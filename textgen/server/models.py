"""The models of a server: found by name, loaded when they are asked for, dropped when memory is short.

A model whose folder has changed is loaded anew for new requests. Those that are being answered keep the version that
they began with.

A load is part of the request that needs it, whether the model is not in memory yet or its folder has changed: the
request waits until the load has ended. Meanwhile a client that streams gets no event, and no status either: a stream
begins after the load. Only a stream towards a suffix begins before, with comments that keep the connection open.

A name from a request is compared with the names that are served. It never becomes part of a path.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from textgen.errors import ModelChanged, SavedModelError, TextgenError
from textgen.generation.config import AUTO, NUMPY
from textgen.generation.generator import Generator
from textgen.saved_model.bases import base_folder, base_for, installed_bases
from textgen.saved_model.folder_contents import is_model, saved_at
from textgen.saved_model.loading import load_model, saved_labels
from textgen.saved_model.registry import find_model, list_models, status_of
from textgen.saved_model.run_status import RUNNING
from textgen.saved_model.saved_model import ModelFolder
from textgen.server.config import ServerConfig
from textgen.server.engine import Engine
from textgen.server.failures import ApiError, closing, no_model, unavailable
from textgen.server.served_model import Part, ServedModel, exactly
from textgen.storage.addresses import is_remote, local_path
from textgen.wording import Say, silent

Result = TypeVar("Result")

MEGABYTE = 1 << 20
GRACE = 5.0  # seconds after its last use in which a model is not dropped, even if memory is short
CHECK_SECONDS = 1.0  # seconds between two checks whether the folder of a model has changed


class ModelHost:
    """Loads the models of a server and keeps the most recently used. For the thread of the event loop."""

    def __init__(
        self,
        config: ServerConfig,
        places: Mapping[str, str],
        models_dir: Path | None = None,
        say: Say = silent,
    ) -> None:
        """Makes a host. Nothing is loaded yet.

        Args:
            config: Settings of the server.
            places: What each name loads: a name in the folder of models or a path. Without any, all models of the
                folder are served, also those saved later, and the bases of this installation after them.
            models_dir: The folder of models: see `textgen.saved_model.registry.models_folder`.
            say: Called with a line of text for the operator, from another thread.
        """
        self._config = config
        self._places = dict(places)
        self._models_dir = models_dir
        self._say = say
        self._loaded: dict[str, ServedModel] = {}
        self._outdated: list[ServedModel] = []  # whose folders have changed, until their last requests end
        self._loads: dict[str, asyncio.Task[ServedModel]] = {}  # in progress
        self._loading = ThreadPoolExecutor(1, "textgen-load")
        self._labels: dict[Path, tuple[float, list[str]]] = {}  # of a folder, with when its model was saved
        self._next_look: asyncio.TimerHandle | None = None  # at whether models can be dropped
        self.is_loading = False  # whether its thread is at work
        self.has_loaded = False  # whether a model has been loaded, which may be gone by now

    @property
    def loaded(self) -> list[ServedModel]:
        """The models in memory that new requests get."""
        return list(self._loaded.values())

    @property
    def in_memory(self) -> list[ServedModel]:
        """All models in memory; those that requests began with before their folders changed are among them."""
        return [*self._loaded.values(), *self._outdated]

    def names(self) -> list[str]:
        """The names of the models that are served; the first is the default."""
        return list(self._served())

    async def labels(self, names: Sequence[str]) -> list[list[str]]:
        """Returns the labels of models by name without loading them; none of one that cannot be read.

        A model at an address has to be loaded: nothing is fetched for its labels.
        """
        served = self._served()
        known = {name: list(model.tokenizer.labels) for name, model in self._loaded.items()}
        places = [None if is_remote(place) else place for place in (local_path(served.get(name, "")) for name in names)]
        found = await asyncio.to_thread(lambda: [self._labels_at(place) if place else None for place in places])
        return [known.get(name, []) if labels is None else labels for name, labels in zip(names, found, strict=True)]

    def _labels_at(self, place: str) -> list[str] | None:
        """The labels of the model at a place; None if it cannot be read, perhaps only at this moment."""
        folder = _folder_of(place, self._models_dir) if self._places else Path(place)
        if folder is None:
            return []
        saved = saved_at(folder)
        before, labels = self._labels.get(folder, (None, []))
        if saved == before:
            return labels
        found = saved_labels(folder)
        if found is not None:
            self._labels[folder] = saved, found
        return found

    async def get(self, name: str | None = None, text: str = "") -> ServedModel:
        """Returns a model, and loads it first if it is not in memory or if its folder has changed.

        The request that calls it waits for the load.

        Args:
            name: Its name; the default model if it is None or empty.
            text: What it will continue. Where there are only bases, the default is the one for its writing system.

        Raises:
            ApiError: There is no such model, or it cannot be loaded.
        """
        if name and (model := await self._current(name)):  # without a look at the other models
            return _used(model)
        served = self._served()
        if not served:
            raise no_model(name or "", [])
        name = name or self._default(served, text)
        if name not in served:
            raise no_model(name, list(served))
        if model := await self._current(name):
            return _used(model)
        if name not in self._loads:
            self._loads[name] = asyncio.create_task(self._load(name, served[name]))
            self._loads[name].add_done_callback(partial(self._load_ended, name))
        return _used(await asyncio.shield(self._loads[name]))  # the load goes on for the next client if this one leaves

    def is_exact(self, asked: bool | None) -> bool:
        """Returns whether a request is computed in exact arithmetic, from what it says."""
        return self._config.exact if asked is None else asked

    async def generator(self, model: ServedModel, clamps: Sequence[str] = (), asked: bool | None = None) -> Generator:
        """Returns the generator of a request.

        Args:
            model: Its model.
            clamps: Values of cells that it holds: see `ServedModel.generator`.
            asked: What it says of exact arithmetic.

        Raises:
            ApiError: There is no such generator, or it cannot be loaded.
        """
        if not self.is_exact(asked):
            if model.held(clamps):
                await self.prepare(model, "network")
            return model.generator(clamps)
        if clamps:
            raise ApiError(400, 'clamp cannot be used in exact arithmetic: give "exact": false.', param="clamp")
        if model.exact:  # which waits for no load
            return model.exact
        exact: Generator = await self._made(model, model.exact_generator)
        return exact

    async def prepare(self, model: ServedModel, part: Part) -> None:
        """Reads a part of a model, if it is not there yet, and makes room for it.

        Raises:
            ApiError: It cannot be loaded.
        """
        if not model.has(part):
            await self._made(model, partial(getattr, model, part))

    async def _made(self, model: ServedModel, make: Callable[[], Result]) -> Result:
        """Makes something more of a model, in the thread that loads.

        Raises:
            ApiError: It cannot be loaded.
        """
        making = asyncio.create_task(self._make(model, make))
        making.add_done_callback(_take_error)
        return await asyncio.shield(making)  # what is made stays in memory, also if this client leaves

    async def _make(self, model: ServedModel, make: Callable[[], Result]) -> Result:
        folder = model.saved.folder
        try:
            with model.in_use():
                made = await self._in_loader(model.name, make)
        except SavedModelError as error:
            if isinstance(error, ModelChanged):
                self._outdate(model)
            raise await self._failure(model.name, error, lambda: folder if is_model(folder) else None) from error
        self._make_room(model.name)
        return made

    def end_texts(self) -> None:
        """Ends the threads that write. Texts that are being written end with an error."""
        for model in self.in_memory:
            _close(model)

    def close(self) -> None:
        """Ends the threads of all models. A load in progress is not waited for."""
        self._loading.shutdown(wait=False, cancel_futures=True)
        if self._next_look:
            self._next_look.cancel()
        self.end_texts()

    async def _current(self, name: str) -> ServedModel | None:
        """Returns a model that is in memory, unless it is outdated, which is looked at once a second."""
        model, now = self._loaded.get(name), time.monotonic()
        if model and now >= model.checked_at + CHECK_SECONDS:
            model.checked_at = now
            if not await asyncio.to_thread(getattr, model, "is_current"):
                self._outdate(model)
        return self._loaded.get(name)

    def _outdate(self, model: ServedModel) -> None:
        """Gives a model to no new request."""
        if self._loaded.get(model.name) is model:
            del self._loaded[model.name]
            self._outdated.append(model)
            self._make_room()

    def _served(self) -> dict[str, str]:
        if self._places:
            return self._places
        newest = sorted(list_models(self._models_dir), key=saved_at, reverse=True)
        folders = {folder.name: str(folder.absolute()) for folder in newest}
        return folders | {name: str(base_folder(name)) for name in installed_bases() if name not in folders}

    def _default(self, served: Mapping[str, str], text: str) -> str:
        """Returns the first model; if it is a base, the base for the writing system of a text."""
        first = next(iter(served))
        is_base = not self._places and served[first] in {str(base_folder(name)) for name in installed_bases()}
        base = base_for(text) if is_base else None
        return base if base is not None and base in served else first

    def _load_ended(self, name: str, load: asyncio.Task[ServedModel]) -> None:
        del self._loads[name]
        _take_error(load)

    async def _load(self, name: str, place: str) -> ServedModel:
        try:
            read = await self._in_loader(name, lambda: _read(place, self._models_dir, self._config, self._say))
        except SavedModelError as error:
            raise await self._failure(name, error, lambda: _folder_of(place, self._models_dir)) from error
        engine = self._engine(read.generator, asyncio.get_running_loop()) if read.generator else None
        model = self._loaded[name] = ServedModel(name, read.saved, engine, read.exact, read.awaits_training)
        self.has_loaded = True
        self._make_room(name)
        return model

    async def _failure(self, name: str, error: SavedModelError, find: Callable[[], Path | None]) -> ApiError:
        """Returns the answer for a model that cannot be read; it does not tell where the model is.

        Args:
            name: Name of the model.
            error: What is wrong with it.
            find: Returns its folder; None if it is gone.
        """
        folder = await asyncio.to_thread(find)
        if folder is None:
            return no_model(name, [each for each in self._served() if each != name])
        if isinstance(error, ModelChanged):
            return unavailable(f"The model {name!r} has just been changed. Try again in a second.")
        reason = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), name)
        return unavailable(f"The model {name!r} cannot be loaded: {reason}")

    async def _in_loader(self, name: str, work: Callable[[], Result]) -> Result:
        """Does work on a model in the thread that loads.

        Raises:
            ApiError: The server is closing, or has a bug.
            SavedModelError: The model cannot be loaded.
        """
        try:
            working = asyncio.get_running_loop().run_in_executor(self._loading, self._watched, work)
        except RuntimeError as error:  # the executor has been shut down
            raise closing() from error
        try:
            return await working
        except (ApiError, TextgenError):
            raise
        except Exception as error:
            raise ApiError(500, f"The model {name!r} cannot be loaded. The log of the server says why.") from error

    def _watched(self, work: Callable[[], Result]) -> Result:
        self.is_loading = True
        try:
            return work()
        finally:
            self.is_loading = False

    def _engine(self, generator: Generator, loop: asyncio.AbstractEventLoop) -> Engine:
        config = self._config
        return Engine(generator, loop, config.slots, config.max_queue, config.prefix_cache_memory * MEGABYTE)

    def _make_room(self, newest: str | None = None) -> None:
        """Drops idle models that are outdated, and others, the least recently used first, until the rest fits.

        `newest` is kept, or by default the most recently used model.

        As long as some are left, it looks again: those that are in use now, or were a moment ago, may be idle then.
        """
        for model in filter(_can_be_dropped, list(self._outdated)):
            self._outdated.remove(model)
            _close(model)
        by_use = self._by_use()
        newest = newest or next((name for name, _ in by_use[-1:]), None)
        for name, model in by_use:
            if not self._fits and name != newest and _can_be_dropped(model):
                del self._loaded[name]
                _close(model)
        is_full = len(self._loaded) > 1 and not self._fits
        if (is_full or self._outdated) and not self._next_look:
            self._next_look = asyncio.get_running_loop().call_later(GRACE, self._look_again)

    def _look_again(self) -> None:
        self._next_look = None
        self._make_room()

    def _by_use(self) -> list[tuple[str, ServedModel]]:
        """The models that are loaded with their names, the least recently used first."""
        return sorted(self._loaded.items(), key=lambda item: item[1].used_at)

    @property
    def _fits(self) -> bool:
        """Whether all models that are loaded have room."""
        return sum(each.bytes for each in self.in_memory) <= self._config.model_memory * MEGABYTE


def _used(model: ServedModel) -> ServedModel:
    model.used_at = time.monotonic()
    return model


def _can_be_dropped(model: ServedModel) -> bool:
    return model.is_idle and time.monotonic() > model.used_at + GRACE


def _close(model: ServedModel) -> None:
    if model.engine:
        model.engine.close()


def _folder_of(place: str, models_dir: Path | None) -> Path | None:
    """Returns the folder of a model; None if it is gone."""
    try:
        return find_model(place, models_dir)
    except SavedModelError:
        return None


def _take_error(task: asyncio.Task[Any]) -> None:
    """Retrieves the error of a task that nobody may await any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


def places_of(models: Sequence[str], name_of: Callable[[str], str]) -> dict[str, str]:
    """Returns what each name loads, from arguments such as `novel`, `path/to/novel` and `alias=novel`.

    Args:
        models: The arguments.
        name_of: Returns the name of the model that an argument without an alias finds.

    Raises:
        SavedModelError: Two models have the same name, or an argument lacks the name or the model beside its `=`.
    """
    places: dict[str, str] = {}
    for argument in models:
        alias, has_alias, place = argument.partition("=")
        if has_alias and not (alias.strip() and place.strip()):
            lack = "names no model" if alias.strip() else "gives the model an empty name"
            example = f"{alias.strip() or 'poems'}={place.strip() or 'novel'}"
            raise SavedModelError(f"{argument!r} {lack}: write NAME=MODEL, as in {example}.")
        name, place = (alias, place) if has_alias else (name_of(argument), argument)
        if name in places:
            raise SavedModelError(f"Two models are called {name!r}: serve one under another name, as in NAME={place}.")
        places[name] = place
    return places


class _Version(NamedTuple):
    """What is read of a model, and whether it should be read anew when its training has ended."""

    saved: ModelFolder
    generator: Generator | None = None
    exact: Generator | None = None
    awaits_training: bool = False


def _read(place: str, models_dir: Path | None, config: ServerConfig, say: Say) -> _Version:
    """Loads a model and prepares it for its first text, also in exact arithmetic if that is the default."""
    try:
        return _read_version(load_model(place, models_dir), config, say)
    except ModelChanged:  # a training saved it at this moment
        return _read_version(load_model(place, models_dir), config, say)


def _read_version(saved: ModelFolder, config: ServerConfig, say: Say) -> _Version:
    if saved.main_direction == "backward":
        return _Version(saved)
    is_in_training = status_of(saved.folder, saved.training) == RUNNING
    awaits_training = config.runtime == AUTO and is_in_training  # it is saved anew often: not worth the measurement
    generator = saved.generator(runtime=NUMPY if awaits_training else config.runtime, say=say)
    generator.decoder()  # makes the tables of the vocabulary
    next(iter(generator.tokens("a")))  # arranges the weights
    return _Version(saved, generator, exactly(saved, generator) if config.exact else None, awaits_training)
