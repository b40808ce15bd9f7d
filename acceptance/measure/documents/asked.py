"""What the contract asks of each workload: the arguments that it is started with, and the document that is then due.

Both follow from the contract alone, so a document is judged against what should have been run, not what was.
"""

from __future__ import annotations

from acceptance.errors import ParseError
from acceptance.measure import documents
from acceptance.measure.documents.collectives import AllreduceDocument
from acceptance.measure.documents.gpus import BurninDocument, GemmDocument, MemcpyDocument
from acceptance.measure.documents.training import DdpDocument
from acceptance.measure.limits import ranks_of
from acceptance.site.contract import Contract

NCCL_ALGORITHMS = {"ring": "Ring", "tree": "Tree"}
GPU_COPIES = ("host-device", "device-host", "device-device", "peer")


def _words(**named: object) -> list[str]:
    """Arguments, by name; lists have a word for each of theirs."""
    found: list[str] = []
    for name, value in named.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        found += [f"--{name.replace('_', '-')}", *(str(each) for each in values)]
    return found


def arguments(contract: Contract, workload: str, timeout_s: float) -> list[str]:
    """The words after a workload's file; `timeout_s` is how long its ranks wait for each other."""
    work = contract.performance
    made = {"allreduce": _allreduce, "ddp": _ddp, "gemm": _gemm, "memcpy": _memcpy, "burnin": _burnin}[workload]
    return [*_words(device=work.pods.device, timeout_s=max(1, round(timeout_s))), *made(contract)]


def environment(contract: Contract) -> dict[str, str]:
    """Variables of every pod: the contract's own, and those by which NCCL does what the contract says."""
    wanted, found = contract.performance.collectives, {}
    if wanted.backend == "nccl" and wanted.algorithm in NCCL_ALGORITHMS:
        found["NCCL_ALGO"] = NCCL_ALGORITHMS[wanted.algorithm]
    if wanted.network == "IB" and wanted.ports_per_node == 1:
        found["NCCL_IB_HCA"] = f"={contract.network.rdma.device}"
    return found | contract.performance.pods.environment


def _allreduce(contract: Contract) -> list[str]:
    wanted = contract.performance.collectives
    return _words(collectives=["all_reduce", *wanted.others], sizes=wanted.sizes.all,
                  other_sizes=wanted.other_sizes.all, repeats=wanted.repeats, warmups=wanted.warmups,
                  operations=wanted.operations)


def _ddp(contract: Contract) -> list[str]:
    wanted = contract.performance.training
    size = wanted.transformer
    return _words(layers=size.layers, width=size.width, heads=size.heads, vocabulary=size.vocabulary,
                  sequence=size.sequence, steps=wanted.steps, warmups=wanted.warmups, precision=wanted.precision,
                  gradients="bf16" if wanted.gradient_bytes == 2 else "fp32", learning_rate=wanted.learning_rate,
                  tokens=wanted.tokens_per_gpu)


def _gemm(contract: Contract) -> list[str]:
    wanted = contract.performance.gemm
    return _words(dtypes=list(wanted.floors), size=wanted.size, repeats=wanted.repeats,
                  warmup_seconds=wanted.warmup_seconds)


def _memcpy(contract: Contract) -> list[str]:
    wanted = contract.performance.memcpy
    return _words(bytes=wanted.size, repeats=wanted.repeats)


def _burnin(contract: Contract) -> list[str]:
    wanted = contract.performance.burn_in
    return _words(seconds=burn_in_seconds(contract), dtype=wanted.dtype, size=contract.performance.gemm.size,
                  sample_seconds=wanted.sample_seconds)


def burn_in_seconds(contract: Contract) -> float:
    """How long the burn-in lasts."""
    return round(contract.performance.burn_in.hours * 3600, 3)


def allreduce(contract: Contract, text: str) -> AllreduceDocument:
    """The document of the collectives that the contract asks for. Raises ParseError."""
    wanted = contract.performance.collectives
    return documents.read_allreduce(text, ranks=ranks_of(contract), device=contract.performance.pods.device,
                                    collectives=["all_reduce", *wanted.others], sizes=wanted.sizes.all,
                                    other_sizes=wanted.other_sizes.all, repeats=wanted.repeats)


def ddp(contract: Contract, text: str) -> DdpDocument:
    """The document of the training that the contract asks for. Raises ParseError."""
    wanted = contract.performance.training
    return documents.read_ddp(text, ranks=ranks_of(contract), device=contract.performance.pods.device,
                              steps=wanted.steps, warmups=wanted.warmups, tokens=wanted.tokens_per_gpu,
                              precision=wanted.precision, gradients="bf16" if wanted.gradient_bytes == 2 else "fp32",
                              **wanted.transformer.model_dump())


def gemm(contract: Contract, text: str) -> GemmDocument:
    """The document of the matrix products that the contract asks for. Raises ParseError."""
    wanted = contract.performance.gemm
    return documents.read_gemm(text, ranks=ranks_of(contract), device=contract.performance.pods.device,
                               dtypes=list(wanted.floors), size=wanted.size, repeats=wanted.repeats)


def memcpy(contract: Contract, text: str) -> MemcpyDocument:
    """The document of the copies that the contract asks for. Raises ParseError."""
    wanted, device = contract.performance.memcpy, contract.performance.pods.device
    return documents.read_memcpy(text, ranks=ranks_of(contract), device=device, size=wanted.size,
                                 repeats=wanted.repeats, may_lack=GPU_COPIES if device == "cpu" else ())


def burnin(contract: Contract, text: str) -> BurninDocument:
    """The document of the burn-in that the contract asks for. Raises ParseError."""
    wanted = contract.performance
    document = documents.read_burnin(text, ranks=ranks_of(contract), device=wanted.pods.device,
                                     seconds=burn_in_seconds(contract))
    asked, found = (wanted.burn_in.dtype, wanted.gemm.size), (document.results.dtype, document.results.size)
    if asked != found:
        raise ParseError(f"burnin: asked for {asked[0]} of size {asked[1]}, the document has {found}")
    return document
