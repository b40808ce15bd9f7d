"""An API server on the loopback that answers as it is told: well, late, with errors, or with half an answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

TOKEN = "eyJ0b2tlbi-of-the-fake-api"


@dataclass
class Reply:
    """One answer: status, body, headers; `cut` bytes are promised and not sent; `hang_s` passes before anything is."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    hang_s: float = 0.0

    def raw(self) -> bytes:
        """The body as sent."""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


Behaviour = Callable[[Asked], Reply]


def status(code: int, message: str, **headers: str) -> Reply:
    """A Status object, as the API server sends with an error."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return Reply(code, body, {key.replace("_", "-"): value for key, value in headers.items()})


def page(items: list[Any], *, token: str = "", remaining: int | None = None, kind: str = "PodList") -> Reply:
    """One page of a list."""
    meta: dict[str, Any] = {"resourceVersion": "7"} | ({"continue": token} if token else {})
    if remaining is not None:
        meta["remainingItemCount"] = remaining
    return Reply(200, {"kind": kind, "apiVersion": "v1", "metadata": meta, "items": items})


@dataclass
class FakeApi:
    """What was asked, and where a kubeconfig for it lies."""

    kubeconfig: Path
    address: str
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def fake_api(folder: Path, behave: Behaviour) -> Iterator[FakeApi]:
    """An API server that answers with `behave`, until the end of the block."""
    leaving = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked = Asked(self.command, parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}, body,
                          dict(self.headers))
            api.asked.append(asked)
            reply = behave(asked)
            leaving.wait(reply.hang_s)
            raw = reply.raw()
            self.send_response(reply.status)
            for key, value in {"Content-Type": "application/json", "Content-Length": str(len(raw))}.items():
                self.send_header(key, value)
            for key, value in reply.headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(raw[:len(raw) - reply.cut])
            if reply.cut:
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = _any

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # the client went away
                return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    address = f"http://127.0.0.1:{server.server_address[1]}"
    api = FakeApi(write_kubeconfig(folder / "kubeconfig", address), address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        leaving.set()
        server.shutdown()
        server.server_close()
        thread.join()


def write_kubeconfig(path: Path, address: str) -> Path:
    """A kubeconfig with a token."""
    path.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": address}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}]}))
    return path
