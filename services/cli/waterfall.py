"""A trace as a picture of characters: who called whom, when, for how long. Pure."""

from __future__ import annotations

import time
from typing import Any

Span = dict[str, Any]


def waterfall(spans: list[Span], width: int = 120) -> str:
    """Each span a line, children under their parents, bars on one time axis. `spans` are contracts.records.traces.Span
    as JSON."""
    begin = min(span["start_ns"] for span in spans)
    end = max(span["end_ns"] for span in spans)
    total = max(end - begin, 1)
    services = {span["service"] for span in spans}
    label_width = min(max(len(_label(span, depth)) for span, depth in tree(spans)) + 1, max(width // 2, 30))
    bar_width = max(width - label_width - 12, 10)
    failed = sum(span.get("status") == "ERROR" for span in spans)
    lines = [
        f"trace {spans[0]['trace_id']}  {len(spans)} spans, {len(services)} services, {_duration(total)}"
        + (f", {failed} failed" if failed else "")
    ]
    for span, depth in tree(spans):
        first = int((span["start_ns"] - begin) / total * bar_width)
        length = max(1, round((span["end_ns"] - span["start_ns"]) / total * bar_width))
        bar = (" " * min(first, bar_width - 1) + "█" * length)[:bar_width]
        mark = "✗" if span.get("status") == "ERROR" else " "
        duration = _duration(span["end_ns"] - span["start_ns"])
        lines.append(f"{_label(span, depth)[: label_width - 1]:<{label_width}}{mark}{bar:<{bar_width}} {duration:>9}")
        if span.get("status_message"):
            lines.append(f"{'  ' * (depth + 1)}{span['status_message']}"[:width])
    return "\n".join(lines)


def tree(spans: list[Span]) -> list[tuple[Span, int]]:
    """The spans in the order of a walk from the roots, each with its depth. A span whose parent was not stored is a
    root."""
    known = {span["span_id"] for span in spans}
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda s: (s["start_ns"], s["end_ns"])):
        parent = span.get("parent_id")
        children.setdefault(parent if parent in known else "", []).append(span)
    walked: list[tuple[Span, int]] = []
    waiting = [(span, 0) for span in reversed(children.get("", []))]
    while waiting:
        span, depth = waiting.pop()
        walked.append((span, depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(span["span_id"], []))]
    return walked


def latest(traces: list[Span], most: int = 20, *, reads: bool = True) -> str:
    """A line a trace: id, when, what began it, how long. Without `reads` those that only asked are left out: a client
    that waits asks so often that nothing else would be seen."""
    if not traces:
        return "no traces yet"
    shown = [row for row in traces if reads or not _only_asked(row)]
    left_out = len(traces) - len(shown)
    lines = [f"{'TRACE':<34}{'WHEN':<10}{'SPANS':>5}  {'TOOK':>9}  BEGAN WITH"]
    for row in shown[:most]:
        when = time.strftime("%H:%M:%S", time.localtime(row["start_ns"] / 1e9))
        took = _duration(row["end_ns"] - row["start_ns"])
        lines.append(f"{row['trace_id']:<34}{when:<10}{row['spans']:>5}  {took:>9}  {row['service']}: {row['name']}")
    if left_out:
        lines.append(f"and {left_out} that only asked (Describe…, List…, Get…): `roadstead trace --all`")
    return "\n".join(lines)


def _only_asked(row: Span) -> bool:
    return row["spans"] == 1 and row["name"].rpartition(".")[2].startswith(("Describe", "List", "Get", "BatchGet"))


def _label(span: Span, depth: int) -> str:
    return f"{'  ' * depth}{span['service']}: {span['name']}"


def _duration(ns: int) -> str:
    if ns < 1_000_000:
        return f"{ns / 1000:.0f} µs"
    if ns < 1_000_000_000:
        return f"{ns / 1e6:.1f} ms"
    return f"{ns / 1e9:.2f} s"
