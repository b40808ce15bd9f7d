"""Checks of hosts, kernel, services and time: green when healthy, red for each defect, blocked without evidence."""

from __future__ import annotations

from typing import Any

import pytest

from acceptance.facts import Cluster
from acceptance.findings import Findings, Verdict
from acceptance.parse.kernel_log import find_trouble, same_pci_device
from acceptance.site.load import Site
from selftests.synthetic import SITE, Break, Broken, broken, judge_check, reds, subjects

CHECKS: list[str] = ["hardware", "os", "kernel-log", "kernel-settings", "services", "time-sync"]
NODE = "gpu-node-03"


def judge(check: str, cluster: Cluster, node: str = NODE) -> Findings:
    return judge_check(check, cluster, node)


def logged(*texts: str, level: int = 3) -> Break:
    entries = [{"level": level, "seconds": 100.0 + n, "text": text} for n, text in enumerate(texts)]
    return lambda s: s["kernel_log"]["entries"].extend(entries)


def set_in(section: str, **values: Any) -> Break:
    return lambda s: s[section].update(values)


def unit(name: str, **values: str) -> Break:
    return lambda s: s["services"]["units"][name].update(values)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("node", [NODE, "k8s-cp-01"])
def test_a_healthy_host_is_green(check: str, node: str) -> None:
    findings = judge(check, Broken().cluster(), node)
    assert findings.verdict() is Verdict.PASS, [f.sentence() for f in reds(findings)]


@pytest.mark.parametrize("check", CHECKS)
def test_a_silent_host_is_blocked_and_leaves_the_others_green(check: str) -> None:
    cluster = Broken(down=(NODE,)).cluster()
    findings = judge(check, cluster)
    assert findings.verdict() is Verdict.BLOCKED
    assert "no route to host" in reds(findings)[0].reason
    assert judge(check, cluster, "gpu-node-04").verdict() is Verdict.PASS


XID = "NVRM: Xid (PCI:0000:B1:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
AER = "pcieport 0000:16:02.0: AER: Corrected error received: 0000:17:00.0"
MCE = "mce: [Hardware Error]: Machine check events logged"
HUNG = "INFO: task kworker/3:1:214 blocked for more than 120 seconds."

DEFECTS: list[tuple[str, Break, str]] = [
    ("hardware", set_in("memory", total_mib=458752), "memory: measured 458752 MiB"),
    ("hardware", set_in("identity", product="PowerEdge R750"), "measured PowerEdge R750, required = PowerEdge R750xa"),
    ("hardware", set_in("identity", vendor="Supermicro"), "vendor"),
    ("hardware", set_in("cpu", sockets=1), "processor sockets"),
    ("hardware", set_in("cpu", cores=48), "measured 48, required = 64"),
    ("hardware", lambda s: s["disks"]["block"].pop(), "disks: measured 1"),
    ("hardware", lambda s: s["disks"]["filesystems"][0].update(used_percent=95.0), "measured 95 %, required ≤ 85"),
    ("hardware", lambda s: s["disks"]["filesystems"].append(
        s["disks"]["filesystems"][0] | {"mount": "/data", "used_percent": 99.0}), "space used on /data: measured 99 %"),
    ("os", set_in("os", id="debian"), "distribution"),
    ("os", set_in("os", version_id="20.04"), "release"),
    ("os", set_in("os", kernel="6.2.0-39-generic"), "5.15.0-91-generic on 8; 6.2.0-39-generic on 1"),
    ("kernel-log", logged(XID), "gpu2: Xid 79: measured 1"),
    ("kernel-log", logged(AER, AER), "PCIe AER error: measured 2"),
    ("kernel-log", logged(MCE), "machine check"),
    ("kernel-log", logged(HUNG), "hung task"),
    ("kernel-settings", set_in("kernel", acs_enabled=["0000:16:02.0"]), "ACS on: measured True, required = False"),
    ("kernel-settings", set_in("kernel", iommu_mode="translated", cmdline="ro quiet"), "IOMMU mode: measured trans"),
    ("kernel-settings", set_in("kernel", numa_balancing=1), "numa_balancing: measured 1"),
    ("kernel-settings", set_in("cpu", governors=["performance", "powersave"]), "measured performance, powersave"),
    ("kernel-settings", set_in("limits", memlock_soft=8388608), "memlock limit, soft: measured 8388608"),
    ("kernel-settings", set_in("limits", memlock_hard=8388608), "memlock limit, hard"),
    ("kernel-settings", set_in("kernel", modules=["nouveau", "mlx5_core"]), "measured nouveau"),
    ("services", unit("containerd", active="inactive", sub="dead"), "containerd active: measured inactive"),
    ("services", unit("chrony", enabled="disabled"), "chrony enabled: measured disabled"),
    ("services", unit("nvidia-persistenced", active="failed"), "nvidia-persistenced active"),
    ("services", set_in("services", failed=["fwupd.service"]), "failed units: measured fwupd.service"),
    ("time-sync", lambda s: s["time"]["chrony"].update(synchronised=False), "synchronised: measured False"),
    ("time-sync", lambda s: s["time"]["chrony"].update(offset_s=-0.02), "offset: measured 20 ms, required ≤ 10"),
    ("time-sync", set_in("time", sources=[]), "missing: ntp.cluster.internal"),
    ("time-sync", lambda s: s["time"]["sources"][0].update(reach=0), "that answer: measured 0"),
    ("time-sync", lambda s: s["time"]["sources"].append({"name": "pool.ntp.org", "state": "+", "reach": 255}),
     "extra: pool.ntp.org"),
]


