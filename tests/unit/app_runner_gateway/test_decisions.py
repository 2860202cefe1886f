"""Scaling, health, requests, the proxy's text: what is small and pure."""

import datetime
import stat

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from contracts.records.app_runner_gateway import AppService
from contracts.records.registry import ImageTag
from services.app_runner_gateway.adapters.certificates import CA_FILE, Authority
from services.app_runner_gateway.app import _remembered
from services.app_runner_gateway.decisions import life, names, requests
from services.app_runner_gateway.decisions.health import Check, Health, after, wait
from services.app_runner_gateway.decisions.measuring import Meter
from services.app_runner_gateway.decisions.proxy import (
    Frame,
    Seen,
    Server,
    free,
    read_map,
    read_servers,
    read_stats,
    render,
)
from services.app_runner_gateway.decisions.scaling import Bounds, Load, wanted
from services.app_runner_gateway.decisions.workloads import definition
from services.app_runner_gateway.handlers.images import follows
from services.shared.errors import AwsError
from services.shared.settings import SettingsError

IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/shop:1"
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def image(identifier=IMAGE, kind="ECR", **configuration):
    return {"ImageIdentifier": identifier, "ImageRepositoryType": kind, "ImageConfiguration": configuration}


def refused(function, *arguments):
    with pytest.raises(AwsError) as refusal:
        function(*arguments)
    assert refusal.value.code == "InvalidRequestException"
    return refusal.value.message


@given(st.integers(0, 10_000), st.integers(1, 200), st.integers(1, 25), st.integers(0, 24))
def test_there_are_enough_instances_within_the_bounds(in_flight, concurrency, low, more):
    bounds = Bounds(low, low + more, concurrency)
    count = wanted(in_flight, bounds)
    assert low <= count <= low + more
    assert count * concurrency >= in_flight or count == low + more
    assert (count - 1) * concurrency < in_flight or count == low


def test_load_scales_out_at_once_and_in_after_the_window():
    bounds, load = Bounds(1, 10, 2), Load(60, 1, 0.0)
    assert load.observe(6, bounds, 0.0, 0) == 3
    assert load.observe(0, bounds, 30.0, 0) == 3
    assert load.observe(0, bounds, 59.0, 0) == 3
    assert load.observe(0, bounds, 61.0, 0) == 1


def test_a_gateway_that_starts_anew_takes_no_instance_away_at_once():
    load = Load(60, 4, 0.0)
    assert load.observe(0, Bounds(1, 10, 2), 1.0) == 4
    assert load.observe(0, Bounds(1, 10, 2), 62.0) == 1


def test_an_instance_is_healthy_after_the_threshold_and_ill_after_the_other():
    check, health = Check(healthy=2, unhealthy=2), Health()
    states = []
    for good in (False, False, True, True, False, True, False, False, True, True):
        health = after(health, good, check)
        states.append(health.state)
    assert states == [*["STARTING"] * 3, *["HEALTHY"] * 4, *["UNHEALTHY"] * 2, "HEALTHY"]
    assert wait(Health(), check) < 0.1
    assert wait(Health(checks=1000), check) == wait(health, check) == check.interval


def test_a_source_gets_its_defaults():
    assert requests.source({"ImageRepository": image()}) == {
        "ImageRepository": image(Port="8080"),
        "AutoDeploymentsEnabled": True,
    }


@pytest.mark.parametrize(
    ("given_source", "says"),
    [
        ({"CodeRepository": {"RepositoryUrl": "x"}}, "CodeRepository"),
        ({}, "ImageRepository"),
        ({"ImageRepository": image("nginx:1")}, "ImageIdentifier"),
        ({"ImageRepository": image(IMAGE, "ECR_PUBLIC")}, "ECR Public"),
        ({"ImageRepository": image(Port="web")}, "Port"),
        ({"ImageRepository": image(Port="70000")}, "Port"),
        ({"ImageRepository": image(RuntimeEnvironmentVariables={"AWSAPPRUNNER_X": "1"})}, "AWSAPPRUNNER"),
        (
            {"ImageRepository": image(RuntimeEnvironmentVariables={"A": "1"}, RuntimeEnvironmentSecrets={"A": "b"})},
            "A is a variable and a secret",
        ),
        (
            {"ImageRepository": image("public.ecr.aws/x/y:1", "ECR_PUBLIC"), "AutoDeploymentsEnabled": True},
            "AutoDeploymentsEnabled",
        ),
    ],
)
def test_a_source_that_makes_no_sense_is_refused_by_its_member(given_source, says):
    assert says in refused(requests.source, given_source)


def test_sizes_are_read_in_both_forms_and_must_go_together():
    assert requests.instance({}) == {"Cpu": "1024", "Memory": "2048"}
    assert requests.instance({"Cpu": "0.25 vCPU", "Memory": "0.5 GB"}) == {"Cpu": "256", "Memory": "512"}
    assert "Memory" in refused(requests.instance, {"Cpu": "256", "Memory": "4096"})


