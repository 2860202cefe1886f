"""What is served stays served: the platform killed under load, and in the middle of a deployment."""

from tests.builders.images import File, busybox_image
from tests.builders.platform import until
from tests.builders.visitors import Visitors

UP = ("--zones", "2", "--runtime", "oci")


def shop(version):
    return busybox_image({"/www/index.html": File(version)}, command=["httpd", "-f", "-p", "8080", "-h", "/www"])


def served(platform, version="one"):
    """A running service of one instance; its ARN, and visitors for it."""
    platform.push(shop(version), "shop", tag="live")
    client = platform.client("apprunner")
    image = {
        "ImageIdentifier": "000000000000.dkr.ecr.us-east-1.amazonaws.com/shop:live",
        "ImageRepositoryType": "ECR",
        "ImageConfiguration": {"Port": "8080"},
    }
    service = client.create_service(
        ServiceName="shop",
        SourceConfiguration={"ImageRepository": image},
        InstanceConfiguration={"Cpu": "0.25 vCPU", "Memory": "0.5 GB"},
    )["Service"]
    visitors = Visitors(platform.command("ca").strip(), service["ServiceUrl"])
    until(lambda: status(platform, service["ServiceArn"]) == "RUNNING", 60)
    return service["ServiceArn"], visitors


def status(platform, arn):
    return platform.client("apprunner").describe_service(ServiceArn=arn)["Service"]["Status"]


def killed_under(platform, answers):
    """The platform is killed in the middle of these answers, which come on without it, and is up again."""
    until(lambda: len(answers) > 20)
    platform.kill()
    seen = len(answers)
    until(lambda: len(answers) > seen + 200)
    platform.up(*UP)


def test_requests_go_on_while_the_platform_is_killed_and_comes_back(two_zones):
    platform = two_zones
    arn, visitors = served(platform)
    with visitors.keep_coming(4) as answers:
        killed_under(platform, answers)
        until(lambda: status(platform, arn) == "RUNNING")
        platform.push(shop("two"), "shop", tag="live")
        until(lambda: answers[-1] == (200, "two"), 60)
    assert [a for a in answers if a[0] != 200] == []


def test_a_deployment_that_is_cut_off_by_a_kill_is_finished_by_the_next(two_zones):
    platform = two_zones
    arn, visitors = served(platform)
    with visitors.keep_coming(2) as answers:
        until(lambda: len(answers) > 20)
        platform.push(shop("two"), "shop", tag="live")
        until(lambda: status(platform, arn) == "OPERATION_IN_PROGRESS" or answers[-1] == (200, "two"), every=0.001)
        platform.kill()
        platform.up(*UP)
        until(lambda: answers[-1] == (200, "two"), 60)
        until(lambda: status(platform, arn) == "RUNNING", 60)
    assert [a for a in answers if a[0] != 200] == []
    operations = platform.client("apprunner").list_operations(ServiceArn=arn)["OperationSummaryList"]
    assert [(o["Type"], o["Status"]) for o in operations] == [
        ("START_DEPLOYMENT", "SUCCEEDED"),
        ("CREATE_SERVICE", "SUCCEEDED"),
    ]
