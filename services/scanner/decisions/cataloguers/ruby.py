"""Ruby: installed gems, and Bundler's lock file."""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.scanner.decisions.bounds import Broken, Budget, name_of
from services.scanner.decisions.packages import RUBY, Package

_NAME = re.compile(r"""^\s*\w+\.name\s*=\s*["']([\w.-]+)["']""", re.MULTILINE)
_VERSION = re.compile(r"""^\s*\w+\.version\s*=\s*(?:Gem::Version\.new\s*\(?\s*)?["']([\w.-]+)["']""", re.MULTILINE)
_LOCKED = re.compile(r" {4}([\w.-]+) \(([\w.]+)(?:-[\w.-]+)?\)\s*\Z")
_READ = 64 << 10


def gemspec(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """A specification as RubyGems writes it beside an installed gem: Ruby, of which two assignments are read."""
    text = data[:_READ].decode("utf-8", "replace")
    name, version = _NAME.search(text), _VERSION.search(text)
    if name is None or version is None:
        raise Broken("it does not say name and version as RubyGems writes them")
    if name_of(name[1], version[1]):
        yield Package(RUBY, name[1], version[1])


def gemfile_lock(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """Gemfile.lock: the `specs` of GEM, GIT and PATH."""
    inside = False
    for line in data.decode("utf-8", "replace").splitlines():
        if line[:1] not in ("", " "):
            inside = line.strip() in ("GEM", "GIT", "PATH")
        elif inside and (found := _LOCKED.match(line[:1024])):
            yield Package(RUBY, found[1], found[2], declared=True)
