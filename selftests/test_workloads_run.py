"""The workloads, run: their documents are whole, and what goes wrong in a run stands in them, or there is none.

torch is needed: the first of these tests installs Debian's python3-torch where it is missing.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from acceptance.errors import ParseError
from acceptance.measure import documents
from acceptance.measure.documents.collectives import AllreduceDocument
from acceptance.measure.documents.training import DdpDocument
from lab.hardware import gpus
from selftests import workload_runs as runs
from selftests.workload_runs import ALLREDUCE, BURNIN, DDP, FAULTS, GEMM, MEMCPY, words

COLLECTIVES = ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "alltoall"]
DTYPES = ["bf16", "fp16", "tf32", "fp32", "fp64"]
ON_GPU = {"host-device", "device-host", "device-device", "peer"}
RANKS = 4


def allreduce(text: str, ranks: int = 2) -> AllreduceDocument:
    return documents.read_allreduce(text, ranks=ranks, device="cpu", collectives=COLLECTIVES, sizes=[8, 1024, 4096],
                                    other_sizes=[4, 512], repeats=3, may_lack={"reduce_scatter"})


def ddp(text: str, ranks: int = 2) -> DdpDocument:
    return documents.read_ddp(text, ranks=ranks, device="cpu", steps=12, warmups=2, tflops=0.0001)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The documents of one run of all workloads on four ranks, with the lab's NVML."""
    scratch = tmp_path_factory.mktemp("healthy")
    turns = " -- ".join((ALLREDUCE, GEMM, MEMCPY, DDP, BURNIN))
    return runs.printed(runs.run(scratch, *words(f"several.py {turns}"), ranks=RANKS, **runs.mock_nvml(scratch)))


def test_collectives_are_whole_and_right(healthy: dict[str, str]) -> None:
    document = allreduce(healthy["allreduce"], RANKS)
    rows = {row.case: row for row in document.results.rows}
    assert all(row.wrong == [0] * RANKS for row in rows.values())
    assert ("all_reduce", "in_place", 4096) in rows
    assert ("all_reduce", "out_of_place", 4096) in rows
    assert rows["all_reduce", "in_place", 4096].factor == 1.5
    assert rows["alltoall", "out_of_place", 512].factor == 0.75
    left_out = {(each.collective, each.asked_bytes) for each in document.results.left_out}
    assert left_out == {("reduce_scatter", None), ("broadcast", None), ("alltoall", None),
                        ("alltoall", 4), ("all_gather", 4)}
    assert set(document.lacking()) == {("reduce_scatter", "in_place"), ("reduce_scatter", "out_of_place")}


def test_ranks_say_where_they_are(healthy: dict[str, str]) -> None:
    ranks = allreduce(healthy["allreduce"], RANKS).ranks
    assert [rank.gpu_uuid for rank in ranks] == [gpus.gpu_uuid(runs.NODE, slot) for slot in range(RANKS)]
    assert {rank.gpu_uuid_from for rank in ranks} == {"environment"}
    assert {(rank.node, rank.pod) for rank in ranks} == {(runs.NODE, "acceptance-0")}
    assert {rank.versions.driver for rank in ranks} == {gpus.DRIVER_VERSION}


def test_training_is_whole_and_learns(healthy: dict[str, str]) -> None:
    results = ddp(healthy["ddp"], RANKS).results
    assert results.exact_tokens == pytest.approx(4 * 1.5 * 1e8 / (6 * 0.375 * 1e7))
    assert results.tokens == 32
    assert results.expected_share == pytest.approx(0.375 * 26.667 / 32, rel=1e-3)
    assert len(set(results.replicas.start)) == len(set(results.replicas.end)) == 1
    assert results.replicas.start[0] != results.replicas.end[0]
    for phase in (results.alone, results.together):
        for loss in phase.loss:
            assert None not in loss
            assert loss[-1] < loss[0] * 0.9  # type: ignore[operator]
    assert results.alone.loss[0] != results.alone.loss[1], "each rank has data of its own"
    for forward, seconds in zip(results.together.forward_seconds, results.together.seconds, strict=True):
        assert all(part < whole for part, whole in zip(forward, seconds, strict=True))


def test_products_are_whole_and_right(healthy: dict[str, str]) -> None:
    document = documents.read_gemm(healthy["gemm"], ranks=RANKS, device="cpu", dtypes=DTYPES, size=64, repeats=3,
                                   may_lack={"fp16", "tf32"})
    for row in document.results.rows:
        assert (row.wrong, row.wrong_rows, row.differing) == ([0] * RANKS, [0] * RANKS, [0] * RANKS)
        assert row.checked == [16 * 64] * RANKS


