"""How the C library keeps memory for the threads that carry content."""

from __future__ import annotations

import ctypes

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
ARENAS = 2


def few_arenas() -> bool:
    """Let all threads share two arenas of malloc; whether that could be said. Content passes through buffers of a
    mebibyte, in any of a dozen threads: an arena for each would keep as many of them for good."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_ARENA_MAX, ARENAS))
    except (AttributeError, OSError):  # not glibc
        return False
