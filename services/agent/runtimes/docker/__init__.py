"""The `docker` runtime: containers through the Engine API, which Docker and Podman both speak."""

from services.agent.runtimes.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime"]
