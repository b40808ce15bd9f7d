"""Builds the text that is sent to a node: modules from this package, what they need of pynvml, and a loader."""

from __future__ import annotations

import base64
import functools
import importlib.util
import json
import marshal
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acceptance.errors import Unmeasured
from acceptance.probe.subset import subset, words

PACKAGE = Path(__file__).parent
HERE_ONLY = {"build.py", "collector.py", "bootstrap.py", "subset.py"}
# annotations are never evaluated there, and importing typing takes a node 3 ms
_FOR_ANNOTATIONS = re.compile(r"^from (?:typing|collections\.abc) import .*\n", re.MULTILINE)


def program(parameters: Mapping[str, Any]) -> bytes:
    """Source for `python3 -I -`. The parameters: names, units, fabric_interface, gpus, sections (None: all)."""
    call = f"\n\nrun({', '.join(map(repr, _packed()))}, {json.dumps(dict(parameters))!r})\n"
    return ((PACKAGE / "bootstrap.py").read_text(encoding="utf-8") + call).encode("ascii")


def modules() -> dict[str, tuple[bool, str]]:
    """What is sent: by module name, whether it is a package, and its source."""
    root = PACKAGE.parent
    files = [root / "__init__.py", root / "errors.py"]
    files += sorted(file for file in PACKAGE.rglob("*.py") if file.name not in HERE_ONLY)
    found = {}
    for file in files:
        parts = ["acceptance", *file.relative_to(root).with_suffix("").parts]
        package = parts[-1] == "__init__"
        found[".".join(parts[:-1] if package else parts)] = (
            package, _FOR_ANNOTATIONS.sub("", file.read_text(encoding="utf-8")))
    used = words(found["acceptance.probe.sections.gpu"][1])
    return found | {"pynvml": (False, subset(_pynvml(), used, "NVML_ERROR_"))}


def _pynvml() -> str:
    """The whole of it. Its exceptions are made from all names that begin with NVML_ERROR_."""
    spec = importlib.util.find_spec("pynvml")
    if spec is None or spec.origin is None:
        raise Unmeasured("pynvml is not installed here: pip install nvidia-ml-py")
    return Path(spec.origin).read_text(encoding="utf-8")


@functools.cache
def _packed() -> tuple[str, str, str]:
    """The magic number of this Python, all modules as it compiled them, and as source for another Python."""
    sources = modules()
    compiled = {name: (package, marshal.dumps(compile(source, f"<probe>/{name}", "exec", dont_inherit=True)))
                for name, (package, source) in sources.items()}
    return importlib.util.MAGIC_NUMBER.hex(), _pack(compiled), _pack(sources)


def _pack(found: Mapping[str, tuple[bool, str | bytes]]) -> str:
    # version 2 of the format: what a newer one shares by reference, an older Python may not read
    return base64.b64encode(zlib.compress(marshal.dumps(dict(found), 2))).decode("ascii")
