"""What a task definition means on a node."""

import pytest

from contracts.records.scheduler import Task
from contracts.subjects import log_stream
from services.agent.decisions.health import HealthCheck
from services.agent.decisions.members import PlanError, cpu_units, memory_mib
from services.agent.decisions.plan import container_spec, given_environment, plan_task
from services.agent.values import HostPort, Image, Mount, Sandbox, Ulimit

IMAGE = Image("shop:1", "sha256:1", 1)


def task(**members) -> Task:
    given = {
        "account": "1",
        "region": "eu-west-1",
        "cluster": "main",
        "node": "n1",
        "id": "t1",
        "task_definition": "shop:3",
        "desired_status": "RUNNING",
        "created_at": 1.0,
    }
    return Task(**{**given, **members})


def plan(*containers: dict, overrides=None, launch_type="FARGATE", volumes_root="/v", file_systems="", **definition):
    containers = [{"name": f"c{n}", "image": "shop:1", **c} for n, c in enumerate(containers)]
    return plan_task(
        task(overrides=overrides or {}, launch_type=launch_type),
        {"containerDefinitions": containers, **definition},
        {"task": "t1"},
        volumes_root,
        file_systems,
    )


def spec(made, index=0):
    return container_spec(made, made.containers[index], IMAGE, {})


def names(made) -> list[str]:
    return [c.name for c in made.containers]


def test_containers_come_after_those_they_depend_on():
    made = plan(
        {"dependsOn": [{"containerName": "c2", "condition": "HEALTHY"}]},
        {"volumesFrom": [{"sourceContainer": "c0"}]},
        {},
    )
    assert names(made) == ["c2", "c0", "c1"]


def test_a_circle_and_an_unknown_dependency_are_refused():
    with pytest.raises(PlanError, match="circle"):
        plan(
            {"dependsOn": [{"containerName": "c1", "condition": "START"}]},
            {"dependsOn": [{"containerName": "c0", "condition": "START"}]},
        )
    with pytest.raises(PlanError, match="'nosuch'"):
        plan({"dependsOn": [{"containerName": "nosuch", "condition": "START"}]})


def test_an_override_replaces_the_command_and_adds_to_the_environment():
    made = plan(
        {"command": ["serve"], "memory": 64, "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        overrides={
            "containerOverrides": [
                {"name": "c0", "command": ["once"], "memory": 32, "environment": [{"name": "B", "value": "3"}]}
            ]
        },
    )
    assert spec(made).command == ["once"]
    assert (made.containers[0].environment, made.containers[0].memory_mib) == ({"A": "1", "B": "3"}, 32)


def test_a_task_s_size_bounds_its_sandbox_and_may_be_overridden():
    made = plan({}, cpu="256", memory="0.5 GB", overrides={"cpu": "1 vCPU"})
    assert (made.sandbox.cpu_units, made.sandbox.memory_mib) == (1024, 512)


@pytest.mark.parametrize(("text", "units"), [("256", 256), (".25 vCPU", 256), ("2 vcpu", 2048), (None, 0), (512, 512)])
def test_cpu_is_told_in_units_or_vcpus(text, units):
    assert cpu_units(text) == units


@pytest.mark.parametrize(("text", "mib"), [("512", 512), ("1GB", 1024), ("0.5 GB", 512), (None, 0)])
def test_memory_is_told_in_mib_or_gb(text, mib):
    assert memory_mib(text) == mib


