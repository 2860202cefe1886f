"""An Express service stays served: the platform killed under load, and in the middle of a deployment."""

from tests.builders.platform import until
from tests.builders.visitors import Visitors
from tests.chaos.test_app_runner import UP, killed_under
from tests.flows.test_express import EXPRESS, shop


def container(version):
    return {"image": f"000000000000.dkr.ecr.us-east-1.amazonaws.com/shop:{version}", "containerPort": 8080}


def served(platform):
    """A service of two tasks that answer; its ARN, and visitors for it."""
    for version in ("one", "two"):
        platform.push(shop(version), "shop", tag=version)
    service = platform.client("ecs").create_express_gateway_service(
        serviceName="shop", primaryContainer=container("one"), scalingTarget={"minTaskCount": 2},
        executionRoleArn=f"{EXPRESS}execution", infrastructureRoleArn=f"{EXPRESS}infrastructure",
    )["service"]  # fmt: skip
    endpoint = service["activeConfigurations"][0]["ingressPaths"][0]["endpoint"]
    visitors = Visitors(platform.command("ca").strip(), endpoint)
    until(lambda: steady(platform), 90)
    return service["serviceArn"], visitors


def steady(platform):
    """Whether just one deployment runs, complete."""
    seen = platform.client("ecs").describe_services(services=["shop"])["services"][0]
    (*rest, _) = seen["deployments"]
    return not rest and seen["deployments"][0]["rolloutState"] == "COMPLETED"


def test_requests_go_on_while_the_platform_is_killed_and_comes_back(two_zones):
    platform = two_zones
    arn, visitors = served(platform)
    with visitors.keep_coming(4) as answers:
        killed_under(platform, answers)
        platform.client("ecs").update_express_gateway_service(serviceArn=arn, primaryContainer=container("two"))
        until(lambda: answers[-1] == (200, "two"), 90)
        until(lambda: steady(platform), 90)
    assert [a for a in answers if a[0] != 200] == []


def test_a_deployment_that_is_cut_off_by_a_kill_is_finished_by_the_next(two_zones):
    platform = two_zones
    arn, visitors = served(platform)
    with visitors.keep_coming(2) as answers, visitors.keep_coming(2, "/cgi-bin/slow") as slow:
        until(lambda: len(answers) > 20 and len(slow) > 2)
        platform.client("ecs").update_express_gateway_service(serviceArn=arn, primaryContainer=container("two"))
        until(lambda: (200, "two") in answers[-20:], 90, every=0.001)
        platform.kill()
        platform.up(*UP)
        until(lambda: steady(platform), 120)
        until(lambda: answers[-1] == (200, "two"), 30)
    assert [a for a in (*answers, *slow) if a[0] != 200] == []
