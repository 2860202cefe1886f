"""What an Express service is made of, and what is refused."""

import pytest
from msgspec.structs import replace

from contracts.records.app_runner_gateway import Ingress, Target
from contracts.records.scheduler import Express, ExpressRevision, ExpressScaling
from services.scheduler.decisions import express, life, services
from services.scheduler.decisions.backoff import BackoffRules
from services.scheduler.decisions.rollout import decide
from services.shared.errors import AwsError
from tests.builders import ecs
from tests.builders.ecs import node

ROLE = "arn:aws:iam::000000000000:role/execution"
INFRASTRUCTURE = "arn:aws:iam::000000000000:role/infrastructure"
SCALING = ExpressScaling(min_tasks=1, max_tasks=20, metric="AVERAGE_CPU", target=60.0, wanted_at=1.0)
GROUP = "/aws/ecs/main/web-1234"


def created(**changes):
    given = {
        "executionRoleArn": ROLE,
        "infrastructureRoleArn": INFRASTRUCTURE,
        "primaryContainer": {"image": "shop:1"},
        **changes,
    }
    return {k: v for k, v in given.items() if v is not None}


def express_service(*revisions, **members):
    made = [ExpressRevision(deployment=d, port=80, health_check_path="/ping", created_at=1.0) for d in revisions]
    own = Express(host="h", infrastructure_role=INFRASTRUCTURE, scaling=SCALING, revisions=made, updated_at=1.0)
    return replace(ecs.service(1, **members), express=own)


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"executionRoleArn": None}, "InvalidParameterException", "executionRoleArn"),
        ({"primaryContainer": None}, "InvalidParameterException", "primaryContainer"),
        ({"executionRoleArn": "execution"}, "InvalidParameterException", "executionRoleArn"),
        ({"infrastructureRoleArn": "arn:aws:iam::1:user/me"}, "InvalidParameterException", "infrastructureRoleArn"),
        ({"taskRoleArn": ""}, "InvalidParameterException", "taskRoleArn"),
        ({"taskDefinitionArn": "shop:1"}, "InvalidParameterException", "primaryContainer, executionRoleArn"),
        ({"healthCheckPath": "ping"}, "InvalidParameterException", "healthCheckPath"),
        ({"healthCheckPath": "/a\r\nHost: b"}, "InvalidParameterException", "healthCheckPath"),
        ({"primaryContainer": {"image": ""}}, "ClientException", "Container.image"),
        ({"primaryContainer": {"image": "Shop one"}}, "ClientException", "Container.image"),
        ({"primaryContainer": {"image": "shop", "containerPort": 0}}, "InvalidParameterException", "containerPort"),
        ({"primaryContainer": {"image": "shop", "repositoryCredentials": {}}},
         "InvalidParameterException", "credentialsParameter"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_its_name(changes, code, named):
    with pytest.raises(AwsError) as refusal:
        express.check(created(**changes), creates=True)
    assert refusal.value.code == code
    assert named in refusal.value.message


def test_a_request_of_ones_own_definition_needs_nothing_else():
    express.check({"infrastructureRoleArn": INFRASTRUCTURE, "taskDefinitionArn": "shop:1"}, creates=True)
    express.check({"healthCheckPath": "/ping?format=json"}, creates=False)


def test_the_definition_has_the_defaults_and_what_is_given():
    container = {"image": "shop:1", "environment": [{"name": "A", "value": "b"}]}
    made = express.definition(created(primaryContainer=container, cpu="512", memory="1024"), GROUP, "us-east-1", None)
    assert made == {
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "512",
        "memory": "1024",
        "executionRoleArn": ROLE,
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "containerDefinitions": [
            {
                "name": "Main",
                "image": "shop:1",
                "essential": True,
                "portMappings": [{"name": "main-80-tcp", "containerPort": 80, "protocol": "tcp"}],
                "environment": [{"name": "A", "value": "b"}],
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {
                        "awslogs-group": GROUP,
                        "awslogs-region": "us-east-1",
                        "awslogs-stream-prefix": "ecs",
                        "awslogs-create-group": "true",
                    },
                },
            }
        ],
    }
    assert express.port_of(made) == 80


