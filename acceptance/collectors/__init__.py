"""What touches the cluster. Each module here registers its collectors; importing the package is enough."""

from __future__ import annotations

import importlib
import pkgutil

import acceptance.collectors.kubernetes  # noqa: F401  (registers its own)

for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg:
        importlib.import_module(f"{__name__}.{_module.name}")
