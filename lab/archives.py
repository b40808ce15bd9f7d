"""docker-archive files without a container engine: the same files give the same bytes, on any machine and day."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from lab.errors import LabError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Debian's layout: what is mounted into /usr/lib is also found as /lib
FOLDERS = ("dev", "etc", "proc", "run", "sys", "tmp", "usr", "usr/bin", "usr/lib", "usr/lib64", "usr/local",
           "usr/local/bin", "usr/sbin", "var", "var/lib")
LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin", "var/run": "../run"}
LDD_LIMIT_S = 30.0
_LIBRARY = re.compile(r"(/\S+) \(0x[0-9a-f]+\)")


@dataclass(frozen=True)
class Image:
    """One image of one layer: its full names, and programs and files by their place in it."""

    names: tuple[str, ...]
    files: Mapping[str, Path]
    entrypoint: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)


def tree(root: Path, folder: str, leave_out: Iterable[str] = ()) -> dict[str, Path]:
    """The files below a folder of a root file system, by their place; without folders of the names in `leave_out`."""
    skipped = set(leave_out)
    return {str(path.relative_to(root)): path.resolve() for path in sorted((root / folder).rglob("*"))
            if path.is_file() and not skipped & set(path.relative_to(root).parts)}


def closure(root: Path, programs: Iterable[str]) -> dict[str, Path]:
    """Programs of a root file system and the libraries that they load, by their place. Raises LabError."""
    wanted = list(programs)
    done = subprocess.run(["chroot", str(root), "ldd", *(f"/{program}" for program in wanted)], capture_output=True,
                          text=True, timeout=LDD_LIMIT_S, check=False)
    if done.returncode or "not found" in done.stdout:
        raise LabError(f"ldd in {root}: {(done.stderr.strip() or 'a library is not found')[:200]}")
    files: dict[str, Path] = {}
    for name in (*wanted, *(path.lstrip("/") for path in _LIBRARY.findall(done.stdout))):
        place = re.sub(r"^(bin|sbin|lib|lib64)/", r"usr/\1/", name)
        files[place] = (root / place).resolve()
    return files


class _Digesting(io.RawIOBase):
    """Writes on, and keeps a digest of what went through."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.digest = out, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        assert isinstance(data, (bytes, bytearray, memoryview))
        self.digest.update(data)
        return self.out.write(data)


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    """An entry of no time and of root."""
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, mode
    return info


def _fill(layer: tarfile.TarFile, image: Image) -> None:
    folders = {*FOLDERS, *(str(parent) for path in (*image.files, *image.links)
                           for parent in PurePosixPath(path).parents if str(parent) not in (".", *LINKS))}
    for name in sorted(folders):
        layer.addfile(_entry(name, tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755))
    for name, target in sorted({**LINKS, **image.links}.items()):
        link = _entry(name, tarfile.SYMTYPE, 0o777)
        link.linkname = target
        layer.addfile(link)
    for name, source in sorted(image.files.items()):
        info = _entry(name, tarfile.REGTYPE, 0o755)
        info.size = source.stat().st_size
        with source.open("rb") as data:
            layer.addfile(info, data)


def _write_layer(image: Image, path: Path) -> str:
    """The image's layer as a gzip file; the digest of what is in it."""
    # level 1: it is written once, and read nine times through ports of a fixed rate
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed:
        through = _Digesting(packed)  # type: ignore[arg-type]
        with tarfile.open(fileobj=through, mode="w|", format=tarfile.PAX_FORMAT) as layer:
            _fill(layer, image)
    return through.digest.hexdigest()


def _config(image: Image, diff_id: str) -> bytes:
    process = {"Env": [f"PATH={PATH}"], "Entrypoint": list(image.entrypoint) or None}
    return json.dumps({"architecture": "amd64", "os": "linux", "config": process,
                       "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}}, sort_keys=True).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = _entry(name, tarfile.REGTYPE, 0o644)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def write_archive(path: Path, images: Iterable[Image]) -> None:
    """A docker-archive of these images, for `ctr images import`."""
    manifest = []
    layer = path.with_name(path.name + ".layer")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for image in images:
            diff_id = _write_layer(image, layer)
            config = _config(image, diff_id)
            names = f"{hashlib.sha256(config).hexdigest()}.json", f"{diff_id}/layer.tar"
            _add(archive, names[0], config)
            info = _entry(names[1], tarfile.REGTYPE, 0o644)
            info.size = layer.stat().st_size
            with layer.open("rb") as data:
                archive.addfile(info, data)
            manifest.append({"Config": names[0], "RepoTags": list(image.names), "Layers": [names[1]]})
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    layer.unlink(missing_ok=True)
