"""The performance gate on documents: healthy ones are green, and of each defect the right GPU or node is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from acceptance.evidence import Evidence, Record
from acceptance.facts import Cluster
from acceptance.findings import Finding, Findings, Verdict
from acceptance.measure.gate import COLLECTOR, WORKLOADS
from acceptance.selection import load_catalogue
from acceptance.site.load import Site
from selftests import workload_documents as made
from selftests.nccl_samples import gloo_lines, log_lines
from selftests.synthetic import ROOT, Broken, judge_check, reds, subjects
from selftests.workload_documents import NODES, RANKS, SMALL

Raw = dict[str, Any]
Change = Callable[[Raw], Any]
CHECK = {"gemm": "gemm", "memcpy": "memcpy", "burnin": "burn-in", "allreduce": "nccl-allreduce", "ddp": "ddp-training"}
FACTS = Broken().cluster()
NODE = "gpu-node-04"
SLOW, AT = 13, f"{NODE}/gpu1"  # a rank, and its GPU
every = pytest.mark.parametrize("workload", sorted(CHECK))


def run_of(workload: str, **changed: Any) -> Raw:
    """The record of a run that went well."""
    pods = [{"name": f"acceptance-{workload}-{number}-x", "node": node, "phase": "Succeeded", "gone": False, "lost": "",
             "why": "", "exit_code": 0, "reason": "Completed", "ranks": [], "tail": []}
            for number, node in enumerate(NODES)]
    return {"name": f"acceptance-{workload}", "workloads": [workload], "ended": "complete", "expected": 8,
            "allowed_s": {"start": 300, "run": 300}, "seconds": {"start": 4.0, "all": 90.0}, "pods": pods, "events": [],
            "nodes": NODES, "away": {}, "others": []} | changed


def evidence(documents: dict[str, Raw | str], runs: dict[str, Raw] | None = None) -> Evidence:
    """What the collectors would have recorded; a text in place of a document is why there is none."""
    records: list[Record] = []
    for workload, document in documents.items():
        collector, run = COLLECTOR.get(workload, WORKLOADS), (runs or {}).get(workload, run_of(workload))
        what = {"error": document} if isinstance(document, str) else {"text": json.dumps(document)}
        records += [Record(f"e1{len(records)}", "", collector, f"run/{run['name']}", None, None, run),
                    Record(f"e2{len(records)}", "", collector, f"document/{workload}", None, None,
                           what | {"run": f"run/{run['name']}"})]
    return Evidence(tuple(records))


def judged(workload: str, found: Evidence, site: Site = SMALL, cluster: Cluster = FACTS) -> Findings:
    return judge_check(CHECK[workload], cluster, NODE, found, site)


def broken(workload: str, *changes: Change) -> list[Finding]:
    """What is red of a document that was changed."""
    documents: dict[str, Raw | str] = {"allreduce": made.healthy("allreduce"), workload: made.healthy(workload)}
    for change in changes:
        change(documents[workload])  # type: ignore[arg-type]
    return reds(judged(workload, evidence(documents)))


def test_every_check_by_workloads_is_among_them() -> None:
    checks = [check for check in load_catalogue(ROOT).values() if check.performance]
    assert {check.id for check in checks} == set(CHECK.values())
    for workload, id in CHECK.items():
        [needs] = [check.needs for check in checks if check.id == id]
        assert needs == ("facts", COLLECTOR.get(workload, WORKLOADS))


@every
def test_healthy_documents_are_green(workload: str) -> None:
    found = judged(workload, evidence({"allreduce": made.healthy("allreduce"), workload: made.healthy(workload)}))
    assert [one.sentence() for one in reds(found)] == []
    assert found.verdict() is Verdict.PASS
    assert all(one.evidence for one in found.found)


def test_the_clients_own_contract_is_green_with_all_of_its_sizes() -> None:
    from selftests.synthetic import SITE

    document = made.allreduce(SITE)
    found = judged("allreduce", evidence({"allreduce": document}), SITE)
    assert [one.sentence() for one in reds(found)] == []
    floors = {one.subject for one in found.found if one.quantity == "busbw"}
    assert floors == {f"all_reduce {size} GiB {mode}" for size in (1, 2, 4, 8) for mode in ("in place", "out of place")}
    limits = {one.subject: one.required for one in found.found if "physical limit" in one.quantity}
    assert set(limits) == {"all_reduce", "all_gather", "reduce_scatter", "broadcast", "alltoall"}
    assert round(limits["all_reduce"], 2) == 12.25


def test_figures_stand_beside_floors_and_ceilings() -> None:
    found = judged("gemm", evidence({"gemm": made.healthy("gemm")})).found
    assert len([one for one in found if one.quantity == "bf16 GEMM" and one.required == 185]) == RANKS
    ceilings = {one.quantity: one.required for one in found if "physical limit" in one.quantity}
    assert ceilings == {f"{dtype} GEMM, highest, against its physical limit": peak
                        for dtype, peak in (("bf16", 312), ("tf32", 156))}


def slower(rank: int, factor: float, *keys: str) -> Change:
    """One rank's times of these rows are longer, and what follows from them."""
    def change(document: Raw) -> None:
        for row in document["results"]["rows"]:
            row["seconds"][rank] = [value * factor for value in row["seconds"][rank]]
            for key in keys:
                row[key][rank] = [value / factor for value in row[key][rank]]

    return change


