"""The image that holds a task's network: one program of a few instructions that waits for ever.

Made here, byte by byte, because no registry may be asked for one. As process 1 of its container it gets no signal
but SIGKILL. Layout: ELF-64 header and one loadable segment, see elf(5).
"""

from __future__ import annotations

import io
import struct
import tarfile

REPOSITORY = "localhost/roadstead/pause"  # Podman takes a name without a host for docker.io's
TAG = "1"
IMAGE = f"{REPOSITORY}:{TAG}"
PROGRAM = "/pause"

_BASE = 0x400000
_HEADERS = 64 + 56

# machine (e_machine), instructions
_X86_64 = (
    62,
    bytes.fromhex(
        "b822000000"  # mov eax, 34      pause()
        "0f05"  #       syscall
        "ebf7"  #       jmp -9
    ),
)
_AARCH64 = (
    183,
    struct.pack(
        "<7I",
        0xD2800000,  # mov x0, #0
        0xD2800001,  # mov x1, #0
        0xD2800002,  # mov x2, #0
        0xD2800003,  # mov x3, #0
        0xD2800928,  # mov x8, #73       ppoll(NULL, 0, NULL, NULL)
        0xD4000001,  # svc #0
        0x17FFFFFA,  # b -24
    ),
)
_MACHINES = {"x86_64": _X86_64, "amd64": _X86_64, "aarch64": _AARCH64, "arm64": _AARCH64}


def program(architecture: str) -> bytes:
    """The static executable for an engine's architecture. Raises ValueError for one that it is not made for."""
    try:
        machine, code = _MACHINES[architecture]
    except KeyError:
        raise ValueError(f"no pause program for {architecture}: only {', '.join(sorted(_MACHINES))}") from None
    size = _HEADERS + len(code)
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return identity + header + segment + code


def root_file_system(architecture: str) -> bytes:
    """A tar with the program and nothing else, for POST /images/create?fromSrc=-."""
    data = program(architecture)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo(PROGRAM.lstrip("/"))
        info.size, info.mode = len(data), 0o755
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
