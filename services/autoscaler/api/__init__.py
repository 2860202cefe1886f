"""The Application Auto Scaling API: one class a subject, joined in `ApplicationAutoScaling`."""

from services.autoscaler.api.activities import Activities
from services.autoscaler.api.policies import Policies
from services.autoscaler.api.scheduled import ScheduledActions
from services.autoscaler.api.tagging import Tagging
from services.autoscaler.api.targets import Targets


class ApplicationAutoScaling(Targets, Policies, ScheduledActions, Activities, Tagging):
    """All operations that Roadstead has; the others are answered with 501."""


__all__ = ["ApplicationAutoScaling"]
