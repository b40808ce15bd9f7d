"""A site's own `host` tests: one item a host, recorded, replayed, reported, and never green for want of an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from acceptance.errors import Unmeasured
from acceptance.evidence import Evidence, Recorder, read_evidence
from acceptance.model import ACCEPTED, PARTIAL, REFUSED, load_run
from acceptance.testinfra_backend import AcceptanceBackend, Trail
from acceptance.transport.recorded import LiveAnswers, RecordedAnswers
from acceptance.transport.shell import Outcome
from selftests.mini import Mini, Result

CONFTEST = '''
import acceptance.live
from acceptance.transport.local import LocalShell
from acceptance.transport.shell import Outcome

ANSWERS = {"test -e /etc/hostname": (0, "", ""), "uname -r": (0, "6.1.0-naïve\\n", ""), "test -e /nosuch": (1, "", ""),
           "sudo -n -- /bin/sh -c 'test -e /root/x'": (1, "", "sudo: a password is required\\n")}

class FakeShell:
    def __init__(self, settings, hosts):
        self.hosts = hosts

    def run(self, host, argv, *, stdin=b"", deadline_s, sudo=False):
        assert list(argv[:2]) == ["sh", "-c"] and not sudo and deadline_s == 60
        with open("asked.txt", "a") as file:
            file.write(f"{host} {argv[2]}\\n")
        if argv[2] == "test -e /far" and host == "gpu-node-02":
            return Outcome("unreachable", None, "", "", 0.1, "No route to host")
        if argv[2] == "counter":
            return Outcome("exited", 0, str(sum(1 for _ in open("asked.txt"))), "", 0.1)
        if argv[2] in ANSWERS:
            return Outcome("exited", *ANSWERS[argv[2]], 0.1)
        return LocalShell().run(host, argv, deadline_s=deadline_s)

    def close(self):
        pass

acceptance.live.SshShell = FakeShell
'''

HEALTHY = '''
import pytest

pytestmark = pytest.mark.phase3

@pytest.mark.security
def test_name(host):
    """Every host has a name on its disk"""
    assert host.file("/etc/hostname").exists

@pytest.mark.parametrize("path", ["/nosuch", "/gone"])
def test_absent(host, path):
    assert not host.file(path).exists

def test_kernel(host):
    command = host.run("uname -r")
    assert command.stdout == "6.1.0-naïve\\n" and command.stdout_bytes.decode() == command.stdout

def test_twice(host):
    assert int(host.check_output("counter")) < int(host.check_output("counter"))
'''

BAD = '''
import pytest

pytestmark = pytest.mark.phase3
testinfra_hosts = ["acceptance://gpu_nodes"]

def test_false(host):
    assert host.file("/nosuch").exists, "no such file there"

def test_output(host):
    assert host.run("uname -r").stdout == "another"

def test_breaks(host):
    host.run("uname -r").no_such_attribute

def test_skips(host):
    pytest.skip("not today")

@pytest.mark.xfail(reason="known")
def test_expected(host):
    assert host.file("/nosuch").exists

def test_far(host):
    assert not host.file("/far").exists

def test_swallows(host):
    try:
        host.run("test -e /far")
    except Exception:
        pass

def test_refused(host):
    with host.sudo():
        assert not host.file("/root/x").exists
'''


def site(path: Path, text: str, *more: str) -> Mini:
    """A small project with a folder of the site's own tests."""
    mini = Mini(path / "site")
    (mini.path / "conftest.py").write_text(CONFTEST)
    (mini.path / "tests_site").mkdir()
    for number, one in enumerate([text, *more]):
        (mini.path / "tests_site" / f"test_own{number}.py").write_text(one)
    return mini


def verdicts(result: Result) -> dict[str, dict[str, str]]:
    """Verdict by test and host."""
    found: dict[str, dict[str, str]] = {}
    for (check, subject), one in result.items.items():
        found.setdefault(check.partition("::")[2], {})[subject] = one["verdict"]
    return found


def asked(mini: Mini) -> list[str]:
    path = mini.path / "asked.txt"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    return site(tmp_path_factory.mktemp("own"), HEALTHY)


@pytest.fixture(scope="module")
def live(healthy: Mini) -> Result:
    return healthy.run("tests_site", "-m", "phase3")


