"""The first lines of what is sent: loads the bundled modules from memory and runs the probe."""

from __future__ import annotations

import base64
import importlib.abc
import importlib.machinery
import json
import sys
import zlib
from typing import Any


class Bundle(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules from a mapping of name to (whether a package, source)."""

    def __init__(self, packed: str) -> None:
        self.sources: dict[str, list[Any]] = json.loads(zlib.decompress(base64.b64decode(packed)))

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name not in self.sources:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin="<probe>", is_package=self.sources[name][0])

    def is_package(self, name: str) -> Any:
        return self.sources[name][0]

    def get_source(self, name: str) -> Any:
        return self.sources[name][1]


def run(packed: str, parameters: str) -> None:
    """Print the probe's document. On an old Python say so: the message is what the report will show."""
    if sys.version_info < (3, 8):  # noqa: UP036 - of the node, not of this side
        sys.exit("the probe needs Python 3.8 or later, this host has " + sys.version.split()[0])
    sys.meta_path.insert(0, Bundle(packed))
    from acceptance.probe.main import main

    main(json.loads(parameters))
