#!/usr/bin/env python3
"""Makes the secrets that docker-compose.yml asks for, once, into a file only its owner reads.

    python3 deploy/compose_env.py [FILE]            # default .env beside docker-compose.yml; keeps what is there
    python3 deploy/compose_env.py --export [FILE]   # the lines that point an AWS client at the platform

No password is fixed anywhere. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import secrets
import string
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_ASKED_FOR = re.compile(r"\$\{(ROADSTEAD_(?:PASSWORD_\w+|ACCESS_KEY_ID|SECRET_ACCESS_KEY)):\?")
_UPPER = string.ascii_uppercase + "234567"
_MIXED = string.ascii_letters + string.digits


def make(name: str, choose: Callable[[str], str] = secrets.choice) -> str:
    """A new value for a variable: keys look as AWS' do, passwords are 40 letters and digits."""
    if name == "ROADSTEAD_ACCESS_KEY_ID":
        return "AKIA" + "".join(choose(_UPPER) for _ in range(16))
    return "".join(choose(_MIXED) for _ in range(40))


def parse(text: str) -> dict[str, str]:
    """The variables of a .env file."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def complete(compose: str, text: str) -> str:
    """The .env file with what the compose file asks for and the file does not have; what it has stays as it is."""
    known = parse(text)
    missing = [name for name in dict.fromkeys(_ASKED_FOR.findall(compose)) if not known.get(name)]
    if text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{name}={make(name)}\n" for name in missing)


def exports(known: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """`export …` lines for a shell."""

    def setting(name: str, default: str) -> str:
        return environment.get(name) or known.get(name) or default

    values = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{setting('ROADSTEAD_PORT', '4566')}",
        "AWS_ACCESS_KEY_ID": known["ROADSTEAD_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": known["ROADSTEAD_SECRET_ACCESS_KEY"],
        "AWS_DEFAULT_REGION": setting("AWS_DEFAULT_REGION", "us-east-1"),
    }
    return "".join(f"export {name}={value}\n" for name, value in values.items())


def write(path: Path, text: str) -> None:
    """Replace the file in one step, readable by its owner alone."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def main(arguments: list[str]) -> int:
    """The exit code."""
    wants_exports = arguments[:1] == ["--export"]
    names = arguments[1:] if wants_exports else arguments
    path = Path(names[0]) if names else ROOT / ".env"
    before = path.read_text() if path.exists() else ""
    after = complete((ROOT / "docker-compose.yml").read_text(), before)
    if after != before:
        write(path, after)
        print(f"wrote new secrets into {path}", file=sys.stderr)
    if wants_exports:
        print(exports(parse(after), os.environ), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
