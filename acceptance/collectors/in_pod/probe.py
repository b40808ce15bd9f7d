"""Serve, or try to reach what others serve, and print how that went. The variable PROBE holds what to do, as JSON.

{"serve": {"name", "tcp": [ports], "udp": port}}: says its name to whoever connects, and echoes datagrams.
{"try": {"tcp": {key: [host, port]}, "udp": {key: [host, port, bytes]}, "dns": {key: name}, "timeout_s"}}: prints one
line with {"mtu": {interface: bytes}, "tcp", "udp", "dns"}. A name with a dot at its end is asked of the name server
itself, one without goes through the resolver.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import secrets
import socket
import struct
import time
from typing import Any

ATTEMPTS = 5
MTU_DISCOVER, DO_NOT_FRAGMENT = 10, 2  # IP_MTU_DISCOVER, IP_PMTUDISC_DO


def serve(name: str, tcp: list[int], udp: int) -> None:
    """Never ends; the pod's own deadline does that."""
    def greet(port: int) -> None:
        with socket.create_server(("", port), backlog=256) as listener:
            while True:
                client, _ = listener.accept()
                with client:
                    client.settimeout(2)
                    try:
                        client.sendall(name.encode())
                    except OSError:
                        continue

    def echo() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.setsockopt(socket.IPPROTO_IP, MTU_DISCOVER, DO_NOT_FRAGMENT)
            channel.bind(("", udp))
            while True:
                data, sender = channel.recvfrom(65535)
                try:
                    channel.sendto(data, sender)
                except OSError:
                    continue

    with concurrent.futures.ThreadPoolExecutor(len(tcp) + 1) as pool:
        jobs = [pool.submit(greet, port) for port in tcp] + [pool.submit(echo)]
        print("serving", flush=True)
        concurrent.futures.wait(jobs, return_when=concurrent.futures.FIRST_COMPLETED)
        os._exit(1)


def connect(host: str, port: int, timeout_s: float) -> dict[str, Any]:
    """How connecting ended, and who answered; a lost packet does not make a closed port."""
    found: dict[str, Any] = {}
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(0.3)
        try:
            with socket.create_connection((host, port), timeout=timeout_s) as channel:
                channel.settimeout(timeout_s)
                return {"end": "connected", "name": channel.recv(200).decode("utf-8", "replace")}
        except ConnectionRefusedError:
            found = {"end": "refused"}
        except TimeoutError:
            found = found or {"end": "timed out"}
        except OSError as error:
            found = {"end": error.strerror or type(error).__name__}
    return found


def full_size(host: str, port: int, size: int, timeout_s: float) -> dict[str, Any]:
    """Whether a datagram of so many bytes of payload comes back, unfragmented."""
    end = "timed out"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.setsockopt(socket.IPPROTO_IP, MTU_DISCOVER, DO_NOT_FRAGMENT)
        channel.settimeout(timeout_s)
        for _ in range(ATTEMPTS):
            sent = secrets.token_bytes(16).ljust(size, b"x")
            try:
                channel.sendto(sent, (host, port))
                while True:
                    if channel.recv(65535) == sent:
                        return {"end": "echoed"}
            except TimeoutError:
                continue
            except OSError as error:
                end = error.strerror or type(error).__name__
    return {"end": end}


def ask(name: str, timeout_s: float) -> dict[str, Any]:
    """The IPv4 addresses of a name and the name server's code (0 found, 3 no such name), or how it failed."""
    if not name.endswith("."):
        try:
            found = socket.getaddrinfo(name, 80, socket.AF_INET)
            return {"code": 0, "addresses": sorted({str(one[4][0]) for one in found})}
        except socket.gaierror as error:
            return {"error": str(error.strerror)}
    with open("/etc/resolv.conf", encoding="utf-8") as file:
        servers = [line.split()[1] for line in file if line.startswith("nameserver") and len(line.split()) > 1]
    if not servers:
        return {"error": "/etc/resolv.conf names no server"}
    number = secrets.randbelow(65536)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.strip(".").split("."))
    query = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    failure = ""
    for _ in range(ATTEMPTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.settimeout(timeout_s)
            try:
                channel.connect((servers[0], 53))
                channel.send(query)
                answer = channel.recv(65535)
                if struct.unpack(">H", answer[:2])[0] == number:
                    return addresses(answer)
            except (OSError, struct.error, IndexError) as problem:
                failure = f"{servers[0]}: {getattr(problem, 'strerror', None) or problem or type(problem).__name__}"
    return {"error": failure or f"{servers[0]}: no answer of its own"}


def addresses(answer: bytes) -> dict[str, Any]:
    """Code and addresses of an answer."""
    _, flags, questions, answers = struct.unpack(">HHHH", answer[:8])
    place, found = 12, []
    for _ in range(questions):
        place = after_name(answer, place) + 4
    for _ in range(answers):
        place = after_name(answer, place)
        kind, _, _, length = struct.unpack(">HHIH", answer[place:place + 10])
        place += 10
        if kind == 1 and length == 4:
            found.append(socket.inet_ntoa(answer[place:place + 4]))
        place += length
    return {"code": flags & 15, "addresses": sorted(set(found))}


def after_name(answer: bytes, place: int) -> int:
    """Where what follows a name begins."""
    while answer[place]:
        if answer[place] >= 192:
            return place + 2
        place += answer[place] + 1
    return place + 1


def mtus() -> dict[str, int]:
    """MTU by interface, but for the loopback."""
    found = {}
    for name in os.listdir("/sys/class/net"):
        with open(f"/sys/class/net/{name}/mtu", encoding="ascii") as file:
            if name != "lo":
                found[name] = int(file.read())
    return found


def attempt(wanted: dict[str, Any]) -> dict[str, Any]:
    """Everything at once."""
    timeout_s = wanted["timeout_s"]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        tcp = {key: pool.submit(connect, host, port, timeout_s)
               for key, (host, port) in wanted.get("tcp", {}).items()}
        udp = {key: pool.submit(full_size, host, port, size, timeout_s)
               for key, (host, port, size) in wanted.get("udp", {}).items()}
        dns = {key: pool.submit(ask, name, timeout_s) for key, name in wanted.get("dns", {}).items()}
        return {"mtu": mtus(), **{kind: {key: job.result() for key, job in jobs.items()}
                                  for kind, jobs in (("tcp", tcp), ("udp", udp), ("dns", dns))}}


def main() -> None:
    """Serve or try."""
    wanted = json.loads(os.environ["PROBE"])
    if "serve" in wanted:
        serve(**wanted["serve"])
    else:
        print("ACCEPTANCE " + json.dumps(attempt(wanted["try"])), flush=True)


if __name__ == "__main__":
    main()
