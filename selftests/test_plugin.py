"""pytest as the delivery engineer runs it: verdicts, gates and exit codes, on recorded runs of small projects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from acceptance.checks import Check
from acceptance.evidence import read_evidence
from acceptance.findings import Finding, Verdict
from acceptance.judge import Judgement
from acceptance.model import ACCEPTED, CONDITIONS, PARTIAL, REFUSED, load_run
from acceptance.terminal import failure_text
from selftests.mini import Mini, Result, pytest_run
from selftests.run_folders import CHECK
from selftests.synthetic import ROOT, SITE, sections
from selftests.synthetic_network import network_sections
from selftests.test_report import NoConfig


def decision(result: Result, phase: int = 2) -> str:
    """What the run folder's gate says, after a check that the terminal says the same."""
    gate = next(gate for gate in load_run(result.path).gates if gate.phase == phase)
    assert f"phase {phase}: {gate.decision}" in result.out
    return gate.decision


def verdict(result: Result, check: str, subject: str = "cluster") -> str:
    return str(result.items[check, subject]["verdict"])


def reasons(result: Result, check: str) -> str:
    return " ".join(finding["reason"] for finding in result.items[check, "cluster"]["findings"])


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    return Mini(tmp_path_factory.mktemp("healthy") / "site", ["load"])


@pytest.fixture(scope="module")
def healthy_run(healthy: Mini) -> Result:
    return healthy.judge("-m", "phase2")


@pytest.fixture(scope="module")
def bad_run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return Mini(tmp_path_factory.mktemp("bad") / "site", ["unmeasured", "raises", "nothing"]).judge("-m", "phase2")


def test_a_healthy_cluster_is_accepted_with_exit_code_0(healthy_run: Result) -> None:
    assert healthy_run.exit_code == 0
    assert decision(healthy_run) == ACCEPTED
    assert {key: one["verdict"] for key, one in healthy_run.items.items()} == {
        (check, subject): "PASS" for check, subject in (
            ("memory", "gpu-node-01"), ("memory", "gpu-node-02"), ("gpus", "gpu-node-01"), ("gpus", "gpu-node-02"),
            ("load", "cluster"))}


def test_every_report_is_written_and_latest_points_there(healthy: Mini, healthy_run: Result) -> None:
    names = {path.name for path in healthy_run.path.iterdir()}
    assert names == {"run.json", "evidence.jsonl", "findings.jsonl", "report.html", "junit.xml", "ctrf.json",
                     "log.html"}
    assert (healthy.path / "reports" / "latest").is_symlink()
    assert str(healthy_run.path / "report.html") in healthy_run.out


def test_clauses_that_no_check_judges_are_reserved(healthy_run: Result) -> None:
    report = (healthy_run.path / "report.html").read_text()
    assert "clauses of the guide that no check judges yet" in report
    assert "Infrastructure Deployment / SSH Hardening" in report[report.index("clauses of the guide"):]


def test_the_log_has_every_item_with_its_findings(healthy_run: Result) -> None:
    log = (healthy_run.path / "log.html").read_text()
    for one in healthy_run.items.values():
        assert one["item"] in log
        assert all(f"{finding['quantity']}: measured" in log for finding in one["findings"])


def test_a_log_asked_for_elsewhere_is_the_only_one(healthy: Mini, tmp_path: Path) -> None:
    result = healthy.judge("-m", "phase2", f"--html={tmp_path / 'own.html'}")
    assert (tmp_path / "own.html").exists()
    assert not (result.path / "log.html").exists()


def test_what_is_unmeasured_is_blocked_and_keeps_what_was_found(bad_run: Result) -> None:
    assert verdict(bad_run, "unmeasured") == "BLOCKED"
    assert "nobody could read it" in reasons(bad_run, "unmeasured")
    assert [f["verdict"] for f in bad_run.items["unmeasured", "cluster"]["findings"]] == ["PASS", "BLOCKED"]


def test_an_exception_is_a_failure_of_the_harness(bad_run: Result) -> None:
    assert verdict(bad_run, "raises") == "FAIL"
    assert bad_run.items["raises", "cluster"]["error"].startswith("the check itself failed: KeyError: 'no-such-host'")
    assert [f["quantity"] for f in bad_run.items["raises", "cluster"]["findings"]] == ["harness"]


