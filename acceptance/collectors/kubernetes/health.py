"""How the control plane feels: each API server's own checks, and etcd's members, alarms and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.checks import collector
from acceptance.collectors.on_node import answer, with_argument
from acceptance.errors import ParseError

if TYPE_CHECKING:
    from acceptance.collect import Session
    from acceptance.site.inventory import Host

CONTROL = "k8s_control"
DEADLINE_S = 15.0
PATHS = ("/livez", "/readyz")
COMMAND = ("python3", "-I", "-")


@collector("kube-health", purpose="asking each API server how it is", deadline_s=60, kube=True)
def collect(session: Session) -> None:
    """Records /livez and /readyz of each API server, asked one by one and in full; each once, since an error counts."""
    port = session.contract.kubernetes.api_port

    def one(host: Host) -> None:
        for path in PATHS:
            answer = session.kube.request("GET", path, query=[("verbose", "")], deadline_s=DEADLINE_S, json=False,
                                          server=f"https://{host.address}:{port}", retries=0)
            session.record(host.name, document={**answer.evidence(), "path": path, "text": answer.text[:20000],
                                                "error_text": answer.message() if not answer.ok else ""})

    session.each(session.hosts(CONTROL), one)


@collector("etcd", purpose="reading etcd's members, alarms and metrics, twice", deadline_s=90)
def etcd(session: Session) -> None:
    """One record a control plane host: members, alarms, and two samples of its metrics, with the seconds in between."""
    contract = session.contract.kubernetes.etcd
    argument = {"url": f"https://127.0.0.1:{contract.client_port}", "metrics": contract.metrics_url,
                "ca": contract.ca_file, "cert": contract.cert_file, "key": contract.key_file,
                "pause_s": contract.sample_seconds}

    def one(host: Host) -> None:
        outcome = session.shell.run(host.name, COMMAND, stdin=with_argument("etcd", argument), sudo=True,
                                    deadline_s=contract.sample_seconds + 30)
        try:
            document = answer(outcome)
        except ParseError as problem:
            document = {"error": str(problem)}
        session.record(host.name, command=COMMAND, outcome=None if outcome.ok else outcome, document=document)

    session.each(session.hosts(CONTROL), one)