def test_copies_on_a_processor_are_said_to_be_that(healthy: dict[str, str]) -> None:
    document = documents.read_memcpy(healthy["memcpy"], ranks=RANKS, device="cpu", size=65536, repeats=3,
                                     may_lack=ON_GPU)
    assert [row.kind for row in document.results.rows] == ["host-host"]
    assert {each.kind for each in document.results.left_out} == ON_GPU
    with pytest.raises(ParseError, match="memcpy: host-device was not run: no GPU"):
        documents.read_memcpy(healthy["memcpy"], ranks=RANKS, device="cpu", size=65536, repeats=3)


def test_a_burn_in_reads_sensors(healthy: dict[str, str]) -> None:
    results = documents.read_burnin(healthy["burnin"], ranks=RANKS, device="cpu", seconds=1).results
    assert results.cut_short is None
    for rank in range(RANKS):
        assert sum(results.iterations[rank].wrong) == results.reference[rank].wrong == 0
        assert results.ecc_before[rank]["uncorrected_volatile"] == 0
        assert set(results.samples[rank].temperature_c) <= set(range(20, 60))
        assert results.telemetry[rank].reason is None
        assert None not in results.samples[rank].power_w + results.samples[rank].throttle_reasons


STARVED = 'exec nice -n $((LOCAL_RANK / 3 * 10)) "$0" "$@"'  # the fourth rank gets one part of 28


