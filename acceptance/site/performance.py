"""The contract's section `performance`: what is measured in phase 5, for how long, and what must be reached.

1 GB is 10⁹ bytes and 1 GB/s 10⁹ bytes a second, as NCCL's own tests count; sizes of messages are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from acceptance.site.base import Count, Model, Percent, Positive

Words = Annotated[list[str], Field(min_length=1)]
CollectiveName = Literal["all_reduce", "all_gather", "reduce_scatter", "broadcast", "alltoall"]
Dtype = Literal["bf16", "fp16", "tf32", "fp32", "fp64"]


class Pods(Model):
    """How workloads run: one pod on each host of gpu_nodes, with all of its GPUs, a rank each.

    `kind` "PyTorchJob" needs Kubeflow's training operator. `launcher` is torchrun, as the image has it; `device` "cpu"
    is for a lab. `together`: all but the burn-in run in one Job, torch loaded once. The namespace must admit
    `capabilities` and `volumes`: IPC_LOCK, with which memory is registered for RDMA, is more than Pod Security's
    "baseline" allows. `rdma_count` of `rdma_resource` go to each pod. `environment` is set in every pod;
    NCCL_ALGO, NCCL_IB_HCA and NCCL_DEBUG follow from the rest of the contract.
    """

    kind: Literal["Job", "PyTorchJob"]
    namespace: str
    image: str
    launcher: Words
    device: Literal["cuda", "cpu"]
    together: bool
    port: Annotated[int, Field(ge=1024, le=65535)]
    rdma_resource: str | None
    rdma_count: Annotated[int, Field(ge=0)]
    capabilities: list[str]
    shm_mib: Count
    requests: dict[Literal["cpu", "memory"], str]
    environment: dict[str, str]
    volumes: list[dict[str, Any]]
    mounts: list[dict[str, Any]]

    @model_validator(mode="after")
    def _rdma_is_whole(self) -> Pods:
        if (self.rdma_resource is None) != (self.rdma_count == 0):
            raise ValueError("rdma_count: a pod gets some of rdma_resource, or there is none and the count is 0")
        return self


class Sizes(Model):
    """Message sizes in bytes: the first, then each so many times the one before, up to the last."""

    first: Count
    last: Count
    factor: Annotated[int, Field(ge=2, le=1024)]

    @property
    def all(self) -> tuple[int, ...]:
        """Every size, ascending."""
        found = [self.first]
        while found[-1] * self.factor <= self.last:
            found.append(found[-1] * self.factor)
        return tuple(found)

    @model_validator(mode="after")
    def _last_is_reached(self) -> Sizes:
        if self.all[-1] != self.last:
            raise ValueError(f"last: {self.last} is not {self.first} times a power of {self.factor}")
        return self


class Collectives(Model):
    """all_reduce over all GPUs, which is judged by its bus bandwidth (busbw), and the others.

    `network` is what the channels between nodes must use, and `algorithm` what NCCL is told to use ("any": it chooses);
    both decide the ceiling. busbw is judged at `threshold_from_bytes` and above, size by size. At sizes up to
    `small_bytes`, a time above `alert_us` is told, not failed. `gpu_direct`: every channel says GDRDMA.
    `others` are run too: complete, with right results and below their ceilings. A repeat is at most so many
    `operations`.
    """

    backend: Literal["nccl", "gloo"]
    network: Literal["IB", "TCP"]
    algorithm: Literal["ring", "tree", "any"]
    gpu_direct: bool
    ports_per_node: Count
    port_limit_gbps: Positive | None
    sizes: Sizes
    repeats: Count
    operations: Count
    warmups: Annotated[int, Field(ge=0)]
    threshold_from_bytes: Count
    min_busbw_gbyte_s: Positive
    target_busbw_gbyte_s: Positive
    max_dip_percent: Percent
    small_bytes: Count
    alert_us: Positive
    others: list[CollectiveName]
    other_sizes: Sizes

    @model_validator(mode="after")
    def _something_is_judged(self) -> Collectives:
        if self.sizes.last < self.threshold_from_bytes:
            raise ValueError(f"sizes.last: no size reaches threshold_from_bytes {self.threshold_from_bytes}")
        if self.target_busbw_gbyte_s < self.min_busbw_gbyte_s:
            raise ValueError("target_busbw_gbyte_s is below min_busbw_gbyte_s")
        if "all_reduce" in self.others or len(set(self.others)) < len(self.others):
            raise ValueError("others: all_reduce is always run, and each of the others once")
        if (self.backend == "gloo") != (self.network == "TCP") or (self.gpu_direct and self.network == "TCP"):
            raise ValueError("network: nccl is to use IB, gloo knows TCP only, and TCP knows no gpu_direct")
        return self


class Gemm(Model):
    """Matrix products of `size` × `size` on every GPU: least sustained rate by data type, in 10¹² FLOP/s.

    A data type whose rate is null is not measured. `peak_tflops` are the data sheet's dense peaks of the contracted
    GPU: more is a mistake in the measurement.
    """

    size: Count
    repeats: Count
    warmup_seconds: Annotated[float, Field(ge=0)]
    min_tflops: Annotated[dict[Dtype, Positive | None], Field(min_length=1)]
    peak_tflops: Annotated[dict[Dtype, Positive], Field(min_length=1)]

    @property
    def floors(self) -> dict[Dtype, float]:
        """Least rate by data type, of those that are measured."""
        return {dtype: least for dtype, least in self.min_tflops.items() if least is not None}

    @model_validator(mode="after")
    def _below_the_peak(self) -> Gemm:
        if not self.floors:
            raise ValueError("min_tflops: no data type is measured")
        for dtype, least in self.floors.items():
            if least > self.peak_tflops.get(dtype, 0):
                raise ValueError(f"min_tflops.{dtype}: {least} needs a peak_tflops.{dtype} that is not below it")
        return self


class Memcpy(Model):
    """Copies of `size` bytes on every GPU, in GB/s: from and to pinned host memory, within the GPU (read and write
    counted), and between GPUs of a node (null: measured and compared with the others, without a floor).

    `peak_device_gbyte_s` is the data sheet's memory bandwidth of the contracted GPU. On device "cpu" there is nothing
    to copy to: copies within the host's memory are measured instead, whose peak is `peak_host_gbyte_s`.
    """

    size: Count
    repeats: Count
    min_host_to_device_gbyte_s: Positive
    min_device_to_host_gbyte_s: Positive
    min_device_gbyte_s: Positive
    peak_device_gbyte_s: Positive
    min_peer_gbyte_s: Positive | None
    min_host_gbyte_s: Positive
    peak_host_gbyte_s: Positive

    @model_validator(mode="after")
    def _below_the_peak(self) -> Memcpy:
        if self.min_host_gbyte_s > self.peak_host_gbyte_s:
            raise ValueError("min_host_gbyte_s is above peak_host_gbyte_s")
        if self.min_device_gbyte_s > self.peak_device_gbyte_s:
            raise ValueError("min_device_gbyte_s is above peak_device_gbyte_s")
        return self


class Transformer(Model):
    """The size of the model that is trained."""

    layers: Count
    width: Count
    heads: Count
    vocabulary: Count
    sequence: Count

    @model_validator(mode="after")
    def _heads_divide(self) -> Transformer:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} is no multiple of heads {self.heads}")
        return self


class Training(Model):
    """A transformer trained by DistributedDataParallel, on each GPU alone and then on all of them together.

    `communication_share` is the time that the gradients take on the network, over the time of computing; the tokens of
    a step are chosen so that it comes out. `gradient_bytes` is the size of one parameter's gradient on the wire.
    The loss must fall by `min_loss_fall_percent` over `steps`, from the first quarter's median to the last one's.
    """

    transformer: Transformer
    precision: Literal["bf16", "fp32"]
    learning_rate: Positive
    steps: Annotated[int, Field(ge=8)]
    warmups: Annotated[int, Field(ge=0)]
    communication_share: Annotated[float, Field(gt=0, le=2)]
    gradient_bytes: Literal[2, 4]
    tokens_per_gpu: Count
    min_efficiency_percent: Percent
    min_loss_fall_percent: Percent

    @model_validator(mode="after")
    def _whole_sequences(self) -> Training:
        if self.tokens_per_gpu % self.transformer.sequence:
            raise ValueError(f"tokens_per_gpu: {self.tokens_per_gpu} is no multiple of the sequence "
                             f"{self.transformer.sequence}")
        return self


class BurnIn(Model):
    """Load on every GPU for `hours`, results verified, sensors read every `sample_seconds`.

    The load is matrix products of the size of `gemm`.

    `max_clock_drop_percent` is how far the median clock of the last tenth may lie below that of the first.
    """

    hours: Positive
    dtype: Literal["bf16", "fp16", "fp32", "fp64"]
    sample_seconds: Positive
    max_clock_drop_percent: Percent


class Deadlines(Model):
    """Seconds: until all pods of a run have started, and then until each kind of run has ended."""

    start_seconds: Positive
    collectives_seconds: Positive
    training_seconds: Positive
    gemm_seconds: Positive
    memcpy_seconds: Positive
    burn_in_margin_seconds: Positive


class Performance(Model):
    """Phase 5's measurements. `peers_tolerance_percent` is how far a GPU or node may lie from the median of all,
    `pairs_tolerance_percent` how far a pair of nodes may lie below what pairs reach, and
    `ceiling_tolerance_percent` how far rounding and clocks may carry a figure above its physical ceiling.
    """

    peers_tolerance_percent: Percent
    pairs_tolerance_percent: Percent
    late_floor_us: Positive
    ceiling_tolerance_percent: Percent
    pods: Pods
    collectives: Collectives
    gemm: Gemm
    memcpy: Memcpy
    training: Training
    burn_in: BurnIn
    deadlines: Deadlines

    @model_validator(mode="after")
    def _device_and_backend(self) -> Performance:
        on_gpus = self.pods.device == "cuda"
        if on_gpus != (self.collectives.backend == "nccl"):
            raise ValueError("pods.device: nccl is for cuda, gloo for cpu")
        if not on_gpus and self.training.gradient_bytes == 2:
            raise ValueError("training.gradient_bytes: gloo does not add gradients of 2 bytes")
        if self.collectives.network == "IB" and "IPC_LOCK" not in self.pods.capabilities:
            raise ValueError("pods.capabilities: IPC_LOCK is missing, with which memory is registered for RDMA")
        return self
