"""Access reviews: asking the API server what somebody may do. A review creates nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from acceptance.errors import ApiFailed
from acceptance.transport.kube import Kube

API = "/apis/authorization.k8s.io/v1"
DEADLINE_S = 15.0
AT_ONCE = 6


@dataclass(frozen=True)
class Right:
    """One verb on a resource ("pods", "pods/log", "jobs.batch"), in a namespace or the cluster ("")."""

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """In words; also its key in the evidence."""
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {self.resource}{name} in {self.namespace or 'the cluster'}"

    def attributes(self) -> dict[str, str]:
        """As a review asks for it."""
        path, _, group = self.resource.partition(".")
        resource, _, sub = path.partition("/")
        parts = {"verb": self.verb, "group": group, "resource": resource, "subresource": sub,
                 "namespace": self.namespace, "name": self.name}
        return {key: value for key, value in parts.items() if value}


def review(kube: Kube, right: Right, user: str | None = None, groups: Sequence[str] = ()) -> dict[str, Any]:
    """What the API server says: {"allowed": bool}, with the attempts where there were several; else {"error": …}."""
    spec: dict[str, Any] = {"resourceAttributes": right.attributes()}
    kind = "SelfSubjectAccessReview"
    if user is not None:
        kind, spec = "SubjectAccessReview", {**spec, "user": user, "groups": list(groups)}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    answer = kube.request("POST", f"{API}/{kind.lower()}s", body=body, deadline_s=DEADLINE_S)
    more = {"attempts": answer.evidence()["attempts"]} if len(answer.attempts) > 1 else {}
    try:
        status = answer.object().get("status")
    except ApiFailed as problem:
        return {"error": str(problem), **more}
    if not isinstance(status, dict) or not isinstance(status.get("allowed"), bool):
        return {"error": "the review came back without an answer", **more}
    if status.get("evaluationError") and not status["allowed"]:
        return {"error": f"not decided: {status['evaluationError']}", **more}
    return {"allowed": status["allowed"], **more}


def review_all(kube: Kube, rights: Mapping[str, tuple[Right, str | None, Sequence[str]]]) -> dict[str, dict[str, Any]]:
    """Reviews by key, several at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda one: review(kube, *one), rights.values())
        return dict(zip(rights, answers, strict=True))