def at(*path: Any, value: Any) -> Change:
    """A value in the results is another."""
    def change(document: Raw) -> None:
        holder = document["results"]
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value

    return change


def late(document: Raw) -> None:
    for row in document["results"]["rows"]:
        row["arrive_seconds"][SLOW] = [0.2] * len(row["arrive_seconds"][SLOW])


def slow_at(factor: float, least: int = 10**9) -> Change:
    def change(document: Raw) -> None:
        for row in document["results"]["rows"]:
            if row["collective"] == "all_reduce" and row["bytes"] >= least:
                row["seconds"] = [[value * factor for value in mine] for mine in row["seconds"]]
                made.derived(row)

    return change


def logged(lines: list[str]) -> Change:
    return lambda document: document["results"].update(nccl_logs=made.logs(lines))


def straggler(document: Raw) -> None:
    phase = document["results"]["alone"]
    phase["seconds"][SLOW] = [value * 1.3 for value in phase["seconds"][SLOW]]
    phase["tokens_per_s"][SLOW] /= 1.3
    _efficiency(document)


def _efficiency(document: Raw) -> None:
    together, alone = (sum(document["results"][phase]["tokens_per_s"]) for phase in ("together", "alone"))
    document["results"]["efficiency"] = together / alone


def held_up(document: Raw) -> None:
    phase = document["results"]["together"]
    phase["seconds"] = [[value * 1.3 for value in mine] for mine in phase["seconds"]]
    phase["tokens_per_s"] = [value / 1.3 for value in phase["tokens_per_s"]]
    _efficiency(document)


def no_learning(document: Raw) -> None:
    document["results"]["together"]["loss"] = [[4.0 for _ in mine] for mine in document["results"]["together"]["loss"]]


def sampled(name: str, values: Callable[[int], Any]) -> Change:
    def change(document: Raw) -> None:
        column = document["results"]["samples"][SLOW][name]
        column[:] = [values(number) for number in range(len(column))]

    return change


FALLBACK = [line.replace("NET/IB/0", "NET/Socket/0") if ":912:" in line or ":915:" in line else line
            for line in log_lines()]  # all of the fourth node's
