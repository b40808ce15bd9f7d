"""What `workloads/ddp.py` writes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from acceptance.measure.documents.frame import (
    Arguments,
    Count,
    Digest,
    Document,
    Natural,
    PerRank,
    Raw,
    Seconds,
    follows,
    lengths,
)


class DdpArguments(Arguments):
    """The model's size, the steps, and from what tokens per step were derived."""

    layers: Count
    width: Count
    heads: Count
    vocabulary: Count
    sequence: Count
    steps: Count
    warmups: Natural
    bucket_mb: Count
    seed: int
    precision: Literal["bf16", "fp32"]
    gradients: Literal["bf16", "fp32"]
    learning_rate: Seconds
    share: Seconds
    tflops: Seconds | None
    busbw: Seconds | None
    tokens: Count | None


class Model(Raw):
    """What was trained."""

    parameters: Count
    layers: Count
    width: Count
    heads: Count
    vocabulary: Count
    sequence: Count


class Phase(Raw):
    """Ranks of steps. `loss` has the warm-up's steps too, and None where it is not a finite number.

    `forward_seconds` is the part of a step in which no rank waits for another.
    """

    warmup_seconds: PerRank
    seconds: PerRank
    forward_seconds: PerRank
    loss: list[list[float | None]]
    tokens_per_s: list[Seconds]

    def check(self, where: str, arguments: DdpArguments, tokens: int, ranks: int) -> None:
        """That the phase is whole. Raises ValueError."""
        lengths(f"{where}: warmup_seconds", self.warmup_seconds, ranks, arguments.warmups)
        lengths(f"{where}: seconds", self.seconds, ranks, arguments.steps)
        lengths(f"{where}: forward_seconds", self.forward_seconds, ranks, arguments.steps)
        lengths(f"{where}: loss", self.loss, ranks, arguments.warmups + arguments.steps)
        follows(f"{where}: tokens_per_s", self.tokens_per_s, (tokens * len(each) / sum(each) for each in self.seconds))


class Replicas(Raw):
    """Each rank's checksum of all parameters, after the first broadcast and after the last step."""

    algorithm: Literal["sha256"]
    start: list[Digest]
    end: list[Digest]


class DdpResults(Raw):
    """`alone` is every rank for itself, all at once; `together` is with DistributedDataParallel.

    `expected_share` is communication over computing as derived from the assumed speed and busbw, for the tokens used.
    """

    model: Model
    gradient_bytes: Literal[2, 4]
    factor: Annotated[float, Field(ge=0)]
    exact_tokens: Annotated[float, Field(ge=0)] | None
    tokens: Count
    expected_share: Annotated[float, Field(ge=0)] | None
    alone: Phase
    together: Phase
    efficiency: Seconds
    replicas: Replicas


class DdpDocument(Document):
    """Both phases, whole."""

    workload: Literal["ddp"]
    arguments: DdpArguments
    results: DdpResults

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        ranks, arguments, results = len(self.ranks), self.arguments, self.results
        if self.backend != ("nccl" if self.device == "cuda" else "gloo") or arguments.device != self.device:
            raise ValueError(f"backend {self.backend} on {self.device}, asked for {arguments.device}")
        for name in ("layers", "width", "heads", "vocabulary", "sequence"):
            if getattr(results.model, name) != getattr(arguments, name):
                raise ValueError(f"model.{name} is {getattr(results.model, name)}, not {getattr(arguments, name)}")
        results.alone.check("alone", arguments, results.tokens, ranks)
        results.together.check("together", arguments, results.tokens, ranks)
        follows("factor", [results.factor], [2 * (ranks - 1) / ranks])
        follows("efficiency", [results.efficiency],
                [sum(results.together.tokens_per_s) / sum(results.alone.tokens_per_s)])
        lengths("replicas.start", results.replicas.start, ranks)
        lengths("replicas.end", results.replicas.end, ranks)
        return self._tokens_are_derived()

    def _tokens_are_derived(self) -> Self:
        arguments, results = self.arguments, self.results
        if results.gradient_bytes != (2 if arguments.gradients == "bf16" else 4):
            raise ValueError(f"gradients of {results.gradient_bytes} bytes, asked for {arguments.gradients}")
        if arguments.tflops is None or arguments.busbw is None:
            if results.exact_tokens is not None or results.expected_share is not None:
                raise ValueError("a share that was derived from nothing")
        else:
            one = results.gradient_bytes * results.factor * arguments.tflops * 1e3 / (6 * arguments.busbw)
            follows("exact_tokens", [results.exact_tokens or 0], [one / arguments.share])
            follows("expected_share", [results.expected_share or 0], [one / results.tokens])
        wanted = arguments.tokens or results.exact_tokens or 0
        if results.tokens != max(1, round(wanted / arguments.sequence)) * arguments.sequence:
            raise ValueError(f"{results.tokens} tokens a step, asked for {wanted:g}")
        return self
