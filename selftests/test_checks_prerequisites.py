"""The checks of phase 1: green when all is ready, red with the right subject otherwise, blocked without evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from acceptance.evidence import Evidence
from acceptance.findings import Findings, Verdict
from acceptance.site.inventory import Host
from acceptance.site.load import Site
from acceptance.transport.shell import Outcome
from selftests.synthetic import SITE, Break, Broken, judge_check, reds, subjects
from selftests.synthetic_network import Entry, evidence, exited, network_sections, ping_text, unreachable

NODE = "gpu-node-03"
NAMES = [host.name for host in SITE.hosts]


def judge(check: str, proof: Evidence | None = None, site: Site = SITE, change: Break | None = None) -> Findings:
    breaks = {h.name: [network_sections(h), *([change] if change and h.name == NODE else [])] for h in SITE.hosts}
    cluster = Broken(breaks=dict(breaks)).cluster()
    return judge_check(check, cluster, NODE, proof, site)


# tools


def tools(**changes: Outcome | None) -> Evidence:
    kubectl = json.dumps({"clientVersion": {"gitVersion": "v1.34.4"}})
    outcomes = {"kubectl": exited(kubectl), "helm": exited("v3.22.0"), "ansible-core": exited("ansible [core 2.19.14]")}
    outcomes |= {name.replace("_", "-"): outcome for name, outcome in changes.items()}  # type: ignore[misc]
    return evidence("tools", [{"subject": name, "command": [name], "outcome": o} for name, o in outcomes.items()])


def test_tools_new_enough() -> None:
    assert judge("tool-versions", tools()).verdict() is Verdict.PASS


@pytest.mark.parametrize(("changes", "subject", "says"), [
    ({"helm": exited("v3.9.4")}, "helm", "measured v3.9.4, required ≥ 3.12"),
    ({"ansible_core": exited(stderr="ansible: No such file or directory", code=127)}, "ansible-core", "No such file"),
    ({"kubectl": exited("Client Version: v1.34.4")}, "kubectl", "printed no clientVersion"),
    ({"helm": Outcome("timed-out", None, "", "", 20.0, "no end within 20 s")}, "helm", "no end within 20 s"),
])
def test_a_tool_old_absent_or_odd(changes: dict[str, Outcome], subject: str, says: str) -> None:
    findings = judge("tool-versions", tools(**changes))
    assert findings.verdict() is Verdict.FAIL
    assert subjects(reds(findings)) == {subject}
    assert says in reds(findings)[0].sentence()


def test_a_tool_that_nobody_knows_how_to_ask_is_blocked() -> None:
    assert judge("tool-versions", tools(helm=None)).verdict() is Verdict.BLOCKED
    assert judge("tool-versions", evidence("tools", [])).verdict() is Verdict.BLOCKED


# inventory and addresses


def other_hosts(*hosts: Host) -> Site:
    return replace(SITE, hosts=hosts)


def ranges(**changes: str) -> Site:
    contract = SITE.contract.model_dump(by_alias=True, mode="json")
    contract["network"] |= changes
    return replace(SITE, contract=type(SITE.contract).model_validate(contract))


def test_inventory_and_addresses_as_contracted() -> None:
    assert judge("inventory").verdict() is Verdict.PASS
    assert judge("address-plan").verdict() is Verdict.PASS


def with_address(address: str) -> Site:
    return other_hosts(*(replace(h, address=address) if h.name == NODE else h for h in SITE.hosts))


@pytest.mark.parametrize(("site", "says"), [
    (other_hosts(*SITE.hosts[1:]), "hosts in gpu_nodes: measured 7, required = 8"),
    (other_hosts(), "measured 0"),
    (with_address("10.100.0.101"), "hosts at 10.100.0.101: measured gpu-node-01, gpu-node-03, required = gpu-node-03"),
    (with_address("10.99.0.5"), "address 10.99.0.5 in node range"),
    (with_address("10.100.0.255"), "address 10.100.0.255 in node range"),
    (other_hosts(*SITE.hosts, Host("stray", "10.100.0.7", ("others",))), "in none of the contracted groups"),
    (other_hosts(*SITE.hosts, replace(SITE.hosts[0], address="10.100.0.9")), "names used twice"),
])
def test_inventory_that_differs(site: Site, says: str) -> None:
    findings = judge("inventory", site=site)
    assert findings.verdict() is Verdict.FAIL
    assert any(says in finding.sentence() for finding in reds(findings)), [f.sentence() for f in reds(findings)]


def test_kubeadms_default_service_range_contains_the_nodes() -> None:
    findings = judge("address-plan", site=ranges(service_range="10.96.0.0/12"))
    assert findings.verdict() is Verdict.FAIL
    assert "node range 10.100.0.0/24 and service range 10.96.0.0/12 overlap" in reds(findings)[0].sentence()
    assert subjects(reds(findings)[1:]) == set(NAMES)
    assert judge("address-plan", site=ranges(pod_range="10.96.128.0/24")).verdict() is Verdict.FAIL


# reachability


def pings(outcome: Outcome) -> Evidence:
    return evidence("ping", [{"subject": name, "outcome": exited(ping_text(10, 10))} for name in NAMES if name != NODE]
                    + [{"subject": NODE, "outcome": outcome}])


@pytest.mark.parametrize(("outcome", "verdict"), [
    (exited(ping_text(10, 10)), Verdict.PASS), (exited(ping_text(10, 8)), Verdict.FAIL),
    (exited(ping_text(10, 0), code=1), Verdict.FAIL), (exited(ping_text(3, 3)), Verdict.FAIL),
    (exited("", "ping: connect: Network is unreachable", 2), Verdict.BLOCKED),
    (Outcome("timed-out", None, ping_text(10, 10), "", 12.0, "no end within 12 s"), Verdict.BLOCKED),
    (exited("10 packets transmitted, 10 received, +2 duplicates, 0% packet loss, time 9ms\n"), Verdict.FAIL),
])
def test_reachability(outcome: Outcome, verdict: Verdict) -> None:
    assert judge("reachability", pings(outcome)).verdict() is verdict


# ssh access

KEY: list[Entry] = [{"subject": "operator", "document": {"path": "/k", "mode": "0600", "file": True}},
                    {"subject": "key", "outcome": exited("256 SHA256:abc operator@lab (ED25519)\n")}]
LOGIN = exited("user=admin\nsudo=0\n")


def access(login: Outcome = LOGIN, **key: Any) -> Evidence:
    file = {"subject": "operator", "document": {"path": "/k", "mode": "0600", "file": True} | key}
    return evidence("ssh-access", [file, KEY[1], {"subject": NODE, "outcome": login}])


def refused(text: str) -> Outcome:
    return exited(stderr=text, code=255)


def test_ssh_access_as_contracted() -> None:
    findings = judge("ssh-access", access())
    assert findings.verdict() is Verdict.PASS, [f.sentence() for f in reds(findings)]


@pytest.mark.parametrize(("proof", "says"), [
    (access(refused("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.")), "changed"),
    (access(refused("No ED25519 host key is known for 10.100.0.3 and you have requested strict checking.")), "pinned"),
    (access(refused("admin@10.100.0.103: Permission denied (publickey).")), "refuses the key"),
    (access(refused("ssh: connect to host 10.100.0.103 port 22: Connection refused")), "cannot be reached"),
    (access(exited("user=admin\nsudo=1\n", "sudo: a password is required")), "a password is required"),
    (access(exited("user=nobody\nsudo=0\n")), "measured nobody, required = admin"),
    (access(mode="0644"), "measured 0644, required = 0600"),
    (access(error="No such file or directory"), "No such file"),
    (evidence("ssh-access", [KEY[0], {"subject": "key", "outcome": exited("3072 SHA256:x me (RSA)\n")},
                             {"subject": NODE, "outcome": LOGIN}]), "measured RSA, required = ED25519"),
])
def test_ssh_access_that_differs(proof: Evidence, says: str) -> None:
    findings = judge("ssh-access", proof)
    assert findings.verdict() is Verdict.FAIL
    assert any(says in finding.sentence() for finding in reds(findings)), [f.sentence() for f in reds(findings)]


def test_ssh_access_without_an_answer_is_blocked() -> None:
    assert judge("ssh-access", access(Outcome("timed-out", None, "", "", 30.0, "no end"))).verdict() is Verdict.BLOCKED
    assert judge("ssh-access", access(exited("user=admin\n", code=255))).verdict() is Verdict.BLOCKED
    assert judge("ssh-access", evidence("ssh-access", KEY)).verdict() is Verdict.BLOCKED


# names


def here(**changes: Outcome) -> Evidence:
    outcomes = {host.name: exited(f"{host.address} STREAM {host.name}\n{host.address} DGRAM\n") for host in SITE.hosts}
    outcomes |= {name.replace("_", "-"): outcome for name, outcome in changes.items()}
    return evidence("operator-names", [{"subject": name, "outcome": outcome} for name, outcome in outcomes.items()])


def test_names_resolve_everywhere() -> None:
    assert judge("host-names", here()).verdict() is Verdict.PASS


@pytest.mark.parametrize("addresses", [["10.100.0.99"], [], ["10.100.0.104", "10.100.0.99"], ["127.0.1.1"]])
def test_a_wrong_name_on_one_host_names_that_host(addresses: list[str]) -> None:
    findings = judge("host-names", here(), change=lambda s: s["resolve"]["names"].update({"gpu-node-04": addresses}))
    assert findings.verdict() is Verdict.FAIL
    assert subjects(reds(findings)) == {NODE}
    assert "gpu-node-04 is" in reds(findings)[0].sentence()


def test_names_on_the_operators_host() -> None:
    found = judge("host-names", here(gpu_node_04=exited(code=2)))
    assert subjects(reds(found)) == {"operator"}
    assert all(len(f.evidence) == len(SITE.hosts) for f in found.found if f.subject == "operator")
    lost = Outcome("timed-out", None, "", "", 10.0, "no end")
    assert judge("host-names", here(gpu_node_04=lost)).verdict() is Verdict.BLOCKED
    assert judge("host-names", here(), change=lambda s: s["resolve"]["names"].pop(NODE)).verdict() is Verdict.BLOCKED


# clock


def clocks(*readings: tuple[float, float, str]) -> Evidence:
    return evidence("clock", [{"subject": NODE, "outcome": exited(there),
                               "document": {"before_s": before, "after_s": after}}
                              for before, after, there in readings])


@pytest.mark.parametrize(("readings", "verdict"), [
    ([(100.0, 100.1, "100.06\n")], Verdict.PASS),
    ([(100.0, 100.1, "105.05\n")], Verdict.FAIL),
    ([(100.0, 100.1, "95.05\n")], Verdict.FAIL),
    ([(100.0, 103.0, "101.5\n")], Verdict.BLOCKED),
    ([(100.0, 103.0, "102.9\n")], Verdict.BLOCKED),
    ([(100.0, 103.0, "120.0\n")], Verdict.FAIL),
    ([(100.0, 103.0, "101.5\n"), (104.0, 104.1, "104.05\n")], Verdict.PASS),
    ([(100.0, 99.0, "99.5\n")], Verdict.BLOCKED),
    ([(100.0, 100.1, "Thu Jan 1\n")], Verdict.BLOCKED),
    ([], Verdict.BLOCKED),
])
def test_clock(readings: list[tuple[float, float, str]], verdict: Verdict) -> None:
    assert judge("clock", clocks(*readings)).verdict() is verdict


def test_clock_of_a_host_that_is_down() -> None:
    proof = evidence("clock", [{"subject": NODE, "outcome": unreachable(), "document": {}}])
    assert "no route to host" in reds(judge("clock", proof))[0].reason


# directory

GOOD_STEPS: dict[str, Entry] = {
    "connect": {"ok": True, "detail": "connected"}, "tls": {"ok": True, "detail": "TLSv1.3", "not_after": "x"},
    "bind": {"ok": True, "detail": "success", "code": 0},
    "group": {"ok": True, "detail": "success", "members": 3},
    "wrong-password": {"ok": False, "detail": "invalidCredentials", "code": 49},
    "anonymous": {"ok": False, "bound": False, "entries": 0, "detail": "bind: inappropriateAuthentication"},
}


def directory(drop: tuple[str, ...] = (), **changes: Entry) -> Evidence:
    steps = {step: dict(document) for step, document in GOOD_STEPS.items() if step not in drop}
    for step, change in changes.items():
        steps[step.replace("_", "-")].update(change)
    return evidence("ldap", [{"subject": step, "document": document} for step, document in steps.items()])


def test_directory_as_contracted() -> None:
    assert judge("ldap", directory()).verdict() is Verdict.PASS


REST = ("bind", "group", "wrong-password", "anonymous")


@pytest.mark.parametrize(("proof", "says"), [
    (directory(drop=("tls", *REST), connect={"ok": False, "detail": "Connection refused"}), "Connection refused"),
    (directory(drop=REST, tls={"ok": False, "detail": "certificate has expired"}), "certificate has expired"),
    (directory(bind={"ok": False, "detail": "invalidCredentials", "code": 49}), "service account can bind"),
    (directory(group={"ok": False, "detail": "noSuchObject", "members": 0}), "noSuchObject"),
    (directory(group={"members": 0}), "members of the group: measured 0"),
    (directory(wrong_password={"ok": True, "detail": "success", "code": 0}), "accepted: measured True"),
    (directory(wrong_password={"code": 53}), "refusal of a wrong password"),
    (directory(anonymous={"ok": True, "bound": True, "entries": 1}), "a stranger can read"),
])
def test_directory_that_differs(proof: Evidence, says: str) -> None:
    findings = judge("ldap", proof)
    assert findings.verdict() is Verdict.FAIL
    assert any(says in finding.sentence() for finding in reds(findings)), [f.sentence() for f in reds(findings)]


@pytest.mark.parametrize("proof", [
    evidence("ldap", []),
    directory(drop=("anonymous",)),
    directory(bind={"ok": None, "detail": "no password"}, group={"ok": None, "detail": "no password"}),
    directory(group={"ok": None, "detail": "could not bind"}),
    directory(wrong_password={"ok": False, "detail": "LDAPSocketReceiveError: timed out", "code": None}),
    directory(anonymous={"entries": None, "detail": "LDAPSocketReceiveError: timed out"}),
])
def test_directory_that_could_not_be_tried_is_blocked(proof: Evidence) -> None:
    assert judge("ldap", proof).verdict() is Verdict.BLOCKED
