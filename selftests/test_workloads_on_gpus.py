"""The lines of the workloads that are for GPUs and NCCL, run with stand-ins for both: what they write is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from acceptance.measure import documents
from selftests import workload_runs as runs
from selftests.workload_runs import ALLREDUCE, BURNIN, DDP, GEMM, MEMCPY, words

FAKE = str(runs.ROOT / "selftests" / "fake_cuda.py")
COLLECTIVES = ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "alltoall"]
SIZES, OTHER_SIZES = [8, 1024, 4096], [4, 512]
RANKS = 2


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The documents of all workloads."""
    scratch = tmp_path_factory.mktemp("gpus")
    training = DDP.replace("--precision fp32 ", "")  # bf16, as on GPUs
    turns = " -- ".join((f"{ALLREDUCE} --log-dir {scratch}", GEMM, MEMCPY, training, BURNIN))
    text = f"several.py {turns}".replace("--device cpu", "--device cuda")
    return runs.printed(runs.run(scratch, FAKE, *words(text), ranks=RANKS))


def test_all_collectives_run_and_nothing_is_lacking(found: dict[str, str]) -> None:
    document = documents.read_allreduce(found["allreduce"], ranks=RANKS, device="cuda", collectives=COLLECTIVES,
                                        sizes=SIZES, other_sizes=OTHER_SIZES, repeats=3)
    assert document.backend == "nccl"
    assert all(row.wrong == [0, 0] for row in document.results.rows)
    assert {row.case for row in document.results.rows} >= {("reduce_scatter", "in_place", 512),
                                                           ("reduce_scatter", "out_of_place", 512)}
    assert document.results.nccl_logs == [None, None], "no NCCL, no log, and none is made up"
    for rank in document.ranks:
        assert rank.environment["NCCL_DEBUG"] == "INFO"
        assert rank.environment["NCCL_DEBUG_SUBSYS"] == "INIT,NET,GRAPH"
        assert f"nccl-rank-{rank.rank:03}." in rank.environment["NCCL_DEBUG_FILE"]
        assert (rank.gpu_uuid, rank.gpu_uuid_from) == (f"GPU-00000000-0000-0000-0000-00000000000{rank.rank}", "torch")
        assert (rank.versions.nccl, rank.gpu_name) == ("2.18.5", "NVIDIA A100-PCIE-40GB")


def test_right_data_in_the_wrong_place_are_wrong(tmp_path: Path) -> None:
    text = ALLREDUCE.replace("--device cpu", "--device cuda")
    done = runs.run(tmp_path, FAKE, "--misplace", *words(f"{text} --log-dir {tmp_path}"), ranks=RANKS)
    document = documents.read_allreduce(runs.printed(done)["allreduce"], ranks=RANKS, device="cuda", sizes=SIZES,
                                        collectives=COLLECTIVES, other_sizes=OTHER_SIZES, repeats=3)
    for row in document.results.rows:
        assert all(row.wrong) == any(row.wrong) == (row.collective in ("all_gather", "reduce_scatter")), row.case


def test_products_of_every_dtype_but_one(found: dict[str, str]) -> None:
    document = documents.read_gemm(found["gemm"], ranks=RANKS, device="cuda", size=64, repeats=3, may_lack={"fp16"},
                                   dtypes=["bf16", "fp16", "tf32", "fp32", "fp64"])
    assert [row.dtype for row in document.results.rows] == ["bf16", "tf32", "fp32", "fp64"]
    assert all(row.wrong == row.wrong_rows == row.differing == [0, 0] for row in document.results.rows)


def test_copies_of_every_kind(found: dict[str, str]) -> None:
    results = documents.read_memcpy(found["memcpy"], ranks=RANKS, device="cuda", size=65536, repeats=3).results
    assert [(row.kind, row.peer_offset, row.counted_bytes) for row in results.rows] == [
        ("host-device", None, 65536), ("device-host", None, 65536), ("device-device", None, 131072), ("peer", 1, 65536)]
    assert [row.direct_access for row in results.rows] == [[None, None]] * 3 + [[False, False]]
    assert all(row.wrong == [0, 0] for row in results.rows)


def test_training_and_burn_in(found: dict[str, str]) -> None:
    training = documents.read_ddp(found["ddp"], ranks=RANKS, device="cuda", steps=12, warmups=2, precision="bf16")
    assert len(set(training.results.replicas.end)) == 1
    assert documents.read_burnin(found["burnin"], ranks=RANKS, device="cuda", seconds=1).results.cut_short is None
