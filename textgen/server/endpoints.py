"""The endpoints besides those that write: models, embeddings, states, tokens, health, metrics."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from textgen.errors import SavedModelError, TokenizerError
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.text_state import TextState, state_bytes
from textgen.server.completions import described, read_state
from textgen.server.failures import ApiError, closing, encode, encoded, naming, no_model, unavailable
from textgen.server.planning import check_kept, in_thread_if_long, label_at, label_of, lead_of
from textgen.server.requests import (
    DetokenizeRequest,
    EmbeddingRequest,
    Prompt,
    StateRequest,
    TokenizeRequest,
    check_text_length,
    first_text,
    parse,
)
from textgen.server.resources import Resources
from textgen.server.served_model import ServedModel
from textgen.server.text_settings import MAX_CLAMPS, clamps_of
from textgen.storage.files import write_chunks
from textgen.storage.temporary import temporary_folder
from textgen.wording import counted

STATE_TYPE = "application/octet-stream"


def answer(value: Any, status: int = 200) -> Response:
    """A value as a response in JSON."""
    return Response(encode(value), status, media_type="application/json")


# === Models ===


async def list_models(resources: Resources) -> Response:
    """`GET /v1/models`."""
    return answer({"object": "list", "data": await _models(resources.models.names(), resources)})


async def show_model(name: str, resources: Resources) -> Response:
    """`GET /v1/models/{id}`."""
    names = resources.models.names()
    if name not in names:
        raise no_model(name, names)
    return answer((await _models([name], resources))[0])


async def _models(names: Sequence[str], resources: Resources) -> list[dict[str, Any]]:
    exact = resources.config.exact  # so that the page can show the command that writes the same
    common = {"object": "model", "created": 0, "owned_by": "textgen", "exact": exact}
    all_labels = await resources.models.labels(names)
    return [{"id": name, **common, "labels": labels} for name, labels in zip(names, all_labels, strict=True)]


# === Embeddings ===


async def embed(body: bytes, owner: str, resources: Resources) -> Response:
    """`POST /v1/embeddings`: the vectors of `textgen embed`.

    Args:
        body: The body of the request.
        owner: Whose request it is: see `textgen.server.access`.
        resources: What the server has.

    Returns:
        The answer.
    """
    request, _ = parse(body, EmbeddingRequest)
    if request.encoding_format not in (None, "float", "base64"):
        raise ApiError(400, "encoding_format must be float or base64.", param="encoding_format")
    model = await resources.models.get(request.model, first_text(request.input))
    inputs = _inputs(request.input)
    if len(inputs) > resources.config.max_choices * 32:
        raise ApiError(
            400, f"input must have at most {counted(resources.config.max_choices * 32, 'text')} on this server.",
            param="input",
        )  # fmt: skip
    with model.in_use():
        texts, read = await in_thread_if_long(sum(map(len, inputs)), _texts_and_tokens, inputs, model)
    if sum(map(len, read)) > resources.config.max_prompt:
        raise ApiError(
            400, f"input must have at most {counted(resources.config.max_prompt, 'token')} on this server.",
            param="input", code="context_length_exceeded",
        )  # fmt: skip
    with model.in_use():
        await resources.models.prepare(model, "embedder")
        vectors: list[np.ndarray] = await resources.in_worker(partial(_vectors, model, texts), owner, model.name)
    if request.dimensions is not None and request.dimensions != vectors[0].size:
        raise ApiError(400, f"dimensions must be {vectors[0].size} with this model.", param="dimensions")
    data = await asyncio.to_thread(_embeddings, vectors, request.encoding_format)
    tokens = sum(map(len, read))
    resources.metrics.prompt_tokens.labels(model.name).inc(tokens)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return answer({"object": "list", "data": data, "model": model.name, "usage": usage})


def _vectors(model: ServedModel, texts: Sequence[str], wanted: Any) -> list[np.ndarray]:
    """The vector of each text by itself, so that it does not depend on the others."""
    return [next(iter(model.embedder.vectors([text]))) for text in texts if wanted()]


def _inputs(given: str | list[str | int | list[int]]) -> list[Prompt]:
    """The texts to embed, as texts or as ids."""
    if isinstance(given, str):
        given = [given] if given else []
    if given and all(isinstance(each, int) for each in given):
        given = [given]  # type: ignore[list-item]
    if not given:
        raise ApiError(400, "input is empty: give a text or several.", param="input")
    if any(isinstance(each, int) for each in given):
        raise ApiError(400, "input must be a text, texts, token ids or lists of token ids.", param="input")
    return given  # type: ignore[return-value]


def _texts_and_tokens(inputs: Sequence[Prompt], model: ServedModel) -> tuple[list[str], list[list[int]]]:
    texts = [each if isinstance(each, str) else _decoded(each, model) for each in inputs]
    if not all(texts):
        raise ApiError(400, "input has an empty text: leave it out.", param="input")
    return texts, model.tokenizer.encode_batch(texts)


def _decoded(ids: list[int], model: ServedModel) -> str:
    try:
        return model.tokenizer.decode(ids)
    except TokenizerError as error:
        raise ApiError(
            400, f"{error} LangChain's OpenAIEmbeddings sends the tokens of another vocabulary: give it "
            "check_embedding_ctx_length=False.", param="input",
        ) from None  # fmt: skip


def _embeddings(vectors: Sequence[np.ndarray], encoding: str | None) -> list[Raw]:
    return [
        encoded({"object": "embedding", "index": index, "embedding": _numbers(vector, encoding)})
        for index, vector in enumerate(vectors)
    ]


def _numbers(vector: np.ndarray, encoding: str | None) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.astype(float).tolist()


# === States ===


async def make_state(request: Request, body: bytes, owner: str, resources: Resources) -> Response:
    """`POST /v1/states`: reads a prompt, or takes a file that was fetched or saved before.

    Args:
        request: The request.
        body: Its body.
        owner: Whose request it is: see `textgen.server.access`.
        resources: What the server has.

    Returns:
        The answer, which describes the state.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == STATE_TYPE:
        model = await resources.models.get(request.query_params.get("model"))
        clamps = request.query_params.getlist("clamp")[:MAX_CLAMPS]
        label = request.query_params.get("label")
        check_text_length("label", label or "")
        generator = await resources.models.generator(model, clamps, _flag(request, "exact"))
        state = _imported(body, model, generator)
        label = _checked_label(model, state, label)
    else:
        asked, _ = parse(body, StateRequest)
        kept = None if asked.state is None else resources.states.get(owner, asked.state)
        model = await resources.models.get(asked.model or (kept.model if kept else None), first_text(asked.prompt))
        generator = await resources.models.generator(model, clamps_of(asked), asked.exact)
        check_kept(kept, model, generator)
        config, prompt = SamplingConfig(label=asked.label, seed=0), asked.prompt or ""
        state = await read_state(model, generator, prompt, config, kept, owner, resources)
        known = label_of(generator, lead_of(generator, prompt, kept), asked.label)
        label = label_at(model.tokenizer, state, kept.label if kept and known is None else known)
    return answer(described(resources.states.add(owner, model.name, generator.fingerprint, state, label)))