def test_a_check_that_judged_nothing_fails(bad_run: Result) -> None:
    assert verdict(bad_run, "nothing") == "FAIL"
    assert reasons(bad_run, "nothing") == "the check judged nothing"


def test_one_red_must_refuses_the_gate_with_exit_code_1(bad_run: Result) -> None:
    assert bad_run.exit_code == 1
    assert decision(bad_run) == REFUSED
    assert verdict(bad_run, "memory", "gpu-node-01") == "PASS"


def test_a_failure_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    def lose_a_gpu(data: dict[str, object]) -> None:
        nvml = data["nvml"]
        assert isinstance(nvml, dict)
        nvml["gpus"] = nvml["gpus"][1:]

    result = Mini(tmp_path / "site", facts=lose_a_gpu).judge("-m", "phase2")
    assert result.reds == {("gpus", "gpu-node-01"), ("gpus", "gpu-node-02")}
    text = " ".join(result.out.split())
    assert "FAIL gpus: criterion of gpus" in text
    assert "FAIL gpu-node-02: GPUs: measured 3, required = 4" in text
    assert "remedy remedy of gpus" in text
    assert "evidence e0001" in text
    assert "again pytest 'tests_mini/test_mini.py::test_gpus[gpu-node-02]'" in text
    assert "Traceback" not in result.out


def test_what_is_blocked_says_first_what_is_in_the_way(tmp_path: Path) -> None:
    result = Mini(tmp_path / "site", facts=lambda data: data.pop("memory")).judge("-m", "phase2", "-k", "test_memory")
    assert {one["verdict"] for one in result.items.values()} == {"BLOCKED"}
    reason = result.items["memory", "gpu-node-01"]["findings"][0]["reason"].removeprefix("gpu-node-01: ")
    assert reason
    text = " ".join(result.out.split())
    assert f"first remove what is in the way of judging: {reason} remedy if it fails once it can be measured: " in text
    report = (result.path / "report.html").read_text(encoding="utf-8")
    assert "What to do: remove what is in the way of judging; if it fails once it can be measured: remedy of" in report


def test_what_failed_beside_something_blocked_keeps_its_remedy() -> None:
    found = [Finding("a", "x", None, None, "", "", v, f"because of {v.value}") for v in (Verdict.BLOCKED, Verdict.FAIL)]
    text = failure_text(Judgement("gpu-inventory", "t", "a", Verdict.FAIL, tuple(found)), Check(**CHECK), "t", NoConfig)
    assert "  remedy    look\n" in text
    assert "in the way" not in text
    both = [replace(found[0], reason=f"because {n}") for n in (1, 2, 2)]
    text = failure_text(Judgement("gpu-inventory", "t", "a", Verdict.BLOCKED, tuple(both)), Check(**CHECK), "t",
                        NoConfig)
    assert "  first     remove what is in the way of judging: because 1 (and 1 more)\n" in text


def test_a_target_that_is_missed_is_a_condition_not_a_refusal(tmp_path: Path) -> None:
    result = Mini(tmp_path / "site", ["target"]).judge("-m", "phase2")
    assert verdict(result, "target") == "FAIL"
    assert decision(result) == CONDITIONS
    assert result.exit_code == 0


def test_read_only_leaves_intrusive_checks_not_run_and_accepts_nothing(healthy: Mini) -> None:
    result = healthy.judge("-m", "phase2", "--read-only")
    assert result.exit_code == 1
    assert ("load", "cluster") not in result.items
    report = load_run(result.path)
    assert {item.id: item.verdict.value for item in report.items if item.subject == "cluster"} == {"load": "NOT RUN"}
    assert decision(result) == REFUSED


def test_read_only_with_nothing_else_selected_is_exit_code_5_and_refused(healthy: Mini) -> None:
    result = healthy.judge("-m", "intrusive", "--read-only")
    assert result.exit_code == 5
    assert not any(gate.accepted for gate in load_run(result.path).gates)


