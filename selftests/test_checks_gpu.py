"""The GPU checks: green on a healthy cluster, red with the right subject for each defect, blocked without evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acceptance.errors import ContractError
from acceptance.evidence import Evidence, Record
from acceptance.facts import Cluster
from acceptance.findings import Findings, Verdict
from acceptance.site.assets import load_assets
from acceptance.site.load import Site
from selftests.synthetic import SITE, Break, Broken, Sections, broken, judge_check, reds, subjects

PER_NODE = ["gpu-inventory", "gpu-topology", "gpu-ecc", "gpu-thermals", "gpu-idle", "gpu-driver", "gpu-pcie",
            "gpu-settings"]
NODE = "gpu-node-03"


def watched(node: str, *samples: Cluster) -> Evidence:
    """What the collector of PCIe samples records of a node."""
    documents = [sample[node].document for sample in samples]
    return Evidence(tuple(Record(f"e{n}", "", "pcie-samples", node, None, None, d) for n, d in enumerate(documents)))


def judge(check: str, cluster: Cluster, node: str = NODE, site: Site = SITE) -> Findings:
    return judge_check(check, cluster, node, watched(node, cluster, cluster), site)


def on_gpu(**values: Any) -> Break:
    def change(sections: Sections) -> None:
        sections["nvml"]["gpus"][2].update(values)

    return change


def drop_gpu(sections: Sections) -> None:
    sections["nvml"]["gpus"].pop()
    sections["nvidia_smi"]["gpus"].pop()


@pytest.mark.parametrize("check", [*PER_NODE, "gpu-uuids"])
def test_a_healthy_cluster_is_green(check: str) -> None:
    findings = judge(check, Broken().cluster())
    assert findings.verdict() is Verdict.PASS, [f.sentence() for f in reds(findings)]


@pytest.mark.parametrize("check", PER_NODE)
def test_a_silent_node_is_blocked_and_leaves_the_others_green(check: str) -> None:
    cluster = Broken(down=(NODE,)).cluster()
    assert judge(check, cluster).verdict() is Verdict.BLOCKED
    assert judge(check, cluster, "gpu-node-04").verdict() is Verdict.PASS


@pytest.mark.parametrize("check", PER_NODE)
def test_nvml_that_hangs_blocks_and_says_so(check: str) -> None:
    cluster = Broken(failed={NODE: {"nvml": "no answer in 8 s", "topology": "no answer in 8 s"}}).cluster()
    findings = judge(check, cluster)
    assert findings.verdict() is Verdict.BLOCKED
    assert "no answer in 8 s" in reds(findings)[0].reason


@pytest.mark.parametrize("check", ["gpu-ecc", "gpu-thermals", "gpu-idle"])
def test_a_node_without_any_gpu_is_not_healthy(check: str) -> None:
    cluster = broken(NODE, lambda s: s["nvml"].update(gpus=[]))
    assert judge(check, cluster).verdict() is Verdict.BLOCKED


DEFECTS: list[tuple[str, Break, str, str]] = [
    ("gpu-inventory", drop_gpu, NODE, "measured 3, required = 4"),
    ("gpu-inventory", on_gpu(name="NVIDIA A30"), f"{NODE}/gpu2", "NVIDIA A30"),
    ("gpu-inventory", on_gpu(memory_mib=24576), f"{NODE}/gpu2", "24576 MiB"),
    ("gpu-inventory", lambda s: s["nvidia_smi"]["gpus"].pop(), NODE, "missing: NVIDIA A100"),
    ("gpu-ecc", on_gpu(ecc_current=False), f"{NODE}/gpu2", "ECC on: measured False"),
    ("gpu-ecc", on_gpu(ecc_pending=False), f"{NODE}/gpu2", "after a reboot"),
    ("gpu-ecc", on_gpu(ecc_uncorrected_volatile=1), f"{NODE}/gpu2", "uncorrected errors since boot: measured 1"),
    ("gpu-ecc", on_gpu(ecc_uncorrected_aggregate=1), f"{NODE}/gpu2", "in its life: measured 1"),
    ("gpu-ecc", on_gpu(ecc_corrected_volatile=101), f"{NODE}/gpu2", "required ≤ 100"),
    ("gpu-ecc", on_gpu(ecc_corrected_aggregate=1001), f"{NODE}/gpu2", "required ≤ 1000"),
    ("gpu-ecc", on_gpu(remap_pending=True), f"{NODE}/gpu2", "row remap pending"),
    ("gpu-ecc", on_gpu(remap_failed=True), f"{NODE}/gpu2", "row remap failed"),
    ("gpu-thermals", on_gpu(temperature_c=95), f"{NODE}/gpu2", "measured 95 °C, required ≤ 60"),
    ("gpu-thermals", on_gpu(throttle_reasons=0x8 | 0x1), f"{NODE}/gpu2", "measured hardware slowdown,"),
    ("gpu-thermals", on_gpu(throttle_reasons=0xC0), f"{NODE}/gpu2", "hardware thermal slowdown, power brake slowdown"),
    ("gpu-idle", on_gpu(processes=[{"pid": 7, "name": "python3", "used_mib": 900}]), f"{NODE}/gpu2", "python3 (pid 7"),
    ("gpu-driver", lambda s: s["nvml"].update(driver="535.54.03"), NODE, "required ≥ 535.104"),
    ("gpu-driver", lambda s: s["nvml"].update(driver="550.54.14"), NODE, "differs from the others: 535.104.05 on 7"),
    ("gpu-driver", lambda s: s["nvml"].update(cuda="11.8"), NODE, "required ≥ 12.2"),
    ("gpu-driver", on_gpu(vbios="92.00.19.00.01"), f"{NODE}/gpu2", "92.00.25.00.08 on 31; 92.00.19.00.01 on 1"),
    ("gpu-settings", on_gpu(persistence=False), f"{NODE}/gpu2", "persistence"),
    ("gpu-settings", on_gpu(mig=True), f"{NODE}/gpu2", "MIG"),
    ("gpu-settings", on_gpu(power_limit_w=200.0), f"{NODE}/gpu2", "measured 200 W, required = 250 W"),
    ("gpu-settings", on_gpu(nvlinks_active=2), f"{NODE}/gpu2", "NVLinks"),
    ("gpu-pcie", on_gpu(pcie_generation=3), f"{NODE}/gpu2", "generation in use: measured 3, required = 4 (best of 3"),
    ("gpu-pcie", on_gpu(pcie_generation_max=3), f"{NODE}/gpu2", "that card and slot allow: measured 3"),
    ("gpu-pcie", on_gpu(pcie_width=8), f"{NODE}/gpu2", "lanes in use: measured 8, required = 16"),
    ("gpu-topology", lambda s: s["topology"]["nics"].update(ens3f0np0=1), NODE, "NUMA node of ens3f0np0: measured 1"),
    ("gpu-topology", lambda s: s["topology"]["gpus"].update({"00000000:B1:00.0": 0}), f"{NODE}/gpu2", "measured 0"),
    ("gpu-topology", lambda s: s["topology"]["gpus"].pop("00000000:B1:00.0"), NODE, "missing: 00000000:B1:00.0"),
]


@pytest.mark.parametrize(("check", "change", "subject", "text"), DEFECTS)
def test_each_defect_is_red_for_the_right_subject(check: str, change: Break, subject: str, text: str) -> None:
    cluster = broken(NODE, change)
    found = reds(judge(check, cluster))
    assert subject in subjects(found)
    assert subjects(found) <= {subject, NODE}
    assert any(text in finding.sentence() for finding in found), [f.sentence() for f in found]
    assert judge(check, cluster, "gpu-node-04").verdict() is Verdict.PASS


MEASURED = ["name", "memory_mib", "vbios", "ecc_current", "ecc_pending", "ecc_uncorrected_volatile",
            "ecc_corrected_volatile", "ecc_uncorrected_aggregate", "ecc_corrected_aggregate", "remap_pending",
            "remap_failed", "persistence", "mig", "power_limit_w", "nvlinks_active", "temperature_c",
            "throttle_reasons", "processes", "uuid", "pcie_generation", "pcie_generation_max", "pcie_width",
            "pcie_replays"]


@pytest.mark.parametrize("field", MEASURED)
def test_a_value_that_nvml_refuses_is_blocked_with_its_message(field: str) -> None:
    cluster = broken(NODE, on_gpu(**{field: None}, errors={field: "NVML: Function Not Found"}))
    blocked = [f for check in (*PER_NODE, "gpu-uuids") for f in reds(judge(check, cluster))
               if f.verdict is Verdict.BLOCKED]
    assert subjects(blocked) == {f"{NODE}/gpu2"}
    assert all(f.reason == "NVML: Function Not Found" for f in blocked)


def test_a_uuid_that_occurs_twice_names_both_gpus() -> None:
    cluster = broken(NODE, on_gpu(uuid="GPU-gpu-node-05-0"))
    assert subjects(reds(judge("gpu-uuids", cluster))) == {f"{NODE}/gpu2", "gpu-node-05/gpu0"}


def test_uuids_of_a_silent_node_are_not_known() -> None:
    findings = judge("gpu-uuids", Broken(down=(NODE,)).cluster())
    assert findings.verdict() is Verdict.BLOCKED
    assert subjects(reds(findings)) == {NODE}


def test_without_a_majority_every_node_is_red() -> None:
    names = [host.name for host in SITE.group("gpu_nodes")]
    cluster = Broken(breaks={n: [lambda s: s["nvml"].update(driver="550.54.14")] for n in names[:4]}).cluster()
    for name in names:
        assert judge("gpu-driver", cluster, name).verdict() is Verdict.FAIL


def test_two_nodes_that_answer_do_not_outvote_six_silent_ones() -> None:
    cluster = Broken(down=tuple(f"gpu-node-0{n}" for n in range(3, 9))).cluster()
    assert judge("gpu-driver", cluster, "gpu-node-01").verdict() is Verdict.BLOCKED


def test_a_loaded_gpu_is_judged_by_the_loaded_limit() -> None:
    running = [{"pid": 7, "name": "train", "used_mib": 900}]
    assert judge("gpu-thermals", broken(NODE, on_gpu(temperature_c=80, processes=running))).verdict() is Verdict.PASS
    assert judge("gpu-thermals", broken(NODE, on_gpu(temperature_c=86, processes=running))).verdict() is Verdict.FAIL


def with_assets(path: Path, text: str) -> Site:
    path.write_text(text)
    gpu = SITE.contract.gpu.model_copy(update={"asset_list": str(path)})
    return Site(SITE.path, SITE.contract.model_copy(update={"gpu": gpu}), SITE.hosts)


def test_serial_numbers_are_compared_with_the_asset_list(tmp_path: Path) -> None:
    lines = [f"{NODE} {NODE}-{index}  # slot {index}" for index in range(4)]
    good = with_assets(tmp_path / "good", "# host serial\n" + "\n".join(lines))
    assert judge("gpu-inventory", Broken().cluster(), site=good).verdict() is Verdict.PASS
    bad = with_assets(tmp_path / "bad", "\n".join([*lines[:3], f"{NODE} 1650522012345"]))
    found = reds(judge("gpu-inventory", Broken().cluster(), site=bad))
    assert [f.reason for f in found] == [f"missing: 1650522012345; extra: {NODE}-3"]


@pytest.mark.parametrize(
    ("text", "expected"), [("", "names no GPU"), ("a b c\n", "line 1: expected"), (None, "cannot be read")])
def test_an_asset_list_that_is_none_is_one_clear_line(tmp_path: Path, text: str | None, expected: str) -> None:
    path = tmp_path / "assets"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ContractError, match=expected):
        load_assets(path)


def judge_pcie(first: Cluster, *later: Cluster) -> Findings:
    return judge_check("gpu-pcie", first, NODE, watched(NODE, *later))


def test_replays_that_grow_are_red_and_a_high_count_that_stands_is_not() -> None:
    before, after = (broken(NODE, on_gpu(pcie_replays=count)) for count in (900, 904))
    assert judge_pcie(before, before, before).verdict() is Verdict.PASS
    (red,) = reds(judge_pcie(before, before, after))
    assert (red.subject, red.measured, red.reason) == (f"{NODE}/gpu2", 4, "the counter went from 900 to 904")


def test_a_replay_counter_that_fell_proves_nothing() -> None:
    before, after = (broken(NODE, on_gpu(pcie_replays=count)) for count in (900, 2))
    assert [f.verdict for f in reds(judge_pcie(before, after))] == [Verdict.BLOCKED]


def test_a_link_that_an_idle_gpu_slowed_down_is_judged_by_its_best_sample() -> None:
    slow, good = broken(NODE, on_gpu(pcie_generation=1)), Broken().cluster()
    assert judge_pcie(slow, slow, good).verdict() is Verdict.PASS
    assert judge_pcie(slow, slow, slow).verdict() is Verdict.FAIL


def test_links_that_were_not_watched_are_blocked() -> None:
    good = Broken().cluster()
    assert judge_pcie(good).verdict() is Verdict.BLOCKED
    for worse in (Broken(failed={NODE: {"nvml": "no answer in 8 s"}}), Broken(down=(NODE,))):
        assert judge_pcie(good, good, worse.cluster()).verdict() is Verdict.BLOCKED
