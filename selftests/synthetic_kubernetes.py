"""A healthy Kubernetes cluster as its collectors would have recorded it, made from the contract, to be broken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from acceptance.collectors.kubernetes.certificates import files_of, ports_of
from acceptance.collectors.kubernetes.flows import following, key
from acceptance.collectors.kubernetes.projections import GPU
from acceptance.collectors.kubernetes.rbac import CALLS, sample
from acceptance.collectors.kubernetes.rights import OWN, forbidden, needed
from acceptance.evidence import Evidence, Record
from acceptance.facts import Cluster
from acceptance.findings import Findings
from acceptance.site.inventory import Host
from selftests.synthetic import SITE, Broken, judge_check
from selftests.synthetic_network import network_sections

K8S = SITE.contract.kubernetes
AT = "2026-01-01T00:00:00+00:00"
SYSTEM = "kube-system"
Recorded = dict[str, dict[str, Any]]  # collector → subject → document
Change = Callable[[Recorded], Any]


def listed(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A whole list, as recorded."""
    return {"path": "/", "pages": 1, "restarts": 0, "at": AT, "items": items,
            "attempts": [{"status": 200, "error": "", "seconds": 0.01}]}


def node(host: Host) -> dict[str, Any]:
    """A healthy node."""
    gpu = "gpu_nodes" in host.groups
    taints = [taint for group in host.groups for taint in K8S.allowed_taints[group]]
    count = SITE.contract.gpu.count if gpu else None
    return {"name": host.name, "labels": dict(K8S.gpu_operator.node_labels) if gpu else {}, "unschedulable": False,
            "taints": taints, "capacity_gpus": count, "allocatable_gpus": count, "kubelet": "v1.34.4",
            "runtime": "containerd://1.7", "addresses": [host.address], "pod_ranges": ["10.244.1.0/24"],
            "conditions": {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}}


def pod(namespace: str, name: str, on: str) -> dict[str, Any]:
    """A healthy pod."""
    return {"name": name, "namespace": namespace, "node": on, "phase": "Running", "reason": "", "ready": True,
            "owner": "DaemonSet/x", "restarts": 0, "waiting": [], "gpus": 0, "terminating": False, "managed_by": ""}


def daemonset(namespace: str, name: str, count: int) -> dict[str, Any]:
    """A complete DaemonSet."""
    return {"name": name, "namespace": namespace, "desired": count, "ready": count, "updated": count,
            "misscheduled": 0, "observed": True}


def state() -> dict[str, Any]:
    """The documents of kube-state."""
    gpus, operator = SITE.group("gpu_nodes"), K8S.gpu_operator
    sets = [daemonset(one.namespace, one.name, len(SITE.group(one.hosts)))
            for one in [*K8S.workloads, K8S.cni.daemonset] if one.hosts]
    sets += [daemonset(operator.namespace, name, len(gpus)) for name in operator.daemonsets]
    pods = [pod(SYSTEM, f"kube-proxy-{host.name}", host.name) for host in SITE.hosts]
    pods += [pod(operator.namespace, f"{name}-{host.name}", host.name) for name in operator.daemonsets for host in gpus]
    dns = K8S.dns
    coredns = {"name": dns.deployment.name, "namespace": SYSTEM, "desired": dns.deployment.replicas,
               "available": dns.deployment.replicas, "updated": dns.deployment.replicas, "observed": True}
    metrics = [{"name": host.name, "at": "2025-12-31T23:59:40Z", "cpu": "812m", "memory": "2048Ki"}
               for host in SITE.hosts]
    return {
        "version": {"at": AT, "version": "v1.34.4", "attempts": []},
        "nodes": listed([node(host) for host in SITE.hosts]), "pods": listed(pods), "daemonsets": listed(sets),
        "deployments": listed([coredns]), "node_metrics": listed(metrics),
        "definitions": listed([{"name": "clusterpolicies.nvidia.com", "established": True}]),
        "clusterpolicies": listed([{"name": operator.policy, "state": "ready"}]),
        "storageclasses": listed([{"name": K8S.storage.default_class, "provisioner": "p", "default": True}]),
        "services": listed([{"name": dns.service, "namespace": dns.namespace, "type": "ClusterIP",
                             "address": "10.96.0.10", "ports": [53]}]),
        "endpointslices": listed([]), **tenants_state(),
    }