@pytest.mark.parametrize(("selection", "told"), [
    (["-m", "phase4"], "by -m 'phase4'; there is no check of phase4 yet, only of phase2"),
    (["-m", "phase2", "-k", "nosuch"], "by -m 'phase2' and -k 'nosuch'; see `acceptance list`"),
    (["-k", "gpu-node-2"], "by -k 'gpu-node-2'; did you mean gpu-node-02?"),
    (["-k", "gpu-node-01 and nosuch"], "by -k 'gpu-node-01 and nosuch'; see `acceptance list`"),
    (["-m", "phase2 and mlops"], "by -m 'phase2 and mlops'; see `acceptance list`")])
def test_selecting_nothing_is_exit_code_5_and_no_gate_is_accepted(healthy: Mini, selection: list[str],
                                                                  told: str) -> None:
    result = healthy.judge(*selection)
    assert result.exit_code == 5
    assert result.folder is None
    assert f"nothing is selected {told}\n" in result.out
    assert "accepted" not in result.out


@pytest.mark.parametrize("selection", [["-k", "memory"], ["-m", "phase2", "-k", "gpu-node-01"]])
def test_a_part_of_a_gate_can_pass_but_is_no_gate(healthy: Mini, selection: list[str]) -> None:
    result = healthy.judge(*selection)
    assert result.exit_code == 0
    assert decision(result) == PARTIAL
    assert not any(gate.accepted for gate in load_run(result.path).gates)
    assert "items of this gate were not selected; so the gate is neither accepted nor refused" in result.out


def test_a_part_of_a_gate_that_fails_refuses_it_without_contradiction(tmp_path: Path) -> None:
    result = Mini(tmp_path / "site", facts=lambda data: data.pop("memory")).judge("-m", "phase2", "-k", "test_memory")
    assert decision(result) == REFUSED
    assert "phase 2: refused: 2 BLOCKED\n  2 items of this gate were not selected; what was judged is enough to " \
           "refuse it\n" in result.out
    assert "not judged" not in result.out


def test_stopping_at_the_first_failure_leaves_the_rest_not_run(tmp_path: Path) -> None:
    result = Mini(tmp_path / "site", facts=lambda data: data.pop("memory")).judge("-m", "phase2", "-x")
    assert [item.verdict.value for item in load_run(result.path).items] == ["BLOCKED", *["NOT RUN"] * 3]
    assert decision(result) == REFUSED
    assert result.exit_code != 0


def test_a_failed_test_beside_the_checks_is_not_covered_by_an_accepted_gate(tmp_path: Path) -> None:
    result = Mini(tmp_path / "site", ["ordinary"]).judge()
    assert result.reds == set()
    assert result.exit_code == 1


def test_a_host_without_evidence_is_blocked_and_no_other(tmp_path: Path) -> None:
    mini = Mini(tmp_path / "site")
    path = mini.recorded / "evidence.jsonl"
    kept = [line for line in path.read_text().splitlines(keepends=True) if json.loads(line)["subject"] != "gpu-node-02"]
    path.write_text("".join(kept))
    result = mini.judge("-m", "phase2")
    assert {key: one["verdict"] for key, one in result.items.items()} == {
        ("memory", "gpu-node-01"): "PASS", ("gpus", "gpu-node-01"): "PASS",
        ("memory", "gpu-node-02"): "BLOCKED", ("gpus", "gpu-node-02"): "BLOCKED"}
    assert result.exit_code == 1


def test_a_contract_without_a_check_says_so_and_the_gate_does_not_need_it(tmp_path: Path) -> None:
    def lab(contract: dict[str, object]) -> None:
        contract["site"] = {"name": "small", "client": "c", "environment": "lab"}
        contract["not_measurable"] = {"load": "nothing moves data here"}

    result = Mini(tmp_path / "site", ["load"], contract=lab).judge("-m", "phase2")
    assert ("load", "cluster") not in result.items
    assert decision(result) == ACCEPTED
    assert "nothing moves data here" in (result.path / "report.html").read_text(encoding="utf-8")


def test_a_live_run_records_its_evidence_and_is_judged_again_alike(tmp_path: Path) -> None:
    mini = Mini(tmp_path / "site", ["echo"])
    live = mini.run("-m", "phase1")
    assert (live.exit_code, decision(live, 1)) == (0, ACCEPTED)
    evidence = read_evidence(live.path / "evidence.jsonl")
    assert [r.outcome.stdout for r in evidence.of("echo", "operator") if r.outcome] == [f"{n}\n" for n in range(5)]
    again = mini.run("-m", "phase1", "--evidence", str(live.path))
    assert (again.path / "findings.jsonl").read_bytes() == (live.path / "findings.jsonl").read_bytes()


