"""SQLite files that can be made again out of what they were made of."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

BUSY_S = 60.0


def opened(path: Path, format_: int, make: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """A database for writing, while others read it. Where there is none, or rubbish, or one of another format, `make`
    makes it: at the least a table `meta` with `format` in it. Raises sqlite3.Error: it is locked, or can't be made."""
    for _ in range(2):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                make(connection)
            known = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
            connection.execute("COMMIT")
            if known == (str(format_),):
                return connection
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):  # a full disk is no reason to throw away what there is
                raise
        except sqlite3.DatabaseError:
            pass
        connection.close()
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    raise sqlite3.DatabaseError(f"{path} can't be made")
