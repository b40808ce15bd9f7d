"""The contract's section kubernetes: what is refused in one line, and how its matrices are expanded."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.errors import ContractError
from acceptance.site.load import load_site
from selftests.synthetic import ROOT
from selftests.synthetic_kubernetes import K8S
from selftests.test_contract import write_site
from selftests.test_wrong_use import call, one_line

Change = Callable[[dict[str, Any]], Any]


def changed(change: Change) -> Change:
    return lambda contract: change(contract["kubernetes"])


@pytest.mark.parametrize(("change", "text"), [
    (lambda k: k.pop("etcd"), "key kubernetes.etcd is missing"),
    (lambda k: k["etcd"].update(metrics_url="http://10.0.0.1:2381"), "kubernetes.etcd.metrics_url"),
    (lambda k: k["cni"].update(pod_mut=k["cni"].pop("pod_mtu")), "unknown key kubernetes.cni.pod_mut; did you mean "),
    (lambda k: k["cni"]["daemonset"].update(replicas=3), "a DaemonSet has `hosts`, a Deployment `replicas`"),
    (lambda k: k["dns"]["deployment"].pop("replicas"), "a DaemonSet has `hosts`, a Deployment `replicas`"),
    (lambda k: k["dns"].update(external_names=[]), "kubernetes.dns.external_names"),
    (lambda k: k["tenants"].update(pod_security="privileged"), "kubernetes.tenants.pod_security"),
    (lambda k: k["tenants"].update(teams={}), "kubernetes.tenants.teams"),
    (lambda k: k["rbac"]["namespaces"].remove("cv-team"), "rbac.namespaces leaves out cv-team"),
    (lambda k: k["flows"]["destinations"].remove("ml-team"), "flows.destinations leaves out ml-team"),
    (lambda k: k["flows"]["sources"].append("strangers"), "strangers: neither a team nor the probes' namespace"),
    (lambda k: k["flows"]["allow"].clear(), "kubernetes.flows.allow"),
    (lambda k: k["flows"]["allow"][0]["sources"].remove("cv-team"), "cv-team: no flow to it is allowed"),
    (lambda k: k["flows"]["allow"][0]["ports"].append(22), "ports [22] are not among the matrix's"),
    (lambda k: k["rbac"]["allow"][0]["verbs"].append("patch"), "allow: patch is not among the matrix's verbs"),
    (lambda k: k["rbac"]["allow"][0]["subjects"].append("nobody"), "allow: nobody is not among the matrix's subjects"),
    (lambda k: k["rbac"].update(escalations=[]), "kubernetes.rbac.escalations"),
])
def test_what_does_not_fit_together_is_refused(change: Change, text: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError) as caught:
        load_site(write_site(tmp_path, changed(change)))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_cell_of_the_rbac_matrix_is_there_once() -> None:
    rbac = K8S.rbac
    cells = rbac.cells()
    count = len(rbac.verbs) * (len(rbac.namespaces) * len(rbac.resources) + len(rbac.cluster_resources))
    matrix = [cell for cell in cells if cell.verb in rbac.verbs]
    assert len({cell.name for cell in cells}) == len(cells) > len(rbac.subjects) * count
    assert len(matrix) >= len(rbac.subjects) * count
    allowed = {cell.name for cell in cells if cell.allowed}
    assert "nlp-scientist: create pods in nlp-team" in allowed
    assert not {name for name in allowed if name.startswith(("outsider", "anonymous"))}
    assert not {name for name in allowed if name.startswith("nlp") and not name.endswith("in nlp-team")}


def test_every_flow_is_allowed_or_denied() -> None:
    flows = K8S.flows
    cells = flows.cells()
    assert len(cells) == len(flows.sources) * len(flows.destinations) * len(flows.ports)
    assert {(c.source, c.destination) for c in cells if c.allowed} == {(team, team) for team in K8S.tenants.teams}


def with_kubeconfig(folder: Path, text: str | None, *words: str) -> subprocess.CompletedProcess[str]:
    """pytest in this checkout, with a kubeconfig of this text, or none."""
    def change(contract: dict[str, Any]) -> None:
        contract["ssh"]["private_key"] = str(folder / "key")
        contract["kubernetes"]["kubeconfig"] = "kubeconfig"

    (folder / "key").touch(mode=0o600)
    if text is not None:
        (folder / "kubeconfig").write_text(text)
    site = write_site(folder, change)
    return call(ROOT, "pytest", *words, "--site", str(site), f"--report-dir={folder / 'reports'}")


@pytest.mark.parametrize(("text", "selected", "expected"), [
    (None, ("-m", "phase3 and daily"), "cannot be read: No such file or directory; expected a kubeconfig"),
    ("a: [b", ("-m", "phase3 and daily"), "not YAML; expected a kubeconfig"),
    ("{}", ("-k", "test_inventory or test_nodes"), "names no cluster, context and user")])
def test_a_kubeconfig_that_cannot_be_used_is_wrong_use(
        text: str | None, selected: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    done = with_kubeconfig(tmp_path, text, *selected)
    one_line(done, f"kubernetes.kubeconfig: {tmp_path / 'kubeconfig'}: ", expected)
    assert not (tmp_path / "reports").exists()


def test_before_there_is_a_cluster_what_asks_it_is_blocked_and_the_rest_is_judged(tmp_path: Path) -> None:
    done = with_kubeconfig(tmp_path, None, "-k", "test_inventory or test_versions or test_api_health or test_storage")
    reason = f"kubernetes.kubeconfig: {tmp_path / 'kubeconfig'}: there is no such file, so the cluster is not asked"
    assert done.returncode == 1
    assert f"{reason}; what asks it will be BLOCKED" in done.stdout
    [findings] = [path for path in (tmp_path / "reports").glob("*/findings.jsonl") if not path.parent.is_symlink()]
    items = {one["check"]: one for one in map(json.loads, findings.read_text().splitlines())}
    assert {check: one["verdict"] for check, one in items.items()} == {
        "inventory": "PASS", "versions": "BLOCKED", "api-health": "BLOCKED", "storage": "BLOCKED"}
    for check in ("versions", "api-health", "storage"):
        assert reason in [finding["reason"] for finding in items[check]["findings"]], check


def test_the_guides_values_are_in_the_clients_contract() -> None:
    contract = yaml.safe_load((ROOT / "site.yaml").read_text())["kubernetes"]
    assert {name: team["labels"] for name, team in contract["tenants"]["teams"].items()} == {
        f"{team}-team": {"team": team} for team in ("nlp", "cv", "ml")}
    assert sum(team["gpus"] for team in contract["tenants"]["teams"].values()) == 32
    assert contract["min_version"] == "1.28"