def tenants_state() -> dict[str, Any]:
    """What the chart tenants makes, and the bindings of any cluster."""
    tenants = K8S.tenants
    spaces, quotas, limits, policies, roles, bindings = ([] for _ in range(6))
    spaces.append({"name": SYSTEM, "labels": {}, "phase": "Active"})
    for name, team in tenants.teams.items():
        labels = {**team.labels, "pod-security.kubernetes.io/enforce": tenants.pod_security}
        spaces.append({"name": name, "labels": labels, "phase": "Active"})
        own = {"namespace": name}
        quotas.append({"name": tenants.quota, **own, "hard": {f"requests.{GPU}": str(team.gpus)},
                       "used": {f"requests.{GPU}": "0"}, "scoped": False})
        limits.append({"name": tenants.limit_range, **own, "limits": [{"type": "Container"}]})
        policies += [{"name": policy, **own, "selector": {}, "types": ["Ingress", "Egress"], "ingress": [],
                      "egress": []} for policy in tenants.policies]
        roles.append({"name": tenants.role, **own, "rules": [rule(["get", "create"], ["pods"])]})
        bindings.append({"name": tenants.role, **own, "role_kind": "Role", "role": tenants.role,
                         "subjects": [f"Group {team.group}"]})
    everything = [rule(["*"], ["*"], groups=["*"])]
    return {
        "namespaces": listed(spaces), "resourcequotas": listed(quotas), "limitranges": listed(limits),
        "networkpolicies": listed(policies), "roles": listed(roles), "rolebindings": listed(bindings),
        "clusterroles": listed([{"name": "cluster-admin", "namespace": "", "rules": everything},
                                {"name": "view", "namespace": "", "rules": [rule(["get", "list"], ["pods"])]}]),
        "clusterrolebindings": listed([
            {"name": "cluster-admin", "namespace": "", "role_kind": "ClusterRole", "role": "cluster-admin",
             "subjects": ["Group system:masters"]},
            {"name": "viewers", "namespace": "", "role_kind": "ClusterRole", "role": "view",
             "subjects": ["Group auditors"]}]),
    }


def rule(verbs: list[str], resources: list[str], groups: list[str] | None = None) -> dict[str, Any]:
    """One rule of a role."""
    return {"verbs": verbs, "groups": groups or [""], "resources": resources, "names": [], "urls": []}


READY = "[+]ping ok\n[+]etcd ok\n[+]poststarthook/rbac ok\n"


def health() -> list[tuple[str, dict[str, Any]]]:
    """What each API server says of itself; two records a host."""
    return [(host.name, {"path": path, "status": 200, "attempts": [], "error_text": "",
                         "text": f"{READY}{path[1:]} check passed\n"})
            for host in SITE.group("k8s_control") for path in ("/livez", "/readyz")]


def histogram(name: str, seconds: float, count: int) -> list[str]:
    """Metrics of `count` observations that took so long."""
    bounds = [0.001 * 2**n for n in range(14)]
    lines = [f'{name}_bucket{{le="{bound:g}"}} {count if bound >= seconds else 0}' for bound in bounds]
    return [*lines, f'{name}_bucket{{le="+Inf"}} {count}', f"{name}_sum {seconds * count}", f"{name}_count {count}"]


def etcd_sample(count: int, fsync_s: float = 0.002, commit_s: float = 0.004, size: str = "2.5e+07") -> list[str]:
    """etcd's metrics after so many writes."""
    return [*histogram("etcd_disk_wal_fsync_duration_seconds", fsync_s, count),
            *histogram("etcd_disk_backend_commit_duration_seconds", commit_s, count),
            "etcd_server_has_leader 1", "etcd_server_is_leader 1", f"etcd_mvcc_db_total_size_in_bytes {size}",
            "etcd_server_quota_backend_bytes 2.147483648e+09"]


def etcd() -> dict[str, Any]:
    """The document of each control plane host."""
    hosts = SITE.group("k8s_control")
    head = {"header": {"cluster_id": "1", "member_id": "11"}}
    members = [{"ID": f"{11 + n}", "name": host.name} for n, host in enumerate(hosts)]
    return {host.name: {"members": {**head, "members": members}, "alarms": dict(head),
                        "status": {**head, "leader": "11", "version": "3.6.5"},
                        "samples": [etcd_sample(1000), etcd_sample(1100)]} for host in hosts}


