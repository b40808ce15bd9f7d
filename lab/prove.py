"""Proof that every check turns red: inject each fault, run the gates, compare with what the fault declares, both ways.

`python -m lab.prove [NAME ...]` prints the table fault × check and writes it to reports/prove/prove.md.
Independent faults are injected together on different hosts; each must still be attributed to its own. Faults of
different phases are proven in runs of their own: those of a cluster only where one is deployed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lab.errors import LabError
from lab.faults import FAULTS, active
from lab.faults.base import Expect, Fault
from lab.faults.kubectl import PERFORMANCE, PHASES
from lab.faults.prerequisites import site_override
from lab.hosts import Lab

ROOT = Path(__file__).parents[1]
RUN_S = {PHASES: 900, PERFORMANCE: 1800}  # the longest healthy or broken run, where it is not the usual
AT_ONCE = {PHASES: 6}  # faults that are injected or cleared at a time: those of a cluster wait most of the time
ON_CLUSTER = (PHASES, PERFORMANCE)
MOST_CUT_OFF = 2  # in a batch: what most nodes have in common must stay known
Red = tuple[str, str]  # check, subject


@dataclass(frozen=True)
class Placed:
    """A fault and the host on which it is injected."""

    fault: Fault
    host: str


@dataclass(frozen=True)
class Outcome:
    """What one injected fault led to: reds that it announced, and announced reds that did not come."""

    placed: Placed
    found: tuple[Red, ...]
    missed: tuple[str, ...]
    error: str = ""

    @property
    def proven(self) -> bool:
        """Every announced check turned red and named the right subject."""
        return not self.missed and not self.error and bool(self.found)

    @property
    def problem(self) -> str:
        """Why it is not proven."""
        return "; ".join(filter(None, [self.error, *(f"not red: {m}" for m in self.missed)])) or "nothing turned red"

    @property
    def checks(self) -> str:
        """The checks that turned red, or what the run was refused with."""
        return ", ".join(sorted({check for check, _ in self.found})) or "none"


def plan(faults: Iterable[Fault], gpu_nodes: Sequence[str]) -> list[list[Placed]]:
    """Batches of faults that cannot be mistaken for each other: other hosts, or other checks."""
    batches: list[list[Placed]] = []
    for fault in sorted(faults, key=lambda f: f.alone):
        for batch in batches:
            placed = _place(fault, batch, gpu_nodes)
            if placed:
                batch.append(placed)
                break
        else:
            batches.append([Placed(fault, fault.target)])
    return batches


def _place(fault: Fault, batch: list[Placed], gpu_nodes: Sequence[str]) -> Placed | None:
    if fault.alone or any(other.fault.alone or other.fault.phases != fault.phases for other in batch):
        return None
    if _cuts_off(fault) and sum(_cuts_off(other.fault) for other in batch) >= MOST_CUT_OFF:
        return None
    if fault.fabric and any(other.fault.fabric or _cuts_off(other.fault) for other in batch):
        return None
    if _cuts_off(fault) and any(other.fault.fabric for other in batch):
        return None
    start = gpu_nodes.index(fault.target) if fault.target in gpu_nodes else 0
    choices = [*gpu_nodes[start:], *gpu_nodes[:start]] if fault.target in gpu_nodes else [fault.target]
    taken = {other.host for other in batch} - {"operator", "services"}
    for host in choices:
        candidate = Placed(fault, host)
        if host not in taken and not any(_collide(candidate, other) for other in batch):
            return candidate
    return None


def _cuts_off(fault: Fault) -> bool:
    return any(expect.check == "*" for expect in fault.expects)


def _collide(one: Placed, other: Placed) -> bool:
    """Whether a red finding that one of them must cause could be taken for the work of the other."""
    return any(_could_be_both(must, a.host, may, b.host)
               for a, b in ((one, other), (other, one))
               for must in a.fault.expects if must.required for may in b.fault.expects)


def _could_be_both(a: Expect, a_host: str, b: Expect, b_host: str) -> bool:
    patterns = ((a.check, b.check), (a.subject.replace("{host}", a_host), b.subject.replace("{host}", b_host)))
    return all(fnmatchcase(x, y) or fnmatchcase(y, x) for x, y in patterns)


def judge(batch: Sequence[Placed], reds: Iterable[Red], errors: dict[str, str]) -> tuple[list[Outcome], list[Red]]:
    """What each fault of the batch led to, and the reds that none of them announced."""
    remaining = sorted(set(reds))
    outcomes = []
    for placed in batch:
        found = [red for red in remaining if _announced(placed, red)]
        missed = tuple(
            f"{e.check}: {e.subject.replace('{host}', placed.host)}" for e in placed.fault.expects
            if e.required and not any(e.covers(*red, placed.host) for red in found)
        )
        outcomes.append(Outcome(placed, tuple(found), missed, errors.get(placed.fault.name, "")))
    strangers = [red for red in remaining if not any(_announced(placed, red) for placed in batch)]
    return outcomes, strangers


def _announced(placed: Placed, red: Red) -> bool:
    return any(expect.covers(*red, placed.host) for expect in placed.fault.expects)


def read_reds(run: Path) -> list[Red]:
    """Every (check, subject) of a run folder that is not PASS. Raises LabError when the run judged nothing."""
    lines = [json.loads(line) for line in (run / "findings.jsonl").read_text().splitlines()]
    if not lines:
        raise LabError(f"{run}: no check was judged")
    reds: list[Red] = []
    for line in lines:
        if line["verdict"] != "PASS":
            subjects = [f["subject"] for f in line["findings"] if f["verdict"] != "PASS"] or [line["subject"]]
            reds += [(line["check"], subject) for subject in subjects]
    return reds


def run_gates(lab: Lab, folder: Path, marks: str, refusal: str = "", only: str = "") -> list[Red]:
    """One run of the gates on the operator's host; the reds of its run folder, or the refusal that was announced."""
    shutil.rmtree(folder, ignore_errors=True)
    site = site_override(lab) / "site.yaml"
    override = ["--site", str(site)] if site.exists() else []
    command = [sys.executable, "-m", "pytest", "-q", "-m", marks, "-k", only, "--report-dir", str(folder),
               *override]
    done = lab.ops.run(command, check=False, timeout=RUN_S.get(marks, 300) * lab.site.contract.ssh.deadline_factor)
    if refusal and done.returncode == 4:
        return [("exit code 4", line) for line in (done.stdout + done.stderr).splitlines() if refusal in line]
    runs = sorted(path.parent for path in folder.glob("*/findings.jsonl") if not path.parent.is_symlink())
    if not runs:
        raise LabError(f"{folder}: the run left no findings; run it by hand: python -m lab run pytest -m '{marks}'")
    return read_reds(runs[-1])


