"""The lab's central services, in a namespace of their own: directory (real slapd), time server, package mirror."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from lab import cgroup, network
from lab.errors import LabError
from lab.hosts import LDAP_PASSWORD, home

BASE = "dc=lab,dc=internal"
CONFIG_PASSWORD = "lab-admin"
GROUP = f"cn=data-scientists,ou=groups,{BASE}"
SCHEMAS = "core cosine inetorgperson"


def folder() -> Path:
    """Where the services keep their files."""
    return home() / "services"


def start_all() -> None:
    """Start what is not running yet, and wait until each answers."""
    cgroup.create("services")
    folder().mkdir(parents=True, exist_ok=True)
    _start("chronyd", ["chronyd", "-x", "-n", "-f", str(_time_config())])
    _start("apt", ["python3", "-m", "http.server", "80", "--bind", network.SERVICES[1], "--directory",
                   str(folder() / "apt")])
    if not (folder() / "ldap" / "slapd.d").exists():
        create_directory()
    start_ldap()


def start_ldap(certificate: str = "ldap") -> None:
    """Start slapd with the named certificate ("ldap" or "expired") and wait until it answers."""
    ldap = folder() / "ldap"
    for ending in ("crt", "key"):
        shutil.copy(ldap / "pki" / f"{certificate}.{ending}", ldap / "pki" / f"server.{ending}")
    _start("slapd", ["slapd", "-F", str(ldap / "slapd.d"), "-h", "ldaps://ldap.lab.internal:636 ldapi://"
                     + str(ldap / "ldapi").replace("/", "%2f"), "-d", "0"])
    _wait("slapd", lambda: (ldap / "ldapi").exists() and _modify("", "ldapwhoami") == 0)


def stop(name: str) -> None:
    """End one service by its process id."""
    file = folder() / f"{name}.pid"
    if not file.exists():
        return
    pid = int(file.read_text())
    try:
        os.kill(pid, signal.SIGTERM)
        _wait(name, lambda: not _alive(pid))
    except (ProcessLookupError, FileNotFoundError):
        pass
    file.unlink()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def restart_directory(certificate: str = "ldap") -> None:
    """Start slapd anew, with the named certificate ("ldap" or "expired")."""
    stop("slapd")
    start_ldap(certificate)


def expire_certificate() -> None:
    """Serve the certificate that is past its date."""
    restart_directory("expired")


def admit_strangers() -> None:
    """Let anybody bind anonymously and read."""
    restore_directory(lambda config: config.replace("olcDisallows: bind_anon\nolcRequires: authc\n", "").replace(
        "by users read by * none", "by * read"))


def stop_directory() -> None:
    """End slapd."""
    stop("slapd")


def empty_group() -> None:
    """Leave the group, without a member: its class asks for one, and an empty name satisfies it."""
    modify(f"dn: {GROUP}\nchangetype: modify\nreplace: member\nmember:\n")


def remove_group() -> None:
    """Delete the group."""
    modify(f"dn: {GROUP}\nchangetype: delete\n")


def change_password() -> None:
    """Give the service account another password."""
    modify(f"dn: cn=validator,ou=services,{BASE}\nchangetype: modify\nreplace: userPassword\n"
           "userPassword: another\n")


def restore_directory(change: Callable[[str], str] = str) -> None:
    """The directory as it was made: its data and settings, these after `change`, are put in afresh."""
    stop("slapd")
    ldap = folder() / "ldap"
    for name in ("slapd.d", "db"):
        shutil.rmtree(ldap / name, ignore_errors=True)
        (ldap / name).mkdir()
    _fill(ldap, change)
    start_ldap()


def modify(ldif: str) -> None:
    """Change the directory, as its administrator. Raises LabError."""
    if _modify(ldif, "ldapmodify"):
        raise LabError("the directory refused a change")


def _modify(ldif: str, tool: str) -> int:
    url = "ldapi://" + str(folder() / "ldap" / "ldapi").replace("/", "%2f")
    return subprocess.run([tool, "-Q", "-Y", "EXTERNAL", "-H", url], input=ldif, text=True, capture_output=True,
                          check=False).returncode


def _start(name: str, command: list[str]) -> None:
    pid_file = folder() / f"{name}.pid"
    if pid_file.exists() and Path(f"/proc/{pid_file.read_text()}").exists():
        return
    # private mount namespace: the lab's names, without touching the machine's own
    script = f'mount --bind {home()}/operator/hosts /etc/hosts && mkdir -p /run/chrony && exec "$@"'
    with (folder() / f"{name}.log").open("a") as log:
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{network.namespace('services')}", "unshare", "-m", "--propagation", "slave",
             "sh", "-c", script, "sh", *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=lambda: cgroup.enter("services"))
    pid_file.write_text(str(process.pid))


def _wait(name: str, ready: Callable[[], bool], deadline_s: float = 15.0) -> None:
    until = time.monotonic() + deadline_s
    while not ready():
        if time.monotonic() > until:
            raise LabError(f"{name} did not come up within {deadline_s:g} s; see {folder() / name}.log")
        time.sleep(0.05)


def _time_config() -> Path:
    path = folder() / "chrony.conf"
    path.write_text(f"local stratum 3\nallow 10.100.0.0/24\nbindaddress {network.SERVICES[1]}\ncmdport 0\n"
                    f"pidfile {folder() / 'chronyd-own.pid'}\nbindcmdaddress /\n")
    return path


def create_directory() -> None:
    """Make certificates and the directory: base, a validator, a group with one member."""
    ldap = folder() / "ldap"
    for name in ("pki", "slapd.d", "db"):
        (ldap / name).mkdir(parents=True, exist_ok=True)
    _certificates(ldap / "pki")
    shutil.copy(ldap / "pki" / "ca.crt", home() / "operator" / "ldap-ca.pem")
    for name in ("ldap.crt", "ldap.key"):
        shutil.copy(ldap / "pki" / name, ldap / "pki" / name.replace("ldap", "server"))
    _fill(ldap)


def _fill(ldap: Path, change: Callable[[str], str] = str) -> None:
    _slapadd(ldap, "0", change(_config(ldap)))
    _slapadd(ldap, "1", _data())


def _slapadd(ldap: Path, database: str, ldif: str) -> None:
    done = subprocess.run(["slapadd", "-F", str(ldap / "slapd.d"), "-n", database], input=ldif, text=True,
                          capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"slapadd: {done.stderr.strip().splitlines()[-1]}")


def _certificates(pki: Path) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=pki)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
            "-subj", "/CN=lab CA", "-keyout", "ca.key", "-out", "ca.crt")
    (pki / "names").write_text("subjectAltName=DNS:ldap.lab.internal\n")
    (pki / "index").touch()
    for name, dates in (("ldap", ["-days", "365"]), ("expired", ["-days", "-1"])):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                "/CN=ldap.lab.internal", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                "-extfile", "names", *dates, "-out", f"{name}.crt")


def _config(ldap: Path) -> str:
    includes = "\n".join(f"include: file:///etc/ldap/schema/{name}.ldif" for name in SCHEMAS.split())
    return f"""dn: cn=config
