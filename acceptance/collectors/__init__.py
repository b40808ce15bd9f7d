"""What touches the cluster. Each module here registers its collectors when it is imported; `register` imports all."""

from __future__ import annotations

import importlib
import pkgutil


def register() -> None:
    """Register every collector. Checks that only need a name from one module need not pay for all of them."""
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        if not module.name.startswith((f"{__name__}.on_node.", f"{__name__}.in_pod.")):  # run elsewhere
            importlib.import_module(module.name)
    importlib.import_module("acceptance.probe.collector")
