"""Programs: what the compilers of Go and Rust write into them."""

from __future__ import annotations

from collections.abc import Iterator

from services.scanner.decisions.bounds import Budget
from services.scanner.decisions.cataloguers import golang
from services.scanner.decisions.cataloguers.elf import MAGIC, Elf
from services.scanner.decisions.packages import Package


def program(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """An ELF file; or, of one that is too large to be held, its data alone (tar.data_segment)."""
    if not data.startswith(MAGIC):
        info = golang.find(data, None)
        yield from golang.modules(info) if info is not None else ()
        return
    elf = Elf(data)
    section = elf.section(".go.buildinfo")
    if section is None and not elf.has_sections:
        section = next((data[s.offset : s.offset + s.size] for s in elf.segments() if s.writable), None)
    info = golang.find(section, elf) if section is not None else None
    if info is not None:
        yield from golang.modules(info)
    crates = elf.section(".dep-v0")
    if crates is not None:
        from services.scanner.decisions.cataloguers.rust import audit_data

        yield from audit_data(crates, budget)
