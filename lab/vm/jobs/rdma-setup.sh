# In both machines, sourced with `number` set: a port for management (eth0), one for the fabric (eth1), soft RoCE on it.
export PATH="$PWD/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root LC_ALL=C.UTF-8
fabric_up() {
  ip link set eth1 mtu 9000 up
  ip addr replace "10.99.1.$number/24" dev eth1
}
hostname "rdma-node-0$number"
printf '127.0.0.1 localhost\n10.99.1.1 rdma-node-01\n10.99.1.2 rdma-node-02\n' > /etc/hosts
ip link set lo up
modprobe virtio_net
ip link set eth0 up
ip addr add "10.99.0.$number/24" dev eth0
# logins reach the fabric's address through the management port, so that they survive a fabric port that is down
ip addr add "10.99.1.$number/32" dev lo
ip route add "10.99.1.$((3 - number))/32" via "10.99.0.$((3 - number))" dev eth0 src "10.99.1.$number"
fabric_up
modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth1
install -m 0600 .vm/host_key /etc/ssh/ssh_host_ed25519_key
install -d -m 0700 -o admin -g admin /home/admin/.ssh
install -m 0600 -o admin -g admin .vm/operator.pub /home/admin/.ssh/authorized_keys
systemctl reset-failed ssh
systemctl restart ssh
