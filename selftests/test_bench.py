"""What the bench concludes from its samples, and that it measures nothing that failed or read something else."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from acceptance.probe.sections import SECTIONS
from bench.__main__ import ANSIBLE, COLLECT, OWN, READING, TESTINFRA, Bench, targets
from bench.measure import BenchError, Sample, Series, Target, measure, missing_facts, table
from selftests.synthetic import SITE


def series(name: str, *seconds: float) -> Series:
    return Series(name, [Sample(second, 10 * number) for number, second in enumerate(seconds, start=1)])


def test_a_row_has_the_median_the_spread_the_ratio_and_the_highest_peak() -> None:
    own, other = series("own", 2, 1, 9), series("other", 30, 10)
    rows = table([own, other], own).splitlines()
    assert rows[2] == "| own | 3 | 2.00 s | 1.00 … 9.00 s |  | 30 MiB |"
    assert rows[3] == "| other | 2 | 20.00 s | 10.00 … 30.00 s | 10.0 | 20 MiB |"


@pytest.mark.parametrize(("target", "met"), [
    (Target("t", 50.0, 50, True, "×"), True), (Target("t", 49.9, 50, True, "×"), False),
    (Target("t", 0.99, 1, False, "s"), True), (Target("t", 1.0, 1, False, "s"), False),
])
def test_a_target_is_met_or_said_not_to_be(target: Target, met: bool) -> None:
    assert target.met is met
    assert target.sentence().endswith("met" if met else "NOT MET")


def test_the_ratios_are_of_the_slower_to_this_suite() -> None:
    found = targets([series(OWN, 1.0), series(ANSIBLE, 2.5), series(TESTINFRA, 60.0), series(COLLECT, 0.5)])
    assert [(one.measured, one.met) for one in found] == [(60.0, True), (2.5, False), (0.5, True)]


def test_a_program_is_measured_with_its_memory_and_environment(tmp_path: Path) -> None:
    code = "import os; x = bytearray(80 << 20); print(os.environ['BENCH_WORD'])"
    sample = measure([sys.executable, "-c", code], tmp_path / "log", {"BENCH_WORD": "here"})
    assert sample.peak_mib > 80
    assert sample.seconds > 0
    assert (tmp_path / "log").read_text() == "here\n"


@pytest.mark.parametrize(("code", "limit_s", "told"), [
    ("import sys; sys.exit('no such host')", 60.0, "exit status 1: no such host"),
    ("import time; time.sleep(600)", 0.2, "exit status -9"),
])
def test_a_program_that_fails_or_hangs_has_no_time(tmp_path: Path, code: str, limit_s: float, told: str) -> None:
    with pytest.raises(BenchError, match=told):
        measure([sys.executable, "-c", code], tmp_path / "log", limit_s=limit_s)


def test_facts_that_only_one_side_read_are_named() -> None:
    own = {"os": ["id", "kernel"], "net": ["errors", "interfaces"]}
    assert missing_facts(own, {"os": ["kernel", "id"], "net": ["interfaces"]}) == []
    assert missing_facts(own, {"os": ["id"], "net": ["interfaces", "more"]}) == ["net.more", "os.kernel"]


def test_a_reading_of_other_facts_is_no_comparison(tmp_path: Path) -> None:
    bench = Bench(SITE, tmp_path)
    bench.own_facts = {host.name: {"memory": ["total_mib"]} for host in bench.hosts}
    lines = [[host.address, "memory", ["total_mib"]] for host in bench.hosts]
    (tmp_path / "read").write_text("".join(json.dumps(line) + "\n" for line in lines))
    bench.compare(tmp_path / "read")
    (tmp_path / "read").write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))
    with pytest.raises(BenchError, match="gpu-node-08: not the same facts were read: memory.total_mib"):
        bench.compare(tmp_path / "read")


def test_every_section_of_the_probe_has_its_counterpart() -> None:
    calls = [node for node in ast.walk(ast.parse(READING.read_text())) if isinstance(node, ast.Call)]
    noted = {call.args[1].value for call in calls
             if isinstance(call.func, ast.Name) and call.func.id == "note" and isinstance(call.args[1], ast.Constant)}
    assert noted == set(SECTIONS)
