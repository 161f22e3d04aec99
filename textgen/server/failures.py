"""Errors as clients of the OpenAI API expect them: a status, and JSON with message, type, param and code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from starlette.responses import Response

from textgen.errors import ConfigError, TextgenError, TokenizerError
from textgen.wording import listed, shortened

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
BUSY = "server_busy"  # code of the error for requests that are more than the server can take
MAX_MESSAGE_CHARS = 1000  # maximum number of characters of a message, which may quote the request


class ApiError(Exception):
    """An answer other than success.

    Attributes:
        status: The HTTP status.
        message: What happened, what was expected and what to do.
        param: The field of the request that is wrong, if one is.
        code: A word for programs.
        headers: Headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Makes an error.

        Args:
            status: Status of the answer.
            message: What went wrong, and what to do.
            param: The field of the request that is wrong, if one is.
            code: A word for programs.
            headers: Headers of the answer.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The error as JSON.

        Example:
            >>> ApiError(404, "There is no such page.").body()["error"]["type"]
            'not_found_error'
        """
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        message = shortened(self.message, MAX_MESSAGE_CHARS)
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The error as a response."""
        return Response(encode(self.body()), self.status, self.headers, "application/json")


def encode(value: Any) -> bytes:
    """Encodes a value as JSON."""
    return msgspec.json.encode(value)


def encoded(value: Any) -> msgspec.Raw:
    """Encodes a part of a value that is encoded later.

    A large answer is put together of encoded parts, in another thread: a collection of the garbage collector holds up
    all threads for as long as there are many lists and dictionaries.

    Example:
        >>> encode({"a": encoded([1, 2])})
        b'{"a":[1,2]}'
    """
    return msgspec.Raw(encode(value))


def as_api_error(error: BaseException) -> ApiError:
    """Converts an error of textgen; anything else becomes a status 500 that says nothing of its cause.

    Example:
        >>> as_api_error(ConfigError("top_p must be a number from 0 to 1. Received: 2.")).param
        'top_p'
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, (ConfigError, TokenizerError)):
        name = re.match(r"[a-z_]+(?=[ :])", str(error))
        is_setting = isinstance(error, ConfigError) and name is not None
        return ApiError(400, str(error), param=name.group() if name and is_setting else None)
    if isinstance(error, TextgenError):
        return ApiError(500, str(error))
    return ApiError(500, "The server failed at this request. Its log says why.")


@contextmanager
def naming(param: str) -> Iterator[None]:
    """Makes errors of the block, which checks one field of a request, name the field.

    Args:
        param: The field.

    Raises:
        ApiError: The block has raised an error about a setting or a text.
    """
    try:
        yield
    except (ConfigError, TokenizerError) as error:
        raise ApiError(400, str(error), param=param) from error


def no_model(name: str, names: Sequence[str]) -> ApiError:
    """The error for a model that is not served.

    Args:
        name: What was asked for.
        names: The names of the models that are served.

    Example:
        >>> print(no_model("novle", ["novel", "poems"]))
        There is no model 'novle'. There are: novel, poems.
    """
    message = "There is no model yet: train one first."
    if names:
        message = f"There is no model {name[:200]!r}. There are: {listed(names)}."
    return ApiError(404, message, param="model", code="model_not_found")


def busy(detail: str = "") -> ApiError:
    """The error for requests that are more than the server can take for the moment.

    Args:
        detail: What there is too much of.

    Example:
        >>> print(busy("9 texts waiting"))
        The server is busy: 9 texts waiting. Try again in a second.
    """
    said = f"The server is busy{detail and f': {detail}'}. Try again in a second."
    return ApiError(429, said, code=BUSY, headers={"Retry-After": "1"})


def closing() -> ApiError:
    """The error for requests that the end of the server interrupts."""
    return unavailable("The server is closing.")


def unavailable(message: str) -> ApiError:
    """An error that passes: the client should try again in a second."""
    return ApiError(503, message, headers={"Retry-After": "1"})


def too_large(most: int) -> ApiError:
    """The error for a body that is too large.

    Args:
        most: Maximum number of bytes.

    Example:
        >>> too_large(1000).status
        413
    """
    return ApiError(413, f"The request has more than the {most:,} bytes that this server takes.")
