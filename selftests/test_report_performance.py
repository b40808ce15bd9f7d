"""The report on performance: what was reached of what is possible; the figures in it are those that were measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from acceptance.evidence import Recorder
from acceptance.measure.gate import COLLECTOR, WORKLOADS
from acceptance.model import load_run
from acceptance.report.performance import Performance, performance
from acceptance.report.plot import Plot, Strip, strips_plot
from selftests import workload_documents as made
from selftests.run_folders import run_folder
from selftests.synthetic import SITE, Broken
from selftests.test_gate import NODE, Change, run_of, slow_at, slower
from selftests.test_report import EVERYTHING, page
from selftests.workload_documents import SMALL

SPEEDS = 32  # marks of a strip


def folder(path: Path, leave_out: tuple[str, ...] = (), **changes: Change) -> Path:
    """A run folder of a site on which the workloads ran; documents are changed by workload."""
    (run_folder(path) / "evidence.jsonl").unlink()
    header = json.loads((path / "run.json").read_text())
    header |= {"contract": SMALL.contract.model_dump(mode="json", by_alias=True),
               "hosts": [asdict(host) for host in SITE.hosts]}
    (path / "run.json").write_text(json.dumps(header))
    recorder, cluster = Recorder(path / "evidence.jsonl"), Broken().cluster()
    for host in SITE.hosts:
        recorder.record("facts", host.name, document=cluster[host.name].document)
    for name in made.MADE:
        document = made.healthy(name)
        if name in changes:
            changes[name](document)
        collector, run = COLLECTOR.get(name, WORKLOADS), f"run/acceptance-{name}"
        recorder.record(collector, run, document=run_of(name))
        what = {"error": "no document"} if name in leave_out else {"text": json.dumps(document)}
        recorder.record(collector, f"document/{name}", document=what | {"run": run})
    recorder.close()
    return path


def shown(path: Path) -> Performance:
    report = load_run(path)
    return performance(report.header, report.evidence)


def test_the_approver_reads_one_sentence_with_the_share_of_the_physical_limit(tmp_path: Path) -> None:
    found = shown(folder(tmp_path))
    [(network, good), (training, good_too)] = found.sentences
    assert good
    assert good_too
    assert network.startswith("all_reduce over 32 GPUs reached 10.5 GB/s at its slowest large size (")
    assert network.endswith("% of the physical limit of 12.25 GB/s.")
    assert "92 % of what the same GPUs reach each alone; at least 85 % is contracted." in training


def test_the_curve_has_every_size_the_ceiling_and_what_is_required(tmp_path: Path) -> None:
    [curve, strips] = shown(folder(tmp_path)).plots
    assert len(curve.marks) == 2 * len(SMALL.contract.performance.collectives.sizes.all)
    assert {line.kind for line in curve.lines} >= {"limit", "floor", "target", "axis"}
    texts = {label.text for label in curve.labels}
    assert {"physical limit 12.25", "required 8", "target 10", "8 B", "8 GiB"} <= texts
    judged = {kind: next(line for line in curve.lines if line.kind == kind) for kind in ("limit", "floor", "target")}
    assert judged["limit"].y1 < judged["target"].y1 < judged["floor"].y1, "more is higher"
    assert judged["floor"].x1 > judged["limit"].x1, "required is only what is judged"
    assert len([label for label in strips.labels if label.text == "bf16 GEMM"]) == 1
    assert len(strips.marks) % SPEEDS == 0
    for plot in (curve, strips):
        inside(plot)


def inside(plot: Plot) -> None:
    """Nothing lies outside of the frame."""
    places = [(line.x1, line.y1) for line in plot.lines] + [(line.x2, line.y2) for line in plot.lines]
    places += [(mark.x, mark.y) for mark in plot.marks] + [(label.x, label.y) for label in plot.labels]
    assert all(0 <= x <= plot.width and 0 <= y <= plot.height for x, y in places)


def test_a_gpu_that_is_off_is_named_beside_its_strip(tmp_path: Path) -> None:
    strips = shown(folder(tmp_path, gemm=slower(13, 1.3, "tflops"))).plots[-1]
    crosses = [mark for mark in strips.marks if mark.shape == "cross"]
    assert {mark.title.partition(":")[0] for mark in crosses} == {f"{NODE}/gpu1"}
    assert [label.text for label in strips.labels if "bad" in label.kind] == [f"{NODE}/gpu1"] * 2  # bf16 and tf32


def test_what_is_not_as_contracted_is_not_called_well(tmp_path: Path) -> None:
    found = shown(folder(tmp_path, allreduce=slow_at(1.6)))
    assert next(good for _, good in found.sentences) is False
    assert any(mark.bad for mark in found.plots[0].marks)
    slow = shown(folder(tmp_path / "slow", allreduce=slow_at(1.1)))
    assert "The target of 10 GB/s was missed." in slow.sentences[0][0]


@pytest.mark.parametrize("workload", sorted(made.MADE))
def test_what_was_not_measured_is_left_out_and_the_rest_stays(workload: str, tmp_path: Path) -> None:
    found = shown(folder(tmp_path, (workload,)))
    assert found.plots
    whole = shown(folder(tmp_path / "whole"))
    assert (len(found.sentences), sum(len(plot.marks) for plot in found.plots)) < (
        len(whole.sentences), sum(len(plot.marks) for plot in whole.plots)) or workload == "ddp"
    page(load_run(tmp_path))


def test_without_workloads_there_is_no_such_part(tmp_path: Path) -> None:
    assert not shown(run_folder(tmp_path))


def hostile(document: dict[str, Any]) -> None:
    document["ranks"][5] |= {"node": EVERYTHING, "host": EVERYTHING, "gpu_name": EVERYTHING}


def test_text_of_a_document_does_no_harm(tmp_path: Path) -> None:
    found = page(load_run(folder(tmp_path, allreduce=hostile, gemm=hostile)))
    assert "svg" in found.tags
    assert "script" not in found.tags


def test_more_than_three_that_are_off_are_counted() -> None:
    strip = Strip("x", "GB/s", {f"n/gpu{number}": 1.0 + number for number in range(8)},
                  frozenset(f"n/gpu{number}" for number in range(5)), 4.0, 9.0)
    named = [label.text for label in strips_plot([strip]).labels if "bad" in label.kind]
    assert named == ["n/gpu0", "n/gpu1", "n/gpu2 and 2 more"]
