"""The ECS API: one class a subject, joined in `Ecs`."""

from services.scheduler.api.account_settings import AccountSettings
from services.scheduler.api.agent_wire import AgentWire
from services.scheduler.api.capacity_providers import CapacityProviders
from services.scheduler.api.clusters import Clusters
from services.scheduler.api.container_instances import ContainerInstances
from services.scheduler.api.daemons import Daemons
from services.scheduler.api.deployments import Deployments
from services.scheduler.api.execute_command import ExecuteCommands
from services.scheduler.api.express import ExpressServices
from services.scheduler.api.gateways import Gateways
from services.scheduler.api.namespaces import Namespaces
from services.scheduler.api.protection import Protection
from services.scheduler.api.services import Services
from services.scheduler.api.tagging import Tagging
from services.scheduler.api.task_definitions import TaskDefinitions
from services.scheduler.api.tasks import Tasks


class Ecs(
    Clusters,
    CapacityProviders,
    TaskDefinitions,
    Tasks,
    ExecuteCommands,
    Protection,
    Services,
    ExpressServices,
    Gateways,
    Namespaces,
    Daemons,
    Deployments,
    ContainerInstances,
    AgentWire,
    AccountSettings,
    Tagging,
):
    """All operations that Roadstead has; the others are answered with 501."""
