"""Run folders as the engine writes them, made here, with whatever text in them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from acceptance.checks import Check
from acceptance.evidence import Recorder
from acceptance.findings import Finding, Verdict
from acceptance.model import Item
from selftests.synthetic import SITE, sections

CHECK = asdict(Check("gpu-inventory", 2, "compute", "gpu", "c", "Every GPU is there", "look", "gpu_nodes", ("facts",),
                     "must", True, False, "test_x", "tests_gpu.test_x"))


def item(verdict: Verdict, level: str = "must", subject: str = "gpu-node-01", **named: Any) -> Item:
    """One item of a gate."""
    return Item(CHECK | {"level": level}, subject, f"tests_gpu/test_x.py::test_x[{subject}]", verdict, (), **named)


def finding(text: str, verdict: Verdict = Verdict.FAIL, subject: str | None = None) -> Finding:
    """A finding in which everything is the text."""
    return Finding(text if subject is None else subject, text, text, [text], "=", text, verdict, text, ("e0001",))


def run_folder(path: Path, host: str = "gpu-node-01", found: list[Finding] | None = None, *,
               planned: int = 1, finished: bool = True, error: str = "") -> Path:
    """A run folder as the engine writes it: `planned` items on one host, of which the first was judged."""
    path.mkdir(parents=True, exist_ok=True)
    nodes = [f"tests_gpu/test_x.py::test_x[{host}]" + "x" * n for n in range(planned)]
    plan = [{"check": "gpu-inventory" + "x" * n, "subject": host, "item": node} for n, node in enumerate(nodes)]
    contract = SITE.contract.model_dump(mode="json", by_alias=True)
    stand_ins = [{"component": host, "real": host, "stand_in": host}]
    (path / "run.json").write_text(json.dumps({
        "run_id": "20260101T000000Z-x-abcdef", "site": {"name": host, "client": host, "environment": "lab"},
        "site_file": "site.yaml", "contract_digest": "0" * 64, "contract": contract | {"stand_ins": stand_ins},
        "hosts": [{"name": host, "address": "10.100.0.101", "groups": ["gpu_nodes"]}], "selection": {},
        "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00" if finished else None,
        "version": "0", "environment": {"python": "3.11", "operator": host, "argv": []}, "planned": plan,
        "gates": {"2": {"missing": []}}, "not_measurable": {"x": host}, "evidence_source": host,
        "checks": {one["check"]: CHECK | {"id": one["check"]} for one in plan}}))
    found = [finding("gpus", Verdict.PASS)] if found is None else found
    verdict = "PASS" if all(f.verdict is Verdict.PASS for f in found) else "FAIL"
    line = {**plan[0], "verdict": verdict, "findings": [f.as_json() for f in found], "error": error}
    (path / "findings.jsonl").write_text(json.dumps(line) + "\n")
    (path / "evidence.jsonl").unlink(missing_ok=True)
    recorder = Recorder(path / "evidence.jsonl")
    for number in range(max([1, *(int(id[1:]) for f in found for id in f.evidence)])):
        recorder.record("made", f"record {number + 1}", document={})
    recorder.close()
    return path


def record_facts(path: Path, host: str, text: str) -> None:
    """Evidence in which a GPU's name, serial and VBIOS and a kernel log line are the text."""
    data = sections(SITE, SITE.hosts[0])
    for gpu in data["nvml"]["gpus"]:
        gpu |= {"name": text, "serial": text, "vbios": text, "uuid": text}
    data["kernel_log"]["entries"][0]["text"] = text
    parts = {name: {"ok": True, "data": part} for name, part in data.items()}
    (path / "evidence.jsonl").unlink(missing_ok=True)
    recorder = Recorder(path / "evidence.jsonl")
    recorder.record("facts", host, document={"probe": 1, "hostname": text, "sections": parts})
    recorder.close()
