"""The collector "facts": the probe on every host at once, one ssh call a host."""

from __future__ import annotations

import json
import time
from typing import Any

from acceptance.checks import collector
from acceptance.collect import Session
from acceptance.probe.build import program
from acceptance.site.inventory import Host
from acceptance.transport.shell import Outcome

COMMAND = ("python3", "-I", "-")  # isolated: nothing in the user's folder or environment is imported, as root at that


@collector("facts", purpose="reading all facts of every host", deadline_s=120)
def collect_facts(session: Session) -> None:
    """Record each host's document, or the outcome where there is none."""
    hosts = session.hosts("all")
    programs = {host.name: program(parameters(session, host)) for host in hosts}  # packed once, not in every thread
    done: list[str] = []

    def collect_one(host: Host) -> None:
        sent = time.time()
        outcome = session.shell.run(host.name, COMMAND, stdin=programs[host.name], sudo=True,
                                    deadline_s=session.contract.ssh.command_timeout_s)
        record(session, host, outcome, sent, time.time())
        done.append(host.name)
        session.progress(len(done), len(hosts), host.name)

    session.each(hosts, collect_one)


def parameters(session: Session, host: Host) -> dict[str, Any]:
    """What the probe is told: which names and units to ask for, and what the host is not asked for at all."""
    return {
        "names": [*(other.name for other in session.hosts("all")), *session.contract.time.servers],
        "units": list(dict.fromkeys(session.contract.services.of(host.groups))),
        "fabric_interface": session.contract.network.fabric.interface,
        "deadline_factor": session.contract.ssh.deadline_factor,
        "gpus": "gpu_nodes" in host.groups,
    }


def record(session: Session, host: Host, outcome: Outcome, sent: float, received: float) -> None:
    """The document, with the operator's clock around it; else the whole outcome and what is wrong with it."""
    if not outcome.ok:
        session.record(host.name, command=COMMAND, outcome=outcome)
        return
    try:
        document = json.loads(outcome.stdout)
        if not isinstance(document, dict):
            raise ValueError(f"a JSON {type(document).__name__}")
    except (ValueError, RecursionError) as error:
        problem = {"error": f"the probe's answer is not its document: {error}"}
        session.record(host.name, command=COMMAND, outcome=outcome, document=problem)
        return
    document["operator"] = {"sent_epoch_s": sent, "received_epoch_s": received}
    session.record(host.name, command=COMMAND, document=document)
