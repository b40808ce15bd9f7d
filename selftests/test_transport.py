"""Commands end in one of three ways, and what they started ends with them."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.errors import WrongUse
from acceptance.site.contract import Ssh
from acceptance.site.inventory import Host
from acceptance.transport import local
from acceptance.transport.local import LocalShell, run_process
from acceptance.transport.shell import Outcome
from acceptance.transport.ssh import SshShell, check_key_file

LONG_S = 60.0  # no test waits for it
FAKE_SSH = """\
#!/bin/sh
printf '%s\\n' "$@" > "$FAKE/arguments"
cat > "$FAKE/stdin"
. "$FAKE/behave"
"""


def run(*argv: str, stdin: bytes = b"", deadline_s: float = LONG_S) -> Outcome:
    return LocalShell().run("any", argv, stdin=stdin, deadline_s=deadline_s)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    for _ in range(1000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.01)
    return False


def test_a_command_that_exits_tells_its_status_and_both_streams() -> None:
    outcome = run("sh", "-c", "cat; echo bad >&2; exit 3", stdin=b"fed")
    assert (outcome.status, outcome.exit_code, outcome.stdout, outcome.stderr) == ("exited", 3, "fed", "bad\n")
    assert not outcome.ok
    assert outcome.reason() == "exit status 3: bad"
    assert run("true").ok


def test_words_are_given_as_they_are_to_no_shell() -> None:
    assert run("printf", "%s", "a b; $(id) 'x'").stdout == "a b; $(id) 'x'"


def test_a_program_that_is_not_there_exits_with_127() -> None:
    outcome = run("no-such-program-anywhere")
    assert (outcome.status, outcome.exit_code) == ("exited", 127)
    assert "no-such-program-anywhere" in outcome.stderr


def test_a_command_that_does_not_read_its_input_is_no_trouble() -> None:
    assert run("true", stdin=b"x" * 10_000_000).ok


def test_bytes_that_are_no_text_are_kept_visible() -> None:
    assert run("printf", r"a\377b").stdout == r"a\xffb"


def test_the_deadline_ends_the_command_and_all_it_started(tmp_path: Path) -> None:
    script = f"sleep 3600 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/parent; echo begun; wait"
    outcome = run("sh", "-c", script, deadline_s=2.0)
    assert (outcome.status, outcome.exit_code, outcome.stdout) == ("timed-out", None, "begun\n")
    assert outcome.detail == "no end within 2 s"
    assert outcome.reason() == "timed out: no end within 2 s"
    assert not outcome.ok
    for name in ("child", "parent"):
        assert gone(int((tmp_path / name).read_text()))


def test_a_command_that_ignores_signals_is_ended_too(tmp_path: Path) -> None:
    outcome = run("sh", "-c", f"trap '' TERM INT HUP; echo $$ > {tmp_path}/pid; while :; do sleep 1; done",
                  deadline_s=2.0)
    assert outcome.status == "timed-out"
    assert gone(int((tmp_path / "pid").read_text()))


def test_output_beyond_the_limit_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MAX_OUTPUT_BYTES", 100_000)
    outcome = run("head", "-c", "300000", "/dev/zero")
    assert outcome.status == "timed-out"
    assert outcome.detail == "more than 100000 bytes of output"
    assert not outcome.ok


def test_the_environment_is_the_given_one() -> None:
    shell = LocalShell({"ONLY": "this"})
    outcome = shell.run("any", [sys.executable, "-c", "import os; print(os.environ.get('ONLY'), 'HOME' in os.environ)"],
                        deadline_s=LONG_S)
    assert outcome.stdout == "this False\n"


# ssh


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id"
    path.write_text("key")
    path.chmod(0o600)
    return path


def settings(key: Path, **changes: object) -> Ssh:
    return Ssh.model_validate({"user": "admin", "private_key": str(key), "known_hosts": str(key.parent / "known"),
                               "port": 2222, "connect_timeout_s": 2, "command_timeout_s": 20} | changes)


class Fake:
    """A program called ssh, first on PATH, that notes how it was called and then does what it is told."""

    def __init__(self, folder: Path, shell: SshShell) -> None:
        self.folder, self.shell = folder, shell

    def run(self, behave: str, *argv: str, deadline_s: float = LONG_S, sudo: bool = False) -> Outcome:
        (self.folder / "behave").write_text(behave)
        return self.shell.run("gpu-node-01", argv or ["true"], stdin=b"program", deadline_s=deadline_s, sudo=sudo)

    @property
    def arguments(self) -> list[str]:
        return (self.folder / "arguments").read_text().splitlines()


@pytest.fixture
def fake(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(FAKE_SSH)
    (folder / "ssh").chmod(0o755)
    (folder / "behave").write_text("exit 0")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    shell = SshShell(settings(key), {"gpu-node-01": Host("gpu-node-01", "10.100.0.101", ("gpu_nodes",))})
    yield Fake(folder, shell)
    shell.close()


@pytest.mark.parametrize("said", [
    "ssh: connect to host 10.100.0.101 port 22: No route to host", "Host key verification failed.",
    "kex_exchange_identification: Connection closed by remote host", "Connection closed by 10.100.0.101 port 22",
    "admin@10.100.0.101: Permission denied (publickey).", "Connection to 10.100.0.101 closed by remote host.",
    "No ED25519 host key is known for 10.100.0.101 and you have requested strict checking.",
    "Connection timed out during banner exchange", "Timeout, server 10.100.0.101 not responding."])
def test_what_ssh_itself_complains_of_is_unreachable(fake: Fake, said: str) -> None:
    outcome = fake.run(f"echo partial; echo '{said}' >&2; exit 255")
    assert (outcome.status, outcome.exit_code) == ("unreachable", None)
    assert outcome.detail == said
    assert outcome.reason() == f"unreachable: {said}"
    assert not outcome.ok


@pytest.mark.parametrize(("behave", "code"), [
    ("exit 0", 0), ("exit 3", 3), ("echo 'the program failed' >&2; exit 255", 255),
    ("echo 'ssh: said the program' >&2; exit 1", 1)])
def test_what_the_remote_program_returns_is_an_exit(fake: Fake, behave: str, code: int) -> None:
    outcome = fake.run(behave)
    assert (outcome.status, outcome.exit_code) == ("exited", code)


def test_a_host_that_does_not_answer_in_time_is_timed_out_and_nothing_is_left(fake: Fake) -> None:
    outcome = fake.run('sleep 3600 & echo $! > "$FAKE/child"; echo $$ > "$FAKE/parent"; wait', deadline_s=2.0)
    assert (outcome.status, outcome.exit_code) == ("timed-out", None)
    for name in ("child", "parent"):
        assert gone(int((fake.folder / name).read_text()))


def test_the_command_reaches_the_host_quoted_and_its_input_whole(fake: Fake) -> None:
    fake.run("exit 0", "echo", "a b", "$(id)", sudo=True)
    assert fake.arguments[-2:] == ["10.100.0.101", "sudo -n -- echo 'a b' '$(id)'"]
    assert (fake.folder / "stdin").read_bytes() == b"program"


def test_ssh_pins_keys_and_asks_nobody(fake: Fake, key: Path) -> None:
    fake.run("exit 0")
    words = fake.arguments
    options = dict(b.split("=", 1) for a, b in itertools.pairwise(words) if a == "-o")
    assert options | {"ControlPath": ""} == {
        "BatchMode": "yes", "StrictHostKeyChecking": "yes", "IdentitiesOnly": "yes", "LogLevel": "ERROR",
        "UserKnownHostsFile": str(key.parent / "known"), "GlobalKnownHostsFile": "/dev/null", "ConnectTimeout": "2",
        "ServerAliveInterval": "5", "ServerAliveCountMax": "2", "ForwardAgent": "no", "ControlMaster": "auto",
        "ControlPath": "", "ControlPersist": "60", "KexAlgorithms": "^curve25519-sha256"}
    single = {a: b for a, b in itertools.pairwise(words) if a in ("-F", "-i", "-p", "-l")}
    assert single == {"-F": "none", "-i": str(key), "-p": "2222", "-l": "admin"}


def test_the_control_path_is_a_private_folder_that_goes_with_the_shell(fake: Fake, key: Path) -> None:
    fake.run("exit 0")
    path = Path(next(word for word in fake.arguments if word.startswith("ControlPath=")).partition("=")[2])
    assert path.name == "%C"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(str(path.parent)) + 1 + 40 + 17 < 108  # a hash, ssh's temporary suffix, and what a socket's path may be
    other = SshShell(settings(key), {})
    assert not any(str(path.parent) in word for word in other.options())
    other.close()
    shell = SshShell(settings(key), {})
    folder = Path(next(word for word in shell.options() if word.startswith("ControlPath=")).partition("=")[2]).parent
    (folder / "socket").touch()
    shell.close()
    assert not folder.exists()
    assert fake.arguments[-3:] == ["-O", "exit", "none"]
    assert f"ControlPath={folder}/socket" in fake.arguments


def test_without_a_shared_connection_nothing_says_control(key: Path) -> None:
    shell = SshShell(settings(key), {})
    assert not any("Control" in word for word in shell.options(control=False))
    shell.close()


def test_openssh_itself_on_a_closed_port_is_unreachable(key: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        shell = SshShell(settings(key, port=port), {"here": Host("here", "127.0.0.1", ())})
        outcome = shell.run("here", ["true"], deadline_s=LONG_S)
        shell.close()
    assert outcome.status == "unreachable"
    assert "Connection refused" in outcome.detail


def test_openssh_itself_on_a_silent_port_ends_by_its_own_timeout_or_the_deadline(key: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        shell = SshShell(settings(key, port=silent.getsockname()[1], connect_timeout_s=30),
                         {"here": Host("here", "127.0.0.1", ())})
        outcome = shell.run("here", ["true"], deadline_s=2.0)
        shell.close()
    assert (outcome.status, outcome.exit_code) == ("timed-out", None)


# the key file


def test_a_good_key_file_is_accepted(key: Path) -> None:
    check_key_file(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_may_read_is_refused_with_the_remedy(key: Path, mode: int) -> None:
    key.chmod(mode)
    with pytest.raises(WrongUse, match=f"mode {mode:04o}, expected 0600; run: chmod 600 {key}"):
        check_key_file(key)


def test_a_key_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(WrongUse, match="cannot be read"):
            check_key_file(path)


def test_a_command_has_a_session_and_group_of_its_own() -> None:
    program = "import os; print(os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid())"
    assert run_process([sys.executable, "-c", program], b"", LONG_S).stdout == "True True\n"
