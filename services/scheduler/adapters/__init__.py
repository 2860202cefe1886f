"""What the scheduler needs of the world outside: the records in memory, and hooks that are to be asked."""

from services.scheduler.adapters.hooks import HttpHooks
from services.scheduler.adapters.world import Joined, World

__all__ = ["HttpHooks", "Joined", "World"]
