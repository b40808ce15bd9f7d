"""The workloads as files: each needs ranks.py alone, for an old Python too; its document is described; manifests."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jinja2
import pytest
import yaml
from pydantic import BaseModel

from acceptance.measure.documents.collectives import AllreduceDocument
from acceptance.measure.documents.gpus import BurninDocument, GemmDocument, MemcpyDocument
from acceptance.measure.documents.training import DdpDocument

FOLDER = Path(__file__).parents[1] / "workloads"
FILES = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
MODELS: dict[str, type[BaseModel]] = {
    "allreduce": AllreduceDocument, "ddp": DdpDocument, "gemm": GemmDocument, "memcpy": MemcpyDocument,
    "burnin": BurninDocument}
SHARED = "ranks"
MARKS = {"acceptance/run": "r-1", "acceptance/role": "allreduce"}
VALUES: dict[str, Any] = {
    "name": "acceptance-allreduce", "namespace": "acceptance", "labels": MARKS, "image": "registry/torch:23.10",
    "launcher": ["torchrun"], "files": {f"{name}.py": FILES[name] for name in ("allreduce", SHARED)},
    "script": "allreduce.py", "arguments": ["--max-bytes", "8G", "--log-dir", "/tmp/a \"b\" {c: d} # e"],
    "pods": 8, "ranks": 4, "nodes": [], "port": 29500, "deadline_s": 1800,
    "resources": {"limits": {"nvidia.com/gpu": "4", "rdma/hca": "1"}}, "capabilities": ["IPC_LOCK"], "security": {},
    "shm_mib": 8192, "env": {"NCCL_ALGO": "Ring", "NUMBER": 1},
    "volumes": [], "mounts": []}


@pytest.mark.parametrize("name", FILES)
def test_a_file_needs_python_3_8_torch_and_what_all_share(name: str) -> None:
    known = {*sys.stdlib_module_names, "torch", "pynvml", *([SHARED] if name in MODELS else [])}
    for found in ast.walk(ast.parse(FILES[name], name, feature_version=(3, 8))):
        names = [alias.name for alias in found.names] if isinstance(found, ast.Import) else []
        names += [str(found.module)] if isinstance(found, ast.ImportFrom) else []
        assert {each.partition(".")[0] for each in names} <= known


def test_no_workload_knows_of_a_fault() -> None:
    for name, text in FILES.items():
        assert not re.search(r"LAB_|(?<!de)fault|inject", text, re.IGNORECASE), name


def fields(model: Any, seen: set[Any] | None = None) -> Iterator[str]:
    """Names of a model's fields as they stand in JSON, and of all models in it."""
    seen = set() if seen is None else seen
    if isinstance(model, type) and issubclass(model, BaseModel):
        if model not in seen:
            seen.add(model)
            for name, field in model.model_fields.items():
                yield field.alias or name
                yield from fields(field.annotation, seen)
    else:
        for part in get_args(model):
            yield from fields(part, seen)


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_describes_every_field_and_argument(name: str) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    arguments = MODELS[name].model_fields["arguments"].annotation
    assert isinstance(arguments, type)
    for field in fields(MODELS[name], {arguments}):
        assert f"`{field}`" in readme, field
    for argument in arguments.model_fields:
        assert f"`--{argument.replace('_', '-')}`" in readme, argument
        assert f'"--{argument.replace("_", "-")}"' in FILES[name] + FILES[SHARED] or name == "ddp", argument


TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER / "manifests"), undefined=jinja2.StrictUndefined,
                               autoescape=False)


def rendered(template: str, **changed: Any) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(TEMPLATES.get_template(template).render({**VALUES, **changed})))


def arguments_of(pod: dict[str, Any]) -> list[str]:
    return list(pod["spec"]["containers"][0]["args"])


def judge_pod(pod: dict[str, Any]) -> None:
    """What a pod of either kind needs."""
    container = pod["spec"]["containers"][0]
    assert pod["metadata"]["labels"] == MARKS
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "4", "rdma/hca": "1"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    shm = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8192Mi"}
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert {"name": "NUMBER", "value": "1"} in container["env"], "a variable's value is text"
    words = arguments_of(pod)
    assert words[-4:] == VALUES["arguments"]
    assert words[:4] == ["--nnodes", "8", "--nproc_per_node", "4"]
    assert words[words.index("allreduce.py") - 4:][:4] == ["--redirects", "1", "--tee", "1"]
    assert pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0][
        "topologyKey"] == "kubernetes.io/hostname"


def test_the_job() -> None:
    files, service, job = rendered("job.yaml.j2")
    assert files["data"] == VALUES["files"], "a file arrives as it is"
    assert {each["metadata"]["namespace"] for each in (files, service, job)} == {"acceptance"}
    assert all(each["metadata"]["labels"] == MARKS for each in (files, service, job))
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == MARKS
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 8, 8)
    assert (spec["backoffLimitPerIndex"], spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 8, 1800)
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    judge_pod(spec["template"])
    assert arguments_of(spec["template"])[4:10] == [
        "--node_rank", "$(JOB_COMPLETION_INDEX)", "--master_addr", "acceptance-allreduce-0.acceptance-allreduce",
        "--master_port", "29500"]


def test_the_pytorchjob() -> None:
    _, job = rendered("pytorchjob.yaml.j2")
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    assert job["spec"]["runPolicy"] == {"cleanPodPolicy": "None", "backoffLimit": 0, "activeDeadlineSeconds": 1800}
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert [(kind, each["replicas"], each["restartPolicy"]) for kind, each in replicas.items()] == [
        ("Master", 1, "Never"), ("Worker", 7, "Never")]
    for each in replicas.values():
        judge_pod(each["template"])
        assert each["template"]["spec"]["containers"][0]["name"] == "pytorch", "the operator looks for this name"
        assert arguments_of(each["template"])[4:10] == ["--node_rank", "$(RANK)", "--master_addr", "$(MASTER_ADDR)",
                                                        "--master_port", "$(MASTER_PORT)"]
    assert list(rendered("pytorchjob.yaml.j2", pods=1)[1]["spec"]["pytorchReplicaSpecs"]) == ["Master"]


def test_a_job_on_some_nodes_with_volumes_of_its_own() -> None:
    volume = {"name": "root", "hostPath": {"path": "/usr"}}
    mount = {"name": "root", "mountPath": "/host", "readOnly": True}
    *_, job = rendered("job.yaml.j2", nodes=["gpu-node-02", "gpu-node-05"], pods=2, volumes=[volume], mounts=[mount],
                       security={"runAsUser": 65534})
    spec = job["spec"]["template"]["spec"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["gpu-node-02", "gpu-node-05"]}]}]
    assert volume in spec["volumes"]
    assert mount in spec["containers"][0]["volumeMounts"]
    assert spec["securityContext"] == {"runAsUser": 65534}


@pytest.mark.parametrize("template", ["job.yaml.j2", "pytorchjob.yaml.j2"])
@pytest.mark.parametrize("name", VALUES)
def test_a_variable_that_is_missing_is_an_error(template: str, name: str) -> None:
    with pytest.raises((jinja2.UndefinedError, TypeError)):
        TEMPLATES.get_template(template).render({key: value for key, value in VALUES.items() if key != name})
