"""Every fault is found by the check meant for it, with the right subject named, and turns nothing else red."""

from __future__ import annotations

import pytest

from lab.faults import FAULTS
from lab.hosts import Lab
from lab.prove import Proof, prove
from selftests.lab.conftest import aloud

# those of a cluster take longer than continuous integration has: `python -m lab.prove` proves them
HOSTS = [fault for fault in FAULTS.values() if fault.phases == "phase1 or phase2"]


@pytest.fixture(scope="module")
def proof(request: pytest.FixtureRequest, lab: Lab) -> Proof:
    with aloud(request.config, f"the lab: {len(HOSTS)} faults, in batches of the independent ones"):
        return prove(lab, HOSTS)


@pytest.mark.parametrize("name", [fault.name for fault in HOSTS])
def test_the_fault_is_found_where_it_is(proof: Proof, name: str) -> None:
    outcome = next(o for o in proof.outcomes if o.placed.fault.name == name)
    assert outcome.proven, f"on {outcome.placed.host}: {outcome.error} missed {outcome.missed}, found {outcome.found}"


def test_nothing_else_turns_red(proof: Proof) -> None:
    assert proof.strangers == []


def test_the_lab_is_healthy_before_and_after(proof: Proof) -> None:
    assert proof.healthy == []
