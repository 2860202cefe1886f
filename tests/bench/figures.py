"""A figure, the table of them, and build/bench.json."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path("build/bench.json")


@dataclass(frozen=True)
class Figure:
    """One measured value. `ratio` is value / peer_value; `bar` says in words what must hold, `holds` whether it does
    (None where there is no bar, or its peer could not be measured here)."""

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    bar: str = ""
    holds: bool | None = None


def at_least(name: str, value: float, unit: str, peer: str, peer_value: float | None, times: float) -> Figure:
    """A figure that must be at least `times` its peer's."""
    ratio = value / peer_value if peer_value else None
    return Figure(
        name, value, unit, peer, peer_value, ratio, f"≥ {times:g} × {peer}", None if ratio is None else ratio >= times
    )


def at_most_of(name: str, value: float, unit: str, peer: str, peer_value: float | None, times: float) -> Figure:
    """A figure that must be at most `times` its peer's."""
    ratio = value / peer_value if peer_value else None
    return Figure(
        name, value, unit, peer, peer_value, ratio, f"≤ {times:g} × {peer}", None if ratio is None else ratio <= times
    )


def at_most(name: str, value: float, unit: str, bar: float) -> Figure:
    """A figure that must not pass a fixed bar."""
    return Figure(name, value, unit, bar=f"≤ {bar:g} {unit}", holds=value <= bar)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not pass (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, round(percent / 100 * len(ordered)) - 1))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def table(figures: Iterable[Figure]) -> str:
    """The figures for a person."""
    rows = [("FIGURE", "VALUE", "PEER", "RATIO", "BAR", "")]
    for f in figures:
        peer = f"{f.peer} {_number(f.peer_value)}" if f.peer_value is not None else (f.peer and f"{f.peer} –")
        holds = {True: "holds", False: "DOES NOT HOLD", None: ""}[f.holds]
        rows.append((f.name, f"{_number(f.value)} {f.unit}", peer, _number(f.ratio), f.bar, holds))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def write(figures: Sequence[Figure], path: Path = RESULTS) -> None:
    """Write them, in place of what an earlier run wrote under the same names."""
    path.parent.mkdir(exist_ok=True)
    names = {f.name for f in figures}
    earlier = json.loads(path.read_text()) if path.exists() else []
    kept = [row for row in earlier if row["name"] not in names]
    path.write_text(json.dumps(kept + [asdict(f) for f in figures], indent=2, ensure_ascii=False) + "\n")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
