"""Booting one host: namespaces, an overlay on the root file system, simulated hardware, and systemd as PID 1."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from acceptance.site.inventory import Host
from lab import cgroup, network, workload_files
from lab.detached import start_detached
from lab.hardware import simulated_tree

DEVICES = "null zero full random urandom tty"


def folder(home: Path, name: str) -> Path:
    """Where a host's layers and process id are kept."""
    return home / "hosts" / name


def boot(home: Path, rootfs: Path, host: Host, index: int, hosts_file: str, key: str) -> None:
    """Lay the host out and start its systemd; returns at once, without waiting for it to be up."""
    base = folder(home, host.name)
    shutil.rmtree(base, ignore_errors=True)
    for name in ("up", "work", "root", "sys-lower", "sys-work", "containerd", "kubelet"):
        (base / name).mkdir(parents=True)
    simulated_tree(host.name, host.address, index, base / "hardware")
    _personalise(base / "up", host, hosts_file, key)
    for state in ("gpu", "fabric"):
        if (base / "hardware" / f"{state}-state").is_dir():
            shutil.copytree(base / "hardware" / f"{state}-state", base / "up/var/lib" / f"lab-{state}")
    (base / "inner").write_text(_inner(base, rootfs, host.name))
    cgroup.create(host.name)
    start_detached(
        ["nsenter", f"--net=/run/netns/{network.namespace(host.name)}", "unshare", "-C", "-m", "-u", "-p", "-i", "-f",
         "--kill-child", "sh", str(base / "inner")],
        group=host.name, pid_file=base / "pid", log=base / "console.log",
        environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def _personalise(upper: Path, host: Host, hosts_file: str, key: str) -> None:
    def write(path: str, text: str, mode: int = 0o644) -> None:
        file = upper / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    write("etc/hostname", host.name + "\n")
    write("etc/hosts", hosts_file)
    # with an identity it is not a first boot, which would enable every unit that is installed
    write("etc/machine-id", hashlib.md5(host.name.encode(), usedforsecurity=False).hexdigest() + "\n")
    write("etc/resolv.conf", f"nameserver {network.SERVICES[1]}\n")
    # without the right to set the clock chronyd still measures it, but its unit would not start
    write("etc/systemd/system/chrony.service.d/lab.conf", "[Unit]\nConditionCapability=\n")
    write("etc/default/chrony", 'DAEMON_OPTS="-F 1 -x"\n')
    if "gpu_nodes" in host.groups:
        for name, text in workload_files.files().items():
            write(f"{workload_files.FOLDER.lstrip('/')}/{name}", text)
    write("home/admin/.ssh/authorized_keys", key, 0o600)
    for path in (upper / "home/admin", upper / "home/admin/.ssh", upper / "home/admin/.ssh/authorized_keys"):
        os.chown(path, 1000, 1000)
    (upper / "home/admin/.ssh").chmod(0o700)
    ssh = upper / "etc/ssh"
    ssh.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f",
                    str(ssh / "ssh_host_ed25519_key")], check=True)


def _inner(base: Path, rootfs: Path, name: str) -> str:
    proc = base / "hardware" / "proc"
    inside = (path.relative_to(proc) for path in proc.rglob("*") if path.is_file())
    files = sorted(path for path in inside if (Path("/proc") / path).exists())  # a kernel may lack some
    binds = "\n".join(f"mount --bind {proc}/{path} proc/{path}" for path in files)
    if cgroup.unified():
        groups = "mount -t cgroup2 cgroup2 sys/fs/cgroup"
    else:
        each = "\n".join(f"mkdir -p sys/fs/cgroup/{c}; mount -t cgroup -o {c} cgroup sys/fs/cgroup/{c}"
                         for c in cgroup.controllers())
        groups = (f"mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup\n{each}\nmkdir -p sys/fs/cgroup/systemd\n"
                  "mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd")
    return f"""set -e
mount --make-rprivate /
mount -t overlay overlay -o lowerdir={rootfs},upperdir={base}/up,workdir={base}/work {base}/root
mount -t sysfs sysfs {base}/sys-lower
cd {base}/root
mount -t proc proc proc
mount -t overlay overlay -o lowerdir={base}/sys-lower,upperdir={base}/hardware/sys,workdir={base}/sys-work sys
{binds}
{groups}
mount -t tmpfs -o mode=755 tmpfs dev
mkdir -p dev/pts dev/shm dev/mqueue
mount -t tmpfs -o mode=1777 tmpfs dev/shm
for d in {DEVICES}; do touch dev/$d; mount --bind /dev/$d dev/$d; done
# journald would write to it like to the real one; faults change it under its other name
touch dev/kmsg; mount --bind {base}/hardware/kmsg dev/kmsg; mount -o remount,bind,ro dev/kmsg
mkdir -p var/lib/lab-kernel; touch var/lib/lab-kernel/kmsg
mount --bind {base}/hardware/kmsg var/lib/lab-kernel/kmsg
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd; ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout; ln -s /proc/self/fd/2 dev/stderr
mount -t tmpfs -o mode=755 tmpfs run; mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p var/lib/containerd var/lib/kubelet
mount --bind {base}/containerd var/lib/containerd; mount --bind {base}/kubelet var/lib/kubelet
hostname {name}; export container=lab
mkdir -p .old; pivot_root . .old; umount -l /.old; mount --make-rshared /
exec setpriv --bounding-set=-sys_time --inh-caps=-sys_time /lib/systemd/systemd --system --log-target=console
"""
