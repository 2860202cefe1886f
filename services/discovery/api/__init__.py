"""The Cloud Map API: namespaces, services, instances, discovery, tags and operations."""

from services.discovery.api.discovering import Discovering
from services.discovery.api.instances import Instances
from services.discovery.api.namespaces import Namespaces
from services.discovery.api.operations import Operations
from services.discovery.api.services import Services


class CloudMap(Namespaces, Services, Instances, Discovering, Operations):
    """All of it in one."""


__all__ = ["CloudMap"]
