"""Faults of the security layer: sshd, firewall, accounts."""

from __future__ import annotations

from lab.faults.base import CommandFault, Expect, Fault

SSHD = (Expect("sshd", "{host}*"),)
RULES = (Expect("firewall", "{host}*"),)
FIREWALL = (*RULES, Expect("firewall-behaviour", "{host}*"))
ACCOUNTS = (Expect("accounts", "{host}*"),)
FIRST = "/etc/ssh/sshd_config.d/00-a-lab.conf"  # sorts before the playbook's own 00-hardening.conf


def sshd_fault(name: str, breaks: str, setting: str) -> CommandFault:
    """A drop-in that sorts first and so overrides every other setting."""
    return CommandFault(name, breaks, SSHD, inject_command=f"printf '{setting}\\n' > {FIRST} && systemctl reload ssh",
                        clear_command=f"rm -f {FIRST} && systemctl reload ssh")


FAULTS: tuple[Fault, ...] = (
    CommandFault(
        "ssh-password-on", "password logins are on in the main file", SSHD,
        inject_command="cp -a /etc/ssh /etc/ssh.lab && rm -f /etc/ssh/sshd_config.d/*.conf && "
                       "sed -i '1i PasswordAuthentication yes' /etc/ssh/sshd_config && systemctl reload ssh",
        clear_command="[ ! -d /etc/ssh.lab ] || { cp -a /etc/ssh.lab/. /etc/ssh/ && rm -rf /etc/ssh.lab && "
                      "systemctl reload ssh; }",
    ),
    sshd_fault("ssh-drop-in-overrides", "a drop-in file turns password logins on again", "PasswordAuthentication yes"),
    sshd_fault("ssh-keyboard-interactive-on", "keyboard-interactive logins are on",
               "KbdInteractiveAuthentication yes"),
    sshd_fault("ssh-root-login-on", "root may log in", "PermitRootLogin yes"),
    CommandFault("firewall-off", "the firewall is off", FIREWALL,
                 inject_command="ufw disable", clear_command="ufw --force enable"),
    CommandFault("firewall-extra-port", "a port is open that the contract does not list", RULES,
                 inject_command="ufw allow 8080/tcp", clear_command="ufw delete allow 8080/tcp || true"),
    CommandFault("firewall-all-open", "the firewall lets everything in", FIREWALL,
                 inject_command="ufw default allow incoming", clear_command="ufw default deny incoming"),
    CommandFault("firewall-open-behind-ufw", "the kernel lets everything in ahead of the rules that ufw reports",
                 FIREWALL, inject_command="iptables -I INPUT -j ACCEPT",
                 clear_command="iptables -D INPUT -j ACCEPT 2>/dev/null || true"),
    CommandFault("firewall-rule-not-loaded", "a rule that ufw reports is not in the kernel", FIREWALL,
                 inject_command="iptables -D ufw-user-input -p tcp --dport 10250 -s 10.100.0.0/24 -j ACCEPT",
                 clear_command="ufw reload"),
    CommandFault("firewall-not-at-boot", "the firewall stays off after a reboot", RULES,
                 inject_command="sed -i s/^ENABLED=yes/ENABLED=no/ /etc/ufw/ufw.conf",
                 clear_command="sed -i s/^ENABLED=no/ENABLED=yes/ /etc/ufw/ufw.conf"),
    CommandFault("firewall-kubelet-closed", "the kubelet's port is closed", FIREWALL,
                 inject_command="ufw insert 1 deny proto tcp from any to any port 10250",
                 clear_command="ufw delete deny proto tcp from any to any port 10250 || true"),
    CommandFault("firewall-api-closed", "the API server's port is closed", FIREWALL, target="k8s-cp-01",
                 inject_command="ufw insert 1 deny proto tcp from any to any port 6443",
                 clear_command="ufw delete deny proto tcp from any to any port 6443 || true"),
    CommandFault("extra-uid-0", "a second user has uid 0", ACCOUNTS,
                 inject_command="useradd -o -u 0 -g 0 -M -s /bin/bash toor", clear_command="sed -i '/^toor:/d' "
                 "/etc/passwd /etc/shadow"),
    CommandFault("extra-sudoer", "somebody else may use sudo", ACCOUNTS,
                 inject_command="printf 'daemon ALL=(ALL) NOPASSWD: ALL\\n' > /etc/sudoers.d/zz-lab && "
                                "chmod 0440 /etc/sudoers.d/zz-lab", clear_command="rm -f /etc/sudoers.d/zz-lab"),
    CommandFault("extra-login-user", "somebody else may log in", ACCOUNTS,
                 inject_command="useradd -m -s /bin/bash guest", clear_command="userdel -r guest 2>/dev/null || true"),
)
