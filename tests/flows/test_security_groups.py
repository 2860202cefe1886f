"""Security groups on a real platform: what boto3 says of them is what real containers can and cannot do."""

import urllib.request

import pytest
from botocore.exceptions import ClientError

from tests.builders.platform import sleeper, until
from tests.flows.test_exec import ask, silent

CLUSTER = "guarded"
ANYWHERE = [{"CidrIp": "0.0.0.0/0"}]
ALL_OUT = {"IpProtocol": "-1", "IpRanges": ANYWHERE}
HTTP = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80}


class Guarded:
    """A cluster whose tasks serve their /etc on port 80, each in groups of its own."""

    def __init__(self, platform, image) -> None:
        self.ecs, self.ec2 = platform.client("ecs"), platform.client("ec2")
        self.ecs.create_cluster(clusterName=CLUSTER)
        definition = sleeper(image, "httpd", "-f", "-p", "80", "-h", "/etc", portMappings=[{"containerPort": 80}])
        self.ecs.register_task_definition(**{**definition, "family": "guarded"})
        self.groups = {name: self.group(name) for name in ("web", "db", "other")}
        self.allow("db", {**HTTP, "UserIdGroupPairs": [{"GroupId": self.groups["web"]}]})

    def group(self, name) -> str:
        return self.ec2.create_security_group(GroupName=name, Description=name)["GroupId"]

    def allow(self, name, permission) -> None:
        self.ec2.authorize_security_group_ingress(GroupId=self.groups[name], IpPermissions=[permission])

    def revoke(self, name, permission, way="ingress") -> None:
        call = getattr(self.ec2, f"revoke_security_group_{way}")
        call(GroupId=self.groups[name], IpPermissions=[permission])

    def network(self, *names) -> dict:
        groups = [self.groups.get(name, name) for name in names]
        return {"awsvpcConfiguration": {"subnets": ["subnet-local"], "securityGroups": groups}}

    def run(self, *names) -> tuple[str, str]:
        """A task in these groups that runs: its ARN and its address."""
        arguments = {"taskDefinition": "guarded", "launchType": "FARGATE", "enableExecuteCommand": True}
        network = self.network(*names)
        (task,) = self.ecs.run_task(cluster=CLUSTER, networkConfiguration=network, **arguments)["tasks"]

        def shown():
            task_now = self.ecs.describe_tasks(cluster=CLUSTER, tasks=[task["taskArn"]])["tasks"][0]
            assert task_now["lastStatus"] != "STOPPED", task_now.get("stoppedReason")
            return task_now if task_now["lastStatus"] == "RUNNING" else None

        (interface,) = until(shown)["containers"][0]["networkInterfaces"]
        return task["taskArn"], interface["privateIpv4Address"]

    def says(self, task, script) -> str:
        """What a shell in the task says of it."""
        session = self.ecs.execute_command(cluster=CLUSTER, task=task, command=f"sh -c '{script}'", interactive=False)[
            "session"
        ]
        return ask(session, silent).output.decode().strip()

    def reaches(self, task, address) -> bool:
        """Whether a connection from the task is taken, if only for a moment."""
        return self.says(task, f"nc -w 1 {address} 80 </dev/null && echo yes") == "yes"


@pytest.fixture(scope="module")
def guarded(platform, busybox):
    return Guarded(platform, busybox)


@pytest.fixture(scope="module")
def name(platform):
    """A name that tasks resolve to 10.1.2.3."""
    cloud_map = platform.client("servicediscovery", inject_host_prefix=False)
    operation = cloud_map.create_private_dns_namespace(Name="guarded.local", Vpc="vpc-1")["OperationId"]
    namespace = cloud_map.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    records = {"NamespaceId": namespace, "DnsRecords": [{"Type": "A", "TTL": 5}]}
    service = cloud_map.create_service(Name="there", DnsConfig=records)["Service"]["Id"]
    address = {"AWS_INSTANCE_IPV4": "10.1.2.3"}
    cloud_map.register_instance(ServiceId=service, InstanceId="one", Attributes=address)
    return "there.guarded.local"


@pytest.fixture(scope="module")
def db(guarded):
    return guarded.run("db")


