"""The image that holds a task's network, and what else its containers share: the pause program and nothing else.

Made here, because no registry may be asked for one.
"""

from __future__ import annotations

import io
import tarfile

from services.agent.runtimes.pause import PROGRAM, program

REPOSITORY = "localhost/roadstead/pause"  # Podman takes a name without a host for docker.io's
TAG = "2"
IMAGE = f"{REPOSITORY}:{TAG}"


def root_file_system(architecture: str) -> bytes:
    """A tar with the program and nothing else, for POST /images/create?fromSrc=-."""
    data = program(architecture)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo(PROGRAM.lstrip("/"))
        info.size, info.mode = len(data), 0o755
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
