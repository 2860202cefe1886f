"""`python -m deploy.programs.nats`: becomes a nats-server with one user a service, each with its own password.

Passwords are in ROADSTEAD_PASSWORD_<USER>, the data under ROADSTEAD_DATA. Health at http://…:8222/healthz, inside the
container only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from contracts.grants import OPERATOR, USERS
from services.shared.nats_server import configuration, find_program

PORT = 4222
MONITOR = "127.0.0.1:8222"


def passwords(environment: Mapping[str, str]) -> dict[str, str]:
    """The password of each user. Raises KeyError with the variables that are missing."""
    names = {user: f"ROADSTEAD_PASSWORD_{user.upper()}" for user in (OPERATOR, *USERS)}
    missing = [name for name in names.values() if not environment.get(name)]
    if missing:
        raise KeyError(f"not set: {', '.join(missing)} (deploy/compose_env.py makes them)")
    return {user: environment[name] for user, name in names.items()}


def main() -> None:
    """Write the configuration, then be the server: its process is this one, so it gets the container's signals."""
    data = Path(os.environ.get("ROADSTEAD_DATA", "/data"))
    try:
        given = passwords(os.environ)
    except KeyError as error:
        sys.exit(f"nats: {error.args[0]}")
    text = configuration(given, port=PORT, host="0.0.0.0", store=str(data / "store"), sync_always=True)
    path = data / "nats.conf"
    path.touch(mode=0o600)
    path.write_text(f"{text}http: {MONITOR!r}\n")
    program = find_program()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROADSTEAD_PASSWORD_")}
    os.execve(program, [program, "-c", str(path)], kept)


if __name__ == "__main__":
    main()
