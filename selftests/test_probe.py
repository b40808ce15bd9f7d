"""The probe as it is sent: self-contained, one section's trouble is its own, and nothing is guessed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from acceptance.collect import run_collectors
from acceptance.errors import Unmeasured
from acceptance.evidence import Recorder
from acceptance.facts import Cluster, NodeFacts
from acceptance.judge import build_cluster
from acceptance.probe import build, main
from acceptance.probe.collector import COMMAND
from acceptance.probe.run import Context
from acceptance.probe.sections import SECTIONS
from acceptance.site.load import load_site
from acceptance.transport.shell import Outcome

SITE = load_site(Path(__file__).parents[1] / "site.yaml")

PARAMETERS = {"names": ["localhost"], "units": ["ssh"], "fabric_interface": "ens3f0np0", "sections": None}


def test_what_is_sent_is_python_3_8_and_needs_the_standard_library_alone() -> None:
    for name, (_, source) in build.modules().items():
        parsed = ast.parse(source, name, feature_version=(3, 8))
        if name != "pynvml":
            for found in ast.walk(parsed):
                names = [alias.name for alias in found.names] if isinstance(found, ast.Import) else []
                names += [found.module or ""] if isinstance(found, ast.ImportFrom) else []
                assert all(_known(imported) for imported in names), (name, names)


def _known(name: str) -> bool:
    inside = name in build.modules() or any(sent.startswith(f"{name}.") for sent in build.modules())
    return inside or name.partition(".")[0] in sys.stdlib_module_names


def test_the_program_answers_with_every_section_on_any_linux_machine(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-S", "-"], input=build.program(PARAMETERS), capture_output=True, timeout=60,
                          cwd=tmp_path, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True)
    document = json.loads(done.stdout)
    assert document["probe"] == 1
    assert set(document["sections"]) == set(SECTIONS)
    assert done.stderr == b""
    assert list(tmp_path.iterdir()) == []
    facts = NodeFacts("here", (), "", document, None, "e0001")
    assert facts.resolve["localhost"] == ["127.0.0.1"]
    assert facts.identity.uptime_s > 0
    assert facts.memory.total_mib > 0
    for name, entry in document["sections"].items():
        if entry["ok"]:
            getattr(facts, name)  # what this machine tells has the form of the facts
        else:
            assert entry["error"]


def test_a_host_is_not_asked_for_what_it_is_not_meant_to_have() -> None:
    document = main.collect(PARAMETERS | {"sections": ["os"]})
    assert document["sections"]["os"]["ok"]
    assert document["sections"]["nvml"] == {"ok": False, "error": "not asked of this host"}


def test_a_section_that_hangs_crashes_or_ends_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: Context) -> None:
        raise KeyError("nobody thought of this")

    def refuse(_: Context) -> None:
        raise Unmeasured("tool: command not found")

    monkeypatch.setattr(main, "SECTIONS", {
        "hangs": (lambda _: time.sleep(600), 0.2), "ends": (lambda _: os._exit(3), 5), "crashes": (crash, 5),
        "refuses": (refuse, 5), "nan": (lambda _: float("nan"), 5), "works": (lambda _: {"a": 1}, 5),
        "large": (lambda _: "x" * 1_000_000, 5),
    })
    answers = main.collect({})["sections"]
    errors = {name: answer.get("error", "") for name, answer in answers.items()}
    assert errors["hangs"] == "no answer within 0.2 s"
    assert errors["ends"] == "the section's process ended without an answer"
    assert errors["crashes"] == "unexpected: KeyError: 'nobody thought of this'"
    assert errors["refuses"] == "tool: command not found"
    assert errors["nan"].startswith("unexpected: ValueError")
    assert answers["works"]["data"] == {"a": 1}
    assert len(answers["large"]["data"]) == 1_000_000


def test_a_host_without_gpus_is_not_asked_about_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "TOGETHER", ())
    monkeypatch.setattr(main, "SECTIONS", {"nvml": (lambda _: {"gpus": []}, 5), "os": (lambda _: {"id": "debian"}, 5)})
    with_gpus, without = main.collect({"gpus": True})["sections"], main.collect({"gpus": False})["sections"]
    assert [with_gpus["nvml"]["ok"], with_gpus["os"]["ok"], without["os"]["ok"]] == [True, True, True]
    assert without["nvml"] == {"ok": False, "error": "not asked of this host"}


@pytest.mark.parametrize(("trouble", "error"), [
    (lambda _: time.sleep(600), "no answer within 0.2 s"),
    (lambda _: os._exit(3), "the section's process ended without an answer")])
def test_sections_that_share_a_process_fail_alone(
    monkeypatch: pytest.MonkeyPatch, trouble: Callable[[Context], object], error: str,
) -> None:
    monkeypatch.setattr(main, "TOGETHER", ("before", "trouble", "after", "more"))
    monkeypatch.setattr(main, "SECTIONS", {
        "alone": (lambda _: os.getpid(), 5), "before": (lambda _: os.getpid(), 5), "trouble": (trouble, 0.2),
        "after": (lambda _: os.getpid(), 5), "more": (lambda _: os.getpid(), 5)})
    answers = main.collect({})["sections"]
    assert answers.pop("trouble") == {"ok": False, "error": error}
    assert len({answer["data"] for answer in answers.values()}) == 4
    monkeypatch.setattr(main, "TOGETHER", ("before", "after", "more"))
    assert len({answer["data"] for answer in main.collect({"sections": ["before", "after"]})["sections"].values()
                if answer["ok"]}) == 1


def test_another_python_is_sent_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = subprocess.run([sys.executable, "-I", "-"], input=build.program({"sections": ["cpu"]}), capture_output=True,
                          timeout=60, cwd=tmp_path, check=True)
    _, _, sources = build._packed()
    monkeypatch.setattr(build, "_packed", lambda: ("00000000", "", sources))
    there = subprocess.run([sys.executable, "-I", "-"], input=build.program({"sections": ["cpu"]}),
                           capture_output=True, timeout=60, cwd=tmp_path, check=True)
    answers = [json.loads(done.stdout)["sections"]["cpu"] for done in (here, there)]
    assert answers[0].pop("seconds") is not None
    assert answers[1].pop("seconds") is not None
    assert answers[0] == answers[1]


def test_what_a_hanging_section_has_started_is_ended_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def start_and_wait(_: Context) -> None:
        child = subprocess.Popen(["sleep", "600"])
        note.write_text(str(child.pid))
        child.wait()

    monkeypatch.setattr(main, "SECTIONS", {"hangs": (start_and_wait, 1.0)})
    assert not main.collect({})["sections"]["hangs"]["ok"]
    pid = int(note.read_text())
    until = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_section_holds_no_file_of_the_session_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def files(_: Context) -> list[str]:
        return [os.readlink(f"/proc/self/fd/{n}") for n in range(3)]

    monkeypatch.setattr(main, "SECTIONS", {"files": (files, 5)})
    assert main.collect({})["sections"]["files"]["data"] == ["/dev/null"] * 3


def test_a_program_that_is_missing_fails_or_hangs_is_no_reading() -> None:
    real = Context({}, 5)
    assert real.run(["printf", "a"]) == "a"
    with pytest.raises(Unmeasured, match="nosuchtool: command not found"):
        real.run(["nosuchtool"])
    with pytest.raises(Unmeasured, match="ls: exit status 2: .*cannot access '/nosuch'"):
        real.run(["ls", "/nosuch"])
    with pytest.raises(Unmeasured, match=r"sleep: no answer within 0\.2 s"):
        real.run(["sleep", "600"], limit_s=0.2)
    with pytest.raises(Unmeasured, match=r"yes: no answer within 0\.2 s"):
        real.run(["yes"], limit_s=0.2)
    with pytest.raises(Unmeasured, match="sh: exit status -9: said nothing"):
        real.run(["sh", "-c", "kill -9 $$"])
    with pytest.raises(Unmeasured, match=r"sh: no answer within 0\.3 s"):
        real.run(["sh", "-c", "exec >&- 2>&-; exec sleep 600"], limit_s=0.3)


def test_programs_speak_english_and_get_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    real = Context({}, 5)
    assert "LC_ALL=C\n" in real.run(["env"])
    assert real.run(["cat"]) == ""


class FakeShell:
    """Answers every host with one outcome, and keeps what it was asked."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.asked: dict[str, tuple[list[str], bytes, bool]] = {}

    def run(self, host: str, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float,
            sudo: bool = False) -> Outcome:
        assert deadline_s == SITE.contract.ssh.command_timeout_s
        self.asked[host] = (list(argv), stdin, sudo)
        return self.outcome


