"""In which order containers start and stop (`dependsOn`, links and volumesFrom)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class DependencyCycle(ValueError):
    """Containers wait for each other."""


def in_dependency_order(dependencies: Mapping[str, Sequence[str]]) -> list[str]:
    """The names so that each comes after those it depends on; otherwise as given. Raises DependencyCycle, and
    KeyError for a name that is not there."""
    ordered: list[str] = []
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in ordered:
            return
        if name in visiting:
            raise DependencyCycle(name)
        visiting.add(name)
        for dependency in dependencies[name]:
            visit(dependency)
        visiting.discard(name)
        ordered.append(name)

    for name in dependencies:
        visit(name)
    return ordered


def dependents(dependencies: Mapping[str, Sequence[str]], name: str) -> set[str]:
    """Those that must have stopped before `name` is stopped."""
    return {other for other, needs in dependencies.items() if name in needs}
