"""Security checks: green when hardened, red by configuration and by behaviour, blocked when nothing was proven."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acceptance.collectors.firewall import judged_ports, peer_of
from acceptance.collectors.on_node import with_argument
from acceptance.collectors.ssh_password import Attempt, attempts, ssh_command
from acceptance.errors import ParseError
from acceptance.evidence import Evidence, Record
from acceptance.facts import Cluster
from acceptance.findings import Findings, Verdict
from acceptance.parse.ssh_login import parse_login
from acceptance.transport.shell import Outcome
from selftests.synthetic import SITE, Break, Broken, broken, judge_check, reds, subjects

NODE, PEER = "gpu-node-03", "gpu-node-04"
ANSWERED = Outcome("exited", 0, "", "", 0.1)
DENIED = replace(ANSWERED, exit_code=255, stderr="admin@10.100.0.103: Permission denied (publickey).\n")


def record(number: int, collector: str, outcome: Outcome, document: Any) -> Record:
    return Record(f"e{number:04}", "2026-01-01T00:00:00Z", collector, NODE, None, outcome, document)


def judge(check: str, cluster: Cluster, records: list[Record] | None = None, node: str = NODE) -> Findings:
    return judge_check(check, cluster, node, Evidence(tuple(records or [])))


def logins(**outcomes: Outcome) -> list[Record]:
    """What was answered to each attempt: refused unless given as user_method."""
    return [
        record(n, "ssh-password", outcomes.get(f"{a.user}_{a.method}", DENIED), {"user": a.user, "method": a.method})
        for n, a in enumerate(attempts("admin"))
    ]


Change = Callable[[dict[str, Any]], Any]


def probed(change: Change = lambda _: None) -> list[Record]:
    """A healthy probe of one host; `change` gets its answers by step: listen, operator, peer, stop_listening."""
    ports = judged_ports(SITE.contract, SITE.host(NODE).groups)
    closed = SITE.contract.security.firewall.probe_closed_port
    ends = {str(p): "timed out" if p == closed else "connected" for p in ports}
    steps: dict[str, Any] = {
        "listen": {"ports": {str(p): {"up": True, "ours": p != 22, "error": None} for p in ports}},
        "operator": {"origin": "10.100.0.10", "ends": dict(ends)},
        "peer": {"origin": "10.100.0.104", "ends": dict(ends)},
        "stop_listening": {"stopped": 1},
    }
    change(steps)
    names = {"operator": ("connect", "operator"), "peer": ("connect", PEER)}
    return [
        record(n, "firewall-probe", ANSWERED, {"step": names.get(key, (key, None))[0],
                                               "origin": names.get(key, (key, None))[1], "answer": answer})
        for n, (key, answer) in enumerate(steps.items())
    ]


def set_in(section: str, **values: Any) -> Break:
    return lambda s: s[section].update(values)


def rule(**values: Any) -> dict[str, Any]:
    return {"port": "80", "protocol": "tcp", "source": "10.100.0.0/24", "action": "allow", "direction": "in",
            "interface": None, "destination": "any", "v6": False, "remark": ""} | values


@pytest.mark.parametrize("node", [NODE, "k8s-cp-01"])
@pytest.mark.parametrize("check", ["accounts", "firewall"])
def test_a_hardened_host_is_green(check: str, node: str) -> None:
    findings = judge(check, Broken().cluster(), node=node)
    assert findings.verdict() is Verdict.PASS, [f.sentence() for f in reds(findings)]


@pytest.mark.parametrize(("check", "records"), [("sshd", logins()), ("firewall-behaviour", probed())])
def test_a_host_that_behaves_is_green(check: str, records: list[Record]) -> None:
    findings = judge(check, Broken().cluster(), records)
    assert findings.verdict() is Verdict.PASS, [f.sentence() for f in reds(findings)]


@pytest.mark.parametrize("check", ["accounts", "firewall", "sshd", "firewall-behaviour"])
def test_a_silent_host_is_blocked(check: str) -> None:
    assert judge(check, Broken(down=(NODE,)).cluster()).verdict() is Verdict.BLOCKED


def add_user(name: str, uid: int, login: bool) -> Break:
    user = {"name": name, "uid": uid, "shell": "/bin/bash", "login": login, "password_locked": False}
    return lambda s: s["accounts"]["users"].append(user)


DEFECTS: list[tuple[str, Break, str]] = [
    ("accounts", add_user("toor", 0, False), "users with uid 0: measured root, toor"),
    ("accounts", add_user("guest", 1500, True), "extra: guest"),
    ("accounts", lambda s: s["accounts"]["sudoers"].append("guest"), "sudo rights: measured admin, guest, root"),
    ("accounts", lambda s: s["accounts"]["sudoers"].append("%wheel"), "extra: %wheel"),
    ("accounts", lambda s: s["accounts"]["users"].pop(1), "missing: admin"),
    ("firewall", set_in("firewall", active=False, rules=[]), "firewall on"),
    ("firewall", set_in("firewall", default_incoming="allow"), "default, incoming: measured allow"),
    ("firewall", set_in("firewall", default_routed="deny"), "default, routed"),
    ("firewall", set_in("firewall", default_incoming_v6="allow"), "default, incoming (IPv6): measured allow"),
    ("firewall", set_in("firewall", at_boot=False), "firewall on after a reboot"),
    ("firewall", lambda s: s["firewall"]["rules"].append(rule(port="any", protocol="any", source="any",
                                                              remark="ahead of ufw's rules, in INPUT")),
     "extra: allow in any/any from any [ahead of ufw's rules, in INPUT]"),
    ("firewall", lambda s: s["firewall"]["rules"][0].update(remark="-m limit --limit 1/min"),
     "missing: allow in 22/tcp"),
    ("firewall", lambda s: s["firewall"]["rules"].append(rule()), "extra: allow in 80/tcp from 10.100.0.0/24"),
    ("firewall", lambda s: s["firewall"]["rules"].append(rule(port="22", source="any")), "extra: allow in 22/tcp"),
    ("firewall", lambda s: s["firewall"]["rules"].append(rule(port="22", source="any", v6=True)), "from any (IPv6)"),
    ("firewall", lambda s: s["firewall"]["rules"].pop(1), "missing: allow in 10250/tcp from 10.100.0.0/24"),
    ("firewall", lambda s: s["firewall"]["rules"][0].update(action="deny"), "missing: allow in 22/tcp"),
    ("firewall", lambda s: s["firewall"]["rules"][0].update(direction="out"), "missing: allow in 22/tcp"),
]


@pytest.mark.parametrize(("check", "change", "text"), DEFECTS)
def test_each_defect_is_red(check: str, change: Break, text: str) -> None:
    findings = judge(check, broken(NODE, change))
    assert findings.verdict() is Verdict.FAIL
    assert subjects(reds(findings)) == {NODE}
    assert any(text in f.sentence() for f in reds(findings)), [f.sentence() for f in reds(findings)]


def test_a_host_that_lists_no_account_is_not_safe() -> None:
    assert judge("accounts", broken(NODE, set_in("accounts", users=[]))).verdict() is Verdict.BLOCKED


@pytest.mark.parametrize(
    ("option", "value"),
    [("passwordauthentication", "yes"), ("kbdinteractiveauthentication", "yes"), ("permitrootlogin", "yes")])
def test_sshds_own_word_is_judged(option: str, value: str) -> None:
    cluster = broken(NODE, lambda s: s["sshd"]["options"].update({option: value}))
    assert [f.measured for f in reds(judge("sshd", cluster, logins()))] == [value]


LOGINS = [
    ("admin_password", replace(DENIED, stderr="a@b: Permission denied (publickey,password).\n"), Verdict.FAIL,
     "offered: password"),
    ("root_password", replace(DENIED, stderr="a@b: Permission denied (publickey,keyboard-interactive).\n"),
     Verdict.FAIL, "offered: keyboard-interactive"),
    ("admin_password", ANSWERED, Verdict.FAIL, "let in"),
    ("root_key", ANSWERED, Verdict.FAIL, "let in"),
    ("root_key", replace(DENIED, stderr="Connection closed by 10.100.0.103 port 22\n"), Verdict.BLOCKED, "closed by"),
    ("admin_password", Outcome("timed-out", None, "", "", 14.0, "no end within 14 s"), Verdict.BLOCKED, "within 14 s"),
]


@pytest.mark.parametrize(("key", "outcome", "verdict", "text"), LOGINS)
def test_sshd_is_judged_by_behaviour_too(key: str, outcome: Outcome, verdict: Verdict, text: str) -> None:
    findings = judge("sshd", Broken().cluster(), logins(**{key: outcome}))
    assert findings.verdict() is verdict
    (red,) = reds(findings)
    assert text in red.sentence()
    assert red.evidence


def test_logins_that_were_not_tried_are_blocked() -> None:
    findings = judge("sshd", Broken().cluster(), [])
    assert [f.reason for f in reds(findings)] == ["was not tried: the host did not answer before"] * 3


@pytest.mark.parametrize("stderr", ["", "Permission denied", "ssh: connect to host a port 22: No route to host\n",
                                    "Zugriff verweigert (publickey)."])
def test_an_answer_that_is_no_refusal_is_not_taken_for_one(stderr: str) -> None:
    with pytest.raises(ParseError):
        parse_login(255, stderr)


def test_a_command_that_ran_and_failed_is_no_refusal() -> None:
    with pytest.raises(ParseError):
        parse_login(1, DENIED.stderr)


def test_no_password_and_no_agent_goes_into_an_attempt() -> None:
    password, key = (ssh_command(SITE.contract.ssh, "10.100.0.103", Attempt("root", method), Path("/a"))
                     for method in ("password", "key"))
    assert "PubkeyAuthentication=no" in password
    assert not [word for word in password if word.startswith("IdentityFile")]
    assert "BatchMode=yes" in key
    assert all("ControlPath=none" in command and command[-2] == "root@10.100.0.103" for command in (password, key))


PROBES: list[tuple[Change, Verdict, str]] = [
    (lambda s: s["operator"]["ends"].update({"47808": "connected"}), Verdict.FAIL,
     "TCP port 47808 from the operator's host: measured connected, required one of timed out, refused"),
    (lambda s: s["peer"]["ends"].update({"47808": "connected"}), Verdict.FAIL, "TCP port 47808 from gpu-node-04"),
    (lambda s: s["operator"]["ends"].update({"10250": "timed out"}), Verdict.FAIL,
     "measured timed out, required = connected"),
    (lambda s: s["operator"]["ends"].pop("10250"), Verdict.BLOCKED, "TCP port 10250"),
    (lambda s: s["listen"]["ports"]["47808"].update(up=False, error="Permission denied"), Verdict.BLOCKED,
     "Permission denied"),
    (lambda s: s["listen"]["ports"]["47808"].update(ours=False), Verdict.BLOCKED, "another program listened there"),
    (lambda s: s["stop_listening"].update(stopped=0), Verdict.BLOCKED, "had ended before"),
    (lambda s: s.pop("peer"), Verdict.BLOCKED, "from operator only"),
    (lambda s: s.pop("listen"), Verdict.BLOCKED, "is not recorded"),
    (lambda s: s.update(operator=None), Verdict.BLOCKED, "step connect on operator gave no answer"),
    (lambda s: s["peer"].update(ends={p: "timed out" for p in s["peer"]["ends"]}), Verdict.FAIL, "= connected"),
    (lambda s: s["operator"].update(origin="192.168.7.2"), Verdict.FAIL,
     "TCP port 22 from the operator's host: measured connected"),
]


@pytest.mark.parametrize(("change", "verdict", "text"), PROBES)
def test_the_firewall_is_judged_by_behaviour_too(change: Change, verdict: Verdict, text: str) -> None:
    findings = judge("firewall-behaviour", Broken().cluster(), probed(change))
    assert findings.verdict() is verdict
    assert subjects(reds(findings)) == {NODE}
    assert any(text in f.sentence() for f in reds(findings)), [f.sentence() for f in reds(findings)]


def test_a_port_is_not_called_closed_where_nothing_answers() -> None:
    findings = judge("firewall-behaviour", Broken().cluster(),
                     probed(lambda s: s["peer"].update(ends={p: "timed out" for p in s["peer"]["ends"]})))
    assert [f.verdict for f in reds(findings) if "47808" in f.quantity] == [Verdict.BLOCKED]


def test_each_host_is_tried_from_the_next_one_that_answers() -> None:
    assert peer_of("b", ["a", "b", "d"]) == "d"
    assert peer_of("d", ["a", "b", "d"]) == "a"
    assert peer_of("c", ["a", "b"]) == "a"
    assert peer_of("a", ["a"]) is None


def run_program(name: str, argument: Any) -> Any:
    done = subprocess.run([sys.executable, "-"], input=with_argument(name, argument), capture_output=True, timeout=20,
                          check=True)
    return json.loads(done.stdout)


def test_listening_connecting_and_stopping_work_together(tmp_path: Path) -> None:
    ours, nobody, address = 47811, 47812, "127.0.0.1"
    mark = f"gca-{tmp_path.stat().st_ino % 10**8}"
    listening = run_program("listen", {"address": address, "ports": [ours], "life_s": 20, "mark": mark})
    assert listening == {"ports": {str(ours): {"up": True, "ours": True, "error": None}}}
    taken = {"address": address, "ports": [ours, nobody], "timeout_s": 2}
    seen = run_program("connect", taken)
    assert seen == {"origin": address, "ends": {str(ours): "connected", str(nobody): "refused"}}
    again = run_program("listen", {"address": address, "ports": [ours], "life_s": 0, "mark": mark + "x"})
    assert again["ports"][str(ours)]["ours"] is False
    assert run_program("stop_listening", {"mark": mark}) == {"stopped": 1}
    assert run_program("connect", taken)["ends"][str(ours)] == "refused"
    assert run_program("stop_listening", {"mark": mark}) == {"stopped": 0}
