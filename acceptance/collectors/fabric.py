"""What passes between the GPU nodes: full-size packets, TCP and RDMA bandwidth, and the counters around the load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.on_node import answer, command, program
from acceptance.errors import ContractError, ParseError
from acceptance.measure.ceilings import ping_payload
from acceptance.measure.pairs import flow, rounds_of_pairs
from acceptance.transport.shell import Outcome

if TYPE_CHECKING:
    from acceptance.collect import Session
    from acceptance.site.contract import Contract
    from acceptance.site.inventory import Host

JUMBO_COUNT = 3
IPERF_PORT = 5201
PERFTEST_PORT = 18515
START_S = 5.0


@collector("jumbo-ping", purpose="sending full-size packets between all GPU nodes", deadline_s=60)
def jumbo_ping(session: Session) -> None:
    """From each GPU node to every other, packets that fill the contracted MTU and may not be fragmented."""
    hosts = session.hosts("gpu_nodes")
    size = str(ping_payload(session.contract.network.fabric.mtu))
    words = ["ping", "-n", "-M", "do", "-s", size, "-c", str(JUMBO_COUNT), "-i", "0.2", "-W", "1"]

    def one(host: Host) -> None:
        others = [other for other in hosts if other != host]
        argument = {"run": [[[*words, other.address] for other in others]], "deadline_s": 10}
        outcome = session.shell.run(host.name, command(argument), stdin=program("processes"),
                                    deadline_s=session.contract.ssh.command_timeout_s)
        try:
            results = answer(outcome)[0]
        except ParseError:
            results = [None] * len(others)
        for other, result in zip(others, results, strict=True):
            session.record(flow(host.name, other.name), command=[*words, other.address],
                           outcome=outcome if result is None else _outcome(result))

    session.each(hosts, one)


@collector("pair-bandwidth", purpose="measuring TCP bandwidth of all pairs of GPU nodes", intrusive=True,
           deadline_s=1800)
def pair_bandwidth(session: Session) -> None:
    """All pairs in rounds of disjoint ones, one way and then the other; all counters before and after."""
    fabric = session.contract.network.fabric
    first = first_port(session.contract, IPERF_PORT, 2 * fabric.bandwidth_processes)
    ports = list(range(first, first + 2 * fabric.bandwidth_processes))
    half = fabric.bandwidth_processes
    seconds, omit = fabric.bandwidth_seconds, fabric.bandwidth_omit_seconds

    def client(port: int, address: str, *more: str) -> list[str]:
        return ["iperf3", "-c", address, "-p", str(port), "-t", str(seconds), "-O", str(omit), "-Z", "-J", *more]

    def measure(source: Host, target: Host) -> None:
        servers = [{"command": ["iperf3", "-s", "-1", "-p", str(port)], "port": port} for port in ports]
        batches = [[client(port, target.address) for port in ports[:half]],
                   [client(port, target.address, "-R") for port in ports[half:]]]
        subjects = [flow(source.name, target.name), flow(target.name, source.name)]
        _measure(session, source, target, servers, batches, subjects, seconds + omit)

    _counters(session, "before")
    _rounds(session, measure)
    _counters(session, "after")


@collector("rdma-bandwidth", purpose="measuring RDMA bandwidth of all pairs of GPU nodes", intrusive=True,
           deadline_s=1800)
def rdma_bandwidth(session: Session) -> None:
    """ib_write_bw between all pairs in rounds of disjoint ones, one way and then the other."""
    contract = session.contract
    seconds = contract.network.fabric.bandwidth_seconds
    port = first_port(contract, PERFTEST_PORT, 1)

    def perftest(node: Host, *more: str) -> list[str]:
        script = _GID_SCRIPT.replace("DEVICE", contract.network.rdma.device).replace("ADDRESS", node.address)
        rdma = contract.network.rdma
        return ["sh", "-c", script, "sh", "-d", rdma.device, "-p", str(port), "-s", str(rdma.message_bytes),
                "-q", str(rdma.queue_pairs), "-m", str(rdma.active_mtu), "-D", str(seconds), "-F",
                "--report_gbits", *more]

    def measure(source: Host, target: Host) -> None:
        for sender, receiver in ((source, target), (target, source)):
            servers = [{"command": perftest(receiver), "port": port}]
            subjects = [flow(sender.name, receiver.name)]
            batches = [[perftest(sender, receiver.address)]]
            _measure(session, sender, receiver, servers, batches, subjects, seconds)

    _rounds(session, measure)


# The RoCE v2 GID that carries the node's IPv4 address has another index on every node, so each looks for its own.
_GID_SCRIPT = """
hex=$(printf '%02x%02x:%02x%02x' $(echo ADDRESS | tr . ' '))
for gid in /sys/class/infiniband/DEVICE/ports/1/gids/*; do
  index=${gid##*/}
  case "$(cat "$gid")" in *:ffff:"$hex")
    case "$(cat "${gid%/gids/*}/gid_attrs/types/$index" 2>/dev/null)" in "RoCE v2")
      exec ib_write_bw -x "$index" "$@";; esac;; esac
done
echo 'no RoCE v2 GID of DEVICE carries ADDRESS' >&2; exit 3
"""


def first_port(contract: Contract, port: int, count: int) -> int:
    """`port`, if the contract opens it and `count - 1` more above it between GPU nodes. Raises ContractError."""
    for rule in contract.ports_of(("gpu_nodes",)):
        low, _, high = str(rule.port).partition(":")
        if rule.protocol == "tcp" and int(low) <= port and port + count - 1 <= int(high or low):
            return port
    raise ContractError(
        f"security.firewall.allow: no rule for GPU nodes opens tcp {port}:{port + count - 1}, which the bandwidth test "
        "needs; widen the range or lower network.fabric.bandwidth_processes"
    )


def _rounds(session: Session, measure: Callable[[Host, Host], None]) -> None:
    hosts = {host.name: host for host in session.hosts("gpu_nodes")}
    rounds = rounds_of_pairs(list(hosts))
    done, total = 0, sum(len(pairs) for pairs in rounds)
    for number, pairs in enumerate(rounds, start=1):
        partner = {source: hosts[target] for source, target in pairs}

        def one(source: Host, partner: dict[str, Host] = partner) -> None:
            measure(source, partner[source.name])

        session.progress(done, total, f"round {number} of {len(rounds)}")
        session.each([hosts[name] for name in partner], one)
        done += len(pairs)
    session.progress(done, total, "done")


def _measure(session: Session, source: Host, target: Host, servers: list[dict[str, Any]],
             batches: list[list[list[str]]], subjects: Sequence[str], batch_s: float) -> None:
    """Servers up on the target, each batch of clients from the source; servers that served nobody are stopped."""
    start_s = session.patient(START_S)
    life = round(len(batches) * (batch_s + start_s) + 2 * start_s)
    interface = session.contract.network.fabric.interface
    more = session.contract.ssh.command_timeout_s
    argument = {"start": servers, "life_s": life, "wait_s": start_s, "interface": interface}
    started = _on(session, target, argument, start_s + more)
    try:
        groups = _groups(started)
    except ParseError as error:
        for subject in subjects:
            session.record(subject, command=servers[0]["command"], outcome=started,
                           document={"failed": target.name, "reason": f"server: {error}"})
        return
    served = False
    try:
        work = {"run": batches, "deadline_s": batch_s + start_s, "interface": interface}
        outcome = _on(session, source, work, len(batches) * (batch_s + start_s) + more)
        try:
            results = answer(outcome)
        except ParseError as error:
            for subject, batch in zip(subjects, batches, strict=True):
                session.record(subject, command=batch[0], outcome=outcome,
                               document={"failed": source.name, "reason": f"client: {error}"})
            return
        for subject, batch, clients in zip(subjects, batches, results, strict=True):
            session.record(subject, command=batch[0],
                           document={"client": source.name, "server": target.name, "clients": clients})
        served = all(client["exit_code"] == 0 for clients in results for client in clients)
    finally:
        if not served:
            _on(session, target, {"stop": groups}, more)


def _groups(started: Outcome) -> list[int]:
    document = answer(started)
    if document.get("error"):
        raise ParseError(document["error"])
    return list(document["groups"])


def _on(session: Session, host: Host, argument: dict[str, Any], deadline_s: float) -> Outcome:
    return session.shell.run(host.name, command(argument), stdin=program("processes"), deadline_s=deadline_s)


def _counters(session: Session, phase: str) -> None:
    contract = session.contract
    argument = {"interface": contract.network.fabric.interface, "device": contract.network.rdma.device}

    def one(host: Host) -> None:
        outcome = session.shell.run(host.name, command(argument), stdin=program("counters"),
                                    deadline_s=contract.ssh.command_timeout_s)
        try:
            session.record(host.name, document={"phase": phase, **answer(outcome)})
        except ParseError as error:
            session.record(host.name, outcome=outcome, document={"phase": phase, "error": str(error)})

    session.each(session.hosts("gpu_nodes"), one)


def _outcome(result: dict[str, Any]) -> Outcome:
    ended = result["exit_code"] is not None
    return Outcome(
        status="exited" if ended else "timed-out", exit_code=result["exit_code"], stdout=result["stdout"],
        stderr=result["stderr"], seconds=result["end_s"] - result["start_s"],
        detail="" if ended else "killed at its deadline on the node",
    )