def test_what_there_is_no_network_for_is_refused():
    assert "VPC" in refused(requests.network, {"EgressConfiguration": {"EgressType": "VPC"}})
    assert "private" in refused(requests.network, {"IngressConfiguration": {"IsPubliclyAccessible": False}})
    assert "slash" in refused(requests.health_check, {"Path": "health"})


def service(**source):
    made = AppService(
        account="000000000000", region="us-east-1", id="b" * 32, name="shop", host="x.us-east-1.apprunner.localhost",
        status="OPERATION_IN_PROGRESS", created_at=1.0, updated_at=1.0,
        source={"ImageRepository": image(Port="80", StartCommand="serve --port '8 0'"), **source},
        instance={"Cpu": "256", "Memory": "512", "InstanceRoleArn": "arn:r"}, health_check={}, auto_scaling="",
    )  # fmt: skip
    return life.deploy(life.begin(made, "CREATE_SERVICE", "o", 1.0), "shop@sha256:1", None, 1.0)


def test_a_revision_becomes_a_task_definition():
    made = definition(service(), service().revisions[0])
    (container,) = made["containerDefinitions"]
    assert (made["cpu"], made["memory"], made["taskRoleArn"]) == ("256", "512", "arn:r")
    assert (container["image"], container["command"]) == ("shop@sha256:1", ["serve", "--port", "8 0"])
    assert container["portMappings"] == [{"containerPort": 80, "protocol": "tcp"}]
    assert {"name": "PORT", "value": "80"} in container["environment"]
    options = container["logConfiguration"]["options"]
    assert options["awslogs-group"] == f"/aws/apprunner/shop/{'b' * 32}/application"


def test_a_service_follows_its_own_tag_to_another_image_only():
    def tag(name="1", digest="sha256:2"):
        return ImageTag(
            account="000000000000", region="us-east-1", repository="shop", tag=name, digest=digest, tagged_at=1.0
        )

    followed = service(AutoDeploymentsEnabled=True)
    assert follows(followed, tag())
    assert not follows(followed, tag("2"))
    assert not follows(followed, tag(digest="sha256:1"))
    assert not follows(service(AutoDeploymentsEnabled=False), tag())


def test_arns_are_read_back():
    arn = names.scaling_arn("000000000000", "us-east-1", "High", 3)
    assert names.scaling_name(arn, "000000000000", "us-east-1") == ("High", 3)
    assert names.scaling_name(arn.rsplit("/", 2)[0], "000000000000", "us-east-1") == ("High", None)
    assert names.scaling_name(arn, "000000000000", "eu-west-1") is None
    assert names.scaling_name(arn[:-1] + "x", "000000000000", "us-east-1") is None
    found = service()
    assert names.service_id(names.service_arn(found), found.account, found.region) == found.id
    assert names.service_id(names.service_arn(found), "1" * 12, found.region) is None


def test_pages_follow_each_other():
    first, token = names.page([1, 2, 3], str, 2, None)
    second, end = names.page([1, 2, 3], str, 2, token)
    assert (first, second, end) == ([1, 2], [3], None)
    refused(names.page, [1], str, 1, "!!")


@given(st.sets(st.integers(0, 99), min_size=1), st.sets(st.integers(0, 99)), st.integers(1, 7))
def test_pages_show_all_that_stays_though_what_was_shown_goes_meanwhile(there, going, size):
    key, seen, token = "{:02d}".format, [], None
    while True:
        shown, token = names.page(sorted(there), key, size, token)
        seen += shown
        if token is None:
            break
        there = there - (going & set(shown))
    assert sorted(seen) == seen and set(seen) >= there and len(seen) == len(set(seen))


def test_the_configuration_has_every_instance_with_its_limit():
    text = render(Frame("127.0.0.1", 8443, 2, 1000, 1.5, 2, 2), {"b1": {1: Server("10.0.0.5", 8080, 7)}})
    assert "  bind 127.0.0.1:8443 ssl crt leaf.pem alpn h2,http/1.1" in text
    free_slot = "  server s0 127.0.0.1:9 maxconn 1 disabled\n"
    assert f"{{ nbsrv gt 0 }}\n  balance leastconn\n{free_slot}  server s1 10.0.0.5:8080 maxconn 7\n" in text
    assert "timeout queue 1500ms" in text


