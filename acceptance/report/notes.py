"""What the client should know about the guide: its phases, and where following it to the letter would not have held."""

PHASES = {1: "Prerequisites", 2: "Infrastructure", 3: "Kubernetes", 4: "MLOps stack", 5: "Testing"}

NOTES = (
    "kubeadm's default service range, 10.96.0.0/12, contains the nodes' addresses; this contract states a "
    "disjoint one, and the address plan is checked.",
    "The monitoring layer is listed under infrastructure but needs the cluster: its checks belong to phase 3.",
    "Opening only 6443 and 10250 would lock out ssh, etcd, the pod network and the exporters; the contract lists every "
    "port with its reason, and the whole rule set is compared.",
    "One iperf3 stream cannot show 90 Gb/s, and 90 Gb/s does not prove jumbo frames: several processes are summed, and "
    "full-size packets that may not be fragmented are sent between all nodes.",
    "The daily check's “kubectl exec -it gpu-node-01” names a node, not a pod: here the node itself is asked.",
    "A line in sshd_config is silently overridden by a file in sshd_config.d: a password login is attempted, and must "
    "be refused.",
)
