"""Only the contracted accounts exist that can log in or become root."""

from __future__ import annotations

from acceptance.checks import check
from acceptance.facts import NodeFacts
from acceptance.findings import Findings
from acceptance.site.contract import Contract


@check("accounts", phase=2, layer="security", area="security", hosts="all", daily=True,
       clause="Infrastructure Deployment / SSH Hardening",
       criterion="Exactly the contracted users have a login shell or sudo rights on each host, and only root has uid 0",
       remedy="getent passwd, sudo -l -U NAME and /etc/sudoers.d on the host; remove the account or right, or add it "
              "to security.login_users / sudo_users in the contract")
def test_accounts(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    accounts = node.accounts
    if not accounts.users:
        findings.blocked("accounts", "the host lists no account at all")
        return
    security = contract.security
    findings.same_set("users with a login shell", measured=[user.name for user in accounts.users if user.login],
                      required=security.login_users)
    findings.same_set("users with uid 0", measured=[user.name for user in accounts.users if user.uid == 0],
                      required=["root"])
    findings.same_set("users with sudo rights", measured=accounts.sudoers, required=security.sudo_users)