@pytest.fixture
def one_processor() -> Iterator[None]:
    """What this process starts has one of its processors."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    yield
    os.sched_setaffinity(0, mine)


@pytest.mark.usefixtures("one_processor")
def test_a_rank_that_waits_for_a_processor_is_no_slower(tmp_path: Path) -> None:
    text = words(f"several.py {GEMM.replace('--repeats 3', '--repeats 9')} -- {DDP} --tokens 256 -- {BURNIN}")
    found = runs.printed(runs.run(tmp_path, "--no_python", "sh", "-c", STARVED, runs.python(), *text, ranks=RANKS))
    products = documents.read_gemm(found["gemm"], ranks=RANKS, device="cpu", dtypes=DTYPES, size=64, repeats=9,
                                   may_lack={"fp16", "tf32"}).results.rows
    burnin = documents.read_burnin(found["burnin"], ranks=RANKS, device="cpu", seconds=1).results.iterations
    alone = ddp(found["ddp"], RANKS).results.alone.seconds
    rates: dict[str, list[float]] = {
        "burn-in": [median(each.tflops) for each in burnin], "training": [1 / median(each) for each in alone],
        **{row.dtype: [median(each) for each in row.tflops] for row in products}}
    for name, by_rank in rates.items():
        assert max(by_rank) < 1.5 * min(by_rank), (name, rates)


def test_pods_make_one_document(tmp_path: Path) -> None:
    first, second = runs.run_pods(tmp_path, 2, *words(f"several.py {ALLREDUCE} -- {MEMCPY}"), ranks=2)
    assert (first[0], second[0]) == (0, 0)
    assert documents.documents_in(second[1]) == {}, "rank 0 alone writes"
    found = documents.documents_in(first[1])
    ranks = allreduce(found["allreduce"], RANKS).ranks
    assert [(rank.node, rank.pod, rank.group_rank, rank.local_rank) for rank in ranks] == [
        (f"gpu-node-0{pod + 1}", f"acceptance-{pod}", pod, local) for pod in (0, 1) for local in (0, 1)]
    documents.read_memcpy(found["memcpy"], ranks=RANKS, device="cpu", size=65536, repeats=3, may_lack=ON_GPU)


def test_wrong_elements_are_counted_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "recorded.log").write_text("{node} NCCL INFO rank {rank}\n")
    done = runs.run(tmp_path, FAULTS, "corrupted-reduction", "--rank", "1", "--bytes", "1024", "--nccl-log",
                    "recorded.log", "--log-dir", str(tmp_path), "--", *words(f"{ALLREDUCE} --log-dir {tmp_path}"))
    results = allreduce(runs.printed(done)["allreduce"]).results
    wrong = {row.case: row.wrong for row in results.rows if any(row.wrong)}
    assert wrong == {("all_reduce", place, size): [0, 16]  # four operations, four times, an element each
                     for place in ("in_place", "out_of_place") for size in (1024, 4096)}
    logs = [log and log.text for log in results.nccl_logs]
    assert logs == [f"{runs.NODE} NCCL INFO rank {rank}\n" for rank in (0, 1)]


def test_a_diverged_replica_has_another_checksum(tmp_path: Path) -> None:
    done = runs.run(tmp_path, FAULTS, "diverged-replica", "--rank", "2", "--", *words(DDP), ranks=3)
    replicas = ddp(runs.printed(done)["ddp"], 3).results.replicas
    assert len(set(replicas.start)) == 1
    assert replicas.end[0] == replicas.end[1] != replicas.end[2]


def test_training_that_learns_nothing_is_seen(tmp_path: Path) -> None:
    done = runs.run(tmp_path, FAULTS, "frozen-loss", "--rank", "0", "--", *words(DDP), ranks=1)
    assert done.returncode == 1
    assert "one rank alone has no communication" in done.stderr
    done = runs.run(tmp_path, FAULTS, "frozen-loss", "--rank", "0", "--", *words(f"{DDP} --tokens 32"), ranks=1)
    replicas = ddp(runs.printed(done)["ddp"], 1).results.replicas
    assert replicas.start == replicas.end


def test_a_wrong_product_is_found_wherever_it_is(tmp_path: Path) -> None:
    done = runs.run(tmp_path, FAULTS, "wrong-product", "--rank", "1", "--",
                    *words(f"several.py {GEMM} -- {BURNIN}"))
    found = runs.printed(done)
    document = documents.read_gemm(found["gemm"], ranks=2, device="cpu", dtypes=DTYPES, size=64, repeats=3,
                                   may_lack={"fp16", "tf32"})
    assert [row.wrong_rows for row in document.results.rows] == [[0, 1]] * 3
    assert [row.differing for row in document.results.rows] == [[0, 0]] * 3


def test_one_flipped_product_is_found_in_a_burn_in(tmp_path: Path) -> None:
    done = runs.run(tmp_path, FAULTS, "flipped-product", "--rank", "1", "--call", "9", "--", *words(BURNIN))
    results = documents.read_burnin(runs.printed(done)["burnin"], ranks=2, device="cpu", seconds=1).results
    assert [sum(each.wrong) for each in results.iterations] == [0, 1]
    assert "pynvml" in str(results.telemetry[0].reason)


def test_a_killed_rank_leaves_no_document(tmp_path: Path) -> None:
    out = tmp_path / "document.json"
    fault = (FAULTS, "killed", "--rank", "1", "--call", "20", "--")
    done = runs.run(tmp_path, *fault, *words(f"{ALLREDUCE} --out {out}"))
    assert done.returncode == 1
    assert "allreduce: rank 0 on gpu-node-03: RuntimeError: " in done.stderr
    assert not out.exists()
    assert documents.documents_in(done.stdout) == {}


def test_a_document_goes_into_a_file(tmp_path: Path) -> None:
    out = tmp_path / "document.json"
    done = runs.run(tmp_path, *words(f"{ALLREDUCE} --out {out}"))
    assert runs.printed(done) == {}
    allreduce(out.read_text())
    assert not out.with_name("document.json.part").exists()


LONG = words(BURNIN.replace("--seconds 1 ", "--seconds 600 ") + " --grace-seconds 3")


def numbers(folder: Path) -> dict[int, int]:
    """Process numbers of the ranks that are at work."""
    return {int(path.stem.removeprefix("rank-")): int(path.read_text()) for path in folder.glob("rank-*.pid")}


def test_a_burn_in_told_to_end_writes_what_it_has(tmp_path: Path) -> None:
    fault = (FAULTS, "marked", "--log-dir", str(tmp_path), "--rank", "-1", "--")
    status, output = runs.run_and_end(tmp_path, lambda: len(numbers(tmp_path)) == 2,
                                      lambda running: running.send_signal(signal.SIGTERM), *fault, *LONG)
    assert status != 0
    text = documents.documents_in(output)["burnin"]
    results = documents.read_burnin(text, ranks=2, device="cpu", seconds=600).results
    assert results.cut_short == "told to end (SIGTERM) on 2 of 2 ranks"


def test_a_burn_in_that_lost_a_rank_says_which(tmp_path: Path) -> None:
    fault = (FAULTS, "marked", "--log-dir", str(tmp_path), "--rank", "-1", "--")
    status, output = runs.run_and_end(tmp_path, lambda: len(numbers(tmp_path)) == 3,
                                      lambda _: os.kill(numbers(tmp_path)[1], signal.SIGKILL), *fault, *LONG, ranks=3)
    assert status != 0
    with pytest.raises(ParseError, match=r"burnin: ranks \[1\] are missing"):
        documents.read_burnin(documents.documents_in(output)["burnin"], ranks=3, device="cpu", seconds=600)


def test_without_torchrun_one_line_says_so(tmp_path: Path) -> None:
    done = subprocess.run([runs.python(), *words(GEMM)], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, text=True,
                          capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "RANK expected" in done.stderr


def test_without_a_gpu_nothing_runs_on_the_processor_instead(tmp_path: Path) -> None:
    done = runs.run(tmp_path, *words("gemm.py"), ranks=1)
    assert done.returncode == 1
    assert "gemm: rank 0 on gpu-node-03: RuntimeError: it needs GPU 0 and sees 0" in done.stderr
    assert "Traceback" not in done.stderr.partition("torch.distributed.elastic")[0]
    assert documents.documents_in(done.stdout) == {}
