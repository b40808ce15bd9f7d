"""Which counters of a port must stand still under load, and which have not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Kept by the kernel for every interface; one that is missing means that the port was not read.
# rx_dropped is left out: it also counts frames of protocols that nobody on the host listens to.
INTERFACE_COUNTERS = (
    "rx_errors", "tx_errors", "tx_dropped", "rx_crc_errors", "rx_frame_errors", "rx_fifo_errors", "rx_missed_errors",
    "rx_over_errors", "tx_carrier_errors", "tx_fifo_errors", "collisions", "carrier_changes",
)
# Kept by the RDMA device: packets lost, sent again, or answered "not ready". Names of the InfiniBand port counters and
# of mlx5's hw_counters.
RDMA_COUNTERS = (
    "symbol_error", "link_error_recovery", "link_downed", "port_rcv_errors", "port_xmit_discards",
    "out_of_sequence", "packet_seq_err", "local_ack_timeout_err", "rnr_nak_retry_err", "out_of_buffer",
)
# Kept by some drivers only (ethtool -S of mlx5) or some firmware: judged where they exist.
OPTIONAL_COUNTERS = (
    "rx_discards_phy", "tx_discards_phy", "rx_crc_errors_phy", "rx_symbol_err_phy", "rx_in_range_len_errors_phy",
    "rx_oversize_pkts_phy", "tx_errors_phy", "rx_out_of_buffer", "rx_prio3_discards", "rx_icrc_encapsulated",
    "implied_nak_seq_err", "req_transport_retries_exceeded", "req_cqe_error", "resp_cqe_error",
    "port_rcv_remote_physical_errors", "local_link_integrity_errors", "excessive_buffer_overrun_errors",
)
_GROUPS = (("interface", INTERFACE_COUNTERS), ("rdma", RDMA_COUNTERS))


@dataclass(frozen=True)
class Growth:
    """Counters that grew, with by how much; those that could not be compared; how many stood still."""

    grew: dict[str, int]
    missing: list[str]
    fell: list[str]
    still: int


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Growth:
    """Two snapshots of one host: {"interface": {name: value}, "driver": {...} or None, "rdma": {...}}.

    What a counter that fell was reset from is not known; nor is anything of one that is absent on either side.
    """
    grew: dict[str, int] = {}
    missing: list[str] = []
    fell: list[str] = []
    still = 0
    for group, name, required in _names():
        old, new = ((snapshot.get(group) or {}).get(name) for snapshot in (before, after))
        if old is None or new is None:
            if required or (old is None) != (new is None):
                missing.append(f"{group}.{name}")
        elif new < old:
            fell.append(f"{group}.{name}")
        elif new > old:
            grew[f"{group}.{name}"] = new - old
        else:
            still += 1
    return Growth(grew, missing, fell, still)


def _names() -> list[tuple[str, str, bool]]:
    required = [(group, name, True) for group, names in _GROUPS for name in names]
    return required + [(group, name, False) for group in ("driver", "rdma") for name in OPTIONAL_COUNTERS]
