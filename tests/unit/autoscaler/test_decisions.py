"""How many tasks are wanted: target tracking, steps, several policies together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.records.autoscaler import NotScaled
from services.autoscaler.decisions.combine import Answer, combine
from services.autoscaler.decisions.evaluate import Situation, Triggered, evaluate, triggers_again
from services.autoscaler.decisions.steps import Steps, adjusted, chosen, read_steps, step
from services.autoscaler.decisions.tracking import Tracking, capacity_for, track
from services.autoscaler.decisions.values import Bounds, History, Past, Point, Series, Wish
from services.shared.errors import AwsError

NOW, PERIOD, WINDOW = 10_000.0, 10.0, 60.0


def policy(target: float = 50.0, **members) -> Tracking:
    given = {"out_cooldown_s": 300.0, "in_cooldown_s": 300.0, "scales_in": True, **members}
    return Tracking(policy="p", name="cpu", metric="CPU", target=target, **given)


def series(*values: float, newest_at: float = NOW - PERIOD) -> Series:
    """A value each period, the last one measured just now."""
    count = len(values)
    return Series([Point(newest_at - (count - 1 - i) * PERIOD, v) for i, v in enumerate(values)], PERIOD)


def tracked(of: Tracking, measured: Series, current: int, history: History = History()) -> tuple[str, int]:
    wish = track(of, measured, current, history, NOW, WINDOW)
    return wish.verdict, wish.desired


def out(seconds_ago: float, before: int, after: int) -> History:
    return History(out=Past(NOW - seconds_ago, before, after), last_at=NOW - seconds_ago)


def into(seconds_ago: float, before: int, after: int) -> History:
    return History(into=Past(NOW - seconds_ago, before, after), last_at=NOW - seconds_ago)


def test_one_point_above_the_target_scales_out_in_proportion():
    assert tracked(policy(), series(10, 100), 2) == ("OUT", 4)
    assert tracked(policy(), series(51), 2) == ("OUT", 3)
    assert tracked(policy(), series(50), 2) == ("NO_DATA", 2)
    assert tracked(policy(), series(100), 0) == ("HOLD", 0)


def test_not_knowing_is_no_zero():
    assert tracked(policy(), Series([], PERIOD), 4) == ("NO_DATA", 4)
    assert tracked(policy(), series(*[0.0] * 9, newest_at=NOW - 31), 4) == ("NO_DATA", 4)
    assert tracked(policy(), series(*[0.0] * 5), 4) == ("NO_DATA", 4)


def test_scaling_in_needs_the_whole_window_well_below_the_target():
    assert tracked(policy(), series(*[20.0] * 7), 4) == ("IN", 2)
    assert tracked(policy(), series(*[20.0] * 3, 45.0, *[20.0] * 3), 4) == ("HOLD", 4)
    assert tracked(policy(), series(*[20.0] * 3, 30.0, *[20.0] * 3), 4) == ("IN", 3)
    assert tracked(policy(), series(*[44.0] * 7), 4) == ("HOLD", 4)
    assert tracked(policy(scales_in=False), series(*[1.0] * 7), 4) == ("HOLD", 4)
    assert tracked(policy(), series(*[0.0] * 7), 4) == ("IN", 0)


def test_what_was_measured_before_the_last_change_says_nothing_about_the_count_now():
    assert tracked(policy(in_cooldown_s=0.0), series(*[20.0] * 7), 4, into(35, 8, 4)) == ("NO_DATA", 4)
    assert tracked(policy(in_cooldown_s=0.0), series(*[20.0] * 7), 4, into(95, 8, 4)) == ("IN", 2)


def test_the_scale_in_cooldown_holds_back_scaling_in_and_never_scaling_out():
    assert tracked(policy(), series(*[20.0] * 7), 4, into(299, 8, 4)) == ("HOLD", 4)
    assert tracked(policy(), series(*[20.0] * 7), 4, into(300, 8, 4)) == ("IN", 2)
    assert tracked(policy(), series(*[90.0] * 7), 4, into(1, 8, 4)) == ("OUT", 8)


def test_while_a_scale_out_cools_down_only_a_need_beyond_it_counts():
    assert tracked(policy(), series(100), 4, out(20, 2, 4)) == ("HOLD", 4)
    assert tracked(policy(), series(150), 4, out(20, 2, 4)) == ("OUT", 6)
    assert tracked(policy(), series(100), 4, out(300, 2, 4)) == ("OUT", 8)


def test_what_was_measured_before_a_scale_out_is_no_need_of_more_even_without_a_cooldown():
    at_once = policy(out_cooldown_s=0.0)
    assert tracked(at_once, series(100), 4, out(9, 2, 4)) == ("HOLD", 4)
    assert tracked(at_once, series(150), 4, out(9, 2, 4)) == ("OUT", 6)
    assert tracked(at_once, series(100), 4, out(10, 2, 4)) == ("OUT", 8)


def test_a_late_point_is_no_gap_and_a_hole_is():
    fine = [NOW - at for at in range(70, 0, -5)]
    low = [Point(at, 20.0) for at in fine]
    assert tracked(policy(), Series(low, 5.0), 4) == ("IN", 2)
    assert tracked(policy(), Series(low[::2], 5.0), 4) == ("IN", 2)  # put every ten seconds
    assert tracked(policy(), Series(low[:5] + low[6:], 5.0), 4) == ("IN", 2)
    assert tracked(policy(), Series(low[:4] + low[8:], 5.0), 4) == ("NO_DATA", 4)
    assert tracked(policy(), Series(low[5:], 5.0), 4) == ("NO_DATA", 4)


@given(st.integers(0, 500), st.floats(0, 1e6), st.floats(0.01, 1e4))
def test_the_capacity_is_the_least_that_brings_the_metric_to_its_target(current, value, target):
    wanted = capacity_for(current, value, target)
    load = current * value
    least = load / target  # what there should be, were tasks divisible; counts are rounded up but for a billionth
    assert least - 1e-6 * (1 + least) <= wanted <= max(0, least + 1)


@given(
    current=st.integers(0, 100),
    values=st.lists(st.floats(0, 1000), max_size=12),
    target=st.floats(0.1, 500),
    cooldown=st.sampled_from([0.0, 300.0]),
    ago=st.floats(0, 1000),
    before=st.integers(0, 100),
)
def test_target_tracking_goes_out_only_above_and_in_only_below_its_target(
    current, values, target, cooldown, ago, before
):
    history = History(Past(NOW - ago, before, current), Past(NOW - ago, before, current), NOW - ago)
    of = policy(target, out_cooldown_s=cooldown, in_cooldown_s=cooldown)
    verdict, desired = tracked(of, series(*values), current, history)
    if verdict == "OUT":
        assert desired > current and values[-1] > target
    elif verdict == "IN":
        assert desired < current and values[-1] < 0.9 * target and (ago >= cooldown)
    else:
        assert desired == current


def wire(*steps: tuple[float | None, float | None, int]) -> list[dict]:
    names = ("MetricIntervalLowerBound", "MetricIntervalUpperBound", "ScalingAdjustment")
    return [{n: v for n, v in zip(names, s, strict=True) if v is not None} for s in steps]


UP = wire((0, 10, 1), (10, 20, 2), (20, None, 4))
DOWN = wire((-10, 0, -1), (None, -10, -2))


def stepped(adjustment_type: str = "ChangeInCapacity", given=UP, **members) -> Steps:
    made = {"cooldown_s": 300.0, **members}
    return Steps(policy="s", name="steps", adjustment_type=adjustment_type, steps=read_steps(given), **made)


def test_the_bound_next_to_the_threshold_belongs_to_a_step():
    up, down = read_steps(UP), read_steps(DOWN)
    found = [chosen(up, breach) for breach in (0, 9.9, 10, 20, 1e9)]
    assert [s.adjustment for s in found if s is not None] == [1, 1, 2, 4, 4]
    found = [chosen(down, breach) for breach in (-0.1, -9.9, -10, -1e9)]
    assert [s.adjustment for s in found if s is not None] == [-1, -1, -2, -2]
    assert chosen(up, -1) is None


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8, unique=True), st.floats(-1000, 1000))
def test_steps_without_gaps_have_one_for_every_breach(cuts, breach):
    cuts = sorted(cuts)
    edges = [None, *cuts, None]
    pairs = [(edges[i], edges[i + 1], i) for i in range(len(edges) - 1)]
    steps = read_steps(wire(*pairs))
    assert sum(chosen([s], breach) is not None for s in steps) in ((1,) if breach not in cuts else (0, 1, 2))
    assert chosen(steps, breach) is not None or breach in cuts


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([], "must not be empty"),
        (wire((0, 10, 1), (5, None, 2)), "overlap"),
        (wire((0, 10, 1), (11, None, 2)), "gap"),
        (wire((0, None, 1), (0, None, 2)), "overlap"),
        (wire((None, 0, 1), (None, 10, 2)), "overlap"),
        (wire((10, 0, 1)), "less than"),
        (wire((5, 5, 1)), "less than"),
        (wire((None, None, 1), (0, 1, 1)), "needs a MetricIntervalLowerBound"),
        (wire((-10, 0, -1)), "negative"),
        (wire((0, 10, 1)), "positive"),
        (wire(*[(i, i + 1, 1) for i in range(20)], (20, None, 1)), "at most 20"),
    ],
)
def test_steps_that_make_no_sense_are_refused(given, complaint):
    with pytest.raises(AwsError, match=complaint) as refusal:
        read_steps(given)
    assert refusal.value.code == "ValidationException"


@pytest.mark.parametrize(
    ("kind", "magnitude", "adjustment", "count", "expected"),
    [
        ("ChangeInCapacity", 0, 3, 2, 5),
        ("ChangeInCapacity", 0, -3, 2, 0),
        ("ExactCapacity", 0, 7, 2, 7),
        ("PercentChangeInCapacity", 0, 10, 4, 5),
        ("PercentChangeInCapacity", 0, -10, 4, 3),
        ("PercentChangeInCapacity", 0, 50, 5, 7),
        ("PercentChangeInCapacity", 0, -50, 5, 3),
        ("PercentChangeInCapacity", 4, 25, 10, 14),
        ("PercentChangeInCapacity", 4, -25, 10, 6),
        ("PercentChangeInCapacity", 4, 0, 10, 10),
        ("PercentChangeInCapacity", 0, 100, 0, 0),
        ("PercentChangeInCapacity", 2, 100, 0, 2),
    ],
)
def test_an_adjustment_leads_where_aws_says(kind, magnitude, adjustment, count, expected):
    assert adjusted(stepped(kind, magnitude=magnitude), adjustment, count) == expected


def test_a_step_policy_minds_its_cooldown():
    wish = step(stepped(), "busy", 15, 4, out(20, 2, 4), NOW)
    assert (wish.verdict, wish.desired) == ("HOLD", 4)
    wish = step(stepped(), "busy", 25, 4, out(20, 2, 4), NOW)
    assert (wish.verdict, wish.desired) == ("OUT", 6)
    assert step(stepped(), "busy", 15, 4, into(20, 8, 4), NOW).verdict == "OUT"
    assert step(stepped(given=DOWN), "idle", -5, 4, into(20, 8, 4), NOW).verdict == "HOLD"
    assert step(stepped(given=DOWN), "idle", -5, 4, into(300, 8, 4), NOW).desired == 3
    assert step(stepped(), "busy", None, 4, History(), NOW).verdict == "NO_DATA"


def wish(verdict: str, desired: int, name: str = "a", tracking: bool = True) -> Wish:
    return Wish(verdict=verdict, desired=desired, policy=name, name=name, tracking=tracking)


def test_of_several_policies_the_largest_count_wins():
    between = Bounds(1, 10)
    big = wish("OUT", 7, "b")
    assert combine([wish("OUT", 5), big, wish("IN", 1, "c")], 3, between) == Answer(desired=7, wishes=(big,))
    two = wish("IN", 2, "b")
    assert combine([wish("IN", 1), two], 3, between) == Answer(desired=2, wishes=(two,))


def test_target_tracking_scales_in_only_when_all_agree_and_not_knowing_is_no_agreement():
    for other in (wish("HOLD", 3, "b"), wish("NO_DATA", 3, "b")):
        assert combine([wish("IN", 1), other], 3, Bounds(1, 10)) == Answer()
    alarmed = wish("IN", 2, "b", tracking=False)
    assert combine([wish("HOLD", 3), alarmed], 3, Bounds(1, 10)).desired == 2


def test_bounds_hold_and_what_they_prevent_is_told():
    assert combine([wish("OUT", 50)], 3, Bounds(1, 10)).desired == 10
    refused = combine([wish("OUT", 50)], 10, Bounds(1, 10))
    assert refused.refused == NotScaled(code="AlreadyAtMaxCapacity", max_capacity=10, current_capacity=10)
    refused = combine([wish("IN", 0)], 1, Bounds(1, 10))
    assert refused.refused == NotScaled(code="AlreadyAtMinCapacity", min_capacity=1, current_capacity=1)
    assert combine([wish("OUT", 5)], 3, Bounds(1, 10, no_out=True)) == Answer()
    assert combine([wish("IN", 1)], 3, Bounds(1, 10, no_in=True)) == Answer()


_WISHES = st.builds(
    wish, st.sampled_from(["OUT", "IN", "HOLD", "NO_DATA"]), st.integers(0, 50), st.just("x"), st.booleans()
)


@given(st.lists(_WISHES, max_size=5), st.integers(0, 40), st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_an_answer_is_always_a_change_within_bounds_in_an_allowed_direction(wishes, current, low, more, no_out):
    wishes = [w for w in wishes if (w.verdict, w.desired > current) in (("OUT", True), ("HOLD", False))
              or (w.verdict == "IN" and w.desired < current) or w.verdict == "NO_DATA"]  # fmt: skip
    bounds = Bounds(low, low + more, no_out=no_out)
    answer = combine(wishes, current, bounds)
    if answer.desired is not None:
        assert bounds.low <= answer.desired <= bounds.high and answer.desired != current
        assert not (no_out and answer.desired > current)
        assert max(w.desired for w in answer.wishes) == min(w.desired for w in answer.wishes)
    assert answer.desired is None or answer.refused is None


def test_a_policy_that_never_scales_in_does_not_hold_the_others_back():
    situation = Situation(current=4, bounds=Bounds(1, 10), history=History(), now=NOW, window_s=WINDOW)
    low = series(*[20.0] * 7)
    stubborn = (policy(scales_in=False), series(*[45.0] * 7))
    assert evaluate([(policy(), low), stubborn], [], situation).desired == 2
    assert evaluate([(policy(), low), (policy(), Series([], PERIOD))], [], situation) == Answer()
    alarmed = Triggered(stepped(), "busy", 12.0)
    assert evaluate([(policy(), low), stubborn], [alarmed], situation).desired == 6


def test_an_alarm_that_stays_triggers_again_after_a_minute():
    assert triggers_again(100.0, [], 100.0, 10)
    assert triggers_again(100.0, [99.0], 100.0, 10)
    assert not triggers_again(100.0, [101.0], 160.9, 10)
    assert triggers_again(100.0, [101.0], 161.0, 10)
    assert not triggers_again(100.0, [101.0], 400.0, 300)
