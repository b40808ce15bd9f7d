"""Workloads on a cluster in memory: submitted, followed, read, removed; and why not, with node and reason."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from acceptance.checks import COLLECTORS
from acceptance.collect import run_collectors
from acceptance.collectors.kubernetes import flows as _flows  # noqa: F401 - registers its collector
from acceptance.collectors.kubernetes import owned, workload_watch, workloads
from acceptance.collectors.kubernetes.workload_objects import FIRST, runs_of
from acceptance.collectors.kubernetes.workloads import BURN_IN, WORKLOADS, bound_s
from acceptance.evidence import Evidence, Recorder
from acceptance.findings import Findings, Verdict
from acceptance.parse.torchrun import causes, failed_ranks
from acceptance.site.load import Site
from acceptance.transport.kube import Answer, Attempt
from acceptance.transport.kube_turn import Turn
from acceptance.transport.local import LocalShell
from selftests.fake_workloads import SPACE, WorkloadCluster, workload_words
from selftests.synthetic import SITE, reds, subjects
from selftests.synthetic_kubernetes import K8S
from selftests.test_gate import judged
from selftests.workload_documents import NODES, SMALL, small_site

RUN_ID = "20260101T000000Z-site-abc123"
KILLED = (Path(__file__).parent / "data" / "torchrun-1.13-rank-killed.txt").read_text()
TOGETHER = small_site(lambda work: work["pods"].update(together=True))
NODE = "gpu-node-04"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods of a cluster in memory do at once what they do."""
    monkeypatch.setattr(workload_watch, "POLL_S", 0.02)
    monkeypatch.setattr(workload_watch, "GRACE_S", 0.2)
    monkeypatch.setattr(workload_watch, "AWAY_S", 0)
    monkeypatch.setattr(owned, "POLL_S", 0.02)
    monkeypatch.setattr(owned, "SHORT_S", 0.01)


def collect(cluster: WorkloadCluster, folder: Path, name: str = WORKLOADS, site: Site = SMALL,
            checks: tuple[str, ...] = ()) -> Evidence:
    recorder = Recorder(folder / "evidence.jsonl")
    turn = Turn(cluster, K8S.probes.namespace, RUN_ID)
    run_collectors({name: checks}, site, LocalShell(), LocalShell(), recorder, lambda *_: None, cluster, RUN_ID, turn)
    turn.end()
    recorder.close()
    assert [key for key in cluster.objects if key[1] != "leases" and key[0] != "ml-team"] == [], "all made is removed"
    return recorder.evidence()


def verdicts(found: Evidence, site: Site = SMALL) -> dict[str, Findings]:
    return {workload: judged(workload, found, site) for workload in FIRST.values()}


def run_documents(found: Evidence, site: Site = SMALL) -> list[dict[str, Any]]:
    """What was recorded of each run, in their order."""
    return [found.one(WORKLOADS, f"run/{run.name}").document for run in runs_of(site.contract, tuple(FIRST.values()))]


@pytest.mark.parametrize("site", [SMALL, TOGETHER], ids=["one by one", "together"])
def test_healthy_workloads_are_green_and_leave_nothing(site: Site, tmp_path: Path) -> None:
    cluster = WorkloadCluster()
    found = collect(cluster, tmp_path, site=site)
    for workload, findings in verdicts(found, site).items():
        assert findings.verdict() is Verdict.PASS, (workload, [one.sentence() for one in reds(findings)][:5])
    assert len(cluster.jobs) == len(runs_of(site.contract, tuple(FIRST.values())))


@pytest.mark.parametrize("site", [SMALL, TOGETHER], ids=["one by one", "together"])
def test_only_what_the_asking_checks_judge_runs(site: Site, tmp_path: Path) -> None:
    found = collect(WorkloadCluster(), tmp_path, site=site, checks=("ddp-training", "gemm"))
    kept = {one.subject for one in found.records(WORKLOADS) if one.subject.startswith("document/")}
    assert kept == {"document/gemm", "document/ddp"}
    assert judged("gemm", found, site).verdict() is Verdict.PASS
    own = tmp_path / "own"
    own.mkdir()
    everything = collect(WorkloadCluster(), own, site=site, checks=("gemm", "a-site-s-own"))
    assert len([one for one in everything.records(WORKLOADS) if one.subject.startswith("document/")]) == len(FIRST)