def prove_batch(lab: Lab, batch: Sequence[Placed], folder: Path, only: str = "") -> tuple[list[Outcome], list[Red]]:
    """Inject, run, clear, judge."""
    errors: dict[str, str] = {}
    reds: list[Red] = []

    def each(act: Callable[[Lab, Fault, str], None], what: str, places: Iterable[Placed]) -> None:
        def one(placed: Placed) -> None:
            try:
                act(lab, placed.fault, placed.host)
            except Exception as error:
                errors[placed.fault.name] = f"{what}: {error}"

        with ThreadPoolExecutor(AT_ONCE.get(batch[0].fault.phases, 1)) as pool:
            list(pool.map(one, places))

    try:
        each(active.inject, "not injected", batch)
        reds = run_gates(lab, folder, batch[0].fault.phases, batch[0].fault.refusal, only)
    finally:
        each(active.clear, "not cleared", reversed(batch))
    return judge(batch, reds, errors)


@dataclass(frozen=True)
class Proof:
    """All outcomes; reds that nobody announced, by batch; reds of the healthy lab before and after."""

    outcomes: list[Outcome]
    strangers: list[tuple[int, Red]]
    healthy: list[Red]

    @property
    def complete(self) -> bool:
        """Every fault proven, and nothing red that should not be."""
        return all(o.proven for o in self.outcomes) and not self.strangers and not self.healthy

    def table(self) -> str:
        """The proof as a Markdown table."""
        lines = ["# Fault × check", "", "| fault | on | checks that turned red | proven |", "|---|---|---|---|"]
        for o in self.outcomes:
            proven = "yes" if o.proven else o.problem
            lines.append(f"| {o.placed.fault.name} | {o.placed.host} | {o.checks} | {proven} |")
        lines += ["", f"{sum(o.proven for o in self.outcomes)} of {len(self.outcomes)} faults proven."]
        lines += [f"Unannounced red in batch {n}: {check}: {subject}" for n, (check, subject) in self.strangers]
        lines += [f"Red on the healthy lab: {check}: {subject}" for check, subject in self.healthy]
        return "\n".join(lines) + "\n"


