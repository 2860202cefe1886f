"""How the C library keeps memory for the threads that carry content."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of malloc.h
_MIB = 1024 * 1024
LIMITS = {_ARENA_MAX: 2, _MMAP_THRESHOLD: 8 * _MIB, _TRIM_THRESHOLD: 16 * _MIB}


def share_buffers() -> bool:
    """Let all threads share two arenas of malloc, which keep some MiB at hand; whether that could be said. Content
    passes through buffers of a mebibyte, in any of a dozen threads: an arena for each would keep as many of them for
    good, and asking the system for each anew costs a fifth of the processor time of a pull."""
    try:
        library = ctypes.CDLL(None)
        return all([bool(library.mallopt(name, value)) for name, value in LIMITS.items()])
    except (AttributeError, OSError):  # not glibc
        return False
