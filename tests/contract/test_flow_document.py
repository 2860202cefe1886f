"""docs/flow.md names files and functions: they are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FLOW = (ROOT / "docs" / "flow.md").read_text()
NAMED = re.compile(r"`([\w/…]+\.py)(?::\s+([^`]+))?`")


def places() -> list[tuple[Path | None, str, str]]:
    """(file, what is named in it, as it stands in the document). A short path is one of a service that its section
    names in full."""
    found = []
    for section in re.split(r"^## ", FLOW, flags=re.MULTILINE):
        packages = sorted({ROOT / name for name in re.findall(r"`((?:services|tests|tools|contracts)/\w+)", section)})
        for match in NAMED.finditer(section):
            near = (file for package in packages for file in sorted(package.rglob(f"**/{match[1]}")))
            file = ROOT / match[1] if (ROOT / match[1]).exists() else next(near, None)
            found += [(file, name.strip(), match[0]) for name in (match[2] or "").split(",")]
    return found


def names_in(file: Path) -> set[str]:
    """What a module defines, and what its classes do: `name`, `Class`, `Class.method`, and a bare `method`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ClassDef):
            inner = [n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            names |= {f"{node.name}.{name}" for name in inner}
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize(("file", "name", "text"), places(), ids=[f"{n}:{t}" for _, n, t in places()])
def test_what_the_flow_names_is_there(file, name, text):
    assert file is not None, f"there is no file {text}"
    assert not name or name in names_in(file)
