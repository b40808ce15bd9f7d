"""What asks the Kubernetes API. Each module here registers its collectors; importing the package is enough."""

from __future__ import annotations

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
