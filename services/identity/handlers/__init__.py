"""What identity does for its APIs and for other services."""

from services.identity.handlers.data_keys import DataKeys
from services.identity.handlers.injection import Injection
from services.identity.handlers.kms_access import KmsAccess
from services.identity.handlers.kms_keys import KmsKeys
from services.identity.handlers.logins import RegistryLogins
from services.identity.handlers.nodes import Nodes
from services.identity.handlers.objects import Objects
from services.identity.handlers.resources import Resources
from services.identity.handlers.sessions import Sessions
from services.identity.handlers.vaults import Values

__all__ = [
    "DataKeys",
    "Injection",
    "KmsAccess",
    "KmsKeys",
    "Nodes",
    "Objects",
    "RegistryLogins",
    "Resources",
    "Sessions",
    "Values",
]
