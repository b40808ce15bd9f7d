"""The system services run, and will run after a reboot."""

from __future__ import annotations

from acceptance.checks import check
from acceptance.facts import NodeFacts
from acceptance.findings import Findings
from acceptance.site.contract import Contract


@check("services", phase=2, layer="compute", area="infra", hosts="all", daily=True,
       clause="Infrastructure Deployment / Deployment Overview",
       criterion="The contracted services of every host are active and enabled, and no unit has failed",
       remedy="systemctl --failed; systemctl status UNIT; journalctl -u UNIT on the host; systemctl enable --now UNIT "
              "when it is merely off")
def test_services(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    units = node.services.units
    for name in contract.services.of(node.groups):
        unit = units.get(name) or units.get(f"{name}.service")
        if unit is None:
            findings.blocked(f"{name} active", "the unit was not asked about", required="active")
            continue
        findings.equal(f"{name} active", measured=unit.active, required="active", reason=f"state: {unit.sub}")
        findings.equal(f"{name} enabled", measured=unit.enabled, required="enabled")
    findings.empty("failed units", measured=node.services.failed)
