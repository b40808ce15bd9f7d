"""`python -m bench.own_facts OUT`: one collection of all facts of the GPU nodes by this suite, as a run does it.

Writes evidence.jsonl to the folder OUT and, to facts.json beside it, which facts each section of each host has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

import acceptance.probe.collector  # noqa: F401  (registers its collector)
from acceptance.collect import run_collectors
from acceptance.evidence import Recorder
from acceptance.site.load import find_site_file, load_site
from acceptance.transport.local import LocalShell
from acceptance.transport.ssh import SshShell


def main(out: Path) -> None:
    """Collect, and tell what could not be read."""
    site = load_site(find_site_file(None, Path.cwd()))
    site = dataclasses.replace(site, hosts=site.group("gpu_nodes"))
    with (contextlib.closing(SshShell(site.contract.ssh, {host.name: host for host in site.hosts})) as shell,
          contextlib.closing(Recorder(out / "evidence.jsonl")) as recorder):
        run_collectors({"facts": ()}, site, shell, LocalShell(), recorder, lambda *_: None)
        records = recorder.evidence().records("facts")
    found = {}
    for record in records:
        sections = (record.document or {}).get("sections")
        if sections is None:
            sys.exit(f"{record.subject}: no facts: {record.outcome.reason() if record.outcome else record.document}")
        failed = [f"{name}: {entry['error']}" for name, entry in sections.items() if not entry["ok"]]
        if failed:
            sys.exit(f"{record.subject}: not all facts can be read here, deploy it first: {failed[0]}")
        found[record.subject] = {name: sorted(entry["data"]) for name, entry in sections.items()}
    (out / "facts.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
