"""Faults of what users share: GPUs in pods, rights, network policies, quotas and the teams' namespaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab.faults.base import Expect, Fault
from lab.faults.gpu import STATE
from lab.faults.kubectl import SOUND, ClusterFault, apply, delete, may, patch
from lab.faults.kubernetes import kept_off, pod_fault
from lab.hosts import Lab

RBAC = "rbac.authorization.k8s.io"
COPY, LEAK = "/run/lab-gpu-state", "/etc/containerd/lab-leak.json"
OFFERED = "[ \"$(kubectl get node {host} -o jsonpath='{.status.allocatable.nvidia\\.com/gpu}')\" = %s ]"
PLUGIN_AGAIN = ("kubectl -n gpu-operator delete pod -l app=nvidia-device-plugin-daemonset --field-selector "
                "spec.nodeName={host}")
PLUGIN_READY = "kubectl -n gpu-operator rollout status daemonset nvidia-device-plugin-daemonset --timeout=60s"
STATE_BACK = f"[ ! -e {COPY} ] || {{ cat {COPY} > {STATE}; rm {COPY}; }}"
AGENT = "$(pgrep -f '^/usr/local/bin/standin agent')"
DISCOVERY = "$(pgrep -f '^/usr/local/bin/standin feature-discovery')"
OPERATOR_TOLD = may(("gpu-operator", "clusterpolicy/*"))
# mounts that put the driver into every container of a node, whether or not it asked for a GPU
LEAKING = """import json
spec = json.load(open('/run/lab-spec.json'))
driver = {'/run/nvidia/driver/usr': '/usr', '/var/lib/lab-gpu': '/var/lib/lab-gpu',
          '/usr/bin/nvidia-smi': '/usr/lib/lab-gpu/nvidia-smi-in-container',
          '/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1': '/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1'}
spec['mounts'] += [{'destination': to, 'type': 'bind', 'source': source, 'options': ['rbind', 'ro']}
                   for to, source in driver.items()]
