"""What the registry does by itself."""

from services.registry.controllers.cleaning import Cleaner
from services.registry.controllers.lifecycle import LifecycleController
from services.registry.controllers.pulls import PullWriter
from services.registry.controllers.replication import ReplicationController

__all__ = ["Cleaner", "LifecycleController", "PullWriter", "ReplicationController"]
