"""NCCL's log proves the transport of every channel, or fails."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import ParseError
from acceptance.measure.flaws import Flaw
from acceptance.measure.nccl_log import parse_nccl_log
from acceptance.measure.transport import TransportNeed, judge_transport
from selftests.nccl_samples import NODES, PER_NODE, RANKS, gloo_lines, log_line, log_lines

NEED = TransportNeed({node: frozenset(range(PER_NODE * at, PER_NODE * (at + 1))) for at, node in enumerate(NODES)}, {})
TCP = TransportNeed(NEED.ranks, {}, network="TCP")
HEALTHY = "\n".join(log_lines()) + "\n"


def flaws(text: str, need: TransportNeed = NEED) -> list[Flaw]:
    return judge_transport(parse_nccl_log(text, list(need.ranks)), need)[1]


def said(text: str, need: TransportNeed = NEED) -> str:
    return "\n".join(flaw.sentence() for flaw in flaws(text, need))


def test_a_healthy_log() -> None:
    nodes, found = judge_transport(parse_nccl_log(HEALTHY, NODES), NEED)
    assert found == []
    assert [(node.node, node.by_network, node.inside) for node in nodes] == [(name, {"IB": 4}, 6) for name in NODES]
    log = parse_nccl_log(HEALTHY)
    assert log.versions == ("2.21.5+cuda12.4",)
    assert log.ports["gpu-node-03"] == {"IB mlx5_0:1/RoCE"}
    assert log.ranks_by_host(RANKS)["gpu-node-08"] == {28, 29, 30, 31}


@pytest.mark.parametrize("line", [
    "Channel 00/0 : 3[3] -> 4[0] [send] via NET/IB/0", "Channel 00/0 : 3[3] -> 4[0] [send] via NET/IB/0/GDRDMA",
    "Channel 00 : 3[ca000] -> 4[17000] [send] via NET/IB/0/GDRDMA", "Ring 00 : 3 -> 4 [send] via NET/IB/0",
    "Channel 00/0 : 3[3] -> 4[0] [send] via NET/IB/0(2)/GDRDMA",
    "Channel 00/1 : 3[3] -> 4[0] [send] via NET/IB/0/Shared",
    "Channel 00/0 : 3[3] -> 4[0] [send] via NET/IB/0/GDRDMA(PCI)/Shared",
    "Channel 00/0 : 3[3] -> 4[0] [send] via NET/IBext_v8/0/GDRDMA",
    "Channel 00/0 : 3[3] -> 4[0] [send] via NET/IBext/0",
    "Channel 00 : 3[ca000] -> 4[17000] [send] via NET/IB/0 comm 0x7f00 nRanks 32"])
def test_channels_over_rdma_as_versions_write_them(line: str) -> None:
    [channel] = parse_nccl_log(log_line(3, line)).channels
    assert (channel.source, channel.target, channel.direction) == (3, 4, "send")
    assert channel.network.startswith("IB")
    assert channel.gpu_direct is ("GDRDMA" in line)


@pytest.mark.parametrize("transport", ["P2P/IPC", "P2P/direct pointer/read", "P2P/CUMEM", "SHM", "SHM/direct/direct",
                                       "P2P/indirect/2[2]", "direct shared memory"])
def test_channels_inside_a_node(transport: str) -> None:
    [channel] = parse_nccl_log(log_line(1, f"Channel 01/0 : 1[1] -> 2[2] via {transport}")).channels
    assert (channel.network, channel.transport) == ("", transport)


@pytest.mark.parametrize("line", ["Channel 00/24 :    0   1   2   3", "Ring 00 : 3 -> 0 -> 1",
                                  "Ring 12 : 31 -> 0 -> 1"])
def test_the_order_of_a_ring_is_no_channel(line: str) -> None:
    log = parse_nccl_log(log_line(0, line))
    assert (log.channels, log.cut) == ((), ())


def test_a_fallback_to_sockets_on_one_node_is_named() -> None:
    text = re.sub(r"(gpu-node-05:.*via NET/)IB", r"\1Socket", HEALTHY)
    found = flaws(text)
    assert {flaw.subject for flaw in found} == {"gpu-node-05"}
    assert "channels over NET/Socket: of ranks 16, 19 (NCCL fell back to TCP)" in said(text)


def test_a_fallback_everywhere() -> None:
    text = "\n".join(log_lines(network="Socket"))
    assert {flaw.subject for flaw in flaws(text)} == set(NODES)
    assert "network chosen: contracted is IB" in said(text)


def test_a_network_that_nobody_contracted() -> None:
    assert "channels over NET/AWS Libfabric" in said("\n".join(log_lines(network="AWS Libfabric")))


def test_a_socket_channel_beside_good_ones_is_enough() -> None:
    extra = log_line(19, "Channel 01/0 : 19[3] -> 20[0] [send] via NET/Socket/0")
    [only] = flaws(f"{HEALTHY}{extra}\n")
    assert (only.subject, only.measured) == ("gpu-node-05", 1)


def without(part: str) -> str:
    return "\n".join(line for line in HEALTHY.splitlines() if part not in line)


def test_no_channel_is_a_missing_log() -> None:
    assert "log missing: it names no channel" in said(without("Channel"))


def test_one_node_without_a_log_is_named() -> None:
    found = flaws(without("gpu-node-06:"))
    assert {flaw.subject for flaw in found} == {"gpu-node-06"}
    assert {flaw.quantity for flaw in found} == {"channels over NET/IB", "ranks in the log"}


def test_one_rank_without_a_log_is_named() -> None:
    assert "nothing of ranks 13" in said(without(":913:"))


@pytest.mark.parametrize("text", ["", "  \n", "torch.distributed is ready\n", "NCCL version 2.21.5+cuda12.4\n"])
def test_what_is_no_log_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_nccl_log(text)


def test_gpu_direct_is_asked_for_where_contracted() -> None:
    need = TransportNeed(NEED.ranks, {}, gpu_direct=True)
    assert flaws("\n".join(log_lines(gdr="/GDRDMA")), need) == []
    assert {flaw.subject for flaw in flaws(HEALTHY, need)} == set(NODES)


def test_pods_are_named_by_their_nodes() -> None:
    pods = {node: f"allreduce-{at}" for at, node in enumerate(NODES)}
    text = HEALTHY
    for node, pod in pods.items():
        text = text.replace(f"{node}:", f"{pod}:")
    need = TransportNeed({pods[node]: ranks for node, ranks in NEED.ranks.items()},
                         {pod: node for node, pod in pods.items()})
    assert flaws(text, need) == []
    elsewhere = text.replace("allreduce-2:", "other-2:")
    assert {flaw.subject for flaw in flaws(elsewhere, need)} == {"gpu-node-03", "other-2"}


def test_a_rank_on_another_node_is_told() -> None:
    text = HEALTHY.replace("gpu-node-02:904:", "gpu-node-01:904:")
    assert "gpu-node-01: ranks in the log: ranks 4 were to run elsewhere" in said(text)


def test_different_versions_are_told() -> None:
    assert "different ones" in said(HEALTHY + "NCCL version 2.20.3+cuda12.2\n")


def test_lines_that_run_into_each_other_whole_are_taken_apart() -> None:
    glued = HEALTHY.replace("via NET/IB/0\n", "via NET/IB/0", 5)
    assert flaws(glued) == []
    assert len(parse_nccl_log(glued, NODES).channels) == len(parse_nccl_log(HEALTHY, NODES).channels)


def test_a_channel_cut_by_another_line_is_no_proof() -> None:
    line = log_line(3, "Channel 01/0 : 3[3] -> 4[0] [send] via NET/IB/0")
    cut = HEALTHY.replace(line, line[:-8] + log_line(2, "Connected all trees"))
    assert "channels that are cut" in said(cut)


@pytest.mark.parametrize("rest", ["C", "Chann", "Channel", "Channel 0", "Channel 00/0 :", "Channel 00/0 : 3[3] -> 4[0]",
                                  "Channel 00/0 : 3[3] -> 4[0] [send] via", "Ring 00 : 3 -> 4",
                                  "Channel 00/0 : 3[3] -> 4[0] [send] via NET/Soc",
                                  "Channel 00/0 : 3[3] -> 4[0] [send] via NET/IB/0/GDR"])
def test_whatever_is_left_of_a_channel_is_cut(rest: str) -> None:
    log = parse_nccl_log(log_line(3, rest))
    assert (len(log.cut), log.channels) == (1, ())


def test_a_channel_without_its_beginning_is_no_proof() -> None:
    assert "channels that are cut" in said(f"{HEALTHY}nnel 03/0 : 3[3] -> 4[0] [send] via NET/Socket/0\n")


def test_a_log_that_ends_early_is_no_proof() -> None:
    assert "ranks connected" in said(without("gpu-node-08:931:2031 [3] NCCL INFO Connected"))


@given(st.integers(0, len(HEALTHY) - 2))
def test_a_log_cut_anywhere_is_no_proof(at: int) -> None:
    try:
        assert flaws(HEALTHY[:at])
    except ParseError:
        return


@given(st.data())
def test_a_channel_over_sockets_does_not_get_lost_in_damage(data: st.DataObject) -> None:
    """Cut a piece out of a log with one channel over sockets, as long as the channel itself is there."""
    bad = "[send] via NET/Socket/0"
    text = HEALTHY.replace("[send] via NET/IB/0", bad, 1)
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + text[at + data.draw(st.integers(1, 200)):]
    if bad in damaged:
        assert flaws(damaged)


@given(st.data())
def test_lines_torn_apart_by_others_never_pass_with_less_proof(data: st.DataObject) -> None:
    """One line is written in the middle of another one: all channels are read whole, or it is told."""
    lines = HEALTHY.splitlines()
    victim = data.draw(st.integers(1, len(lines) - 1))
    intruder = data.draw(st.integers(1, len(lines) - 1).filter(lambda n: n != victim))
    at = data.draw(st.integers(1, len(lines[victim]) - 1))
    lines[victim] = f"{lines[victim][:at]}{lines[intruder]}\n{lines[victim][at:]}"
    del lines[intruder]
    torn = "\n".join(lines)
    whole = {(c.process, c.transport, c.source, c.target) for c in parse_nccl_log(HEALTHY, NODES).channels}
    found = parse_nccl_log(torn, NODES)
    if {(c.process, c.transport, c.source, c.target) for c in found.channels} < whole:
        assert flaws(torn)


def test_gloo_says_what_it_is() -> None:
    text = "\n".join(gloo_lines())
    nodes, found = judge_transport(parse_nccl_log(text, NODES), TCP)
    assert found == []
    assert nodes[0].by_network == {"gloo over TCP": 4}
    assert "log missing" in said(text)  # and is no proof of RDMA
    assert "nothing of ranks 31" in said("\n".join(gloo_lines()[:-1]), TCP)
    assert "contract names gloo" in said(HEALTHY, TCP)
    extra = log_line(0, "Channel 00/0 : 0[0] -> 4[0] [send] via NET/Socket/0")
    assert "over NET/Socket/0; gloo has none" in said(f"{text}\n{extra}\n", TCP)
