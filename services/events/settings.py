"""Settings of the events service (`ROADSTEAD_EVENTS_…`)."""

import msgspec


class EventsSettings(msgspec.Struct, kw_only=True, frozen=True):
    """`timeout_s`: how long a webhook's target may take to answer. A delivery that failed is tried again after
    `retry_s`, then twice that, up to `retry_limit_s`; `give_up_s` after the event it is given up. `at_once`: how many
    deliveries to one webhook are under way at a time.
    """

    timeout_s: float = 10.0
    retry_s: float = 1.0
    retry_limit_s: float = 300.0
    give_up_s: float = 24 * 3600.0
    at_once: int = 8
