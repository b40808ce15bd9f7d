"""The first lines of what is sent: loads the bundled modules from memory and runs the probe.

Imports as little as it can: every host pays for it, and nine hosts of a lab share two processors.
"""

from __future__ import annotations

import binascii
import json
import sys
import zlib
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False  # importing typing for it would cost more than the rest
if TYPE_CHECKING:
    from typing import Any


class Bundle:
    """Imports modules from a mapping of name to (whether a package, source)."""

    def __init__(self, packed: str) -> None:
        self.sources: dict[str, list[Any]] = json.loads(zlib.decompress(binascii.a2b_base64(packed)))

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name not in self.sources:
            return None
        loader: Any = self
        return ModuleSpec(name, loader, origin="<probe>", is_package=self.sources[name][0])

    def create_module(self, _spec: Any) -> None:
        """None: an ordinary module."""

    def exec_module(self, module: Any) -> None:
        name = module.__name__
        exec(compile(self.sources[name][1], f"<probe>/{name}", "exec", dont_inherit=True), module.__dict__)


def run(packed: str, parameters: str) -> None:
    """Print the probe's document. On an old Python say so: the message is what the report will show."""
    if sys.version_info < (3, 8):  # noqa: UP036 - of the node, not of this side
        sys.exit("the probe needs Python 3.8 or later, this host has " + sys.version.split()[0])
    finder: Any = Bundle(packed)
    sys.meta_path.insert(0, finder)
    from acceptance.probe.main import main

    main(json.loads(parameters))
