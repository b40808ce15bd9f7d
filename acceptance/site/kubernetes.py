"""The contract's section `kubernetes`: the cluster."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from acceptance.site.base import Model


class Kubernetes(Model):
    """The cluster: its version, and the name and port under which everybody reaches its API server."""

    version: Annotated[str, Field(pattern=r"^1\.\d+\.\d+$")]
    control_plane_endpoint: Annotated[str, Field(pattern=r"^[a-z0-9.-]+:\d+$")]
