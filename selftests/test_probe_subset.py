"""The part of pynvml that is sent: all that the probe uses, nothing more than it needs, and it behaves the same."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pynvml
import pytest

from acceptance.probe import build
from acceptance.probe.sections import gpu
from acceptance.probe.subset import subset
from lab.hardware import gpus
from lab.packages import LIBRARY, compile_nvml

SMALL = '''\
"""A module."""
import os
from ctypes import *

def decorated(function): return function

# a comment about f
LIMIT = 3
UNUSED = 4
KEEP_A = 1
KEEP_B: int = 2

@decorated
def f(x):
    return g(x) + LIMIT

def g(x):
    """Not h."""

    return x

def unused():
    return UNUSED

class Other(Base):
    pass

if os.name == "posix":
    LIMIT = 5
else:
    LIMIT = 6

def f_twice(): return 1
def f_twice(): return 2
'''


def test_kept_is_what_is_used_and_what_that_uses() -> None:
    cut = subset(SMALL, {"f", "f_twice"}, "KEEP_")
    namespace: dict[str, object] = {}
    exec(compile(cut, "cut", "exec"), namespace)
    names = {name for name in namespace if name.isidentifier() and not name.startswith("__")}
    assert names >= {"f", "g", "LIMIT", "KEEP_A", "KEEP_B", "f_twice", "decorated", "os"}
    assert names.isdisjoint({"UNUSED", "unused", "Other"})
    assert cut.count("def f_twice") == 2
    assert "# a comment" not in cut


def test_without_a_use_only_what_defines_nothing_is_left() -> None:
    cut = subset(SMALL, set(), "KEEP_")
    assert "def " not in cut
    assert cut.count("LIMIT") == 2 + 1  # the condition assigns it, and so its definition is kept


def test_a_cut_that_would_not_compile_is_not_made() -> None:
    broken = 'A = """\nB = 1\n"""\nC = 2\n'
    assert subset(broken, {"A"}, "NONE") == broken


def test_what_is_sent_of_pynvml_has_everything_that_the_probe_names(monkeypatch: pytest.MonkeyPatch) -> None:
    source = build.modules()["pynvml"][1]
    assert len(source) < 60_000  # of 330,000
    module = types.ModuleType("pynvml")
    monkeypatch.setitem(sys.modules, "pynvml", module)  # it looks itself up there to make its exceptions
    exec(compile(source, "pynvml", "exec", dont_inherit=True), module.__dict__)
    used = {node.attr for node in ast.walk(ast.parse(Path(gpu.__file__).read_text()))
            if isinstance(node, ast.Attribute) and node.attr.upper().startswith("NVML")}
    assert len(used) > 30
    assert used - set(dir(module)) == {"nvml_bus_id"}  # a parser of this suite
    errors = {name for name in dir(pynvml) if name.startswith(("NVMLError", "NVML_ERROR_"))}
    assert {name for name in dir(module) if name.startswith(("NVMLError", "NVML_ERROR_"))} == errors


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
@pytest.mark.parametrize("trouble", [
    "", "gpu1.error.nvmlDeviceGetTemperature = 15\n", "error.nvmlDeviceGetRemappedRows = 3\n",
])
def test_the_cut_binding_reads_what_the_whole_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str,
) -> None:
    compile_nvml(tmp_path / LIBRARY)
    (tmp_path / "state.ini").write_text(gpus.healthy_state("gpu-node-03", 2) + trouble)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "LAB_GPU_STATE": str(tmp_path / "state.ini")}

    def reading() -> dict[str, object]:
        build._packed.cache_clear()
        done = subprocess.run([sys.executable, "-I", "-"], input=build.program({"sections": ["nvml"]}), check=True,
                              capture_output=True, timeout=60, env=environment)
        answer: dict[str, object] = json.loads(done.stdout)["sections"]["nvml"]
        assert answer.pop("seconds") is not None
        return answer

    cut = reading()
    monkeypatch.setattr(build, "subset", lambda source, *_: source)
    whole = reading()
    monkeypatch.undo()
    build._packed.cache_clear()
    assert cut == whole
    data = cut["data"]
    assert isinstance(data, dict)
    told = {name for gpu in data["gpus"] for name in gpu["errors"]} - {"numa_node"}  # which is not NVML's
    assert bool(trouble) == bool(told)
