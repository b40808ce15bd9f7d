"""Reading the JSON documents that the workloads write (`workloads/README.md`), and believing none that is not whole.

Unknown keys, missing ones, numbers that are none, and lists that are shorter or longer than ranks and arguments ask for
are refused; what a workload derives must follow from its raw times; and the document must be of the run that was asked
for: so many ranks, these sizes, so many repeats. What is refused is a ParseError of one line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from acceptance.errors import ParseError
from acceptance.measure.documents.collectives import AllreduceDocument
from acceptance.measure.documents.frame import Document
from acceptance.measure.documents.gpus import BurninDocument, GemmDocument, MemcpyDocument
from acceptance.measure.documents.training import DdpDocument

MARK = "ACCEPTANCE-DOCUMENT "
D = TypeVar("D", bound=Document)


def documents_in(log: str) -> dict[str, str]:
    """The documents in what a workload printed, by workload. Raises ParseError.

    What stands before the mark on a line is torchrun's. Each document carries its length and its SHA-256.
    """
    found: dict[str, str] = {}
    begun: str | None = None
    parts: list[str] = []
    for line in log.splitlines():
        before, mark, rest = line.partition(MARK)
        if not mark or (before and not before.endswith(":")):
            continue
        if rest.startswith("begin ") and begun is None:
            begun, parts = rest, []
        elif rest.startswith("|") and begun is not None:
            parts.append(rest[1:])
        elif rest == "end" and begun is not None:
            text = "".join(parts)
            if begun != f"begin {len(text)} {hashlib.sha256(text.encode()).hexdigest()}":
                raise ParseError("a workload's document is damaged: not the length or SHA-256 that it was sent with")
            name = str(_plain(text).get("workload"))
            if name in found:
                raise ParseError(f"{name} wrote two documents where one was expected")
            found[name] = text
            begun = None
        else:
            raise ParseError(f"a workload's document is damaged at the line {rest[:60]!r}")
    if begun is not None:
        raise ParseError("a workload's document has no end")
    return found


def read_allreduce(text: str, *, ranks: int, device: str, collectives: Sequence[str], sizes: Sequence[int],
                   other_sizes: Sequence[int], repeats: int, may_lack: Collection[str] = ()) -> AllreduceDocument:
    """`allreduce`'s document. Only collectives in `may_lack` may be unsupported by the backend. Raises ParseError."""
    document = _read(AllreduceDocument, text, ranks, device=device, collectives=list(collectives), sizes=list(sizes),
                     other_sizes=list(other_sizes), repeats=repeats)
    for (collective, placement), reason in document.lacking().items():
        if collective not in may_lack:
            raise ParseError(f"allreduce: {collective} {placement} was not run: {reason}")
    return document


def read_ddp(text: str, *, ranks: int, device: str, steps: int, warmups: int, **asked: Any) -> DdpDocument:
    """`ddp`'s document; `asked` are more of its arguments. Raises ParseError."""
    return _read(DdpDocument, text, ranks, device=device, steps=steps, warmups=warmups, **asked)


def read_gemm(text: str, *, ranks: int, device: str, dtypes: Sequence[str], size: int, repeats: int,
              may_lack: Collection[str] = ()) -> GemmDocument:
    """`gemm`'s document. Only dtypes in `may_lack` may be unsupported by the device. Raises ParseError."""
    document = _read(GemmDocument, text, ranks, device=device, dtypes=list(dtypes), size=size, repeats=repeats)
    for each in document.results.left_out:
        if each.dtype not in may_lack:
            raise ParseError(f"gemm: {each.dtype} was not run: {each.reason}")
    return document


def read_memcpy(text: str, *, ranks: int, device: str, size: int, repeats: int,
                may_lack: Collection[str] = ()) -> MemcpyDocument:
    """`memcpy`'s document. Only kinds of copies in `may_lack` may be left out. Raises ParseError."""
    document = _read(MemcpyDocument, text, ranks, device=device, bytes=size, repeats=repeats)
    for each in document.results.left_out:
        if each.kind not in may_lack:
            raise ParseError(f"memcpy: {each.kind} was not run: {each.reason}")
    return document


def read_burnin(text: str, *, ranks: int, device: str, seconds: float) -> BurninDocument:
    """`burnin`'s document, `results.cut_short` set where it did not last. Raises ParseError."""
    return _read(BurninDocument, text, ranks, device=device, seconds=seconds)


def _read(model: type[D], text: str, ranks: int, **asked: Any) -> D:
    name = str(model.model_fields["workload"].annotation).partition("'")[2].partition("'")[0]
    _all_ranks(name, _plain(text).get("ranks"), ranks)
    try:
        document = model.model_validate_json(text)
    except ValidationError as error:
        raise ParseError(f"{name}: {_explain(error)}") from None
    arguments: Any = getattr(document, "arguments")  # noqa: B009 - each document has its own kind
    for key, value in asked.items():
        if getattr(arguments, key) != value:
            raise ParseError(f"{name}: asked for {key} {value}, the document has {getattr(arguments, key)}")
    return document


def _all_ranks(name: str, found: Any, ranks: int) -> None:
    """That the ranks are those asked for, said before anything else, as all else would follow from it."""
    told = [each.get("rank") for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    missing = [rank for rank in range(ranks) if rank not in told]
    if missing:
        raise ParseError(f"{name}: ranks {missing} are missing")
    if len(found) != ranks:
        raise ParseError(f"{name}: asked for {ranks} ranks, the document has {len(found)}")


def _plain(text: str) -> dict[str, Any]:
    """The text as an object in which no key stands twice, which the JSON libraries would let pass."""
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ParseError(f"a workload's document has a key twice among {sorted(found)[:4]}")
        return found

    try:
        document = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise ParseError(f"a workload's document is no JSON: {text.strip()[:60]!r}") from None
    if not isinstance(document, dict):
        raise ParseError(f"a workload's document is no JSON object: {text.strip()[:60]!r}")
    return document


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}"
    if first["type"] == "missing":
        return f"key {where} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}; found {repr(first['input'])[:60]}" if where else message
