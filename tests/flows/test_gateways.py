"""A gateway that services share: ordinary services of a cluster behind HTTPS, with real containers."""

import contextlib

import pytest

from tests.builders.images import File, busybox_image
from tests.builders.platform import until
from tests.builders.visitors import Visitors
from tests.flows.test_blue_green import Hook

REPOSITORY = "000000000000.dkr.ecr.us-east-1.amazonaws.com/gateways/shop"
ROLE = "arn:aws:iam::000000000000:role/gateways"
CHECK = {"healthCheckPath": "/up", "matcher": {"httpCode": "200-299"}}
CONNECTOR = {"portName": "http", "healthCheck": CHECK, "deregistrationDelay": {"timeoutSeconds": 30}}


@pytest.fixture(scope="module")
def ecs(platform):
    """A client; with two versions of an image and of a task definition, and a gateway of the cluster `gateways`."""
    ecs = platform.client("ecs")
    for version in ("one", "two"):
        files = {"/www/index.html": File(version), "/www/up": File("yes")}
        platform.push(
            busybox_image(files, command=["httpd", "-f", "-p", "8080", "-h", "/www"]), "gateways/shop", version
        )
        ecs.register_task_definition(
            family="shop", networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512",
            executionRoleArn=ROLE,
            containerDefinitions=[{
                "name": "web", "image": f"{REPOSITORY}:{version}", "stopTimeout": 2,
                "portMappings": [{"containerPort": 8080, "name": "http"}],
            }],
        )  # fmt: skip
    ecs.create_cluster(clusterName="gateways")
    ecs.create_gateway(name="front", infrastructureRoleArn=ROLE, configuration={"hostSharedAlb": {}})
    ecs.associate_gateway_with_cluster(gateway="front", cluster="gateways")
    yield ecs
    for cluster, name in (("gateways", "shop"), ("gateways", "blog"), ("trials", "shop")):
        with contextlib.suppress(ecs.exceptions.ClientError):
            ecs.delete_service(cluster=cluster, service=name, force=True)


def create(ecs, name, definition, **members):
    given = {"cluster": "gateways", "gatewayConnectors": [CONNECTOR], **members}
    ecs.create_service(
        serviceName=name, taskDefinition=definition, desiredCount=1, launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-local"]}}, **given,
    )  # fmt: skip


def serve(platform, ecs, name, definition, **members):
    """A service behind the gateway: those who visit it."""
    create(ecs, name, definition, **members)
    return visitors(platform, ecs, name)


def visitors(platform, ecs, name, gateway="front"):
    (route,) = ecs.list_gateway_routes(gateway=gateway, service=name)["gatewayRoutes"]
    url = ecs.describe_gateway_route(gatewayRouteArn=route["gatewayRouteArn"])["gatewayRoute"]["serviceUrl"]
    return Visitors(platform.command("ca").strip(), url.removeprefix("https://"))


def test_services_share_a_gateway_are_deployed_without_a_failed_request_and_leave_it(platform, ecs):
    shop, blog = serve(platform, ecs, "shop", "shop:1"), serve(platform, ecs, "blog", "shop:2")
    until(lambda: shop.once() == (200, "one") and blog.once() == (200, "two"), 90, every=0.1)
    until(lambda: ecs.describe_services(cluster="gateways", services=["shop"])["services"][0]["deployments"][0][
        "rolloutState"] == "COMPLETED", 90, every=0.1)  # fmt: skip
    with shop.keep_coming() as answers:
        until(lambda: len(answers) > 20)
        ecs.update_service(cluster="gateways", service="shop", taskDefinition="shop:2")
        until(lambda: answers[-1] == (200, "two"), 90)

        def settled():
            (seen,) = ecs.describe_services(cluster="gateways", services=["shop"])["services"]
            tasks = ecs.list_tasks(cluster="gateways", serviceName="shop")["taskArns"]
            return len(seen["deployments"]) == len(tasks) == 1 and seen["deployments"][0]["rolloutState"] == "COMPLETED"

        until(settled, 90, every=0.1)
    assert [answer for answer in answers if answer[0] != 200] == []
    assert {body for _, body in answers} == {"one", "two"}

    ecs.update_gateway(gateway="front", deletionProtection=False)
    ecs.disassociate_gateway_from_cluster(gateway="front", cluster="gateways")
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="disassociate"):
        ecs.delete_gateway(gateway="front")
    for name in ("shop", "blog"):
        ecs.delete_service(cluster="gateways", service=name, force=True)
    until(
        lambda: ecs.list_gateway_cluster_associations(gateway="front")["gatewayClusterAssociations"] == [],
        90,
        every=0.1,
    )
    assert shop.once()[0] == blog.once()[0] == 404
    ecs.delete_gateway(gateway="front")
    with pytest.raises(ecs.exceptions.GatewayNotFoundException):
        ecs.describe_gateway(gateway="front")


def settled(ecs, cluster, name):
    (seen,) = ecs.describe_services(cluster=cluster, services=[name])["services"]
    tasks = ecs.list_tasks(cluster=cluster, serviceName=name)["taskArns"]
    return len(seen["deployments"]) == len(tasks) == 1 and seen["deployments"][0]["rolloutState"] == "COMPLETED"


def test_a_service_comes_to_two_gateways_is_tried_before_its_traffic_shifts_and_leaves_them(platform, ecs):
    ecs.create_cluster(clusterName="trials")
    header = {"name": "X-Trial", "values": ["yes"]}
    rules = {"testTrafficRules": {"header": header}}
    for name in ("first", "second"):
        ecs.create_gateway(name=name, infrastructureRoleArn=ROLE, configuration={"hostSharedAlb": rules})
        ecs.associate_gateway_with_cluster(gateway=name, cluster="trials")
    shifting = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0}
    create(ecs, "shop", "shop:1", cluster="trials", gatewayConnectors=[], deploymentConfiguration=shifting)
    until(lambda: settled(ecs, "trials", "shop"), 90, every=0.1)
    assert ecs.list_gateway_routes(cluster="trials")["gatewayRoutes"] == []

    update = {"cluster": "trials", "service": "shop"}
    ecs.update_service(**update, gatewayConnectors=[CONNECTOR])
    first, second = (visitors(platform, ecs, "shop", name) for name in ("first", "second"))
    until(lambda: first.once() == second.once() == (200, "one"), 90, every=0.1)
    until(lambda: settled(ecs, "trials", "shop"), 90, every=0.1)

    seen = []

    def tries(payload):
        seen.append([at.once(**headers) for at in (first, second) for headers in ({"X-Trial": "yes"}, {})])
        return True

    with Hook(tries) as hook, first.keep_coming() as answers:
        stages = [{"hookTargetArn": hook.url, "roleArn": ROLE, "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]}]
        ecs.update_service(
            **update, taskDefinition="shop:2", deploymentConfiguration={**shifting, "lifecycleHooks": stages}
        )
        until(lambda: settled(ecs, "trials", "shop") and answers[-1] == (200, "two"), 120, every=0.1)
    assert seen == [[(200, "two"), (200, "one")] * 2]
    assert {body for _, body in answers} == {"one", "two"} and {code for code, _ in answers} == {200}

    ecs.update_service(**update, gatewayConnectors=[], deploymentConfiguration={**shifting, "lifecycleHooks": []})
    until(lambda: ecs.list_gateway_routes(cluster="trials")["gatewayRoutes"] == [], 120, every=0.1)
    until(lambda: first.once()[0] == second.once()[0] == 404)
    until(lambda: settled(ecs, "trials", "shop"), 90, every=0.1)
