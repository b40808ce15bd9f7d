"""The charts of this project: rendered from the contract they make what checks expect; the unknown they refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from acceptance.collectors.kubernetes.reviews import Right
from acceptance.collectors.kubernetes.rights import forbidden, needed
from acceptance.facts.kubernetes import Policy
from selftests.synthetic import ROOT, SITE
from tests_security.test_tenants import denies_all

HELM_FOLDER = Path.home() / ".cache" / "gpu-cluster-acceptance" / "bin"
CHARTS = ROOT / "scripts" / "helm" / "charts"
K8S = SITE.contract.kubernetes
CONTRACT: dict[str, Any] = SITE.contract.model_dump(mode="json", by_alias=True)["kubernetes"]
VALUES: dict[str, dict[str, Any]] = {
    "tenants": {"tenants": CONTRACT["tenants"], "dns_namespace": K8S.dns.namespace},
    "validator": {name: CONTRACT[name] for name in ("probes", "tenants", "rbac")} | {
        "workloads": SITE.contract.model_dump(mode="json")["performance"]["pods"]},
}
helm = shutil.which("helm", path=f"{HELM_FOLDER}{os.pathsep}{os.environ.get('PATH', '')}")
needs_helm = pytest.mark.skipif(helm is None, reason="helm is not installed; the lab builds it")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    assert helm is not None
    return subprocess.run([helm, *words], text=True, capture_output=True, check=False, timeout=60)


def template(chart: str, tmp_path: Path, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    (tmp_path / "values.json").write_text(json.dumps(values))
    return run("template", chart, str(CHARTS / chart), "--namespace", "acceptance", "-f", str(tmp_path / "values.json"))


def rendered(chart: str, tmp_path: Path) -> list[dict[str, Any]]:
    done = template(chart, tmp_path, VALUES[chart])
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@pytest.mark.parametrize("chart", sorted(VALUES))
def test_the_contract_follows_the_values_schema(chart: str) -> None:
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    defaults = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    jsonschema.validate(defaults, schema)
    jsonschema.validate(defaults | VALUES[chart], schema)


@needs_helm
@pytest.mark.parametrize("chart", sorted(VALUES))
def test_helm_finds_nothing_wrong(chart: str) -> None:
    done = run("lint", "--strict", str(CHARTS / chart))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_helm
@pytest.mark.parametrize(("chart", "change", "text"), [
    ("tenants", {"tenants": CONTRACT["tenants"] | {"quotas": 1}}, "quotas"),
    ("tenants", {"tenants": CONTRACT["tenants"] | {"policies": ["allow-dns"]}}, "policies"),
    ("tenants", {"tenants": CONTRACT["tenants"] | {"pod_security": "privileged"}}, "pod_security"),
    ("validator", {"rbac": {"subjects": {"x": {"user": "x", "groups": ["system:masters"]}}}}, "groups"),
    ("validator", {"rbac": {"subjects": {"x": {"user": "system:node:a", "groups": []}}}}, "user"),
])
def test_values_that_no_contract_has_are_refused(chart: str, change: dict[str, Any], text: str, tmp_path: Path) -> None:
    done = template(chart, tmp_path, VALUES[chart] | change)
    assert done.returncode != 0
    assert text in done.stderr


@needs_helm
def test_the_tenants_are_what_the_checks_expect(tmp_path: Path) -> None:
    found = rendered("tenants", tmp_path)
    for name, team in K8S.tenants.teams.items():
        mine = {(one["kind"], one["metadata"]["name"]): one for one in found
                if name in (one["metadata"].get("namespace"), one["metadata"]["name"])}
        space = mine["Namespace", name]["metadata"]["labels"]
        assert space["pod-security.kubernetes.io/enforce"] == K8S.tenants.pod_security
        assert team.labels.items() <= space.items()
        assert mine["ResourceQuota", K8S.tenants.quota]["spec"]["hard"] == {"requests.nvidia.com/gpu": str(team.gpus)}
        assert mine["RoleBinding", K8S.tenants.role]["subjects"][0]["name"] == team.group
        policies = {key[1]: one for key, one in mine.items() if key[0] == "NetworkPolicy"}
        assert set(policies) == set(K8S.tenants.policies)
        spec = policies["default-deny"]["spec"]
        assert denies_all(Policy(name="default-deny", namespace=name, selector=spec["podSelector"],
                                 types=spec["policyTypes"], ingress=[], egress=[]))


def grants(rules: list[dict[str, Any]], right: Right) -> bool:
    """Whether the rules of a role give a right, as the API server reckons."""
    wanted = right.attributes()
    resource = "/".join(part for part in (wanted["resource"], wanted.get("subresource")) if part)
    return any({wanted["verb"], "*"} & set(rule["verbs"]) and {wanted.get("group", ""), "*"} & set(rule["apiGroups"])
               and {resource, "*"} & set(rule["resources"])
               and (not rule.get("resourceNames") or wanted.get("name") in rule["resourceNames"])
               for rule in rules if "resources" in rule)


@needs_helm
def test_the_validator_has_the_rights_that_it_needs_and_none_that_could_harm(tmp_path: Path) -> None:
    roles = [one for one in rendered("validator", tmp_path) if one["kind"] in ("Role", "ClusterRole")]

    def allowed(right: Right) -> bool:
        return any(grants(one["rules"], right) for one in roles
                   if one["metadata"].get("namespace", right.namespace) == right.namespace)

    assert [right.text for right in needed(SITE.contract) if not allowed(right)] == []
    assert [right.text for right in forbidden() if allowed(right)] == []


def deploy(*words: str, folder: Path = ROOT, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": path or f"{HELM_FOLDER}{os.pathsep}{os.environ['PATH']}",
                                "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, str(ROOT / "scripts/helm/deploy"), *words], text=True, capture_output=True,
                          check=False, cwd=folder, env=environment, timeout=120)


@needs_helm
def test_a_second_file_replaces_charts_in_their_place(tmp_path: Path) -> None:
    own = [{"name": "calico", "chart": str(CHARTS / "validator"), "namespace": "acceptance",
            "contract": {"probes": "kubernetes.probes"}},
           {"name": "gpu-operator", "enabled": False}, {"name": "metrics-server", "enabled": False},
           {"name": "last", "chart": str(CHARTS / "tenants"), "namespace": "x"}]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"releases": own}))
    done = deploy("--dry-run", "--releases", str(tmp_path / "own.yaml"))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("deploy: ")] == [
        "deploy: calico in acceptance", "deploy: tenants in kube-system", "deploy: validator in acceptance",
        "deploy: last in x"]


@pytest.mark.parametrize(("entry", "text"), [
    ({"name": "x", "chart": "y"}, "chart and namespace are needed"),
    ({"name": "x", "chrat": "y", "namespace": "z"}, "unknown chrat"),
    ({"chart": "y", "namespace": "z"}, "unknown name"),
    ({"name": "x", "chart": "y", "namespace": "z", "repo": "r"}, "needs a pinned version"),
    ({"name": "tenants", "chart": "y", "namespace": "z", "contract": {"a": "no.such"}}, "the contract has no no.such"),
])
def test_a_release_that_cannot_be_installed_is_one_line(entry: dict[str, Any], text: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"releases": [entry]}))
    done = deploy("--releases", str(tmp_path / "own.yaml"), "--only", "tenants")
    assert done.returncode == 4
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_deploy_without_helm_says_so(tmp_path: Path) -> None:
    done = deploy("--only", "tenants", path=str(tmp_path))
    assert (done.returncode, done.stderr) == (
        4, "deploy: helm: No such file or directory; install the version that site.yaml's tools name\n")


def test_upstream_charts_are_pinned() -> None:
    releases = yaml.safe_load((ROOT / "scripts/helm/releases.yaml").read_text())["releases"]
    assert [one["name"] for one in releases if one.get("repo") and not one.get("version")] == []
    assert all((ROOT / "scripts/helm" / one["values"]).is_file() for one in releases if one.get("values"))
