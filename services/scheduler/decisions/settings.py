"""Account settings: which there are, what they may be, and which one holds for a principal.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-account-settings.html
"""

from __future__ import annotations

from collections.abc import Mapping

from services.shared.errors import AwsError

_ALWAYS = ("enabled", "on")
VALUES: Mapping[str, tuple[str, ...]] = {
    "serviceLongArnFormat": _ALWAYS,
    "taskLongArnFormat": _ALWAYS,
    "containerInstanceLongArnFormat": _ALWAYS,
    "containerInsights": ("enabled", "disabled", "enhanced", "on", "off"),
}
DEFAULTS: Mapping[str, str] = {
    "serviceLongArnFormat": "enabled",
    "taskLongArnFormat": "enabled",
    "containerInstanceLongArnFormat": "enabled",
    "containerInsights": "disabled",
}
_SAME = {"on": "enabled", "off": "disabled"}


def check_setting(name: str, value: str) -> str:
    """The value as it is stored. Raises InvalidParameterException, and UnsupportedFeatureException for a setting that
    nothing here would act on."""
    if name not in VALUES:
        raise AwsError("UnsupportedFeatureException", f"Roadstead does not support the account setting {name} yet.")
    if value not in VALUES[name]:
        said = f"The value of the account setting {name} must be one of {', '.join(VALUES[name])}."
        raise AwsError("InvalidParameterException", said)
    return _SAME.get(value, value)


def effective(name: str, own: str | None, default: str | None) -> str | None:
    """What holds: the principal's own setting, else the account's default, else ECS'."""
    return own or default or DEFAULTS.get(name)
