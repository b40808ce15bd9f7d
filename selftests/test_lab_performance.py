"""Faults under load: each check by workloads has one that it must find, and each is one that ranks can begin with."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any

import pytest

from acceptance.selection import load_catalogue
from acceptance.site.load import load_site
from lab import workload_files
from lab.faults import FAULTS
from lab.faults.base import FileFault
from lab.faults.kubectl import PERFORMANCE, PHASES
from lab.faults.performance import COPY_BYTES, IMAGE, RANKS, WORKLOADS
from selftests.synthetic import ROOT

LAB = load_site(ROOT / "lab" / "site.yaml").contract.performance
UNDER_LOAD = {name: fault for name, fault in FAULTS.items() if fault.phases == PERFORMANCE}
CHECKS = {check.id for check in load_catalogue(ROOT).values() if check.performance}
Parsed = Callable[[list[str]], tuple[argparse.Namespace, list[str]]]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    """How ranks read a fault's words; torch, which the suite's own Python has not, is not needed for it."""
    for name in ("torch", "torch.distributed"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.delitem(sys.modules, "lab.workload_faults", raising=False)
    module: Any = importlib.import_module("lab.workload_faults")
    monkeypatch.delitem(sys.modules, "lab.workload_faults")
    found: Parsed = module.parsed
    return found


def test_every_check_by_workloads_has_a_fault_that_it_must_find_alone() -> None:
    must = {name: {each.check for each in fault.expects if each.required} for name, fault in UNDER_LOAD.items()}
    assert set().union(*must.values()) == CHECKS == set(WORKLOADS)
    for check in CHECKS:
        assert any(found == {check} for found in must.values()), check


def test_those_that_need_no_load_are_proven_without() -> None:
    assert "not performance" in PHASES
    for fault in FAULTS.values():
        assert fault.name in UNDER_LOAD or not {each.check for each in fault.expects} & CHECKS, fault.name


def words_of(fault: Any) -> list[str]:
    assert isinstance(fault, FileFault)
    assert (fault.path, fault.create) == (workload_files.FAULT, True)
    found: list[str] = json.loads(fault.change(""))
    return found


@pytest.mark.parametrize("fault", RANKS, ids=lambda fault: fault.name)
def test_ranks_know_the_fault_by_its_words(fault: Any, parsed: Parsed) -> None:
    arguments, command = parsed(["--nccl-log", "healthy.log", *words_of(fault), "--", "gemm.py", "--size", "64"])
    assert command == ["gemm.py", "--size", "64"]
    assert arguments.fault != "none" or arguments.nccl_log != "healthy.log"
    assert arguments.nccl_log in ("healthy.log", "") or PurePosixPath(arguments.nccl_log).name in workload_files.files()
    assert arguments.fault == "none" or arguments.local_rank is not None, "which rank of all it is, nobody knows before"


def test_faults_are_of_the_sizes_that_the_lab_measures(parsed: Parsed) -> None:
    assert int(COPY_BYTES) == LAB.memcpy.size
    arguments, _ = parsed([*words_of(FAULTS["reduction-corrupted"]), "--", "x.py"])
    assert LAB.collectives.small_bytes < arguments.bytes <= LAB.collectives.sizes.last
    arguments, _ = parsed([*words_of(FAULTS["gemm-slow"]), "--", "x.py"])
    assert arguments.size <= LAB.gemm.size
    assert 100 - 100 / arguments.times > 1.5 * LAB.peers_tolerance_percent
    arguments, _ = parsed([*words_of(FAULTS["rank-late"]), "--", "x.py"])
    assert 1e6 * arguments.seconds > 2 * LAB.late_floor_us
    assert LAB.pods.image == IMAGE


def test_pods_of_the_lab_mount_what_its_hosts_have() -> None:
    folders = {mount["mountPath"] for mount in LAB.pods.mounts}
    assert workload_files.FOLDER in folders
    assert [str(PurePosixPath(word).parent) for word in LAB.pods.launcher if word.endswith(".py")] == [
        workload_files.FOLDER]
    assert PurePosixPath(LAB.pods.launcher[-1]).name in workload_files.files()
