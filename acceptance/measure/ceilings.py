"""What a port can carry at most, from its line rate and MTU. More than that is a mistake in the measurement.

TCP goodput = line · (MTU − 52) / (MTU + 38): 20 bytes of IPv4 header, 20 of TCP and 12 of its timestamp option are not
payload; each frame costs 14 bytes of Ethernet header, 4 of checksum and 20 of preamble and gap, and 4 more where it
carries an 802.1Q tag. Of 100 Gb/s: 99.0 at MTU 9000, 94.1 at MTU 1500 (so 90 Gb/s proves no jumbo frames).

RoCE v2 payload = line · MTU / (MTU + 82): 18 bytes of Ethernet, 20 of IPv4, 8 of UDP, 12 of the InfiniBand base
transport header, 4 of its invariant checksum and 20 of preamble and gap. The MTU here is the RDMA device's active_mtu.
Of 100 Gb/s: 98.04 at 4096.
"""

from __future__ import annotations

_TCP_HEADERS = 20 + 20 + 12
_FRAME = 14 + 4 + 20
_TAG = 4
_ROCE = 18 + 20 + 8 + 12 + 4 + 20


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