@pytest.fixture(scope="module")
def bad_site(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    return site(tmp_path_factory.mktemp("bad"), BAD)


@pytest.fixture(scope="module")
def bad(bad_site: Mini) -> Result:
    return bad_site.run("tests_site", "-m", "site", "-rA")


def test_each_test_is_one_item_a_host_and_part_of_its_gate(live: Result) -> None:
    assert live.exit_code == 0, live.out
    every = {"gpu-node-01": "PASS", "gpu-node-02": "PASS", "k8s-cp-01": "PASS"}
    assert verdicts(live) == {name: every for name in (
        "test_name", "test_absent[/nosuch]", "test_absent[/gone]", "test_kernel", "test_twice")}
    report = load_run(live.path)
    assert [gate.decision for gate in report.gates] == [ACCEPTED]
    named = {item.node_id: item for item in report.items}["tests_site/test_own0.py::test_name[gpu-node-02]"]
    assert (named.check["area"], named.check["layer"], named.check["phase"]) == ("site", "security", 3)
    assert named.check["criterion"] == "Every host has a name on its disk"
    assert "Every host has a name on its disk" in (live.path / "report.html").read_text(encoding="utf-8")


def test_every_command_is_evidence_that_the_finding_names(healthy: Mini, live: Result) -> None:
    records = {record.id: record for record in read_evidence(live.path / "evidence.jsonl").all}
    assert sorted(f"{r.subject} {r.command[2]}" for r in records.values() if r.command) == sorted(asked(healthy))
    for (check, subject), one in live.items.items():
        used = [records[id] for id in one["findings"][0]["evidence"]]
        assert used, check
        assert {(r.collector, r.subject, r.document["item"]) for r in used} == {("testinfra", subject, one["item"])}


def test_a_recorded_run_gives_the_same_findings_without_asking_anybody(healthy: Mini, live: Result) -> None:
    before = asked(healthy)
    again = healthy.run("tests_site", "-m", "phase3", f"--evidence={live.path}")
    assert again.exit_code == 0, again.out
    assert (again.path / "findings.jsonl").read_bytes() == (live.path / "findings.jsonl").read_bytes()
    assert asked(healthy) == before


def test_what_was_red_is_red_again_to_the_byte(bad_site: Mini, bad: Result) -> None:
    again = bad_site.run("tests_site", "-m", "site", f"--evidence={bad.path}")
    assert again.exit_code == 1
    assert (again.path / "findings.jsonl").read_text("utf-8") == (bad.path / "findings.jsonl").read_text("utf-8")


def test_a_command_that_is_not_in_the_evidence_is_no_pass(tmp_path: Path, live: Result) -> None:
    changed = HEALTHY.replace('exists(path)', '').replace('"/gone"', '"/never"')
    mini = site(tmp_path, changed)
    again = mini.run("tests_site", "-m", "phase3", "-k", "absent", f"--evidence={live.path}")
    assert again.exit_code == 1
    assert asked(mini) == []
    found = verdicts(again)
    assert set(found["test_absent[/nosuch]"].values()) == {"PASS"}
    assert set(found["test_absent[/never]"].values()) == {"BLOCKED"}
    message = ("gpu-node-01: not in the evidence: 'test -e /never'; "
               "record it by a run on the cluster, without --evidence")
    assert message in again.out
    reason = again.items["tests_site/test_own0.py::test_absent[/never]", "gpu-node-01"]["findings"][0]["reason"]
    assert reason == message


def test_a_test_that_was_not_selected_keeps_the_gate_partial(healthy: Mini, live: Result) -> None:
    again = healthy.run("tests_site", "-m", "phase3", "-k", "kernel", f"--evidence={live.path}")
    (gate,) = load_run(again.path).gates
    assert gate.decision == PARTIAL
    assert ("tests_site/test_own0.py::test_name", "k8s-cp-01") in gate.missing
    assert again.exit_code == 0


@pytest.mark.parametrize(("name", "verdict", "reason"), [
    ("test_false", "FAIL", "no such file there"),
    ("test_output", "FAIL", "assert '6.1.0-naïve\\n' == 'another'"),
    ("test_breaks", "FAIL", "AttributeError"),
    ("test_skips", "BLOCKED", "skipped: not today"),
    ("test_expected", "FAIL", "as it was marked to"),
    ("test_refused", "BLOCKED", "sudo refused: sudo: a password is required"),
])
def test_what_went_wrong_has_its_verdict_on_every_host(bad: Result, name: str, verdict: str, reason: str) -> None:
    assert verdicts(bad)[name] == {"gpu-node-01": verdict, "gpu-node-02": verdict}
    assert reason in bad.items[f"tests_site/test_own0.py::{name}", "gpu-node-01"]["findings"][0]["reason"]


@pytest.mark.parametrize("name", ["test_far", "test_swallows"])
def test_a_host_that_cannot_be_asked_is_blocked_alone_even_if_the_test_does_not_mind(bad: Result, name: str) -> None:
    assert verdicts(bad)[name] == {"gpu-node-01": "PASS", "gpu-node-02": "BLOCKED"}
    assert f"FAILED tests_site/test_own0.py::{name}[gpu-node-02]" in bad.out
    assert "gpu-node-02: unreachable: No route to host: test -e /far" in bad.out


def test_red_tests_refuse_the_gate(bad: Result) -> None:
    assert bad.exit_code == 1
    assert [gate.decision for gate in load_run(bad.path).gates] == [REFUSED]
    broken = bad.items["tests_site/test_own0.py::test_breaks", "gpu-node-01"]
    assert broken["error"].startswith("the test itself failed: AttributeError")


def test_what_creates_load_is_left_out_on_request_and_not_run(tmp_path: Path) -> None:
    mini = site(tmp_path, HEALTHY.replace("@pytest.mark.security", "@pytest.mark.intrusive"))
    result = mini.run("tests_site", "-m", "phase3", "--read-only")
    assert result.exit_code == 1
    assert "test_name" not in verdicts(result)
    assert {i.verdict.value for i in load_run(result.path).items if i.id.endswith("test_name")} == {"NOT RUN"}


ONE = "import pytest\n{marks}\ndef test_one(host):\n    assert host.file('/etc/hostname').exists\n"


@pytest.mark.parametrize(("marks", "arguments", "told"), [
    ("@pytest.mark.phase2\n@pytest.mark.phase3", (), "expected one phase marker, found phase2, phase3"),
    ("testinfra_hosts = ['acceptance://all']", (), "expected one phase marker, found none"),
    ("testinfra_hosts = ['acceptance://gpu']\n@pytest.mark.phase2", (), "acceptance://gpu: no such host or group"),
    ("@pytest.mark.phase2", ("--hosts=acceptance://moon",), "one of gpu_nodes, k8s_control"),
    ("@pytest.mark.phase2", ("--site=nosuch.yaml",), "no contract at nosuch.yaml"),
    ("", ("tests_mini",), "takes `host` and bears no phase marker"),
])
def test_wrong_use_is_told_in_one_line(tmp_path: Path, marks: str, arguments: tuple[str, ...], told: str) -> None:
    result = site(tmp_path, ONE.format(marks=marks)).run("tests_site", *arguments)
    assert result.exit_code == 4
    (line,) = [line for line in result.err.splitlines() if line.startswith("ERROR: ")]
    assert told in line
    assert result.folder is None


@pytest.mark.parametrize(("marks", "arguments", "name"), [
    ("", (), "test_one[local]"),
    ("@pytest.mark.phase2", ("--hosts=local://",), "test_one[local]"),
    ("testinfra_hosts = ['local://']\n@pytest.mark.phase2", (), "test_one[local]"),
    ("@pytest.mark.phase2", ("--connection=local",), "test_one[local]"),
])
def test_testinfras_own_hosts_stay_as_they_are(
    tmp_path: Path, marks: str, arguments: tuple[str, ...], name: str,
) -> None:
    mini = site(tmp_path, ONE.format(marks=marks))
    result = mini.run("tests_site", "-v", *arguments)
    assert result.exit_code == 0, result.out
    assert f"::{name} PASSED" in result.out
    assert result.folder is None
    assert asked(mini) == []


def test_hosts_on_the_command_line_may_be_a_group_or_a_host(tmp_path: Path) -> None:
    result = site(tmp_path, ONE.format(marks="@pytest.mark.phase2")).run(
        "tests_site", "--hosts=acceptance://k8s_control,acceptance://gpu-node-02")
    assert result.exit_code == 0, result.out
    assert verdicts(result) == {"test_one": {"k8s-cp-01": "PASS", "gpu-node-02": "PASS"}}


class Scripted:
    """A shell with one prepared outcome a call."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)

    def run(self, host: str, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float,
            sudo: bool = False) -> Outcome:
        del host, argv, stdin, deadline_s, sudo
        return self.outcomes.pop(0)


def exited(text: str) -> Outcome:
    return Outcome("exited", 0, text, "", 0.1)


def recorded(path: Path, *asked: tuple[str, str, str]) -> Evidence:
    """Evidence of (test, command, answer), all of host h."""
    with closing(Recorder(path / "evidence.jsonl")) as recorder:
        live = LiveAnswers(Scripted(*(exited(answer) for _, _, answer in asked)), recorder, "testinfra", 5)
        for item, command, _ in asked:
            live.ask(item, "h", ["sh", "-c", command])
    return read_evidence(path / "evidence.jsonl")


def test_the_nth_question_has_the_nth_answer_and_no_more(tmp_path: Path) -> None:
    answers = RecordedAnswers(recorded(tmp_path, ("a", "date", "1"), ("a", "date", "2")), "testinfra")
    assert [answers.ask("a", "h", ["sh", "-c", "date"])[1].stdout for _ in range(2)] == ["1", "2"]
    with pytest.raises(Unmeasured, match="h: not in the evidence more than 2 times: 'date'"):
        answers.ask("a", "h", ["sh", "-c", "date"])


def test_what_another_test_asked_serves_a_shared_cache_but_not_another_host_or_collector(tmp_path: Path) -> None:
    evidence = recorded(tmp_path, ("a", "uname", "Linux"))
    answers = RecordedAnswers(evidence, "testinfra")
    assert answers.ask("b", "h", ["sh", "-c", "uname"])[1].stdout == "Linux"
    with pytest.raises(Unmeasured, match="^other: not in the evidence: 'uname'"):
        answers.ask("b", "other", ["sh", "-c", "uname"])
    with pytest.raises(Unmeasured, match="not in the evidence"):
        RecordedAnswers(evidence, "facts").ask("a", "h", ["sh", "-c", "uname"])


def test_outside_of_a_test_nobody_is_asked() -> None:
    with pytest.raises(Unmeasured, match="outside of a test"):
        AcceptanceBackend("h").run("true")


@pytest.mark.parametrize(("outcome", "told"), [
    (Outcome("timed-out", None, "", "", 60.0, "no end within 60 s"), "h: timed out: no end within 60 s: 'x y'"),
    (Outcome("unreachable", None, "", "", 0.1, "Connection refused"), "h: unreachable: Connection refused"),
])
def test_no_answer_is_told_and_kept(tmp_path: Path, outcome: Outcome, told: str) -> None:
    backend = AcceptanceBackend("h")
    with closing(Recorder(tmp_path / "evidence.jsonl")) as recorder:
        trail = Trail("a", LiveAnswers(Scripted(outcome), recorder, "testinfra", 60))
        backend.begin(trail)
        with pytest.raises(Unmeasured) as caught:
            backend.run("%s", "x y")
    assert told in str(caught.value)
    assert (trail.unmeasured, trail.evidence) == ([str(caught.value)], ["e0001"])
    assert json.loads((tmp_path / "evidence.jsonl").read_text())["outcome"]["status"] == outcome.status


def test_testinfras_modules_work_on_it(tmp_path: Path) -> None:
    backend = AcceptanceBackend("h")
    host = Host(backend)
    backend.set_host(host)
    said: Any = Scripted(exited(""), exited("content\n"))
    with closing(Recorder(tmp_path / "evidence.jsonl")) as recorder:
        backend.begin(Trail("a", LiveAnswers(said, recorder, "testinfra", 5)))
        assert host.run("test -e %s", "a b").command == b"test -e 'a b'"
        assert host.run("cat x").stdout == "content\n"
    with host.sudo("postgres"):
        assert backend.get_command("id") == "sudo -n -u postgres -- /bin/sh -c id"
