"""The interface as an OpenAPI document, at /openapi.json, made from the types that check requests."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from textgen import __version__
from textgen.generation.config import SamplingConfig
from textgen.server.requests import (
    OWN_NAMES,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    StateRequest,
    TokenizeRequest,
)
from textgen.settings import json_schema

Operation = tuple[str, str, str, type[msgspec.Struct] | None]
OPERATIONS: tuple[Operation, ...] = (
    ("post", "/v1/completions", "Continue prompts.", CompletionRequest),
    ("post", "/v1/chat/completions", "Continue a chat.", ChatRequest),
    ("post", "/v1/embeddings", "Make vectors of texts.", EmbeddingRequest),
    ("get", "/v1/models", "List the models.", None),
    ("get", "/v1/models/{id}", "Describe a model.", None),
    ("post", "/v1/states", "Read a prompt and keep the state after it.", StateRequest),
    ("get", "/v1/states/{id}", "Fetch a state as a file.", None),
    ("delete", "/v1/states/{id}", "Delete a state.", None),
    ("post", "/tokenize", "Cut a text into tokens.", TokenizeRequest),
    ("post", "/detokenize", "Join tokens to a text.", DetokenizeRequest),
    ("get", "/tokenizer_info", "Describe the tokenizer.", None),
    ("get", "/health", "Tell whether the process answers.", None),
    ("get", "/ready", "Tell whether requests are answered.", None),
    ("get", "/metrics", "Report numbers for Prometheus.", None),
    ("get", "/openapi.json", "Describe the interface.", None),
)
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
    kinds = [kind for _, _, _, kind in OPERATIONS if kind]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    settings = json_schema(SamplingConfig)["properties"]
    for name in ("CompletionRequest", "ChatRequest"):
        own = components[name]["properties"]
        own |= {key: _or_null(settings[key]) for key in sorted(OWN_NAMES) if key not in own}
    bodies = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for method, path, summary, kind in OPERATIONS:
        paths.setdefault(path, {})[method] = _operation(path, summary, bodies[kind] if kind else None)
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


def _operation(path: str, summary: str, body: dict[str, Any] | None) -> dict[str, Any]:
    error = {"description": "An error.", "content": {"application/json": {"schema": _reference("Error")}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "Success."}, "4XX": error, "5XX": error},
    }
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if "{id}" in path:
        operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    return operation


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a setting; null stands for its default."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema and None not in schema["enum"] else {}
    return schema | choices | {"type": [*(kind for kind in kinds if kind != "null"), "null"]}
