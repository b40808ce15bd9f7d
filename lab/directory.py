"""The lab's directory: a real slapd that serves LDAP over TLS, with a service account and a group of one member."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from lab import services
from lab.errors import LabError
from lab.hosts import LDAP_PASSWORD, home

BASE = "dc=lab,dc=internal"
GROUP = f"cn=data-scientists,ou=groups,{BASE}"
SCHEMAS = "core cosine inetorgperson"


def folder() -> Path:
    """Where it keeps certificates, settings and data."""
    return services.folder() / "ldap"


def _url() -> str:
    return "ldapi://" + str(folder() / "ldapi").replace("/", "%2f")


def start(certificate: str = "ldap") -> None:
    """Make the directory where there is none, start slapd with the named certificate ("ldap" or "expired"), and wait
    until it answers."""
    if not (folder() / "slapd.d").exists():
        _create()
    for ending in ("crt", "key"):
        shutil.copy(folder() / "pki" / f"{certificate}.{ending}", folder() / "pki" / f"server.{ending}")
    services.start("slapd", ["slapd", "-F", str(folder() / "slapd.d"), "-h", f"ldaps://ldap.lab.internal:636 {_url()}",
                             "-d", "0"])
    services.wait("slapd", lambda: (folder() / "ldapi").exists() and _administer("", "ldapwhoami") == 0)


def stop() -> None:
    """End slapd."""
    services.stop("slapd")


def expire_certificate() -> None:
    """Serve the certificate that is past its date."""
    stop()
    start("expired")


def admit_strangers() -> None:
    """Let anybody bind anonymously and read."""
    restore(lambda config: config.replace("olcDisallows: bind_anon\nolcRequires: authc\n", "").replace(
        "by users read by * none", "by * read"))


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


def restore(change: Callable[[str], str] = str) -> None:
    """The directory as it was made: its data and settings, these after `change`, are put in afresh."""
    stop()
    for name in ("slapd.d", "db"):
        shutil.rmtree(folder() / name, ignore_errors=True)
        (folder() / name).mkdir()
    _fill(change)
    start()


def modify(ldif: str) -> None:
    """Change the directory, as its administrator. Raises LabError."""
    if _administer(ldif, "ldapmodify"):
        raise LabError("the directory refused a change")


def _administer(ldif: str, tool: str) -> int:
    return subprocess.run([tool, "-Q", "-Y", "EXTERNAL", "-H", _url()], input=ldif, text=True, capture_output=True,
                          check=False).returncode


def _create() -> None:
    for name in ("pki", "slapd.d", "db"):
        (folder() / name).mkdir(parents=True, exist_ok=True)
    _certificates(folder() / "pki")
    shutil.copy(folder() / "pki" / "ca.crt", home() / "operator" / "ldap-ca.pem")
    for name in ("ldap.crt", "ldap.key"):
        shutil.copy(folder() / "pki" / name, folder() / "pki" / name.replace("ldap", "server"))
    _fill()


def _fill(change: Callable[[str], str] = str) -> None:
    _slapadd("0", change(_config(folder())))
    _slapadd("1", _data())


def _slapadd(database: str, ldif: str) -> None:
    done = subprocess.run(["slapadd", "-F", str(folder() / "slapd.d"), "-n", database], input=ldif, text=True,
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
