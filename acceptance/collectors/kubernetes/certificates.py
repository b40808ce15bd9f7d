"""Certificates: those that TLS ports show, and those in files of the hosts. Dates and names are kept, no keys."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.on_node import answer, with_argument
from acceptance.errors import ParseError

if TYPE_CHECKING:
    from acceptance.collect import Session
    from acceptance.site.inventory import Host
    from acceptance.site.kubernetes import Certificates

COMMAND = ("python3", "-I", "-")
HANDSHAKE_S = 8.0
EVERYWHERE = "all"


def ports_of(contract: Certificates, groups: tuple[str, ...]) -> list[int]:
    """TLS ports of a host that belongs to these groups."""
    return sorted({p for group in (EVERYWHERE, *groups) for p in contract.ports.get(group, [])})


def files_of(contract: Certificates, groups: tuple[str, ...]) -> list[str]:
    """Patterns of files with certificates, of a host that belongs to these groups."""
    return [pattern for group in (EVERYWHERE, *groups) for pattern in contract.files.get(group, [])]


@collector("kube-certificates", purpose="reading the certificates of every host", deadline_s=60)
def collect(session: Session) -> None:
    """One record a host: by port and by file what its certificates say, and when that was read."""
    contract = session.contract.kubernetes.certificates

    def one(host: Host) -> None:
        ports = {str(port): _port(host.address, port, session.patient(HANDSHAKE_S))
                 for port in ports_of(contract, host.groups)}
        document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "ports": ports}
        session.record(host.name, document={**document, **_files(session, host, files_of(contract, host.groups))})

    session.each(session.hosts(EVERYWHERE), one)


def _port(address: str, port: int, seconds: float) -> dict[str, Any]:
    """What the certificate of a TLS port says; it need not be valid, nor may we be welcome, to be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (socket.create_connection((address, port), timeout=seconds) as plain,
              context.wrap_socket(plain, server_hostname=None) as wrapped):
            return described(wrapped.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _files(session: Session, host: Host, patterns: list[str]) -> dict[str, Any]:
    outcome = session.shell.run(host.name, COMMAND, stdin=with_argument("certificates", {"patterns": patterns}),
                                sudo=True, deadline_s=session.contract.ssh.command_timeout_s)
    try:
        found = answer(outcome)
        return {"files": {pattern: {path: _of_file(texts) for path, texts in paths.items()}
                          for pattern, paths in found.items()}}
    except (ParseError, AttributeError) as problem:
        return {"files_error": str(problem)}


def _of_file(texts: Any) -> Any:
    if not isinstance(texts, list):
        return texts
    return [described(ssl.PEM_cert_to_DER_cert(text)) for text in texts]


def described(der: bytes) -> dict[str, Any]:
    """Subject, end of validity and alternative names of a certificate, or the error."""
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(der)
        names: list[str] = []
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = [*extension.get_values_for_type(x509.DNSName),
                     *(str(address) for address in extension.get_values_for_type(x509.IPAddress))]
        except x509.ExtensionNotFound:
            pass
        return {"subject": certificate.subject.rfc4514_string(), "names": names,
                "not_after": certificate.not_valid_after_utc.isoformat()}
    except ValueError as error:
        return {"error": f"not a certificate: {error}"}
