"""What an emulated machine starts from: Debian's kernel, an initramfs, a disk with Debian, one with the checkout."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from lab import images, kubernetes_packages, packages, programs
from lab.cluster import MACHINE_PACKAGES, install
from lab.errors import LabError
from lab.hosts import ROOT
from lab.rootfs import PACKAGES, cache_folder, debian, root_file_system

NEEDED = ("qemu-system-x86", "busybox-static", "cpio", "kmod", "e2fsprogs", "mmdebstrap")
INSIDE = (*PACKAGES, *(name for name in MACHINE_PACKAGES if name not in PACKAGES), "ibverbs-utils", "make", "git")
BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")
LEFT_OUT = ("kernel/drivers/gpu", "kernel/drivers/media", "kernel/sound", "kernel/drivers/net/wireless",
            "kernel/drivers/staging", "kernel/drivers/iio", "kernel/drivers/usb")
BASE_GIB, RESULT_MIB = 8, 256
_JOB_UNIT = f"""[Unit]
Description=what this machine was started for
After=multi-user.target
[Service]
Type=oneshot
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'mkdir -p {ROOT} && mount /dev/vdb {ROOT} && cd {ROOT} && sh .vm/job; poweroff -f'
[Install]
WantedBy=default.target
"""
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox mount -t devtmpfs dev /dev
for module in MODULES; do /bin/busybox insmod /modules/$module || echo "initramfs: $module does not load"; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /lib/systemd/systemd
"""


def _run(*words: str, cwd: Path | None = None, stdin: bytes | None = None) -> bytes:
    done = subprocess.run(words, cwd=cwd, input=stdin, capture_output=True, check=False)
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip() or "failed").splitlines()[-1]
        raise LabError(f"{words[0]}: {last}")
    return done.stdout


def _made() -> list[Path]:
    """What `up` makes once and keeps, made here, where it takes a tenth of the time. Raises LabError."""
    cache, rootfs = cache_folder(), root_file_system()
    programs.build_all()
    return [rootfs, packages.tool_packages(cache), kubernetes_packages.packages(cache),
            *(folder for _, folder in images.folders(rootfs, cache)),
            *(programs.PROGRAMS[name].built for name in programs.LAB)]


def folder(made: list[Path]) -> Path:
    """Where kernel and base disk are kept, by recipe."""
    text = "\n".join([*INSIDE, *(path.name for path in made), Path(__file__).read_text()])
    return cache_folder() / f"vm-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def prepare() -> Path:
    """Kernel, initramfs and base disk, made where they are not there yet (about 4 minutes). Raises LabError."""
    install((*MACHINE_PACKAGES, *NEEDED))
    made = _made()
    place = folder(made)
    if (place / "complete").exists():
        return place
    for old in cache_folder().glob("vm-*"):
        shutil.rmtree(old)
    place.mkdir(parents=True)
    _kernel(place)
    _base(place, made)
    (place / "complete").touch()
    return place


def _kernel(place: Path) -> None:
    print("vm: Debian's kernel", flush=True)
    depends = _run("apt-cache", "depends", "linux-image-amd64").decode()
    name = next((line.split()[1] for line in depends.splitlines() if "Depends: linux-image" in line), "")
    if not name:
        raise LabError("apt knows no linux-image-amd64; run `apt-get update`")
    _run("apt-get", "download", name, cwd=place)
    [package] = place.glob("linux-image-*.deb")
    _run("dpkg-deb", "-x", str(package), str(place / "kernel"))
    package.unlink()
    [image] = (place / "kernel/boot").glob("vmlinuz-*")
    shutil.copy(image, place / "vmlinuz")
    _run("depmod", "-b", str(place / "kernel"), image.name.removeprefix("vmlinuz-"))
    _initramfs(place)


def _modules(place: Path) -> Path:
    [modules] = (place / "kernel/lib/modules").iterdir()
    return modules


def _initramfs(place: Path) -> None:
    modules = _modules(place)
    needs = {line.split(":")[0]: line.split(":")[1].split() for line in
             (modules / "modules.dep").read_text().splitlines()}
    by_name = {Path(path).name.removesuffix(".ko"): path for path in needs}
    order: list[str] = []
    for name in BOOT_MODULES:
        if name in by_name:  # else it is built in
            order += [path for path in (*reversed(needs[by_name[name]]), by_name[name]) if path not in order]
    tree = place / "initramfs"
    for path in ("bin", "modules"):
        (tree / path).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for path in order:
        shutil.copy(modules / path, tree / "modules" / Path(path).name)
    init = tree / "init"
    init.write_text(_INIT.replace("MODULES", " ".join(Path(path).name for path in order)))
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*"))).encode()
    archive = _run("cpio", "-o", "-H", "newc", "--quiet", cwd=tree, stdin=names)
    (place / "initrd.gz").write_bytes(gzip.compress(archive, 6))
    shutil.rmtree(tree)


def _base(place: Path, made: list[Path]) -> None:
    print("vm: disk with Debian and what the lab needs (about 3 minutes)", flush=True)
    tree = place / "debian"
    debian(tree, INSIDE)
    modules = _modules(place)
    for path in LEFT_OUT:
        shutil.rmtree(modules / path, ignore_errors=True)
    _run("cp", "-a", str(modules.parent), str(tree / "usr/lib"))
    _run("depmod", "-b", str(tree), modules.name)
    cache = tree / "root/.cache/gpu-cluster-acceptance"
    for source in made:
        inside = cache / source.relative_to(cache_folder())
        inside.parent.mkdir(parents=True, exist_ok=True)
        _run("cp", "-a", str(source), str(inside))
    (tree / "etc/systemd/system/job.service").write_text(_JOB_UNIT)
    wants = tree / "etc/systemd/system/default.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "job.service").symlink_to("../job.service")
    for unit in ("containerd.service", "slapd.service", "serial-getty@ttyS0.service", "nftables.service"):
        (tree / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (tree / "etc/hostname").write_text("machine\n")
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    (tree / "etc/resolv.conf").write_text("# no name server\n")
    (tree / "etc/machine-id").write_text("0" * 31 + "1\n")
    disk(tree, place / "base.img", BASE_GIB << 30)
    shutil.rmtree(tree)
    shutil.rmtree(place / "kernel")


def disk(tree: Path, image: Path, size: int) -> None:
    """An ext4 disk image with the files of a folder."""
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), "-E", "root_owner=0:0", str(image))


def checkout(work: Path, jobs: dict[str, str]) -> Path:
    """A disk image with this checkout, its Python environment and the files of `jobs` under .vm/. Raises LabError."""
    tree = work / "checkout"
    for name in _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).decode().split(
            "\0")[:-1]:
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    _environment(tree / ".venv")
    for name, text in jobs.items():
        path = tree / ".vm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600 if "key" in name else 0o755)
    disk(tree, work / "checkout.img", 2 << 30)
    shutil.rmtree(tree)
    return work / "checkout.img"


def _environment(target: Path) -> None:
    source = ROOT / ".venv"
    version = next((path.name for path in (source / "lib").glob("python3.*")), "none")
    if version != "python3.11":
        raise LabError(f"{source}: expected the Python environment to be of 3.11, as Debian 12 has it; found {version}")
    skipped = ("mypy", "mypyc", "ruff*", "ansible_lint*", "ansiblelint*", "pip", "__pycache__", "cpython-*")
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*skipped))
    for name in ("python", "python3", "python3.11"):
        (target / "bin" / name).unlink(missing_ok=True)
        os.symlink("/usr/bin/python3.11", target / "bin" / name)
    (target / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n")
