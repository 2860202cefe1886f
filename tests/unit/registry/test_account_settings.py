"""The settings of an account."""

from __future__ import annotations

import pytest

from services.registry.decisions.account_settings import VALUES, BadSetting, check_setting, scope_covers, value_of


def test_what_holds_from_the_beginning():
    assert {name: value_of({}, name) for name in VALUES} == {
        "BASIC_SCAN_TYPE_VERSION": "AWS_NATIVE",
        "REGISTRY_POLICY_SCOPE": "V2",
        "BLOB_MOUNTING": "ENABLED",
    }
    assert value_of({"BLOB_MOUNTING": "DISABLED"}, "BLOB_MOUNTING") == "DISABLED"


@pytest.mark.parametrize(
    ("name", "value", "member"),
    [
        ("BASIC_SCAN_TYPE_VERSION", "CLAIR", "value"),
        ("REGISTRY_POLICY_SCOPE", "V3", "value"),
        ("BLOB_MOUNTING", "enabled", "value"),
        ("BLOB_MOUNTS", "ENABLED", "name"),
    ],
)
def test_what_is_no_setting_names_the_member(name, value, member):
    with pytest.raises(BadSetting) as caught:
        check_setting(name, value)
    assert caught.value.member == member


def test_a_setting_that_does_not_exist_has_no_value():
    with pytest.raises(BadSetting, match="none of BASIC_SCAN"):
        value_of({"OTHER": "1"}, "OTHER")


@pytest.mark.parametrize(
    ("scope", "action", "covered"),
    [
        ("V1", "ecr:ReplicateImage", True),
        ("V1", "ecr:CreateRepository", True),
        ("V1", "ecr:BatchGetImage", False),
        ("V2", "ecr:BatchGetImage", True),
    ],
)
def test_what_the_registry_policy_has_a_say_in(scope, action, covered):
    assert scope_covers({"REGISTRY_POLICY_SCOPE": scope}, action) == covered
