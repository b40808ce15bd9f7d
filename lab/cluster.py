"""Bringing the lab up and taking it down: every step idempotent, one at a time, nothing left behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from acceptance.site.load import load_site
from lab import boot, cgroup, directory, images, kubernetes_packages, network, packages, programs, services
from lab.errors import LabError
from lab.faults import active
from lab.hosts import SITE, Lab, LabHost, home
from lab.rootfs import cache_folder, kept, root_file_system

MACHINE_PACKAGES = (
    "mmdebstrap", "slapd", "ldap-utils", "chrony", "nftables", "iproute2", "iputils-ping", "openssh-client", "openssl",
    "gcc", "libc6-dev", "dpkg-dev", "util-linux", "sshpass", "busybox-static", "dnsmasq-base",
)


@dataclass(frozen=True)
class Step:
    """One step of `up`: what it says, about how long it takes, and what it does."""

    text: str
    about_s: float
    act: Callable[[], None]


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    home().mkdir(parents=True, exist_ok=True)
    with (home() / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LabError("another `python -m lab up` or `down` is running; wait for it to end") from None
        yield


def up() -> int:
    """Bring up what is not up yet."""
    with _locked():
        lab = Lab(load_site(SITE))
        if _running(lab):
            print("lab: already up")
            return 0
        if cgroup.processes() or network.namespaces():
            print("lab: an earlier start was cut short; clearing what it left")
        _clear()
        steps = [
            Step("installing what the machine lacks", 1, lambda: install(MACHINE_PACKAGES)),
            Step("Debian root file system (cached once made)", 1 if kept().exists() else 90,
                 lambda: void(root_file_system())),
            Step("Kubernetes and other Go programs (cached once built)", programs.about_s(), programs.build_all),
            Step("packages of driver, fabric tools and Kubernetes", 3, lambda: _packages(lab)),
            Step("container images (cached once made)", 2 if images.made() else 25, _images),
            Step("network", 1, lambda: network.build([(h.name, h.address) for h in lab.site.hosts],
                                                     lab.site.contract)),
            Step("operator's key and names", 1, lambda: _operator(lab)),
            Step("directory, time server, package mirror", 2, _services),
            Step(f"booting {len(lab.nodes)} hosts", 3, lambda: _boot(lab)),
            Step("waiting until they run", 8, lambda: _await(lab)),
        ]
        _carry_out(steps)
        _complete().touch()
        print("lab: up; next: make deploy")
    return 0


def void(_: object) -> None:
    """Drop a result."""


def _carry_out(steps: list[Step]) -> None:
    for number, step in enumerate(steps):
        left = sum(later.about_s for later in steps[number:])
        print(f"lab: [{number + 1}/{len(steps)}] {step.text} (about {left:.0f} s left)", flush=True)
        started = time.monotonic()
        step.act()
        took = time.monotonic() - started
        if took > 2 * step.about_s + 1:
            print(f"lab:       took {took:.0f} s", flush=True)


def down() -> int:
    """End and remove everything of the lab, also what a killed `up` left."""
    with _locked():
        _clear()
        print("lab: down; nothing is left")
    return 0


def _clear() -> None:
    _complete().unlink(missing_ok=True)
    if not cgroup.kill_all():
        raise LabError(f"processes {sorted(cgroup.processes())} cannot be killed; look at them, then run down again")
    cgroup.remove()
    network.remove()
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{home()}/")), key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], check=False)
    for name in ("hosts", "services", "operator", "faults"):
        shutil.rmtree(home() / name, ignore_errors=True)


def status() -> int:
    """Print every host's state; 0 when all are running. Raises LabError when the lab is not up."""
    lab = Lab.open()
    worst = 0
    for host in lab.site.hosts:
        place = lab.host(host.name)
        state = place.run(["systemctl", "is-system-running"], check=False).stdout.strip()
        print(f"{host.name:14} {host.address:14} pid {place.pid():<8} {state}")
        worst |= state != "running"
    for fault, target in active.active():
        print(f"fault {fault} is injected on {target}")
    return worst


def _complete() -> Path:
    return home() / "complete"