DEFECTS: list[tuple[str, str, Change, set[str], str]] = [
    ("gemm, one GPU slow", "gemm", slower(SLOW, 1.2, "tflops"), {AT}, "bf16 GEMM"),
    ("gemm, wrong result", "gemm", at("rows", 0, "wrong", SLOW, value=3), {AT}, f"rank {SLOW}: the result is wrong"),
    ("gemm, wrong in one row", "gemm", at("rows", 1, "wrong_rows", SLOW, value=1), {AT}, "rows against float64"),
    ("gemm, repeats differ", "gemm", at("rows", 0, "differing", SLOW, value=1), {AT}, "elements between repeats"),
    ("gemm, beyond the peak", "gemm", slower(SLOW, 0.5, "tflops"), {AT}, "beyond its ceiling"),
    ("memcpy, one GPU slow", "memcpy", slower(SLOW, 1.5, "gbyte_s"), {AT}, "copy from host to GPU"),
    ("memcpy, wrong bytes", "memcpy", at("rows", 4, "wrong", SLOW, value=1), {AT}, "2 apart, wrong bytes"),
    ("corrupted reduction", "allreduce", at("rows", 0, "wrong", SLOW, value=1), {AT}, f"rank {SLOW}: the result of"),
    ("one late rank", "allreduce", late, {AT}, "time before a collective"),
    ("too slow", "allreduce", slow_at(1.6), {f"all_reduce 8 GiB {mode}" for mode in ("in place", "out of place")},
     "too slow: 54 % of the physical 12.25 GB/s"),
    ("beyond the ceiling", "allreduce", slow_at(0.8),
     {f"all_reduce 8 GiB {mode}" for mode in ("in place", "out of place")}, "the measurement is wrong"),
    ("socket fallback", "allreduce", logged(FALLBACK), {NODE}, "NCCL fell back to TCP"),
    ("another backend's log", "allreduce", logged(gloo_lines()), {*NODES, "cluster"}, "or another network"),
    ("no log of one rank", "allreduce", at("nccl_logs", SLOW, value=None), {NODE}, "nothing proves how they talked"),
    ("no log", "allreduce", at("nccl_logs", value=[None] * RANKS), set(NODES), "nothing proves how they talked"),
    ("cut log", "allreduce", at("nccl_logs", SLOW, "truncated", value=True), {NODE}, "only the beginning"),
    ("diverged replica", "ddp", at("replicas", "end", SLOW, value="0" * 64), {AT}, f"rank {SLOW}: its parameters"),
    ("straggler", "ddp", straggler, {AT}, "throughput alone"),
    ("held up", "ddp", held_up, {"training"}, "too little of what the GPUs do alone"),
    ("no learning", "ddp", no_learning, {"training"}, "it does not learn"),
    ("no number", "ddp", at("together", "loss", SLOW, 9, value=None), {"training"}, "no number at step 7"),
    ("burn-in, wrong", "burnin", at("iterations", SLOW, "wrong", 7, value=2), {AT}, "products differ from the first"),
    ("burn-in, wrong at first", "burnin", at("reference", SLOW, value={"checked": 9, "wrong": 1}), {AT}, "float64"),
    ("burn-in, cut short", "burnin", at("cut_short", value="told to end"), {"cluster"}, "did not last"),
    ("burn-in, hot", "burnin", sampled("temperature_c", lambda n: 68 + (n == 9) * 30), {AT}, "too hot"),
    ("burn-in, clock drops", "burnin", sampled("sm_clock_mhz", lambda n: 1400 - 5 * n), {AT}, "drop of the clock"),
    ("burn-in, slowdown", "burnin", sampled("throttle_reasons", lambda n: 0x40 if n == 9 else 4), {AT}, "thermal"),
    ("burn-in, sensor silent", "burnin", sampled("power_w", lambda n: None if n == 9 else 240.0), {AT}, "power_w"),
    ("burn-in, memory errors", "burnin", at("ecc_after", SLOW, value={
        "corrected_volatile": 0, "corrected_aggregate": 0, "uncorrected_volatile": 1, "uncorrected_aggregate": 1}),
     {AT}, "they grew under load"),
    ("burn-in, not counted", "burnin", at("ecc_before", SLOW, value={
        "corrected_volatile": None, "corrected_aggregate": 0, "uncorrected_volatile": 0, "uncorrected_aggregate": 0}),
     {AT}, "NVML did not count"),
]


@pytest.mark.parametrize(("workload", "change", "named", "text"), [one[1:] for one in DEFECTS],
                         ids=[one[0] for one in DEFECTS])
def test_a_defect_is_red_and_names_who(workload: str, change: Change, named: set[str], text: str) -> None:
    found = broken(workload, change)
    assert subjects(found) == named, [one.sentence() for one in found]
    assert any(text in one.sentence() for one in found), [one.sentence() for one in found]


