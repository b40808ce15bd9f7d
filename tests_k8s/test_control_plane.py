"""Phase 3: the API servers, etcd, versions and certificates."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime

from acceptance.checks import check
from acceptance.collectors.kubernetes.certificates import files_of, ports_of
from acceptance.collectors.kubernetes.health import PATHS
from acceptance.errors import ParseError, Unmeasured
from acceptance.measure.etcd import gauge, observations, p99_ms, parse_metrics
from acceptance.parse.tools import parse_version

if TYPE_CHECKING:
    from acceptance.evidence import Evidence
    from acceptance.facts.kubernetes import KubeFacts
    from acceptance.findings import Findings
    from acceptance.site.contract import Contract
    from acceptance.site.inventory import Host
    from acceptance.site.kubernetes import Etcd
    from acceptance.site.load import Site

CLAUSE = "Application Configuration / Kubernetes Cluster Deployment"
CONTROL = "k8s_control"
_PASSED = re.compile(r"(?:livez|readyz) check passed\s*\Z")
_STEP = re.compile(r"^\[([+-])\](\S+)", re.MULTILINE)
HISTOGRAMS = {"fsync": "etcd_disk_wal_fsync_duration_seconds", "commit": "etcd_disk_backend_commit_duration_seconds"}


@check("api-health", phase=3, layer="kubernetes", area="k8s", needs=("kube-health",), daily=True, clause=CLAUSE,
       criterion="Every API server says of itself that it lives and is ready, in each of its own checks",
       remedy="kubectl get --raw '/readyz?verbose'; crictl ps and journalctl -u kubelet on the host named; a failed "
              "step etcd leads to the check etcd")
def test_api_health(site: Site, evidence: Evidence, findings: Findings) -> None:
    for host in site.group(CONTROL):
        records = {str(record.document.get("path")): record for record in evidence.of("kube-health", host.name)
                   if isinstance(record.document, dict)}
        for path in PATHS:
            record = records.get(path)
            if record is None:
                findings.blocked(path, "was not asked", subject=host.name, required="ok")
                continue
            document, named = record.document, {"subject": host.name, "evidence": (record.id,)}
            text = str(document.get("text") or "")
            failed = [name for sign, name in _STEP.findall(text) if sign == "-"]
            if document.get("status") is None:
                findings.fail(path, str(document.get("error_text")), measured="no answer", required="ok", **named)
            elif document["status"] != 200 or failed:
                findings.fail(path, f"failed: {', '.join(failed) or document.get('error_text')}",
                              measured=document["status"], required=200, **named)
            else:
                steps = [name for _, name in _STEP.findall(text)]
                findings.holds(path, bool(steps) and bool(_PASSED.search(text)), required="every step passed",
                               measured=f"{len(steps)} steps passed", relation="=", **named)


@check("etcd", phase=3, layer="kubernetes", area="k8s", needs=("etcd",), daily=True, clause=CLAUSE,
       criterion="etcd has its contracted members and a leader, no alarm, fast disks and space",
       remedy="etcdctl member list, alarm list, endpoint status -w table on the host named; a slow fsync is a slow or "
              "shared disk; NOSPACE: compact, defragment, then alarm disarm")
def test_etcd(site: Site, kube: KubeFacts, findings: Findings) -> None:
    hosts = site.group(CONTROL)
    for host in hosts:
        try:
            document = kube.record(host.name, "etcd").document
            findings.evidence = kube.id(host.name, "etcd")
        except Unmeasured as problem:
            findings.blocked("etcd", str(problem), subject=host.name)
            continue
        _judge_part(findings, host, "members", _members, document, [one.name for one in hosts])
        _judge_part(findings, host, "alarms", _alarms, document)
        _judge_part(findings, host, "metrics", _metrics, document, site.contract.kubernetes.etcd)


def _judge_part(findings: Findings, host: Host, part: str, judge: Any, *arguments: Any) -> None:
    try:
        judge(findings, host.name, *arguments)
    except Unmeasured as problem:
        findings.blocked(part, str(problem), subject=host.name)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        findings.blocked(part, f"etcd's answer is of another form: {type(problem).__name__}: {problem}",
                         subject=host.name)


def _part(document: dict[str, Any], name: str) -> dict[str, Any]:
    """One answer of etcd. Raises Unmeasured; each real answer has a header."""
    found = document.get(name)
    if not isinstance(found, dict) or not isinstance(found.get("header"), dict):
        error = found.get("error") if isinstance(found, dict) else None
        raise Unmeasured(f"{name}: {error or 'etcd gave no answer'}")
    return found


def _members(findings: Findings, subject: str, document: dict[str, Any], hosts: list[str]) -> None:
    members = _part(document, "members")["members"]
    findings.same_set("members", subject=subject, measured=[one.get("name") or "not started" for one in members],
                      required=hosts)
    findings.empty("members that only learn", subject=subject,
                   measured=[one["name"] for one in members if one.get("isLearner")])
    leader = _part(document, "status").get("leader")
    findings.equal("its leader is a member", subject=subject, required=True,
                   measured=leader in {str(one["ID"]) for one in members} if leader else False)


def _alarms(findings: Findings, subject: str, document: dict[str, Any]) -> None:
    alarms = _part(document, "alarms").get("alarms", [])
    findings.empty("alarms", subject=subject, measured=[str(one["alarm"]) for one in alarms])


def _metrics(findings: Findings, subject: str, document: dict[str, Any], limits: Etcd) -> None:
    samples = document.get("samples")
    if not isinstance(samples, list) or len(samples) != 2 or not all(isinstance(one, list) for one in samples):
        broken = [one for one in samples or [] if isinstance(one, dict)] if isinstance(samples, list) else []
        raise Unmeasured(f"metrics: {broken[0].get('error') if broken else 'were not read twice'}")
    first, last = parse_metrics(samples[0]), parse_metrics(samples[1])
    findings.equal("has a leader", subject=subject, measured=gauge(last, "etcd_server_has_leader"), required=1.0)
    used = gauge(last, "etcd_mvcc_db_total_size_in_bytes") / gauge(last, "etcd_server_quota_backend_bytes")
    findings.at_most("database, of its quota", subject=subject, measured=round(100 * used, 2),
                     required=limits.max_db_percent, unit="%")
    for name, limit in (("fsync", limits.max_fsync_p99_ms), ("commit", limits.max_commit_p99_ms)):
        histogram = HISTOGRAMS[name]
        findings.at_most(f"p99 of {name}, since etcd's start", subject=subject, unit="ms", required=limit,
                         measured=round(p99_ms({}, last, histogram), 3))
        if observations(first, last, histogram) >= limits.min_observations:
            findings.at_most(f"p99 of {name}, in the last {limits.sample_seconds} s", subject=subject, unit="ms",
                             required=limit, measured=round(p99_ms(first, last, histogram), 3))


@check("versions", phase=3, layer="kubernetes", area="k8s", needs=("kube-state",), daily=True, clause=CLAUSE,
       criterion="The API server is at least as new as contracted; all kubelets have one version that it supports",
       remedy="kubectl get nodes; kubeadm upgrade node and the kubelet's package on the node named")
def test_versions(site: Site, kube: KubeFacts, findings: Findings) -> None:
    contract = site.contract.kubernetes
    server = parse_version(kube.version)
    findings.holds("API server", server >= parse_version(contract.min_version), measured=server.text, relation="≥",
                   required=contract.min_version, subject="API server", evidence=kube.id("version"))
    findings.evidence = kube.id("nodes")
    counts: dict[str, int] = {}
    for node in kube.nodes.values():
        counts[node.kubelet] = counts.get(node.kubelet, 0) + 1
    common = max(counts, key=lambda text: counts[text])
    for name, node in kube.nodes.items():
        try:
            version = parse_version(node.kubelet)
        except ParseError as problem:
            findings.blocked("kubelet", str(problem), subject=name)
            continue
        behind = server.minor - version.minor
        good = version.major == server.major and 0 <= behind <= contract.max_minors_behind and (
            behind > 0 or version <= server)
        findings.holds("kubelet beside the API server", good, measured=version.text, required=server.text, subject=name,
                       relation=f"not newer, and at most {contract.max_minors_behind} minor versions older than")
        findings.equal("kubelet, as on the other nodes", measured=node.kubelet, required=common, subject=name)


@check("certificates", phase=3, layer="kubernetes", area="k8s", needs=("kube-certificates",), daily=True, clause=CLAUSE,
       criterion="Every certificate of the cluster is valid for long enough and holds the names it is used under",
       remedy="kubeadm certs check-expiration and kubeadm certs renew on the control plane; on a worker the kubelet "
              "renews its own: journalctl -u kubelet")
def test_certificates(site: Site, kube: KubeFacts, findings: Findings) -> None:
    for host in site.hosts:
        try:
            record = kube.record(host.name, "kube-certificates")
            at: datetime = kube.parse(host.name, record.document.get("at"), AwareDatetime)
        except Unmeasured as problem:
            findings.blocked("certificates", str(problem), subject=host.name)
            continue
        findings.evidence = (record.id,)
        _judge_ports(findings, site.contract, host, record.document.get("ports"), at)
        _judge_files(findings, site.contract, host, record.document, at)


def _judge_ports(findings: Findings, contract: Contract, host: Host, ports: Any, at: datetime) -> None:
    found = ports if isinstance(ports, dict) else {}
    for port in ports_of(contract.kubernetes.certificates, host.groups):
        subject = f"{host.name}:{port}"
        certificate = found.get(str(port))
        if _judge_days(findings, contract, subject, certificate, at) and isinstance(certificate, dict):
            names = certificate.get("names")
            missing = None if not isinstance(names, list) else [
                name for name in names_of(contract, host, port) if name not in names]
            findings.empty("names that its certificate lacks", subject=subject, measured=missing)


def names_of(contract: Contract, host: Host, port: int) -> list[str]:
    """Names and addresses under which a port is used, so that its certificate must hold them."""
    kubernetes = contract.kubernetes
    if port == kubernetes.api_port:
        return [*kubernetes.certificates.api_server_names, host.address, str(contract.network.service_range[1])]
    return [host.name]


def _judge_files(findings: Findings, contract: Contract, host: Host, document: dict[str, Any], at: datetime) -> None:
    found = document.get("files")
    for pattern in files_of(contract.kubernetes.certificates, host.groups):
        paths = found.get(pattern) if isinstance(found, dict) else None
        if not isinstance(paths, dict):
            why = document.get("files_error") or "was not looked for"
            findings.blocked("certificates in files", f"{pattern}: {why}", subject=host.name)
            continue
        findings.at_least(f"files {pattern}", measured=len(paths), required=1, subject=host.name)
        for path, certificates in paths.items():
            subject = f"{host.name}:{path}"
            if not isinstance(certificates, list):
                error = certificates.get("error") if isinstance(certificates, dict) else "of another form"
                findings.blocked("certificates", f"the file could not be read: {error}", subject=subject)
                continue
            findings.at_least("certificates", measured=len(certificates), required=1, subject=subject)
            for certificate in certificates:
                _judge_days(findings, contract, subject, certificate, at)


def _judge_days(findings: Findings, contract: Contract, subject: str, certificate: Any, at: datetime) -> bool:
    """Whether there is a certificate to judge further."""
    required = contract.kubernetes.certificates.min_days
    try:
        end = datetime.fromisoformat(certificate["not_after"])
        days = (end - at).total_seconds() / 86400
    except (KeyError, TypeError, ValueError):
        error = certificate.get("error") if isinstance(certificate, dict) else None
        findings.blocked("days left", str(error or "no certificate was seen"), subject=subject, required=required)
        return False
    findings.at_least("days left", measured=round(days, 1), required=required, subject=subject, unit="days")
    return True