def _running(lab: Lab) -> bool:
    return _complete().exists() and all(lab.host(name).pid() is not None for name in lab.nodes)


def install(packages: Iterable[str]) -> None:
    """Install the Debian packages that the machine lacks, without starting their daemons. Raises LabError."""
    installed = subprocess.run(["dpkg-query", "-W", "-f=${Package} ${Status}\n"], capture_output=True, text=True,
                               check=True).stdout
    missing = [name for name in packages if f"{name} install ok installed" not in installed]
    if missing:
        policy = Path("/usr/sbin/policy-rc.d")
        foreign = policy.exists()
        if not foreign:  # the machine's own daemons are not wanted, only their programs
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        try:
            for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
                done = subprocess.run(["apt-get", *words], env=environment, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise LabError(f"apt-get {words[0]}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
        finally:
            if not foreign:
                policy.unlink()


def _services() -> None:
    services.start_time_and_packages()
    directory.start()


def _packages(lab: Lab) -> None:
    wanted = lab.site.contract.kubernetes.version
    if wanted != programs.KUBERNETES:
        raise LabError(f"the contract wants Kubernetes {wanted}, lab/programs.py builds {programs.KUBERNETES}")
    folders = [packages.tool_packages(cache_folder()), kubernetes_packages.packages(cache_folder())]
    packages.build_repository(services.folder() / "apt", folders)


def _images() -> None:
    url = f"http://{network.MIRROR}/images"
    entries = images.publish(root_file_system(), cache_folder(), services.folder() / "apt/images", url)
    # for `ansible-playbook -e @FILE`: the digests are known only here
    file = home() / "operator" / "images.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"image_archives_wanted": entries}, indent=1) + "\n")


def _operator(lab: Lab) -> None:
    folder = home() / "operator"
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "id_ed25519"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", str(key)], check=True)
    (folder / "hosts").write_text(hosts_file(lab))
    (folder / "resolv.conf").write_text("# no name server: names come from /etc/hosts\n")


def hosts_file(lab: Lab) -> str:
    """/etc/hosts of everyone in the lab."""
    lines = ["127.0.0.1 localhost", *(f"{host.address} {host.name}" for host in lab.site.hosts),
             f"{network.SERVICES[1]} {' '.join(network.SERVICE_NAMES)}"]
    return "\n".join(lines) + "\n"


def _boot(lab: Lab) -> None:
    Path("/proc/sys/fs/inotify/max_user_instances").write_text("8192")  # nine hosts exhaust the usual 128
    rootfs, text = root_file_system(), hosts_file(lab)
    key = (home() / "operator" / "id_ed25519.pub").read_text()
    for index, host in enumerate(lab.site.hosts):
        boot.boot(home(), rootfs, host, index, text, key)
    lines = []
    for host in lab.site.hosts:
        public = boot.folder(home(), host.name) / "up/etc/ssh/ssh_host_ed25519_key.pub"
        kind, blob, *_ = public.read_text().split()
        lines.append(f"{host.address},{host.name} {kind} {blob}\n")
    (home() / "operator" / "known_hosts").write_text("".join(lines))


def _await(lab: Lab, deadline_s: float = 90) -> None:
    def ready(host: LabHost) -> str:
        until = time.monotonic() + deadline_s
        state = "no systemd"
        while time.monotonic() < until:
            if host.pid() is not None:
                done = host.run(["systemctl", "is-system-running"], check=False)
                state = done.stdout.strip() or done.stderr.strip()
                if state == "running":
                    return ""
            time.sleep(0.2)
        if host.pid() is None:
            return f"{host.name} is {state}"
        failed = host.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"], check=False).stdout
        units = ", ".join(line.split()[0] for line in failed.splitlines() if line.split())
        return f"{host.name} is {state}" + (f" (failed: {units})" if units else "")

    deadline_s *= lab.site.contract.ssh.deadline_factor
    with ThreadPoolExecutor(len(lab.nodes)) as pool:
        problems = [text for text in pool.map(ready, [lab.host(name) for name in lab.nodes]) if text]
    if problems:
        raise LabError(f"after {deadline_s:g} s: {'; '.join(problems)}; see {home()}/hosts/HOST/console.log")
    sys.stdout.flush()
