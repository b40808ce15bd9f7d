"""The Kubernetes API: what a request means, how it may end, and whole lists read in pages.

`LiveKube` (kube_live.py) asks the API server. Every request is under a deadline, its retries are bounded, and every
attempt is in the answer, so that it gets into the evidence. No credential is in an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from acceptance.errors import ApiFailed

PAGE = 500
GONE = 410
FORBIDDEN = 403
CONFLICT = 409
NOT_FOUND = 404

Query = Iterable[tuple[str, str]]
Method = Literal["GET", "POST", "PUT", "DELETE"]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Attempt:
    """One try of a request: the HTTP status, or None and how it failed."""

    status: int | None
    error: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain data for the evidence."""
        return {"status": self.status, "error": self.error, "seconds": round(self.seconds, 4)}


@dataclass(frozen=True)
class Answer:
    """How a request ended. `status` is None when no complete answer came within the deadline.

    `data` is the JSON of a 2xx answer, and of any other that is JSON; None of a text.
    """

    method: str
    path: str
    status: int | None
    text: str
    data: Any
    attempts: tuple[Attempt, ...]

    @property
    def ok(self) -> bool:
        """A complete answer with a status of 2xx."""
        return self.status is not None and 200 <= self.status < 300

    def message(self) -> str:
        """What the API says of a refusal, or why there is no answer."""
        if self.status is None:
            return self.attempts[-1].error if self.attempts else "not asked"
        said = self.data.get("message") if isinstance(self.data, dict) else None
        return f"status {self.status}: {said or self.text.strip()[:200] or 'no message'}"

    def reason(self) -> str:
        """The request and its end, in one line."""
        tries = f" after {len(self.attempts)} attempts" if len(self.attempts) > 1 else ""
        return f"{self.method} {self.path}: {self.message()}{tries}"

    def evidence(self) -> dict[str, Any]:
        """The request, its status and its attempts; not its body."""
        return {"request": f"{self.method} {self.path}", "status": self.status,
                "attempts": [attempt.as_json() for attempt in self.attempts]}

    def object(self) -> dict[str, Any]:
        """The object of a 2xx answer. Raises ApiFailed for everything else."""
        if not self.ok or not isinstance(self.data, dict):
            raise ApiFailed(self.reason() if not self.ok else f"{self.method} {self.path}: the answer is no object",
                            self.evidence())
        return self.data


class Kube(Protocol):
    """Asks an API server. Never raises for what the server does or does not do."""

    def request(self, method: Method, path: str, *, deadline_s: float, query: Query = (), body: Any = None,
                headers: Mapping[str, str] | None = None, server: str | None = None, json: bool = True,
                retries: int | None = None) -> Answer:
        """The answer to one request.

        `server` is another endpoint of the same cluster ("https://10.100.0.50:6443"); `json` False asks for text;
        `retries` bounds the further attempts after 429, 500, 502, 503, 504, a lost connection or a cut answer.
        """
        ...


@dataclass(frozen=True)
class Listing:
    """A whole list: its projected items, and how it was had. `restarts` counts beginnings anew after 410 Gone."""

    path: str
    items: list[Any]
    pages: int
    restarts: int
    attempts: tuple[Attempt, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data for the evidence."""
        return {"path": self.path, "pages": self.pages, "restarts": self.restarts, "items": self.items,
                "attempts": [attempt.as_json() for attempt in self.attempts]}


@dataclass
class _Reading:
    items: list[Any] = field(default_factory=list)
    pages: int = 0
    restarts: int = 0
    attempts: list[Attempt] = field(default_factory=list)

    def failed(self, path: str, problem: str) -> ApiFailed:
        return ApiFailed(f"GET {path}: {problem}", {
            "request": f"GET {path}", "pages": self.pages, "restarts": self.restarts,
            "attempts": [attempt.as_json() for attempt in self.attempts]})


def list_all(kube: Kube, path: str, *, deadline_s: float, project: Callable[[dict[str, Any]], Item], query: Query = (),
             page: int = PAGE) -> Listing:
    """Every item of a list, read in pages and projected page by page. `deadline_s` bounds each page.

    A continue token that has expired (410) begins the list once again. Raises ApiFailed when any page is missing,
    refused or no list: a part of a list is never taken for the list, nor an error for an empty one.
    """
    reading, token = _Reading(), ""
    while True:
        words = [*query, ("limit", str(page)), *([("continue", token)] if token else [])]
        answer = kube.request("GET", path, query=words, deadline_s=deadline_s)
        reading.attempts += answer.attempts
        if answer.status == GONE and token and not reading.restarts:
            reading.items, reading.pages, reading.restarts, token = [], 0, 1, ""
            continue
        if not answer.ok:
            raise reading.failed(path, answer.message())
        items, token = _page(answer.data, path, reading)
        reading.pages += 1
        reading.items += [project(item) for item in items]
        if not token:
            return Listing(path, reading.items, reading.pages, reading.restarts, tuple(reading.attempts))


def _page(data: Any, path: str, reading: _Reading) -> tuple[list[dict[str, Any]], str]:
    """Items and continue token of one page. Raises ApiFailed unless it is a complete page of a list."""
    meta = data.get("metadata") if isinstance(data, dict) else None
    if not isinstance(meta, dict) or not str(data.get("kind", "")).endswith("List"):
        raise reading.failed(path, "the answer is no list")
    items, token = data.get("items"), meta.get("continue") or ""
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise reading.failed(path, "the list has no items")
    if not isinstance(token, str) or (meta.get("remainingItemCount") and not token):
        raise reading.failed(path, f"the list breaks off: {meta.get('remainingItemCount')} items are left, with no "
                                   "way to ask for them")
    return items, token