def collected(outcome: Outcome, folder: Path) -> tuple[Cluster, FakeShell]:
    """The facts of a cluster where every host's call ended like this."""
    shell = FakeShell(outcome)
    recorder = Recorder(folder / "evidence.jsonl")
    run_collectors({"facts": ()}, SITE, shell, shell, recorder, lambda *_: None)
    recorder.close()
    return build_cluster(SITE, recorder.evidence()), shell


def test_collected_facts_are_asked_of_every_host_at_once_through_sudo(tmp_path: Path) -> None:
    answer = {"probe": 1, "sections": {"memory": {"ok": True, "data": {"total_mib": 7}}}}
    cluster, shell = collected(Outcome("exited", 0, json.dumps(answer), "", 0.5), tmp_path)
    assert set(shell.asked) == {host.name for host in SITE.hosts}
    assert all((argv, sudo) == (list(COMMAND), True) for argv, _, sudo in shell.asked.values())
    assert shell.asked["gpu-node-01"][1] != shell.asked["k8s-cp-01"][1]
    assert {node.memory.total_mib for node in cluster} == {7}
    assert all(node.evidence_id for node in cluster)


@pytest.mark.parametrize(("outcome", "reason"), [
    (Outcome("timed-out", None, "", "", 20.0, "no answer within 20 s"), "timed out: no answer within 20 s"),
    (Outcome("unreachable", None, "", "", 0.1, "No route to host"), "unreachable: No route to host"),
    (Outcome("exited", 1, "", "sudo: a password is required\n", 0.1), "exit status 1: sudo: a password is required"),
    (Outcome("exited", 0, "", "", 0.1), "not its document"),
    (Outcome("exited", 0, '{"probe": 1, "sect', "", 0.1), "not its document"),
    (Outcome("exited", 0, "[]", "", 0.1), "not its document: a JSON list"),
    (Outcome("exited", 0, "{}", "", 0.1), "no document of the probe"),
])
def test_collected_without_an_answer_the_reason_is_recorded(outcome: Outcome, reason: str, tmp_path: Path) -> None:
    cluster, _ = collected(outcome, tmp_path)
    for node in cluster:
        with pytest.raises(Unmeasured, match=reason):
            _ = node.memory
