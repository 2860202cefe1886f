"""Rust: Cargo's lock file, and what `cargo auditable` leaves in a program."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from services.scanner.decisions.bounds import Broken, Budget, members, name_of, parsed
from services.scanner.decisions.cataloguers.python import toml
from services.scanner.decisions.packages import RUST, Package

AUDIT_LIMIT = 8 << 20


def cargo_lock(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """Cargo.lock: all crates, the workspace's own too."""
    for told in members(toml(data), "package"):
        if name_of(told.get("name"), told.get("version")):
            yield Package(RUST, told["name"], told["version"], declared=True)


def audit_data(section: bytes, budget: Budget) -> Iterator[Package]:
    """The section .dep-v0: zlib, then JSON. Crates of build scripts are not in the program.
    https://github.com/rust-secure-code/cargo-auditable/blob/master/PARSING.md"""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(section, min(AUDIT_LIMIT, budget.left) + 1)
    except zlib.error as error:
        raise Broken(f"its list of crates is no zlib stream ({error})") from None
    if len(text) > AUDIT_LIMIT:
        raise Broken(f"its list of crates has more than {AUDIT_LIMIT} bytes")
    budget.spend(len(text))
    for told in members(parsed(text), "packages"):
        if told.get("kind") != "build" and name_of(told.get("name"), told.get("version")):
            yield Package(RUST, told["name"], told["version"])
