"""The lab's Debian packages: the GPU driver's user-space part and the fabric's tools, and an apt repository.

Built with fixed times and owners: the same sources give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.errors import LabError

LAB = Path(__file__).parent
SOURCE_DATE_EPOCH = "1719360000"
MULTIARCH = "usr/lib/x86_64-linux-gnu"
LIBRARY = "libnvidia-ml.so.1"
BUILD_LIMIT_S = 120.0
GCC = ("gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-Wl,--build-id=none")


@dataclass(frozen=True)
class Package:
    """Control data of one package, and its maintainer scripts by name."""

    name: str
    version: str
    summary: str
    relations: tuple[str, ...]
    architecture: str = "amd64"
    scripts: dict[str, str] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version}_{self.architecture}.deb"

    def control(self) -> str:
        lines = (f"Package: {self.name}", f"Version: {self.version}", f"Architecture: {self.architecture}",
                 "Maintainer: lab <lab@localhost>", "Section: misc", "Priority: optional", *self.relations,
                 f"Description: {self.summary}")
        return "\n".join(lines) + "\n"


def driver_package(version: str, cuda: int) -> Package:
    """The driver: its NVML reports `version`, and CUDA as NVML counts it (12020 is 12.2), once it is installed."""
    state = "/var/lib/lab-gpu/state.ini"
    load = (
        "#!/bin/sh\nset -e\n"
        "ldconfig\n"
        f"if [ -e {state} ]; then\n"
        f"    sed -i -e 's/^driver_version *=.*/driver_version = {version}/' "
        f"-e 's/^cuda_version *=.*/cuda_version = {cuda}/' {state}\nfi\n"
        "if [ -d /run/systemd/system ]; then\n    systemctl daemon-reload\nfi\n"
    )
    return Package(
        f"nvidia-driver-{version.split('.')[0]}", f"{version}-0lab1", "lab stand-in for the NVIDIA driver",
        ("Depends: libc6", "Provides: nvidia-driver", "Conflicts: nvidia-driver", "Replaces: nvidia-driver"),
        scripts={"postinst": load},
    )


DRIVERS = (driver_package("535.183.06", 12020), driver_package("550.90.07", 12040))
FABRIC_TOOLS = Package(
    "lab-fabric-tools", "1.0", "lab stand-ins for ibv_devinfo, mlnx_qos and lldpcli",
    # by the names under which the playbooks ask for these programs
    ("Provides: ibverbs-utils, lldpd, mlnx-tools", "Conflicts: ibverbs-utils, lldpd, mlnx-tools"),
    architecture="all",
)


def run(command: list[str], cwd: Path | None = None) -> str:
    """Run a build step; its output. Raises LabError with the last thing it said."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=BUILD_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{command[0]}: {error}; install it, or mend the machine, and build again") from None
    if done.returncode:
        raise LabError(f"{' '.join(command)}: exit status {done.returncode}: {done.stdout.strip()[-400:]}")
    return done.stdout


def compile_nvml(library: Path) -> None:
    """The mock NVML, as `library`. Raises LabError."""
    sources = [str(LAB / "gpu" / name) for name in ("nvml.c", "device.c", "call.c", "state.c")]
    library.parent.mkdir(parents=True, exist_ok=True)
    run([*GCC, "-fPIC", "-shared", f"-Wl,-soname,{LIBRARY}", "-o", str(library), *sources])


def compile_smi(program: Path, library: Path) -> None:
    """The stand-in for nvidia-smi, as `program`. Raises LabError."""
    run([*GCC, "-o", str(program), *(str(LAB / "gpu" / f"{name}.c") for name in ("smi", "smi_fields", "smi_xml")),
         str(library)])


