"""The LDAP directory, tried as its users will use it, and as nobody may."""

from __future__ import annotations

import re
import secrets
import socket
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

with warnings.catch_warnings():  # ldap3 2.9 imports names that pyasn1 calls deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from ldap3 import BASE, NONE, SUBTREE, Connection, Server, Tls
    from ldap3.core.exceptions import LDAPException

if TYPE_CHECKING:
    from acceptance.site.contract import Ldap

DEADLINE_S = 8
MEMBERS = ("member", "uniqueMember", "memberUid")


class VerifiedTls(Tls):  # type: ignore[misc]
    """TLS as Python's own `ssl` does it for a client: chain, validity and host name are all checked.

    ldap3 compares host names with a function that newer Pythons have dropped.
    """

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ARG002
        """Replace the connection's socket by a verified one. Raises ssl.SSLError."""
        context = ssl.create_default_context(cafile=self.ca_certs_file)
        connection.socket = context.wrap_socket(connection.socket, server_hostname=connection.server.host)


def try_directory(contract: Ldap, password: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and document of each step. A document has `ok`: whether the step did what an honest user wants of it,
    or null where it could not be tried; and `detail`, in which a password is blotted out."""
    steps: list[tuple[str, dict[str, Any]]] = []

    def step(name: str, attempt: Callable[[], dict[str, Any]]) -> bool:
        try:
            document = attempt()
        except (LDAPException, OSError, ValueError) as error:
            verify = re.search(r"certificate verify failed: [^(]*", str(error))
            document = {"ok": False, "detail": verify[0].strip() if verify else f"{type(error).__name__}: {error}"}
        if password:
            document["detail"] = document["detail"].replace(password, "********")
        steps.append((name, document))
        return bool(document["ok"])

    if step("connect", lambda: _connect(contract)) and step("tls", lambda: _tls(contract)):
        if password:
            step("bind", lambda: _bind(contract, password))
            step("group", lambda: _group(contract, password))
        else:
            missing = {"ok": None, "detail": f"the environment variable {contract.password_env} is not set"}
            steps.extend((name, dict(missing)) for name in ("bind", "group"))
        step("wrong-password", lambda: _bind(contract, secrets.token_hex(16)))
        step("anonymous", lambda: _anonymous(contract))
    return steps


def _address(contract: Ldap) -> tuple[str, int]:
    parts = urlsplit(contract.url)
    if not parts.hostname:
        raise ValueError(f"ldap.url names no host: {contract.url}")
    return parts.hostname, parts.port or (636 if parts.scheme == "ldaps" else 389)


def _connect(contract: Ldap) -> dict[str, Any]:
    with socket.create_connection(_address(contract), timeout=DEADLINE_S) as plain:
        return {"ok": True, "detail": f"connected to {plain.getpeername()[0]}"}


def _tls(contract: Ldap) -> dict[str, Any]:
    connection = _open(contract)
    try:
        certificate = connection.socket.getpeercert() or {}
        return {"ok": True, "detail": connection.socket.version() or "", "not_after": certificate.get("notAfter", "")}
    finally:
        connection.unbind()


def _open(contract: Ldap, user: str | None = None, password: str | None = None) -> Any:
    """A connection over verified TLS, not yet bound. Raises LDAPException, OSError."""
    ca_file = Path(contract.ca_file).expanduser()
    if not ca_file.is_file():
        raise ValueError(f"ldap.ca_file: no file at {ca_file}")
    host, port = _address(contract)
    tls = VerifiedTls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(ca_file))
    server = Server(host, port=port, use_ssl=contract.url.startswith("ldaps"), tls=tls, get_info=NONE,
                    connect_timeout=DEADLINE_S)
    connection = Connection(server, user=user, password=password, receive_timeout=DEADLINE_S, raise_exceptions=False)
    connection.open(read_server_info=False)
    if contract.starttls and not contract.url.startswith("ldaps"):
        connection.start_tls(read_server_info=False)
    return connection


def _bind(contract: Ldap, password: str) -> dict[str, Any]:
    connection = _open(contract, contract.bind_dn, password)
    try:
        accepted = bool(connection.bind(read_server_info=False))
        return {"ok": accepted, "detail": connection.result["description"], "code": connection.result["result"]}
    finally:
        connection.unbind()


def _group(contract: Ldap, password: str) -> dict[str, Any]:
    connection = _open(contract, contract.bind_dn, password)
    try:
        if not connection.bind(read_server_info=False):
            return {"ok": None, "detail": "the service account could not bind"}
        connection.search(contract.group_dn, "(objectClass=*)", BASE, attributes=list(MEMBERS))
        found = [entry["attributes"] for entry in connection.response or () if entry.get("type") == "searchResEntry"]
        members = {str(name) for entry in found for kind in MEMBERS for name in entry.get(kind, ())}
        return {"ok": bool(found), "detail": connection.result["description"], "members": len(members - {""})}
    finally:
        connection.unbind()


def _anonymous(contract: Ldap) -> dict[str, Any]:
    """Whether a stranger may bind, and how much of the directory he can then read (one entry is enough to know)."""
    connection = _open(contract)
    try:
        bound = bool(connection.bind(read_server_info=False))
        said = connection.result["description"]
        suffix = contract.group_dn[contract.group_dn.lower().find("dc="):]
        connection.search(suffix, "(objectClass=*)", SUBTREE, size_limit=1, attributes=["1.1"])
        found = [entry for entry in connection.response or () if entry.get("type") == "searchResEntry"]
        detail = f"bind: {said}; search: {connection.result['description']}"
        return {"ok": bool(found), "bound": bound, "entries": len(found), "detail": detail}
    finally:
        connection.unbind()