def test_what_the_proxy_says_is_read():
    assert read_map("0x55 x.localhost b0\n\n") == {"x.localhost": "b0"}
    row = "4 b0 1 t1 10.0.0.5 2 {} 1 1 0 1 0 0 0 0 0 0 - 8080 - 0 0 - - 0"
    states = [list(read_servers("1\n# be_id\n" + row.format(admin))) for admin in (0, 8, 1, 9)]
    assert [s[0][2].state for s in states] == ["ready", "drain", "maint", "maint"]
    assert states[0] == [("b0", "t1", Server("10.0.0.5", 8080, 0))]
    stats = "# pxname,svname,qcur,scur,stot,hrsp_2xx,hrsp_4xx,hrsp_5xx,ttime\nnobody,BACKEND,0,0,1,0,0,0,0\n"
    assert read_stats(stats + "b0,t1,1,2,3,4,5,6,7\nb0,BACKEND,,2,3,4,5,6,\n") == [
        Seen("b0", "t1", 2, 1, 3, 4, 5, 6, 7.0),
        Seen("b0", "", 2, 0, 3, 4, 5, 6, 0.0),
    ]
    assert (free("b", 2, ["b0"]), free("b", 1, ["b0"]), free("x", 1, ["b0"])) == ("b1", None, "x0")


def test_a_meter_bears_counters_that_begin_anew():
    meter = Meter()
    for backend, asked in (("b0", 10), ("b0", 15), ("b0", 2), ("b1", 50), ("b1", 51)):
        meter.observe(backend, Seen(backend, "", 1, 0, asked, asked, 0, 0, 3.0))
    assert (meter.take().requests, meter.take().requests) == (5 + 2 + 1, 0)


def test_the_authority_is_made_once_and_signs_for_the_regions(tmp_path):
    first = Authority.open(tmp_path, NOW)
    text = (tmp_path / CA_FILE).read_bytes()
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
    leaf = tmp_path / "leaf.pem"
    assert first.leaf(leaf, ["us-east-1"], NOW)
    again = Authority.open(tmp_path, NOW)
    assert (tmp_path / CA_FILE).read_bytes() == text
    assert not again.leaf(leaf, ["us-east-1"], NOW)
    assert again.leaf(leaf, ["moon-1"], NOW)
    assert again.leaf(leaf, ["moon-1"], NOW + datetime.timedelta(days=380))
    made = x509.load_pem_x509_certificate(leaf.read_bytes())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(text))
    told = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"*.moon-1.apprunner.localhost", "*.us-east-1.apprunner.localhost"} <= set(
        told.get_values_for_type(x509.DNSName)
    )


def test_a_bad_authority_is_told_by_its_file(tmp_path):
    Authority.open(tmp_path, NOW)
    with pytest.raises(SettingsError, match=r"ca\.pem expired on 2039"):
        Authority.open(tmp_path, NOW + datetime.timedelta(days=4000))
    (tmp_path / "other").mkdir()
    Authority.open(tmp_path / "other", NOW)
    (tmp_path / "other" / CA_FILE).replace(tmp_path / CA_FILE)
    with pytest.raises(SettingsError, match="does not belong to the key"):
        Authority.open(tmp_path, NOW)
    (tmp_path / CA_FILE).write_text("nonsense")
    with pytest.raises(SettingsError, match="can't be read"):
        Authority.open(tmp_path, NOW)


def test_an_authority_that_a_crash_left_half_made_is_made_anew(tmp_path):
    Authority.open(tmp_path, NOW)
    (tmp_path / CA_FILE).unlink()
    again = Authority.open(tmp_path, NOW)
    assert again.leaf(tmp_path / "leaf.pem", [], NOW)


@pytest.mark.parametrize(("text", "port"), [("8443\n", 8443), ("", 0), ("\0\0", 0), ("99999", 0), (None, 0)])
def test_a_port_that_can_not_be_read_is_none(tmp_path, text, port):
    if text is not None:
        (tmp_path / "https.port").write_text(text)
    assert _remembered(tmp_path / "https.port") == port


@pytest.mark.parametrize(
    ("identifier", "found"),
    [
        ("localhost:5000/shop:2", ("000000000000", "us-east-1", "shop", "2", "")),
        ("127.0.0.1:5000/a/b", ("000000000000", "us-east-1", "a/b", "latest", "")),
        ("localhost:5000/999999999999.eu-west-1/a/b:x", ("999999999999", "eu-west-1", "a/b", "x", "")),
        ("localhost/shop@sha256:" + "0" * 64, ("000000000000", "us-east-1", "shop", "", "sha256:" + "0" * 64)),
    ],
)
def test_an_image_is_also_named_as_our_own_registry_names_it(identifier, found):
    image = requests.ecr_image(identifier)
    assert (image.account, image.region, image.repository, image.tag, image.digest) == found


@pytest.mark.parametrize(
    "identifier", ["docker.io/library/nginx", "localhost:5000/", "localhost.example/shop:1", "shop"]
)
def test_what_no_registry_of_ours_has_is_refused(identifier):
    given = {"ImageRepository": {"ImageRepositoryType": "ECR", "ImageIdentifier": identifier}}
    with pytest.raises(AwsError, match="no image of a private ECR repository"):
        requests.source(given)