@pytest.mark.parametrize(("check", "change", "text"), DEFECTS)
def test_each_defect_is_red_for_the_right_subject(check: str, change: Break, text: str) -> None:
    cluster = broken(NODE, change)
    findings = judge(check, cluster)
    assert findings.verdict() is Verdict.FAIL
    assert all(subject.startswith(NODE) for subject in subjects(reds(findings)))
    assert any(text in f.sentence() for f in reds(findings)), [f.sentence() for f in reds(findings)]
    assert judge(check, cluster, "gpu-node-04").verdict() is Verdict.PASS


MISSING: list[tuple[str, Break, str]] = [
    ("hardware", set_in("identity", product=None, errors={"product": "no DMI"}), "no DMI"),
    ("hardware", set_in("disks", filesystems=[], errors={"/": "did not answer"}), "did not answer"),
    ("kernel-log", set_in("kernel_log", since_boot=False), "does not reach back to boot"),
    ("kernel-log", set_in("kernel_log", truncated=True), "does not reach back to boot"),
    ("kernel-settings", set_in("kernel", pci_bridges_read=0), "no PCI bridge"),
    ("kernel-settings", set_in("kernel", acs_enabled=None, errors={"acs_enabled": "permission denied"}), "permission"),
    ("kernel-settings", set_in("kernel", iommu_mode=None, errors={"iommu_mode": "no sysfs"}), "no sysfs"),
    ("kernel-settings", set_in("kernel", numa_balancing=None, errors={"numa_balancing": "absent"}), "absent"),
    ("kernel-settings", set_in("cpu", governors=None, errors={"governors": "cpu7: no cpufreq"}), "cpu7"),
    ("kernel-settings", set_in("cpu", governors=[]), "no value could be read"),
    ("kernel-settings", set_in("kernel", modules=[]), "list of modules is empty"),
    ("services", lambda s: s["services"]["units"].pop("ssh"), "was not asked about"),
    ("time-sync", set_in("time", chrony=None, errors={"chrony": "506 Cannot talk to daemon"}), "506"),
    ("time-sync", set_in("time", sources=None, errors={"sources": "506 Cannot talk to daemon"}), "506"),
    ("kernel-log", set_in("kernel_log", entries="none"), "malformed answer"),
]


@pytest.mark.parametrize(("check", "change", "text"), MISSING)
def test_what_could_not_be_read_is_blocked_with_the_reason(check: str, change: Break, text: str) -> None:
    found = reds(judge(check, broken(NODE, change)))
    assert [f.verdict for f in found] == [Verdict.BLOCKED]
    assert text in found[0].reason


def test_a_short_log_still_shows_what_it_holds() -> None:
    findings = judge("kernel-log", broken(NODE, logged(AER), set_in("kernel_log", since_boot=False)))
    assert findings.verdict() is Verdict.FAIL
    assert {f.verdict for f in reds(findings)} == {Verdict.FAIL, Verdict.BLOCKED}


def test_an_xid_of_a_gpu_that_nvml_no_longer_shows_is_the_nodes() -> None:
    cluster = Broken(breaks={NODE: [logged(XID)]}, failed={NODE: {"nvml": "no answer in 8 s"}}).cluster()
    found = reds(judge("kernel-log", cluster))
    assert subjects(found) == {NODE}
    assert found[0].quantity == "Xid 79"


