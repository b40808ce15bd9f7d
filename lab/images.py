"""The lab's container images: which there are, under which names, and in which archives hosts import them.

The names are those of `kubeadm config images list`, of upstream's metrics-server and, for what is the lab's own, of a
registry that is nowhere. No host can pull anything: there is no route out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab import archives, packages
from lab.archives import Image
from lab.programs import COREDNS, ETCD, KUBERNETES, LOCAL_PATH, METRICS_SERVER, PROGRAMS
from lab.rootfs import cache_folder

REGISTRY = "registry.k8s.io"
PAUSE = f"{REGISTRY}/pause:3.10.1"
STAND_IN = "registry.lab.internal/standin:1"
BUSYBOX_NAMES = ("docker.io/library/busybox:1.35", "nvcr.io/nvidia/cuda:12.2.2-base-ubuntu22.04")
PYTHON_NAMES = ("docker.io/library/python:3.11-slim",)
STAND_IN_PROGRAM = "usr/local/bin/standin"
BUSYBOX = Path("/bin/busybox")  # of the machine's busybox-static
APPLETS = ("[", "cat", "cp", "cut", "date", "dd", "df", "echo", "env", "expr", "false", "grep", "head", "hostname",
           "httpd", "id", "ip", "kill", "ls", "mkdir", "mktemp", "mount", "nc", "nslookup", "ping", "printf", "ps",
           "rm", "sed", "seq", "sh", "sha256sum", "sleep", "sort", "stat", "tail", "tee", "test", "timeout", "touch",
           "tr", "true", "uname", "wc", "wget", "whoami", "xargs")


@dataclass(frozen=True)
class Archive:
    """One file of images, and the group of the inventory that imports it."""

    name: str
    hosts: str
    images: tuple[Image, ...]

    @property
    def file_name(self) -> str:
        return f"{self.name}.tar"


def _program(name: str, place: str, image: str, *entrypoint: str, **more: Path) -> Image:
    return Image((f"{REGISTRY}/{image}",), {place: PROGRAMS[name].built, **more}, entrypoint)


def _component(name: str) -> Image:
    return _program(name, f"usr/local/bin/{name}", f"{name}:v{KUBERNETES}")


def _busybox(*names: str, entrypoint: tuple[str, ...] = ()) -> Image:
    return Image(names, {"usr/bin/busybox": BUSYBOX}, entrypoint, {f"usr/bin/{name}": "busybox" for name in APPLETS})


def _python(rootfs: Path) -> Image:
    """busybox and the root file system's Python, without its tests, its graphical toolkit, and packages like numpy."""
    modules = archives.tree(rootfs, "usr/lib/python3.11",
                            ("test", "tests", "tkinter", "idlelib", "__pycache__", "dist-packages"))
    loaded = [place for place in modules if place.endswith(".so")]
    files = archives.closure(rootfs, ("usr/bin/python3.11", *loaded))
    busybox = _busybox()
    return Image(PYTHON_NAMES, {**busybox.files, **modules, **files}, (),
                 {**busybox.links, "usr/bin/python3": "python3.11", "usr/bin/python": "python3.11"})


def all_archives(rootfs: Path) -> tuple[Archive, ...]:
    """What the lab's hosts import; programs must be built. nft and ip come from the root file system."""
    network = archives.closure(rootfs, ("usr/sbin/nft", "usr/bin/ip"))
    proxy = _component("kube-proxy")
    control = (*(_component(name) for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")),
               _program("etcd", "usr/local/bin/etcd", f"etcd:{ETCD}-0"))
    node = (
        Image(proxy.names, {**proxy.files, **network}),
        _program("coredns", "coredns", f"coredns/coredns:v{COREDNS}", "/coredns"),
        _program("metrics-server", "metrics-server", f"metrics-server/metrics-server:v{METRICS_SERVER}",
                 "/metrics-server"),
        Image((f"docker.io/rancher/local-path-provisioner:v{LOCAL_PATH}",),
              {"usr/bin/local-path-provisioner": PROGRAMS["local-path-provisioner"].built},
              ("/usr/bin/local-path-provisioner",)),
        _busybox(PAUSE, entrypoint=("/bin/sleep", "infinity")),
        _busybox(*BUSYBOX_NAMES),
        _python(rootfs),
        Image((STAND_IN,), {STAND_IN_PROGRAM: PROGRAMS["standin"].built, **network}, (f"/{STAND_IN_PROGRAM}",)),
    )
    return Archive("control-plane", "k8s_control", control), Archive("node", "all", node)


def _digest(archive: Archive) -> str:
    digest = hashlib.sha256(Path(archives.__file__).read_bytes())
    # built programs carry version and digest in their names; other files are small enough to be read
    built = {program.built for program in PROGRAMS.values()}
    for image in archive.images:
        digest.update(repr((image.names, image.entrypoint, sorted(image.links.items()))).encode())
        for place, source in sorted(image.files.items()):
            content = source.name.encode() if source in built else source.read_bytes()
            digest.update(repr((place, hashlib.sha256(content).hexdigest())).encode())
    return digest.hexdigest()[:12]


def made() -> bool:
    """Whether archives were made before: then it is likely that none is to be made now."""
    return any(cache_folder().glob("images-node-*"))


def folders(rootfs: Path, cache: Path) -> list[tuple[Archive, Path]]:
    """Every archive and its folder of the cache, made where it is not there yet. Raises LabError."""
    return [(archive, packages.kept(cache, f"images-{archive.name}-{_digest(archive)}", partial(_write, archive)))
            for archive in all_archives(rootfs)]


def publish(rootfs: Path, cache: Path, dest: Path, url: str) -> list[dict[str, object]]:
    """Archives in `dest`, made where the cache has none; entries for the role `image_archives`. Raises LabError."""
    dest.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []
    for archive, folder in folders(rootfs, cache):
        packages.link(folder / archive.file_name, dest / archive.file_name)
        entries.append({"url": f"{url}/{archive.file_name}", "sha256": (folder / "sha256").read_text(),
                        "hosts": archive.hosts, "images": [name for image in archive.images for name in image.names]})
    return entries


def _write(archive: Archive, folder: Path) -> None:
    path = folder / archive.file_name
    archives.write_archive(path, archive.images)
    with path.open("rb") as file:
        (folder / "sha256").write_text(hashlib.file_digest(file, "sha256").hexdigest())
