"""The bench of scale: its cluster is as contracted, grows without a gap, and what is not all green is not measured."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.collectors.kubernetes import projections
from bench import scale
from bench.control_plane import PROGRAMS, ControlPlane, _process
from bench.measure import BenchError, Sample, Series
from bench.population import PODS_A_NODE, daemonsets, node, pods
from lab import programs
from selftests.synthetic import ROOT

BUILT = not programs.missing(PROGRAMS)


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    return ControlPlane(tmp_path, 6443)


def test_each_size_has_the_hosts_of_the_one_before_and_then_its_own(plane: ControlPlane) -> None:
    sizes = [scale.write_site(plane.folder / str(count), plane, count) for count in (2, 10, 300)]
    assert [len(site.hosts) for site in sizes] == [2, 10, 300]
    for small, large in itertools.pairwise(sizes):
        assert large.hosts[:len(small.hosts)] == small.hosts
    addresses = {host.address for host in sizes[-1].hosts}
    assert len(addresses) == 300


def test_what_is_made_is_what_the_contract_asks_for(plane: ControlPlane) -> None:
    site = scale.write_site(plane.folder / "site", plane, 5)
    for host in site.hosts:
        made = pods(site.contract, host)
        names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in made}
        assert len(made) == len(names) == PODS_A_NODE
        seen = projections.node(node(site.contract, host))
        gpus = site.contract.gpu.count if "gpu_nodes" in host.groups else None
        assert (seen["allocatable_gpus"], seen["addresses"]) == (gpus, [host.address])
        assert seen["taints"] == [taint for group in host.groups
                                  for taint in site.contract.kubernetes.allowed_taints[group]]
    assert {count for _, _, count in daemonsets(site)} == {4, 5}


def test_only_what_hosts_must_tell_is_left_out() -> None:
    assert set(scale.host_only()) == {"etcd", "certificates", "cni", "gpu-allocatable"}


def series(name: str, seconds: float, mib: float) -> Series:
    return Series(name, [Sample(seconds, mib)])


def test_the_growth_is_told_and_what_is_too_slow_or_too_large() -> None:
    found = [series("10", 2, 70), series("100", 4, 100), series("1000", 61, 2000)]
    assert [(target.text, target.met) for target in scale.targets(found)] == [
        ("1000 nodes: time", False), ("1000 nodes: memory", False), ("time from 10 to 100 nodes", True),
        ("time from 100 to 1000 nodes", False)]
    text = scale.text(found, "0.1")
    assert "| 1000 | 20000 | 61.0 s | 15.2 | 2000 MiB | 20.0 |" in text
    assert "certificates, cni, etcd, gpu-allocatable" in text


@pytest.mark.parametrize("counts", [{"nodes": 4, "pods": 100}, {"nodes": 5, "pods": 99}, {}])
def test_a_run_that_read_something_else_is_not_measured(
        counts: dict[str, int], plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    site = scale.write_site(plane.folder / "site", plane, 5)

    def measured(argv: list[str], log: Path) -> Sample:
        del argv
        (log.parent / "run").mkdir()
        lines = [{"collector": "kube-state", "subject": kind, "document": {"items": [{}] * count}}
                 for kind, count in counts.items()]
        (log.parent / "run" / "evidence.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return Sample(1, 1)

    monkeypatch.setattr(scale, "measure", measured)
    with pytest.raises(BenchError, match=r"were read, expected \{'nodes': 5, 'pods': 100\}"):
        scale.run_once(site, plane.folder / "out")


@pytest.mark.parametrize("words", [["--nodes", "1"], ["--nodes", "10", "5"], ["--repeats", "0"]])
def test_wrong_use_is_one_line(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "bench.scale", *words], cwd=ROOT, text=True, capture_output=True,
                          check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)


@contextlib.contextmanager
def running(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program in etcd's place."""
    class Stand:
        built = Path(program)

    monkeypatch.setitem(programs.PROGRAMS, "etcd", Stand())
    with _process(folder, "etcd", ["600"]) as process:
        yield process


def test_a_program_is_ended_by_its_id_and_one_that_ends_by_itself_is_an_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, monkeypatch, "/bin/sleep") as process:
        assert process.poll() is None
    assert process.returncode == -signal.SIGTERM
    with pytest.raises(BenchError, match="etcd ended by itself, with status 1"):  # noqa: SIM117
        with running(tmp_path, monkeypatch, "/bin/false") as process:
            process.wait(20)


@pytest.mark.skipif(not BUILT, reason="the lab's programs are not built; `python -m lab.programs` builds them")
def test_a_small_cluster_is_all_green_and_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.scale", "--nodes", "3", "--repeats", "1", "--out", str(tmp_path / "out")],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(tmp_path)})
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output[-3000:]
    assert "| 3 | 60 |" in (tmp_path / "out/scale.md").read_text()
    assert list(tmp_path.glob("scale-*")) == []
    assert of_scratch(tmp_path) == []


@pytest.mark.skipif(not BUILT, reason="the lab's programs are not built; `python -m lab.programs` builds them")
def test_a_bench_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "bench.scale", "--nodes", "3"], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env=os.environ | {"TMPDIR": str(tmp_path)})
    assert process.stdout is not None
    assert "making" in process.stdout.readline()
    assert of_scratch(tmp_path)
    process.kill()
    process.communicate()
    for _ in range(200):
        if not of_scratch(tmp_path):
            break
        time.sleep(0.05)
    assert of_scratch(tmp_path) == []


def of_scratch(folder: Path) -> list[str]:
    """Processes that work in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if str(place.readlink()).startswith(f"{folder}/"):
                found.append(place.parent.name)
    return found
