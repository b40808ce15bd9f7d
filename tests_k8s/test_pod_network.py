"""Phase 3: what pods of every node reach: each other, services, names. Tried by pods, not read from settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acceptance.checks import check
from acceptance.errors import Unmeasured
from acceptance.measure.pairs import flow, flows
from acceptance.measure.suspects import suspects
from acceptance.measure.workloads import judge_workload

if TYPE_CHECKING:
    from acceptance.facts.kubernetes import KubeFacts
    from acceptance.findings import Findings
    from acceptance.site.load import Site

COLLECTOR = "kube-probes"
CLAUSE = "Application Configuration / Kubernetes Cluster Deployment"
NO_SUCH_NAME = 3


def servers(kube: KubeFacts, findings: Findings, names: list[str]) -> dict[str, dict[str, Any]]:
    """The servers by node, those that are up; a finding for each that is not. Raises Unmeasured."""
    found = kube.record("servers", COLLECTOR).document.get("servers")
    up: dict[str, dict[str, Any]] = {}
    for name in names:
        one = found.get(name) if isinstance(found, dict) else None
        if isinstance(one, dict) and one.get("address") and one.get("service") and not one.get("problem"):
            up[name] = one
        else:
            why = one.get("problem") if isinstance(one, dict) else None
            findings.blocked("probe pod", str(why or "was not started"), subject=name)
    return up


def results(kube: KubeFacts, findings: Findings, names: list[str]) -> dict[str, dict[str, Any]]:
    """What the client of each node met; a finding for each node without."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            result = kube.record(f"client/{name}", COLLECTOR).document.get("result")
            if not isinstance(result, dict):
                raise Unmeasured("its client pod gave no result")
            found[name] = result
        except Unmeasured as problem:
            findings.blocked("client pod", str(problem), subject=name)
    return found


def end_of(result: dict[str, Any], kind: str, key: str, name: str | None = None) -> str | None:
    """How one try ended; where a server should say its name, another's is no success."""
    tries = result.get(kind)
    one = tries.get(key) if isinstance(tries, dict) else None
    end = one.get("end") if isinstance(one, dict) else None
    if end == "connected" and isinstance(one, dict) and one.get("name") != name:
        return f"connected to {one.get('name') or 'somebody else'}"
    return end if isinstance(end, str) else None


@check("pod-network", phase=3, layer="kubernetes", area="k8s", needs=(COLLECTOR,), intrusive=True, clause=CLAUSE,
       criterion="A pod of every node reaches pods and services of every other node, with packets that fill the "
                 "contracted pod MTU",
       remedy="ip route and the pod network's daemon on the node named; full-size packets alone: MTU of the pod "
              "network or of a switch port; services alone: kube-proxy on the source")
def test_pod_network(site: Site, kube: KubeFacts, findings: Findings) -> None:
    names = [host.name for host in site.hosts]
    up = servers(kube, findings, names)
    seen = results(kube, findings, names)
    good: dict[tuple[str, str], bool] = {}
    for name, result in seen.items():
        mtus = result.get("mtu")
        findings.same_set("MTU of the pod's interfaces", measured=mtus.values() if isinstance(mtus, dict) else None,
                          required=[site.contract.kubernetes.cni.pod_mtu], subject=name,
                          evidence=kube.id(f"client/{name}", COLLECTOR))
    for source, target in flows(names):
        if source not in seen or target not in up:
            continue
        result = seen[source]
        named: dict[str, Any] = {"subject": flow(source, target), "evidence": kube.id(f"client/{source}", COLLECTOR)}
        ends = {"pod": (end_of(result, "tcp", f"pod {target}", target), "connected"),
                "service": (end_of(result, "tcp", f"service {target}", target), "connected"),
                "full-size packets": (end_of(result, "udp", target), "echoed")}
        for what, (measured, required) in ends.items():
            findings.equal(what, measured=measured, required=required, **named)
        good[source, target] = all(measured == required for measured, required in ends.values())
    for suspect in suspects(good):
        bad = [source for (source, target), fine in good.items() if not fine and suspect.explains(source, target)]
        findings.cause("where it fails", suspect.sentence(), subject=suspect.subject, evidence=[
            id for source in dict.fromkeys(bad) for id in kube.id(f"client/{source}", COLLECTOR)])


@check("dns", phase=3, layer="kubernetes", area="k8s", needs=("kube-state", COLLECTOR), intrusive=True, clause=CLAUSE,
       criterion="From pods of every node, names of services, headless services and hosts outside resolve, and names "
                 "that do not exist do not",
       remedy="kubectl -n kube-system get pods -l k8s-app=kube-dns; /etc/resolv.conf in a pod of the node named; "
              "clusterDNS of its kubelet; CoreDNS' forward and its logs")
def test_dns(site: Site, kube: KubeFacts, findings: Findings) -> None:
    names = [host.name for host in site.hosts]
    contract = site.contract.kubernetes.dns
    try:
        judge_workload(findings, kube, site, contract.deployment)
    except Unmeasured as problem:
        findings.blocked("name service", str(problem), subject=contract.deployment.subject)
    up = servers(kube, findings, names)
    named = kube.record("servers", COLLECTOR).document.get("named")
    if named not in up:
        findings.blocked("names of services", "the service that is asked for has no pod", subject=str(named))
        return
    address, everyone = up[named]["service"], sorted(one["address"] for one in up.values())
    for node, result in results(kube, findings, names).items():
        findings.evidence = kube.id(f"client/{node}", COLLECTOR)
        for key, required in (("service", [address]), ("short", [address]), ("headless", everyone)):
            measured, reason = answer(result, key)
            findings.equal(f"name, {key}", measured=measured, required=required, subject=node, reason=reason)
        for name in contract.external_names:
            measured, reason = answer(result, f"external {name}")
            findings.holds(f"name outside, {name}", isinstance(measured, list) and bool(measured), measured=measured,
                           required="an address", relation="=", subject=node, reason=reason)
        for key in ("no such service", "no such host"):
            measured, reason = answer(result, key)
            findings.equal(f"name, {key}", measured=measured, required="no such name", subject=node, reason=reason)


def answer(result: dict[str, Any], key: str) -> tuple[list[str] | str | None, str]:
    """Addresses that a name had, or "no such name", or "no answer"; None where it was not asked. And the reason."""
    tries = result.get("dns")
    one = tries.get(key) if isinstance(tries, dict) else None
    if not isinstance(one, dict):
        return None, "was not asked"
    if "error" in one:
        return "no answer", str(one["error"])
    if one.get("code") == NO_SUCH_NAME:
        return "no such name", ""
    addresses = one.get("addresses")
    if one.get("code") != 0 or not isinstance(addresses, list):
        return "no answer", f"the name server answered with code {one.get('code')}"
    return sorted(str(address) for address in addresses), ""