def driver_files(root: Path) -> None:
    """What the driver's package installs, below `root`."""
    compile_nvml(root / MULTIARCH / LIBRARY)
    binaries = root / "usr/bin"
    binaries.mkdir(parents=True)
    run([*GCC, "-o", str(binaries / "nvidia-persistenced"), str(LAB / "gpu/persistenced.c"),
         str(root / MULTIARCH / LIBRARY)])
    compile_smi(binaries / "nvidia-smi", root / MULTIARCH / LIBRARY)
    unit = root / "lib/systemd/system/nvidia-persistenced.service"
    unit.parent.mkdir(parents=True)
    shutil.copyfile(LAB / "gpu/nvidia-persistenced.service", unit)
    in_container = root / "usr/lib/lab-gpu/nvidia-smi-in-container"
    in_container.parent.mkdir(parents=True)
    shutil.copyfile(LAB / "gpu/nvidia-smi-in-container", in_container)
    in_container.chmod(0o755)
    for program in binaries.iterdir():
        program.chmod(0o755)


def fabric_tools(dest: Path) -> None:
    """Install the fabric's stand-in programs below `dest`, a root file system."""
    binaries = dest / "usr/bin"
    binaries.mkdir(parents=True, exist_ok=True)
    for name in ("ibv_devinfo", "mlnx_qos", "lldpcli"):
        shutil.copyfile(LAB / "fabric_tools" / name, binaries / name)
        (binaries / name).chmod(0o755)


def build(package: Package, root: Path, dest: Path, *compression: str) -> None:
    """The .deb of what lies below `root`, in `dest`."""
    control = root / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(package.control())
    for name, text in package.scripts.items():
        (control / name).write_text(text)
        (control / name).chmod(0o755)
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    run(["dpkg-deb", *compression, "--build", "--root-owner-group", str(root), str(dest / package.file_name)])


def build_packages(dest: Path) -> None:
    """All packages, as .deb files in `dest`. Raises LabError."""
    dest.mkdir(parents=True, exist_ok=True)
    for package in DRIVERS:
        with TemporaryDirectory() as folder:
            driver_files(Path(folder))
            build(package, Path(folder), dest)
    with TemporaryDirectory() as folder:
        fabric_tools(Path(folder))
        build(FABRIC_TOOLS, Path(folder), dest)


def _digest() -> str:
    sources = [Path(__file__), *sorted((LAB / "gpu").iterdir()), *sorted((LAB / "fabric_tools").iterdir())]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources if path.is_file())).hexdigest()[:12]


def _entry(deb: Path) -> str:
    with deb.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return (run(["dpkg-deb", "--field", str(deb)]) + f"Filename: ./{deb.name}\nSize: {deb.stat().st_size}\n"
            f"SHA256: {digest}\n")


def write_index(folder: Path) -> None:
    """Packages, Packages.gz and Release of the .deb files of a flat repository."""
    text = "\n".join(_entry(deb) for deb in sorted(folder.glob("*.deb"))).encode()
    (folder / "Packages").write_bytes(text)
    (folder / "Packages.gz").write_bytes(gzip.compress(text, mtime=0))
    lines = ["Origin: lab", "Label: lab", "Suite: stable", "Codename: lab", "Architectures: amd64 all",
             "Date: Wed, 26 Jun 2024 00:00:00 UTC", "SHA256:"]
    for name in ("Packages", "Packages.gz"):
        data = (folder / name).read_bytes()
        lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}")
    (folder / "Release").write_text("\n".join(lines) + "\n")


def kept(cache: Path, name: str, build_into: Callable[[Path], None]) -> Path:
    """A folder of the cache, made by `build_into` where it is not there yet: whole or not at all."""
    folder = cache / name
    if not folder.is_dir():
        making = folder.with_name(folder.name + ".making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        build_into(making)
        making.rename(folder)
    return folder


def tool_packages(cache: Path) -> Path:
    """The folder of the driver's and the fabric tools' packages. Raises LabError when gcc or dpkg-deb fails."""
    return kept(cache, f"packages-{_digest()}", build_packages)


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where that cannot be."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def build_repository(dest: Path, folders: Iterable[Path]) -> None:
    """A flat apt repository (`deb [trusted=yes] http://.../ ./`) in `dest`, of the .deb files of `folders`."""
    dest.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        for deb in sorted(folder.glob("*.deb")):
            link(deb, dest / deb.name)
    write_index(dest)
