"""The lab's container images: which there are, under which names, and in which archives hosts import them.

The names are those of `kubeadm config images list`, of upstream's metrics-server and, for what is the lab's own, of a
registry that is nowhere. No host can pull anything: there is no route out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import archives, packages
from lab.archives import Image
from lab.programs import COREDNS, ETCD, KUBERNETES, METRICS_SERVER, PROGRAMS

REGISTRY = "registry.k8s.io"
PAUSE = f"{REGISTRY}/pause:3.10.1"
STAND_IN = "registry.lab.internal/standin:1"
PROBE = "docker.io/library/busybox:1.35"
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
    return Image(f"{REGISTRY}/{image}", {place: PROGRAMS[name].built, **more}, entrypoint)


def _component(name: str) -> Image:
    return _program(name, f"usr/local/bin/{name}", f"{name}:v{KUBERNETES}")


def _busybox(name: str, *entrypoint: str) -> Image:
    return Image(name, {"usr/bin/busybox": BUSYBOX}, entrypoint, {f"usr/bin/{name}": "busybox" for name in APPLETS})


def all_archives(rootfs: Path) -> tuple[Archive, ...]:
    """What the lab's hosts import; programs must be built. nft and ip come from the root file system."""
    network = archives.closure(rootfs, ("usr/sbin/nft", "usr/bin/ip"))
    proxy = _component("kube-proxy")
    control = (*(_component(name) for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")),
               _program("etcd", "usr/local/bin/etcd", f"etcd:{ETCD}-0"))
    node = (
        Image(proxy.name, {**proxy.files, **network}),
        _program("coredns", "coredns", f"coredns/coredns:v{COREDNS}", "/coredns"),
        _program("metrics-server", "metrics-server", f"metrics-server/metrics-server:v{METRICS_SERVER}",
                 "/metrics-server"),
        _busybox(PAUSE, "/bin/sleep", "infinity"),
        _busybox(PROBE),
        Image(STAND_IN, {"usr/local/bin/standin": PROGRAMS["standin"].built, **network}, ("/usr/local/bin/standin",)),
    )
    return Archive("control-plane", "k8s_control", control), Archive("node", "all", node)


def _digest(archive: Archive, sources: Sequence[Path]) -> str:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    for image in archive.images:
        digest.update(repr((image.name, image.entrypoint, sorted(image.links.items()))).encode())
        for place, source in sorted(image.files.items()):
            # built programs carry version and digest in their names; others are small enough to be read
            content = source.name.encode() if source in _built() else source.read_bytes()
            digest.update(repr((place, hashlib.sha256(content).hexdigest())).encode())
    return digest.hexdigest()[:12]


def _built() -> set[Path]:
    return {program.built for program in PROGRAMS.values()}


def publish(rootfs: Path, cache: Path, dest: Path, url: str) -> list[dict[str, object]]:
    """Archives in `dest`, made where the cache has none; entries for the role `image_archives`. Raises LabError."""
    dest.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []
    for archive in all_archives(rootfs):
        name = f"images-{archive.name}-{_digest(archive, [Path(archives.__file__)])}"
        folder = packages.kept(cache, name, lambda making, archive=archive: _write(archive, making))  # type: ignore[misc]
        packages.link(folder / archive.file_name, dest / archive.file_name)
        entries.append({"url": f"{url}/{archive.file_name}", "sha256": (folder / "sha256").read_text(),
                        "hosts": archive.hosts, "images": [image.name for image in archive.images]})
    (dest / "index.json").write_text(json.dumps(entries, indent=1) + "\n")
    return entries


def _write(archive: Archive, folder: Path) -> None:
    path = folder / archive.file_name
    archives.write_archive(path, archive.images)
    with path.open("rb") as file:
        (folder / "sha256").write_text(hashlib.file_digest(file, "sha256").hexdigest())
