"""What an account's own policies and a repository's come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.decisions.access import read_registry_policy, read_repository_policy
from services.shared.policies import ALLOW, EXPLICIT_DENY, IMPLICIT_DENY, MalformedPolicy
from services.shared.policies.resource_based import combined

VERDICTS = st.sampled_from([ALLOW, EXPLICIT_DENY, IMPLICIT_DENY])
OWN = st.tuples(VERDICTS, st.sampled_from(["identity-based", "session"]))
RESOURCE = st.tuples(VERDICTS, st.booleans())


@given(st.booleans(), OWN, RESOURCE)
def test_a_deny_on_either_side_goes_before_all(own_account, identity, resource):
    if EXPLICIT_DENY in (identity[0], resource[0]):
        assert combined(own_account, identity, resource)[0] == EXPLICIT_DENY


@given(OWN, RESOURCE)
def test_between_accounts_both_sides_must_allow(identity, resource):
    allowed = combined(False, identity, resource)[0] == ALLOW
    assert allowed == (identity[0] == ALLOW and resource[0] == ALLOW)


@pytest.mark.parametrize(
    ("identity", "resource", "verdict"),
    [
        ((ALLOW, "identity-based"), (IMPLICIT_DENY, False), ALLOW),
        ((IMPLICIT_DENY, "identity-based"), (ALLOW, True), ALLOW),
        ((IMPLICIT_DENY, "identity-based"), (ALLOW, False), IMPLICIT_DENY),
        ((IMPLICIT_DENY, "session"), (ALLOW, True), IMPLICIT_DENY),
    ],
)
def test_within_an_account_either_side_may_allow(identity, resource, verdict):
    assert combined(True, identity, resource)[0] == verdict


def document(**members) -> str:
    import json

    statement = {"Effect": "Allow", "Principal": "*", "Action": "ecr:*", **members}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_which_of_them_names_resources():
    read_repository_policy(document())
    read_registry_policy(document(Resource="*"))
    for read, text in ((read_repository_policy, document(Resource="*")), (read_registry_policy, document())):
        with pytest.raises(MalformedPolicy):
            read(text)
    with pytest.raises(MalformedPolicy, match="s3:Get"):
        read_repository_policy(document(Action="s3:Get"))
