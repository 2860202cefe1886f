"""The cluster query language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decisions.expressions import read
from services.scheduler.decisions.query import Expression, Facts, parse
from services.shared.errors import AwsError

NODE = Facts(
    {"ecs.availability-zone": "b", "ecs.instance-type": "t3.small", "disk": "ssd", "cores": "16"},
    ("service:web", "database"),
    {
        "agentConnected": "true",
        "agentVersion": "1.10.0",
        "ec2InstanceId": "i-1",
        "registeredAt": "1517486400.0",
        "runningTasksCount": "3",
    },
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("attribute:disk == ssd", True),
        ("attribute:disk equals ssd", True),
        ("attribute:disk=='ssd'", True),
        ("attribute:disk != ssd", False),
        ("attribute:gpu != ssd", True),
        ("attribute:gpu not_equals ssd", True),
        ("attribute:cores > 9", True),
        ("attribute:cores greater_than_equal 16", True),
        ("attribute:cores < 16", False),
        ("attribute:cores less_than_equal 16", True),
        ("attribute:gpu >= 0", False),
        ("attribute:ecs.availability-zone in [a, b]", True),
        ("attribute:ecs.availability-zone not_in [a, b]", False),
        ("attribute:ecs.availability-zone !in [a, c]", True),
        ("attribute:ecs.instance-type =~ t3.*", True),
        ("attribute:ecs.instance-type matches t3.(micro|small)", True),
        ("(attribute:ecs.instance-type =~ t3.(micro|small))", True),
        ("attribute:ecs.instance-type =~ t3", False),
        ("attribute:ecs.instance-type !~ t2.*", True),
        ("attribute:gpu exists", False),
        ("exists attribute:disk", True),
        ("attribute:gpu !exists", True),
        ("attribute:gpu not_exists", True),
        ("!exists attribute:gpu", True),
        ("task:group == database", True),
        ("task:group != database", False),
        ("not(task:group == service:api)", True),
        ("task:group in [service:api, service:web]", True),
        ("task:group =~ service:.*", True),
        ("task:group !~ service:.*", False),
        ("task:group exists", True),
        ("agentConnected == true", True),
        ("agentVersion > 1.9", True),
        ("agentVersion >= 1.10.1", False),
        ("ec2InstanceId in ['i-1', 'i-2']", True),
        ("registeredAt >= 2018-02-01", True),
        ("registeredAt < 2018-02-01T13:00", True),
        ("runningTasksCount < 3", False),
        ("attribute:disk == ssd and attribute:cores == 4", False),
        ("attribute:disk == ssd && not attribute:cores == 4", True),
        ("attribute:disk == hdd or attribute:cores == 16", True),
        ("attribute:disk == hdd || !(attribute:cores == 4)", True),
        ("attribute:disk == ssd or attribute:disk == hdd and attribute:cores == 4", True),
        ("(attribute:disk == ssd or attribute:disk == hdd) and attribute:cores == 4", False),
    ],
)
def test_an_expression_holds_or_does_not(text, holds):
    assert parse(text).holds(NODE) is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "attribute:a",
        "attribute:a ==",
        "attribute:a == 1 and",
        "attribute:a == 1 2",
        "(attribute:a == 1",
        "attribute:a == 1)",
        "attribute:a in []",
        "attribute:a in b",
        "attribute:a =~ [",
        "registeredAt > yesterday",
        "color == red",
        "(" * 900 + "attribute:a exists" + ")" * 900,
        "attribute:a == " + "x" * 3000,
    ],
)
def test_an_expression_that_makes_no_sense_is_refused(text):
    with pytest.raises(AwsError, match="is invalid") as refusal:
        read([{"type": "memberOf", "expression": text}], [])
    assert refusal.value.code == "InvalidParameterException"


_words = st.sampled_from(["a", "b", "c"])
_leaves = st.builds(
    lambda name, kind, value: Expression(kind, f"attribute:{name}", (value,)),
    _words,
    st.sampled_from(["==", "!="]),
    _words,
)
_trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(lambda parts: Expression("and", parts=tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda parts: Expression("or", parts=tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda part: Expression("not", parts=(part,)), inner),
    ),
    max_leaves=12,
)


def _text(tree: Expression) -> str:
    if not tree.parts:
        return f"{tree.subject} {tree.operator} {tree.values[0]}"
    if tree.operator == "not":
        return f"not ({_text(tree.parts[0])})"
    return "(" + f" {tree.operator} ".join(_text(part) for part in tree.parts) + ")"


def _holds(tree: Expression, attributes: dict[str, str]) -> bool:
    if tree.operator == "and":
        return all(_holds(part, attributes) for part in tree.parts)
    if tree.operator == "or":
        return any(_holds(part, attributes) for part in tree.parts)
    if tree.operator == "not":
        return not _holds(tree.parts[0], attributes)
    same = attributes.get(tree.subject.removeprefix("attribute:")) == tree.values[0]
    return same == (tree.operator == "==")


@given(_trees, st.dictionaries(_words, _words))
def test_what_is_written_is_read_as_it_was_meant(tree, attributes):
    assert parse(_text(tree)).holds(Facts(attributes)) == _holds(tree, attributes)


@given(st.text(alphabet="attribute:gou =!~<>&|()[],'\"ndx1 ", max_size=60))
def test_whatever_is_written_is_read_or_refused(text):
    try:
        parse(text).holds(NODE)
    except AwsError as refusal:
        assert refusal.code == "InvalidParameterException"
