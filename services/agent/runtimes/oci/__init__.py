"""Containers without a daemon: see services/agent/runtimes/README.md, "oci"."""

from services.agent.runtimes.oci.runtime import OciRuntime
from services.agent.runtimes.oci.settings import OciSettings

__all__ = ["OciRuntime", "OciSettings"]
