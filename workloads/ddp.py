"""Training with DistributedDataParallel: every rank alone, all at once, then all together; and what together costs.

    torchrun --nproc_per_node 4 ddp.py --tflops 100 --busbw 10.5                 # on GPUs
    torchrun --nproc_per_node 4 ddp.py --device cpu --precision fp32 --layers 2 --width 64 --heads 2 --vocabulary 256 \
        --sequence 32 --tokens 256 --steps 10                                    # anywhere

Efficiency = tokens/s of all together / sum of the tokens/s of each alone. Alone means at the same time and without
communication: same heat, same power, and a slow GPU is seen as slow. On a CPU, alone counts the processor time of the
process and together what passes, so that sharing processors costs as communication does.

Tokens per rank and step are derived so that communication is --share of compute. With N parameters, gradients of b
bytes, busbw B, a speed F and f = 2(n−1)/n, communication takes b·N·f/B and computing 6·N·tokens/F: N cancels, and
tokens = b·f·F / (6·share·B). --tokens sets them by hand.

Data are generated: each token is followed by the same one wherever it stands, so the loss falls when training works.
`forward_seconds` is the part of a step in which no rank waits for another, on a CPU in processor time. Replicas are
compared by the SHA-256 of all parameters, after the first broadcast and after the last step.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import math
import sys
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ranks import World, argument_parser, carry_out

TOKENS_USED = 64  # of the vocabulary: a loss that falls quickly, whatever the size


class Block(nn.Module):  # type: ignore[misc]
    """Causal attention and a perceptron of four times the width, each added to what comes in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        parts = self.query_key_value(self.before_attention(x)).chunk(3, dim=-1)
        query, key, value = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts)
        attended = attention(query, key, value).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(attended)
        return x + self.perceptron(self.before_perceptron(x))


def attention(query: Any, key: Any, value: Any) -> Any:
    """Causal attention; torch has it in one piece from 2.0 on."""
    if hasattr(functional, "scaled_dot_product_attention"):
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value


class Transformer(nn.Module):  # type: ignore[misc]
    """A decoder of the usual kind."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__()
        self.token = nn.Embedding(arguments.vocabulary, arguments.width)
        self.place = nn.Embedding(arguments.sequence, arguments.width)
        self.blocks = nn.Sequential(*(Block(arguments.width, arguments.heads) for _ in range(arguments.layers)))
        self.last = nn.LayerNorm(arguments.width)
        self.head = nn.Linear(arguments.width, arguments.vocabulary, bias=False)

    def forward(self, tokens: Any) -> Any:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.last(self.blocks(self.token(tokens) + self.place(places))))


class Clock:
    """Moments on the device: events of the GPU's own, so that measuring makes nobody wait.

    On a CPU a moment is what time it is, and how much of it this rank has worked.
    """

    def __init__(self, world: World) -> None:
        self.world = world

    def now(self) -> Any:
        if not self.world.cuda:
            return time.perf_counter(), self.world.clock()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, begin: Any, end: Any, *, own: bool) -> float:
        """Between two moments; of the rank's `own` work, or with its waiting for others."""
        self.world.synchronize()
        return round(float(begin.elapsed_time(end)) / 1000 if self.world.cuda else float(end[own] - begin[own]), 9)


def batch_of(world: World, arguments: argparse.Namespace, step: int, sequences: int) -> tuple[Any, Any]:
    """Tokens and those that follow them; of a rank and step always the same."""
    used = min(TOKENS_USED, arguments.vocabulary)
    chance = torch.Generator().manual_seed(arguments.seed + 1_000_003 * world.rank + step)
    order = torch.randperm(used, generator=torch.Generator().manual_seed(arguments.seed))
    starts = torch.randint(used, (sequences, 1), generator=chance)
    text = order[(starts + torch.arange(arguments.sequence + 1)) % used].to(world.device)
    return text[:, :-1].contiguous(), text[:, 1:].contiguous()


def train(world: World, arguments: argparse.Namespace, model: Any, sequences: int, *, alone: bool) -> dict[str, Any]:
    """Warm-up and steps: seconds of each, of its forward part, and its loss."""
    clock, moments, losses = Clock(world), [], []
    optimiser = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate)
    batches = [batch_of(world, arguments, step, sequences) for step in range(arguments.warmups + arguments.steps)]
    dist.barrier()
    world.synchronize()
    for tokens, following in batches:
        begin = clock.now()
        with autocast(arguments):
            logits = model(tokens)
            loss = functional.cross_entropy(logits.float().flatten(0, 1), following.flatten())
        middle = clock.now()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        moments.append((begin, middle, clock.now()))
        losses.append(loss.detach())
    seconds = [clock.seconds(begin, end, own=alone) for begin, _, end in moments]
    forward = [clock.seconds(begin, middle, own=True) for begin, middle, _ in moments]
    values = [float(loss) for loss in losses]
    return {"warmup_seconds": seconds[:arguments.warmups], "seconds": seconds[arguments.warmups:],
            "forward_seconds": forward[arguments.warmups:],
            "loss": [value if math.isfinite(value) else None for value in values]}


