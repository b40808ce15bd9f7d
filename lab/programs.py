"""The lab's Go programs: which module pins each, at which version; `python -m lab.programs [NAME...]` builds them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from lab.errors import LabError
from lab.go import Program, build
from lab.rootfs import cache_folder

KUBERNETES = "1.34.4"
HELM = "3.19.0"
ETCD = "3.6.5"
COREDNS = "1.12.1"
METRICS_SERVER = "0.8.0"
LOCAL_PATH = "0.0.30"
KWOK = "0.7.0"
STAND_IN = "1"  # of the lab's own; a change of its sources shows in the name under which it is kept

_MAJOR, _MINOR, _ = KUBERNETES.split(".")
_KUBERNETES_FLAGS = (
    f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES} -X k8s.io/component-base/version.gitMajor={_MAJOR} "
    f"-X k8s.io/component-base/version.gitMinor={_MINOR} -X k8s.io/client-go/pkg/version.gitVersion=v{KUBERNETES}")


def _kubernetes(name: str, about_s: float) -> Program:
    return Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", KUBERNETES, about_s, _KUBERNETES_FLAGS)


# In the order in which they build fastest; seconds are of a two-core machine, later ones find packages built already.
PROGRAMS = {program.name: program for program in (
    _kubernetes("kubectl", 110),
    Program("helm", "helm", "helm.sh/helm/v3/cmd/helm", HELM, 60,
            f"-X helm.sh/helm/v3/internal/version.version=v{HELM}"),
    _kubernetes("kubeadm", 30),
    _kubernetes("kubelet", 150),
    _kubernetes("kube-proxy", 20),
    _kubernetes("kube-apiserver", 120),
    _kubernetes("kube-controller-manager", 70),
    _kubernetes("kube-scheduler", 20),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", ETCD, 60),
    Program("coredns", "coredns", ".", COREDNS, 60),
    Program("metrics-server", "metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server", METRICS_SERVER, 120,
            f"-X k8s.io/client-go/pkg/version.gitVersion=v{METRICS_SERVER}"),
    Program("local-path-provisioner", "local-path-provisioner", "github.com/rancher/local-path-provisioner", LOCAL_PATH,
            60, f"-X main.VERSION=v{LOCAL_PATH}"),
    Program("standin", "standin", ".", STAND_IN, 60),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", KWOK, 60,
            f"-X sigs.k8s.io/kwok/pkg/consts.Version=v{KWOK}"),
)}
OPERATOR = ("kubectl", "helm")  # on the operator's path
LAB = tuple(name for name in PROGRAMS if name != "kwok")  # what `up` needs; kwok is for the scale tests


def missing(names: Iterable[str] = LAB) -> list[Program]:
    """Those that are not built yet."""
    return [program for name in names if not (program := PROGRAMS[name]).built.exists()]


def about_s(names: Iterable[str] = LAB) -> float:
    """About how long `build_all` will take."""
    return sum(program.about_s for program in missing(names)) or 1.0


def build_all(names: Iterable[str] = LAB) -> None:
    """Build what is missing, one after the other, saying which and how long is left. Raises LabError."""
    names = tuple(names)
    while waiting := missing(names):
        left = sum(program.about_s for program in waiting)
        print(f"lab:       building {waiting[0].name} {waiting[0].version} (about {left:.0f} s left)", flush=True)
        build(waiting[0])
    folder = cache_folder() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name in OPERATOR:
        if PROGRAMS[name].built.exists():
            new = folder / f"{name}.new"
            new.unlink(missing_ok=True)
            new.symlink_to(PROGRAMS[name].built)
            new.rename(folder / name)  # at once: someone may be running it


def main(names: list[str]) -> int:
    """Build the named programs, or all, kwok too."""
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        raise LabError(f"no program is called {unknown[0]}; expected some of {', '.join(PROGRAMS)}")
    started = time.monotonic()
    build_all(names or PROGRAMS)
    print(f"lab: built in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(4)
