"""An API server with etcd behind it and kwok in the place of kubelets, on the loopback, until the end of a block.

Everything lies in one scratch folder. Processes are ended by their id, in the order in which they need each other.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from acceptance.transport.kube_live import LiveKube
from bench.measure import BenchError
from lab import programs

PROGRAMS = ("etcd", "kube-apiserver", "kwok", "helm")
ADMIN, SUITE = "admin", "suite"
ACCOUNT = "system:serviceaccount:acceptance:validator"
READY_S = 120.0
END_S = 20.0


@dataclass(frozen=True)
class ControlPlane:
    """Where it listens; kubeconfigs of its administrator and of the suite's own user."""

    folder: Path
    port: int

    def kubeconfig(self, who: str) -> Path:
        """One of both."""
        return self.folder / f"{who}.conf"


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def control_plane(folder: Path, service_range: str) -> Iterator[ControlPlane]:
    """Running, and asked successfully. Raises BenchError when a part of it does not start."""
    programs.build_all(PROGRAMS)
    client, peer, api = free_port(), free_port(), free_port()
    _keys(folder)
    plane = ControlPlane(folder, api)
    _write_users(plane)
    with contextlib.ExitStack() as running:
        running.enter_context(_process(folder, "etcd", [
            "--data-dir", str(folder / "etcd"), "--listen-client-urls", f"http://127.0.0.1:{client}",
            "--advertise-client-urls", f"http://127.0.0.1:{client}", "--listen-peer-urls", f"http://127.0.0.1:{peer}",
            "--unsafe-no-fsync", "--quota-backend-bytes", str(4 << 30), "--log-level", "error"]))
        server = running.enter_context(_process(folder, "kube-apiserver", [
            f"--etcd-servers=http://127.0.0.1:{client}", "--bind-address=127.0.0.1", f"--secure-port={api}",
            f"--tls-cert-file={folder}/server.crt", f"--tls-private-key-file={folder}/server.key",
            f"--service-account-key-file={folder}/server.crt",
            f"--service-account-signing-key-file={folder}/server.key",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-cluster-ip-range={service_range}",
            f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount"]))
        await_ready(plane, server)
        running.enter_context(_process(folder, "kwok", [
            f"--kubeconfig={plane.kubeconfig(ADMIN)}", "--manage-all-nodes", f"--config={_kwok(folder)}",
            "--node-lease-duration-seconds=240"]))
        yield plane


@contextlib.contextmanager
def _process(folder: Path, name: str, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """One program, its output in a file; ended by its id, by force if need be, and with this process in any case."""
    command = ["setpriv", "--pdeathsig", "KILL", str(programs.PROGRAMS[name].built), *words]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
        if process.poll() is not None:
            raise BenchError(f"{name} ended by itself, with status {process.returncode}; see {folder}/{name}.log")
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_ready(plane: ControlPlane, server: subprocess.Popen[bytes]) -> None:
    """Until the API server is ready, with the roles that it makes at its start. Raises BenchError."""
    end = time.monotonic() + READY_S
    with contextlib.closing(LiveKube(plane.kubeconfig(ADMIN))) as kube:
        while True:
            answers = [kube.request("GET", path, deadline_s=5, json=False, retries=0) for path in (
                "/readyz", "/apis/rbac.authorization.k8s.io/v1/clusterroles/view")]
            if all(answer.ok for answer in answers):
                return
            if server.poll() is not None or time.monotonic() > end:
                log = (plane.folder / "kube-apiserver.log").read_text(errors="replace").strip().splitlines()
                raise BenchError(f"kube-apiserver is not ready: {answers[0].message()}; it says: "
                                 + (log[-1] if log else "nothing"))
            time.sleep(0.3)


def _keys(folder: Path) -> None:
    """One key and certificate that is its own authority: for TLS, and to sign what nobody reads."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=kube-apiserver", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")],
                   check=True, capture_output=True)


def _write_users(plane: ControlPlane) -> None:
    (plane.folder / "tokens.csv").write_text(
        f"{ADMIN}-token,{ADMIN},1,system:masters\n"
        f'{SUITE}-token,{ACCOUNT},2,"system:serviceaccounts,system:serviceaccounts:acceptance"\n')
    for who in (ADMIN, SUITE):
        cluster = {"server": f"https://127.0.0.1:{plane.port}", "certificate-authority": f"{plane.folder}/server.crt"}
        config: dict[str, Any] = {
            "apiVersion": "v1", "kind": "Config", "current-context": who,
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "contexts": [{"name": who, "context": {"cluster": "cluster", "user": who}}],
            "users": [{"name": who, "user": {"token": f"{who}-token"}}]}
        plane.kubeconfig(who).write_text(yaml.safe_dump(config))


def _kwok(folder: Path) -> Path:
    """kwok's own configuration: none, so that it takes nothing from the user's."""
    path = folder / "kwok.yaml"
    path.write_text("apiVersion: config.kwok.x-k8s.io/v1alpha1\nkind: KwokConfiguration\noptions: {}\n")
    return path
