"""The one root file system that every host of the lab lies over: Debian 12, made by mmdebstrap, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from lab.errors import LabError

PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "python3", "python3-apt", "iproute2", "iputils-ping",
    "iperf3", "ethtool", "pciutils", "nftables", "iptables", "ufw", "chrony", "containerd", "runc",
    "containernetworking-plugins", "conntrack", "prometheus-node-exporter", "procps", "kmod", "curl", "rdma-core",
    "perftest", "libfaketime", "ca-certificates", "netbase", "libpam-modules",
    "python3-torch",  # 1.1 GB with what it needs; pods of workloads mount it, no image holds it
)
MASKED = (
    "systemd-logind.service", "systemd-udevd.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket",
    "systemd-udev-trigger.service", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer",
    "dpkg-db-backup.timer", "logrotate.timer", "man-db.timer", "systemd-timesyncd.service", "getty@.service",
    "console-getty.service", "prometheus-node-exporter-apt.timer", "prometheus-node-exporter-nvme.timer",
    "prometheus-node-exporter-mellanox-hca-temp.timer", "prometheus-node-exporter-smartmon.timer",
    "prometheus-node-exporter-ipmitool-sensor.timer", "systemd-modules-load.service", "e2scrub_reap.service",
    "iperf3.service", "chrony-wait.service", "rdma-load-modules@.service", "rdma-ndd.service",
)
DISABLED = ("chrony.service", "prometheus-node-exporter.service", "ufw.service")


def cache_folder() -> Path:
    """Where built things are kept, outside the checkout: ACCEPTANCE_CACHE or ~/.cache/gpu-cluster-acceptance."""
    return Path(os.environ.get("ACCEPTANCE_CACHE") or Path.home() / ".cache" / "gpu-cluster-acceptance")


def recipe() -> str:
    """What the root file system depends on, as a short digest: another recipe is another folder."""
    text = "\n".join([*PACKAGES, *MASKED, *DISABLED, Path(__file__).read_text()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def kept() -> Path:
    """Where the root file system of this recipe is, once it is made."""
    return cache_folder() / f"rootfs-{recipe()}"


def root_file_system() -> Path:
    """The folder of the root file system, made if it is not there yet (about 90 s). Raises LabError."""
    folder = kept()
    if not (folder / "etc" / "debian_version").exists():
        debian(folder, PACKAGES)
    return folder


def debian(folder: Path, packages: Iterable[str]) -> None:
    """Make a root file system of Debian 12 with these packages, as servers are delivered. Raises LabError."""
    making = folder.with_name(folder.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    sources = next(
        (str(p) for p in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")) if p.exists()),
        "/etc/apt/sources.list")
    command = ["mmdebstrap", "--variant=minbase", "--mode=root", "--quiet", f"--include={','.join(packages)}",
               "bookworm", str(making), sources]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise LabError("mmdebstrap failed: " + " ".join(done.stdout.strip().splitlines()[-1:]))
    _prepare(making)
    making.rename(folder)


def _prepare(root: Path) -> None:
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    for unit in DISABLED:
        for link in units.glob(f"*.wants/{unit}"):
            link.unlink()
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for path in ("etc/machine-id", "etc/hostname", "etc/apt/sources.list"):
        (root / path).unlink(missing_ok=True)
    shutil.rmtree(root / "etc/apt/sources.list.d", ignore_errors=True)
    (root / "etc/apt/sources.list.d").mkdir()
    (root / "etc/apt/sources.list.d/site.list").write_text("deb [trusted=yes] http://apt.lab.internal/ ./\n")
    for lists in (root / "var/lib/apt/lists").glob("*_*"):
        lists.unlink()
    _admin(root)


def _admin(root: Path) -> None:
    def chroot(*words: str, text: str | None = None) -> None:
        subprocess.run(["chroot", str(root), *words], input=text, text=True, check=True, stdout=subprocess.DEVNULL)

    chroot("useradd", "-m", "-s", "/bin/bash", "admin")
    chroot("chpasswd", text="admin:admin\n")
    sudoers = root / "etc/sudoers.d/admin"
    sudoers.write_text("admin ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    config = root / "etc/ssh/sshd_config.d/50-delivered.conf"
    config.write_text("PasswordAuthentication yes\nPermitRootLogin yes\n")
    chrony = root / "etc/chrony/chrony.conf"
    chrony.write_text("# as delivered: no time server is configured\ndriftfile /var/lib/chrony/chrony.drift\n")
