# In the machine: the lab, the playbooks, the gates, and the faults that need this kernel. Lines marked VM: are shown.
export PATH="$PWD/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root LC_ALL=C.UTF-8
export LAB_SITE="$PWD/lab/vm/site.yaml" ANSIBLE_CONFIG="$PWD/scripts/ansible/ansible.cfg" ANSIBLE_TIMEOUT=1200 ANSIBLE_FORKS=3
export ANSIBLE_INVENTORY="$PWD/lab/vm/hosts.yml"
mkdir -p reports/vm
start=$(date +%s)
worst=0
step() {
  name=$1; shift
  echo "VM: $name ($(( $(date +%s) - start )) s since the start)"
  "$@" > "reports/vm/$name.txt" 2>&1 &
  running=$!
  ticks=0
  while kill -0 $running 2>/dev/null; do
    sleep 2
    ticks=$((ticks + 1))
    [ $((ticks % 30)) != 0 ] || echo "VM: | $(grep -vE '^ *$|^(ok|changed|skipping|included)' "reports/vm/$name.txt" | tail -n 1 | tr -d '*')"
  done
  wait $running
  code=$?
  [ $code = 0 ] || { worst=1; echo "VM: $name ended with exit code $code:"; tail -n 25 "reports/vm/$name.txt" | sed 's/^/VM: | /'; }
  return $code
}
uname -r > reports/vm/kernel.txt
stat -fc %T /sys/fs/cgroup >> reports/vm/kernel.txt
step 1-up python -m lab up &&
  step 2-deploy python -m lab run ansible-playbook scripts/ansible/site.yml &&
  step 3-gates python -m lab run pytest -m "phase1 or phase2" --report-dir reports/vm/runs &&
  step 4-faults python -m lab.prove wrong-vlan netem-doubles netem-slow
cp -r reports/prove reports/vm/ 2>/dev/null  # findings of every run: what was red where nothing should be
step 5-down python -m lab down
echo "VM: done after $(( $(date +%s) - start )) s, exit code $worst"
echo $worst > reports/vm/exit-code
tar cf /dev/vdc -C reports vm
