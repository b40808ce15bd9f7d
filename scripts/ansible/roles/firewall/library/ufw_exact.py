#!/usr/bin/python3
"""Ansible module: gives ufw exactly the listed rules and defaults, and switches it on.

What an administrator added by `ufw` goes; rules in ufw's own before.rules and after.rules stay. Nothing is run for a
host that is as it should be but `ufw show added` and `ufw status`. Runs on the host, under Python 3.8 or later.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ufw_exact
short_description: Exactly these ufw rules, defaults, and ufw on
description: Adds what is missing, deletes what is not listed, sets the defaults, then enables ufw.
options:
  rules:
    description: "Mappings with port (or range first:last), protocol, from (a network) and reason."
    type: list
    elements: dict
    required: true
  incoming:
    description: Default for incoming packets.
    type: str
    required: true
    choices: [deny, reject]
  routed:
    description: Default for forwarded packets. ufw itself calls it disabled where the kernel does not forward.
    type: str
    required: true
    choices: [allow, deny, reject, disabled]
"""

DEFAULTS = Path("/etc/default/ufw")
POLICIES = {"ACCEPT": "allow", "DROP": "deny", "REJECT": "reject"}
VARIABLES = {"incoming": "DEFAULT_INPUT_POLICY", "outgoing": "DEFAULT_OUTPUT_POLICY",
             "routed": "DEFAULT_FORWARD_POLICY"}
ANYWHERE = "0.0.0.0/0"


def wanted_rules(rules: list[dict[str, str]]) -> dict[str, str]:
    """Comment by rule, each rule in the words of `ufw show added`."""
    found = {}
    for rule in rules:
        port, protocol, source = rule["port"], rule["protocol"], rule["from"]
        text = f"allow {port}/{protocol}" if source == ANYWHERE else \
            f"allow from {source} to any port {port} proto {protocol}"
        found[text] = rule["reason"].replace("'", "")
    return found


def added_rules(text: str) -> dict[str, str]:
    """Comment by rule from `ufw show added`."""
    found = {}
    for line in text.splitlines():
        if line.startswith("ufw "):
            words = shlex.split(line)[1:]
            comment = ""
            if "comment" in words:
                at = words.index("comment")
                words, comment = words[:at], " ".join(words[at + 1:])
            found[" ".join(words)] = comment
    return found


def default_policies(text: str) -> dict[str, str]:
    """Defaults by direction from /etc/default/ufw."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name: POLICIES[values[variable].strip().strip('"')] for name, variable in VARIABLES.items()}


def commands(wanted: dict[str, str], added: dict[str, str], policies: dict[str, str],
             required: dict[str, str]) -> list[list[str]]:
    """The ufw commands that are needed; what lets in comes before what shuts out."""
    needed = [[*rule.split(), "comment", comment] for rule, comment in wanted.items() if added.get(rule) != comment]
    for rule in added:
        if rule not in wanted:
            words = rule.split()
            at = 1 if words[0] == "route" else 0
            needed.append([*words[:at], "delete", *words[at:]])
    needed += [["default", policy, name] for name, policy in required.items() if policies[name] != policy]
    return needed


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, argument_spec={
        "rules": {"type": "list", "elements": "dict", "required": True},
        "incoming": {"type": "str", "choices": ["deny", "reject"], "required": True},
        "routed": {"type": "str", "choices": ["allow", "deny", "reject", "disabled"], "required": True}})
    ufw = module.get_bin_path("ufw", required=not module.check_mode, opt_dirs=["/usr/sbin"])
    if ufw is None:
        module.exit_json(changed=True, msg="ufw is not installed yet")

    def run(*words: str) -> str:
        status, output, errors = module.run_command([ufw, *words], environ_update={"LC_ALL": "C"})
        if status:
            module.fail_json(msg=f"ufw {' '.join(words)}: exit status {status}: {errors.strip()}")
        return str(output)

    required = {"incoming": module.params["incoming"], "outgoing": "allow",
                "routed": module.params["routed"].replace("disabled", "deny")}
    try:
        needed = commands(wanted_rules(module.params["rules"]), added_rules(run("show", "added")),
                          default_policies(DEFAULTS.read_text()), required)
    except (OSError, KeyError, ValueError) as error:
        module.fail_json(msg=f"ufw's present settings cannot be read: {error!r}")
    if not run("status").startswith("Status: active"):
        needed.append(["--force", "enable"])
    if not module.check_mode:
        for words in needed:
            run(*words)
    module.exit_json(changed=bool(needed), commands=[" ".join(words) for words in needed])


if __name__ == "__main__":
    main()
