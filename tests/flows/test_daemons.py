"""A daemon on a real platform: a container of it on each node, replaced by its next revision, gone with the daemon."""

import pytest

from tests.builders.platform import until

CLUSTER = "daemons"
GROUP = "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1:autoScalingGroupName/mine"


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


@pytest.fixture(scope="module")
def provider(ecs):
    group = {"autoScalingGroupArn": GROUP, "managedScaling": {"status": "DISABLED"}}
    made = ecs.create_capacity_provider(name="everywhere", autoScalingGroupProvider=group)
    return made["capacityProvider"]["capacityProviderArn"]


def register(ecs, image, *command, **members) -> str:
    container = {"name": "watch", "image": image, "memory": 32, "essential": True, "command": list(command)}
    container["stopTimeout"] = 2
    answer = ecs.register_daemon_task_definition(family="watch", containerDefinitions=[container], **members)
    return answer["daemonTaskDefinitionArn"]


def running(ecs) -> list[tuple[str, str]]:
    """(node, revision) of each task that runs."""
    arns = ecs.list_tasks(cluster=CLUSTER, desiredStatus="RUNNING")["taskArns"]
    tasks = ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []
    return sorted(
        (task["containerInstanceArn"], task["taskDefinitionArn"])
        for task in tasks
        if task["lastStatus"] == "RUNNING" and task["containers"][0]["runtimeId"]
    )


def is_done(ecs, deployment) -> bool:
    (shown,) = ecs.describe_daemon_deployments(daemonDeploymentArns=[deployment])["daemonDeployments"]
    return shown["status"] == "SUCCESSFUL"


def test_a_daemon_runs_on_each_node_until_it_is_deleted(ecs, platform, busybox, provider):
    nodes = sorted(ecs.list_container_instances(cluster=CLUSTER)["containerInstanceArns"])
    # It runs on only where it sees the node's processes.
    sees = f"test $(cat /proc/{platform.info['nats_pid']}/comm) = nats-server && exec sleep 3600"
    first = register(ecs, busybox, "sh", "-c", sees, pidMode="shared")
    made = ecs.create_daemon(
        clusterArn=CLUSTER, daemonName="watch", daemonTaskDefinitionArn=first, capacityProviderArns=[provider]
    )
    until(lambda: is_done(ecs, made["deploymentArn"]))
    assert running(ecs) == [(node, first) for node in nodes]
    second = register(ecs, busybox, "sleep", "7200")
    updated = ecs.update_daemon(
        daemonArn=made["daemonArn"], daemonTaskDefinitionArn=second, capacityProviderArns=[provider],
        deploymentConfiguration={"drainPercent": 100.0},
    )  # fmt: skip
    until(lambda: is_done(ecs, updated["deploymentArn"]), 120)
    assert running(ecs) == [(node, second) for node in nodes]
    (revision,) = ecs.describe_daemon(daemonArn=made["daemonArn"])["daemon"]["currentRevisions"]
    assert (revision["totalRunningCount"], revision["totalWithoutDaemonCount"]) == (len(nodes), 0)
    (shown,) = ecs.describe_daemon_revisions(daemonRevisionArns=[revision["arn"]])["daemonRevisions"]
    assert shown["containerImages"][0]["imageDigest"].startswith("sha256:")
    ecs.delete_daemon(daemonArn=made["daemonArn"])
    until(lambda: running(ecs) == [])
    until(lambda: ecs.list_daemons(clusterArn=CLUSTER)["daemonSummariesList"] == [])
    with pytest.raises(ecs.exceptions.DaemonNotFoundException):
        ecs.describe_daemon(daemonArn=made["daemonArn"])
