"""The interface as an OpenAPI document, at /openapi.json, made from the types that check requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

from textgen import __version__
from textgen.generation.config import SamplingConfig
from textgen.server.endpoints import STATE_TYPE
from textgen.server.requests import (
    CLAMP_HELP,
    EXACT_HELP,
    OWN_NAMES,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    StateRequest,
    TokenizeRequest,
)
from textgen.server.text_settings import ALL_AT_MINUS_ONE, LISTED, OFF_AT_MINUS_ONE
from textgen.settings import json_schema

JSON = "application/json"
TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}


@dataclass(frozen=True)
class Operation:
    """What a method of a path does.

    Attributes:
        method: The method.
        path: The path.
        summary: What it does, for people.
        body: What it reads as JSON, if it does.
        file: Content type of a file that it reads in place of JSON, if it does.
        query: The query parameters that belong to the file, with their schemas.
        answers: Content types of its answers.
        result: Schema of what its answer in JSON has beyond that of the OpenAI API; empty without.
    """

    method: str
    path: str
    summary: str
    body: type[msgspec.Struct] | None = None
    file: str | None = None
    query: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    answers: tuple[str, ...] = (JSON,)
    result: Mapping[str, Any] = field(default_factory=dict)


STATE_LABEL_HELP = "Label of the document, for a file that no longer holds its beginning."
STATE_QUERY: dict[str, dict[str, Any]] = {
    "model": {"type": "string"},
    "label": {"type": "string", "description": STATE_LABEL_HELP},
    "clamp": TEXTS | {"description": CLAMP_HELP},
    "exact": {"type": "boolean", "description": EXACT_HELP},
}
WRITES = (JSON, "text/event-stream")
SEED_HELP = "The seed of the first text, given or drawn at random. Each event of a stream has it, too."
SEEDED = {"type": "object", "properties": {"seed": {"type": "integer", "description": SEED_HELP}}}
LABELS_HELP = "The labels that requests for the model may have in label."
EXACT_DEFAULT_HELP = "Whether requests without exact are computed in exact arithmetic."
MODEL = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "labels": TEXTS | {"description": LABELS_HELP},
        "exact": {"type": "boolean", "description": EXACT_DEFAULT_HELP},
    },
}
MODELS = {"type": "object", "properties": {"data": {"type": "array", "items": MODEL}}}
OPERATIONS = (
    Operation("post", "/v1/completions", "Continue prompts.", CompletionRequest, answers=WRITES, result=SEEDED),
    Operation("post", "/v1/chat/completions", "Continue a chat.", ChatRequest, answers=WRITES, result=SEEDED),
    Operation("post", "/v1/embeddings", "Make vectors of texts.", EmbeddingRequest),
    Operation("get", "/v1/models", "List the models.", result=MODELS),
    Operation("get", "/v1/models/{id}", "Describe a model.", result=MODEL),
    Operation(
        "post", "/v1/states", "Keep the state after a prompt, or one from a file, which the query describes.",
        StateRequest, STATE_TYPE, STATE_QUERY,
    ),
    Operation("get", "/v1/states/{id}", "Fetch a state as a file.", answers=(STATE_TYPE,)),
    Operation("delete", "/v1/states/{id}", "Delete a state."),
    Operation("post", "/tokenize", "Cut a text into tokens.", TokenizeRequest),
    Operation("post", "/detokenize", "Join tokens to a text.", DetokenizeRequest),
    Operation("get", "/tokenizer_info", "Describe the tokenizer."),
    Operation("get", "/health", "Tell whether the process answers."),
    Operation("get", "/ready", "Tell whether requests are answered."),
    Operation("get", "/metrics", "Report numbers for Prometheus.", answers=("text/plain",)),
    Operation("get", "/openapi.json", "Describe the interface."),
)  # fmt: skip
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


@cache
def openapi() -> dict[str, Any]:
    """Returns the document."""
    kinds = [operation.body for operation in OPERATIONS if operation.body]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    settings = {name: _setting(name, schema) for name, schema in json_schema(SamplingConfig)["properties"].items()}
    for name in ("CompletionRequest", "ChatRequest"):
        own = components[name]["properties"]
        own |= {key: settings[key] for key in sorted(OWN_NAMES) if key not in own}
    bodies = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        body = bodies[operation.body] if operation.body else None
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, body)
    return {
        "openapi": "3.1.0",
        "info": {"title": "textgen", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _described(operation: Operation, body: dict[str, Any] | None) -> dict[str, Any]:
    """An operation in the form of OpenAPI; `body` is the schema of what it reads as JSON."""
    error = {"description": "An error.", "content": {JSON: {"schema": _reference("Error")}}}
    content_of: dict[str, Any] = {kind: {} for kind in operation.answers}
    if operation.result:
        content_of[JSON] = {"schema": operation.result}
    success = {"description": "Success.", "content": content_of}
    found: dict[str, Any] = {"summary": operation.summary, "responses": {"200": success, "4XX": error, "5XX": error}}
    if body:
        content: dict[str, Any] = {JSON: {"schema": body}}
        if operation.file:
            content[operation.file] = {}
        found["requestBody"] = {"required": True, "content": content}
    if operation.query:
        query = operation.query.items()
        found["parameters"] = [{"name": name, "in": "query", "schema": schema} for name, schema in query]
    if "{id}" in operation.path:
        found["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    return found


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _setting(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a setting as requests have it, from that of `SamplingConfig`; null stands for its default."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema and None not in schema["enum"] else {}
    found = schema | choices | {"type": [*(kind for kind in kinds if kind != "null"), "null"]}
    if name in OFF_AT_MINUS_ONE + ALL_AT_MINUS_ONE:
        found["minimum"] = -1
    if name in LISTED:
        found |= TEXTS | {"type": [*found["type"], TEXTS["type"]]}
    if name == "max_seconds":
        del found["maximum"]  # a larger number stands for the longest time of the server
    return found
