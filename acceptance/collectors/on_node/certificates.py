"""Print the certificates in files of this host; a file may hold keys too, which are left out.

Argument: {"patterns": [...]}. Prints {pattern: {path: [PEM, ...] or {"error": text}}}. In a kubeconfig the certificate
of its user is base64; one that is there by path is read at that path.
"""

from __future__ import annotations

import base64
import glob
import json
import re
import sys
from typing import Any

PEM = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
INLINE = re.compile(r"^\s*client-certificate-data:\s*(\S+)\s*$", re.MULTILINE)
BY_PATH = re.compile(r"^\s*client-certificate:\s*(\S+)\s*$", re.MULTILINE)


def certificates(path: str) -> list[str]:
    """Every certificate of one file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    for encoded in INLINE.findall(text):
        text += "\n" + base64.b64decode(encoded, validate=True).decode("ascii")
    for other in BY_PATH.findall(text):
        with open(other, encoding="utf-8", errors="replace") as file:
            text += "\n" + file.read()
    return PEM.findall(text)


def guarded(path: str) -> Any:
    """Its certificates, or how reading failed."""
    try:
        return certificates(path)
    except (OSError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Read the argument, read the files, print."""
    wanted = json.loads(sys.argv[1])
    print(json.dumps({pattern: {path: guarded(path) for path in sorted(glob.glob(pattern))}
                      for pattern in wanted["patterns"]}))


main()
