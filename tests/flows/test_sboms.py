"""An image is pushed, and what it is made of lies beside it: for `oras`, for ECR's API, and on the command line."""

import base64
import json
import urllib.request
from urllib.parse import quote

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tests.builders.images import busybox_image
from tests.builders.platform import until
from tests.builders.scanner import packages

REPOSITORY = "billed"
NAMES = {"debian", "libssl3", "bash", "Jinja2", "left-pad"}


@pytest.fixture(scope="module")
def image():
    return busybox_image(packages())


@pytest.fixture(scope="module")
def uri(platform, image):
    return platform.push(image, REPOSITORY, "1")


def referrers(platform, image, artifact_type=""):
    """What `oras discover` asks for."""
    query = f"?artifactType={quote(artifact_type)}" if artifact_type else ""
    return json.loads(fetched(platform, f"referrers/{image.digest}{query}"))["manifests"]


def fetched(platform, path):
    ecr = platform.client("ecr")
    told = ecr.get_authorization_token()["authorizationData"][0]
    host = told["proxyEndpoint"]
    request = urllib.request.Request(f"{host}/v2/{REPOSITORY}/{path}")
    request.add_header("Authorization", f"Basic {told['authorizationToken']}")
    assert base64.b64decode(told["authorizationToken"]).startswith(b"AWS:")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def test_a_pushed_image_has_bills_of_materials_that_refer_to_it(platform, uri, image):
    (found,) = until(lambda: referrers(platform, image, "application/vnd.cyclonedx+json"), 60)
    until(lambda: len(referrers(platform, image)) == 2, 60)
    layer = json.loads(fetched(platform, f"manifests/{found['digest']}"))["layers"][0]
    document = fetched(platform, f"blobs/{layer['digest']}").decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None
    assert {each["name"] for each in json.loads(document)["components"]} >= NAMES


def test_the_command_line_prints_them(platform, uri, image):
    until(lambda: len(referrers(platform, image)) == 2, 60)
    for reference in (uri, f"{REPOSITORY}:1", f"{REPOSITORY}@{image.digest}"):
        document = platform.command("sbom", reference)
        assert {each["name"] for each in json.loads(document)["components"]} >= NAMES
    document = json.loads(platform.command("sbom", uri, "--format", "spdx"))
    assert validate_full_spdx_document(JsonLikeDictParser().parse(document)) == []
    assert platform.command("sbom", f"{REPOSITORY}:nothing", check=False) == ""