def prove(lab: Lab, faults: Sequence[Fault], only: str = "") -> Proof:
    """Inject every fault, in batches; prints one line a batch and writes reports/prove/prove.md.

    `only` narrows the runs to some checks, as pytest's -k: for trying a fault, it proves nothing of the others.
    """
    batches = plan(faults, lab.gpu_nodes)
    marks = list(dict.fromkeys(batch[0].fault.phases for batch in batches))
    folder = ROOT / "reports" / "prove"
    healthy = [red for number, one in enumerate(marks, 1)
               for red in run_gates(lab, folder / f"healthy-before-{number}", one, only=only)]
    outcomes: list[Outcome] = []
    strangers: list[tuple[int, Red]] = []
    started = time.monotonic()
    for number, batch in enumerate(batches, 1):
        results, extra = prove_batch(lab, batch, folder / f"batch-{number:02}", only)
        outcomes += results
        strangers += [(number, red) for red in extra]
        left = (time.monotonic() - started) / number * (len(batches) - number)
        state = "as announced" if all(o.proven for o in results) and not extra else "NOT as announced"
        names = ", ".join(p.fault.name for p in batch)
        print(f"batch {number}/{len(batches)}, {left:.0f} s left: {state}: {names}", flush=True)
        for line in [*(f"{o.placed.fault.name}: {o.problem}" for o in results if not o.proven),
                     *(f"unannounced: {check}: {subject}" for check, subject in extra)]:
            print(f"  {line}", flush=True)
    for number, one in enumerate(marks, 1):
        healthy += run_gates(lab, folder / f"healthy-after-{number}", one, only=only)
    proof = Proof(outcomes, strangers, healthy)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prove.md").write_text(proof.table())
    return proof


def provable(lab: Lab) -> list[Fault]:
    """The faults whose layer is deployed; says which are left out."""
    if (lab.home / "operator" / "admin.conf").exists():
        return list(FAULTS.values())
    found = [fault for fault in FAULTS.values() if fault.phases not in ON_CLUSTER]
    print(f"no Kubernetes is deployed: {len(FAULTS) - len(found)} faults of the cluster are left out", flush=True)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Prove the named faults, or all of them whose layer is deployed."""
    parser = argparse.ArgumentParser(prog="python -m lab.prove", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults to prove; all if left out")
    parser.add_argument("-k", dest="only", default="", metavar="EXPRESSION",
                        help="run these checks only, as pytest's -k: for trying a fault")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in FAULTS]
    if unknown:
        print(f"no fault is called {unknown[0]}; see `python -m lab fault list`", file=sys.stderr)
        return 4
    lab = Lab.open()
    proof = prove(lab, [FAULTS[name] for name in options.names] or provable(lab), options.only)
    print(proof.table())
    return 0 if proof.complete else 1


if __name__ == "__main__":
    sys.exit(main())
