"""Every operation of every API, in each of its protocols: botocore's serializer and parser are the oracle."""

from __future__ import annotations

import importlib
from typing import Any
from urllib.parse import urlencode

import botocore.session
import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from multidict import CIMultiDict

from contracts.aws.index import INDEX
from contracts.aws.model import Api, Operation
from services.shared.aws.http import AwsHttpRequest
from services.shared.aws.plans import plan_of
from services.shared.aws.protocols import PROTOCOLS
from services.shared.aws.routing import Router
from tests.unit.shared_aws.raw import query_request
from tests.unit.shared_aws.samples import NoSample, as_botocore, sample

SESSION = botocore.session.get_session()
ROUTER = Router(INDEX.values())
SPOKEN = [(name, protocol) for name in sorted(INDEX) for protocol in INDEX[name].protocols]


def operations(name: str) -> tuple[Api, Any, list[Operation]]:
    api = importlib.import_module(f"contracts.aws.{name}").API
    model = SESSION.get_service_model(name.replace("_", "-"))
    return api, model, [one for one in api.operations.values() if not one.unsupported]


def sent_by_botocore(serializer: Any, model: Any, operation: Operation, api: Api, given: Any) -> AwsHttpRequest:
    """The request botocore would send; its scope names the API."""
    theirs = model.operation_model(operation.name)
    parameters = as_botocore(plan_of(operation.input), given, theirs.input_shape) if theirs.input_shape else {}
    sent = serializer.serialize_to_request(parameters, theirs)
    body = sent["body"]
    if isinstance(body, dict):
        body = urlencode(body)
    headers = CIMultiDict(sent["headers"])
    headers["Authorization"] = query_request(api.name, "").headers["Authorization"]
    query = urlencode(sent["query_string"] or {}, doseq=True)
    path, _, more = sent["url_path"].partition("?")
    content = body.encode() if isinstance(body, str) else bytes(body)
    return AwsHttpRequest(sent["method"], path, more or query, headers, content)


@pytest.mark.parametrize(("name", "protocol"), SPOKEN)
def test_every_input_arrives_whole(name: str, protocol: str) -> None:
    api, model, all_operations = operations(name)
    serializer = create_serializer(protocol, include_validation=False)
    without_sample = 0
    for operation in all_operations:
        try:
            given = sample(operation.input)
        except NoSample:
            without_sample += 1
            continue
        request = sent_by_botocore(serializer, model, operation, api, given)
        route = ROUTER.find(request)
        assert (route.api.name, route.operation, route.protocol) == (name, operation.name, protocol)
        assert PROTOCOLS[protocol].decode(request, operation, route) == given, operation.name
    assert without_sample <= len(all_operations) * 0.25


@pytest.mark.parametrize(("name", "protocol"), SPOKEN)
def test_every_output_arrives_whole(name: str, protocol: str) -> None:
    api, model, all_operations = operations(name)
    parser = create_parser(protocol)
    for operation in all_operations:
        try:
            output = sample(operation.output) if operation.output else None
        except NoSample:
            continue
        response = PROTOCOLS[protocol].encode(output, operation, api, "id")
        headers = {key.lower(): value for key, value in response.headers.items()}
        shape = model.operation_model(operation.name).output_shape
        parsed = parser.parse({"status_code": 200, "headers": headers, "body": response.body}, shape)
        parsed.pop("ResponseMetadata", None)
        expected = as_botocore(plan_of(operation.output), output, shape) if output is not None else {}
        assert parsed == expected, operation.name
