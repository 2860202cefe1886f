"""What a worker gives up before it reads anything: network, other programs, privileges, files.

The kernel holds it from then on, whatever the bytes that are read make of the process:

- no new privileges, and of root's only those that open the scanner's own files (prctl(2), capset(2));
- no sockets of any family, no programs, no namespaces, no looking into other processes (seccomp(2): needs no right and
  no set-up, and keeps unix sockets away too, which a network namespace does not). Where that can't be had, a network
  namespace of its own (unshare(2));
- no file is written, made or removed but under the folders that it is told (Landlock,
  https://docs.kernel.org/userspace-api/landlock.html).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable

_NO_NEW_PRIVILEGES, _SECCOMP = 38, 22
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_FILTER = 2
_EPERM = 1
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | _EPERM
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06

_CALLS = {
    # socket socketpair execve execveat setns unshare ptrace process_vm_writev io_uring_setup mount
    "x86_64": (0xC000003E, (41, 53, 59, 322, 308, 272, 101, 311, 425, 165)),
    "aarch64": (0xC00000B7, (198, 199, 221, 281, 268, 97, 117, 271, 425, 40)),
}
_X32 = 0x40000000

_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_KEPT = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: the data directory may be another user's."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_BENEATH = 1
_EXECUTE, _READ = 1 << 0, 1 << 2 | 1 << 3
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1}
"""All rights of the first versions of Landlock; the third added truncating."""
_RIGHTS_NOW = (1 << 15) - 1


def confine(writable: Iterable[str] = (), *, network: bool = False) -> list[str]:
    """Give it up, for good. Tells what could not be given up, in words; the rest holds all the same."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    missing = []
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        missing.append(f"new privileges ({_error()})")
    if not _only_own_files(libc, writable):
        missing.append(f"writing other files (Landlock: {_error()})")
    if not network and not _no_sockets(libc) and not _no_network(libc):
        missing.append(f"the network ({_error()})")
    if os.geteuid() == 0 and not _no_capabilities(libc):
        missing.append(f"root's privileges ({_error()})")
    return missing


def _error() -> str:
    return os.strerror(ctypes.get_errno()) if ctypes.get_errno() else "not known for this machine"


def _no_sockets(libc: ctypes.CDLL) -> bool:
    known = _CALLS.get(os.uname().machine)
    if known is None or sys.maxsize < 1 << 32:
        return False
    architecture, calls = known
    refuse = len(calls) + 5  # the last line; jumps count the lines between
    program = [
        (_LOAD, 0, 0, 4),  # the architecture
        (_EQUAL, 0, refuse - 2, architecture),
        (_LOAD, 0, 0, 0),  # the call
        (_AT_LEAST, refuse - 4, 0, _X32),
        *((_EQUAL, refuse - 1 - at, 0, number) for at, number in enumerate(calls, 4)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    text = b"".join(struct.pack("HBBI", *line) for line in program)
    held = ctypes.create_string_buffer(text, len(text))
    told = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(held)))
    return bool(libc.prctl(_SECCOMP, _FILTER, told, 0, 0) == 0)


def _no_network(libc: ctypes.CDLL) -> bool:
    return libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0


def _no_capabilities(libc: ctypes.CDLL) -> bool:
    number = _CAPSET.get(os.uname().machine)
    if number is None:
        return False
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    kept = struct.pack("III", _KEPT, _KEPT, 0) + struct.pack("III", 0, 0, 0)
    return bool(libc.syscall(number, header, kept) == 0)


def _only_own_files(libc: ctypes.CDLL, writable: Iterable[str]) -> bool:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = _RIGHTS.get(version, _RIGHTS_NOW) & ~_READ
    ruleset = libc.syscall(_CREATE_RULESET, struct.pack("Q", rights), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    try:
        for folder in writable:
            try:
                descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:  # what is not there is not written to
                continue
            try:
                rule = struct.pack("=Qi", rights & ~_EXECUTE, descriptor)
                if libc.syscall(_ADD_RULE, ruleset, _BENEATH, rule, 0):
                    return False
            finally:
                os.close(descriptor)
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)
