"""Password and root logins are off, by sshd's own word and by trying."""

from __future__ import annotations

from acceptance.checks import check
from acceptance.collectors.ssh_password import Attempt, attempts
from acceptance.errors import ParseError
from acceptance.evidence import Evidence, Record
from acceptance.facts import NodeFacts
from acceptance.findings import Findings
from acceptance.parse.ssh_login import parse_login
from acceptance.site.contract import Contract

OPTIONS = {"passwordauthentication": "no", "kbdinteractiveauthentication": "no", "permitrootlogin": "no"}


@check("sshd", phase=2, layer="security", area="security", hosts="all", needs=("facts", "ssh-password"), daily=True,
       clause="Infrastructure Deployment / SSH Hardening",
       criterion="No host lets anyone log in with a password, nor root at all",
       remedy="sshd -T | grep -i auth on the host; the first file in /etc/ssh/sshd_config.d that sets an option wins; "
              "mend it and run systemctl reload ssh")
def test_sshd(node: NodeFacts, contract: Contract, findings: Findings, evidence: Evidence) -> None:
    records = evidence.of("ssh-password", node.name)
    for record in records:
        if "error" in record.document:
            findings.blocked("logins", record.document["error"], evidence=[record.id])
    made = {(r.document.get("user"), r.document.get("method")): r for r in records}
    for attempt in attempts(contract.security.ssh_probe_user):
        _judge(findings, attempt, made.get((attempt.user, attempt.method)))
    options = node.sshd.options
    for option, required in OPTIONS.items():
        findings.equal(f"sshd -T {option}", measured=options.get(option), required=required)


def _judge(findings: Findings, attempt: Attempt, record: Record | None) -> None:
    quantity = f"login of {attempt.user} by {attempt.method}"
    if record is None or record.outcome is None:
        findings.blocked(quantity, "was not tried: the host did not answer before", required="refused")
        return
    outcome = record.outcome
    if outcome.exit_code is None:
        findings.blocked(quantity, outcome.detail or outcome.status, required="refused", evidence=[record.id])
        return
    try:
        answer = parse_login(outcome.exit_code, outcome.stderr)
    except ParseError as problem:
        findings.blocked(quantity, str(problem), required="refused", evidence=[record.id])
        return
    if answer.let_in:
        measured = "let in"
    elif attempt.method == "password" and answer.password_methods:
        measured = "offered: " + ", ".join(answer.password_methods)
    else:
        measured = "refused"
    findings.equal(quantity, measured=measured, required="refused", evidence=[record.id])
