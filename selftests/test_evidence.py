"""Evidence is on disk line by line, survives a crash, and is refused when it was damaged."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import Unmeasured, WrongUse
from acceptance.evidence import HIDDEN, Recorder, in_ranges, read_evidence
from acceptance.transport.shell import Outcome

TEXT = st.text(max_size=20)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT, lambda inner:
                    st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8)
OUTCOME = Outcome("exited", 3, "out\n", "err", 0.25, "")


def written(path: Path, count: int = 3) -> bytes:
    recorder = Recorder(path)
    for number in range(count):
        recorder.record("facts", f"host-{number}", command=["true"], outcome=OUTCOME, document={"number": number})
    recorder.close()
    return path.read_bytes()


def test_what_was_recorded_is_read_again(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "e.jsonl")
    first = recorder.record("ping", "gpu-node-01", command=("ping", "-c1"), outcome=OUTCOME)
    second = recorder.record("ping", "gpu-node-01", document=[1, {"a": None}])
    assert (first.id, second.id) == ("e0001", "e0002")
    assert read_evidence(tmp_path / "e.jsonl") == recorder.evidence()
    evidence = read_evidence(tmp_path / "e.jsonl")
    assert evidence.one("ping", "gpu-node-01") == second
    assert evidence.of("ping", "gpu-node-01") == [first, second]
    assert (first.command, first.outcome) == (("ping", "-c1"), OUTCOME)
    assert not evidence.torn
    recorder.close()


def test_what_was_not_recorded_is_unmeasured(tmp_path: Path) -> None:
    written(tmp_path / "e.jsonl")
    evidence = read_evidence(tmp_path / "e.jsonl")
    with pytest.raises(Unmeasured, match="gpu-node-09: nothing was recorded by collector facts"):
        evidence.one("facts", "gpu-node-09")
    assert evidence.records("ping") == []


def test_a_line_is_on_disk_before_record_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "e.jsonl", list[tuple[str, int]]()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.stat().st_size))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    recorder = Recorder(path)
    for number in range(3):
        recorder.record("facts", str(number))
        assert synced[-1] == (str(path), path.stat().st_size)
        assert path.read_bytes().count(b"\n") == len(synced) == number + 1
    recorder.close()


def test_records_are_only_ever_appended(tmp_path: Path) -> None:
    before = written(tmp_path / "e.jsonl", 2)
    after = written(tmp_path / "e.jsonl", 1)
    assert after.startswith(before)
    assert after.count(b"\n") == 3


def test_a_killed_process_loses_no_line_it_was_told_of(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    program = ("import os, pathlib, signal, sys\nfrom acceptance.evidence import Recorder\n"
               f"recorder = Recorder(pathlib.Path({str(path)!r}))\n"
               "for number in range(50): recorder.record('facts', str(number))\n"
               "os.kill(os.getpid(), signal.SIGKILL)\n")
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == -9
    assert [record.subject for record in read_evidence(path).all] == [str(number) for number in range(50)]


def test_many_threads_write_whole_lines_with_ids_of_their_own(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "e.jsonl")

    def write(subject: str) -> None:
        for number in range(25):
            recorder.record("facts", subject, document={"number": number, "text": "x" * 5000})

    threads = [threading.Thread(target=write, args=(f"host-{n}",)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    evidence = read_evidence(tmp_path / "e.jsonl")
    assert [record.id for record in evidence.all] == [f"e{n:04}" for n in range(1, 401)]
    for n in range(16):
        assert [r.document["number"] for r in evidence.of("facts", f"host-{n}")] == list(range(25))


@given(data=st.data())
def test_a_file_cut_anywhere_is_the_records_before_the_cut(tmp_path_factory: pytest.TempPathFactory,
                                                           data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    path.unlink(missing_ok=True)
    raw = written(path)
    whole = read_evidence(path).all
    at = data.draw(st.integers(0, len(raw)))
    path.write_bytes(raw[:at])
    evidence = read_evidence(path)
    assert evidence.all == whole[:raw[:at].count(b"\n")]
    assert evidence.torn == (at > 0 and raw[at - 1:at] != b"\n")


@pytest.mark.parametrize("line", [
    b"", b"{", b"5", b"null", b"[]", b"{}", b'"text"', b"\xff\xfe", b"[" * 100_000,
    b'{"id": "e0002", "at": "", "collector": "facts", "subject": "x", "command": null, "outcome": null}',
    b'{"id": "e2", "at": "", "collector": "c", "subject": "x", "command": null, "document": 1, "outcome": {"ok": 1}}',
    b'{"id": "e2", "at": "", "collector": "c", "subject": "x", "command": 7, "document": 1, "outcome": null}'])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_damaged_line_is_refused_and_named(tmp_path: Path, line: bytes, place: int) -> None:
    path = tmp_path / "e.jsonl"
    lines = written(path).splitlines()
    lines[place] = line
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(WrongUse, match=f"line {place + 1} is damaged") as caught:
        read_evidence(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_evidence_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match=r"expected the evidence\.jsonl of a run"):
        read_evidence(tmp_path / "nothing.jsonl")


@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_one_record_at_most(tmp_path_factory: pytest.TempPathFactory,
                                                                 data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    path.unlink(missing_ok=True)
    raw = bytearray(written(path))
    whole = read_evidence(path).all
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    with contextlib.suppress(WrongUse):
        evidence = read_evidence(path)
        assert len(evidence.all) == len(whole) - evidence.torn  # a lost last line feed makes the last line torn
        assert sum(a != b for a, b in zip(whole, evidence.all, strict=False)) <= 1


@given(document=JSON, subject=TEXT)
def test_any_document_is_one_line_and_read_again_as_it_was(tmp_path_factory: pytest.TempPathFactory, document: Any,
                                                           subject: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.unlink(missing_ok=True)
    recorder = Recorder(path)
    entry = recorder.record("c", subject, document=document)
    recorder.close()
    assert path.read_bytes().count(b"\n") == 1
    assert read_evidence(path).all == (entry,)
    assert (entry.document, entry.subject) == (document, subject)


@pytest.mark.parametrize("secret", ["validator-password", 'with "quotes" and \\', "ünïcode-päss"])
def test_a_secret_never_reaches_the_file(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "e.jsonl"
    recorder = Recorder(path, [secret, ""])
    recorder.record("ldap", "cluster", command=["bind", secret], document={"said": f"bad password {secret}!"},
                    outcome=Outcome("exited", 1, secret, f"x{secret}x", 0.1))
    recorder.close()
    assert json.dumps(secret)[1:-1] not in path.read_text()
    assert secret not in path.read_text()
    (entry,) = read_evidence(path).all
    assert entry.document == {"said": f"bad password {HIDDEN}!"}
    assert entry.command == ("bind", HIDDEN)


def test_ids_that_follow_one_another_are_told_as_a_range() -> None:
    assert in_ranges(["e0012", "e0010", "e0011", "e0010", "e0003", "e0004", "x", "e9999", "e10000"]) == [
        "e0003", "e0004", "e0010 to e0012", "e10000", "e9999", "x"]
    assert in_ranges([]) == []
