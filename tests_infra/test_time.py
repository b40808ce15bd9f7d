"""The clocks follow the contracted time servers."""

from __future__ import annotations

from acceptance.checks import check
from acceptance.errors import Unmeasured
from acceptance.facts import NodeFacts
from acceptance.findings import Findings
from acceptance.site.contract import Contract


@check("time-sync", phase=2, layer="compute", area="infra", hosts="all", daily=True,
       clause="Infrastructure Deployment / Deployment Overview",
       criterion="Every host's clock is synchronised by chrony with the contracted servers and close to them",
       remedy="chronyc tracking; chronyc sources -v on the host; check that UDP 123 to the server passes and that "
              "/etc/chrony names it; chronyc makestep")
def test_time_sync(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    expected = contract.time
    chrony, sources, errors = node.time.chrony, node.time.sources, node.time.errors
    if chrony is None:
        findings.blocked("synchronised", errors.get("chrony", "chronyd does not answer"), required=True)
    else:
        findings.equal("synchronised", measured=chrony.synchronised, required=True)
        findings.at_most("offset", measured=abs(chrony.offset_s) * 1000, required=expected.max_offset_ms, unit="ms")
    if sources is None:
        findings.blocked("time sources", errors.get("sources", "chronyd does not answer"), required=expected.servers)
    else:
        findings.same_set("time sources", measured=[_server(node, expected.servers, s.name) for s in sources],
                          required=expected.servers)
        findings.at_least("time sources that answer", measured=sum(s.reach > 0 for s in sources), required=1)


def _server(node: NodeFacts, servers: list[str], source: str) -> str:
    """The contracted server that a source is; chrony may give its address instead of its name."""
    if source in servers:
        return source
    try:
        known = node.resolve
    except Unmeasured:
        return source
    return next((server for server in servers if source in known.get(server, [])), source)
