"""The App Runner API: services, their operations, auto-scaling configurations, tags."""

from services.app_runner_gateway.api.operations import Operations
from services.app_runner_gateway.api.scaling import Scaling
from services.app_runner_gateway.api.services import Services
from services.app_runner_gateway.api.tagging import Tagging


class AppRunner(Services, Operations, Scaling, Tagging):
    """All of it in one."""


__all__ = ["AppRunner"]
