"""Programs that run on a node, and the collectors that send them: what they start they stop, what fails is recorded."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from acceptance.checks import COLLECTORS
from acceptance.collect import Session
from acceptance.collectors import register
from acceptance.collectors.fabric import first_port
from acceptance.collectors.on_node import answer, command, program
from acceptance.errors import ContractError, ParseError
from acceptance.evidence import Evidence, Recorder
from acceptance.transport.local import LocalShell
from acceptance.transport.shell import Outcome
from selftests.synthetic import SITE
from selftests.synthetic_network import FABRIC, GPU_NODES, exited, unreachable

register()

LISTENER = "import socket,sys,time; s=socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


def on_this_host(argument: Any) -> Any:
    """Run the program as a node would."""
    return answer(LocalShell().run("here", command(argument), stdin=program("processes"), deadline_s=20))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def can_connect(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def listener(port: int) -> dict[str, Any]:
    return {"command": ["python3", "-c", LISTENER, str(port)], "port": port}


def test_commands_of_a_batch_run_together_and_batches_in_turn() -> None:
    first, second = on_this_host({"run": [[["sh", "-c", "echo a; exit 3"], ["no-such-program"]], [["echo", "b"]]],
                                  "deadline_s": 10})
    assert (first[0]["exit_code"], first[0]["stdout"]) == (3, "a\n")
    assert first[1]["exit_code"] == 127
    assert second[0]["stdout"] == "b\n"


def test_a_command_that_does_not_end_is_killed_and_says_so() -> None:
    [[result]] = on_this_host({"run": [[["sleep", "60"]]], "deadline_s": 0.2})
    assert result["exit_code"] is None


def test_servers_listen_before_the_answer_and_are_stopped() -> None:
    ports = [free_port(), free_port()]
    started = on_this_host({"start": [listener(port) for port in ports], "life_s": 30, "wait_s": 10})
    try:
        assert all(can_connect(port) for port in ports)
    finally:
        stopped = on_this_host({"stop": started["groups"]})
    assert stopped["stopped"] == started["groups"]
    assert not any(can_connect(port) for port in ports)


def test_a_server_that_cannot_start_takes_the_others_with_it() -> None:
    good, bad = free_port(), free_port()
    servers = [listener(good), {"command": ["sh", "-c", "echo broken >&2; exit 5"], "port": bad}]
    started = on_this_host({"start": servers, "life_s": 30, "wait_s": 10})
    assert started["groups"] == []
    assert "broken" in started["error"]
    assert not can_connect(good)


def test_a_port_in_use_is_no_server_of_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert "already in use" in on_this_host({"start": [listener(port)], "life_s": 5, "wait_s": 0.2})["error"]


def test_a_process_that_is_not_ours_is_never_stopped() -> None:
    assert on_this_host({"stop": [os.getpid(), 2**22 + 1]})["stopped"] == []


def test_counters_of_a_real_interface() -> None:
    shell = LocalShell()
    words = command({"interface": "lo", "device": "none0"})
    outcome = shell.run("here", words, stdin=program("counters"), deadline_s=20)
    found = answer(outcome)
    assert found["interface"]["rx_errors"] == 0
    assert found["rdma"] is None


@pytest.mark.parametrize("outcome", [exited("not JSON"), exited("[]", "x", 1), unreachable()])
def test_a_program_without_an_answer_is_a_parse_error(outcome: Outcome) -> None:
    with pytest.raises(ParseError):
        answer(outcome)


@dataclass
class FakeShell:
    """Answers as the programs on the nodes would; `broken` replaces an answer by host and kind of work."""

    broken: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, host: str, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float,
            sudo: bool = False) -> Outcome:
        assert deadline_s > 0
        assert stdin
        assert not sudo
        wanted = json.loads(argv[-1])
        kind = next((name for name in ("run", "start", "stop") if name in wanted), "counters")
        with self.lock:
            self.asked.append((host, kind))
        if (host, kind) in self.broken:
            return self.broken[host, kind]
        return exited(json.dumps(self.answer(kind, wanted)))

    def answer(self, kind: str, wanted: Any) -> Any:
        if kind == "run":
            done = {"exit_code": 0, "stdout": "done", "stderr": "", "start_s": 0.0, "end_s": 1.0}
            return [[done for _ in batch] for batch in wanted["run"]]
        return {"start": {"groups": [7]}, "stop": {"stopped": [7]}}.get(kind, {"interface": {}, "rdma": {}})


def collect(name: str, shell: FakeShell, tmp_path: Path) -> Evidence:
    recorder = Recorder(tmp_path / "evidence.jsonl")
    session = Session(SITE, shell, shell, recorder, name, lambda *_: None, threading.Event())
    COLLECTORS[name].collect(session)
    recorder.close()
    return recorder.evidence()


@pytest.mark.parametrize("name", ["pair-bandwidth", "rdma-bandwidth"])
def test_every_flow_is_measured_once(name: str, tmp_path: Path) -> None:
    shell = FakeShell()
    evidence = collect(name, shell, tmp_path)
    loads = [record.subject for record in evidence.all if "→" in record.subject]
    assert len(loads) == len(set(loads)) == 56
    kinds = [kind for _, kind in shell.asked]
    assert kinds.count("start") == kinds.count("run") == (28 if name == "pair-bandwidth" else 56)
    assert kinds.count("stop") == 0  # each server served one client, and has ended by itself


def test_counters_are_read_around_the_load(tmp_path: Path) -> None:
    shell = FakeShell()
    evidence = collect("pair-bandwidth", shell, tmp_path)
    for node in GPU_NODES:
        assert [r.document["phase"] for r in evidence.of("pair-bandwidth", node)] == ["before", "after"]
    kinds = [kind for _, kind in shell.asked]
    assert kinds[:8] == kinds[-8:] == ["counters"] * 8


def test_a_host_that_dies_is_named_in_all_its_flows_and_no_other(tmp_path: Path) -> None:
    dead = GPU_NODES[2]
    shell = FakeShell({(dead, kind): unreachable() for kind in ("run", "start", "stop", "counters")})
    evidence = collect("pair-bandwidth", shell, tmp_path)
    failed = {r.subject: r.document["failed"] for r in evidence.all if r.document and "failed" in r.document}
    assert set(failed.values()) == {dead}
    assert set(failed) == {r.subject for r in evidence.all if dead in r.subject.split("→") and "→" in r.subject}


def test_servers_are_stopped_when_the_client_dies(tmp_path: Path) -> None:
    shell = FakeShell({(node, "run"): unreachable() for node in GPU_NODES})
    collect("pair-bandwidth", shell, tmp_path)
    kinds = [kind for _, kind in shell.asked]
    assert kinds.count("start") == kinds.count("stop") == 28


def test_full_size_packets_go_from_each_node_to_all_others(tmp_path: Path) -> None:
    dead = GPU_NODES[2]
    shell = FakeShell({(dead, "run"): unreachable()})
    evidence = collect("jumbo-ping", shell, tmp_path)
    assert len({record.subject for record in evidence.all}) == 56
    assert len(shell.asked) == 8
    for record in evidence.all:
        assert record.outcome is not None
        assert record.command is not None
        assert {"-M", "do", "8972"} <= set(record.command)
        assert record.outcome.ok is (not record.subject.startswith(dead))


@pytest.mark.parametrize(("port", "count", "good"), [(5201, 32, True), (5201, 33, False), (6443, 1, False)])
def test_ports_must_be_open_by_contract(port: int, count: int, good: bool) -> None:
    if good:
        assert first_port(SITE.contract, port, count) == port
    else:
        with pytest.raises(ContractError, match="opens tcp"):
            first_port(SITE.contract, port, count)


def test_the_contract_opens_enough_ports() -> None:
    assert first_port(SITE.contract, 5201, 2 * FABRIC.bandwidth_processes) == 5201


