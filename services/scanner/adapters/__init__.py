"""The real outside: the registry, worker processes, files, the index of advisories."""
