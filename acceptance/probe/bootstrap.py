"""The first lines of what is sent: loads the bundled modules from memory and runs the probe.

Imports as little as it can: every host pays for it, and nine hosts of a lab share two processors.
"""

from __future__ import annotations

import binascii
import json
import marshal
import sys
import zlib

TYPE_CHECKING = False  # importing typing for it would cost more than the rest
if TYPE_CHECKING:
    from typing import Any


class Bundle:
    """Imports modules from a mapping of name to (whether a package, code).

    `compiled` is for a Python that has the same `magic` number, which is what decides over .pyc files too; others
    compile `sources`. Compiling would be a quarter of what the whole start costs a node.
    """

    def __init__(self, magic: str, compiled: str, sources: str) -> None:
        external: Any = sys.modules["_frozen_importlib_external"]  # importlib.util itself takes a millisecond to import
        self.same = external.MAGIC_NUMBER.hex() == magic
        packed = compiled if self.same else sources
        self.modules: dict[str, Any] = marshal.loads(zlib.decompress(binascii.a2b_base64(packed)))

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name not in self.modules:
            return None
        kind: Any = type(sys.__spec__)
        return kind(name, self, origin="<probe>", is_package=self.modules[name][0])

    def create_module(self, _spec: Any) -> None:
        """None: an ordinary module."""

    def exec_module(self, module: Any) -> None:
        name = module.__name__
        code = self.modules[name][1]
        exec(marshal.loads(code) if self.same else compile(code, f"<probe>/{name}", "exec", dont_inherit=True),
             module.__dict__)


def run(magic: str, compiled: str, sources: str, parameters: str) -> None:
    """Print the probe's document. On an old Python say so: the message is what the report will show."""
    if sys.version_info < (3, 8):  # noqa: UP036 - of the node, not of this side
        sys.exit("the probe needs Python 3.8 or later, this host has " + sys.version.split()[0])
    finder: Any = Bundle(magic, compiled, sources)
    sys.meta_path.insert(0, finder)
    from acceptance.probe.main import main

    main(json.loads(parameters))
