"""`python -m bench.scale [--nodes 10 100 1000] [--repeats N] [--out DIR]`: time and memory as a cluster grows.

A real API server with etcd, kwok in the place of kubelets, 20 pods a node, all on this machine's loopback; the lab is
not needed. Runs the checks of phase 3 that only read, under the suite's own rights, with a contract of so many nodes.
What only hosts can tell (facts, etcd's own port, certificates) is left out: kwok's nodes have no hosts. Writes scale.md
and scale.json. What is slower than promised is told, and is no failure; a run that is not all green is one.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml

from acceptance.checks import CHECKS, COLLECTORS
from acceptance.collectors import register
from acceptance.errors import AcceptanceError, WrongUse
from acceptance.selection import load_catalogue
from acceptance.site.load import Site, load_site
from acceptance.transport.kube_live import LiveKube
from bench.control_plane import ADMIN, SUITE, ControlPlane, control_plane
from bench.measure import BenchError, Sample, Series, Target, measure
from bench.population import PODS_A_NODE, foundation, populate
from lab.errors import LabError

ROOT = Path(__file__).parents[1]
MARKS = "phase3 and not intrusive"
TEAMS = ("nlp-team", "cv-team", "ml-team")
FIRST = IPv4Address("10.128.0.1")
LIMIT_S, LIMIT_MIB, AT = 60, 1024, 1000


def host_only() -> dict[str, str]:
    """Checks of phase 3 that only read, and need more than the API."""
    register()
    load_catalogue(ROOT)
    return {check.id: "kwok's nodes have no hosts that could be asked" for check in CHECKS.values()
            if check.phase == 3 and not check.intrusive and not all(COLLECTORS[need].kube for need in check.needs)}


def write_site(folder: Path, plane: ControlPlane, count: int) -> Site:
    """A contract and an inventory of so many nodes, one of them of the control plane."""
    folder.mkdir(exist_ok=True)
    names = ["k8s-cp-01", *(f"gpu-node-{number:04}" for number in range(1, count))]
    addresses = {name: str(FIRST + number) for number, name in enumerate(names)} | {names[0]: "127.0.0.1"}
    groups = {"k8s_control": names[:1], "gpu_nodes": names[1:]}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {
        group: {"hosts": {name: {"ansible_host": addresses[name]} for name in found}}
        for group, found in groups.items()}}}, sort_keys=False))  # whose order is that in which they are made
    (folder / "key").touch(mode=0o600)
    changes: dict[str, Any] = {
        "extends": os.path.relpath(ROOT / "site.yaml", folder), "inventory": "hosts.yml",
        "site": {"name": f"scale-{count}", "client": "a bench", "environment": "lab"},
        "hosts": {group: len(found) for group, found in groups.items()}, "ssh": {"private_key": str(folder / "key")},
        "kubernetes": {"kubeconfig": str(plane.kubeconfig(SUITE)), "api_port": plane.port, "max_metrics_age_s": 86400,
                       "tenants": {"teams": {team: {"gpus": 1} for team in TEAMS}}},  # which two nodes can hold
        "not_measurable": host_only()}
    (folder / "site.yaml").write_text(yaml.safe_dump(changes))
    return load_site(folder / "site.yaml")


def run_once(site: Site, folder: Path) -> Sample:
    """One run, all green and of everything. Raises BenchError."""
    folder.mkdir()
    sample = measure([sys.executable, "-m", "pytest", "-q", "-m", MARKS, "--site", str(site.path), "--report-dir",
                      str(folder)], folder / "log")
    [run] = [path.parent for path in folder.glob("*/evidence.jsonl") if not path.parent.is_symlink()]
    counts = {}
    with (run / "evidence.jsonl").open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if record["collector"] == "kube-state" and record["subject"] in ("nodes", "pods"):
                counts[record["subject"]] = len(record["document"]["items"])
    expected = {"nodes": len(site.hosts), "pods": len(site.hosts) * PODS_A_NODE}
    if counts != expected:
        raise BenchError(f"{run}: {counts} were read, expected {expected}")
    return sample


def run(plane: ControlPlane, sizes: Sequence[int], repeats: int) -> list[Series]:
    """Grow the cluster from size to size, and measure at each."""
    found, made = [], 0
    with contextlib.closing(LiveKube(plane.kubeconfig(ADMIN))) as kube:
        for size in sizes:
            def say(text: str, size: int = size) -> None:
                print(f"{size} nodes: {text}", flush=True)

            site = write_site(plane.folder / f"site-{size}", plane, size)
            if not made:
                foundation(kube, site.contract)
            populate(kube, site, site.hosts[made:], say)
            made = size
            series = Series(str(size))
            for turn in range(repeats):
                series.samples.append(run_once(site, plane.folder / f"run-{size}-{turn}"))
                say(f"run {turn + 1} of {repeats}: {series.samples[-1].seconds:.1f} s, "
                    f"{series.samples[-1].peak_mib:.0f} MiB")
            found.append(series)
    return found


def targets(found: Sequence[Series]) -> list[Target]:
    """What is promised of the largest size that was promised, and that nothing grows faster than the nodes."""
    series = {int(one.name): one for one in found}
    promised = [Target(f"{AT} nodes: time", series[AT].median_s, LIMIT_S, False, "s"),
                Target(f"{AT} nodes: memory", series[AT].peak_mib, LIMIT_MIB, False, "MiB")] if AT in series else []
    sizes = sorted(series)
    return promised + [
        Target(f"time from {small} to {large} nodes", series[large].median_s / series[small].median_s, large / small,
               False, "×") for small, large in itertools.pairwise(sizes)]


def text(found: Sequence[Series], load: str) -> str:
    """scale.md."""
    lines = ["| nodes | pods | time, median | × before | memory peak | × before |", "|" + "---|" * 6]
    before: Series | None = None
    for one in found:
        times = f"{one.median_s / before.median_s:.1f}" if before else ""
        memory = f"{one.peak_mib / before.peak_mib:.1f}" if before else ""
        lines.append(f"| {one.name} | {int(one.name) * PODS_A_NODE} | {one.median_s:.1f} s | {times} | "
                     f"{one.peak_mib:.0f} MiB | {memory} |")
        before = one
    left_out = ", ".join(sorted(host_only()))
    return "\n".join([
        "# Phase 3, what only reads, as the cluster grows", "",
        f"A real API server and etcd, kwok in the place of kubelets, all on one machine of {os.cpu_count()} processors,"
        f" load average {load} before; Python {platform.python_version()}. `pytest -m \"{MARKS}\"` as a process of its "
        f"own, every verdict PASS, report written. Left out, since kwok's nodes have no hosts: {left_out}. Made by "
        "`make bench`.", "", *lines, "", *(f"- {target.sentence()}" for target in targets(found)), ""])


def main() -> int:
    """Exit code 0 when everything could be measured, 1 when something failed, 4 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 100, 1000], help="default: 10 100 1000")
    parser.add_argument("--repeats", type=int, default=2, help="runs at each size; default: 2")
    parser.add_argument("--out", type=Path, default=Path("reports/bench"), help="default: reports/bench")
    options = parser.parse_args()
    load = f"{os.getloadavg()[0]:.1f}"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as for Ctrl-C: all is removed
    try:
        if options.repeats < 1 or min(options.nodes) < 2 or sorted(set(options.nodes)) != options.nodes:
            raise WrongUse("--nodes and --repeats: expected sizes that grow, from 2 on, and at least one run")
        with tempfile.TemporaryDirectory(prefix="scale-") as scratch:
            service_range = str(load_site(ROOT / "site.yaml").contract.network.service_range)
            with control_plane(Path(scratch), service_range) as plane:
                found = run(plane, options.nodes, options.repeats)
    except (AcceptanceError, BenchError, LabError) as error:
        print(f"bench.scale: {error}", file=sys.stderr)
        return 4 if isinstance(error, WrongUse) else 1
    report = text(found, load)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scale.md").write_text(report, encoding="utf-8")
    (options.out / "scale.json").write_text(json.dumps(
        {one.name: [[sample.seconds, sample.peak_mib] for sample in one.samples] for one in found}, indent=1))
    print(f"\n{report}\nwritten to {options.out / 'scale.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