@pytest.mark.parametrize("text", ["much", "1 TB", "-5"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(PlanError):
        memory_mib(text)


def test_bridge_ports_are_chosen_and_awsvpc_has_none_to_choose():
    mapping = {"portMappings": [{"containerPort": 80}, {"containerPort": 53, "hostPort": 5353, "protocol": "udp"}]}
    bridge = plan(mapping, networkMode="bridge")
    assert bridge.sandbox.ports == [HostPort(80, 0, "tcp", "c0"), HostPort(53, 5353, "udp", "c0")]
    assert plan(mapping, networkMode="awsvpc").sandbox.ports == []


def test_a_range_of_ports_is_every_port_of_it():
    made = plan({"portMappings": [{"containerPortRange": "8000-8002"}]}, networkMode="bridge")
    assert [p.container_port for p in made.sandbox.ports] == [8000, 8001, 8002]


@pytest.mark.parametrize(("launch_type", "mode"), [("FARGATE", "awsvpc"), ("EC2", "bridge")])
def test_the_network_mode_follows_the_launch_type(launch_type, mode):
    assert plan({}, launch_type=launch_type).sandbox.network_mode == mode


def test_volumes_are_host_paths_named_ones_or_the_task_s_own():
    volumes = [
        {"name": "host", "host": {"sourcePath": "/srv"}},
        {"name": "shared", "dockerVolumeConfiguration": {"scope": "shared"}},
        {"name": "own"},
    ]
    points = [{"sourceVolume": v["name"], "containerPath": f"/{v['name']}", "readOnly": False} for v in volumes]
    made = plan(
        {"mountPoints": points}, {"volumesFrom": [{"sourceContainer": "c0", "readOnly": True}]}, volumes=volumes
    )
    mounts = [Mount("/host", "/srv"), Mount("/shared", "shared", "volume"), Mount("/own", "/v/t1/own")]
    assert (made.containers[0].mounts, made.directories) == (mounts, ["/v/t1/own"])
    assert made.containers[1].mounts == [Mount(m.target, m.source, m.kind, True) for m in mounts]
    named = plan({"mountPoints": points[2:]}, volumes=volumes, volumes_root="")
    assert (named.containers[0].mounts, named.directories) == ([Mount("/own", "t1-own", "volume")], [])


def test_a_mount_of_no_volume_is_refused():
    with pytest.raises(PlanError, match="no volume 'x'"):
        plan({"mountPoints": [{"sourceVolume": "x", "containerPath": "/x"}]})


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (["CMD", "curl", "-f", "x"], ["curl", "-f", "x"]),
        (["CMD-SHELL", "curl x || exit 1"], ["/bin/sh", "-c", "curl x || exit 1"]),
        (["curl x"], ["/bin/sh", "-c", "curl x"]),
    ],
)
def test_a_health_check_s_command_is_run_as_it_says(command, argv):
    made = plan({"healthCheck": {"command": command, "startPeriod": 7}})
    assert made.containers[0].health_check == HealthCheck(argv, 30.0, 5.0, 3, 7.0)


def test_a_health_check_of_none_is_none():
    assert plan({"healthCheck": {"command": ["NONE"]}}).containers[0].health_check is None


def test_awslogs_names_the_stream_by_prefix_container_and_task():
    options = {"awslogs-group": "/g", "awslogs-stream-prefix": "p", "awslogs-region": "us-east-1"}
    logging = plan({"logConfiguration": {"logDriver": "awslogs", "options": options}}).containers[0].logging
    assert logging.subject == log_stream("1", "us-east-1", "/g", "p/c0/t1")
    assert logging.options["awslogs-stream"] == "p/c0/t1"


def test_what_can_not_be_done_is_refused_by_name_in_a_definition_of_before_too():
    with pytest.raises(PlanError) as refused:
        plan({"logConfiguration": {"logDriver": "splunk"}})
    assert refused.value.reason == (
        "ResourceInitializationError: container 'c0': the log driver 'splunk' is not supported by Roadstead: awslogs "
        "is, json-file keeps logs on the node."
    )


def test_the_runtime_is_asked_for_what_the_definition_says():
    made = plan(
        {
            "entryPoint": ["/init"],
            "command": [],
            "user": "app",
            "workingDirectory": "/srv",
            "cpu": 128,
            "memory": 64,
            "memoryReservation": 32,
            "readonlyRootFilesystem": True,
            "ulimits": [{"name": "nofile", "softLimit": 10, "hardLimit": 20}],
            "linuxParameters": {
                "initProcessEnabled": True,
                "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                "sharedMemorySize": 64,
                "tmpfs": [{"containerPath": "/t", "size": 8, "mountOptions": ["noexec"]}],
            },
            "systemControls": [{"namespace": "net.core.somaxconn", "value": "9"}],
        }
    )
    asked = spec(made)
    assert (asked.id, asked.name, asked.entry_point, asked.command) == ("t1-0", "c0", ["/init"], None)
    assert (asked.user, asked.working_directory, asked.readonly_root_filesystem) == ("app", "/srv", True)
    assert (asked.cpu_units, asked.memory_mib, asked.memory_reservation_mib) == (128, 64, 32)
    assert asked.ulimits == [Ulimit("nofile", 10, 20)]
    assert (asked.init, asked.cap_add, asked.cap_drop, asked.shared_memory_mib) == (True, ["NET_ADMIN"], ["ALL"], 64)
    assert asked.mounts == [Mount("/t", kind="tmpfs", options=["size=8m", "noexec"])]
    assert asked.sysctls == {"net.core.somaxconn": "9"}
    assert asked.labels["com.amazonaws.ecs.task-arn"] == "arn:aws:ecs:eu-west-1:1:task/main/t1"


