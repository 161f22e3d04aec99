"""The page for writing, at /. Its files are part of the package and are read once; a request never names a path."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
INDEX = "index.html"
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def page_routes() -> list[BaseRoute]:
    """Returns the routes of the page, one for each of its files."""
    return [_route("/" if name == INDEX else f"/page/{name}", name, data) for name, data in page_files().items()]


def page_files() -> Mapping[str, bytes]:
    """Returns the files of the page by name."""
    folder = files("textgen.server") / "page"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in TYPES}


def _route(path: str, name: str, data: bytes) -> Route:
    async def send_file(request: object) -> Response:
        return Response(data, headers={**HEADERS, "Content-Type": TYPES[name.rpartition(".")[2]]})

    return Route(path, send_file, methods=["GET"])
