"""The alarm on an Express service's errors: what it says of the gateway's counts, and when there is one."""

import msgspec
import pytest

from contracts.aws import cloudwatch
from contracts.records.scheduler import Express, ExpressScaling
from services.monitor.api.alarms import check
from services.monitor.decisions import alarms, express
from services.monitor.decisions.expressions import evaluate
from tests.builders.ecs import service

SCALING = ExpressScaling(min_tasks=1, max_tasks=2, metric="AVERAGE_CPU", target=60.0, wanted_at=1.0)


def shop(status="ACTIVE", alarm="ecs-express-web-1"):
    made = Express(host="h", infrastructure_role="r", scaling=SCALING, revisions=[], updated_at=1.0, alarm=alarm)
    return service(1, status=status, express=made)


def put():
    return msgspec.convert(express.definition(shop()), cloudwatch.PutMetricAlarmInput)


def test_it_is_one_that_anybody_could_have_put():
    check(put())


@pytest.mark.parametrize(
    ("minutes", "state"),
    [
        ([(1000, 0, 10), (1000, 0, 10), (1000, 0, 10)], "OK"),
        ([(1000, 0, 11), (1000, 0, 0), (1000, 0, 0)], "OK"),
        ([(1000, 0, 11), (1000, 0, 0), (1000, 11, 0)], "ALARM"),
        ([(1000, 6, 5), (1000, 5, 6), (1000, 0, 0)], "ALARM"),
        ([(0, 0, 0), (0, 0, 0), (0, 0, 0)], "OK"),
        ([(0, 0, 0), (1, 0, 1), (1, 1, 0)], "ALARM"),
        ([], "OK"),
    ],
)
def test_more_than_one_percent_of_errors_in_two_minutes_of_three_is_an_alarm(minutes, state):
    request = put()
    rule = alarms.rule_of(request)
    start, _ = alarms.window(rule, now := 6001.0)
    times = [start + (alarms.EXTRA_PERIODS + n) * rule.period_s for n in range(3)]
    known = {
        name: {at: float(minute[number]) for at, minute in zip(times, minutes, strict=False)}
        for number, name in enumerate(("requests", "refused", "failed"))
    }
    rate = evaluate(request.metrics[0].expression, known, list(known))
    assert alarms.judge(rule, alarms.points(rule, rate, now), "OK").state == state


def test_there_is_one_while_the_service_is_active():
    own = ("000000000000", "us-east-1", "ecs-express-web-1")
    found = [express.key_of(each) for each in (shop(), shop("DRAINING"), shop(alarm=""), service(1))]
    assert found == [own, None, None, None]


def test_what_is_missing_is_made_what_is_over_deleted_and_other_people_s_stay():
    key = express.key_of(shop())
    made = alarms.made(key[0], key[1], express.definition(shop()), dict(express.MANAGED), 1.0)
    theirs = alarms.made(key[0], key[1], {"AlarmName": "theirs"}, {}, 1.0)
    assert express.differs({key: shop()}, [theirs]) == ([key], [])
    assert express.differs({key: shop()}, [made, theirs]) == ([], [])
    assert express.differs({}, [made, theirs]) == ([], [key])