def test_the_burn_in_is_a_run_of_its_own(tmp_path: Path) -> None:
    found = collect(WorkloadCluster(), tmp_path, BURN_IN)
    assert judged("burnin", found).verdict() is Verdict.PASS
    assert not found.records(WORKLOADS)


def test_pytorchjobs_do_the_same(tmp_path: Path) -> None:
    site = small_site(lambda work: work["pods"].update(kind="PyTorchJob", together=True))
    cluster = WorkloadCluster()
    found = collect(cluster, tmp_path, site=site)
    assert {one.verdict() for one in verdicts(found, site).values()} == {Verdict.PASS}
    assert [job["kind"] for job in cluster.jobs] == ["PyTorchJob"]


def test_a_pod_is_made_as_the_contract_says(tmp_path: Path) -> None:
    cluster = WorkloadCluster()
    collect(cluster, tmp_path)
    job = next(one for one in cluster.jobs if "allreduce" in one["metadata"]["name"])
    assert job["metadata"]["namespace"] == SPACE
    spec = job["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "4", "rdma/hca": "1"}
    assert container["securityContext"]["capabilities"]["add"] == ["IPC_LOCK"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert (env["NCCL_ALGO"], env["NCCL_IB_HCA"]) == ("Ring", "=mlx5_0")
    assert container["image"] == SITE.contract.performance.pods.image
    words = workload_words(job)
    assert words[:4] == ["--nnodes", "8", "--nproc_per_node", "4"]
    assert words[words.index("--sizes") + 1:][:2] == ["8", "256"]
    chosen = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert chosen[0]["matchExpressions"][0]["values"] == NODES
    for files in cluster.files:
        assert {"pynvml.py", "ranks.py"} < set(files["data"])
        assert sum(map(len, files["data"].values())) < 900_000, "a ConfigMap holds 1 MiB"


def of(cluster: WorkloadCluster, folder: Path, workload: str = "gemm", site: Site = SMALL) -> Findings:
    findings = judged(workload, collect(cluster, folder, site=site), site)
    assert findings.verdict() in (Verdict.BLOCKED, Verdict.FAIL)
    return findings


def test_a_pod_that_is_never_scheduled_names_node_and_scheduler(tmp_path: Path) -> None:
    findings = of(WorkloadCluster(lost=(f"GPU-{NODE}-2",)), tmp_path)
    assert subjects(reds(findings)) == {NODE, "gemm"}
    assert any("Insufficient nvidia.com/gpu" in one.reason for one in reds(findings))


def test_who_else_holds_gpus_is_told(tmp_path: Path) -> None:
    cluster = WorkloadCluster(lost=(f"GPU-{NODE}-2",))
    cluster.objects["ml-team", "pods", "train"] = {
        "metadata": {"name": "train", "namespace": "ml-team", "labels": {}, "uid": "u"}, "status": {"phase": "Running"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}
    findings = of(cluster, tmp_path)
    assert any("others hold or want GPUs: ml-team/train" in one.reason for one in reds(findings))
    assert ("ml-team", "pods", "train") in cluster.objects


def test_an_image_that_is_missing_is_told_of_every_node(tmp_path: Path) -> None:
    findings = of(WorkloadCluster(pulls=False), tmp_path)
    assert subjects(reds(findings)) == {*NODES, "gemm"}
    assert all("ImagePullBackOff: Back-off" in one.reason for one in reds(findings) if one.subject in NODES)


def test_pods_that_nobody_makes_are_explained_by_events(tmp_path: Path) -> None:
    warning = {"type": "Warning", "reason": "FailedCreate", "message": 'violates PodSecurity "baseline:latest"',
               "involvedObject": {"kind": "Job", "name": "acceptance-gemm"}}
    findings = of(WorkloadCluster(makes_pods=False, warnings=[warning]), tmp_path)
    assert subjects(reds(findings)) == {*NODES, "gemm"}
    assert any("violates PodSecurity" in one.reason for one in reds(findings))


def test_a_rank_that_is_killed_is_named_and_not_those_that_broke_off_with_it(tmp_path: Path) -> None:
    broken = "gemm: rank 2 on gpu-node-01: RuntimeError: [..] Connection closed by peer [10.244.4.7]:30112\n"
    killed = KILLED.replace("rank      : 1 (local_rank: 1)", "rank      : 13 (local_rank: 1)").replace(
        "rank      : 0 (local_rank: 0)", "rank      : 12 (local_rank: 0)").replace("rank 0 on", "rank 12 on")
    findings = of(WorkloadCluster(ends={0: (1, broken), 3: (1, killed)}), tmp_path)
    assert subjects(reds(findings)) == {NODE, "gemm"}
    assert any("rank 13 (local rank 1) was killed by signal 9" in one.reason for one in reds(findings))


@pytest.mark.parametrize(("hangs", "named"), [((3,), {NODE}), (tuple(range(8)), {"cluster"})])
def test_a_run_that_does_not_end_is_ended_and_told(hangs: tuple[int, ...], named: set[str], tmp_path: Path) -> None:
    findings = of(WorkloadCluster(hangs=hangs), tmp_path)
    assert subjects(reds(findings)) == {*named, "gemm"} if len(hangs) > 1 else named
    assert any(text in one.sentence() for one in reds(findings) for text in ("did not end in time", "still ran"))


def test_a_node_that_is_not_there_costs_no_waiting(tmp_path: Path) -> None:
    cluster = WorkloadCluster(down=(NODE,))
    findings = of(cluster, tmp_path)
    assert subjects(reds(findings)) == {NODE, "gemm"}
    assert cluster.jobs == []


SPOILT = {
    "cut": lambda log: log[:len(log) // 2],
    "a line lost": lambda log: "\n".join(line for number, line in enumerate(log.splitlines()) if number != 4),
    "a digit changed": lambda log: log.replace("0.1", "0.2", 1),
    "twice": lambda log: log + log,
    "empty": lambda log: "",
    "another workload": lambda log: log.replace("gemm", "germ"),
    "written into": lambda log: log.replace("|", "|noise ", 2),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_log_that_is_damaged_is_never_a_pass(how: str, tmp_path: Path) -> None:
    of(WorkloadCluster(spoilt=SPOILT[how]), tmp_path)


@pytest.mark.parametrize("what", ["/log", "/events", "/pods", "/nodes", "/jobs"])
def test_an_api_that_fails_on_the_way_is_never_a_pass(what: str, tmp_path: Path) -> None:
    cluster, asked = WorkloadCluster(lost=(f"GPU-{NODE}-2",) if what == "/events" else ()), list[str]()

    def fail(method: str, path: str) -> Answer | None:
        asked.append(path)
        late = cluster.jobs if what in ("/log", "/events", "/pods") else len(asked) > 6
        if path.endswith(what) and method != "DELETE" and late and not over.is_set():
            if what in ("/pods", "/nodes", "/jobs"):
                over.set()
            return Answer("GET", path, 500, "", {"message": "boom"}, (Attempt(500, "boom", 0.0),))
        return None

    over = threading.Event()
    cluster.before = fail
    found = collect(cluster, tmp_path)
    assert {one.verdict() for one in verdicts(found).values()} != {Verdict.PASS}


def test_an_api_that_answers_again_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload_watch, "AWAY_S", 600)
    cluster, failed = WorkloadCluster(), list[int]()

    def fail(method: str, path: str) -> Answer | None:
        if method == "GET" and path.endswith(f"/{SPACE}/pods") and cluster.jobs and len(failed) < 4:
            failed.append(500)
            return Answer("GET", path, 500, "", {"message": "boom"}, (Attempt(500, "boom", 0.0),))
        return None

    cluster.before = fail
    found = collect(cluster, tmp_path, site=TOGETHER)
    assert len(failed) == 4
    assert [each["ended"] for each in run_documents(found, TOGETHER)] == ["complete"]
    assert {one.verdict() for one in verdicts(found, TOGETHER).values()} == {Verdict.PASS}


class Lingering(WorkloadCluster):
    """Pods of the first run are not gone, however often they are deleted, until the second run is there to end."""

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        *_, space, kind, name = path.split("/")
        if method == "DELETE" and (space, kind) == (SPACE, "pods") and len(self.jobs) < 2:
            one = self.objects[SPACE, "pods", name]
            one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            one.pop("gpus_on", None)  # it has ended
            return 200, one
        return super()._answer(method, path, query, body)


def test_pods_of_the_run_before_are_not_taken_for_the_next_ones(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "GONE_S", 0.3)
    found = collect(Lingering(), tmp_path)
    left = found.one(WORKLOADS, "left-behind").document["objects"]
    first, *others = run_documents(found)
    assert left == [f"{SPACE}/pods/{one['name']}" for one in first["pods"]]
    for each in (first, *others):
        assert each["ended"] == "complete"
        assert {one["name"].rpartition("-")[0].rpartition("-")[0] for one in each["pods"]} == {each["name"]}
        assert len(each["pods"]) == each["expected"] == len(NODES)
    assert {one.verdict() for one in verdicts(found).values()} == {Verdict.PASS}


def test_the_deadline_is_the_contracts() -> None:
    bounds = COLLECTORS[WORKLOADS].bound_s(SITE.contract), COLLECTORS[BURN_IN].bound_s(SITE.contract)
    assert bounds == (bound_s(SITE.contract, tuple(FIRST.values())), bound_s(SITE.contract, ("burnin",)))
    assert bounds[0] == 4 * (300 + 120) + 300 + 300 + 1800 + 1800
    assert bounds[1] == 300 + 120 + 4 * 3600 + 600


def test_what_torchrun_says_of_a_rank_that_was_killed() -> None:
    found = {one.rank: one for one in failed_ranks(KILLED)}
    assert {rank: one.exit_code for rank, one in found.items()} == {0: 1, 1: -9}
    assert "Connection reset by peer" in found[0].said
    assert [one.sentence() for one in causes(found.values())] == [
        "rank 1 (local rank 1) was killed by signal 9 (SIGKILL)"]


def test_of_ranks_that_all_tell_of_others_all_are_told() -> None:
    ranks = failed_ranks("a: rank 3 on n: RuntimeError: Connection closed by peer\n"
                         "[default1]:a: rank 5 on n: RuntimeError: no result of ranks [7] in 300 s\n")
    assert [one.rank for one in causes(ranks)] == [3, 5]
    ranks = (*ranks, *failed_ranks("a: rank 7 on n: RuntimeError: CUDA error: an illegal memory access"))
    assert [one.rank for one in causes(ranks)] == [7]
    assert failed_ranks("nothing") == ()


def test_what_an_older_run_left_of_workloads_is_swept_by_any_other(tmp_path: Path) -> None:
    from acceptance.collectors.kubernetes.objects import labels

    cluster = WorkloadCluster()
    for kind in ("jobs", "pods", "services", "configmaps"):
        body: dict[str, Any] = {"metadata": {"name": "old", "uid": "u", "labels": labels("an-older-run", "workload")},
                                "status": {"phase": "Running"}, "spec": {"containers": []}}
        cluster.objects[SPACE, kind, "old"] = body
    collect(cluster, tmp_path, "kube-flows")


def test_what_runs_when_the_collectors_time_is_over_is_removed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "bound_s", lambda contract, names: 0.5)
    patient = small_site(lambda work: work.update(deadlines=dict.fromkeys(work["deadlines"], 60)))
    found = collect(WorkloadCluster(hangs=(3,)), tmp_path, site=patient)
    assert "did not end within its 0.5 s" in found.one(WORKLOADS, "cluster").document["error"]
    assert {one.verdict() for one in verdicts(found, patient).values()} == {Verdict.BLOCKED}