def test_an_application_error_xid_is_no_defect() -> None:
    assert 13 not in SITE.contract.kernel.fatal_xids
    text = "NVRM: Xid (PCI:0000:17:00): 13, pid=4711, Graphics Exception"
    assert judge("kernel-log", broken(NODE, logged(text))).verdict() is Verdict.PASS


@pytest.mark.parametrize("text", [
    "pcieport 0000:00:1c.0: AER: enabled with IRQ 122", "mce: CPU supports 20 MCE banks",
    "MCE: In-kernel MCE decoding enabled.", "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  535.104.05",
    "RAS: Correctable Errors collector initialized.", "acpi PNP0A08:00: _OSC: OS now controls [PCIeHotplug AER]",
])
def test_ordinary_boot_messages_are_no_trouble(text: str) -> None:
    assert find_trouble(text) is None


@pytest.mark.parametrize(("text", "kind"), [
    (XID, "Xid 79"), (AER, "PCIe AER error"), (MCE, "machine check"), (HUNG, "hung task"),
    ("nvidia 0000:17:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer", "PCIe AER error"),
    ("pcieport 0000:16:02.0: AER: Correctable error message received from 0000:17:00.0", "PCIe AER error"),
    ("{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 4", "machine check"),
    ("watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [python3:999]", "hung task"),
])
def test_trouble_is_known_by_its_line(text: str, kind: str) -> None:
    trouble = find_trouble(text)
    assert trouble is not None
    assert trouble.kind == kind


def test_an_xids_address_is_nvmls_whatever_its_width_and_case() -> None:
    assert same_pci_device("0000:b1:00", "00000000:B1:00.0")
    assert not same_pci_device("0000:b1:00", "00000000:CA:00.0")


def test_a_control_plane_host_may_be_another_model_but_not_full() -> None:
    other = broken("k8s-cp-01", set_in("identity", product="PowerEdge R650"), set_in("memory", total_mib=65536))
    assert judge("hardware", other, "k8s-cp-01").verdict() is Verdict.PASS
    full = broken("k8s-cp-01", lambda s: s["disks"]["filesystems"][0].update(used_percent=95.0))
    assert judge("hardware", full, "k8s-cp-01").verdict() is Verdict.FAIL


def test_kernels_without_a_majority_are_all_red() -> None:
    names = [host.name for host in SITE.hosts]
    breaks: dict[str, list[Break]] = {name: [set_in("os", kernel=f"5.15.0-{n % 4}")] for n, name in enumerate(names)}
    cluster = Broken(breaks=breaks).cluster()
    assert {judge("os", cluster, name).verdict() for name in names} == {Verdict.FAIL}


def test_a_time_source_given_by_address_is_the_server_of_that_address() -> None:
    named: Break = lambda s: s.update(resolve={"names": {"ntp.cluster.internal": ["10.100.0.20"]}})  # noqa: E731
    ours, other = ([{"name": name, "state": "*", "reach": 255}] for name in ("10.100.0.20", "10.100.0.21"))
    assert judge("time-sync", broken(NODE, named, set_in("time", sources=ours))).verdict() is Verdict.PASS
    found = reds(judge("time-sync", broken(NODE, named, set_in("time", sources=other))))
    assert [f.reason for f in found] == ["missing: ntp.cluster.internal; extra: 10.100.0.21"]
    assert judge("time-sync", broken(NODE, set_in("time", sources=ours))).verdict() is Verdict.FAIL


@pytest.mark.parametrize(("limit", "verdict"), [("unlimited", Verdict.PASS), (8388608, Verdict.PASS),
                                                (8388607, Verdict.FAIL), (65536, Verdict.FAIL)])
def test_a_contract_may_ask_for_so_much_locked_memory_and_no_more(limit: str | int, verdict: Verdict) -> None:
    contract = SITE.contract.model_copy(update={"kernel": SITE.contract.kernel.model_copy(update={"memlock": 8388608})})
    cluster = broken(NODE, set_in("limits", memlock_soft=limit, memlock_hard=limit))
    site = Site(SITE.path, contract, SITE.hosts)
    assert judge_check("kernel-settings", cluster, NODE, site=site).verdict() is verdict
