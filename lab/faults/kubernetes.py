"""Faults of the cluster: control plane, nodes, pod network, names, workloads, storage and metrics."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any

import yaml

from lab.faults.base import Expect, Fault
from lab.faults.kubectl import PHASES, PODS_SOUND, SOUND, ClusterFault, apply, delete, gone, may, patch
from lab.faults.prerequisites import site_override
from lab.hosts import ROOT, Lab

WRITING = threading.Lock()  # faults are injected several at a time
SYSTEM = "kubectl -n kube-system"
PKI = "/var/lib/kubelet/pki"
RESTART = "systemctl restart kubelet && curl -sf --retry 30 --retry-delay 1 --retry-all-errors 127.0.0.1:10248/healthz"
MANIFEST, AWAY = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/kube-apiserver.lab"
PORTS, FEWER = "/sys/class/net", "/run/lab-ports"
ETCD_CALL = ("cd /etc/kubernetes/pki/etcd && curl -sf --cacert ca.crt --cert healthcheck-client.crt "
             "--key healthcheck-client.key https://127.0.0.1:2379/v3/maintenance/alarm "
             """-d '{"action":"%s","memberID":0,"alarm":"NOSPACE"}'""")
ALL_READY = ("kubectl wait --for=condition=Ready node --all --timeout=60s >/dev/null && "
             "kubectl -n gpu-operator rollout status ds --timeout=60s >/dev/null && "
             f"{SYSTEM} rollout status ds --timeout=60s >/dev/null && "
             "kubectl -n gpu-operator wait pod --all --for=condition=Ready --timeout=60s >/dev/null && "
             f"{SYSTEM} wait pod --all --for=condition=Ready --timeout=60s >/dev/null")
# what a node that is lost can make red beside itself; whatever the scheduler had put on it is nowhere for a while
LOST = may(
    ("pods", "*"), ("cni", "*"), ("gpu-operator", "*"), ("gpu-allocatable", "*"), ("metrics", "*"), ("storage", "*"),
    ("certificates", "{host}:*"), ("pod-network", "*"), ("dns", "*"), ("versions", "{host}"), ("network-policy", "*"),
    ("gpu-scheduling", "*"), ("gpu-isolation", "{host}"))


@dataclass(frozen=True)
class ContractFault(Fault):
    """The cluster is not as another contract says. Several may be in force at a time."""

    target: str = "operator"
    phases: str = PHASES
    change: dict[str, Any] = field(default_factory=dict)

    def inject(self, lab: Lab, target: str) -> None:  # noqa: ARG002
        changes = site_override(lab) / "changes"
        with WRITING:
            changes.mkdir(parents=True, exist_ok=True)
            (changes / f"{self.name}.yaml").write_text(yaml.safe_dump(self.change))
            self._write(lab)

    def clear(self, lab: Lab, target: str) -> None:  # noqa: ARG002
        with WRITING:
            (site_override(lab) / "changes" / f"{self.name}.yaml").unlink(missing_ok=True)
            self._write(lab)

    def _write(self, lab: Lab) -> None:
        folder = site_override(lab)
        kubernetes: dict[str, Any] = {}
        for path in sorted(folder.glob("changes/*.yaml")):
            for key, value in yaml.safe_load(path.read_text()).items():
                kubernetes.setdefault(key, {}).update(value)
        if not kubernetes:
            (folder / "site.yaml").unlink(missing_ok=True)
            return
        site = {"extends": os.path.relpath(ROOT / "lab/site.yaml", folder),
                "inventory": os.path.relpath(ROOT / "inventory/hosts.yml", folder), "kubernetes": kubernetes}
        (folder / "site.yaml").write_text(yaml.safe_dump(site))


def kubelet_fault(name: str, breaks: str, expects: tuple[Expect, ...], change: str, undo: str,
                  target: str = "gpu-node-03") -> ClusterFault:
    """A fault that the kubelet takes on when it is started again."""
    return ClusterFault(name, breaks, expects, target=target, on_host=f"{change} && {RESTART}",
                        on_host_clear=f"{undo}; {RESTART}", broken=SOUND, mended=SOUND)


def serving_certificate(name: str, breaks: str, days: int, alternative: str) -> ClusterFault:
    """The kubelet serves with a certificate of its own key, valid for some days, under some name."""
    return kubelet_fault(
        name, breaks, (Expect("certificates", "{host}:10250"),),
        f"[ -e {PKI}/lab.crt ] || cp -p {PKI}/kubelet.crt {PKI}/lab.crt; openssl req -x509 -key {PKI}/kubelet.key "
        f"-days {days} -subj /CN={alternative} -addext subjectAltName=DNS:{alternative} -out {PKI}/kubelet.crt",
        f"[ ! -e {PKI}/lab.crt ] || mv {PKI}/lab.crt {PKI}/kubelet.crt")


def kept_off(name: str, breaks: str, namespace: str, daemonset: str, expects: tuple[Expect, ...],
             broken: str = "", mended: str = "true") -> ClusterFault:
    """A DaemonSet's pod is kept off one node: its node affinity leaves the node out."""
    words = f"-n {namespace} daemonset {daemonset}"
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["{host}"]}]}]}}}
    rolled = f"kubectl -n {namespace} rollout status daemonset {daemonset} --timeout=60s"
    return ClusterFault(
        name, breaks, expects, target="gpu-node-03", objects=(words,), broken=f"{rolled} && {broken or 'true'}",
        inject_command=patch(words, {"spec": {"template": {"spec": {"affinity": affinity}}}}),
        mended=f"{rolled} && {mended}")


