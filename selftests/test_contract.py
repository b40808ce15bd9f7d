"""The contract and the inventory: what is accepted, and the one line that answers everything else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.errors import ContractError, InventoryError, WrongUse
from acceptance.site.load import find_site_file, load_site

ROOT = Path(__file__).parents[1]
Change = Callable[[dict[str, Any]], Any]


def write_site(folder: Path, change: Change = lambda _: None, inventory: Change = lambda _: None) -> Path:
    contract = yaml.safe_load((ROOT / "site.yaml").read_text())
    hosts = yaml.safe_load((ROOT / "inventory" / "hosts.yml").read_text())
    change(contract)
    inventory(hosts)
    contract["inventory"] = "hosts.yml"
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    (folder / "site.yaml").write_text(yaml.safe_dump(contract))
    return folder / "site.yaml"


def test_the_clients_contract_names_eight_gpu_nodes_with_four_gpus_each() -> None:
    site = load_site(ROOT / "site.yaml")
    assert [host.name for host in site.group("gpu_nodes")] == [f"gpu-node-0{n}" for n in range(1, 9)]
    assert site.host("k8s-cp-01").address == "10.100.0.50"
    assert (site.contract.gpu.count, site.contract.gpu.name) == (4, "NVIDIA A100-PCIE-40GB")


def test_the_lab_differs_from_the_client_only_in_what_it_may() -> None:
    client, lab = (load_site(ROOT / name).contract.model_dump() for name in ("site.yaml", "lab/site.yaml"))
    differing = {key for key in client if client[key] != lab[key]}
    assert differing <= {"site", "inventory", "ssh", "network", "ldap", "time", "host", "kernel", "kubernetes",
                         "performance", "stand_ins", "not_measurable"}
    assert client["gpu"] == lab["gpu"]
    assert client["security"] == lab["security"]
    assert {k for k in client["kernel"] if client["kernel"][k] != lab["kernel"][k]} == {"memlock"}
    assert {k for k in client["host"] if client["host"][k] != lab["host"][k]} == {"os_id", "os_version"}
    cluster = client["kubernetes"]
    assert {key for key in cluster if cluster[key] != lab["kubernetes"][key]} <= {
        "kubeconfig", "etcd", "cni", "dns", "gpu_operator", "probes"}  # and so no rights, flows or tenants


def test_a_lab_contract_takes_the_inventory_of_the_contract_it_extends() -> None:
    client, lab = load_site(ROOT / "site.yaml"), load_site(ROOT / "lab" / "site.yaml")
    assert client.hosts == lab.hosts
    assert client.digest != lab.digest


def _misspell(contract: dict[str, Any]) -> None:
    contract["gpu"]["memroy_mib"] = contract["gpu"].pop("memory_mib")


def _unencrypted_ldap(contract: dict[str, Any]) -> None:
    contract["ldap"]["url"] = "ldap://ldap.cluster.internal"


def _stand_in_in_production(contract: dict[str, Any]) -> None:
    contract["stand_ins"] = [{"component": "GPU", "real": "A100", "stand_in": "mock"}]


def _short_topology(contract: dict[str, Any]) -> None:
    contract["gpu"]["count"] = 8


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_misspell, "unknown key gpu.memroy_mib; did you mean memory_mib?"),
        (lambda c: c.pop("ssh"), "key ssh is missing"),
        (lambda c: c["network"]["fabric"].update(mtu="jumbo"), "network.fabric.mtu"),
        (_unencrypted_ldap, "would send passwords in clear"),
        (_stand_in_in_production, "stand_ins are for a lab"),
        (_short_topology, "topology lists 4 GPUs, but count is 8"),
        (lambda c: c["kernel"].update(fatal_xids=[]), "kernel.fatal_xids"),
        (lambda c: c.update(hosts={}), "hosts"),
    ],
)
def test_a_bad_contract_is_one_clear_line(tmp_path: Path, change: Change, expected: str) -> None:
    path = write_site(tmp_path, change)
    with pytest.raises(ContractError) as caught:
        load_site(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("keys", "more"), [(1, ""), (2, "; and 1 more"), (3, "; and 2 more")])
def test_missing_keys_are_told_first_and_what_is_left_out_is_counted(tmp_path: Path, keys: int, more: str) -> None:
    def spoil(contract: dict[str, Any]) -> None:
        contract["site"] |= {name: 5 for name in ("name", "client", "environment")[:keys]}  # which stands before them
        del contract["ldap"], contract["ssh"]["user"]

    path = write_site(tmp_path, spoil)
    with pytest.raises(ContractError) as caught:
        load_site(path)
    wrong = str(caught.value).removeprefix(f"{path}: ")
    assert wrong == ("key ssh.user is missing; key ldap is missing; site.name: Input should be a valid string; "
                     f"found 5{more}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{unclosed: [", "not YAML at line"), ("- a\n- b\n", "expected a mapping"), ("", "expected a mapping"),
     ("extends: site.yaml\n", "extends itself")],
)
def test_what_is_not_a_contract_at_all_says_so(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(ContractError, match=expected):
        load_site(path)


def _gpu_hosts(inventory: dict[str, Any]) -> dict[str, Any]:
    hosts: dict[str, Any] = inventory["all"]["children"]["gpu_nodes"]["hosts"]
    return hosts


def _control_hosts(inventory: dict[str, Any]) -> dict[str, Any]:
    hosts: dict[str, Any] = inventory["all"]["children"]["k8s_control"]["hosts"]
    return hosts


def _rename(inventory: dict[str, Any], name: str) -> None:
    _gpu_hosts(inventory)[name] = _gpu_hosts(inventory).pop("gpu-node-08")


@pytest.mark.parametrize("again", [{}, {"ansible_host": "10.100.0.50"}, None])
def test_a_host_may_be_in_two_groups_with_one_address(tmp_path: Path, again: Any) -> None:
    site = load_site(write_site(tmp_path, lambda c: c["hosts"].update(etcd=1),
                                lambda i: i["all"]["children"].update(etcd={"hosts": {"k8s-cp-01": again}})))
    host = site.host("k8s-cp-01")
    assert (host.address, sorted(host.groups)) == ("10.100.0.50", ["etcd", "k8s_control"])


def test_a_host_name_may_have_a_domain(tmp_path: Path) -> None:
    name = "n8.rack-1.cluster.internal"
    assert load_site(write_site(tmp_path, inventory=lambda i: _rename(i, name))).host(name).address == "10.100.0.108"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda i: _gpu_hosts(i).pop("gpu-node-08"), "group gpu_nodes has 7 hosts"),
        (lambda i: _gpu_hosts(i).update({"gpu-node-08": {}}), "gpu-node-08: ansible_host must be an IPv4 address"),
        (lambda i: _gpu_hosts(i)["gpu-node-01"].update(ansible_host="10.100.0.999"), "found '10.100.0.999'"),
        (lambda i: i["all"].setdefault("hosts", {}).update({"extra": {"ansible_host": "10.100.0.7"}}),
         "host extra is in no group"),
        (lambda i: i.update(all=[]), "expected an Ansible inventory"),
        (lambda i: i["all"]["children"].update(gpu_nodes=["a"]), "group gpu_nodes: expected a mapping"),
        (lambda i: _control_hosts(i).update({"gpu-node-08": {"ansible_host": "10.100.0.50"}}),
         "host gpu-node-08 has two addresses: 10.100.0.108 in group gpu_nodes and 10.100.0.50 in group k8s_control"),
        (lambda i: i["all"].update(hosts={"gpu-node-08": {"ansible_host": "10.100.0.9"}}),
         "host gpu-node-08 has two addresses: 10.100.0.9 in group all and 10.100.0.108 in group gpu_nodes"),
        *((lambda i, name=name: _rename(i, name), f"host {name!r} in group gpu_nodes: no valid host name")
          for name in ("GPU_Node 08", "gpu_node_08", "GPU-NODE-08", "gpu-node-[08:09]", "-gpu", "gpu-", "a..b", "gpu.",
                       "gpu-node-08\n", "a" * 64, ".".join(["a" * 63] * 4))),
    ],
)
def test_an_inventory_that_disagrees_with_the_contract_is_refused(
    tmp_path: Path, change: Change, expected: str
) -> None:
    path = write_site(tmp_path, inventory=change)
    with pytest.raises(InventoryError) as caught:
        load_site(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_contract_names_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCEPTANCE_SITE", raising=False)
    with pytest.raises(WrongUse, match="--site: no contract at nowhere.yaml"):
        find_site_file("nowhere.yaml", tmp_path)
    monkeypatch.setenv("ACCEPTANCE_SITE", "elsewhere.yaml")
    with pytest.raises(WrongUse, match="ACCEPTANCE_SITE: no contract at elsewhere.yaml"):
        find_site_file(None, tmp_path)


def test_any_change_of_the_contract_changes_its_digest(tmp_path: Path) -> None:
    before = load_site(write_site(tmp_path)).digest
    after = load_site(write_site(tmp_path, lambda c: c["gpu"].update(power_limit_w=249))).digest
    assert before != after
    assert copy.copy(before) == load_site(write_site(tmp_path)).digest
