# In the first machine: the RDMA checks on both, healthy and with each fault. Lines marked VM: are shown.
number=1
. .vm/setup
mkdir -p /run/vm
worst=0
peer() { ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=.vm/known_hosts -i .vm/operator_key admin@10.99.1.2 sudo sh -c "'$1'"; }
until peer true 2>/dev/null; do sleep 1; done
{ uname -r; rdma link; ibv_devinfo -v -d rxe0; } > /run/vm/machine.txt 2>&1
gate() { # NAME: the checks' verdicts go to NAME.txt, the run's folder to runs/NAME
  pytest -m phase2 -k "rdma_device or rdma_bandwidth" --site lab/vm/rdma.yaml --report-dir "/run/vm/runs/$1" > "/run/vm/$1.txt" 2>&1
}
expect_green() {
  echo "VM: $1: must be green"
  for try in 1 2 3; do
    gate "$1" && return
    grep -q "could not calibrate" "/run/vm/$1.txt" || break
    echo "VM: $1: not measured, since perftest could not calibrate its clock on this busy machine: try $try of 3"
  done
  worst=1
  echo "VM: $1: NOT green"; tail -n 30 "/run/vm/$1.txt" | sed 's/^/VM: | /'
}
expect_red() { # NAME PATTERN: red, and a line of the output that names check, subject and reason
  echo "VM: $1: must be red"
  gate "$1"
  if [ $? = 1 ] && grep -Eq "$2" "/run/vm/$1.txt"; then return; fi
  worst=1
  echo "VM: $1: NOT red by $2"; tail -n 30 "/run/vm/$1.txt" | sed 's/^/VM: | /'
}
expect_green healthy-before
peer "ip link set eth1 down"
expect_red port-down "FAIL +rdma-node-02: state: measured DOWN, required = ACTIVE"
peer "ip link set eth1 up; ip addr replace 10.99.1.2/24 dev eth1; ip link set eth1 mtu 1500"
expect_red active-mtu-1024 "FAIL +rdma-node-02: active_mtu: measured 1024 bytes, required = 4096"
peer "ip link set eth1 mtu 9000; ip addr del 10.99.1.2/24 dev eth1"
expect_red no-roce-v2-gid "FAIL +rdma-node-02: a RoCE v2 GID carries 10.99.1.2: measured False"
peer "ip addr replace 10.99.1.2/24 dev eth1; nft add table ip silent; nft add chain ip silent in { type filter hook input priority 0 \\; }; nft add rule ip silent in udp dport 4791 drop"
expect_red no-data-moved "(FAIL|BLOCKED) +rdma-node-01→rdma-node-02: bandwidth"
# soft RoCE needs new devices after an outage: the old ones go on retrying what was lost
peer "nft delete table ip silent; rdma link delete rxe0; rdma link add rxe0 type rxe netdev eth1"
rdma link delete rxe0
rdma link add rxe0 type rxe netdev eth1
expect_green healthy-after
echo $worst > /run/vm/exit-code
echo "VM: done, exit code $worst"
tar cf /dev/vdc -C /run vm
peer "touch /run/finished"
