"""Ask the etcd of this host for its members, alarms and status, and for its metrics twice with a pause in between.

Argument: {"url", "metrics", "ca", "cert", "key", "pause_s"}. Prints {"members", "alarms", "status", "samples"}; a part
that failed is {"error": text}. Keys are used and not printed.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 8
KEPT = ("etcd_server_has_leader", "etcd_server_is_leader", "etcd_mvcc_db_total_size_in_bytes",
        "etcd_server_quota_backend_bytes", "etcd_disk_wal_fsync_duration_seconds",
        "etcd_disk_backend_commit_duration_seconds")


def fetch(url: str, context: ssl.SSLContext | None = None, body: Any = None) -> str:
    """The text at a URL."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    handlers: list[Any] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as answer:
        return str(answer.read().decode("utf-8", "replace"))


def guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """Its result, or how it failed."""
    try:
        return function(*arguments)
    except (OSError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def sample(base: str) -> list[str]:
    """The lines of the metrics that are judged."""
    lines = fetch(base + "/metrics").splitlines()
    return [line for line in lines if line.startswith(KEPT)]


def main() -> None:
    """Read the argument, ask, print."""
    wanted = json.loads(sys.argv[1])

    def asked(path: str, body: Any) -> Any:
        context = ssl.create_default_context(cafile=wanted["ca"])
        context.load_cert_chain(wanted["cert"], wanted["key"])
        return json.loads(fetch(wanted["url"] + path, context, body))

    found = {
        "members": guarded(asked, "/v3/cluster/member/list", {}),
        "alarms": guarded(asked, "/v3/maintenance/alarm", {"action": "GET"}),
        "status": guarded(asked, "/v3/maintenance/status", {}),
    }
    first = guarded(sample, wanted["metrics"])
    time.sleep(wanted["pause_s"])
    found["samples"] = [first, guarded(sample, wanted["metrics"])]
    print(json.dumps(found))


main()