def test_what_the_task_shares_is_asked_of_the_sandbox():
    shared = plan(
        {"linuxParameters": {"sharedMemorySize": 8, "initProcessEnabled": True}},
        {"linuxParameters": {"sharedMemorySize": 16, "maxSwap": 4}, "memory": 64},
        {"linuxParameters": {"maxSwap": 2, "swappiness": 9}, "memory": 64},
        pidMode="task",
        ipcMode="task",
    )
    asked = shared.sandbox
    assert (asked.pid_mode, asked.ipc_mode, asked.shared_memory_mib, asked.swap_mib) == ("task", "task", 16, 6)
    assert not spec(shared).init  # the task's first process is nobody's command, and reaps
    alone = plan({"linuxParameters": {"sharedMemorySize": 8}}).sandbox
    assert (alone.pid_mode, alone.ipc_mode, alone.shared_memory_mib, alone.swap_mib) == ("", "", 0, 0)


@pytest.mark.parametrize(
    ("linux", "memory", "expected"),
    [
        ({"maxSwap": 32, "swappiness": 7}, {"memory": 64}, (64, 32, 7)),
        ({"maxSwap": 0}, {"memory": 64}, (64, 0, None)),
        ({"swappiness": 7}, {"memory": 64}, (64, None, None)),
        ({"maxSwap": 32}, {"memoryReservation": 16}, (128, 32, None)),
        ({}, {"memoryReservation": 16}, (0, None, None)),
    ],
)
def test_swap_is_bounded_with_memory(linux, memory, expected):
    asked = spec(plan({"memory": None, **memory, "linuxParameters": linux}, memory="128"))
    assert (asked.memory_mib, asked.max_swap_mib, asked.swappiness) == expected


def test_swap_without_a_limit_of_memory_is_refused():
    with pytest.raises(PlanError, match="maxSwap needs a limit of memory"):
        spec(plan({"memory": None, "memoryReservation": 16, "linuxParameters": {"maxSwap": 1}}))


def test_ecs_own_environment_is_given_and_the_region_may_be_overridden():
    made = plan({"environment": [{"name": "AWS_REGION", "value": "x"}]}, taskRoleArn="arn:aws:iam::1:role/r")
    assert given_environment(made, made.containers[0], "secret", metadata=True) == {
        "AWS_REGION": "x",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        "ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/t1-0",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/secret",
    }
    assert "ECS_CONTAINER_METADATA_URI_V4" not in given_environment(made, made.containers[0], "s", metadata=False)


def test_host_mode_binds_what_it_listens_on():
    from services.agent.decisions.plan import bindings

    made = plan({"portMappings": [{"containerPort": 80}]}, networkMode="host")
    assert bindings(made.containers[0], Sandbox("t1", network_mode="host")) == [HostPort(80, 80)]


def test_links_lead_to_the_loopback_that_siblings_share():
    assert plan({"links": ["c1:db"]}, {}, networkMode="bridge").sandbox.extra_hosts == {
        "c1": "127.0.0.1",
        "db": "127.0.0.1",
    }


def efs(**members):
    volume = {"name": "files", "efsVolumeConfiguration": {"fileSystemId": "fs-1", **members}}
    return {"volumes": [volume]}, {"mountPoints": [{"sourceVolume": "files", "containerPath": "/files"}]}


def test_an_efs_file_system_is_a_directory_of_the_node():
    definition, points = efs(rootDirectory="/shop//data/", transitEncryption="ENABLED")
    made = plan(points, file_systems="/efs", **definition)
    directory = "/efs/fs-1/shop/data"
    assert (made.containers[0].mounts, made.directories) == ([Mount("/files", directory)], [directory])
    definition, points = efs()
    named = plan(points, volumes_root="", **definition)
    assert (named.containers[0].mounts, named.directories) == ([Mount("/files", "efs-fs-1", "volume")], [])


def test_an_efs_volume_that_leads_elsewhere_is_not_mounted():
    definition, points = efs(rootDirectory="/../../etc")
    with pytest.raises(PlanError, match="leads out of the file system"):
        plan(points, file_systems="/efs", **definition)


def test_an_override_s_environment_files_stand_in_place_of_the_definition_s():
    own, other = ({"type": "s3", "value": f"arn:aws:s3:::b/{name}.env"} for name in ("own", "other"))
    assert plan({"environmentFiles": [own, other]}).containers[0].environment_files == [own["value"], other["value"]]
    overrides = {"containerOverrides": [{"name": "c0", "environmentFiles": [other]}]}
    assert plan({"environmentFiles": [own]}, overrides=overrides).containers[0].environment_files == [other["value"]]


def test_a_registry_s_login_may_be_named_by_its_name_alone():
    arn = "arn:aws:secretsmanager:eu-west-1:1:secret:hub"
    for given in (arn, "hub"):
        assert plan({"repositoryCredentials": {"credentialsParameter": given}}).containers[0].registry_secret == arn
    assert plan({}).containers[0].registry_secret == ""


def test_what_a_task_wants_free_on_its_node_is_in_its_plan():
    assert (plan({}).storage_gib, plan({}, ephemeralStorage={"sizeInGiB": 30}).storage_gib) == (0, 30)
