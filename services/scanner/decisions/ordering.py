"""What all comparisons of versions stand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Compare = Callable[[str, str], int]
"""Negative, zero or positive. Raises ValueError for what is no version."""


def sign(left: Any, right: Any) -> int:
    """-1, 0 or 1."""
    return (left > right) - (left < right)


def magnitude(digits: str) -> tuple[int, str]:
    """Orders numbers of any length without making them numbers."""
    digits = digits.lstrip("0")
    return len(digits), digits
