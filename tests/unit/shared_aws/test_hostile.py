"""What nobody should send is refused in order: no fault of ours, no answer that cannot be read."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.server import AwsServer
from services.shared.aws.sigv4 import SigV4Authenticator
from services.shared.errors import AuthenticationFailure
from tests.unit.shared_aws.door import KEY, Keys
from tests.unit.shared_aws.raw import answer, json_answer, json_request, query_request
from tests.unit.shared_aws.small_services import all_services

PUT_METRIC_DATA = "/service/GraniteServiceVersion20100801/operation/PutMetricData"
#: Header values and targets as aiohttp gives them: bytes that are not UTF-8 are lone surrogates.
TEXT = st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
CREDENTIAL = st.tuples(st.just(KEY.access_key_id), TEXT, TEXT, TEXT, st.just("aws4_request")).map("/".join)


@given(
    credential=st.one_of(TEXT, CREDENTIAL),
    names=st.one_of(TEXT, st.just("host")),
    date=st.one_of(TEXT, st.just("20261123T120000Z")),
    target=TEXT,
    query=TEXT,
)
def test_no_signature_is_a_fault(credential: str, names: str, date: str, target: str, query: str) -> None:
    door = SigV4Authenticator(Keys(KEY), lambda: 1_795_435_200.0)
    authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature=00"
    headers = CIMultiDict({"Host": target, "Authorization": authorization, "X-Amz-Date": date})
    presigned = f"X-Amz-Signature=0&X-Amz-Credential={credential}&X-Amz-SignedHeaders={names}&X-Amz-Expires=9&{query}"
    for request in (
        AwsHttpRequest("POST", f"/{target}", query, headers, b""),
        AwsHttpRequest("GET", "/", presigned, CIMultiDict({"Host": "h"}), b""),
    ):
        with pytest.raises(AuthenticationFailure):
            door.authenticate(request)


def readable(response: AwsHttpResponse) -> Any:
    kind = response.headers["Content-Type"]
    if kind == "text/xml":
        return ElementTree.fromstring(response.body)
    return cbor2.loads(response.body) if kind == "application/cbor" else msgspec.json.decode(response.body)


@given(action=TEXT, body=st.binary(max_size=60), protocol=st.sampled_from(["json", "query", "cbor", "rest"]))
async def test_every_refusal_can_be_read(action: str, body: bytes, protocol: str) -> None:
    server = AwsServer(all_services(), SigV4Authenticator(Keys(KEY), lambda: 0.0))
    form = f"Action={action}&Version=2010-05-08".encode("utf-8", "surrogateescape")
    cbor = CIMultiDict({"smithy-protocol": "rpc-v2-cbor"})
    request = {
        "json": json_request("ecs", action, body),
        "query": AwsHttpRequest("POST", "/", "", query_request("iam", "").headers, form),
        "cbor": AwsHttpRequest("POST", PUT_METRIC_DATA, "", cbor, body),
        "rest": AwsHttpRequest("POST", f"/{action}", "", query_request("eks", "").headers, body),
    }[protocol]
    response = await answer(server, request)
    assert 400 <= response.status < 500
    readable(response)


@pytest.mark.parametrize("body", [b'{"a":' + b"[" * 100_000, b'{"tags":' + b"[" * 100_000 + b"]" * 100_000 + b"}"])
async def test_bottomless_json_is_refused(server: AwsServer, body: bytes) -> None:
    status, error = await json_answer(server, "ecs", "CreateCluster", body)
    assert (status, error["__type"]) == (400, "SerializationException")


async def test_bottomless_cbor_is_refused(server: AwsServer) -> None:
    headers = CIMultiDict({"smithy-protocol": "rpc-v2-cbor"})
    response = await answer(server, AwsHttpRequest("POST", PUT_METRIC_DATA, "", headers, b"\x81" * 100_000))
    assert (response.status, cbor2.loads(response.body)["__type"]) == (400, "SerializationException")


async def test_a_form_of_many_levels_is_read_only_as_deep_as_the_input(server: AwsServer) -> None:
    form = f"Action=GetAccountSummary&Version=2010-05-08&{'A.' * 50_000}B=1&Tags.member.999999999.Key=x"
    assert (await answer(server, query_request("iam", form))).status == 200


async def test_a_secret_is_not_repeated_in_an_error(server: AwsServer) -> None:
    status, error = await json_answer(
        server, "secretsmanager", "CreateSecret", {"Name": "n", "SecretString": "x" * 70_000}
    )
    assert (status, error["__type"]) == (400, "ValidationException")
    assert error["message"] == (
        "1 validation error detected: Value '*** Sensitive Data Redacted ***' at 'secretString' failed to satisfy "
        "constraint: Member must have length less than or equal to 65536"
    )
