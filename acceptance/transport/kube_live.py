"""The Kubernetes API over the `kubernetes` client's connection: its TLS and credentials; JSON in and out."""

from __future__ import annotations

import json as json_text
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from acceptance.errors import WrongUse
from acceptance.transport.kube import Answer, Attempt, Method, Query

RETRIED = (429, 500, 502, 503, 504)
RETRIES = 4
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
MAX_BODY_BYTES = 64 * 1024 * 1024
EXPECTED = "expected a kubeconfig of a user who may read the cluster"


def check_kubeconfig(path: Path) -> None:
    """Raises WrongUse unless the file is there, can be read, and is a kubeconfig."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise WrongUse(f"kubernetes.kubeconfig: {path}: cannot be read: {reason}; {EXPECTED}") from None
    except yaml.YAMLError:
        raise WrongUse(f"kubernetes.kubeconfig: {path}: not YAML; {EXPECTED}") from None
    if not isinstance(data, dict) or not all(data.get(key) for key in ("clusters", "contexts", "users")):
        raise WrongUse(f"kubernetes.kubeconfig: {path}: names no cluster, context and user; {EXPECTED}")


@dataclass(frozen=True)
class _Try:
    attempt: Attempt
    text: str = ""
    data: Any = None
    again: bool = False
    pause_s: float | None = None


@dataclass
class LiveKube:
    """Asks the API server of a kubeconfig, from any thread. `secrets` holds what must never be written down."""

    kubeconfig: Path
    deadline_factor: float = 1.0
    wait: Callable[[float], Any] = time.sleep
    secrets: list[str] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _client: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_kubeconfig(self.kubeconfig)
        from kubernetes import client, config  # takes a second or two

        settings = client.Configuration()
        settings.connection_pool_maxsize = 32
        try:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                str(self.kubeconfig), client_configuration=settings, persist_config=False)
        except Exception as error:  # also whatever a credential plugin may raise
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise WrongUse(f"kubernetes.kubeconfig: {self.kubeconfig}: {line}; {EXPECTED}") from None
        self._client = client.ApiClient(configuration=settings)
        self.secrets += _secrets(self.kubeconfig, self._headers())

    @property
    def server(self) -> str:
        """The API server's address in the kubeconfig."""
        return str(self._client.configuration.host).rstrip("/")

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {"User-Agent": "gpu-cluster-acceptance"}
        with self._lock:  # a credential plugin may be asked for a new token here
            self._client.update_params_for_auth(headers, [], ["BearerToken"], None, None, None)
        return headers

    def request(self, method: Method, path: str, *, deadline_s: float, query: Query = (), body: Any = None,
                headers: Mapping[str, str] | None = None, server: str | None = None, json: bool = True,
                retries: int | None = None) -> Answer:
        """See `Kube.request`."""
        url = f"{server or self.server}{path}" + (f"?{urlencode(list(query))}" if query else "")
        sent = self._headers() | {"Accept": "application/json" if json else "text/plain, */*"} | dict(headers or {})
        payload = None if body is None else json_text.dumps(body).encode()
        if payload is not None:
            sent["Content-Type"] = "application/json"
        end = time.monotonic() + deadline_s * self.deadline_factor
        attempts: list[Attempt] = []
        allowed = RETRIES if retries is None else retries
        while True:
            one = self._try(method, url, payload, sent, end, json)
            attempts.append(one.attempt)
            pause = FIRST_PAUSE_S * 2 ** (len(attempts) - 1) if one.pause_s is None else one.pause_s
            left = end - time.monotonic()
            if not one.again or len(attempts) > allowed or pause >= left:
                return Answer(method, path, one.attempt.status, one.text, one.data, tuple(attempts))
            self.wait(min(pause, LONGEST_PAUSE_S) if one.pause_s is None else pause)

    def _try(self, method: str, url: str, payload: bytes | None, headers: dict[str, str], end: float,
             json: bool) -> _Try:
        import urllib3

        started = time.monotonic()

        def failed(error: str, *, again: bool = True) -> _Try:
            return _Try(Attempt(None, error, time.monotonic() - started), again=again)

        try:
            left = max(0.05, end - started)
            response = self._client.rest_client.pool_manager.request(
                method, url, body=payload, headers=headers, preload_content=False, retries=False, redirect=False,
                timeout=urllib3.Timeout(connect=left, read=left))
            try:
                text = _read(response, end)
            except BaseException:
                response.close()
                raise
            response.release_conn()
        except urllib3.exceptions.SSLError as error:  # a certificate stays what it is; a server that goes away does not
            wrong = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in (error, *error.args))
            return failed(f"TLS: {_plain(error)}", again=not wrong)
        except (urllib3.exceptions.TimeoutError, TimeoutError) as error:
            return failed(f"no complete answer in time: {_plain(error)}")
        except urllib3.exceptions.IncompleteRead as error:
            return failed(f"the answer was cut off: {_plain(error)}")
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return failed(f"{type(error).__name__}: {_plain(error)}")
        return _understood(response, text, json, time.monotonic() - started)


def _read(response: Any, end: float) -> str:
    """The whole body. Raises TimeoutError, ValueError, and what the connection raises when it is cut off."""
    parts, size = [], 0
    for chunk in response.stream(65536, decode_content=True):
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise ValueError(f"an answer of more than {MAX_BODY_BYTES} bytes")
        if time.monotonic() > end:
            raise TimeoutError(f"{size} bytes by the deadline, and no end")
    return b"".join(parts).decode("utf-8", "replace")


def _understood(response: Any, text: str, json: bool, seconds: float) -> _Try:
    status = int(response.status)
    try:
        data = json_text.loads(text) if json else None
    except ValueError:
        data = None
        if 200 <= status < 300:
            return _Try(Attempt(None, f"status {status}, but the answer is no complete JSON ({len(text)} characters)",
                                seconds), again=True)
    again = status in RETRIED
    said = str(data.get("message", "")) if isinstance(data, dict) else text.strip()
    error = "" if 200 <= status < 300 else said[:200]
    return _Try(Attempt(status, error, seconds), text, data, again, _retry_after(response) if again else None)


def _retry_after(response: Any) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


def _plain(error: BaseException) -> str:
    """An error of urllib3 without the names of its objects."""
    return str(error).split(">: ")[-1].split("): ", 1)[-1][:200] or type(error).__name__


def _secrets(path: Path, headers: Mapping[str, str]) -> list[str]:
    """What of a kubeconfig and its credentials must not be written down: tokens, passwords, private keys."""
    found = [headers[key].split()[-1] for key in headers if key.lower() == "authorization"]
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["users"]:
        user = (entry or {}).get("user") or {}
        found += [str(user[key]) for key in ("token", "password", "client-key-data") if user.get(key)]
    return found
