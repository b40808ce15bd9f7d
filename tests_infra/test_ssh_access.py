"""Phase 1: the operator's key opens every host, and every host is the one it was."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from acceptance.checks import check
from acceptance.errors import Unmeasured

if TYPE_CHECKING:
    from acceptance.evidence import Evidence
    from acceptance.facts import NodeFacts
    from acceptance.findings import Findings
    from acceptance.site.contract import Contract

_KEY = re.compile(r"^\d+ \S+ .*\((\w[\w-]*)\)\s*$")
_CAUSES = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED",
     "the host key has changed: it is another than the pinned one; reinstalled, or another host"),
    (r"No .* host key is known|Host key verification failed", "the host key is not pinned in known_hosts"),
    (r"Permission denied", "the host refuses the key"),
    (r"bad permissions|UNPROTECTED PRIVATE KEY", "ssh refuses the private key: others may read it"),
    (r"Connection refused|timed out|No route to host|Network is unreachable", "the host cannot be reached"),
)


@check("ssh-access", phase=1, layer="prerequisites", area="infra", hosts="all", daily=True, needs=("ssh-access",),
       clause="Environment Setup / SSH Configuration",
       criterion="The operator's ed25519 key, readable by nobody else, logs in to every host, whose key is pinned, and "
                 "sudo asks no password",
       remedy="the finding says which step failed; a changed host key is compared on the console before known_hosts is "
              "changed")
def test_ssh_access(node: NodeFacts, contract: Contract, evidence: Evidence, findings: Findings) -> None:
    _judge_key(evidence, findings)
    record = evidence.one("ssh-access", node.name)
    outcome, named = record.outcome, {"evidence": (record.id,)}
    if outcome is None or outcome.status == "timed-out":
        raise Unmeasured(f"the login: {outcome.reason() if outcome else 'no outcome recorded'}")
    user = re.search(r"^user=(.*)$", outcome.stdout, re.MULTILINE)
    sudo = re.search(r"^sudo=(\d+)$", outcome.stdout, re.MULTILINE)
    if user is None:
        findings.fail("login with the key", _cause(outcome.stderr or outcome.detail), required=contract.ssh.user,
                      **named)
        return
    findings.equal("login with the key", measured=user[1], required=contract.ssh.user, **named)
    if sudo is None:
        raise Unmeasured("the session ended before sudo was tried")
    findings.equal("sudo without a password", measured=sudo[1] == "0", required=True,
                   reason=outcome.stderr.strip()[-200:], **named)


def _judge_key(evidence: Evidence, findings: Findings) -> None:
    file, kind = evidence.one("ssh-access", "operator"), evidence.one("ssh-access", "key")
    document = file.document
    if document.get("error"):
        findings.fail("private key", f"{document['path']}: {document['error']}", subject="operator",
                      evidence=(file.id,))
        return
    findings.equal("mode of the private key", subject="operator", measured=document["mode"], required="0600",
                   reason=f"chmod 600 {document['path']}", evidence=(file.id,))
    text = kind.outcome.stdout.strip() if kind.outcome and kind.outcome.ok else ""
    found = _KEY.match(text)
    findings.equal("kind of the private key", subject="operator", measured=found[1] if found else None,
                   required="ED25519", reason="" if found else "ssh-keygen could not say", evidence=(kind.id,))


def _cause(stderr: str) -> str:
    for pattern, cause in _CAUSES:
        if re.search(pattern, stderr):
            return cause
    lines = stderr.strip().splitlines()
    return lines[-1][:200] if lines else "ssh said nothing"
