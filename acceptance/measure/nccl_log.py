"""What NCCL tells with NCCL_DEBUG=INFO: version, network, ports, each channel's transport; and gloo's stand-in for it.

After NVIDIA/nccl src/init.cc, src/debug.cc and src/transport/*.cc, v2.18 to v2.30. A line is `host:pid:thread [gpu]
NCCL INFO text`. Processes that share one output may write into each other's lines, so text is cut at every such
beginning; what begins as a channel and does not end as one counts as cut, because nobody knows which transport it would
have named.

gloo, the backend of a lab without GPUs, logs no channels. A workload that runs on it writes, for each rank, one line of
the same form and says what it is: `host:pid:thread [local rank] GLOO INFO rank 3 nranks 32 via TCP/eth0`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from acceptance.errors import ParseError

_BEGIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*):(\d{1,10}):\d{1,10} \[(-?\d{1,4})\] "
                    r"(?:\S+\.(?:cc|cu|h):\d+ )?(NCCL|GLOO) (INFO|WARN) ")
_CHANNEL = re.compile(
    r"(?:Channel|Ring) \d{1,4}(?:/\d{1,4})? : (\d{1,6})(?:\[\w+\])? -> (\d{1,6})(?:\[\w+\])? "
    r"(?:\[(send|receive)\] )?via (.+?)(?: comm 0x[0-9a-f]+ nRanks \d+)?")
# which ranks a ring goes through, in the order of NCCL's graph; no connection yet
_ORDER = re.compile(r"Channel \d+/\d+ :\s{2,}[\s\d]*|Ring \d+ : (?:-?\d+ -> ){2,}-?\d+")
_NETWORK = re.compile(r"NET/([^/]+)/\d{1,4}(?:\(\d+\))?(/GDRDMA(?:\(PCI\))?)?(?:/Shared)?")
_INSIDE = re.compile(r"(?:P2P|SHM|direct shared memory|COLLNET|NVLS)\b.*")
_ANY_NETWORK = re.compile(r"via NET/[^/\n]+/\d")
_COMM = re.compile(r"(?:\w+ )?comm 0x[0-9a-f]+ rank (\d{1,6}) nranks (\d{1,6}) cudaDev \d+ .*?- Init COMPLETE")
_GLOO = re.compile(r"rank (\d{1,6}) nranks (\d{1,6}) via (TCP)/(\S+)")
_USING = re.compile(r"Using network (\S+)|Assigned NET plugin (\S+) to comm")
_PORTS = re.compile(r"NET/(\w+) : Using (.*)")
_PORT = re.compile(r"\[\d+\](\S+)")
_VERSION = re.compile(r"NCCL version (\d+\.\d+\.\d+\S*)")
_CONNECTED = "Connected all"

Process = tuple[str, int, int]
"""Host, process id and GPU: one rank."""


@dataclass(frozen=True)
class Channel:
    """One end of a connection between two ranks.

    `direction` is "send", "receive" or "" where NCCL names none. `network` is NCCL's name of the network ("IB",
    "IBext_v8", "Socket", …), "" where the connection stays inside the node (P2P, SHM).
    """

    process: Process
    source: int
    target: int
    direction: str
    transport: str
    network: str
    gpu_direct: bool


@dataclass(frozen=True)
class RankOnHost:
    """A rank of a communicator, and where it ran."""

    rank: int
    ranks: int
    process: Process


@dataclass(frozen=True)
class NcclLog:
    """All that was told. `networks` and `ports` are by host, `connected` are the processes that came to the end of
    connecting. `cut` are channels that broke off, `ownerless` counts channels over a network that no readable line
    tells."""

    backend: str
    versions: tuple[str, ...]
    networks: Mapping[str, frozenset[str]]
    ports: Mapping[str, frozenset[str]]
    channels: tuple[Channel, ...]
    ranks: tuple[RankOnHost, ...]
    connected: frozenset[Process]
    cut: tuple[str, ...]
    warnings: tuple[str, ...]
    ownerless: int

    @property
    def hosts(self) -> set[str]:
        """Every host that told of a channel, a rank or a network."""
        return {c.process[0] for c in self.channels} | {r.process[0] for r in self.ranks} | set(self.networks)

    def ranks_by_host(self, ranks: int) -> dict[str, set[int]]:
        """Ranks of the communicators over so many ranks, by host."""
        found: dict[str, set[int]] = {}
        for one in self.ranks:
            if one.ranks == ranks:
                found.setdefault(one.process[0], set()).add(one.rank)
        return found


def parse_nccl_log(text: str, hosts: Collection[str] = ()) -> NcclLog:
    """A log, of one process or of all together. Raises ParseError where it holds no line of NCCL or gloo.

    `hosts` are the names that are expected; with them, a line that begins in the middle of another one is taken apart
    at the right place. A host that is not among them is kept under the name that it gave.
    """
    begins = list(_BEGIN.finditer(text))
    if not begins:
        raise ParseError(f"no line of NCCL's debug log: {text.strip()[-100:]!r}" if text.strip() else
                         "NCCL's debug log is empty")
    reader = _Reader()
    for at, begin in enumerate(begins):
        following = begins[at + 1] if at + 1 < len(begins) else None
        line, ended, _ = text[begin.end():following.start() if following else len(text)].partition("\n")
        if following and not ended:
            line += following[1].removesuffix(_known(following[1], hosts))
        reader.take((_known(begin[1], hosts), int(begin[2]), int(begin[3])), begin[4], begin[5], line.strip())
    versions = sorted({match[1] for match in _VERSION.finditer(text)})
    return reader.log(begins[0][4].lower(), tuple(versions), len(_ANY_NETWORK.findall(text)))


def _known(name: str, hosts: Collection[str]) -> str:
    """The expected host that a name is, or ends with: what stands before belongs to the line that was broken into."""
    return name if name in hosts else max((host for host in hosts if name.endswith(host)), key=len, default=name)


class _Reader:
    """Takes a log line by line."""

    def __init__(self) -> None:
        self.networks: dict[str, set[str]] = {}
        self.ports: dict[str, set[str]] = {}
        self.channels: list[Channel] = []
        self.ranks: list[RankOnHost] = []
        self.connected: set[Process] = set()
        self.cut: list[str] = []
        self.warnings: list[str] = []

    def take(self, process: Process, backend: str, level: str, told: str) -> None:
        """What one line tells; most lines tell nothing that matters here."""
        host = process[0]
        if level == "WARN":
            self.warnings.append(f"{host}: {told[:160]}")
        if told.startswith(("Channel", "Ring")) or (told and "Channel".startswith(told)):
            if not _ORDER.fullmatch(told):
                self._channel(process, told)
        elif (match := _COMM.fullmatch(told)) or (backend == "GLOO" and (match := _GLOO.fullmatch(told))):
            self.ranks.append(RankOnHost(int(match[1]), int(match[2]), process))
            if backend == "GLOO":
                self.networks.setdefault(host, set()).add(match[3])
                self.ports.setdefault(host, set()).add(match[4])
                self.connected.add(process)
        elif match := _USING.match(told):
            self.networks.setdefault(host, set()).add(match[1] or match[2])
        elif match := _PORTS.match(told):
            self.ports.setdefault(host, set()).update(f"{match[1]} {port}" for port in _PORT.findall(match[2]))
        elif told.startswith(_CONNECTED):
            self.connected.add(process)

    def _channel(self, process: Process, told: str) -> None:
        match = _CHANNEL.fullmatch(told)
        network = _NETWORK.fullmatch(match[4]) if match else None
        if not match or not (network or _INSIDE.fullmatch(match[4])):
            self.cut.append(f"{process[0]}: {told[:120]}")
            return
        self.channels.append(Channel(process, int(match[1]), int(match[2]), match[3] or "", match[4],
                                     network[1] if network else "", bool(network and network[2])))

    def log(self, backend: str, versions: tuple[str, ...], over_network: int) -> NcclLog:
        """All of it; `over_network` is how often the text names a channel over a network, readable or not."""
        owned = sum(bool(channel.network) for channel in self.channels)
        return NcclLog(
            backend, versions, {host: frozenset(names) for host, names in self.networks.items()},
            {host: frozenset(names) for host, names in self.ports.items()}, tuple(self.channels), tuple(self.ranks),
            frozenset(self.connected), tuple(self.cut), tuple(self.warnings), max(0, over_network - owned))
