"""EventBridge's event patterns."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.events.decisions.patterns import BadPattern, check, matches

EVENT = {
    "source": "aws.ecs",
    "detail-type": "ECS Task State Change",
    "resources": ["arn:aws:ecs:us-east-1:1:task/main/a", "arn:aws:ecs:us-east-1:1:task/main/b"],
    "detail": {
        "lastStatus": "STOPPED",
        "group": "service:Web-1",
        "version": 4,
        "cpu": 0.5,
        "enableExecuteCommand": False,
        "stopCode": None,
        "containers": [{"name": "app", "exitCode": 137}, {"name": "side", "exitCode": 0}],
        "attachments": [],
        "address": "10.0.1.9",
    },
}


def detail(**pattern):
    return {"detail": pattern}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({}, True),
        ({"source": ["aws.ecs"]}, True),
        ({"source": ["aws.ecr", "aws.ecs"]}, True),
        ({"source": ["aws.ecr"]}, False),
        ({"source": ["aws.ecs"], "detail-type": ["ECS Service Action"]}, False),
        ({"account": ["1"]}, False),
        ({"resources": ["arn:aws:ecs:us-east-1:1:task/main/b"]}, True),
        ({"resources": [{"suffix": "/c"}]}, False),
        (detail(lastStatus=["RUNNING", "STOPPED"]), True),
        (detail(version=[4]), True),
        (detail(version=[4.0]), False),
        (detail(enableExecuteCommand=[False]), True),
        (detail(enableExecuteCommand=[0]), False),
        (detail(stopCode=[None]), True),
        (detail(missing=[None]), False),
        (detail(group=[{"prefix": "service:"}]), True),
        (detail(group=[{"prefix": "family:"}]), False),
        (detail(group=[{"prefix": {"equals-ignore-case": "SERVICE:WEB"}}]), True),
        (detail(group=[{"suffix": "-1"}]), True),
        (detail(group=[{"suffix": {"equals-ignore-case": "WEB-1"}}]), True),
        (detail(group=[{"equals-ignore-case": "SERVICE:web-1"}]), True),
        (detail(group=[{"wildcard": "serv*:*-1"}]), True),
        (detail(group=[{"wildcard": "serv*:*-2"}]), False),
        (detail(group=[{"wildcard": "serv\\*1"}]), False),
        (detail(version=[{"prefix": "4"}]), False),
        (detail(lastStatus=[{"anything-but": "RUNNING"}]), True),
        (detail(lastStatus=[{"anything-but": ["RUNNING", "STOPPED"]}]), False),
        (detail(version=[{"anything-but": [5]}]), True),
        (detail(group=[{"anything-but": {"prefix": "service:"}}]), False),
        (detail(group=[{"anything-but": {"suffix": ["-2", "-3"]}}]), True),
        (detail(missing=[{"anything-but": "x"}]), False),
        (detail(version=[{"numeric": ["=", 4]}]), True),
        (detail(version=[{"numeric": [">", 0, "<=", 4]}]), True),
        (detail(version=[{"numeric": ["<", 4]}]), False),
        (detail(cpu=[{"numeric": [">=", 0.5]}]), True),
        (detail(enableExecuteCommand=[{"numeric": ["=", 0]}]), False),
        (detail(group=[{"numeric": [">", 0]}]), False),
        (detail(stopCode=[{"exists": True}]), True),
        (detail(missing=[{"exists": False}]), True),
        (detail(missing=[{"exists": True}]), False),
        (detail(containers=[{"exists": True}]), True),
        (detail(attachments=[{"exists": True}]), False),
        ({"detail": [{"exists": True}]}, False),
        ({"nothing": {"inside": [{"exists": False}]}}, True),
        (detail(containers={"exitCode": [{"anything-but": 0}]}), True),
        (detail(containers={"name": ["side"], "exitCode": [137]}), False),
        (detail(attachments={"id": ["x"]}), False),
        (detail(address=[{"cidr": "10.0.0.0/16"}]), True),
        (detail(address=[{"cidr": "10.1.0.0/16"}]), False),
        (detail(group=[{"cidr": "10.1.0.0/16"}]), False),
        (detail(**{"$or": [{"lastStatus": ["RUNNING"]}, {"version": [4]}]}), True),
        (detail(**{"$or": [{"lastStatus": ["RUNNING"]}, {"version": [5]}]}), False),
    ],
)
def test_an_event_matches_or_does_not(pattern, expected):
    assert matches(check(pattern), EVENT) is expected


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ([], "it must be a JSON object"),
        ({"source": "aws.ecs"}, "source: must be an object or an array"),
        ({"source": []}, "source: must not be an empty array"),
        ({"detail": {}}, "detail: must not be an empty object"),
        ({"detail": {"a": {"b": 1}}}, "detail.a.b: must be an object or an array"),
        ({"source": [["a"]]}, "source: an alternative must be a value or a match expression"),
        ({"source": [{"prefix": "a", "suffix": "b"}]}, "source: a match expression has one name"),
        ({"source": [{}]}, "source: a match expression has one name"),
        ({"source": [{"regex": "a"}]}, "source: unrecognized match type regex"),
        ({"source": [{"prefix": 1}]}, "source: prefix and suffix must be a string"),
        ({"source": [{"wildcard": 1}]}, "source: the match expression must be a string"),
        ({"source": [{"exists": "yes"}]}, "source: exists must be true or false"),
        ({"source": [{"anything-but": []}]}, "source: anything-but must have a value, or an array of values"),
        ({"source": [{"anything-but": {"numeric": []}}]},
         "source: anything-but takes values, prefix, suffix, equals-ignore-case or wildcard"),
        ({"source": [{"numeric": [">"]}]}, "source: numeric must be one or two pairs of an operator and a number"),
        ({"source": [{"numeric": ["!", 1]}]}, "source: numeric must be one or two pairs of an operator and a number"),
        ({"source": [{"numeric": [1, 1]}]}, "source: numeric must be one or two pairs of an operator and a number"),
        ({"source": [{"numeric": [">", "1"]}]}, "source: numeric must be one or two pairs of an operator and a number"),
        ({"source": [{"cidr": "nowhere"}]}, "source: cidr must be an address with the length of its prefix"),
        ({"$or": [{"source": ["a"]}]}, "$or: must be an array of at least two objects"),
    ],
)  # fmt: skip
def test_what_is_no_pattern_says_where_and_why(pattern, why):
    with pytest.raises(BadPattern) as error:
        check(pattern)
    assert str(error.value) == f"Event pattern is not valid. Reason: {why}"


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4))
EVENTS = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
ANYTHING = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["a", "prefix", "anything-but", "numeric", "exists", "wildcard", "$or"]), inner
        )
    ),
    max_leaves=12,
)


@given(ANYTHING, st.dictionaries(st.sampled_from(["a", "b", "prefix"]), EVENTS))
def test_what_was_checked_never_fails_to_be_matched(pattern, event):
    try:
        checked = check(pattern)
    except BadPattern:
        return
    assert matches(checked, json.loads(json.dumps(event))) in (True, False)
