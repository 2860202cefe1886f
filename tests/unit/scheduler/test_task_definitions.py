"""What ECS fills in, and what it refuses."""

from __future__ import annotations

import msgspec
import pytest

from services.scheduler.decisions.task_definitions import (
    Needs,
    compatibilities,
    complete,
    needs,
    required_attributes,
)
from services.shared.errors import AwsError
from tests.builders.ecs import container, register

FARGATE = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"}


WINDOWS = {"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}}
MSGMAX = [{"namespace": "kernel.msgmax", "value": "9"}]


def completed(*containers, **members):
    request = register("web", *containers, **members)
    complete(request)
    return request


def test_defaults_are_filled_in_as_ecs_gives_them_back():
    check = {"command": ["CMD", "true"]}
    given = completed(container(portMappings=[{"containerPort": 80}], healthCheck=check))
    assert msgspec.to_builtins(given) == {
        "family": "web",
        "networkMode": "bridge",
        "volumes": [],
        "placementConstraints": [],
        "containerDefinitions": [
            {
                "name": "web",
                "image": "busybox",
                "memory": 64,
                "cpu": 0,
                "essential": True,
                "environment": [],
                "mountPoints": [],
                "volumesFrom": [],
                "systemControls": [],
                "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
                "healthCheck": {"command": ["CMD", "true"], "interval": 30, "timeout": 5, "retries": 3},
            }
        ],
    }


def test_in_awsvpc_a_host_port_is_the_container_port():
    given = completed(container(portMappings=[{"containerPort": 80}]), **FARGATE)
    assert given.container_definitions[0].port_mappings[0].host_port == 80


def test_sizes_may_be_said_in_vcpus_and_gigabytes():
    given = completed(**{**FARGATE, "cpu": ".25 vCPU", "memory": "1 GB"})
    assert (given.cpu, given.memory) == ("256", "1024")


@pytest.mark.parametrize(
    ("members", "container_members", "fits"),
    [
        ({"pidMode": "task"}, {}, True),
        ({"pidMode": "host"}, {}, False),
        ({"ipcMode": "none"}, {}, False),
        ({}, {"linuxParameters": {"maxSwap": 8}}, False),
    ],
)
def test_fargate_is_compatible_with_what_it_shares(members, container_members, fits):
    size = {key: value for key, value in FARGATE.items() if key != "requiresCompatibilities"}
    given = completed(container(**container_members), **size, **members)
    assert ("FARGATE" in compatibilities(given)) == fits


def test_shared_namespaces_on_instances_are_taken_as_they_are_and_need_an_agent_that_knows_them():
    controls = [{"namespace": "net.core.somaxconn", "value": "9"}]
    given = completed(container(systemControls=controls), pidMode="host", ipcMode="host")
    assert (given.pid_mode, given.ipc_mode, compatibilities(given)) == ("host", "host", ["EXTERNAL", "EC2"])
    assert "ecs.capability.pid-ipc-namespace-sharing" in required_attributes(given)
    assert "ecs.capability.pid-ipc-namespace-sharing" not in required_attributes(completed())


def test_files_and_logins_of_registries_need_agents_that_know_them():
    given = completed(
        container(
            environmentFiles=files("arn:aws:s3:::bucket/a.env"), repositoryCredentials={"credentialsParameter": "hub"}
        )
    )
    wanted = {"ecs.capability.env-files.s3", "ecs.capability.private-registry-authentication.secretsmanager"}
    assert wanted <= set(required_attributes(given))
    assert not wanted & set(required_attributes(completed()))


def test_compatibilities_follow_network_and_size():
    assert compatibilities(completed()) == ["EXTERNAL", "EC2"]
    assert compatibilities(completed(**FARGATE)) == ["EC2", "FARGATE", "MANAGED_INSTANCES"]
    assert compatibilities(completed(networkMode="awsvpc", cpu="100", memory="512")) == ["EC2", "MANAGED_INSTANCES"]


def files(*arns: str) -> list[dict]:
    return [{"type": "s3", "value": arn} for arn in arns]


PORT = {"containerPort": 80, "hostPort": 8080}


@pytest.mark.parametrize(
    ("containers", "members", "said"),
    [
        ([container(name="")], {}, "Container.name should not be null or empty."),
        ([container(image="")], {}, "Container.image should not be null or empty."),
        ([container(), container()], {}, "Container names must be unique within a Task Definition."),
        ([container(essential=False)], {}, "at least one essential container"),
        ([{"name": "web", "image": "i"}], {}, "At least one of 'memory' or 'memoryReservation' must be specified."),
        ([container(memory=600)], FARGATE, "The 'memory' setting for container is greater than for the task."),
        ([container(memoryReservation=65)], {}, "'memory' must be greater than or equal to 'memoryReservation'"),
        ([container(cpu=200), container("b", cpu=100)], FARGATE, "sum of the 'cpu' settings"),
        ([container(portMappings=[PORT])], FARGATE, "host ports and container ports in port mappings must match."),
        ([container(portMappings=[PORT]), container("b", portMappings=[PORT])], {}, "already mapped"),
        ([container(links=["b"]), container("b")], {"networkMode": "awsvpc"}, "Links are not supported"),
        ([container(links=["b"])], {}, "Invalid link"),
        ([container(restartPolicy={"enabled": True, "restartAttemptPeriod": 59})], {}, "between 60 and 1800"),
        ([container(restartPolicy={"enabled": True, "ignoredExitCodes": [1] * 51})], {}, "at most 50 items"),
        ([container(dependsOn=[{"containerName": "b", "condition": "START"}])], {}, "no container 'b'"),
        ([container(mountPoints=[{"sourceVolume": "v"}])], {}, "Unknown volume 'v'."),
        ([container(healthCheck={"command": ["x"], "interval": 1})], {}, "interval must be between 5 and 300"),
        ([container()], {**FARGATE, "networkMode": "bridge"}, "Fargate only supports network mode"),
        ([container()], {**FARGATE, "cpu": "300"}, "No Fargate configuration exists for given values"),
        (
            [container()],
            {**FARGATE, "pidMode": "host"},
            "do not support pidMode 'host'. The supported value for pidMode",
        ),
        ([container()], {**FARGATE, "ipcMode": "task"}, "Tasks using the Fargate launch type do not support ipcMode"),
        ([container(linuxParameters={"maxSwap": 0})], FARGATE, "do not support maxSwap"),
        ([container(linuxParameters={"swappiness": 1})], FARGATE, "do not support swappiness"),
        ([container(linuxParameters={"maxSwap": -1})], {}, "maxSwap must be 0 or a positive number"),
        ([container(linuxParameters={"swappiness": 101})], {}, "swappiness must be between 0 and 100"),
        ([container()], {**WINDOWS, "pidMode": "task"}, "pidMode is not supported for Windows"),
        ([container()], {**WINDOWS, "ipcMode": "none"}, "ipcMode is not supported for Windows"),
        ([container(linuxParameters={"maxSwap": 1})], WINDOWS, "maxSwap and swappiness are not supported for Windows"),
        (
            [container(systemControls=MSGMAX)],
            {"ipcMode": "host"},
            "(kernel.msgmax) are not supported when ipcMode=host",
        ),
        ([container(privileged=True)], FARGATE, "privileged"),
        ([container(environmentFiles=files("arn:aws:s3:::b"))], {}, "is not the ARN of an Amazon S3 object"),
        ([container(environmentFiles=files("s3://bucket/a.env"))], {}, "is not the ARN of an Amazon S3 object"),
        ([container(environmentFiles=files("arn:aws:s3:::bucket/a.txt"))], {}, "must have the extension .env"),
        (
            [container(f"c{n}", environmentFiles=files(*["arn:aws:s3:::bucket/a.env"] * 6)) for n in range(2)],
            {},
            "A task definition can have at most 10 environment files.",
        ),
        (
            [container(environmentFiles=files("arn:aws:s3:::bucket/a.env"))],
            WINDOWS,
            "environmentFiles is not supported",
        ),
        ([container()], {"cpu": "lots"}, "Invalid 'cpu' setting for task."),
        ([container(f"c{i}") for i in range(11)], {}, "Too many containers."),
    ],
)
def test_what_makes_no_sense_is_refused(containers, members, said):
    with pytest.raises(AwsError) as refusal:
        completed(*containers, **members)
    assert (refusal.value.code, said in refusal.value.message) == ("ClientException", True), refusal.value.message


def logs(driver: str = "awslogs", **options) -> dict:
    return {"logConfiguration": {"logDriver": driver, "options": options}}


def efs(**members) -> dict:
    return {"volumes": [{"name": "files", "efsVolumeConfiguration": {"fileSystemId": "fs-1", **members}}]}


@pytest.mark.parametrize(
    ("container_members", "members", "said"),
    [
        (
            {"firelensConfiguration": {"type": "fluentbit"}},
            {},
            "Container 'web': FireLens (firelensConfiguration) can not be had from Roadstead: have containers log with "
            "the driver awslogs.",
        ),
        (
            logs("awsfirelens", Name="x"),
            {},
            "Container 'web': the log driver 'awsfirelens' is not supported by Roadstead: awslogs is, json-file keeps "
            "logs on the node.",
        ),
        (logs(), {}, "Container 'web': Log driver awslogs requires options: awslogs-group."),
        (
            logs(**{"awslogs-group": "g", "awslogs-multiline-pattern": "^x"}),
            {},
            "Container 'web': Log driver awslogs disallows options: awslogs-multiline-pattern.",
        ),
        (
            {"linuxParameters": {"devices": [{"hostPath": "/dev/kvm"}]}},
            {},
            "Container 'web': devices (linuxParameters) are not supported by Roadstead.",
        ),
        (
            {"dockerSecurityOptions": ["no-new-privileges"]},
            {},
            "Container 'web': Docker security options (dockerSecurityOptions) can not be had from Roadstead.",
        ),
        (
            {},
            WINDOWS,
            "The operating system WINDOWS_SERVER_2022_CORE (runtimePlatform) can not be had from Roadstead: every node "
            "is Linux.",
        ),
        ({}, {"enableFaultInjection": True}, "Fault injection (enableFaultInjection) can not be had from Roadstead."),
        (
            {},
            {"volumes": [{"name": "v", "configuredAtLaunch": True}]},
            "Volume 'v': configuredAtLaunch is not supported by Roadstead.",
        ),
        (
            {},
            efs(rootDirectory="/../../etc"),
            "Volume 'files': the rootDirectory '/../../etc' leads out of the file system.",
        ),
        ({}, efs(fileSystemId="../fs"), "Volume 'files': '../fs' is no fileSystemId."),
        (
            {},
            efs(authorizationConfig={"iam": "ENABLED"}),
            "Volume 'files': access points and IAM of EFS (authorizationConfig) are not supported by Roadstead.",
        ),
    ],
)
def test_what_no_node_can_do_is_refused(container_members, members, said):
    with pytest.raises(AwsError) as refusal:
        completed(container(**container_members), **members)
    assert (refusal.value.code, refusal.value.message) == ("ClientException", said)


@pytest.mark.parametrize(
    "members", [logs("json-file", **{"max-size": "1m"}), logs(**{"awslogs-group": "g", "mode": "blocking"})]
)
def test_what_a_node_can_do_is_not(members):
    assert completed(container(**members)).container_definitions[0].log_configuration.log_driver


def depends(on: str, condition: str = "START") -> dict:
    return {"dependsOn": [{"containerName": on, "condition": condition}]}


def test_a_circle_of_dependencies_is_refused():
    with pytest.raises(AwsError, match="cycle: a -> b -> a"):
        completed(container("a", **depends("b")), container("b", **depends("a")))


def test_waiting_for_an_essential_container_to_end_is_refused():
    with pytest.raises(AwsError, match="cannot be an essential container"):
        completed(container("a", **depends("b", "SUCCESS")), container("b"))


def test_waiting_for_the_health_of_one_without_a_check_is_refused():
    with pytest.raises(AwsError, match="has no health check"):
        completed(container("a", **depends("b", "HEALTHY")), container("b"))


@pytest.mark.parametrize("family", ["", "a b", "x" * 256, "a/b"])
def test_a_family_has_letters_digits_hyphens_and_underscores(family):
    with pytest.raises(AwsError, match="Family contains invalid characters"):
        complete(register(family))


def test_a_task_reserves_its_own_size_or_the_sum_of_its_containers():
    ports = [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]
    sidecar = container("b", cpu=10, memory=100, memoryReservation=30)
    of_both = msgspec.to_builtins(completed(container(cpu=5, portMappings=ports), sidecar))
    assert needs(of_both, {}) == Needs(15, 94, (8080,))
    assert needs(of_both, {"containerOverrides": [{"name": "web", "memory": 128}]}) == Needs(15, 158, (8080,))
    assert needs(of_both, {"cpu": "512", "memory": "1024"}) == Needs(512, 1024, (8080,))
    fargate = msgspec.to_builtins(completed(container(portMappings=[{"containerPort": 80}]), **FARGATE))
    assert needs(fargate, {}) == Needs(256, 512, ())
