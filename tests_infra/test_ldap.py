"""Phase 1: the directory serves whom it should, proves who it is, and refuses everybody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acceptance.checks import check

if TYPE_CHECKING:
    from acceptance.evidence import Evidence, Record
    from acceptance.findings import Findings
    from acceptance.site.contract import Contract

INVALID_CREDENTIALS = 49


@check("ldap", phase=1, layer="prerequisites", area="infra", daily=False, needs=("ldap",),
       clause="Prerequisites / Validation Checklist",
       criterion="The directory answers over verified TLS, lets the service account find the contracted group with its "
                 "members, and refuses a wrong password and strangers",
       remedy="the first failing step says which part: server down, certificate, service account, group, or an access "
              "rule too wide; try it with ldapsearch -H URL -D BIND_DN -W")
def test_ldap(contract: Contract, evidence: Evidence, findings: Findings) -> None:
    steps: dict[str, Record] = {record.subject: record for record in evidence.records("ldap")}
    findings.subject = contract.ldap.url
    _step(findings, steps, "connect", "server answers", True)
    _step(findings, steps, "tls", "certificate is valid, for this host, and from the contracted CA", True)
    _step(findings, steps, "bind", "service account can bind", True)
    group = _step(findings, steps, "group", f"group {contract.ldap.group_dn} is there", True)
    if group.get("ok"):
        findings.at_least("members of the group", measured=group.get("members"), required=1,
                          evidence=(steps["group"].id,))
    wrong = _step(findings, steps, "wrong-password", "wrong password is accepted", False)
    if wrong.get("ok") is False and wrong.get("code") is not None:
        findings.equal("refusal of a wrong password (49, invalid credentials)", measured=wrong["code"],
                       required=INVALID_CREDENTIALS, evidence=(steps["wrong-password"].id,))
    _judge_anonymous(findings, steps, bool(group.get("ok")))


def _step(findings: Findings, steps: dict[str, Record], step: str, quantity: str, required: bool) -> dict[str, Any]:
    """One step's finding: what was wanted of it, or BLOCKED where it was not tried or broke down on the way."""
    record = steps.get(step)
    if record is None:
        findings.blocked(quantity, "not tried, since an earlier step failed", required=required)
        return {}
    document: dict[str, Any] = record.document
    broke_down = required is False and document.get("code") is None  # an error on the way is no refusal
    measured = None if broke_down else document["ok"]
    findings.equal(quantity, measured=measured, required=required, reason=document["detail"], evidence=(record.id,))
    return document


def _judge_anonymous(findings: Findings, steps: dict[str, Record], group_seen: bool) -> None:
    quantity = "entries that a stranger can read (one is enough to know)"
    record = steps.get("anonymous")
    if record is None:
        findings.blocked(quantity, "not tried, since an earlier step failed", required=0)
        return
    document = record.document
    count = document.get("entries")
    if count == 0 and not group_seen:
        findings.blocked(quantity, "a stranger sees nothing, but neither does the service account", required=0,
                         evidence=(record.id,))
        return
    findings.equal(quantity, measured=count, required=0, reason=document["detail"], evidence=(record.id,))