def pod(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """A pod of one container, not quite in order."""
    container = {"name": "main", "image": "docker.io/library/python:3.11-slim", "imagePullPolicy": "IfNotPresent",
                 "command": ["python3", "-c", "raise SystemExit(1)"], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}


def pod_fault(name: str, breaks: str, waits: str, namespace: str = "default", *, also: tuple[Expect, ...] = (),
              **spec: Any) -> ClusterFault:
    """A pod that is never well; `waits` is what `kubectl get pod` says of it."""
    called = f"lab-{name}"
    return ClusterFault(
        name, breaks, (Expect("pods", f"{namespace}/{called}"), *may(("pods", "cluster")), *also),
        inject_command=apply(pod(called, namespace, **spec)), clear_command=delete(f"-n {namespace} pod {called}"),
        broken=f"kubectl -n {namespace} get pod {called} --no-headers | grep -E '{waits}'",
        mended=gone(f"-n {namespace} pod {called}"))


def scaled(name: str, breaks: str, deployment: str, replicas: int, expects: tuple[Expect, ...],
           mended: str = "true") -> ClusterFault:
    """A deployment of kube-system has no pods."""
    scale = f"{SYSTEM} scale deployment {deployment} --replicas="
    return ClusterFault(
        name, breaks, expects, inject_command=f"{scale}0", clear_command=f"{scale}{replicas}",
        broken=f"""[ "$({SYSTEM} get deployment {deployment} -o jsonpath='{{.status.replicas}}')" = "" ]""",
        mended=f"{SYSTEM} rollout status deployment {deployment} --timeout=60s && {mended}")


FAULTS: tuple[Fault, ...] = (
    ClusterFault("api-server-down", "the API server is down", (Expect("api-health", "k8s-cp-01"), Expect(
        "*", "*", required=False)), target="k8s-cp-01", alone=True,
        on_host=f"mv {MANIFEST} {AWAY}", on_host_clear=f"[ ! -e {AWAY} ] || mv {AWAY} {MANIFEST}",
        broken="! kubectl get --raw /readyz", mended=f"kubectl get --raw /readyz && {ALL_READY}"),
    ClusterFault("etcd-alarm", "etcd has no space left, and takes no writes", (Expect("etcd", "k8s-cp-01"), Expect(
        "*", "*", required=False)), target="k8s-cp-01", alone=True, on_host=ETCD_CALL % "ACTIVATE",
        on_host_clear=ETCD_CALL % "DEACTIVATE", broken="! kubectl create configmap lab-fault --dry-run=none",
        clear_command=delete("configmap lab-fault"), mended=ALL_READY),
    ContractFault("etcd-slower-than-contracted", "etcd's disk is slower than the contract allows",
                  (Expect("etcd", "k8s-cp-01"),), change={"etcd": {"max_fsync_p99_ms": 0.01}}),
    ClusterFault("kubelet-stopped", "one node's kubelet is stopped", (Expect("nodes", "{host}"), *LOST),
                 target="gpu-node-03", on_host="systemctl stop kubelet", on_host_clear="systemctl start kubelet",
                 broken="kubectl get node {host} --no-headers | grep NotReady", mended=f"{SOUND} && {PODS_SOUND}"),
    ClusterFault("node-missing", "one host is no node of the cluster", (Expect("nodes", "{host}"), *LOST),
                 target="gpu-node-05", objects=("node {host}",), on_host="systemctl stop kubelet",
                 inject_command=delete("node {host}"),
                 # the agent of before holds a port that the one of the new node's pod needs; kube-proxy of before is
                 # not done when the new one begins, and between them the map of services is left empty
                 on_host_clear="kill $(pgrep -f '^/usr/local/bin/(standin agent|kube-proxy)') || true; "
                               "nft delete table ip kube-proxy || true; systemctl start kubelet",
                 broken=gone("node {host}"), mended=f"{SOUND} && {PODS_SOUND}"),
    ClusterFault("node-cordoned", "one node is cordoned",
                 (Expect("nodes", "{host}"), *may(("gpu-scheduling", "*"))), target="gpu-node-03",
                 inject_command="kubectl cordon {host}", clear_command="kubectl uncordon {host}", mended=SOUND),
    ClusterFault("node-tainted", "one node has a taint that nobody contracted",
                 (Expect("nodes", "{host}"), *may(("gpu-scheduling", "*"), ("gpu-operator", "gpu-operator/*"),
                                                  ("gpu-operator", "clusterpolicy/*"))), target="gpu-node-03",
                 inject_command="kubectl taint node {host} lab/fault=yes:NoSchedule --overwrite",
                 clear_command="kubectl taint node {host} lab/fault- || true", mended=SOUND),
    kubelet_fault("kubelet-older", "one node's kubelet is a minor version older", (Expect("versions", "{host}"),),
                  "[ -e /run/lab-kubelet ] || { LC_ALL=C sed 's/v1\\.34\\./v1.33./g' /usr/bin/kubelet > "
                  "/run/lab-kubelet; chmod 755 /run/lab-kubelet; }; systemctl stop kubelet && "
                  "mount --bind /run/lab-kubelet /usr/bin/kubelet",
                  "systemctl stop kubelet; umount /usr/bin/kubelet || true; rm -f /run/lab-kubelet"),
    serving_certificate("kubelet-certificate-short", "a kubelet serves with a certificate of five days", 5, "{host}"),
    serving_certificate("kubelet-certificate-name", "a kubelet's certificate has another name", 365, "gpu-node-99"),
    ClusterFault("client-certificate-short", "a kubelet's client certificate ends in five days",
                 (Expect("certificates", f"{{host}}:{PKI}/kubelet-client-current.pem"),), target="gpu-node-03",
                 # the kubelet has the old one in memory, and so goes on
                 on_host=f"[ -e {PKI}/lab.pem ] || mv {PKI}/kubelet-client-current.pem {PKI}/lab.pem; openssl req -x509"
                         f" -newkey rsa:2048 -nodes -keyout {PKI}/lab.key -days 5 -subj /O=system:nodes/CN="
                         f"system:node:{{host}} -out {PKI}/lab.crt5 && cat {PKI}/lab.crt5 {PKI}/lab.key > "
                         f"{PKI}/kubelet-client-current.pem",
                 on_host_clear=f"rm -f {PKI}/lab.key {PKI}/lab.crt5; [ ! -L {PKI}/lab.pem ] || mv -f {PKI}/lab.pem "
                               f"{PKI}/kubelet-client-current.pem"),
    kept_off("cni-pod-missing", "the pod network's daemon does not run on one node", "kube-system", "lab-network",
             (Expect("cni", "kube-system/lab-network"), *may(
                 # packets of pods that it never heard of are dropped
                 ("network-policy", "* on {host}"), ("pod-network", "*{host}*"), ("dns", "{host}")))),
    ClusterFault("pod-mtu-wrong", "the port of a pod on one host has another MTU", (Expect("cni", "{host}"),),
                 target="gpu-node-03",
                 on_host="v=$(ls /sys/class/net | grep -m1 ^veth); echo $v > /run/lab-veth && ip link set $v mtu 8000",
                 on_host_clear="[ ! -e /run/lab-veth ] || { ip link set $(cat /run/lab-veth) mtu 9000 || true; "
                               "rm /run/lab-veth; }"),
    ClusterFault("pod-ports-hidden", "one host shows no port of any pod", (Expect("cni", "{host}"),),
                 target="gpu-node-03",
                 # a copy of what /sys/class/net lists, in its place: ports of pods that come later are not in it either
                 on_host=f"mountpoint -q {PORTS} || {{ rm -rf {FEWER}; cp -a {PORTS} {FEWER}; rm -f {FEWER}/veth*; "
                         f"mount --bind {FEWER} {PORTS}; }}",
                 on_host_clear=f"! mountpoint -q {PORTS} || umount {PORTS}; rm -rf {FEWER}"),
    ContractFault("pod-mtu-over-overlay", "pods send 9000 bytes over an overlay on a port of 9000",
                  (Expect("cni", "contract"), *may(("cni", "gpu-node-*"))), change={"cni": {"overhead_bytes": 50}}),
    ClusterFault("pod-route-missing", "one node has no route to another's pods",
                 (Expect("pod-network", "*{host}*"), *may(("dns", "{host}"), ("network-policy", "*"))),
                 target="gpu-node-03",
                 # not to a neighbour in the inventory's order: those are tried by the matrix of flows too
                 # the route itself would come back
                 on_host="[ -e /run/lab-route ] || ip route show proto 98 | sed -n '5s/ .*//p' > /run/lab-route; "
                         "ip rule add to $(cat /run/lab-route) blackhole priority 100",
                 on_host_clear="[ ! -e /run/lab-route ] || { ip rule del priority 100; rm /run/lab-route; }"),
    scaled("coredns-gone", "CoreDNS has no pods", "coredns", 2,
           (Expect("dns", "kube-system/coredns"), Expect("dns", "gpu-node-*"), *may(("dns", "k8s-cp-01")))),
    kubelet_fault("cluster-dns-wrong", "pods of one node ask a name server that is not there",
                  (Expect("dns", "{host}"),), "sed -i 's/10\\.96\\.0\\.10$/10.96.0.99/' /var/lib/kubelet/config.yaml",
                  "sed -i 's/10\\.96\\.0\\.99$/10.96.0.10/' /var/lib/kubelet/config.yaml", target="gpu-node-04"),
    pod_fault("pod-crashes", "a pod crashes again and again", "CrashLoopBackOff|Error"),
    pod_fault("image-missing", "a pod's image is nowhere", "ErrImagePull|ImagePullBackOff",
              image="registry.lab.internal/no-such-image:1"),
    pod_fault("pod-pending", "a pod asks for more processors than any node has", "Pending",
              resources={"requests": {"cpu": "4000"}}),
    scaled("provisioner-gone", "nobody makes volumes", "local-path", 1, (Expect("storage", "claim"),)),
    ClusterFault("no-default-class", "no StorageClass is the default",
                 (Expect("storage", "StorageClass"), Expect("storage", "claim")),
                 objects=("storageclass standard",),
                 inject_command="kubectl annotate storageclass standard storageclass.kubernetes.io/is-default-class-"),
    scaled("metrics-server-gone", "metrics-server has no pods", "metrics-server", 1,
           (Expect("metrics", "metrics API"),), mended='[ "$(kubectl top nodes --no-headers | grep -c %)" = 9 ]'),
)
