"""The program that holds what the containers of a task share: a few instructions that wait for ever.

Made here, byte by byte, because no registry and no compiler may be asked for one. As process 1 of its namespace it gets
no signal from inside. Children that others leave to it, in a process namespace that the task shares, are reaped by the
kernel: it ignores SIGCHLD (sigaction(2), NOTES). Layout: ELF-64 header and one loadable segment, see elf(5).
"""

from __future__ import annotations

import struct

PROGRAM = "/pause"

_BASE = 0x400000
_HEADERS = 64 + 56
# struct sigaction as the kernel has it, 32 bytes: SIG_IGN, then no flags, no restorer, no mask
_IGNORED = struct.pack("<4Q", 1, 0, 0, 0)

# machine (e_machine), instructions, of which the last are followed by _IGNORED
_X86_64 = (
    62,
    bytes.fromhex(
        "b80d000000"  # mov eax, 13      rt_sigaction(SIGCHLD, &ignored, NULL, 8)
        "bf11000000"  # mov edi, 17
        "488d3514000000"  # lea rsi, [rip + 20]
        "31d2"  #       xor edx, edx
        "41ba08000000"  # mov r10d, 8
        "0f05"  #       syscall
        "b822000000"  # mov eax, 34      pause()
        "0f05"  #       syscall
        "ebf7"  #       jmp -9
        "90"  #         nop
    )
    + _IGNORED,
)
_AARCH64 = (
    183,
    struct.pack(
        "<14I",
        0xD2800220,  # mov x0, #17       rt_sigaction(SIGCHLD, &ignored, NULL, 8)
        0x100001A1,  # adr x1, +52
        0xD2800002,  # mov x2, #0
        0xD2800103,  # mov x3, #8
        0xD28010C8,  # mov x8, #134
        0xD4000001,  # svc #0
        0xD2800000,  # mov x0, #0        ppoll(NULL, 0, NULL, NULL)
        0xD2800001,  # mov x1, #0
        0xD2800002,  # mov x2, #0
        0xD2800003,  # mov x3, #0
        0xD2800928,  # mov x8, #73
        0xD4000001,  # svc #0
        0x17FFFFFA,  # b -24
        0xD503201F,  # nop
    )
    + _IGNORED,
)
_MACHINES = {"x86_64": _X86_64, "amd64": _X86_64, "aarch64": _AARCH64, "arm64": _AARCH64}


def program(architecture: str) -> bytes:
    """The static executable for an architecture, as uname and the engines name it. Raises ValueError for one that it is
    not made for."""
    try:
        machine, code = _MACHINES[architecture]
    except KeyError:
        raise ValueError(f"no pause program for {architecture}: only {', '.join(sorted(_MACHINES))}") from None
    size = _HEADERS + len(code)
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return identity + header + segment + code