objectClass: olcGlobal
cn: config
olcTLSCACertificateFile: {ldap}/pki/ca.crt
olcTLSCertificateFile: {ldap}/pki/server.crt
olcTLSCertificateKeyFile: {ldap}/pki/server.key
olcDisallows: bind_anon
olcRequires: authc

dn: cn=module,cn=config
objectClass: olcModuleList
cn: module
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

{includes}

dn: olcDatabase=config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: config
olcAccess: to * by dn.exact=gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth manage by * none

dn: olcDatabase=mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: mdb
olcSuffix: {BASE}
olcDbDirectory: {ldap}/db
olcAccess: to attrs=userPassword by dn.exact=gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth manage by
  anonymous auth by * none
olcAccess: to * by dn.exact=gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth manage by users read by * none
"""


def _data() -> str:
    return f"""dn: {BASE}
objectClass: domain
dc: lab

dn: ou=people,{BASE}
objectClass: organizationalUnit
ou: people

dn: ou=groups,{BASE}
objectClass: organizationalUnit
ou: groups

dn: ou=services,{BASE}
objectClass: organizationalUnit
ou: services

dn: cn=validator,ou=services,{BASE}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: validator
userPassword: {LDAP_PASSWORD}

dn: uid=alice,ou=people,{BASE}
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: Example

dn: {GROUP}
objectClass: groupOfNames
cn: data-scientists
member: uid=alice,ou=people,{BASE}
"""
