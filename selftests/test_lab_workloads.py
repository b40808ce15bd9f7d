"""How the lab runs workloads: what it lays on its hosts, how ranks are started, and what a fault makes of them.

torch is needed for those that run: the first of them installs Debian's python3-torch where it is missing.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from acceptance.measure.documents import documents_in
from acceptance.measure.documents.collectives import AllreduceDocument
from acceptance.measure.documents.gpus import GemmDocument, MemcpyDocument
from acceptance.measure.nccl_log import parse_nccl_log
from acceptance.measure.results import logs_of, transport_need
from acceptance.measure.transport import judge_transport
from acceptance.site.inventory import Host
from lab import boot, workload_files
from lab.workload_launch import fault_of, with_faults
from selftests import workload_runs as runs
from selftests.workload_runs import ALLREDUCE, GEMM, MEMCPY, words

PODS, RANKS = 2, 2  # pods, and ranks in each
LAST = PODS * RANKS - 1
SMALL_COPY = "65536"


def laid(folder: Path, *fault: str) -> Path:
    """The folder as it lies on a host."""
    folder.mkdir()
    for name, text in workload_files.files().items():
        (folder / name).write_text(text)
    if fault:
        (folder / "fault.json").write_text(json.dumps(fault))
    return folder


def test_a_gpu_host_is_delivered_with_them_and_no_other(tmp_path: Path) -> None:
    for name, groups in (("gpu-node-01", ("gpu_nodes",)), ("k8s-cp-01", ("k8s_control",))):
        boot._personalise(tmp_path / name, Host(name, "10.100.0.101", groups), "", "")
        folder = tmp_path / name / workload_files.FOLDER.lstrip("/")
        assert {path.name for path in folder.glob("*")} == (set(workload_files.files()) if groups[0] == "gpu_nodes"
                                                            else set())


def test_a_rank_begins_where_faults_are_injected(tmp_path: Path) -> None:
    torchrun = ["--nnodes", "8", "--tee", "1"]
    given = [*torchrun, "several.py", "gemm.py", "--size", "64", "--", "ddp.py"]
    healthy = with_faults(given, laid(tmp_path / "a"))
    log = str(tmp_path / "a" / "collectives.log")
    assert healthy == [*torchrun, f"{tmp_path}/a/workload_faults.py", "--nccl-log", log, "none", "--", *given[4:]]
    sick = with_faults(given, laid(tmp_path / "b", "killed", "--local-rank", "1"))
    assert sick[7:] == ["killed", "--local-rank", "1", "--", *given[4:]]


def test_what_cannot_be_a_fault_starts_nothing(tmp_path: Path) -> None:
    folder = laid(tmp_path / "a")
    for text in ("", "{}", "[]", '["killed", 1]', "killed"):
        (folder / "fault.json").write_text(text)
        with pytest.raises(ValueError, match=r"fault\.json|Expecting value"):
            fault_of(folder)
    with pytest.raises(ValueError, match="a workload's file"):
        with_faults(["--nnodes", "8"], folder)


def launched(scratch: Path, text: str, *fault: str) -> tuple[int, dict[str, str], str]:
    """Two pods, on hosts of their own, of which the second has the fault: its status, the documents, its errors."""
    port, running = runs.free_port(), []
    for pod in range(PODS):
        there = ["--log-dir", str(scratch)]
        folder = laid(scratch / f"host-{pod}", *((fault if pod and fault else ("none",)) + tuple(there)))
        torchrun = runs.command(*words(text), ranks=RANKS, pods=PODS, pod=pod, port=port)[3:]
        variables = runs.environment(scratch, POD_NAME=f"acceptance-{pod}", NODE_NAME=f"gpu-node-{pod + 1:02}")
        running.append(subprocess.Popen([runs.python(), str(folder / "launch.py"), *torchrun], env=variables,
                                        cwd=scratch, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    try:
        ended = [each.communicate(timeout=runs.DEADLINE_S) for each in running]
    finally:
        for each in running:
            if each.poll() is None:
                each.kill()
    return running[1].returncode, documents_in(ended[0][0]), ended[1][1]


def collectives(found: dict[str, str]) -> AllreduceDocument:
    return AllreduceDocument.model_validate_json(found["allreduce"])


def networks(document: AllreduceDocument) -> tuple[dict[str, int], list[str]]:
    """How many ranks use what, and what is wrong with how they talked."""
    text, flaws = logs_of(document)
    need = transport_need(document, "TCP", False)
    nodes, more = judge_transport(parse_nccl_log(text, list(need.ranks)), need)
    return dict(nodes[0].by_network), [f"{each.quantity}: {each.measured or each.reason}" for each in (*flaws, *more)]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    scratch = tmp_path_factory.mktemp("healthy")
    status, found, errors = launched(scratch, f"several.py {GEMM} -- {MEMCPY} -- {ALLREDUCE} --log-dir {scratch}")
    assert status == 0, errors[-2000:]
    return found


def test_without_a_fault_nothing_is_wrong_and_ranks_say_how_they_talk(healthy: dict[str, str]) -> None:
    assert networks(collectives(healthy)) == ({"gloo over TCP": PODS * RANKS}, [])
    log = collectives(healthy).results.nccl_logs[LAST]
    assert log is not None
    assert log.text.startswith("# a stand-in of the lab's own")
    assert log.text.endswith(f"GLOO INFO rank {LAST} nranks {PODS * RANKS} via TCP/lo\n")
    for row in GemmDocument.model_validate_json(healthy["gemm"]).results.rows:
        assert row.wrong == [0] * PODS * RANKS


@pytest.mark.parametrize(("log", "wrong"), [
    ("fallback.log", "network chosen: Socket"), ("", "debug log: ranks 2, 3 have none")])
def test_a_log_of_another_transport_or_none_is_seen(log: str, wrong: str, tmp_path: Path) -> None:
    path = str(tmp_path / "host-1" / log) if log else ""
    status, found, errors = launched(tmp_path, f"{ALLREDUCE} --log-dir {tmp_path}", "none", "--nccl-log", path)
    assert status == 0, errors[-2000:]
    assert any(flaw.startswith(wrong) for flaw in networks(collectives(found))[1])


def test_of_a_fault_on_a_host_the_rank_is_the_one_of_that_host(tmp_path: Path) -> None:
    status, found, errors = launched(tmp_path, MEMCPY, "wrong-copy", "--local-rank", "1", "--bytes", SMALL_COPY)
    assert status == 0, errors[-2000:]
    row = MemcpyDocument.model_validate_json(found["memcpy"]).results.rows[0]
    assert row.wrong == [0] * LAST + [1]


def times(found: dict[str, str], name: str, key: str) -> list[float]:
    """The least time of each rank, over the rows."""
    rows: list[dict[str, Any]] = json.loads(found[name])["results"]["rows"]
    return [min(value for row in rows for value in row[key][rank]) for rank in range(PODS * RANKS)]


@pytest.mark.parametrize(("workload", "fault", "key", "slow"), [
    (GEMM, ("slow-product", "--local-rank", "-1", "--times", "200"), "seconds", [2, 3]),
    (MEMCPY, ("slow-copy", "--local-rank", "1", "--times", "200", "--bytes", SMALL_COPY), "seconds", [3]),
    (ALLREDUCE, ("late", "--local-rank", "1", "--seconds", "0.2"), "arrive_seconds", [3]),
], ids=["products of a node", "copy", "late"])
def test_what_is_slow_is_slow_on_that_rank(workload: str, fault: tuple[str, ...], key: str, slow: list[int],
                                           tmp_path: Path) -> None:
    status, found, errors = launched(tmp_path, workload, *fault)
    assert status == 0, errors[-2000:]
    least = times(found, workload.partition(".")[0], key)
    others = max(value for rank, value in enumerate(least) if rank not in slow)
    assert all(least[rank] > 10 * others for rank in slow), least


def test_a_rank_that_is_killed_is_killed_on_its_host(tmp_path: Path) -> None:
    status, found, errors = launched(tmp_path, ALLREDUCE, "killed", "--local-rank", "1")
    assert status != 0
    assert found == {}
    assert f"rank      : {LAST} (local_rank: 1)" in errors
    assert "Signal 9" in errors
