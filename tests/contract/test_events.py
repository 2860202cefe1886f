"""Every event that a service writes is in the table, and every event in the table is written by somebody."""

import ast
import re
from pathlib import Path

from contracts.events import EVENTS, INTERNAL
from contracts.records import KINDS

SERVICES = Path(__file__).resolve().parent.parent.parent / "services"
EVENT = re.compile(r"^[a-z_]+\.[a-z_]+\.v\d+$")
TABLED = {name for names in EVENTS.values() for name in names} | set(INTERNAL)


def written() -> tuple[set[str], set[str]]:
    """(events named whole, endings of those put together: `.tagged.v1`) in the code of the services."""
    whole, endings = set(), set()
    for path in SERVICES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and EVENT.match(node.value):
                whole.add(node.value)
            elif isinstance(node, ast.JoinedStr) and isinstance(node.values[-1], ast.Constant):
                text = str(node.values[-1].value)
                if re.search(r"\.v\d+$", text):
                    endings.add(text)
    return whole, endings


def test_what_services_write_is_in_the_table():
    whole, endings = written()
    assert whole - TABLED == set()
    assert [e for e in endings if not any(name.endswith(e) for name in TABLED)] == []


def test_what_is_in_the_table_is_written():
    whole, endings = written()
    unwritten = {name for name in TABLED - whole if not name.endswith(tuple(endings))}
    assert unwritten == set()


def test_every_kind_has_events_named_in_the_past_tense():
    assert set(EVENTS) == set(KINDS)
    assert all(EVENT.match(name) for name in TABLED)
