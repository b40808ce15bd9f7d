"""Every cell of the RBAC matrix by review, and some of them by doing what the subject would do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.kubernetes.reviews import AT_ONCE, DEADLINE_S, Right, review_all
from acceptance.site.access import Cell, Rbac, Subject
from acceptance.transport.kube import FORBIDDEN

if TYPE_CHECKING:
    from acceptance.collect import Session

CALLS = "calls"
TRIED = "pods"  # of all resources this one is listed for real, in each namespace
ANONYMOUS = "system:anonymous"


def sample(rbac: Rbac) -> list[Cell]:
    """Cells that are tried for real: listing pods in each namespace, as each subject."""
    return [cell for cell in rbac.cells() if (cell.verb, cell.resource) == ("list", TRIED) and cell.namespace]


@collector("kube-rbac", purpose="asking for every cell of the RBAC matrix", deadline_s=120, kube=True)
def collect(session: Session) -> None:
    """One record a subject with the API server's word on each of its cells; one with the calls that were made."""
    rbac = session.contract.kubernetes.rbac
    cells = rbac.cells()
    for number, (name, subject) in enumerate(rbac.subjects.items(), 1):
        asked = {cell.name: (Right(cell.verb, cell.resource, cell.namespace), subject.user, subject.all_groups)
                 for cell in cells if cell.subject == name}
        session.record(name, document={"cells": review_all(session.kube, asked)})
        session.progress(number, len(rbac.subjects) + 1, name)

    def call(cell: Cell) -> tuple[str, dict[str, Any]]:
        return cell.name, list_as(session, rbac.subjects[cell.subject], cell.namespace)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        session.record(CALLS, document={"calls": dict(pool.map(call, sample(rbac)))})


def list_as(session: Session, subject: Subject, namespace: str) -> dict[str, Any]:
    """Whether the pods of a namespace are given to the subject: {"allowed": bool}, or {"error": …}."""
    headers = {"Impersonate-User": subject.user}
    for group in impersonated_groups(subject):
        headers["Impersonate-Group"] = group
    path = f"/api/v1/namespaces/{namespace}/{TRIED}"
    answer = session.kube.request("GET", path, query=[("limit", "1")], deadline_s=DEADLINE_S,
                                  headers=headers)
    said = answer.message()
    if answer.ok:
        return {"allowed": True}
    if answer.status == FORBIDDEN and f'"{subject.user}" cannot list resource' in said:
        return {"allowed": False}
    return {"error": answer.reason(), **answer.evidence()}


def impersonated_groups(subject: Subject) -> list[str]:
    """The group that is sent with the user; the API server adds those of everybody by itself."""
    return [] if subject.user == ANONYMOUS else subject.groups[:1]
