"""A server that answers as Google Cloud Storage and as Hugging Face's hub do, as far as their libraries ask to read."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = r"/storage/v1/b/bucket"
HUB = r"(?P<kind>datasets|models)/owner/name"


@dataclass
class ObjectStore:
    """What a bucket `bucket` and the repositories `owner/name` hold.

    Attributes:
        url: Address of the server.
        files: Contents by name.
        status: Status of answers with content, if they fail.
        asked: Paths of requests.
        token: What the header Authorization must hold; None if everybody may read.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    asked: list[str] = field(default_factory=list)
    token: str | None = None

    def object(self, name: str) -> dict[str, Any]:
        """What Google says about a file."""
        data = self.files[name]
        checksum = hashlib.md5(data, usedforsecurity=False).hexdigest()
        about = {"name": name, "bucket": "bucket", "size": str(len(data)), "etag": checksum, "generation": "1"}
        return {**about, "timeCreated": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z", "md5Hash": checksum}

    def objects(self, prefix: str, delimiter: str) -> dict[str, Any]:
        """Google's list of the files whose names have a prefix; with a delimiter, those of one folder."""
        names = [name for name in sorted(self.files) if name.startswith(prefix)]
        within = [name for name in names if delimiter and delimiter in name[len(prefix) :]]
        folders = {prefix + name[len(prefix) :].split(delimiter)[0] + delimiter for name in within}
        items = [self.object(name) for name in names if name not in within]
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)}

    def tree(self, folder: str, is_recursive: bool) -> list[dict[str, Any]]:
        """The hub's list of a folder: files, and folders within."""
        found: dict[str, dict[str, Any]] = {}
        start = f"{folder}/" if folder else ""
        for name, data in sorted(self.files.items()):
            if not name.startswith(start):
                continue
            parts = name[len(start) :].split("/")
            for depth in range(1, len(parts) if is_recursive else min(2, len(parts))):
                place = start + "/".join(parts[:depth])
                found[place] = {"type": "directory", "path": place, "oid": "0", "size": 0}
            if is_recursive or len(parts) == 1:
                oid = hashlib.sha1(data, usedforsecurity=False).hexdigest()
                found[name] = {"type": "file", "path": name, "oid": oid, "size": len(data)}
        return list(found.values())


def _handler(store: ObjectStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            store.asked.append(self.path)
            if store.token and self.headers.get("Authorization") != store.token:
                self._json({"error": "no"}, 401)
                return
            parts = urlsplit(self.path)
            path, query = parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}
            if found := re.fullmatch(rf"(?:/download)?{BUCKET}/o(?:/(?P<name>.*))?", path):
                self._object(found["name"], query)
            elif re.fullmatch(rf"/api/{HUB}(/revision/main)?", path):
                self._json({"id": "owner/name", "sha": "0" * 40, "siblings": [], "tags": []})
            elif found := re.fullmatch(rf"/api/{HUB}/tree/main/?(?P<name>.*)", path):
                tree = store.tree(unquote(found["name"]), query.get("recursive", "").lower() == "true")
                self._json(tree, 200 if tree else 404)
            elif found := re.fullmatch(r"(?:/datasets)?/owner/name/resolve/main/(?P<name>.*)", path):
                self._content(unquote(found["name"]))
            else:
                self._json({"error": "not found"}, 404)

        do_HEAD = do_GET

        def _object(self, name: str | None, query: dict[str, str]) -> None:
            name = unquote(name or "")
            if not name:
                self._json(store.objects(query.get("prefix", ""), query.get("delimiter", "")))
            elif query.get("alt") == "media":
                self._content(name)
            elif name in store.files:
                self._json(store.object(name))
            else:
                self._json({"error": {"code": 404, "message": "no such object"}}, 404)

        def _content(self, name: str) -> None:
            if name not in store.files:
                self._json({"error": "not found"}, 404)
            elif store.status != 200:
                self._json({"error": {"code": store.status, "message": "later"}}, store.status)
            else:
                self._range(store.files[name])

        def _range(self, data: bytes) -> None:
            """A file, or the bytes of it that were asked for."""
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            start = int(wanted[1]) if wanted else 0
            stop = min(len(data), int(wanted[2]) + 1 if wanted and wanted[2] else len(data))
            if wanted and start >= len(data):
                self._json({"error": "no such range"}, 416)
                return
            extra = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"} if wanted else {}
            self._send(206 if wanted else 200, data[start:stop], "application/octet-stream", extra)

        def _json(self, value: Any, status: int = 200) -> None:
            extra = {"X-Error-Code": "EntryNotFound"} if status == 404 else {}
            self._send(status, json.dumps(value).encode(), "application/json", extra)

        def _send(self, status: int, data: bytes, kind: str, extra: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **extra}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A store on this machine."""
    store = ObjectStore()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(store)) as http:
        http.daemon_threads = True
        store.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield store
        http.shutdown()
        thread.join()
