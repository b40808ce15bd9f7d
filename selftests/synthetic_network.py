"""What a healthy fabric and healthy prerequisites leave in facts and evidence, with places to break them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acceptance.evidence import Evidence, Record
from acceptance.measure.counters import INTERFACE_COUNTERS, RDMA_COUNTERS
from acceptance.measure.pairs import flow, flows
from acceptance.site.inventory import Host
from acceptance.transport.shell import Outcome
from selftests.synthetic import SITE, Sections

DATA = Path(__file__).parent / "data"
FABRIC = SITE.contract.network.fabric
RDMA = SITE.contract.network.rdma
GPU_NODES = [host.name for host in SITE.group("gpu_nodes")]

Entry = dict[str, Any]
Change = Callable[[Entry], Any]


def network_sections(host: Host) -> Callable[[Sections], None]:
    """Adds the sections net, rdma, qos and resolve of a healthy GPU node."""

    def add(sections: Sections) -> None:
        packed = ":".join(f"{high:02x}{low:02x}" for high, low in _halves(host.address))
        gids = [{"index": 1, "gid": f"0000:0000:0000:0000:0000:ffff:{packed}", "type": "IB/RoCE v1"},
                {"index": 3, "gid": f"0000:0000:0000:0000:0000:ffff:{packed}", "type": RDMA.gid_type}]
        port = {"state": "ACTIVE", "phys_state": "LinkUp", "link_layer": "Ethernet", "rate_gbps": 100.0,
                "active_mtu": RDMA.active_mtu, "gids": [gid | {"ndev": FABRIC.interface} for gid in gids],
                "counters": {}, "hw_counters": {}}
        sections["net"] = {
            "interfaces": {FABRIC.interface: {
                "mac": "b8:ce:f6:00:00:01", "mtu": FABRIC.mtu, "operstate": "up", "speed_mbps": FABRIC.speed_mbps,
                "duplex": "full", "carrier_changes": 1, "addresses": [f"{host.address}/24"], "numa_node": 0,
                "pci": "0000:17:00.0", "counters": {}}},
            "vlans": {}, "errors": {},
            "lldp_neighbors": [{"interface": FABRIC.interface, "chassis": "leaf-1", "port": "Eth1/1",
                                "vlan_ids": [FABRIC.vlan_id]}],
        }
        sections["rdma"] = {"errors": {}, "devices": {RDMA.device: {
            "netdev": FABRIC.interface, "numa_node": 0, "firmware": "16.35.2000", "ports": {"1": port}}}}
        sections["qos"] = {"interface": FABRIC.interface, "trust": RDMA.trust, "pfc_enabled": RDMA.pfc_priorities,
                           "ecn_np": RDMA.ecn_priorities, "ecn_rp": RDMA.ecn_priorities, "errors": {}}
        sections["resolve"] = {"names": {other.name: [other.address] for other in SITE.hosts}}

    return add


def _halves(address: str) -> list[tuple[int, int]]:
    parts = [int(part) for part in address.split(".")]
    return [(parts[0], parts[1]), (parts[2], parts[3])]


def exited(stdout: str = "", stderr: str = "", code: int = 0) -> Outcome:
    """A command that ran to its end."""
    return Outcome(status="exited", exit_code=code, stdout=stdout, stderr=stderr, seconds=0.1, detail="")


def unreachable() -> Outcome:
    """A host that ssh could not reach."""
    return Outcome(status="unreachable", exit_code=None, stdout="", stderr="", seconds=4.0, detail="no route to host")


def evidence(collector: str, entries: Iterable[Entry]) -> Evidence:
    """Evidence of one collector; an entry has `subject`, and `command`, `outcome`, `document` as needed."""
    at = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    return Evidence(tuple(
        Record(id=f"e{number:04}", at=at, collector=collector, subject=entry["subject"],
               command=entry.get("command"), outcome=entry.get("outcome"), document=entry.get("document"))
        for number, entry in enumerate(entries, start=1)
    ))


def ping_text(sent: int, received: int) -> str:
    """ping's summary."""
    loss = 100 * (sent - received) / sent
    return f"{sent} packets transmitted, {received} received, {loss:g}% packet loss, time 1809ms\n"


def jumbo(lost: Callable[[str, str], int]) -> list[Entry]:
    """One entry an ordered pair, of which so many of three packets are lost."""
    return [{"subject": flow(a, b), "outcome": exited(ping_text(3, 3 - lost(a, b)), code=int(lost(a, b) > 0))}
            for a, b in flows(GPU_NODES)]


def iperf_client(gbps: float, seconds: float = FABRIC.bandwidth_seconds) -> Entry:
    """One finished iperf3 client, after a recorded one."""
    document = json.loads((DATA / "iperf3-3.12-forward.json").read_text(encoding="utf-8"))
    document["end"]["sum_received"] |= {"bits_per_second": gbps * 1e9, "seconds": seconds}
    return {"exit_code": 0, "stdout": json.dumps(document), "stderr": "", "start_s": 0.0, "end_s": seconds + 1}


def bandwidth(gbps: Callable[[str, str], float]) -> list[Entry]:
    """One entry an ordered pair, shared by the contracted number of clients, and quiet counters."""
    share = FABRIC.bandwidth_processes
    loads = [{"subject": flow(a, b), "document": {
        "client": min(a, b), "server": max(a, b), "clients": [iperf_client(gbps(a, b) / share) for _ in range(share)]}}
        for a, b in flows(GPU_NODES)]
    return loads + [{"subject": name, "document": {"phase": phase, **quiet()}}
                    for phase in ("before", "after") for name in GPU_NODES]


def quiet() -> Entry:
    """Counters as the program on the node prints them, all at 7."""
    return {"interface": dict.fromkeys(INTERFACE_COUNTERS, 7), "driver": {"rx_discards_phy": 7},
            "rdma": dict.fromkeys(RDMA_COUNTERS, 7)}


def rdma(gbps: Callable[[str, str], float]) -> list[Entry]:
    """One entry an ordered pair, with the recorded table and another rate in it."""
    text = (DATA / "ib_write_bw-6.06-text.txt").read_text(encoding="utf-8")
    return [{"subject": flow(a, b), "document": {"client": a, "server": b, "clients": [
        {"exit_code": 0, "stderr": "", "start_s": 0.0, "end_s": 10.0,
         "stdout": text.replace("0.35", f"{gbps(a, b):.2f}", 1)}]}} for a, b in flows(GPU_NODES)]


def changed(entries: list[Entry], subject: str, change: Change) -> list[Entry]:
    """The same, after a change to every entry of one subject."""
    for entry in entries:
        if entry["subject"] == subject:
            change(entry)
    return entries
