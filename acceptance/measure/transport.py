"""Whether a run's data went over the contracted network, proven by each channel of NCCL's log and not by its speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from acceptance.measure.flaws import Flaw
from acceptance.measure.nccl_log import Channel, NcclLog


@dataclass(frozen=True)
class TransportNeed:
    """What the log must show. `ranks` are the ranks by the name under which their host logs (a pod's, or a node's), and
    `nodes` the node behind such a name. `network` "IB" admits NCCL's own and plugins that are called IB…; "TCP" is
    gloo's."""

    ranks: Mapping[str, frozenset[int]]
    nodes: Mapping[str, str]
    network: str = "IB"
    gpu_direct: bool = False

    @property
    def total(self) -> int:
        """All ranks."""
        return sum(len(ranks) for ranks in self.ranks.values())

    def node(self, host: str) -> str:
        """Where a host's name of the log runs; the name itself where nobody said."""
        return self.nodes.get(host, host)


@dataclass(frozen=True)
class NodeTransport:
    """How many channel ends of one node use what, for the report. With gloo, which has no channels, its ranks."""

    node: str
    by_network: Mapping[str, int]
    inside: int
    gpu_direct: int


def judge_transport(log: NcclLog, need: TransportNeed) -> tuple[list[NodeTransport], list[Flaw]]:
    """Channels by node, and every flaw. Nothing that is missing or cut is a pass."""
    flaws = _placed(log, need) + _told(log, need)
    if need.network == "TCP":
        return _gloo_nodes(log, need), flaws + _gloo(log, need)
    nodes = []
    for host in sorted(need.ranks):
        mine = [channel for channel in log.channels if channel.process[0] == host]
        outside = [channel for channel in mine if channel.network]
        nodes.append(NodeTransport(need.node(host), Counter(channel.network for channel in outside),
                                   len(mine) - len(outside), sum(channel.gpu_direct for channel in outside)))
        if len(need.ranks) > 1:
            flaws += _node(need, need.node(host), outside)
    if not log.channels:
        flaws.append(Flaw("transport", "log missing: it names no channel; was NCCL_DEBUG=INFO set and its output kept?",
                          measured=0, required="≥ 1"))
    return nodes, flaws


def _node(need: TransportNeed, node: str, outside: list[Channel]) -> list[Flaw]:
    flaws = []
    good = [channel for channel in outside if channel.network.startswith(need.network)]
    if not good:
        flaws.append(Flaw(f"channels over NET/{need.network}", "the log names none of this node: log missing, or "
                          "another network", node, 0, "≥ 1"))
    for network, count in Counter(c.network for c in outside if not c.network.startswith(need.network)).items():
        ranks = {c.target if c.direction == "receive" else c.source for c in outside if c.network == network}
        fallback = " (NCCL fell back to TCP)" if network == "Socket" else ""
        flaws.append(Flaw(f"channels over NET/{network}", f"of ranks {_list(ranks)}{fallback}", node, count, 0))
    staged = sum(not channel.gpu_direct for channel in good)
    if need.gpu_direct and staged:
        flaws.append(Flaw("channels without GDRDMA", "data is staged in host memory; contracted is GPUDirect", node,
                          staged, 0))
    return flaws


def _placed(log: NcclLog, need: TransportNeed) -> list[Flaw]:
    """Whether every rank told itself, on its host, and came to the end of connecting."""
    flaws, found = [], log.ranks_by_host(need.total)
    for host, wanted in sorted(need.ranks.items()):
        there = found.get(host, set())
        if wanted - there:
            flaws.append(Flaw("ranks in the log", f"nothing of ranks {_list(wanted - there)}: log missing, or they ran "
                              "elsewhere", need.node(host), len(wanted & there), len(wanted)))
        if there - wanted:
            flaws.append(Flaw("ranks in the log", f"ranks {_list(there - wanted)} were to run elsewhere",
                              need.node(host)))
    unready = {one.rank for one in log.ranks if one.ranks == need.total and one.process not in log.connected}
    if unready:
        flaws.append(Flaw("ranks connected", f"the log ends before ranks {_list(unready)} say so",
                          measured=need.total - len(unready), required=need.total))
    flaws += [Flaw("hosts in the log", "nothing was to run there", host)
              for host in sorted(log.hosts - set(need.ranks))]
    return flaws


def _told(log: NcclLog, need: TransportNeed) -> list[Flaw]:
    """What no log of a good run says."""
    flaws = [Flaw("network chosen", f"contracted is {need.network}", need.node(host), network, need.network)
             for host, networks in sorted(log.networks.items()) for network in sorted(networks)
             if not network.startswith(need.network)]
    if log.cut or log.ownerless:
        shown = log.cut[0] if log.cut else "lines whose beginning is lost"
        flaws.append(Flaw("channels that are cut", f"their transport is not known: {shown}; let each rank write a file "
                          "of its own (NCCL_DEBUG_FILE)", measured=len(log.cut) + log.ownerless, required=0))
    if len(log.versions) > 1:
        flaws.append(Flaw("NCCL versions", "the ranks run different ones", measured=", ".join(log.versions),
                          required="one"))
    return flaws


def _gloo_nodes(log: NcclLog, need: TransportNeed) -> list[NodeTransport]:
    found = log.ranks_by_host(need.total)
    return [NodeTransport(need.node(host), {f"gloo over {network}": len(found.get(host, ()))
                                            for network in log.networks.get(host, ())}, 0, 0)
            for host in sorted(need.ranks)]


def _gloo(log: NcclLog, need: TransportNeed) -> list[Flaw]:
    flaws = [Flaw("transport", "its ranks do not say what they use", need.node(host)) for host in sorted(need.ranks)
             if need.network not in log.networks.get(host, ())]
    if log.backend != "gloo":
        flaws.append(Flaw("backend", "the contract names gloo", measured=log.backend, required="gloo"))
    used = sorted({(need.node(channel.process[0]), channel.transport) for channel in log.channels})
    flaws += [Flaw("channels of NCCL", f"over {transport}; gloo has none", node) for node, transport in used]
    return flaws


def _list(ranks: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ranks)))