def test_a_slow_node_is_told_from_a_slow_gpu() -> None:
    found = broken("gemm", *(slower(rank, 1.2, "tflops") for rank in range(12, 16)))
    peers = {one.subject for one in found if "peers" in one.quantity}
    assert peers == {NODE}


@every
@pytest.mark.parametrize("document", ["", "cut", "another"])
def test_what_is_no_document_is_never_a_pass(workload: str, document: str) -> None:
    text = json.dumps(made.healthy(workload))
    what = {"": "", "cut": text[:-5], "another": text.replace('"repeats":3', '"repeats":2').replace(
        '"steps":16', '"steps":15').replace('"asked_seconds":180.0', '"asked_seconds":90.0')}[document]
    if document == "another":
        what = json.dumps(json.loads(text) | {"ranks": made.ranks(workload)[:-1]})
    found = evidence({"allreduce": made.healthy("allreduce"), workload: made.healthy(workload)})
    changed = tuple(record if record.subject != f"document/{workload}" else Record(
        record.id, "", record.collector, record.subject, None, None, record.document | {"text": what})
        for record in found.all)
    assert judged(workload, Evidence(changed)).verdict() is Verdict.BLOCKED


@every
def test_nothing_recorded_is_never_a_pass(workload: str) -> None:
    assert judged(workload, Evidence(())).verdict() is Verdict.BLOCKED


@every
def test_a_rank_on_another_gpu_than_it_says_or_another_node_is_red(workload: str) -> None:
    both = {"allreduce": made.healthy("allreduce"), workload: made.healthy(workload)}
    both[workload]["ranks"][SLOW]["gpu_uuid"] = "GPU-nobody-knows"
    assert NODE in subjects(reds(judged(workload, evidence(both))))  # type: ignore[arg-type]
    both[workload]["ranks"][SLOW] |= {"gpu_uuid": f"GPU-{NODE}-1", "node": "gpu-node-05"}
    assert subjects(reds(judged(workload, evidence(both)))) >= {NODE, "gpu-node-05"}  # type: ignore[arg-type]
    both[workload]["ranks"][SLOW] |= {"node": None}
    assert judged(workload, evidence(both)).verdict() is Verdict.BLOCKED  # type: ignore[arg-type]


@every
def test_a_node_without_facts_blocks_what_is_said_of_its_gpus(workload: str) -> None:
    both: Any = {"allreduce": made.healthy("allreduce"), workload: made.healthy(workload)}
    found = judged(workload, evidence(both), cluster=Broken(down=(NODE,)).cluster())
    assert found.verdict() is Verdict.BLOCKED
    assert subjects(reds(found)) == {NODE}


@every
def test_another_version_on_one_node_is_named(workload: str) -> None:
    both: Any = {"allreduce": made.healthy("allreduce"), workload: made.healthy(workload)}
    both[workload]["ranks"][SLOW]["versions"]["nccl"] = "2.18.1"
    assert subjects(reds(judged(workload, evidence(both)))) == {NODE}


def test_training_cannot_be_judged_without_the_network_measured() -> None:
    found = judged("ddp", evidence({"allreduce": "no document", "ddp": made.healthy("ddp")}))
    assert found.verdict() is Verdict.BLOCKED
    assert "busbw of all_reduce" in reds(found)[0].reason


RANK_LOST = {"rank": SLOW, "local_rank": 1, "exit_code": -9, "said": ""}
OTHER = {"rank": 2, "local_rank": 2, "exit_code": 1,
         "said": "ddp: rank 2 on gpu-node-01: RuntimeError: Connection closed by peer"}


def pods(changes: dict[int, Raw]) -> list[Raw]:
    found: list[Raw] = run_of("ddp")["pods"]
    for number, change in changes.items():
        found[number] |= change
    return found


