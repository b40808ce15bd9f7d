"""The judge of the proof: what must be red, what must not, and which faults may share a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.faults import FAULTS
from lab.faults.base import CommandFault, Expect, chain, line_set
from lab.faults.kubectl import as_written
from lab.prove import ON_CLUSTER, Placed, judge, plan, provable

NODES = [f"gpu-node-0{n}" for n in range(1, 9)]
MTU = CommandFault("mtu", "wrong MTU", (Expect("mtu"), Expect("jumbo-path", "*{host}*")))
ECC = CommandFault("ecc", "an error", (Expect("gpu-ecc", "{host}/gpu2"),))


def test_a_fault_found_on_its_host_is_proven_and_nothing_is_strange() -> None:
    outcomes, strangers = judge([Placed(ECC, "gpu-node-03")], [("gpu-ecc", "gpu-node-03/gpu2")], {})
    assert outcomes[0].proven
    assert strangers == []


def test_the_right_check_on_the_wrong_gpu_proves_nothing() -> None:
    outcomes, strangers = judge([Placed(ECC, "gpu-node-03")], [("gpu-ecc", "gpu-node-03/gpu1")], {})
    assert not outcomes[0].proven
    assert strangers == [("gpu-ecc", "gpu-node-03/gpu1")]


def test_every_announced_check_must_turn_red() -> None:
    outcomes, _ = judge([Placed(MTU, "gpu-node-03")], [("mtu", "gpu-node-03")], {})
    assert outcomes[0].missed == ("jumbo-path: *gpu-node-03*",)


def test_a_fault_that_was_not_injected_is_not_proven() -> None:
    outcomes, _ = judge([Placed(ECC, "gpu-node-03")], [("gpu-ecc", "gpu-node-03/gpu2")], {"ecc": "not injected"})
    assert not outcomes[0].proven


def test_faults_of_one_batch_are_never_on_one_host() -> None:
    batches = plan(FAULTS.values(), NODES)
    for batch in batches:
        hosts = [placed.host for placed in batch if placed.host not in ("operator", "services")]
        assert len(hosts) == len(set(hosts))
        assert not any(placed.fault.alone for placed in batch) or len(batch) == 1
        assert len({placed.fault.phases for placed in batch}) == 1
        fabric = [placed for placed in batch if placed.fault.fabric]
        cut_off = [placed for placed in batch if any(e.check == "*" for e in placed.fault.expects)]
        assert len(fabric) <= 1
        assert not (fabric and cut_off)
    assert sorted(placed.fault.name for batch in batches for placed in batch) == sorted(FAULTS)


def test_faults_of_one_check_and_subject_do_not_share_a_batch() -> None:
    cluster = replace(ECC, expects=(Expect("gpu-uuids", "cluster"),))
    assert len(plan([cluster, replace(cluster, name="other")], NODES)) == 2
    assert len(plan([ECC, replace(ECC, name="other")], NODES)) == 1


def test_state_files_are_changed_key_by_key() -> None:
    change = chain(line_set("gpu2.mig", "1"), line_set("hang", "1"))
    assert change("gpu2.mig = 0\ngpu1.mig = 0\n") == "gpu1.mig = 0\ngpu2.mig = 1\nhang = 1\n"


def test_faults_of_a_cluster_are_left_out_aloud_where_none_is_deployed(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab: Any = SimpleNamespace(home=tmp_path)
    assert provable(lab)
    assert all(fault.phases not in ON_CLUSTER for fault in provable(lab))
    assert "are left out" in capsys.readouterr().out
    (tmp_path / "operator").mkdir()
    (tmp_path / "operator" / "admin.conf").touch()
    assert provable(lab) == list(FAULTS.values())


def test_an_object_is_written_again_with_helms_marks_and_without_the_servers() -> None:
    marks = {"meta.helm.sh/release-name": "tenants"}
    found = {"kind": "ResourceQuota", "status": {"used": {}}, "spec": {"hard": {"pods": "1"}}, "metadata": {
        "name": "team", "annotations": marks, "uid": "1", "resourceVersion": "2", "creationTimestamp": "3"}}
    assert as_written(found) == {"kind": "ResourceQuota", "spec": {"hard": {"pods": "1"}},
                                 "metadata": {"name": "team", "annotations": marks}}