def _checked_label(model: ServedModel, state: TextState, label: str | None) -> str | None:
    """Returns the label of the document that a state continues, which a request may name.

    Raises:
        ApiError: The model does not know the label that the request names, or the document does not have it.
    """
    with naming("label"):
        model.tokenizer.opening(label)
    found = label_at(model.tokenizer, state, label)
    if label not in (None, found):
        has = "without a label" if found is None else f"with the label {found!r}"
        raise ApiError(
            400, f"The state is one of a document {has}, not with {label!r}: leave label out.", param="label"
        )
    return found


def fetch_state(id: str, owner: str, resources: Resources) -> Response:
    """`GET /v1/states/{id}`: the file that `textgen sample --save-state` writes."""
    kept = resources.states.get(owner, id)
    headers = {"Content-Disposition": f'attachment; filename="{kept.id}.state"'}
    return Response(state_bytes(kept.state, kept.fingerprint), 200, headers, STATE_TYPE)


def remove_state(id: str, owner: str, resources: Resources) -> Response:
    """`DELETE /v1/states/{id}`."""
    resources.states.remove(owner, id)
    return answer({"id": id, "object": "state", "deleted": True})


def _flag(request: Request, name: str) -> bool | None:
    """Returns a query parameter that must be true or false; None if it is missing.

    Raises:
        ApiError: It is something else.
    """
    given = request.query_params.get(name)
    if given not in (None, "true", "false"):
        raise ApiError(400, f"{name} must be true or false.", param=name)
    return None if given is None else given == "true"


def _imported(body: bytes, model: ServedModel, generator: Generator) -> TextState:
    """The state in a file."""
    with temporary_folder() as folder:
        file = folder / "text.state"
        write_chunks(file, [body])
        try:
            return generator.load_state(file)
        except SavedModelError as error:
            reason = str(error).replace(str(file), "The file").replace("Cannot read the state in The file: ", "")
            raise ApiError(400, f"This is no state of the model {model.name!r}: {reason}", param="state") from None


# === Tokens ===


async def tokenizer_info(resources: Resources) -> Response:
    """`GET /tokenizer_info`."""
    model = await resources.models.get()
    tokenizer = model.tokenizer
    eos = tokenizer.piece(tokenizer.eos_id)
    info = {"eos_token": eos, "bos_token": eos, "pad_token": tokenizer.piece(tokenizer.pad_id)}
    return answer(info | {"tokenizer": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "chat_template": None})


async def tokenize(body: bytes, resources: Resources) -> Response:
    """`POST /tokenize`. The name of the end of a document alone is that token, as clients that score expect."""
    request, _ = parse(body, TokenizeRequest)
    model = await resources.models.get(request.model)
    tokenizer = model.tokenizer
    prompt = request.prompt
    is_end = prompt == tokenizer.piece(tokenizer.eos_id)

    def tokens() -> dict[str, Any]:
        ids = [tokenizer.eos_id] if is_end else tokenizer.encode(prompt)
        return {"tokens": encoded(ids), "count": len(ids), "token_strs": encoded([model.token_texts[id] for id in ids])}

    with model.in_use():
        return answer(await in_thread_if_long(len(prompt), tokens))


async def detokenize(body: bytes, resources: Resources) -> Response:
    """`POST /detokenize`."""
    request, _ = parse(body, DetokenizeRequest)
    model = await resources.models.get(request.model)
    with naming("tokens"), model.in_use():
        text = await in_thread_if_long(len(request.tokens), model.tokenizer.decode, request.tokens)
    return answer({"prompt": text})


# === Health and metrics ===


async def health(resources: Resources) -> Response:
    """`GET /health`: the process answers."""
    return answer({"status": "ok"})


async def ready(resources: Resources) -> Response:
    """`GET /ready`: requests are answered, since a first model has been loaded and the server is not about to end.

    Models that are loaded anew, replaced or removed later change nothing: other ones may be asked for meanwhile.
    """
    if resources.is_draining or not resources.models.has_loaded:
        raise closing() if resources.is_draining else unavailable("No model is loaded yet.")
    return answer({"status": "ready"})


async def metrics(resources: Resources) -> Response:
    """`GET /metrics`."""
    return Response(resources.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