def certificate(host: Host) -> dict[str, Any]:
    """A certificate with every name that a host could need."""
    names = [*K8S.certificates.api_server_names, host.name, host.address, str(SITE.contract.network.service_range[1])]
    return {"subject": f"CN={host.name}", "names": names, "not_after": "2026-12-31T00:00:00+00:00"}


def certificates() -> dict[str, Any]:
    """The documents of kube-certificates."""
    contract = K8S.certificates
    return {host.name: {
        "at": AT, "ports": {str(port): certificate(host) for port in ports_of(contract, host.groups)},
        "files": {pattern: {pattern.replace("*", "one"): [certificate(host)]}
                  for pattern in files_of(contract, host.groups)}} for host in SITE.hosts}


def rights() -> dict[str, Any]:
    """The suite's rights as they should be."""
    groups = {"needed": (needed(SITE.contract), True), "forbidden": (forbidden(), False)}
    return {OWN: {name: {right.text: {"allowed": allowed} for right in found}
                  for name, (found, allowed) in groups.items()}}


def rbac() -> dict[str, Any]:
    """Every cell as contracted."""
    cells = K8S.rbac.cells()
    found: dict[str, Any] = {
        name: {"cells": {cell.name: {"allowed": cell.allowed} for cell in cells if cell.subject == name}}
        for name in K8S.rbac.subjects}
    return found | {CALLS: {"calls": {cell.name: {"allowed": cell.allowed} for cell in sample(K8S.rbac)}}}


def dry_run() -> dict[str, Any]:
    """What is tried in each team's namespace."""
    defaults = K8S.tenants.container_defaults
    given = {"requests": {"cpu": defaults.cpu_request, "memory": defaults.memory_request},
             "limits": {"cpu": defaults.cpu_limit, "memory": defaults.memory_limit}}
    admitted = {"status": 201, "attempts": [], "message": "", "resources": given}

    def refused(why: str) -> dict[str, Any]:
        return {"status": 403, "attempts": [], "message": f'status 403: pods "t" is forbidden: {why}'}

    security = 'violates PodSecurity "baseline:latest": host namespaces'
    return {name: {"used_gpus": 0, "tries": {
        "compliant": dict(admitted), "no-limits": copy.deepcopy(admitted), "quota-left": dict(admitted),
        "quota-exceeded": refused("exceeded quota: team, requested: requests.nvidia.com/gpu=17"),
        **{kind: refused(security) for kind in ("privileged", "hostPath", "hostPID", "hostNetwork")}}}
        for name in K8S.tenants.teams}


def probes() -> dict[str, Any]:
    """The documents of kube-probes."""
    hosts = [host.name for host in SITE.hosts]
    servers = {name: {"address": f"10.244.{n}.2", "service": f"10.96.1.{n}", "problem": ""}
               for n, name in enumerate(hosts, 1)}
    first, everyone = servers[hosts[0]]["service"], sorted(one["address"] for one in servers.values())
    dns = {"service": {"code": 0, "addresses": [first]}, "short": {"code": 0, "addresses": [first]},
           "headless": {"code": 0, "addresses": everyone}, "no such host": {"code": 3, "addresses": []},
           "no such service": {"code": 3, "addresses": []},
           **{f"external {name}": {"code": 0, "addresses": ["10.1.2.3"]} for name in K8S.dns.external_names}}
    result = {"mtu": {"eth0": K8S.cni.pod_mtu}, "dns": dns, "udp": {name: {"end": "echoed"} for name in hosts},
              "tcp": {f"{kind} {name}": {"end": "connected", "name": name} for kind in ("pod", "service")
                      for name in hosts}}
    found: dict[str, Any] = {f"client/{name}": {"result": result} for name in hosts}
    return found | {"swept": {"objects": []}, "servers": {"servers": servers, "names": {}, "named": hosts[0]},
                    "storage": {"token": "5ec2e7", "phase": "Bound", "read": "5ec2e7", "problem": ""}}


