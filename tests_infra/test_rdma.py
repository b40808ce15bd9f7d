"""Phase 2, networking: the RDMA device of every GPU node and the settings that RoCE needs to be lossless."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from acceptance.checks import check

if TYPE_CHECKING:
    from acceptance.facts import NodeFacts
    from acceptance.findings import Findings
    from acceptance.site.contract import Contract


@check("rdma-device", phase=2, layer="networking", area="infra", hosts="gpu_nodes", daily=True,
       clause="Infrastructure Deployment / Network Configuration",
       criterion="The RDMA device of every GPU node is active on the fabric port, with the contracted MTU and a RoCE "
                 "v2 address",
       remedy="rdma link, ibv_devinfo -v on the node; active_mtu follows the port's MTU; GIDs: "
              "/sys/class/infiniband/DEVICE/ports/1/gid_attrs/types")
def test_rdma_device(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    wanted, fabric = contract.network.rdma, contract.network.fabric
    device = node.rdma.devices.get(wanted.device)
    findings.equal("device is there", measured=device is not None, required=True,
                   reason=f"found {', '.join(node.rdma.devices) or 'none'}, contracted {wanted.device}")
    if device is None:
        return
    findings.equal("network interface of the device", measured=device.netdev, required=fabric.interface)
    port = device.ports.get("1")
    findings.equal("port 1 is there", measured=port is not None, required=True)
    if port is None:
        return
    findings.equal("state", measured=port.state, required="ACTIVE")
    findings.equal("link layer", measured=port.link_layer, required="Ethernet")
    findings.equal("active_mtu", measured=port.active_mtu, required=wanted.active_mtu, unit="bytes",
                   reason=node.rdma.errors.get("active_mtu", ""))
    packed = IPv4Address(node.address).packed.hex()  # a GID holds an IPv4 address in its last four bytes
    ending = f":ffff:{packed[:4]}:{packed[4:]}"
    kinds = sorted({gid.type for gid in port.gids if gid.ndev == fabric.interface and gid.gid.endswith(ending)})
    findings.equal(f"a {wanted.gid_type} GID carries {node.address}", measured=wanted.gid_type in kinds, required=True,
                   reason=f"kinds of GID of this address on {fabric.interface}: {', '.join(kinds) or 'none'}")


@check("roce-qos", phase=2, layer="networking", area="infra", hosts="gpu_nodes", daily=True,
       clause="Infrastructure Deployment / Network Configuration",
       criterion="The fabric port trusts DSCP, pauses the contracted priority only (PFC) and marks congestion (ECN)",
       remedy="mlnx_qos -i PORT on the node; the switch port needs the same priority; settings must survive a boot")
def test_roce_qos(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    wanted, qos = contract.network.rdma, node.qos
    findings.equal("trust", measured=qos.trust, required=wanted.trust, reason=qos.errors.get("trust", ""))
    if qos.pfc_enabled is None:
        findings.blocked("priorities with PFC", qos.errors.get("pfc_enabled", "not read"),
                         required=wanted.pfc_priorities)
    else:
        findings.same_set("priorities with PFC", measured=qos.pfc_enabled, required=wanted.pfc_priorities)
    for side, field, enabled in (("reaction", "ecn_rp", qos.ecn_rp), ("notification", "ecn_np", qos.ecn_np)):
        missing = None if enabled is None else [p for p in wanted.ecn_priorities if p not in enabled]
        findings.empty(f"contracted priorities without ECN at the {side} point", measured=missing,
                       reason=qos.errors.get(field, "") if missing is None else f"enabled: {enabled or 'none'}")
