"""textgen serve: answer requests over HTTP, as OpenAI's servers do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.command import SectionCommand
from textgen.cli.options import completing_models, given, models_dir_option
from textgen.cli.setting_options import setting_options
from textgen.server.config import ServerConfig
from textgen.settings import from_dict, select
from textgen.system.machine import num_cores
from textgen.system.runtime import limit_threads, use_blas_threads
from textgen.versions import require

if TYPE_CHECKING:
    from textgen.server.serving import Server

EXTRA = ("starlette", "uvicorn", "msgspec", "prometheus_client")


@click.command(cls=SectionCommand)
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=completing_models())
@setting_options(ServerConfig)
@models_dir_option
def serve(models: tuple[str, ...], models_dir: Path | None, **options: Any) -> None:
    """Serve models over HTTP, and a page for writing.

    MODEL is a name in saved_models or a folder, or NAME=MODEL to serve it under another name. The first is the default
    of requests that name none. Without any, all models in the folder are served, the newest first, and after them
    the bases that are part of textgen.

    Programs that use the OpenAI API work with it: completions, chats, embeddings. The page is at /, metrics for
    Prometheus at /metrics. The server listens on this machine only unless --host says otherwise. It needs the
    extra serve: pip install ".[serve]" in the folder of textgen's source.

    \b
    Example:
      textgen serve
      textgen serve novel poems --port 8080
      textgen serve stories=novel --host 0.0.0.0 --api-key-file keys.txt
    """
    config = from_dict(ServerConfig, select(ServerConfig, given(options)))
    if config.threads:  # before NumPy is imported
        limit_threads(config.threads)
    else:
        use_blas_threads(max(1, num_cores() - 1))
    require("textgen serve", EXTRA, "serve")
    from textgen.saved_model.bases import installed_bases
    from textgen.saved_model.registry import find_model, list_models, require_models_folder, why_empty
    from textgen.server.access import read_keys
    from textgen.server.models import places_of
    from textgen.server.serving import serve

    if not models:
        require_models_folder(models_dir)
    keys = read_keys(config.api_key_file)
    places = places_of(models, lambda name: find_model(name, models_dir).name)
    for place in places.values():
        find_model(place, models_dir)  # raises before anything listens
    if not places and not list_models(models_dir):
        if not installed_bases():
            find_model(None, models_dir)
        output.note(f"{why_empty(models_dir)} The bases are served.")
    if not config.is_local and not keys:
        output.note(
            f"Warning: everybody who can reach {config.host} can use this server. Require a key with --api-key-file."
        )
    serve(config, places, models_dir, keys, lambda server: _announce(server, config), output.note)


def _announce(server: Server, config: ServerConfig) -> None:
    host = f"[{config.host}]" if ":" in config.host else config.host
    page = " Open it in a browser to write." if config.page else ""
    output.note(f"Listening on http://{host}:{server.port} (Ctrl-C ends it).{page}")
