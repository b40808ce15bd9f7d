"""The turn, and what the suite makes and sweeps, on a real API server and under the rights that the chart gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from acceptance.collect import Session
from acceptance.collectors.kubernetes.objects import MINE, labels, pod, service
from acceptance.collectors.kubernetes.owned import Owned
from acceptance.errors import Busy
from acceptance.evidence import Recorder
from acceptance.site.load import Site
from acceptance.transport.kube_live import LiveKube
from acceptance.transport.kube_turn import API, NAME, Owner, Turn
from acceptance.transport.local import LocalShell
from bench import scale
from bench.control_plane import ADMIN, PROGRAMS, SUITE, control_plane
from bench.population import foundation, node
from lab import programs
from selftests.synthetic import SITE

pytestmark = pytest.mark.skipif(bool(programs.missing(PROGRAMS)),
                                reason="the lab's programs are not built; `python -m lab.programs` builds them")
SPACE = SITE.contract.kubernetes.probes.namespace
LEASE = f"{API}/namespaces/{SPACE}/leases/{NAME}"


@dataclass
class Cluster:
    """A site of three nodes, the suite's own access to it, and the administrator's."""

    site: Site
    suite: LiveKube
    admin: LiveKube

    def turn(self, run: str) -> Turn:
        return Turn(self.suite, SPACE, run, labels(run, "turn"), renew_s=0.2, over_s=1.0)

    def get(self, path: str, **query: str) -> Any:
        return self.admin.request("GET", path, query=query.items(), deadline_s=10)

    def create(self, space: str, kind: str, body: dict[str, Any]) -> None:
        self.admin.request("POST", f"/api/v1/namespaces/{space}/{kind}", body=body, deadline_s=10).object()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with control_plane(folder, str(SITE.contract.network.service_range)) as plane:
        site = scale.write_site(folder / "site", plane, 3)
        with closing(LiveKube(plane.kubeconfig(ADMIN))) as admin, closing(LiveKube(plane.kubeconfig(SUITE))) as suite:
            foundation(admin, site.contract)
            for host in site.hosts:
                admin.request("POST", "/api/v1/nodes", body=node(site.contract, host), deadline_s=10).object()
            yield Cluster(site, suite, admin)


def test_a_lease_is_taken_renewed_and_given_back_under_the_suites_rights(cluster: Cluster) -> None:
    mine = cluster.turn("run-1")
    mine.take()
    first = cluster.get(LEASE).object()["metadata"]["resourceVersion"]
    for _ in range(200):
        if cluster.get(LEASE).object()["metadata"]["resourceVersion"] != first:
            break
        threading.Event().wait(0.05)
    assert cluster.get(LEASE).object()["metadata"]["resourceVersion"] != first
    with pytest.raises(Busy, match="run-1"):
        cluster.turn("run-2").take()
    mine.end()
    assert not mine.lost
    assert cluster.get(LEASE).status == 404


def test_what_a_run_of_another_machine_left_is_swept_once_it_is_over(
        cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, elsewhere = Owner.here, replace(Owner.here("run-3"), boot="elsewhere")
    monkeypatch.setattr(Owner, "here", classmethod(lambda cls, run: elsewhere))
    dead = Turn(cluster.suite, SPACE, "run-3", renew_s=600)
    dead.take()
    monkeypatch.setattr(Owner, "here", here)
    marks = labels("run-3", "server", "gpu-node-0001")
    cluster.create(SPACE, "pods", pod("acceptance-left", marks, "image", ["true"]))
    cluster.create("nlp-team", "pods", pod("acceptance-left", marks, "image", ["true"]))
    cluster.create(SPACE, "services", service("acceptance-left", marks, marks, [80]))
    cluster.create(SPACE, "pods", pod("somebody-elses", {"app": "x"}, "image", ["true"]))
    recorder, mine = Recorder(tmp_path / "evidence.jsonl"), cluster.turn("run-4")
    session = Session(cluster.site, LocalShell(), LocalShell(), recorder, "kube-flows", lambda *_: None,
                      threading.Event(), cluster.suite, "run-4", mine)
    with Owned(session) as own:
        assert recorder.evidence().one("kube-flows", "swept").document == {
            "left by": elsewhere.text, "objects": [f"{SPACE}/pods/acceptance-left", f"{SPACE}/services/acceptance-left",
                                                   "nlp-team/pods/acceptance-left"]}
        own.create_all("pods", [(space, pod("acceptance-new", labels("run-4", "x"), "image", ["true"]))
                                for space in (SPACE, "nlp-team")])
        assert len(own.pods(SPACE, "nlp-team")) == 2
        assert own.nodes.problem("gpu-node-0009") == "the cluster has no node gpu-node-0009"
    mine.end()
    dead._stop.set()
    recorder.close()
    assert cluster.get("/api/v1/pods", labelSelector=MINE).object()["items"] == []
    assert cluster.get(f"/api/v1/namespaces/{SPACE}/pods/somebody-elses").ok
    assert cluster.get(LEASE).status == 404