def test_the_latest_run_can_be_judged_again_by_that_name(healthy: Mini, healthy_run: Result) -> None:
    latest = healthy.path / "reports" / "latest"
    latest.unlink()
    latest.symlink_to(healthy_run.path.name)
    again = healthy.run("-m", "phase2", "--evidence", "reports/latest")
    assert (again.exit_code, decision(again)) == (0, ACCEPTED)
    assert latest.resolve() == again.path
    assert (again.path / "evidence.jsonl").read_bytes() == (healthy_run.path / "evidence.jsonl").read_bytes()
    assert load_run(again.path).header["evidence_source"] == str(healthy_run.path / "evidence.jsonl")


def test_a_killed_run_keeps_what_it_had_and_accepts_nothing(tmp_path: Path) -> None:
    result = Mini(tmp_path / "site", ["echo", "dies"]).run("-m", "phase1")
    assert result.exit_code == -9
    report = load_run(result.path)
    assert len(report.evidence.of("echo", "operator")) == 5
    assert {(item.id, item.verdict.value) for item in report.items} == {
        ("echo", "PASS"), ("dies", "NOT RUN"), ("after", "NOT RUN")}
    assert not report.finished
    assert [gate.decision for gate in report.gates] == [REFUSED]


# the suite's own checks, on facts made from the contract

COMPUTE = ("-m", "phase2 and compute", "-k", "not pcie")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run of this suite's checks of the compute layer on a healthy cluster."""
    from acceptance.evidence import Recorder

    folder = tmp_path_factory.mktemp("recorded")
    recorder = Recorder(folder / "evidence.jsonl")
    for host in SITE.hosts:
        data = sections(SITE, host)
        network_sections(host)(data)
        parts = {name: {"ok": True, "data": part, "seconds": 0.1} for name, part in data.items()}
        recorder.record("facts", host.name, document={"probe": 1, "hostname": host.name, "sections": parts})
    recorder.close()
    return pytest_run(ROOT, *COMPUTE, "--evidence", str(folder), reports=folder / "reports")


def test_the_suites_own_checks_pass_on_a_healthy_cluster(recorded: Result) -> None:
    assert recorded.reds == set(), recorded.out[-3000:]
    assert recorded.exit_code == 0
    assert len(recorded.items) > 50
    assert decision(recorded) == PARTIAL


def test_a_recorded_run_gives_the_same_findings_byte_for_byte(recorded: Result, tmp_path: Path) -> None:
    again = pytest_run(ROOT, *COMPUTE, "--evidence", str(recorded.path), reports=tmp_path / "reports")
    assert (again.path / "findings.jsonl").read_bytes() == (recorded.path / "findings.jsonl").read_bytes()
    assert (again.path / "evidence.jsonl").read_bytes() == (recorded.path / "evidence.jsonl").read_bytes()
    assert again.exit_code == 0


@pytest.mark.parametrize(("change", "check", "subjects"), [
    ("gpu: {power_limit_w: 300}", "gpu-settings", "gpu_nodes"),
    ("gpu: {max_idle_temperature_c: 30}", "gpu-thermals", "gpu_nodes"),
    ("host: {max_filesystem_used_percent: 10}", "hardware", "all"),
    ("time: {max_offset_ms: 0.1}", "time-sync", "all"),
])
def test_one_threshold_changes_just_the_verdicts_that_depend_on_it(
    recorded: Result, tmp_path: Path, change: str, check: str, subjects: str
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(f"extends: {ROOT}/site.yaml\n{change}\n")
    again = pytest_run(ROOT, *COMPUTE, "--evidence", str(recorded.path), "--site", str(site), reports=tmp_path / "new")
    assert again.reds == {(check, host.name) for host in SITE.group(subjects)}
    assert again.exit_code == 1
    for key in recorded.items.keys() - again.reds:
        assert again.items[key] == recorded.items[key]
