"""kubelet, kubeadm and kubectl of the lab's own builds, as packages with the names, versions and units of upstream."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.packages import Package, build, kept, link
from lab.programs import KUBERNETES, PROGRAMS

VERSION = f"{KUBERNETES}-1.1"
# zstd -1 takes a second for a kubelet and halves what nine hosts download at once
COMPRESSION = ("-Zzstd", "-z1")

KUBELET_UNIT = """[Unit]
Description=kubelet: The Kubernetes Node Agent
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10

[Install]
WantedBy=multi-user.target
"""
# kubeadm writes the files that are named here
KUBEADM_DROP_IN = """[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""
UNITS = "usr/lib/systemd/system"
_RELOAD = {"postinst": "#!/bin/sh\nset -e\nif [ -d /run/systemd/system ]; then\n    systemctl daemon-reload\nfi\n"}


def _package(name: str, *relations: str, scripts: dict[str, str] | None = None) -> Package:
    return Package(name, VERSION, f"{name}, built by the lab", relations, scripts=scripts or {})


FILES = {
    "kubelet": {f"{UNITS}/kubelet.service": KUBELET_UNIT},
    "kubeadm": {f"{UNITS}/kubelet.service.d/10-kubeadm.conf": KUBEADM_DROP_IN},
    "kubectl": {},
}
CONTROL = (
    # upstream's also depends on kubernetes-cni; here Debian's plugins are in the root file system
    _package("kubelet", "Depends: iptables, mount, iproute2, util-linux", scripts=_RELOAD),
    _package("kubeadm", "Depends: kubelet", scripts=_RELOAD),
    _package("kubectl"),
)


def _build_all(dest: Path) -> None:
    for package in CONTROL:
        with TemporaryDirectory(dir=dest) as folder:  # beside what it is linked from: nothing is copied
            root = Path(folder) / "root"
            (root / "usr/bin").mkdir(parents=True)
            link(PROGRAMS[package.name].built, root / "usr/bin" / package.name)
            for path, text in FILES[package.name].items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            build(package, root, dest, *COMPRESSION)


def packages(cache: Path) -> Path:
    """The folder of the three packages; the programs must be built. Raises LabError."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for package in CONTROL:
        digest.update(PROGRAMS[package.name].key.encode())
    return kept(cache, f"kubernetes-packages-{digest.hexdigest()[:12]}", _build_all)
