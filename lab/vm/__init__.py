"""The lab on a second kernel: Debian's own in emulated machines, with cgroup v2, VLAN devices, netem and soft RoCE."""
