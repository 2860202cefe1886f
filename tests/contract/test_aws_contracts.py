"""The generated AWS contracts are what the models say, whole, and quick to import."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import msgspec
import pytest

from contracts.aws import ecr, ecs, eks, iam, logs, sts
from contracts.aws.index import INDEX
from contracts.aws.model import Error, Http
from services.shared.aws.plans import plan_of
from tools import generate_contracts

APIS = sorted(INDEX)


def test_what_is_committed_is_what_would_be_generated() -> None:
    stale = [
        name for name, text in generate_contracts.generate().items()
        if (generate_contracts.TARGET / name).read_text(encoding="utf-8") != text
    ]  # fmt: skip
    assert stale == [], "run `make contracts`"


@pytest.mark.parametrize("name", APIS)
def test_every_shape_of_every_operation_can_be_built(name: str) -> None:
    api = importlib.import_module(f"contracts.aws.{name}").API
    for operation in api.operations.values():
        for shape in filter(None, (operation.input, operation.output)):
            msgspec.json.Decoder(shape)
            assert plan_of(shape).kind == "struct"


@pytest.mark.parametrize("name", APIS)
def test_the_index_agrees_with_the_api(name: str) -> None:
    api, entry = importlib.import_module(f"contracts.aws.{name}").API, INDEX[name]
    typed = frozenset(api.operations)
    assert (entry.name, typed) == (api.name, frozenset(generate_contracts.ONLY.get(name, entry.operations)))
    assert typed <= entry.operations
    assert (entry.signing_name, entry.target_prefix) == (api.signing_name, api.target_prefix)
    assert (entry.protocols, entry.api_version) == (api.protocols, api.api_version)
    unsigned = {operation.name for operation in api.operations.values() if operation.unsigned}
    assert set(entry.unsigned) == unsigned


def test_members_have_the_wire_names_of_the_model() -> None:
    given = ecs.CreateClusterRequest(cluster_name="c", tags=[ecs.Tag(key="k", value="v")])
    assert msgspec.json.encode(given) == b'{"clusterName":"c","tags":[{"key":"k","value":"v"}]}'
    assert msgspec.json.encode(ecr.Tag(key="k", value="v")) == b'{"Key":"k","Value":"v"}'


def test_constraints_come_with_the_types() -> None:
    for body in (b'{"repositoryName":"A"}', b'{"repositoryName":"a"}', b"{}"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(body, type=ecr.CreateRepositoryRequest)
    with pytest.raises(msgspec.ValidationError, match="Invalid enum value 'X'"):
        msgspec.json.decode(b'{"cluster":"c","launchType":"X"}', type=ecs.ListTasksRequest)


def test_recursive_shapes_are_themselves() -> None:
    operation = ecs.API.operations["DescribeTasks"]
    assert msgspec.json.decode(b'{"tasks":[]}', type=operation.output) == ecs.DescribeTasksResponse(tasks=[])


def test_an_operation_says_how_it_is_called() -> None:
    listed = eks.API.operations["ListNodegroups"]
    path, query = {"name": "clusterName"}, {"maxResults": ("maxResults", "int"), "nextToken": ("nextToken", "str")}
    assert listed.http == Http("GET", "/clusters/{name}/node-groups", path, query)
    assert (listed.method, listed.output) == ("list_nodegroups", eks.ListNodegroupsResponse)
    assert eks.API.operations["CreateCluster"].tokens == ("client_request_token",)
    assert sts.API.operations["AssumeRoleWithWebIdentity"].unsigned


def test_event_streams_are_listed_as_unsupported() -> None:
    unsupported = {op.name for op in logs.API.operations.values() if op.unsupported}
    assert unsupported == {"GetLogObject", "StartLiveTail"}


def test_errors_have_codes_and_statuses() -> None:
    assert iam.API.error("NoSuchEntityException") == Error("NoSuchEntityException", "NoSuchEntity", 404)
    assert iam.API.error("NoSuchEntity") == iam.API.error("NoSuchEntityException")
    assert ecs.API.error("ServerException") == Error("ServerException", "ServerException", 500)
    assert ecs.API.error("Unheard") is None


@pytest.mark.parametrize(
    ("java", "value", "matches"),
    [
        (r"[a-z]+", "abc", True),
        (r"[a-z]+", "abc\n", False),
        (r"^[a-z]+$", "abc!", False),
        (r"a|b", "ab", False),
        (r"\w+", "ü", False),
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "Größe 1_x", True),
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "a&b", False),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*", "a\U0001f600\n", True),
    ],
)
def test_java_patterns_mean_the_same_in_python(java: str, value: str, matches: bool) -> None:
    pattern = generate_contracts.python_pattern(java)
    assert pattern is not None
    assert bool(re.search(pattern, value)) == matches


def test_a_pattern_of_exponential_time_is_said_in_another_way() -> None:
    pattern = re.compile(generate_contracts.python_pattern(r"^[a-z0-9*](?:[._\-/a-z0-9*]?[a-z0-9*]+)*$"))
    matching = {text: bool(pattern.search(text)) for text in ("a", "*", "team/*", "a-b.c_d", "a--b", "a/", "-a", "")}
    assert matching == {
        "a": True, "*": True, "team/*": True, "a-b.c_d": True, "a--b": False, "a/": False, "-a": False, "": False,
    }  # fmt: skip
    assert not pattern.search("a" * 254 + "!")


def test_a_pattern_python_cannot_express_is_dropped() -> None:
    assert generate_contracts.python_pattern(r"[\p{L}\p{M}]+") is None


def test_the_index_needs_no_shapes() -> None:
    code = "import contracts.aws.index, sys; print([n for n in sys.modules if n.startswith('contracts.aws.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "contracts.aws.ecs" not in loaded
