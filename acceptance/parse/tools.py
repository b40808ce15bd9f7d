"""Versions of the operator's tools, from what each prints about itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import total_ordering

from acceptance.errors import ParseError

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-.]?(alpha|beta|rc|dev|b|a)[\d.]*)?(?:[-+.].*)?", re.IGNORECASE)
_ANSIBLE = re.compile(r"^ansible (?:\[core )?(\d+\.\d+[\w.]*)\]?", re.MULTILINE)


@total_ordering
@dataclass(frozen=True)
class Version:
    """Major, minor, patch; a pre-release comes before its release."""

    major: int
    minor: int
    patch: int
    final: bool
    text: str

    def _key(self) -> tuple[int, int, int, bool]:
        return (self.major, self.minor, self.patch, self.final)

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()


def parse_version(text: str) -> Version:
    """"v1.28.3", "1.28", "v1.30.1-eks-036c24b", "2.19.0rc1". Raises ParseError for anything else."""
    found = _VERSION.fullmatch(text.strip())
    if not found:
        raise ParseError(f"not a version: {text.strip()[:60]!r}")
    return Version(int(found[1]), int(found[2]), int(found[3] or 0), found[4] is None, text.strip())


def parse_kubectl(stdout: str) -> Version:
    """`kubectl version --client -o json`. Raises ParseError."""
    try:
        return parse_version(json.loads(stdout)["clientVersion"]["gitVersion"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ParseError(f"kubectl printed no clientVersion: {stdout.strip()[:80]!r}") from None


def parse_helm(stdout: str) -> Version:
    """`helm version --template {{.Version}}`. Raises ParseError."""
    return parse_version(stdout)


def parse_ansible(stdout: str) -> Version:
    """`ansible --version`: "ansible [core 2.19.0]", before 2.11 "ansible 2.9.27". Raises ParseError."""
    found = _ANSIBLE.search(stdout)
    if not found:
        raise ParseError(f"ansible printed no version: {stdout.strip()[:80]!r}")
    return parse_version(found[1])


PARSERS = {"kubectl": parse_kubectl, "helm": parse_helm, "ansible-core": parse_ansible}
