"""kubectl and helm for the operator's host, built from their Go modules and kept in the cache by version."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from lab.errors import LabError
from lab.rootfs import cache_folder

KUBECTL, HELM = "0.34.4", "3.19.0"
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


def build() -> None:
    """Put kubectl and helm of the wanted versions into the cache's bin folder. Raises LabError."""
    version = f"v1.{KUBECTL.removeprefix('0.')}"
    flags = (f"-X k8s.io/component-base/version.gitVersion={version} -X k8s.io/component-base/version.gitMajor=1 "
             f"-X k8s.io/component-base/version.gitMinor={KUBECTL.split('.')[1]}")
    _build("kubectl", KUBECTL, [["mod", "edit", f"-require=k8s.io/kubectl@v{KUBECTL}"], ["mod", "tidy"]], ".", flags,
           {"main.go": _KUBECTL_MAIN})
    _build("helm", HELM, [["get", "-tool", f"helm.sh/helm/v3/cmd/helm@v{HELM}"]], "helm.sh/helm/v3/cmd/helm",
           f"-X helm.sh/helm/v3/internal/version.version=v{HELM}", {})


def _build(name: str, version: str, prepare: list[list[str]], package: str, flags: str, files: dict[str, str]) -> None:
    folder = cache_folder()
    target = folder / "bin" / name
    built = folder / "built" / f"{name}-{version}"
    if not built.exists():
        go = shutil.which("go") or "/usr/local/go/bin/go"
        if not Path(go).exists():
            raise LabError(f"go is not there, and {name} is built with it; install Go 1.24 or newer")
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
        built.parent.mkdir(parents=True, exist_ok=True)
        (work / "out").rename(built)
        shutil.rmtree(work)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(built)
