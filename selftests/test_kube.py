"""The Kubernetes transport against an API server that misbehaves: bounded, visible, never something out of nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acceptance.errors import ApiFailed, WrongUse
from acceptance.transport.kube import Answer, list_all
from acceptance.transport.kube_live import LiveKube
from selftests.fake_api import TOKEN, Asked, FakeApi, Reply, fake_api, page, status, write_kubeconfig


class Served:
    """A fake API server with replies in turn; the last one is repeated."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.replies, self.waits = folder, list[Reply](), list[float]()

    def behave(self, asked: Asked) -> Reply:
        del asked
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def get(self, *replies: Reply, deadline_s: float = 20, **more: Any) -> tuple[Answer, FakeApi]:
        self.replies = list(replies)
        with fake_api(self.folder, self.behave) as api:
            kube = LiveKube(api.kubeconfig, wait=self.waits.append)
            return kube.request("GET", "/api/v1/pods", deadline_s=deadline_s, **more), api

    def list(self, *replies: Reply, deadline_s: float = 20) -> Any:
        self.replies = list(replies)
        with fake_api(self.folder, self.behave) as api:
            kube = LiveKube(api.kubeconfig, wait=self.waits.append)
            return list_all(kube, "/api/v1/pods", project=lambda item: item["n"], deadline_s=deadline_s), api


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


GOOD = Reply(200, {"kind": "Pod"})
TROUBLE = [status(429, "too many requests", Retry_After="3"), status(500, "etcdserver: leader changed"),
           status(502, "bad gateway"), status(503, "apiserver not ready"), status(504, "timeout"),
           Reply(200, {"kind": "Pod", "long": "x" * 4000}, cut=3000), Reply(200, '{"kind": "PodList", "items": [{"a"')]


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_passing_trouble_is_tried_again_and_shown(served: Served, trouble: Reply) -> None:
    answer, api = served.get(trouble, GOOD)
    assert answer.object() == {"kind": "Pod"}
    assert len(api.asked) == 2
    first, second = answer.evidence()["attempts"]
    assert first["error"]
    assert first["status"] in (trouble.status, None)
    assert (second["status"], second["error"]) == (200, "")


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_lasting_trouble_ends_after_some_tries(served: Served, trouble: Reply) -> None:
    answer, api = served.get(trouble)
    assert len(api.asked) == len(answer.attempts) == 5
    assert not answer.ok
    with pytest.raises(ApiFailed, match="GET /api/v1/pods: .* after 5 attempts"):
        answer.object()


def test_retry_after_is_honoured_and_never_beyond_the_deadline(served: Served) -> None:
    served.get(status(429, "slow down", Retry_After="3"), GOOD)
    assert served.waits == [3.0]
    answer, api = served.get(status(429, "slow down", Retry_After="60"), GOOD)
    assert (answer.status, len(api.asked), served.waits) == (429, 1, [3.0])


def test_a_server_that_hangs_is_left_at_the_deadline(served: Served) -> None:
    answer, _ = served.get(Reply(hang_s=30), deadline_s=0.3)
    assert answer.status is None
    assert "in time" in answer.attempts[0].error


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    kube = LiveKube(write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9"), wait=lambda _: None)
    answer = kube.request("GET", "/livez", deadline_s=5)
    assert answer.status is None
    assert len(answer.attempts) == 5
    assert "refused" in answer.reason()


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 422])
def test_a_refusal_is_an_answer_and_not_tried_again(served: Served, code: int) -> None:
    answer, api = served.get(status(code, "pods is forbidden: no right"))
    assert len(api.asked) == 1
    assert answer.message() == f"status {code}: pods is forbidden: no right"


def test_no_retries_where_none_are_wanted(served: Served) -> None:
    answer, api = served.get(Reply(500, "[-]etcd failed: reason withheld\nreadyz check failed"), json=False, retries=0)
    assert len(api.asked) == 1
    assert answer.text.startswith("[-]etcd")


