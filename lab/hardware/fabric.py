"""The fabric port of a simulated server: a ConnectX as mlx5 shows it, over the interface that the lab made."""

from __future__ import annotations

import hashlib
import json
from ipaddress import IPv4Address

from lab.hardware.pci import device_folder, fabric_port
from lab.hardware.tree import Tree

INTERFACE = "ens3f0np0"
RDMA_DEVICE = "mlx5_0"
VLAN_ID = 100
PRIORITIES = 8
GIDS_SHOWN = 8
NO_GID = ":".join(["0000"] * 8)

COUNTERS = (
    "VL15_dropped", "excessive_buffer_overrun_errors", "link_downed", "link_error_recovery",
    "local_link_integrity_errors", "multicast_rcv_packets", "multicast_xmit_packets", "port_rcv_constraint_errors",
    "port_rcv_data", "port_rcv_errors", "port_rcv_packets", "port_rcv_remote_physical_errors",
    "port_rcv_switch_relay_errors", "port_xmit_constraint_errors", "port_xmit_data", "port_xmit_discards",
    "port_xmit_packets", "port_xmit_wait", "symbol_error", "unicast_rcv_packets", "unicast_xmit_packets",
)
HW_COUNTERS = (
    "duplicate_request", "implied_nak_seq_err", "local_ack_timeout_err", "np_cnp_sent",
    "np_ecn_marked_roce_packets", "out_of_buffer", "out_of_sequence", "packet_seq_err", "req_cqe_error",
    "req_cqe_flush_error", "req_remote_access_errors", "req_remote_invalid_request", "resp_cqe_error",
    "resp_cqe_flush_error", "resp_local_length_error", "resp_remote_access_errors", "rnr_nak_retry_err",
    "roce_adp_retrans", "roce_adp_retrans_to", "roce_slow_restart", "roce_slow_restart_cnps",
    "roce_slow_restart_trans", "rp_cnp_handled", "rp_cnp_ignored", "rx_atomic_requests", "rx_icrc_encapsulated",
    "rx_read_requests", "rx_write_requests",
)


def _guid(host: str) -> str:
    digest = hashlib.sha256(host.encode()).hexdigest()
    return f"b83f:d203:00{digest[:2]}:{digest[2:6]}"


def write_port(tree: Tree, host: str, address: str) -> None:
    """What ethtool, ibv_devinfo and the mlx5 driver's folders tell. ECN is off, as the driver leaves it."""
    net = f"devices/virtual/net/{INTERFACE}"
    tree.texts(net, {"speed": 100000, "duplex": "full"})
    tree.link(f"{net}/device", device_folder(fabric_port()))
    tree.link(f"{device_folder(fabric_port())}/net/{INTERFACE}", net)
    for role in ("roce_np", "roce_rp"):
        tree.texts(f"{net}/ecn/{role}/enable", {str(priority): 0 for priority in range(PRIORITIES)})
    _write_rdma(tree, host, address)


def _write_rdma(tree: Tree, host: str, address: str) -> None:
    folder = f"{device_folder(fabric_port())}/infiniband/{RDMA_DEVICE}"
    tree.texts(folder, {
        "node_type": "1: CA",
        "fw_ver": "22.39.2048",
        "hca_type": "MT4125",
        "board_id": "MT_0000000359",
        "hw_rev": "0",
        "node_desc": f"{host} {RDMA_DEVICE}",
        "node_guid": _guid(host),
        "sys_image_guid": _guid(host),
    })
    tree.link(f"{folder}/device", device_folder(fabric_port()))
    tree.link(f"class/infiniband/{RDMA_DEVICE}", folder)
    port = f"{folder}/ports/1"
    tree.texts(port, {
        "state": "4: ACTIVE",
        "phys_state": "5: LinkUp",
        "rate": "100 Gb/sec (4X EDR)",
        "link_layer": "Ethernet",
        "lid": "0x0",
        "sm_lid": "0x0",
        "lab_active_mtu": 4096,  # the kernel has no such file: verbs tell it, and the lab's ibv_devinfo reads it here
    })
    tree.texts(f"{port}/counters", dict.fromkeys(COUNTERS, 0))
    tree.texts(f"{port}/hw_counters", {**dict.fromkeys(HW_COUNTERS, 0), "lifespan": 10})
    _write_gids(tree, port, host, address)


def _write_gids(tree: Tree, port: str, host: str, address: str) -> None:
    """The link-local and the IPv4 address, each once as RoCE v1 and once as v2; empty entries have no type, and their
    files cannot be read."""
    local = f"fe80:0000:0000:0000:{_guid(host)}"
    packed = IPv4Address(address).packed.hex()
    ipv4 = f"0000:0000:0000:0000:0000:ffff:{packed[:4]}:{packed[4:]}"
    for index in range(GIDS_SHOWN):
        tree.text(f"{port}/gids/{index}", (local, local, ipv4, ipv4)[index] if index < 4 else NO_GID)
    tree.texts(f"{port}/gid_attrs/types", {str(i): ("IB/RoCE v1", "RoCE v2")[i % 2] for i in range(4)})
    tree.texts(f"{port}/gid_attrs/ndevs", dict.fromkeys("0123", INTERFACE))


def write_tool_state(tree: Tree, index: int) -> None:
    """What the stand-ins of mlnx_qos and lldpcli answer from: the driver's defaults, and the switch's port."""
    qos = {INTERFACE: {"trust": "pcp", "pfc": [0] * PRIORITIES}}
    lldp = {INTERFACE: {"switch": "leaf-01", "switch_mac": "50:6b:4b:00:00:01", "port": f"swp{index + 1}",
                        "address": "10.100.0.2", "vlan": VLAN_ID}}
    tree.text("qos.json", json.dumps(qos, indent=1))
    tree.text("lldp.json", json.dumps(lldp, indent=1))
