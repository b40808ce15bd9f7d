"""What links and processors can carry at most. A figure above its ceiling is a mistake in the measurement, not luck.

TCP goodput = line · (MTU − 52) / (MTU + 38): 20 bytes of IPv4 header, 20 of TCP and 12 of its timestamp option are not
payload; each frame costs 14 bytes of Ethernet header, 4 of checksum and 20 of preamble and gap, and 4 more where it
carries an 802.1Q tag. Of 100 Gb/s: 99.0 at MTU 9000, 94.1 at MTU 1500 (so 90 Gb/s proves no jumbo frames).

RoCE v2 payload = line · MTU / (MTU + 82): 18 bytes of Ethernet, 20 of IPv4, 8 of UDP, 12 of the InfiniBand base
transport header, 4 of its invariant checksum and 20 of preamble and gap. The MTU here is the RDMA device's active_mtu.
Of 100 Gb/s: 98.04 at 4096.

Collectives: a node's ports carry so many bytes each for a byte of the message, by algorithm; the fastest time follows,
and busbw from it (see `port_bytes`). PCIe: transfers a second · lanes · the line code, in one direction; packet headers
are left out, so the true limit lies some 15 % lower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from acceptance.measure.collectives import bus_factor

_TCP_HEADERS = 20 + 20 + 12
_FRAME = 14 + 4 + 20
_TAG = 4
_ROCE = 18 + 20 + 8 + 12 + 4 + 20
_PCIE = {1: (2.5, 8, 10), 2: (5.0, 8, 10), 3: (8.0, 128, 130), 4: (16.0, 128, 130), 5: (32.0, 128, 130)}


@dataclass(frozen=True)
class Ceiling:
    """A physical limit, and how it comes about as one line of text."""

    name: str
    value: float
    unit: str
    derivation: str

    def exceeded(self, measured: float, tolerance_percent: float = 0.0) -> bool:
        """Whether a figure lies above it by more than the tolerance, or is no number at all."""
        return not math.isfinite(measured) or measured > self.value * (1 + tolerance_percent / 100)

    def share_percent(self, measured: float) -> float:
        """How much of the limit was reached."""
        return 100 * measured / self.value


def tcp_goodput_gbps(line_gbps: float, mtu: int, *, tagged: bool = False) -> float:
    """Most TCP payload a second in Gb/s. Raises ValueError for an MTU that holds no payload."""
    if line_gbps <= 0 or mtu <= _TCP_HEADERS:
        raise ValueError(f"no goodput at {line_gbps} Gb/s and MTU {mtu}")
    return line_gbps * (mtu - _TCP_HEADERS) / (mtu + _FRAME + (_TAG if tagged else 0))


def roce_payload_gbps(line_gbps: float, active_mtu: int) -> float:
    """Most RDMA payload a second in Gb/s over RoCE v2 on IPv4. Raises ValueError for a senseless argument."""
    if line_gbps <= 0 or active_mtu <= 0:
        raise ValueError(f"no payload at {line_gbps} Gb/s and active_mtu {active_mtu}")
    return line_gbps * active_mtu / (active_mtu + _ROCE)


def ping_payload(mtu: int) -> int:
    """Bytes of ICMP echo payload that fill one unfragmented IPv4 packet of this MTU: less 20 of IP and 8 of ICMP."""
    return mtu - 28


def tcp_goodput(line_gbps: float, mtu: int, *, tagged: bool = False) -> Ceiling:
    """As `tcp_goodput_gbps`, with its derivation."""
    value = tcp_goodput_gbps(line_gbps, mtu, tagged=tagged)
    tag = " + 4 for the VLAN tag" if tagged else ""
    return Ceiling("TCP goodput", value, "Gb/s", f"{line_gbps:g} Gb/s · ({mtu} − {_TCP_HEADERS} headers) / "
                   f"({mtu} + {_FRAME} of the frame{tag}) = {value:.4g} Gb/s")


def roce_payload(line_gbps: float, active_mtu: int) -> Ceiling:
    """As `roce_payload_gbps`, with its derivation."""
    value = roce_payload_gbps(line_gbps, active_mtu)
    return Ceiling("RoCE v2 payload", value, "Gb/s", f"{line_gbps:g} Gb/s · {active_mtu} / ({active_mtu} + {_ROCE} of "
                   f"headers and frame) = {value:.4g} Gb/s")


def port_bytes(collective: str, algorithm: str, ranks: int, ranks_per_node: int) -> float:
    """Bytes that a node must send to others for each byte of the message.

    "ring": one ring, the ranks of a node next to each other, so it leaves each node once. "tree": NCCL's double binary
    tree, of all_reduce only; with two nodes each sends the message once, with more an inner node sends it up and down
    once in either tree's half. "any": what no algorithm can do without, if each node first sums up or shares inside.
    alltoall goes from each rank to each of another node, whatever the algorithm.
    """
    nodes, uneven = divmod(ranks, ranks_per_node)
    if uneven or nodes < 2:
        raise ValueError(f"{ranks} ranks, {ranks_per_node} a node: expected the same on each of two nodes or more")
    bus_factor(collective, ranks)  # refuses what is no collective
    if collective == "alltoall":
        return ranks_per_node * (ranks - ranks_per_node) / ranks
    if collective == "broadcast":
        return 1.0
    rounds = 2 if collective == "all_reduce" else 1
    if algorithm == "tree" and collective == "all_reduce":
        return 1.0 if nodes == 2 else 2.0
    if algorithm in ("ring", "tree"):
        return rounds * (ranks - 1) / ranks
    if algorithm == "any":
        return rounds * (nodes - 1) / nodes
    raise ValueError(f"unknown algorithm {algorithm!r}, expected ring, tree or any")


def busbw(collective: str, payload: Ceiling, *, ranks: int, ranks_per_node: int, ports_per_node: int = 1,
          algorithm: str = "ring") -> Ceiling:
    """Most bus bandwidth over nodes whose ports carry `payload` (Gb/s) each. Raises ValueError."""
    if payload.unit != "Gb/s" or ports_per_node < 1:
        raise ValueError(f"payload in {payload.unit} over {ports_per_node} ports: expected Gb/s and a port at least")
    sent, factor = port_bytes(collective, algorithm, ranks, ranks_per_node), bus_factor(collective, ranks)
    port = payload.value / 8
    value = ports_per_node * port / sent * factor
    ports = "port" if ports_per_node == 1 else f"{ports_per_node} ports"
    how = {"ring": "a ring", "tree": "a double tree", "any": "any algorithm"}[algorithm]
    return Ceiling(
        f"{collective} busbw over the network", value, "GB/s",
        f"{payload.name} {payload.value:.4g} Gb/s / 8 = {port:.4g} GB/s a port; with {how} over {ranks} ranks, "
        f"{ranks_per_node} a node, a node's {ports} must send {sent:.4g} × the message, and busbw counts "
        f"{factor:.4g} ×: {ports_per_node} · {port:.4g} / {sent:.4g} · {factor:.4g} = {value:.4g} GB/s",
    )


def pcie(generation: int, width: int) -> Ceiling:
    """Most of a PCIe link in one direction. Raises ValueError for an unknown generation or width."""
    if generation not in _PCIE or width not in (1, 2, 4, 8, 16, 32):
        raise ValueError(f"unknown PCIe link: generation {generation}, width {width}")
    rate, payload, coded = _PCIE[generation]
    value = rate * width * payload / coded / 8
    return Ceiling(f"PCIe {generation} x{width}, one way", value, "GB/s",
                   f"{rate:g} GT/s · {width} lanes · {payload}/{coded} / 8 = {value:.4g} GB/s")


def busbw_inside(collective: str, link: Ceiling, *, ranks: int) -> Ceiling:
    """Most bus bandwidth of a ring inside one node, where each GPU has one such link. Raises ValueError."""
    if ranks < 2:
        raise ValueError(f"{collective} over {ranks} ranks crosses no link")
    bus_factor(collective, ranks)
    return Ceiling(f"{collective} busbw inside a node", link.value, "GB/s",
                   f"a ring sends busbw over each GPU's link: {link.name}, {link.derivation}")


def data_sheet(name: str, value: float, unit: str, gpu: str) -> Ceiling:
    """A limit that the GPU's maker states, and the contract repeats."""
    return Ceiling(name, value, unit, f"data sheet of {gpu}: {value:g} {unit}")