def test_an_update_changes_what_it_names_and_leaves_the_other_containers():
    base = express.definition(created(taskRoleArn=ROLE), GROUP, "us-east-1", None)
    base["containerDefinitions"].append({"name": "sidecar", "image": "proxy:1"})
    logs = {"logGroup": "mine", "logStreamPrefix": "web"}
    changed = {"primaryContainer": {"image": "shop:2", "containerPort": 8080, "awsLogsConfiguration": logs}}
    made = express.definition(changed, GROUP, "us-east-1", base)
    assert [c["image"] for c in made["containerDefinitions"]] == ["shop:2", "proxy:1"]
    assert (made["taskRoleArn"], made["cpu"], express.port_of(made)) == (ROLE, "256", 8080)
    options = made["containerDefinitions"][0]["logConfiguration"]["options"]
    assert options == {"awslogs-group": "mine", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "web"}
    assert express.definition({"cpu": "512", "memory": "1024"}, GROUP, "us-east-1", base) == {
        **base, "cpu": "512", "memory": "1024",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("containers", "launch", "named"),
    [
        ([{"name": "web"}], "FARGATE", "named Main"),
        ([{"name": "Main", "portMappings": []}], "FARGATE", "single TCP port"),
        ([{"name": "Main", "portMappings": [{"containerPort": 80}]}], "FARGATE", "single TCP port"),
        ([{"name": "Main", "portMappings": [{"containerPort": 80, "name": "a"}]}], "EC2", "FARGATE"),
    ],
)
def test_a_definition_that_no_express_service_can_have_is_refused(containers, launch, named):
    with pytest.raises(AwsError, match=named):
        express.port_of({"containerDefinitions": containers, "requiresCompatibilities": [launch]})


@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        (None, (1, 20)),
        ({"minTaskCount": 3}, (3, 20)),
        ({"minTaskCount": 25}, (25, 25)),
        ({"maxTaskCount": 2}, (1, 2)),
        ({"minTaskCount": 2, "maxTaskCount": 2}, (2, 2)),
    ],
)
def test_scaling_is_completed(given, bounds):
    made = express.scaling(given, None, 32, 5.0)
    assert (made.min_tasks, made.max_tasks, made.metric, made.target, made.wanted_at) == (
        *bounds, "AVERAGE_CPU", 60.0, 5.0,
    )  # fmt: skip


def test_scaling_that_says_the_same_is_no_new_wish():
    assert express.scaling(None, SCALING, 32, 9.0) is SCALING
    assert express.scaling({"minTaskCount": 1}, SCALING, 32, 9.0) is SCALING
    changed = express.scaling({"autoScalingMetric": "REQUEST_COUNT_PER_TARGET"}, SCALING, 32, 9.0)
    assert changed == replace(SCALING, metric="REQUEST_COUNT_PER_TARGET", wanted_at=9.0)


@pytest.mark.parametrize(
    "given",
    [
        {"minTaskCount": 0},
        {"minTaskCount": 3, "maxTaskCount": 2},
        {"maxTaskCount": 33},
        {"autoScalingTargetValue": 0},
    ],
)
def test_scaling_that_makes_no_sense_is_refused(given):
    with pytest.raises(AwsError, match="scalingTarget"):
        express.scaling(given, None, 32, 1.0)


def test_an_architecture_that_no_node_has_is_refused_with_those_there_are():
    intel, unknown = node("n1", attributes={"ecs.cpu-architecture": "x86_64"}), node("n2")
    with pytest.raises(AwsError, match=r"no node with a processor of the architecture ARM64 .*, but X86_64") as refusal:
        express.check_architecture("ARM64", [intel])
    assert refusal.value.code == "UnsupportedFeatureException"
    for asked, nodes in (("X86_64", [intel]), ("ARM64", [intel, unknown]), (None, [])):
        express.check_architecture(asked, nodes)


def test_the_architecture_and_the_login_of_a_registry_are_in_the_definition():
    login = {"credentialsParameter": "arn:aws:secretsmanager:us-east-1:0:secret:hub"}
    asked = {
        "cpuArchitecture": "ARM64",
        "primaryContainer": {"image": "hub.example/shop", "repositoryCredentials": login},
    }
    made = express.definition(asked, "/g", "us-east-1", None)
    assert made["runtimePlatform"]["cpuArchitecture"] == "ARM64"
    assert made["containerDefinitions"][0]["repositoryCredentials"] == login
    changed = express.definition({"cpuArchitecture": "X86_64"}, "/g", "us-east-1", made)
    assert changed == {**made, "runtimePlatform": {**made["runtimePlatform"], "cpuArchitecture": "X86_64"}}


