"""The files of environment variables that a container is given (`environmentFiles`), read.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/use-environment-file.html
"""

from __future__ import annotations

from collections.abc import Iterable


def read(text: str) -> dict[str, str]:
    """The variables of a file: lines VARIABLE=VALUE, all that follows the first `=` is the value, blanks and quotation
    marks too. Lines that begin with `#`, have no `=`, or nothing on one of its sides, are passed over, as ECS' agent
    does; of two lines for one variable the later one counts."""
    found = {}
    for line in text.split("\n"):
        name, _, value = line.removesuffix("\r").partition("=")
        if name and value and not line.startswith("#") and "\0" not in line:
            found[name] = value
    return found


def joined(files: Iterable[str]) -> dict[str, str]:
    """The variables of several files in their order: of two for one variable that of the earlier file counts."""
    found: dict[str, str] = {}
    for text in files:
        found = {**read(text), **found}
    return found
