"""A TLS proxy in front of an API server that misbehaves as it is told, with a kubeconfig of its own.

    python -m selftests.api_proxy RULES KUBECONFIG FOLDER COMMAND...

runs a command while FOLDER/kubeconfig leads through the proxy, and writes FOLDER/met.json: how often each rule was met.
RULES is a JSON list of `Rule`s. Exit code: the command's.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

ERRORS = {"429": "too many requests", "500": "etcdserver: leader changed", "503": "apiserver not ready"}
TIMEOUT_S = 60


@dataclass
class Rule:
    """What becomes of some requests: of those whose method and path match, after `skip` of them, the next `times`.

    `do`: "429", "500", "503" answer so (`retry_after_s` with 429); "cut" sends half of the true answer's body; "close"
    gives none; "restart" ends every connection and listens no more for `away_s`.
    """

    do: str
    path: str
    method: str = "GET"
    skip: int = 0
    times: int = 1
    retry_after_s: int = 1
    away_s: float = 1.0
    met: int = 0
    seen: int = 0

    def meets(self, method: str, path: str) -> bool:
        """Whether this request is one of them; counts it."""
        if method != self.method or not re.fullmatch(self.path, path):
            return False
        self.seen += 1
        if self.seen <= self.skip or self.met >= self.times:
            return False
        self.met += 1
        return True


@dataclass
class Upstream:
    """The real API server, as its kubeconfig tells."""

    url: str
    ca: str | None

    @classmethod
    def of(cls, kubeconfig: dict[str, Any]) -> Upstream:
        """Of the first cluster."""
        cluster = kubeconfig["clusters"][0]["cluster"]
        data = cluster.get("certificate-authority-data")
        return cls(cluster["server"], base64.b64decode(data).decode() if data else None)

    def connect(self) -> http.client.HTTPConnection:
        """A new connection."""
        parts = urlsplit(self.url)
        assert parts.hostname
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
        context = ssl.create_default_context(cadata=self.ca)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=context)


class Handler(BaseHTTPRequestHandler):
    """One connection: passes requests on, unless a rule says otherwise."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def setup(self) -> None:
        self.request = self.proxy.tls.wrap_socket(self.request, server_side=True)
        self.proxy.open.add(self.request)
        super().setup()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client went away, or was sent away
            return

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.proxy.open.discard(self.request)
        self.request.close()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        rule = self.proxy.rule(self.command, urlsplit(self.path).path)
        if rule is None or rule.do == "cut":
            self._pass_on(body, cut=rule is not None)
        elif rule.do in ERRORS:
            text = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": ERRORS[rule.do],
                               "code": int(rule.do)})
            after = {"Retry-After": str(rule.retry_after_s)} if rule.do == "429" else {}
            self._answer(int(rule.do), {"Content-Type": "application/json", **after}, text.encode())
        else:
            self.close_connection = True
            if rule.do == "restart":
                self.proxy.restart(rule.away_s)

    def _pass_on(self, body: bytes, cut: bool) -> None:
        upstream = self.proxy.upstream.connect()
        try:
            kept = {key: value for key, value in self.headers.items()
                    if key.lower() not in ("host", "connection", "accept-encoding")}
            upstream.request(self.command, self.path, body or None, kept)
            answer = upstream.getresponse()
            raw = answer.read()
        finally:
            upstream.close()
        headers = {key: value for key, value in answer.getheaders()
                   if key.lower() not in ("content-length", "transfer-encoding", "connection")}
        self._answer(answer.status, headers, raw, len(raw) // 2 if cut else 0)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, missing: int = 0) -> None:
        self.send_response_only(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[:len(body) - missing])
        if missing:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _any


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that ended before its time is what this is for."""


@dataclass
class Proxy:
    """Listens on the loopback; `kubeconfig` leads through it; `up` is set while it listens."""

    upstream: Upstream
    rules: list[Rule]
    tls: ssl.SSLContext
    port: int = 0
    kubeconfig: Path = Path()
    _server: _Server | None = None
    up: threading.Event = field(default_factory=threading.Event)
    open: set[ssl.SSLSocket] = field(default_factory=set)
    restarting: threading.Lock = field(default_factory=threading.Lock)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rule(self, method: str, path: str) -> Rule | None:
        """The first rule that a request meets."""
        with self._lock:
            return next((rule for rule in self.rules if rule.meets(method, path)), None)

    def listen(self) -> None:
        """Begin, at the same port as before."""
        handler = type("Bound", (Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.up.set()

    def stop(self) -> None:
        """End."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        for one in list(self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def restart(self, away_s: float) -> None:
        """Be away for a while; returns at once."""
        self.up.clear()

        def go() -> None:
            with self.restarting:
                self.stop()
                time.sleep(away_s)
                self.listen()

        threading.Thread(target=go, daemon=True).start()


@contextlib.contextmanager
def proxy(folder: Path, kubeconfig: Path, rules: Sequence[Rule]) -> Iterator[Proxy]:
    """A proxy until the end of the block; its certificate and kubeconfig lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = yaml.safe_load(kubeconfig.read_text())
    key, certificate = folder / "proxy.key", folder / "proxy.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=proxy", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    found = Proxy(Upstream.of(data), list(rules), tls)
    found.listen()
    cluster = data["clusters"][0]["cluster"]
    # the cluster's own authority too: each API server is also asked by its own address
    authorities = certificate.read_text() + (found.upstream.ca or "")
    cluster |= {"server": f"https://127.0.0.1:{found.port}",
                "certificate-authority-data": base64.b64encode(authorities.encode()).decode()}
    found.kubeconfig = folder / "kubeconfig"
    found.kubeconfig.write_text(yaml.safe_dump(data))
    found.kubeconfig.chmod(0o600)
    try:
        yield found
    finally:
        with found.restarting:
            found.stop()


def main(words: Sequence[str]) -> int:
    """See the module."""
    rules, kubeconfig, folder, *command = words
    with proxy(Path(folder), Path(kubeconfig), [Rule(**one) for one in json.loads(rules)]) as found:
        code = subprocess.run(command, check=False).returncode
        (Path(folder) / "met.json").write_text(json.dumps([rule.met for rule in found.rules]))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
