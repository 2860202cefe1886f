"""The scanner's own HTTP: what it knows, and what is to be let be."""

from services.scanner.routes.door import ROUTES as KNOWN
from services.scanner.routes.door import Door
from services.scanner.routes.rules import ROUTES as SET
from services.scanner.routes.rules import Rules

ROUTES = (*SET, *KNOWN)

__all__ = ["ROUTES", "Door", "Rules"]
