"""What `valueFrom` may look like."""

import pytest

from services.identity.decisions.references import (
    ParameterReference,
    SecretReference,
    WrongReference,
    json_member,
    read,
)

ARN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:shop/db-AbCdEf"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ARN, SecretReference(ARN)),
        (f"{ARN}:user::", SecretReference(ARN, "user")),
        (f"{ARN}:user:AWSPREVIOUS:", SecretReference(ARN, "user", "AWSPREVIOUS")),
        (f"{ARN}:::v1", SecretReference(ARN, "", "", "v1")),
        ("/shop/url", ParameterReference("/shop/url")),
        ("url:3", ParameterReference("url:3")),
        (
            "arn:aws:ssm:us-east-1:000000000000:parameter/shop/url",
            ParameterReference("arn:aws:ssm:us-east-1:000000000000:parameter/shop/url"),
        ),
    ],
)
def test_a_reference_names_a_secret_a_key_a_version_or_a_parameter(text, expected):
    assert read(text) == expected


@pytest.mark.parametrize("text", ["", "arn:aws:s3:::bucket", f"{ARN}:a:b:c:d"])
def test_what_is_none_of_these_is_refused(text):
    with pytest.raises(WrongReference):
        read(text)


def test_one_member_of_a_json_secret_is_told_as_text():
    assert [json_member('{"a": "x", "b": 1}', key, ARN) for key in ("a", "b")] == ["x", "1"]
    with pytest.raises(WrongReference, match="did not contain json key c"):
        json_member("{}", "c", ARN)
    with pytest.raises(WrongReference) as refused:
        json_member("hunter2", "c", ARN)
    assert "hunter2" not in str(refused.value)
