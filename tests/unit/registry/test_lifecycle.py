"""Which images go, by which rule of a lifecycle policy."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.decisions.lifecycle import DAY_S, Candidate, due, fits
from services.registry.decisions.lifecycle_text import BadLifecycle, Rule, read_lifecycle

NOW = 1000 * DAY_S


def image(digest: str, days: float, *tags: str, **fields) -> Candidate:
    """An image of this age in days."""
    return Candidate(digest=digest, since=NOW - days * DAY_S, tags=tags, **fields)


def rule(priority: int, count_type: str = "imageCountMoreThan", count: int = 1, **fields) -> Rule:
    return Rule(priority=priority, count_type=count_type, count=count, **{"tag_status": "any"} | fields)


def gone(rules, images, in_use=()):
    return [(each.digest, each.priority) for each in due(rules, images, NOW, frozenset(in_use))]


def test_the_oldest_go_first_when_there_are_too_many():
    images = [image("b", 2), image("a", 3), image("c", 1)]
    assert gone([rule(1, count=1)], images) == [("a", 1), ("b", 1)]


def test_of_the_same_age_the_digest_decides():
    images = [image("c", 1), image("a", 1), image("b", 1)]
    assert gone([rule(1, count=2)], images) == [("a", 1)]


def test_days_since_the_push():
    images = [image("old", 14.5), image("just", 14), image("new", 1)]
    assert gone([rule(1, "sinceImagePushed", 14)], images) == [("old", 1)]


def test_days_since_the_pull_or_the_push_where_nobody_pulled():
    images = [image("pulled", 50, pulled_at=NOW - DAY_S), image("never", 40), image("young", 1)]
    assert gone([rule(1, "sinceImagePulled", 30)], images) == [("never", 1)]


def test_what_is_in_the_archive_is_for_its_own_rules():
    images = [image("a", 9, archived=True, archived_at=NOW - 2 * DAY_S), image("b", 9), image("c", 9)]
    archive = rule(2, "sinceImageTransitioned", 1, storage="archive")
    assert gone([rule(1, count=1), archive], images) == [("a", 2), ("b", 1)]


def test_an_image_that_fits_to_a_rule_is_not_touched_by_those_after_it_but_counted():
    images = [image("a", 3, "prod-1"), image("b", 2, "prod-2"), image("c", 1, "dev")]
    rules = [rule(1, count=1, tag_status="tagged", prefixes=("prod",)), rule(2, count=1)]
    assert gone(rules, images) == [("a", 1)]
    assert gone([rule(2, count=1)], images) == [("a", 2), ("b", 2)]


@pytest.mark.parametrize(
    ("wanted", "tags", "fitting"),
    [
        ({"prefixes": ("a",)}, ("ab",), True),
        ({"prefixes": ("a", "b")}, ("ab",), False),
        ({"prefixes": ("a", "b")}, ("a1", "b1"), True),
        ({"patterns": ("v*",)}, ("v1",), True),
        ({"patterns": ("v*",)}, ("xv1",), False),
        ({"patterns": ("*-rc*", "v.")}, ("v1-rc2",), False),
        ({"patterns": ("*.*",)}, ("1.2",), True),
        ({"prefixes": ("a",)}, (), False),
    ],
)
def test_all_prefixes_and_patterns_must_fit_to_some_tag(wanted, tags, fitting):
    assert fits(rule(1, tag_status="tagged", **wanted), image("a", 1, *tags)) is fitting


def test_what_an_index_names_stays_until_the_index_is_gone():
    images = [image("child", 9, named_by=("index",)), image("index", 8, "1"), image("new", 1)]
    assert gone([rule(1, count=1)], images) == [("index", 1)]


def test_what_tasks_use_stays_with_the_indexes_that_lead_there():
    images = [image("child", 9, named_by=("index",)), image("index", 8, named_by=("outer",)), image("outer", 8)]
    images += [image("used", 7), image("idle", 6)]
    assert gone([rule(1, "sinceImagePushed", 1)], images, {"child", "used", "not here"}) == [("idle", 1)]


def test_what_refers_to_an_image_goes_with_it_and_is_not_counted():
    images = [
        image("a", 9, "1"),
        image("signature", 8, subject="a"),
        image("of-signature", 7, subject="signature"),
        image("b", 6, "2"),
        image("orphan", 5, subject="gone"),
    ]
    assert gone([rule(1, count=1, tag_status="tagged", patterns=("*",))], images) == [
        ("a", 1),
        ("signature", 1),
        ("of-signature", 1),
    ]
    assert gone([rule(1, "sinceImagePushed", 4, tag_status="untagged")], images) == [("orphan", 1)]


RULES = st.lists(
    st.builds(
        Rule,
        priority=st.integers(1, 9),
        tag_status=st.sampled_from(["any", "untagged"]),
        count_type=st.sampled_from(["imageCountMoreThan", "sinceImagePushed", "sinceImagePulled"]),
        count=st.integers(1, 5),
        archive=st.booleans(),
    )
    | st.builds(
        Rule,
        priority=st.integers(1, 9),
        tag_status=st.just("tagged"),
        count_type=st.sampled_from(["imageCountMoreThan", "sinceImagePushed"]),
        count=st.integers(1, 5),
        prefixes=st.tuples(st.sampled_from(["a", "b", "ab"])),
    ),
    unique_by=lambda each: each.priority,
    max_size=4,
)


@st.composite
def repositories(draw):
    names = [f"d{n}" for n in range(draw(st.integers(0, 8)))]
    images = []
    for n, name in enumerate(names):
        tags = draw(st.lists(st.sampled_from(["a", "b", "ab", "c"]), unique=True, max_size=2))
        named_by = draw(st.lists(st.sampled_from(names[n + 1 :]), unique=True, max_size=1)) if names[n + 1 :] else []
        subject = draw(st.none() | st.sampled_from(names[:n])) if n else None
        days = draw(st.integers(0, 6))
        archived = draw(st.booleans())
        fields = {"named_by": tuple(named_by), "subject": subject, "archived": archived}
        images.append(image(name, days, *tags, **fields))
    return images, draw(st.frozensets(st.sampled_from(names), max_size=2)) if names else frozenset()


@given(RULES, repositories())
def test_no_image_goes_twice_none_in_use_and_none_that_is_named(rules, repository):
    images, in_use = repository
    found = due(rules, images, NOW, in_use)
    by_digest = {each.digest: each for each in images}
    assert len({each.digest for each in found}) == len(found)
    for each in found:
        assert each.digest not in in_use
        assert not by_digest[each.digest].named_by
        assert each.priority in {rule.priority for rule in rules}


@given(RULES, repositories())
def test_the_order_of_rules_and_images_makes_no_difference(rules, repository):
    images, in_use = repository
    again = due(list(reversed(rules)), list(reversed(images)), NOW, in_use)
    assert due(rules, images, NOW, in_use) == again


@given(RULES, repositories())
def test_the_rule_is_the_first_that_the_image_fits_to(rules, repository):
    images, in_use = repository
    here = {each.digest for each in images}
    by_digest = {each.digest: each for each in images}
    for each in due(rules, images, NOW, in_use):
        found = by_digest[each.digest]
        if found.subject not in here:
            assert each.priority == min(rule.priority for rule in rules if fits(rule, found))


@given(st.integers(1, 5), st.lists(st.integers(0, 9), max_size=9))
def test_a_count_leaves_that_many_and_the_youngest(count, ages):
    images = [image(f"d{n}", age) for n, age in enumerate(ages)]
    left = {each.digest for each in images} - {digest for digest, _ in gone([rule(1, count=count)], images)}
    assert len(left) == min(count, len(images))
    oldest_left = max((each.since for each in images if each.digest not in left), default=0.0)
    assert all(each.since >= oldest_left for each in images if each.digest in left)


def selection(**members) -> dict:
    return {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 3} | members


def text(*selections, **members) -> str:
    rules = [
        {"rulePriority": n, "selection": each, "action": {"type": "expire"}, **members}
        for n, each in enumerate(selections, 1)
    ]
    return json.dumps({"rules": rules})


def test_a_policy_is_read():
    days = {"countType": "sinceImagePulled", "countUnit": "days"}
    archive = {"action": {"type": "transition", "targetStorageClass": "archive"}}
    assert read_lifecycle(text(selection(tagStatus="tagged", tagPatternList=["v*"], **days), **archive)) == (
        Rule(priority=1, tag_status="tagged", count_type="sinceImagePulled", count=3, patterns=("v*",), archive=True),
    )


@pytest.mark.parametrize(
    ("policy", "member"),
    [
        ("no", "JSON"),
        ("[]", "policy"),
        ('{"rules": []}', "rules"),
        ('{"rules": [{}]}', "rulePriority"),
        (text(selection(), extra=1), "extra"),
        (text(selection(more=1)), "more"),
        (text(selection(), rulePriority=0), "rulePriority"),
        (text(selection(), rulePriority=True), "rulePriority"),
        (text(selection(countNumber=0)), "countNumber"),
        (text(selection(countNumber="3")), "countNumber"),
        (text(selection(countUnit="days")), "countUnit"),
        (text(selection(countType="sinceImagePushed")), "countUnit"),
        (text(selection(countType="sinceImagePushed", countUnit="hours")), "countUnit"),
        (text(selection(countType="never")), "countType"),
        (text(selection(tagStatus="some")), "tagStatus"),
        (text(selection(tagStatus="tagged")), "tagPrefixList"),
        (text(selection(tagStatus="tagged", tagPrefixList=["a"], tagPatternList=["a"])), "not both"),
        (text(selection(tagStatus="untagged", tagPrefixList=["a"])), "tagPrefixList"),
        (text(selection(tagStatus="tagged", tagPrefixList=[])), "tagPrefixList"),
        (text(selection(tagStatus="tagged", tagPatternList=["*a*b*c*d*"])), "wildcards"),
        (text(selection(storageClass="archive")), "storageClass"),
        (text(selection(countType="sinceImageTransitioned", countUnit="days")), "storageClass"),
        (text(selection(), action={"type": "keep"}), "action.type"),
        (text(selection(), action={"type": "expire", "targetStorageClass": "archive"}), "targetStorageClass"),
        (text(selection(), action={"type": "transition"}), "targetStorageClass"),
        (text(selection(), selection(tagStatus="untagged"), rulePriority=1), "rulePriority"),
        (text(selection(), selection(tagStatus="untagged")), "highest"),
        (text(selection(), selection()), "only one"),
        (text(selection(tagStatus="untagged"), selection(tagStatus="untagged")), "only one"),
        (text(*[selection(tagStatus="tagged", tagPrefixList=["a"])] * 2), "tagPrefixList"),
        (text(selection(), description=7), "description"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_member(policy, member):
    with pytest.raises(BadLifecycle, match=member):
        read_lifecycle(policy)
