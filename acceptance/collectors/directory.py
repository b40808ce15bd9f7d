"""The LDAP directory, tried as its users will use it, and as nobody may."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from acceptance.checks import collector

if TYPE_CHECKING:
    from acceptance.collect import Session


@collector("ldap", purpose="trying the directory", deadline_s=90, by_shell=False)
def ldap(session: Session) -> None:
    """Every step's behaviour as one record; the password is in none of them."""
    from acceptance.transport.ldap import try_directory  # ldap3 takes a tenth of a second

    contract = session.contract.ldap
    password = os.environ.get(contract.password_env, "")
    for step, document in try_directory(contract, password):
        session.record(step, document=document)
