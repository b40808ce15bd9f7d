"""`python -m bench [--repeats N] [--slow-repeats N] [--out DIR]`: on the operator's host, as `make bench` runs it.

Reads all facts of the GPU nodes with this suite, with `ansible -m setup` and with pytest-testinfra, each as a process
of its own with the contract's key, in turns; then `pytest --collect-only`. Writes bench.md and bench.json. What is
slower than promised is told, and is no failure; a program that fails, or other facts than this suite's, is one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from acceptance.errors import AcceptanceError, WrongUse
from acceptance.site.load import Site, find_site_file, load_site
from bench.measure import BenchError, Sample, Series, Target, measure, missing_facts, table

BIN = Path(sys.executable).parent
READING = Path(__file__).with_name("testinfra_facts.py")
OWN, ANSIBLE, PIPELINED = "this suite: all facts", "ansible -m setup, forks 8", "the same, pipelining on"
TESTINFRA, SHARED = "pytest-testinfra, ssh backend, as shipped", "the same, sharing connections (ControlPath)"
COLLECT = "pytest --collect-only"


class Bench:
    """One comparison on one site; every run gets a scratch folder of its own."""

    def __init__(self, site: Site, scratch: Path) -> None:
        self.site, self.scratch = site, scratch
        self.hosts = site.group("gpu_nodes")
        self.ssh = site.contract.ssh
        self.runs = 0
        self.own_facts: dict[str, dict[str, list[str]]] = {}
        self.commands = 0

    def folder(self) -> Path:
        self.runs += 1
        path = self.scratch / str(self.runs)
        path.mkdir()
        return path

    def own(self) -> Sample:
        out = self.folder()
        sample = measure([sys.executable, "-m", "bench.own_facts", str(out)], out / "log")
        self.own_facts = json.loads((out / "facts.json").read_text(encoding="utf-8"))
        return sample

    def ansible(self, pipelining: bool) -> Sample:
        """With a control path of its own: no connection is left over from an earlier run."""
        out = self.folder()
        (out / "ansible.cfg").write_text("")
        inventory = out / "hosts"
        inventory.write_text("".join(f"{host.name} ansible_host={host.address}\n" for host in self.hosts))
        sample = measure(
            [str(BIN / "ansible"), "all", "-i", str(inventory), "-m", "setup", "-f", "8", "-u", self.ssh.user,
             "--private-key", os.path.expanduser(self.ssh.private_key),
             "--ssh-common-args=" + " ".join(f"-o {option}" for option in self.options())],
            out / "log", {"ANSIBLE_CONFIG": f"{out}/ansible.cfg", "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{out}/cp",
                          "ANSIBLE_HOME": f"{out}/home", "ANSIBLE_PIPELINING": str(pipelining), "ANSIBLE_NOCOLOR": "1"})
        answered = (out / "log").read_text(encoding="utf-8").count(" | SUCCESS => ")
        if answered != len(self.hosts):
            raise BenchError(f"ansible: {answered} hosts answered, expected {len(self.hosts)}; see {out / 'log'}")
        return sample

    def testinfra(self, shared: bool) -> Sample:
        """The same facts as this suite reads, or it is no comparison."""
        out = self.folder()
        lines = ["Host *", f"  User {self.ssh.user}", *(f"  {o.replace('=', ' ', 1)}" for o in self.options())]
        lines += [f"  ControlPath {out}/%C"] if shared else []
        (out / "ssh_config").write_text("\n".join(lines) + "\n")
        contract = self.site.contract
        names = [*(host.name for host in self.hosts), *contract.time.servers]
        sample = measure(
            [sys.executable, "-m", "pytest", str(READING), "-q", "-c", os.devnull, "--rootdir", str(out),
             "-p", "no:acceptance", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--connection=ssh",
             "--hosts=" + ",".join(host.address for host in self.hosts), f"--ssh-config={out}/ssh_config",
             f"--ssh-identity-file={os.path.expanduser(self.ssh.private_key)}"],
            out / "log", {"BENCH_OUT": f"{out}/read", "BENCH_NAMES": ",".join(names),
                          "BENCH_UNITS": ",".join(contract.services.of(self.hosts[0].groups))})
        self.compare(out / "read")
        return sample

    def compare(self, read: Path) -> None:
        """Raises BenchError unless every host told testinfra the facts that it told this suite."""
        found: dict[str, dict[str, list[str]]] = {}
        for line in read.read_text(encoding="utf-8").splitlines():
            address, section, names = json.loads(line)
            found.setdefault(address, {})[section] = names
        for host in self.hosts:
            missing = missing_facts(self.own_facts[host.name], found.get(host.address, {}))
            if missing:
                raise BenchError(f"{host.name}: not the same facts were read: {', '.join(missing)}")

    def collect_only(self) -> Sample:
        out = self.folder()
        return measure([str(BIN / "pytest"), "--collect-only", "-q"], out / "log")

    def options(self) -> list[str]:
        known = os.path.expanduser(self.ssh.known_hosts)
        return ["BatchMode=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={known}", "LogLevel=ERROR"]


def run(bench: Bench, repeats: int, slow: int) -> list[Series]:
    """All series, quick ones in turns, so that a busy moment of the machine hits all of them."""
    what: dict[str, tuple[Callable[[], Sample], int]] = {
        OWN: (bench.own, repeats), ANSIBLE: (lambda: bench.ansible(False), repeats),
        PIPELINED: (lambda: bench.ansible(True), repeats), COLLECT: (bench.collect_only, repeats),
        TESTINFRA: (lambda: bench.testinfra(False), slow), SHARED: (lambda: bench.testinfra(True), slow),
    }
    series = {name: Series(name) for name in (OWN, ANSIBLE, PIPELINED, TESTINFRA, SHARED, COLLECT)}
    for turn in range(max(repeats, slow)):
        for name, (once, times) in what.items():
            if turn < times:
                sample = once()
                series[name].samples.append(sample)
                print(f"{turn + 1}/{times} {name}: {sample.seconds:.2f} s", flush=True)
    return list(series.values())


def targets(series: list[Series]) -> list[Target]:
    """What issue and README promise."""
    median = {one.name: one.median_s for one in series}
    return [
        Target("against pytest-testinfra as shipped", median[TESTINFRA] / median[OWN], 50, True, "×"),
        Target("against ansible -m setup", median[ANSIBLE] / median[OWN], 3, True, "×"),
        Target("pytest --collect-only", median[COLLECT], 1, False, "s"),
    ]


def text(series: list[Series], bench: Bench, load: str) -> str:
    """bench.md."""
    facts = sum(len(names) for sections in bench.own_facts.values() for names in sections.values())
    tools = ", ".join(f"{name} {version(name)}" for name in ("pytest", "pytest-testinfra", "ansible-core"))
    return "\n".join([
        "# Reading all facts of the GPU nodes", "",
        f"{len(bench.hosts)} hosts, {facts} groups of facts; {os.cpu_count()} processors for operator and hosts "
        f"together, load average {load} before; Python {platform.python_version()}, {tools}. Each run is a process of "
        "its own, with new connections. pytest-testinfra reads the same facts host by host; Ansible reads fewer. Made "
        "by `make bench`.", "",
        table(series, series[0]), "", *(f"- {target.sentence()}" for target in targets(series)), "",
        "Memory peak: of the largest process. \"× this suite\" compares medians.", ""])


def main() -> int:
    """Exit code 0 when everything could be measured, 1 when a program failed, 4 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--repeats", type=int, default=7, help="of what is quick; default: 7")
    parser.add_argument("--slow-repeats", type=int, default=2, help="of pytest-testinfra; default: 2")
    parser.add_argument("--out", type=Path, default=Path("reports/bench"), help="default: reports/bench")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        if min(options.repeats, options.slow_repeats) < 1:
            raise WrongUse("--repeats and --slow-repeats: expected at least 1")
        bench = Bench(load_site(find_site_file(None, Path.cwd())), scratch)
        load = f"{os.getloadavg()[0]:.1f}"
        series = run(bench, options.repeats, options.slow_repeats)
    except (AcceptanceError, BenchError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 4 if isinstance(error, WrongUse) else 1
    report = text(series, bench, load)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.md").write_text(report, encoding="utf-8")
    (options.out / "bench.json").write_text(json.dumps(
        {one.name: [[sample.seconds, sample.peak_mib] for sample in one.samples] for one in series}, indent=1))
    print(f"\n{report}\nwritten to {options.out / 'bench.md'}")
    shutil.rmtree(scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