RUNS: list[tuple[str, Raw, set[str], str]] = [
    ("a rank killed", {"ended": "failed", "pods": pods({
        0: {"phase": "Failed", "ranks": [OTHER]}, 3: {"phase": "Failed", "ranks": [RANK_LOST]}})}, {NODE},
     "rank 13 (local rank 1) was killed by signal 9 (SIGKILL)"),
    ("a node lost", {"ended": "failed", "pods": pods({3: {"phase": "Running", "lost": "node is not Ready"}})}, {NODE},
     "node is not Ready"),
    ("out of memory", {"ended": "failed", "pods": pods({3: {"phase": "Failed", "reason": "OOMKilled"}})}, {NODE},
     "OOMKilled"),
    ("deleted", {"ended": "failed", "pods": pods({3: {"phase": "Running", "gone": True}})}, {NODE}, "was deleted"),
    ("no place", {"ended": "not started", "pods": pods({3: {
        "phase": "Pending", "node": "", "why": "Unschedulable: 8 Insufficient nvidia.com/gpu."}}),
        "others": ["ml-team/train"]}, {NODE}, "nvidia.com/gpu.; others hold or want GPUs: ml-team/train"),
    ("no image", {"ended": "not started", "pods": pods({3: {
        "phase": "Pending", "why": "ImagePullBackOff: Back-off pulling image"}})}, {NODE}, "ImagePullBackOff"),
    ("no pods made", {"ended": "not started", "pods": [], "events": ["Job x: FailedCreate: violates PodSecurity"]},
     set(NODES), "violates PodSecurity"),
    ("node away", {"ended": "not started", "pods": [], "away": {NODE: "node gpu-node-04 is not Ready: x"}}, {NODE},
     "is not Ready"),
    ("no end", {"ended": "not ended", "pods": pods({number: {"phase": "Running"} for number in range(8)})}, {"cluster"},
     "did not end in time"),
    ("one has no end", {"ended": "not ended", "pods": pods({3: {"phase": "Running"}})}, {NODE}, "still ran"),
    ("failed in silence", {"ended": "failed", "pods": pods({3: {"phase": "Failed", "exit_code": 1,
                                                                "tail": ["no module torch"]}})}, {NODE}, "no module"),
    ("nobody knows", {"ended": "failed"}, {"cluster"}, "nothing says why"),
]


@pytest.mark.parametrize(("run", "named", "text"), [one[1:] for one in RUNS], ids=[one[0] for one in RUNS])
def test_a_run_without_a_document_says_why(run: Raw, named: set[str], text: str) -> None:
    found = judged("ddp", evidence({"allreduce": made.healthy("allreduce"), "ddp": "ddp wrote no document"},
                                   {"ddp": run_of("ddp", **run)}))
    assert subjects(reds(found)) == {*named, "ddp"}, [one.sentence() for one in reds(found)]
    assert any(text in one.sentence() for one in reds(found)), [one.sentence() for one in reds(found)]
    assert found.verdict() is not Verdict.PASS


def test_a_run_that_failed_after_its_document_is_no_pass() -> None:
    run = run_of("gemm", ended="failed", pods=pods({3: {"phase": "Failed", "ranks": [RANK_LOST]}}))
    found = judged("gemm", evidence({"gemm": made.healthy("gemm")}, {"gemm": run}))
    assert subjects(reds(found)) == {NODE}


def test_of_a_run_of_several_only_what_failed_is_red() -> None:
    run = run_of("gemm", workloads=["gemm", "ddp"], ended="failed",
                 pods=pods({3: {"phase": "Failed", "ranks": [RANK_LOST]}}))
    found = evidence({"gemm": made.healthy("gemm"), "ddp": "ddp wrote no document"}, {"gemm": run, "ddp": run})
    assert judged("gemm", found).verdict() is Verdict.PASS
    assert NODE in subjects(reds(judged("ddp", found)))


@pytest.mark.parametrize("change", [{"ended": "well"}, {"pods": [{}]}, {"pods": None}, {"nodes": [1]}, {"more": 1}])
def test_a_record_of_a_run_that_is_damaged_is_never_a_pass(change: Raw) -> None:
    found = judged("gemm", evidence({"gemm": made.healthy("gemm")}, {"gemm": run_of("gemm", **change)}))
    assert found.verdict() is Verdict.BLOCKED