def autocast(arguments: argparse.Namespace) -> Any:
    if arguments.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device_type=arguments.device, dtype=torch.bfloat16)


def checksum(model: Any) -> str:
    """SHA-256 of all parameters, by name."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.detach().cpu().contiguous()
        size = values.numel() * values.element_size()
        digest.update(name.encode() + (ctypes.c_char * size).from_address(values.data_ptr()).raw)
    return digest.hexdigest()


def measure(world: World, arguments: argparse.Namespace) -> dict[str, Any]:
    """This rank's part of both phases."""
    derived = derivation(arguments, world.size)
    sequences = derived["tokens"] // arguments.sequence
    torch.manual_seed(arguments.seed)
    model = Transformer(arguments).to(world.device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    alone = train(world, arguments, model, sequences, alone=True)
    del model
    torch.manual_seed(arguments.seed)
    model = DistributedDataParallel(Transformer(arguments).to(world.device), bucket_cap_mb=arguments.bucket_mb,
                                    device_ids=[world.local_rank] if world.cuda else None)
    if arguments.gradients == "bf16":
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
        model.register_comm_hook(None, bf16_compress_hook)
    start = checksum(model.module)
    together = train(world, arguments, model, sequences, alone=False)
    return {"parameters": parameters, "derived": derived, "alone": alone, "together": together,
            "replica": [start, checksum(model.module)]}


def derivation(arguments: argparse.Namespace, ranks: int) -> dict[str, Any]:
    """Tokens per rank and step, and the share of communication that they give if speed and busbw are as assumed."""
    gradient_bytes, factor = 2 if arguments.gradients == "bf16" else 4, 2 * (ranks - 1) / ranks
    exact, share = None, None
    if arguments.tflops and arguments.busbw:
        one = gradient_bytes * factor * arguments.tflops * 1e12 / (6 * arguments.busbw * 1e9)
        exact = one / arguments.share
    wanted = arguments.tokens or exact
    if not wanted:
        raise ValueError("one rank alone has no communication to derive tokens from: give --tokens")
    tokens = max(1, round(wanted / arguments.sequence)) * arguments.sequence
    if exact is not None:
        share = one / tokens
    return {"gradient_bytes": gradient_bytes, "factor": factor, "exact_tokens": exact, "tokens": tokens,
            "expected_share": share}


def merge(parts: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    """The parts of all ranks as one result."""
    tokens = parts[0]["derived"]["tokens"]
    phases: dict[str, Any] = {}
    for phase in ("alone", "together"):
        lists = {key: [part[phase][key] for part in parts] for key in parts[0][phase]}
        rates = [tokens * len(seconds) / sum(seconds) for seconds in lists["seconds"]]
        phases[phase] = {**lists, "tokens_per_s": rates}
    model = {"parameters": parts[0]["parameters"], **{key: getattr(arguments, key) for key in (
        "layers", "width", "heads", "vocabulary", "sequence")}}
    efficiency = sum(phases["together"]["tokens_per_s"]) / sum(phases["alone"]["tokens_per_s"])
    return {"model": model, **parts[0]["derived"], **phases, "efficiency": efficiency,
            "replicas": {"algorithm": "sha256", "start": [part["replica"][0] for part in parts],
                         "end": [part["replica"][1] for part in parts]}}


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argument_parser(__doc__)
    for name, default in (("layers", 12), ("width", 1024), ("heads", 16), ("vocabulary", 8192), ("sequence", 1024),
                          ("steps", 30), ("warmups", 5), ("bucket-mb", 25), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of computing")
    parser.add_argument("--gradients", choices=("bf16", "fp32"), default="fp32", help="as they are sent")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--share", type=float, default=0.375, help="of communication, relative to compute")
    parser.add_argument("--tflops", type=float, help="a GPU's speed in training, for the derivation")
    parser.add_argument("--busbw", type=float, help="of all_reduce in GB/s, for the derivation")
    parser.add_argument("--tokens", type=int, help="per rank and step, instead of the derivation")
    arguments = parser.parse_args(words)
    if not arguments.tokens and not (arguments.tflops and arguments.busbw and arguments.share > 0):
        parser.error("give --tokens, or --tflops and --busbw to derive them from")
    if arguments.gradients == "bf16" and arguments.device == "cpu":
        parser.error("--gradients bf16 needs --device cuda: gloo does not add bf16")
    if min(arguments.steps, arguments.sequence, arguments.layers) < 1 or arguments.warmups < 0:
        parser.error("--steps, --sequence and --layers must be at least 1")
    return arguments


def main(words: list[str]) -> int:
    return carry_out("ddp", parsed(words), measure, merge, collective=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