@pytest.fixture(scope="module")
def web(guarded, db):
    return guarded.run("web")


def hears(address) -> bool:
    """Whether this machine does."""
    try:
        with urllib.request.urlopen(f"http://{address}/passwd", timeout=1) as answer:
            return b"root" in answer.read()
    except OSError:
        return False


def test_who_is_in_the_group_that_a_rule_names_is_let_in_and_nobody_else(guarded, db, web):
    assert guarded.reaches(web[0], db[1])
    stranger, _ = guarded.run("other")
    assert not guarded.reaches(stranger, db[1])
    assert not guarded.reaches(db[0], web[1])
    assert not hears(db[1])
    guarded.ecs.stop_task(cluster=CLUSTER, task=stranger)


def test_a_rule_acts_on_running_tasks_and_a_revoked_one_lets_no_new_connection_in(guarded, db):
    from_anywhere = {**HTTP, "IpRanges": ANYWHERE}
    guarded.allow("db", from_anywhere)
    until(lambda: hears(db[1]))
    guarded.revoke("db", from_anywhere)
    until(lambda: not hears(db[1]))


def test_without_a_rule_nothing_goes_out_but_to_the_metadata_and_for_names(guarded, db, web, name):
    guarded.revoke("web", ALL_OUT, "egress")
    until(lambda: not guarded.reaches(web[0], db[1]))
    assert "TaskARN" in guarded.says(web[0], "wget -qO- $ECS_CONTAINER_METADATA_URI_V4/task")
    assert "10.1.2.3" in guarded.says(web[0], f"nslookup {name}")
    guarded.ec2.authorize_security_group_egress(GroupId=guarded.groups["web"], IpPermissions=[ALL_OUT])
    until(lambda: guarded.reaches(web[0], db[1]))


def test_a_group_in_use_is_not_deleted_and_its_interfaces_are_shown(guarded, db):
    with pytest.raises(ClientError, match="DependencyViolation"):
        guarded.ec2.delete_security_group(GroupId=guarded.groups["db"])
    filters = [{"Name": "group-id", "Values": [guarded.groups["db"]]}]
    (interface,) = guarded.ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
    (attachment,) = guarded.ecs.describe_tasks(cluster=CLUSTER, tasks=[db[0]])["tasks"][0]["attachments"]
    details = {each["name"]: each["value"] for each in attachment["details"]}
    assert (interface["PrivateIpAddress"], interface["NetworkInterfaceId"], interface["MacAddress"]) == (
        details["privateIPv4Address"],
        details["networkInterfaceId"],
        details["macAddress"],
    )
    assert interface["SubnetId"] == details["subnetId"]
    assert interface["Groups"] == [{"GroupId": guarded.groups["db"], "GroupName": "db"}]


def test_a_service_is_rolled_when_its_groups_change(guarded):
    old, new = (guarded.group(name) for name in ("old", "new"))
    guarded.ecs.create_service(
        cluster=CLUSTER, serviceName="shop", taskDefinition="guarded", desiredCount=1, launchType="FARGATE",
        networkConfiguration=guarded.network(old),
    )  # fmt: skip

    def in_group(group):
        filters = [{"Name": "group-id", "Values": [group]}]
        return len(guarded.ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"])

    until(lambda: in_group(old) == 1)
    guarded.ecs.update_service(cluster=CLUSTER, service="shop", networkConfiguration=guarded.network(new))
    until(lambda: (in_group(old), in_group(new)) == (0, 1))
    guarded.ecs.delete_service(cluster=CLUSTER, service="shop", force=True)
    until(lambda: in_group(new) == 0)
    waiter = {"Delay": 1, "MaxAttempts": 60}
    guarded.ecs.get_waiter("services_inactive").wait(cluster=CLUSTER, services=["shop"], WaiterConfig=waiter)
    for group in (old, new):
        guarded.ec2.delete_security_group(GroupId=group)


def test_a_group_that_is_not_there_is_refused(guarded):
    with pytest.raises(ClientError) as refusal:
        guarded.run("sg-0000000000000000f")
    error = refusal.value.response["Error"]
    assert error["Code"] == "InvalidParameterException"
    assert "The security group 'sg-0000000000000000f' does not exist" in error["Message"]