def test_the_token_is_sent_and_never_kept(served: Served) -> None:
    answer, api = served.get(GOOD)
    assert TOKEN in json.dumps(api.asked[0].headers)
    assert TOKEN not in json.dumps(answer.evidence())
    assert TOKEN in LiveKube(api.kubeconfig).secrets
    assert TOKEN not in repr(LiveKube(api.kubeconfig))


def pages() -> list[Reply]:
    return [page([{"n": 1}, {"n": 2}], token="t1", remaining=2), page([{"n": 3}], token="t2"), page([{"n": 4}])]


def test_a_list_is_read_page_by_page(served: Served) -> None:
    listing, api = served.list(*pages())
    assert (listing.items, listing.pages, listing.restarts) == ([1, 2, 3, 4], 3, 0)
    assert [asked.query.get("continue") for asked in api.asked] == [None, "t1", "t2"]
    assert {asked.query["limit"] for asked in api.asked} == {"500"}
    assert len(listing.as_json()["attempts"]) == 3


def test_an_expired_token_begins_the_list_once_again(served: Served) -> None:
    gone = status(410, "the provided continue parameter is too old")
    listing, _ = served.list(pages()[0], gone, *pages())
    assert (listing.items, listing.restarts) == ([1, 2, 3, 4], 1)
    assert [attempt.status for attempt in listing.attempts] == [200, 410, 200, 200, 200]
    with pytest.raises(ApiFailed, match="too old") as caught:
        served.list(pages()[0], gone, pages()[0], gone)
    assert caught.value.evidence["restarts"] == 1


NO_LISTS: list[tuple[Reply, str]] = [
    (Reply(200, {}), "no list"), (Reply(200, []), "no list"), (Reply(200, "null"), "no list"),
    (Reply(200, {"kind": "PodList", "metadata": {}}), "no items"),
    (Reply(200, {"kind": "PodList", "metadata": {}, "items": None}), "no items"),
    (Reply(200, {"kind": "PodList", "metadata": {}, "items": {}}), "no items"),
    (Reply(200, {"kind": "PodList", "metadata": {}, "items": [None]}), "no items"),
    (Reply(200, {"kind": "PodList", "items": []}), "no list"),
    (Reply(200, {"kind": "Pod", "metadata": {}, "items": []}), "no list"),
    (Reply(200, {"kind": "Status", "metadata": {}, "status": "Failure"}), "no list"),
    (page([{"n": 1}], remaining=3), "breaks off"), (status(403, "pods is forbidden"), "forbidden"),
    (Reply(200, '{"kind": "PodList", "metadata": {}, "items": [{"n": 1}'), "no complete JSON"),
    (Reply(200, page([{"n": 1}]).body, cut=20), "cut off|IncompleteRead|no complete"), (status(500, "boom"), "boom"),
    (Reply(200, ""), "no complete JSON"),
]


@pytest.mark.parametrize(("reply", "text"), NO_LISTS)
@pytest.mark.parametrize("before", [[], [page([{"n": 1}], token="t1")]])
def test_what_is_no_whole_list_is_never_taken_for_one(
    served: Served, reply: Reply, text: str, before: list[Reply]
) -> None:
    with pytest.raises(ApiFailed, match=text) as caught:
        served.list(*before, reply)
    assert caught.value.evidence["attempts"]


Spoil = Callable[[Path], Any]


@pytest.mark.parametrize(("spoil", "text"), [
    (lambda p: p.unlink(), "cannot be read: No such file or directory; expected a kubeconfig"),
    (lambda p: (p.unlink(), p.mkdir()), "cannot be read: Is a directory"),
    (lambda p: p.write_text("a: [b"), "not YAML"), (lambda p: p.write_text("a: b"), "names no cluster"),
    (lambda p: p.write_bytes(b"\xff\xfe\x00"), "not text"),
    (lambda p: p.write_text(p.read_text().replace("current-context: c", "current-context: d")), "d"),
])
def test_a_kubeconfig_that_cannot_be_used_is_one_line(tmp_path: Path, spoil: Spoil, text: str) -> None:
    path = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")
    spoil(path)
    with pytest.raises(WrongUse, match=text) as caught:
        LiveKube(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
