"""The probe's parsers: right on real output; on damaged output they raise, or tell no better story than before."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import ParseError
from acceptance.probe.parse import firewall, gpu, hardware, kernel, network, security, services
from selftests.probe_samples import PARSERS, UNHEALTHY, config_space, filter_v4, only_ssh_and, sample, units

parsers = pytest.mark.parametrize("name", PARSERS)
unhealthy = pytest.mark.parametrize("name", UNHEALTHY)


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """A text that was cut, garbled, or had lines dropped, doubled or moved."""
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(("cut", "head", "garble", "drop", "double", "swap")))
        at, to = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        body = text.splitlines(keepends=True)
        line = draw(st.integers(0, max(0, len(body) - 1)))
        if kind == "cut":
            text = text[:to]
        elif kind == "head":
            text = text[at:]
        elif kind == "garble":
            text = text[:at] + draw(st.text(max_size=8)) + text[min(to, at + 8):]
        elif kind == "swap":
            text = "".join(body[line:] + body[:line])
        else:
            text = "".join(body[:line] + body[line : line + 1] * (2 if kind == "double" else 0) + body[line + 1 :])
    return text


@parsers
def test_recorded_output_is_read(name: str) -> None:
    parse, text = PARSERS[name]
    assert json.loads(json.dumps(parse(text), allow_nan=False)) not in (None, [], {})


@parsers
@given(data=st.data())
def test_damage_raises_a_parse_error_or_gives_plain_data(name: str, data: st.DataObject) -> None:
    parse, text = PARSERS[name]
    with contextlib.suppress(ParseError):
        json.dumps(parse(data.draw(damaged(text))), allow_nan=False)


@parsers
@given(text=st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "backslashreplace")))
def test_any_text_raises_a_parse_error_or_gives_plain_data(name: str, text: str) -> None:
    with contextlib.suppress(ParseError):
        json.dumps(PARSERS[name][0](text), allow_nan=False)


@parsers
@pytest.mark.parametrize("text", ["command not found\n", "Statut : inactif\n", "Fehler: keine Berechtigung\n",
                                  "{\n", "[1, 2]\n", "\0\0\0\n"])
def test_another_text_is_not_taken_for_output(name: str, text: str) -> None:
    with pytest.raises(ParseError):
        PARSERS[name][0](text)


@pytest.mark.parametrize("name", sorted(set(PARSERS) - {"sources"}))
def test_no_output_is_not_a_reading(name: str) -> None:
    with pytest.raises(ParseError):
        PARSERS[name][0]("")


@unhealthy
def test_unhealthy_output_does_not_pass(name: str) -> None:
    case = UNHEALTHY[name]
    assert not case.passes(case.parse(case.text))


@unhealthy
@given(data=st.data())
def test_unhealthy_output_that_was_cut_does_not_pass(name: str, data: st.DataObject) -> None:
    case = UNHEALTHY[name]
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(case.text))] * 2)))
    with contextlib.suppress(ParseError):
        assert not case.passes(case.parse(case.text[first:last]))


@unhealthy
@given(data=st.data())
def test_unhealthy_output_with_a_wrong_character_does_not_pass(name: str, data: st.DataObject) -> None:
    case = UNHEALTHY[name]
    at = data.draw(st.integers(0, len(case.text) - 1))
    with contextlib.suppress(ParseError):
        assert not case.passes(case.parse(case.text[:at] + data.draw(st.characters()) + case.text[at + 1 :]))


def test_rules_in_force() -> None:
    found = firewall.firewall(sample("iptables-save.txt"), sample("ip6tables-save.txt"), "ENABLED=yes\n")
    assert (found["active"], found["at_boot"]) == (True, True)
    assert [found[f"default_{name}"] for name in ("incoming", "routed", "incoming_v6", "routed_v6")] == [
        "deny", "allow", "deny", "allow"]
    rules = found["rules"]
    plain = [(r["port"], r["protocol"], r["source"], r["action"], r["v6"]) for r in rules]
    assert plain[:5] == [
        ("22", "tcp", "10.100.0.0/24", "allow", False), ("5201:5232", "tcp", "10.100.0.0/24", "allow", False),
        ("80,443", "tcp", "any", "allow", False), ("8080", "tcp", "any", "allow", False),
        ("8080", "udp", "any", "allow", False),
    ]
    for expected in (("9100", "tcp", "fd00::/64", "allow", True), ("any", "any", "10.3.3.3", "allow", False),
                     ("any", "udp", "10.3.3.4 port 99", "allow", False), ("2222", "tcp", "any", "limit", False),
                     ("113", "tcp", "any", "reject", True), ("any", "esp", "10.1.1.1", "allow", False)):
        assert expected in plain
    deny = next(r for r in rules if r["action"] == "deny")
    assert (deny["destination"], deny["interface"], deny["source"]) == ("10.0.0.1", "eth0", "192.168.1.7")
    assert [(r["port"], r["interface"]) for r in rules if r["direction"] == "fwd"] == [("80", "eth0 to eth1")]
    assert [r["remark"] for r in rules if r["remark"]] == []
    assert len(rules) == 22


@pytest.mark.parametrize(("name", "active", "incoming"), [
    ("iptables-save-fresh.txt", False, "allow"), ("iptables-save-off.txt", False, "allow"),
    ("iptables-save-reject.txt", True, "reject")])
def test_a_firewall_that_is_off_or_rejects(name: str, active: bool, incoming: str) -> None:
    found = firewall.firewall(sample(name), None, "# x\nENABLED=no\n")
    assert (found["active"], found["at_boot"], found["default_incoming"], found["default_incoming_v6"]) == (
        active, False, incoming, None)


@pytest.mark.parametrize(("rule", "seen"), [
    ("-A INPUT -j ACCEPT", ("any", "allow", "ahead of ufw's rules, in INPUT")),
    ("-A INPUT -p tcp -m tcp --dport 9 -j ACCEPT", ("9", "allow", "ahead of ufw's rules, in INPUT")),
    ("-A ufw-before-input -p tcp -m tcp --dport 9 -j ACCEPT",
     ("9", "allow", "ahead of ufw's rules, in ufw-before-input")),
    ("-A INPUT -g elsewhere", ("any", "nothing", "-g elsewhere ahead of ufw's rules, in INPUT")),
    ("-A ufw-user-input -p tcp -m tcp --dport 9 -m time --timestart 01:00:00 -j ACCEPT",
     ("9", "allow", "-m time --timestart 01:00:00")),
    ("-A ufw-user-input ! -s 10.0.0.0/8 -p tcp -m tcp --dport 9 -j ACCEPT", ("9", "allow", "! -s 10.0.0.0/8")),
    ('-A ufw-user-input -p tcp -m tcp --dport 9 -m comment --comment "a b" -j ACCEPT', ("9", "allow", ""))])
def test_what_is_let_in_beside_plain_rules_is_seen(rule: str, seen: tuple[str, str, str]) -> None:
    found = filter_v4(only_ssh_and(rule))["rules"]
    assert [(r["port"], r["action"], r["remark"]) for r in found if r["port"] != "22"] == [seen]


@pytest.mark.parametrize(("rule", "problem"), [
    ("-A nowhere -j ACCEPT", "not understood"), ("#A INPUT -j ACCEPT", "not understood"),
    (":INPUT QUEUE [0:0]", "expected policy ACCEPT or DROP, found QUEUE")])
def test_a_damaged_table_is_refused(rule: str, problem: str) -> None:
    with pytest.raises(ParseError, match=problem):
        filter_v4(only_ssh_and(rule))


def test_a_table_without_its_end_is_refused() -> None:
    with pytest.raises(ParseError, match="from \\*filter to COMMIT"):
        filter_v4(only_ssh_and().partition("COMMIT")[0])


def test_sudoers_names_users_and_groups_but_not_the_excluded() -> None:
    found = {(p["kind"], p["name"]) for p in security.sudo_principals(sample("cvtsudoers.json"))}
    assert found == {("username", "root"), ("usergroup", "sudo"), ("username", "admin"), ("usergroup", "admin")}
    text = json.dumps({"User_Specs": [{"User_List": [{"username": "bob", "negated": True}, {"userid": 0}]}]})
    assert security.sudo_principals(text) == [{"kind": "userid", "name": "0"}]


@pytest.mark.parametrize(("password", "locked"), [
    ("*", True), ("!", True), ("!$6$a$b", True), ("!*", True), ("", False), ("$y$j9T$salt$hash", False),
    ("$6$salt$hash", False)])
def test_locked_passwords(password: str, locked: bool) -> None:
    assert security.shadow_locked(f"admin:{password}:20781:0:99999:7:::\n") == {"admin": locked}


def test_login_shells() -> None:
    login = {user["name"] for user in security.passwd(sample("passwd.txt")) if user["login"]}
    assert login == {"root", "admin"}
    assert security.passwd("x:x:5:5::/:\n")[0]["login"]


def test_kernel_records_keep_numbers_levels_and_text() -> None:
    log = kernel.kmsg(sample("kmsg.txt"))
    assert (log["first"], log["gaps"], len(log["entries"])) == (0, False, 9)
    xid = next(entry for entry in log["entries"] if "Xid" in entry["text"])
    assert (xid["level"], xid["seconds"]) == (3, 99.000123)
    gap = "\n".join(line for line in sample("kmsg.txt").split("\n") if not line.startswith("3,7,"))
    assert kernel.kmsg(gap)["gaps"]


@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["NVRM: Xid (PCI:0000:17:00): 79, x", "noise", "mce: x"])),
                max_size=40))
def test_no_message_about_hardware_is_left_out(messages: list[tuple[int, str]]) -> None:
    entries: list[dict[str, Any]] = [{"level": level, "seconds": 0.0, "text": text} for level, text in messages]
    kept, truncated = kernel.worth_keeping(entries)
    assert not truncated
    assert [e for e in entries if e["text"] != "noise" or e["level"] <= 4] == kept


def test_many_warnings_do_not_hide_an_error() -> None:
    warnings: list[dict[str, Any]] = [{"level": 4, "seconds": 0.0, "text": "noise"}] * 1000
    kept, truncated = kernel.worth_keeping([*warnings, {"level": 6, "seconds": 1.0, "text": "mce: [Hardware Error]"}])
    assert kept[-1]["text"] == "mce: [Hardware Error]"
    assert not truncated
    assert kernel.worth_keeping([{"level": 6, "seconds": 0.0, "text": "mce: x"}] * 5001)[1]


def test_the_journal_covers_the_boot_only_from_the_first_message_on() -> None:
    assert kernel.journal(sample("journal.txt"))["since_boot"]
    late = sample("journal.txt").split("\n", 1)[1]
    assert not kernel.journal(late)["since_boot"]
    missed = sample("journal.txt").replace("[78,86,82,77,58,255]", '"Missed 12 kernel messages"')
    assert not kernel.journal(missed)["since_boot"]


@pytest.mark.parametrize(("control", "enabled"), [(0, False), (0x1D, True), (0x01, True), (0x40, True)])
def test_access_control_services(control: int, enabled: bool) -> None:
    assert kernel.acs_enabled(config_space(0x000D, control), 4096, "0000:16:02.0") is enabled


@given(st.integers(0, 4095))
def test_a_configuration_space_that_was_not_read_whole_is_no_reading(length: int) -> None:
    with pytest.raises(ParseError):
        kernel.acs_enabled(config_space(0x000D, 0)[:length], 4096, "0000:16:02.0")


@given(st.dictionaries(st.integers(0x40, 0x7F), st.integers(0, 2**32 - 1), max_size=20))
def test_any_configuration_space_ends(words: dict[int, int]) -> None:
    space = bytearray(config_space(0x000D, 0)[:0x200])
    for at, value in words.items():
        struct.pack_into("<I", space, 4 * at, value)
    with contextlib.suppress(ParseError):
        kernel.acs_enabled(bytes(space), len(space), "0000:16:02.0")


def test_a_device_that_is_gone_and_a_loop_are_no_reading() -> None:
    loop = bytearray(config_space(0x0002, 0))
    struct.pack_into("<I", loop, 0x148, 0x0002 | 1 << 16 | 0x100 << 20)
    for space in (b"\xff" * 4096, bytes(loop)):
        with pytest.raises(ParseError):
            kernel.acs_enabled(space, 4096, "0000:16:02.0")
    assert not kernel.acs_enabled(bytes(256), 256, "0000:00:1e.0")


@pytest.mark.parametrize(("cmdline", "groups", "mode"), [
    ("ro iommu=pt", [], "pt"), ("ro", [], "off"), ("intel_iommu=on", ["DMA-FQ"], "translated"),
    ("iommu=pt", ["identity", "DMA"], "translated"), ("", ["identity"], "pt")])
def test_iommu_mode(cmdline: str, groups: list[str], mode: str) -> None:
    assert kernel.iommu_mode(cmdline, groups) == mode


def test_chrony() -> None:
    tracking = services.chrony_tracking(sample("chronyc-tracking.txt"))
    assert tracking == {"synchronised": True, "stratum": 11, "offset_s": 0.000012345, "reference": "ntp.lab.internal"}
    assert not services.chrony_tracking(sample("chronyc-local.txt"))["synchronised"]
    sources = services.chrony_sources(sample("chronyc-sources.txt"))
    assert sources == [{"name": "ntp.lab.internal", "state": "*", "reach": 255},
                       {"name": "10.100.0.21", "state": "?", "reach": 0}]
    assert services.chrony_sources("") == []


def test_units() -> None:
    found = units(sample("systemctl-show.txt"))
    assert found["ssh"] == {"active": "active", "sub": "running", "enabled": "enabled", "load": "loaded"}
    assert found["nosuch"]["load"] == "not-found"
    assert services.failed_units(sample("list-units-failed.txt")) == ["chrony.service"]
    assert services.failed_units("\n0 loaded units listed.\n") == []


def test_network() -> None:
    qos = network.mlnx_qos(sample("mlnx_qos.txt"))
    assert qos == {"trust": "dscp", "pfc_enabled": [3]}
    assert network.ibv_active_mtu(sample("ibv_devinfo-v-rxe.txt")) == {"rxe0": {"1": 4096}, "rxe1": {"1": 4096}}
    assert network.lldp_neighbors(sample("lldpcli.json")) == [
        {"interface": "ens3f0np0", "chassis": "leaf-01", "port": "Ethernet0", "vlan_ids": [100]}]
    assert network.lldp_neighbors('{"lldp": {}}') == []
    many = {"lldp": {"interface": [{"a": {"vlan": [{"vlan-id": "7"}, {"vlan-id": 5}]}}, {"b": {}}]}}
    assert [n["vlan_ids"] for n in network.lldp_neighbors(json.dumps(many))] == [[5, 7], []]
    assert network.ib_number_and_name("5: LinkUp\n", "phys_state") == "LinkUp"
    assert network.ib_rate_gbps("100 Gb/sec (4X EDR)\n", "rate") == 100.0


def test_addresses_and_vlan_devices() -> None:
    addresses, vlans = network.ip_addresses(sample("ip-address.json"))
    assert "10.100.0.101/24" in addresses["ens3f0np0"]
    assert vlans == {}
    tagged = [{"ifname": "ens3f0np0.100", "link": "ens3f0np0", "addr_info": [],
               "linkinfo": {"info_kind": "vlan", "info_data": {"protocol": "802.1Q", "id": 100}}}]
    assert network.ip_addresses(json.dumps(tagged))[1] == {"ens3f0np0.100": {"id": 100, "parent": "ens3f0np0"}}


def test_hardware() -> None:
    cpu = hardware.cpuinfo(sample("cpuinfo.txt"))
    assert cpu == {"model": "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", "sockets": 2, "cores": 4, "threads": 8}
    assert hardware.os_release(sample("os-release.txt")) == {"id": "debian", "version_id": "12"}
    assert hardware.meminfo_total_mib(sample("meminfo.txt")) == 515578
    assert hardware.mounts(sample("mounts.txt"))[1]["mount"] == "/var/lib/with blank"


def test_gpu_addresses_and_cuda() -> None:
    assert gpu.nvml_bus_id("0000:b1:00.0") == "00000000:B1:00.0"
    assert gpu.sysfs_address("00000000:B1:00.0") == "0000:b1:00.0"
    assert gpu.cuda_version(12020) == "12.2"
    assert gpu.cuda_version(11040) == "11.4"
    with pytest.raises(ParseError):
        gpu.cuda_version(0)