def policies() -> dict[str, Any]:
    """The documents of kube-flows."""
    nodes, cells = [host.name for host in SITE.group("gpu_nodes")], K8S.flows.cells()
    servers = {space: {node: {"address": "10.244.1.9", "problem": ""} for node in nodes}
               for space in K8S.flows.destinations}
    found: dict[str, Any] = {"swept": {"objects": []}, "servers": {"servers": servers}}
    for source in K8S.flows.sources:
        for node in nodes:
            tcp = {key(cell.destination, cell.port, on):
                   {"end": "connected", "name": on} if cell.allowed else {"end": "refused"}
                   for cell in cells if cell.source == source for on in (node, following(nodes, node))}
            found[f"{source}/{node}"] = {"result": {"mtu": {}, "tcp": tcp, "udp": {}, "dns": {}}}
    return found


def gpu_log(uuids: list[str]) -> str:
    """What a pod prints that sees these GPUs."""
    listed = [f"GPU {n}: NVIDIA A100-PCIE-40GB (UUID: {uuid})" for n, uuid in enumerate(uuids)]
    if not uuids:
        return "begin\nsh: 1: nvidia-smi: not found\nexit 127\nend\n"
    return "\n".join(["begin", *listed, "exit 0", *(f"/dev/nvidia{n}" for n in range(len(uuids))), "end", ""])


def gpu_pods() -> dict[str, Any]:
    """The documents of kube-gpu-pods."""
    nodes, count = [host.name for host in SITE.group("gpu_nodes")], SITE.contract.gpu.count
    insufficient = "Unschedulable: 0/9 nodes are available: 8 Insufficient nvidia.com/gpu."

    def running(node: str, uuids: list[str]) -> dict[str, Any]:
        return {"phase": "Running", "node": node, "why": "", "log": gpu_log(uuids)}

    waiting = {"phase": "Pending", "node": "", "why": insufficient, "log": ""}
    each = [(node, f"GPU-{node}-{n}") for node in nodes for n in range(count)]
    sizes = {"1": running(nodes[0], [each[0][1]]), str(count): running(nodes[0], [uuid for _, uuid in each[:count]]),
             str(count + 1): waiting}
    return {"holders": {"pods": []}, "swept": {"objects": []}, "sizes": {"tries": sizes},
            "free": {"tries": {node: {kind: running(node, []) for kind in ("plain", "all")} for node in nodes}},
            "many": {"tries": {f"acceptance-one-{n:03}": running(node, [uuid])
                               for n, (node, uuid) in enumerate(each, 1)}},
            "next": {"waited": True, "why": insufficient, "freed": "acceptance-one-001",
                     "after": running(each[0][0], [each[0][1]])}}


def healthy() -> Recorded:
    """Everything."""
    found: Recorded = {"kube-probes": probes(), "kube-flows": policies(), "kube-gpu-pods": gpu_pods(),
                       "kube-state": state(), "etcd": etcd(), "kube-certificates": certificates(),
                       "kube-rights": rights(), "kube-rbac": rbac(), "kube-dry-run": dry_run(),
                       "kube-health": {f"{name} {document['path']}": document for name, document in health()}}
    return copy.deepcopy(found)


def recorded(documents: Recorded) -> Evidence:
    """The documents as evidence."""
    pairs = [(collector, subject.split(" /")[0] if collector == "kube-health" else subject, document)
             for collector, subjects in documents.items() for subject, document in subjects.items()]
    return Evidence(tuple(Record(f"e{n:04}", AT, collector, subject, None, None, document)
                          for n, (collector, subject, document) in enumerate(pairs, 1)))


def with_pod(sections: dict[str, Any]) -> None:
    """Adds a pod's interface to a host."""
    port = sections["net"]["interfaces"][SITE.contract.network.fabric.interface]
    sections["net"]["interfaces"]["cali0123456789a"] = port | {"mtu": K8S.cni.pod_mtu, "addresses": []}


def facts() -> Cluster:
    """Facts of healthy hosts with a pod's interface each."""
    return Broken(breaks={host.name: [network_sections(host), with_pod] for host in SITE.hosts}).cluster()


FACTS = facts()


def judge(check: str, change: Change = lambda _: None, cluster: Cluster = FACTS) -> Findings:
    """Judge a check on a healthy cluster after a change of what was recorded."""
    documents = healthy()
    change(documents)
    return judge_check(check, cluster, "gpu-node-03", recorded(documents))