def test_it_is_deployed_as_a_canary():
    configuration = express.deployments(3, "errors")
    services.check({"deploymentConfiguration": configuration})
    assert (configuration["strategy"], configuration["bakeTimeInMinutes"]) == ("CANARY", 3)
    assert configuration["canaryConfiguration"] == {"canaryPercent": 5.0, "canaryBakeTimeInMinutes": 3}
    assert configuration["alarms"] == {"alarmNames": ["errors"], "enable": True, "rollback": True}


def test_the_alarm_on_its_errors_has_a_name_of_its_own_wherever_the_service_is():
    named = [express.alarm_name(cluster, "shop", "0", "us-east-1") for cluster in ("a", "b")]
    assert len(set(named)) == 2
    assert all(name.startswith("ecs-express-shop-") for name in named)
    assert len(express.alarm_name("a", "s" * 255, "0", "us-east-1")) <= 255


def test_hosts_are_labels_and_always_the_same():
    named = [express.host("0", "us-east-1", "main", name, "localhost") for name in ("My_Shop", "My-Shop", "_" * 255)]
    assert [host.split(".", 1)[1] for host in named] == ["ecs.us-east-1.localhost"] * 3
    assert [host.split(".")[0].rsplit("-", 1)[0] for host in named] == ["my-shop", "my-shop", "service"]
    assert len(set(named)) == 3
    assert named[0] == express.host("0", "us-east-1", "main", "My_Shop", "localhost")
    long = express.host("0", "us-east-1", "main", "a" * 255, "localhost")
    assert len(long.split(".")[0]) <= 63
    own = express_service("d1").express
    assert express.endpoint(own, Ingress(name="https", port=443, domain="localhost", most_tasks=9)) == "h"
    assert express.endpoint(own, Ingress(name="https", port=8443, domain="localhost", most_tasks=9)) == "h:8443"


def test_a_new_deployment_gets_a_revision_and_old_ones_that_nobody_knows_go():
    service = express_service("d1", "d0", request={})
    assert express.followed(service, None, None, 5.0) is service
    newer = replace(service, deployments=[ecs.deployment("d2", created_at=5.0), service.deployments[0]])
    made = express.followed(newer, 8080, None, 5.0).express
    assert [(r.deployment, r.port, r.health_check_path) for r in made.revisions] == [
        ("d2", 8080, "/ping"), ("d1", 80, "/ping"),
    ]  # fmt: skip
    assert express.revision_of(made, "unheard of").deployment == "d2"


def behind(state, health="HEALTHY", checked=False, reason=""):
    task = ecs.task(service="web", deployment="d1")
    status = ecs.status(task, health_status=health, started_at=1.0)
    target = Target(account="", region="", cluster="", node="", task="t1", service="web", state=state, since=1.0,
                    reason=reason)  # fmt: skip
    return life.behind_gateway(life.member(task, status, checked), target if state else None)


def test_a_task_behind_the_gateway_is_as_well_as_the_gateway_says():
    assert [behind(state).healthy for state in ("healthy", "unhealthy", "", "drained")] == [True, False, False, False]
    assert [behind(state).unhealthy for state in ("healthy", "unhealthy", "")] == [False, True, False]
    assert not behind("healthy", health="UNHEALTHY", checked=True).healthy


def test_a_task_that_fails_the_gateways_checks_is_stopped_with_that_reason():
    plan = decide(express_service("d1"), [behind("unhealthy")], 100.0, BackoffRules())
    assert [stop.reason for stop in plan.stops] == ["Task failed the gateway's health checks"]
    plan = decide(express_service("d1"), [behind("unhealthy", reason="GET /ping")], 100.0, BackoffRules())
    assert [stop.reason for stop in plan.stops] == ["Task failed the gateway's health checks: GET /ping"]
    stopped = ecs.task(desired_status="STOPPED", stopped_reason=plan.stops[0].reason)
    assert life.member(stopped, ecs.status(stopped, "STOPPED"), False).unhealthy, "it counts for the circuit breaker"


def test_an_old_task_stays_until_a_new_one_gets_requests():
    service = express_service("d2", "d1")
    service = replace(service, deployments=[ecs.deployment("d2"), ecs.deployment("d1", status="ACTIVE")])
    old = behind("healthy")
    for state, stops in (("", ()), ("healthy", ("t1",))):
        new = replace(behind(state), id="t2", deployment="d2")
        plan = decide(service, [old, new], 100.0, BackoffRules())
        assert tuple(stop.task for stop in plan.stops) == stops