json.dump(spec, open('LEAK', 'w'))""".replace("LEAK", LEAK)


@dataclass(frozen=True)
class UuidOfAnother(ClusterFault):
    """A GPU of the target bears the UUID of a GPU of a peer: two pods hold what is one GPU by name."""

    def inject(self, lab: Lab, target: str) -> None:
        peer = next(name for name in lab.gpu_nodes if name != target)
        line = next(one for one in lab.host(peer).read(STATE).splitlines() if one.startswith("gpu0.uuid"))
        lab.host(target).run(f"[ -e {COPY} ] || cp {STATE} {COPY}; sed '/^gpu0.uuid/d' {COPY} > {STATE}; "
                             f"echo '{line}' >> {STATE}")
        super().inject(lab, target)


def binding(name: str, role: str, kind: str, who: str, namespace: str = "", role_kind: str = "ClusterRole",
            home: str = "") -> dict[str, Any]:
    """A RoleBinding, or without a namespace a ClusterRoleBinding."""
    subject = {"kind": kind, "name": who} | ({"namespace": home} if home else {"apiGroup": RBAC})
    return {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
            "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
            "roleRef": {"apiGroup": RBAC, "kind": role_kind, "name": role}, "subjects": [subject]}


def bound(name: str, breaks: str, expects: tuple[Expect, ...], *objects: dict[str, Any]) -> ClusterFault:
    """A fault of objects of access control that should not be there."""
    def words(one: dict[str, Any]) -> str:
        space = one["metadata"].get("namespace")
        return f"{'-n ' + space if space else ''} {one['kind'].lower()} {one['metadata']['name']}"

    return ClusterFault(name, breaks, (*expects, *may(("rbac", "bindings"), ("rbac", "calls"))),
                        inject_command=apply(*objects), clear_command="; ".join(delete(words(one)) for one in objects))


def removed(name: str, breaks: str, expects: tuple[Expect, ...], *objects: str) -> ClusterFault:
    """Objects are gone; they are put back from what was saved."""
    return ClusterFault(name, breaks, expects, objects=objects, inject_command="; ".join(map(delete, objects)))


def changed(name: str, breaks: str, expects: tuple[Expect, ...], words: str, change: Any,
            kind: str = "merge") -> ClusterFault:
    """An object is patched; it is put back from what was saved."""
    return ClusterFault(name, breaks, expects, objects=(words,), inject_command=patch(words, change, kind))


def labelled(namespace: str, label: str, value: str | None) -> tuple[str, dict[str, Any]]:
    """Words and patch that give a namespace a label, or take it away."""
    return f"namespace {namespace}", {"metadata": {"labels": {label: value}}}


WILD = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": "lab-wild"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
ALLOW_ALL = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
             "metadata": {"name": "lab-allow-all", "namespace": "cv-team"},
             "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}}
ENFORCE = "pod-security.kubernetes.io/enforce"
ML_POLICIES = ("-n ml-team networkpolicy default-deny", "-n ml-team networkpolicy allow-same-namespace")

GPUS: tuple[Fault, ...] = (
    kept_off("device-plugin-missing", "the device plugin does not run on one node", "gpu-operator",
             "nvidia-device-plugin-daemonset",
             (Expect("gpu-operator", "*/nvidia-device-plugin-daemonset"), Expect("gpu-allocatable", "{host}"),
              *may(("gpu-allocatable", "cluster"), ("gpu-scheduling", "*"), ("gpu-operator", "*"))),
             broken=OFFERED % 0, mended=SOUND),
    ClusterFault("device-plugin-offers-3", "the device plugin offers three of four GPUs",
                 (Expect("gpu-allocatable", "{host}"), Expect("gpu-scheduling", "cluster"),
                  *may(("gpu-allocatable", "cluster"), ("gpu-scheduling", "*"), ("gpu-operator", "{host}"))),
                 target="gpu-node-03", broken=OFFERED % 3, mended=SOUND, on_host_clear=STATE_BACK,
                 on_host=f"[ -e {COPY} ] || cp {STATE} {COPY}; "
                         f"echo 'gpu3.error.nvmlDeviceGetHandleByIndex_v2 = 15' >> {STATE}"),
    UuidOfAnother("gpu-uuid-of-another", "two pods hold GPUs of one UUID",
                  (Expect("gpu-scheduling", "GPU-*"), *may(("gpu-scheduling", "*"), ("gpu-allocatable", "{host}"))),
                  target="gpu-node-03", inject_command=PLUGIN_AGAIN, broken=f"{PLUGIN_READY} && {SOUND}",
                  on_host_clear=STATE_BACK, clear_command=PLUGIN_AGAIN, mended=f"{PLUGIN_READY} && {SOUND}"),
    ClusterFault("gpu-leaks", "every container of one node sees its GPUs", (Expect("gpu-isolation", "{host}"),),
                 target="gpu-node-03",
                 on_host=f"ctr oci spec > /run/lab-spec.json && python3 -c \"{LEAKING}\" && "
                         "sed -i '/runtimes.runc]$/a base_runtime_spec = \"" + LEAK + "\"' /etc/containerd/config.toml "
                         "&& systemctl restart containerd",
                 on_host_clear="sed -i '/^base_runtime_spec/d' /etc/containerd/config.toml && "
                               f"rm -f {LEAK} && systemctl restart containerd", broken=SOUND, mended=SOUND),
    ClusterFault("gpu-label-wrong", "one node's label tells of other GPUs", (Expect("gpu-operator", "{host}"),),
                 target="gpu-node-03", on_host=f"kill -STOP {DISCOVERY}",
                 inject_command="kubectl label node {host} nvidia.com/gpu.product=NVIDIA-A30 --overwrite",
                 on_host_clear=f"kill -CONT {DISCOVERY}",
                 clear_command="kubectl label node {host} nvidia.com/gpu.product=NVIDIA-A100-PCIE-40GB --overwrite"),
    ClusterFault("cluster-policy-not-ready", "the GPU Operator's policy is not ready",
                 (Expect("gpu-operator", "clusterpolicy/cluster-policy"),),
                 inject_command=patch("clusterpolicy cluster-policy --subresource=status",
                                      {"status": {"state": "notReady"}}),
                 clear_command=patch("clusterpolicy cluster-policy --subresource=status",
                                     {"status": {"state": "ready"}})),
    removed("operand-missing", "the GPU Operator's validator was removed",
            (Expect("gpu-operator", "gpu-operator/nvidia-operator-validator"), *OPERATOR_TOLD),
            "-n gpu-operator daemonset nvidia-operator-validator"),
    pod_fault("operand-crashes", "a pod of the GPU Operator crashes beside those that run", "CrashLoopBackOff|Error",
              "gpu-operator", also=(Expect("gpu-operator", "gpu-operator/lab-operand-crashes"),)),
)

RIGHTS: tuple[Fault, ...] = (
    bound("binding-extra", "a team may work in another's namespace", (Expect("rbac", "nlp-scientist: * in cv-team"),
          *may(("rbac", "nlp-scientist"), ("rbac", "cv-team/lab-extra *"))),
          binding("lab-extra", "edit", "Group", "nlp-team", namespace="cv-team")),
    bound("cluster-binding-extra", "a team may read all namespaces",
          (Expect("rbac", "ml-scientist: * in kube-system"), *may(("rbac", "ml-scientist*"))),
          binding("lab-view", "view", "Group", "ml-team")),
    changed("right-missing", "a team's role lacks what the contract gives",
            (Expect("rbac", "cv-scientist: * in cv-team"), *may(("rbac", "cv-scientist"), ("rbac", "calls"))),
            "-n cv-team role scientist", [{"op": "remove", "path": "/rules/0"}], "json"),
    bound("role-wildcard", "a service account holds a role of wildcards", (Expect("rbac", "lab-wild *"),),
          WILD, binding("lab-wild", "lab-wild", "ServiceAccount", "default", home="default")),
    bound("masters-extra", "one more user is cluster administrator", (Expect("rbac", "lab-eve *"),),
          binding("lab-eve", "cluster-admin", "User", "eve")),
    bound("anonymous-bound", "who has no name may read",
          (Expect("rbac", "anonymous: *"), *may(("rbac", "anonymous"), ("rbac", "lab-anonymous *"))),
          binding("lab-anonymous", "view", "Group", "system:unauthenticated")),
    bound("suite-too-mighty", "this suite may do anything",
          (Expect("suite-rights", "suite"), *may(("rbac", "lab-suite *"))),
          binding("lab-suite", "cluster-admin", "ServiceAccount", "validator", home="acceptance")),
)

SHARED: tuple[Fault, ...] = (
    removed("default-deny-removed", "a team has no default-deny policy", (Expect("tenants", "ml-team"),),
            ML_POLICIES[0]),
    removed("policies-removed", "a team's policies that isolate are gone",
            (Expect("network-policy", "*→ml-team:*"), *may(("tenants", "ml-team"))), *ML_POLICIES),
    ClusterFault("policy-allow-all", "a policy lets everybody in",
                 (Expect("network-policy", "*→cv-team:*"), *may(("tenants", "cv-team"))),
                 inject_command=apply(ALLOW_ALL), clear_command=delete("-n cv-team networkpolicy lab-allow-all")),
    ClusterFault("policy-engine-off", "one node enforces no policies",
                 (Expect("network-policy", "* on {host}"), Expect("cni", "kube-system/lab-network"),
                  *may(("pods", "kube-system/lab-network-*"), ("pods", "cluster"))), target="gpu-node-03",
                 on_host=f"kill -STOP {AGENT} && nft delete table ip lab-policy",
                 # the agent writes its rules only when they change: another one starts from nothing
                 on_host_clear=f"kill -CONT {AGENT}",
                 clear_command="kubectl -n kube-system delete pod -l app=lab-network --field-selector "
                               "spec.nodeName={host}",
                 broken="! kubectl -n kube-system wait pod -l app=lab-network --field-selector spec.nodeName={host} "
                        "--for=condition=Ready --timeout=1s",
                 mended="kubectl -n kube-system rollout status daemonset lab-network --timeout=60s"),
    changed("pod-security-removed", "a namespace enforces no pod security",
            (Expect("pod-security", "ml-team"), *may(("tenants", "ml-team"))), *labelled("ml-team", ENFORCE, None)),
    changed("pod-security-privileged", "a namespace admits privileged pods",
            (Expect("pod-security", "cv-team"), *may(("tenants", "cv-team"))),
            *labelled("cv-team", ENFORCE, "privileged")),
    removed("quota-removed", "a team has no quota", (Expect("quotas", "nlp-team"), *may(("tenants", "nlp-team"))),
            "-n nlp-team resourcequota team"),
    changed("quota-larger", "a team's quota is larger than contracted", (Expect("quotas", "cv-team"),),
            "-n cv-team resourcequota team", {"spec": {"hard": {"requests.nvidia.com/gpu": "12"}}}),
    removed("limit-range-removed", "a team's containers get no defaults",
            (Expect("quotas", "ml-team"), *may(("tenants", "ml-team"))), "-n ml-team limitrange defaults"),
    changed("team-label-missing", "a team's namespace lacks its label", (Expect("tenants", "nlp-team"),),
            *labelled("nlp-team", "team", None)),
    removed("team-unbound", "a team is not bound to its role",
            (Expect("tenants", "cv-team"), Expect("rbac", "cv-scientist: * in cv-team"),
             *may(("rbac", "cv-scientist"), ("rbac", "calls"))), "-n cv-team rolebinding scientist"),
)

FAULTS: tuple[Fault, ...] = (*GPUS, *RIGHTS, *SHARED)
