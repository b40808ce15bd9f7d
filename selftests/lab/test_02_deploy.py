"""The project's playbooks make bare servers what the contract says; a second run changes nothing."""

from __future__ import annotations

from lab.hosts import Lab
from selftests.lab.conftest import play


def test_the_first_run_changes_every_host(first_play: tuple[str, dict[str, int]], bare_lab: Lab) -> None:
    assert set(first_play[1]) >= set(bare_lab.nodes)
    assert all(first_play[1][host] > 0 for host in bare_lab.nodes)


def test_the_second_run_changes_nothing(lab: Lab) -> None:
    output, changed = play()
    assert {host: changed[host] for host in lab.nodes} == dict.fromkeys(lab.nodes, 0), output[-3000:]


def test_a_dry_run_works_and_finds_nothing_to_do(lab: Lab) -> None:
    output, changed = play("--check")
    assert {host: changed[host] for host in lab.nodes} == dict.fromkeys(lab.nodes, 0), output[-3000:]
