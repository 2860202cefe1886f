"""When a container that ended is started again."""

import pytest

from services.agent.decisions.restarts import RestartPolicy, restarts
from services.agent.values import Exit


@pytest.mark.parametrize(
    ("lasted", "code", "again"),
    [(60.0, 1, True), (59.9, 1, False), (60.0, 0, True), (60.0, 7, False), (3600.0, 1, True)],
)
def test_it_is_when_it_lasted_the_period_and_its_code_is_not_ignored(lasted, code, again):
    policy = RestartPolicy(60.0, ignored=(7,))
    assert restarts(policy, Exit(code, False, 1000.0 + lasted, started_at=1000.0), None) is again


def test_an_end_that_is_written_down_before_the_start_is_no_time_not_less():
    assert restarts(RestartPolicy(0.0), Exit(1, False, 999.99), 1000.0)


def test_it_is_not_without_a_policy_or_a_start():
    assert not restarts(None, Exit(1, False, 2000.0), 1000.0)
    assert not restarts(RestartPolicy(0.0), Exit(1, False, 2000.0), None)
