"""EC2's security groups over a real NATS, asked by boto3; tasks, services, nodes are records that the test writes."""

import asyncio
import json

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from msgspec.structs import replace

from contracts.records import agent as agents
from contracts.records import scheduler as schedulers
from contracts.records.agent import NODE, TASK_STATUS, NetworkInterface
from contracts.records.identity import ACCESS_KEY, ROLE
from contracts.records.network import default_group_id, subnet_id, vpc_id
from contracts.records.scheduler import SERVICE, TASK
from services.identity.adapters import read_credentials
from services.identity.app import CREDENTIALS_FILE, IdentityApp
from services.identity.settings import IdentitySettings
from services.network.app import NetworkApp
from services.network.settings import NetworkSettings
from services.shared.runner import Host, HttpServer, start_app, stop_app
from services.shared.state import Store
from tests.builders import ecs
from tests.builders.ecs import ACCOUNT, REGION
from tests.builders.registry import SECRET
from tests.builders.sessions import TOKEN, a_session
from tests.builders.waiting import until

DEFAULT = default_group_id(ACCOUNT, REGION)
WEB = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "us"}]}


class Caller:
    """boto3's EC2 client, called from a thread."""

    def __init__(self, port, key, secret, token=None) -> None:
        self.port = port
        self._client = boto3.client(
            "ec2",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}),
        )

    async def __call__(self, operation, **members):
        answer = await asyncio.to_thread(getattr(self._client, operation), **members)
        return {k: v for k, v in answer.items() if k != "ResponseMetadata"}

    async def refused(self, operation, **members):
        with pytest.raises(ClientError) as error:
            await self(operation, **members)
        told = error.value.response["Error"]
        return told["Code"], told["Message"]

    async def group(self, name="web", **members):
        return (await self("create_security_group", GroupName=name, Description=name, **members))["GroupId"]

    async def described(self, *ids, **members):
        answer = await self("describe_security_groups", GroupIds=list(ids), **members)
        return answer["SecurityGroups"]

    async def named(self, **filters):
        given = [{"Name": name.replace("_", "-"), "Values": values} for name, values in filters.items()]
        found = (await self("describe_security_groups", Filters=given))["SecurityGroups"]
        return sorted(group["GroupName"] for group in found)


class Stage:
    """Identity and the network service, which may be stopped and started again."""

    def __init__(self, nats_platform, directory) -> None:
        self._nats = nats_platform
        self._directory = directory
        self._stores = []

    async def start(self, **settings) -> Caller:
        if not hasattr(self, "_identity"):
            host = Host(await self._nats.bus("identity"), self._directory, instance="t")
            self._identity = IdentityApp(host, IdentitySettings())
            await start_app(self._identity)
        host = Host(await self._nats.bus("network"), self._directory, instance="t")
        self.app = NetworkApp(host, NetworkSettings(**settings))
        await start_app(self.app)
        self._server = HttpServer(self.app)
        keys = read_credentials(self._directory / CREDENTIALS_FILE)
        return Caller(await self._server.start(), keys.access_key_id, keys.secret)

    async def store(self, service, kinds) -> Store:
        """Another service's records, to be written by the test."""
        self._stores.append(await Store.open(await self._nats.bus(service), kinds))
        return self._stores[-1]

    async def stop(self) -> None:
        await self._server.stop()
        await stop_app(self.app)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        await self.stop()
        await stop_app(self._identity)


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    yield stage
    await stage.close()


@pytest.fixture
async def ec2(stage):
    return await stage.start()


async def test_a_group_is_made_shown_and_deleted_and_is_there_after_a_restart(stage, ec2):
    spec = {"ResourceType": "security-group", "Tags": [{"Key": "team", "Value": "a"}]}
    made = await ec2("create_security_group", GroupName="web", Description="the web", TagSpecifications=[spec])
    group = made["GroupId"]
    arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/{group}"
    assert made == {"GroupId": group, "SecurityGroupArn": arn, "Tags": spec["Tags"]}
    everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    everything |= {"Ipv6Ranges": [], "PrefixListIds": [], "UserIdGroupPairs": []}
    shown = {
        "GroupId": group,
        "GroupName": "web",
        "Description": "the web",
        "OwnerId": ACCOUNT,
        "VpcId": vpc_id(ACCOUNT, REGION),
        "SecurityGroupArn": arn,
        "IpPermissions": [],
        "IpPermissionsEgress": [everything],
        "Tags": spec["Tags"],
    }
    assert await ec2.described(group) == [shown]
    await stage.stop()
    ec2 = await stage.start()
    assert await ec2.described(group) == [shown]
    assert await ec2("delete_security_group", GroupId=group) == {"Return": True, "GroupId": group}
    told = await ec2.refused("describe_security_groups", GroupIds=[group])
    assert told == ("InvalidGroup.NotFound", f"The security group '{group}' does not exist")


async def test_a_group_can_have_the_id_that_definitions_name_already(ec2):
    tags = [
        {"ResourceType": "security-group", "Tags": [{"Key": "roadstead:group-id", "Value": "sg-0123456789abcdef0"}]}
    ]
    assert await ec2.group(TagSpecifications=tags) == "sg-0123456789abcdef0"
    assert (await ec2.refused("create_security_group", GroupName="b", Description="b", TagSpecifications=tags))[0] == (
        "InvalidGroup.Duplicate"
    )
    tags[0]["Tags"][0]["Value"] = "web"
    assert (await ec2.refused("create_security_group", GroupName="c", Description="c", TagSpecifications=tags))[0] == (
        "InvalidParameterValue"
    )


async def test_the_default_group_lets_everything_through_until_it_is_changed_and_stays(ec2):
    (group,) = await ec2.described()
    assert (group["GroupId"], group["GroupName"]) == (DEFAULT, "default")
    open_to_all = [p["IpRanges"] for way in ("IpPermissions", "IpPermissionsEgress") for p in group[way]]
    assert open_to_all == [[{"CidrIp": "0.0.0.0/0"}]] * 2
    assert (await ec2.refused("delete_security_group", GroupName="default"))[0] == "CannotDelete"
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    await ec2("revoke_security_group_ingress", GroupId=DEFAULT, IpPermissions=everything)
    (group,) = await ec2.described()
    assert (group["IpPermissions"], len(group["IpPermissionsEgress"])) == ([], 1)


async def test_rules_are_added_shown_by_themselves_changed_and_taken_away(ec2):
    group, peer = await ec2.group(), await ec2.group("peer")
    from_peer = {"IpProtocol": "6", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": peer}]}
    spec = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "k", "Value": "v"}]}]
    added = await ec2(
        "authorize_security_group_ingress", GroupId=group, IpPermissions=[WEB, from_peer], TagSpecifications=spec
    )
    by_cidr, by_group = added["SecurityGroupRules"]
    assert (by_cidr["CidrIpv4"], by_cidr["Description"], by_cidr["Tags"]) == ("10.0.0.0/8", "us", spec[0]["Tags"])
    assert by_group["ReferencedGroupInfo"]["GroupId"] == peer
    (shown,) = (await ec2.described(group))[0]["IpPermissions"]
    assert (shown["FromPort"], shown["IpRanges"]) == (80, WEB["IpRanges"])
    assert [pair["GroupId"] for pair in shown["UserIdGroupPairs"]] == [peer]
    told = await ec2.refused("authorize_security_group_ingress", GroupId=group, IpPermissions=[WEB])
    peer_words = 'the specified rule "peer: 10.0.0.0/8, TCP, from port: 80, to port: 80, ALLOW" already exists'
    assert told == ("InvalidPermission.Duplicate", peer_words)
    of_group = [{"Name": "group-id", "Values": [group]}]
    rules = (await ec2("describe_security_group_rules", Filters=of_group))["SecurityGroupRules"]
    assert sorted(rule["IsEgress"] for rule in rules) == [False, False, True]
    changed = {"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "CidrIpv4": "10.1.2.3/8"}
    update = [{"SecurityGroupRuleId": by_cidr["SecurityGroupRuleId"], "SecurityGroupRule": changed}]
    await ec2("modify_security_group_rules", GroupId=group, SecurityGroupRules=update)
    ids = [by_cidr["SecurityGroupRuleId"]]
    (rule,) = (await ec2("describe_security_group_rules", SecurityGroupRuleIds=ids))["SecurityGroupRules"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["CidrIpv4"]) == ("udp", 53, "10.0.0.0/8")
    gone = await ec2("revoke_security_group_ingress", GroupId=group, SecurityGroupRuleIds=ids)
    assert [each["SecurityGroupRuleId"] for each in gone["RevokedSecurityGroupRules"]] == ids
    await ec2("revoke_security_group_ingress", GroupId=group, IpPermissions=[from_peer])
    told = await ec2.refused("revoke_security_group_ingress", GroupId=group, IpPermissions=[from_peer])
    assert told[0] == "InvalidPermission.NotFound"
    all_ipv6 = {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
    told = await ec2.refused("revoke_security_group_egress", GroupId=group, IpPermissions=[all_ipv6])
    assert told[0] == "InvalidPermission.NotFound"
    assert (await ec2.described(group))[0]["IpPermissions"] == []


async def test_a_rule_can_be_told_without_permissions_and_by_the_groups_name(ec2):
    group = await ec2.group()
    await ec2(
        "authorize_security_group_ingress",
        GroupName="web",
        IpProtocol="tcp",
        FromPort=22,
        ToPort=23,
        CidrIp="1.2.3.4/32",
    )
    await ec2("authorize_security_group_ingress", GroupName="web", SourceSecurityGroupName="web")
    ports, members = (await ec2.described(group))[0]["IpPermissions"]
    assert (ports["FromPort"], ports["ToPort"], ports["IpRanges"]) == (22, 23, [{"CidrIp": "1.2.3.4/32"}])
    assert (members["IpProtocol"], members["UserIdGroupPairs"][0]["GroupId"]) == ("-1", group)


@pytest.mark.parametrize(
    ("permission", "code"),
    [
        ({**WEB, "IpRanges": [{"CidrIp": "10.0.0"}]}, "InvalidParameterValue"),
        ({**WEB, "FromPort": 81}, "InvalidParameterValue"),
        ({"IpProtocol": "tcp", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, "MissingParameter"),
        ({"IpProtocol": "tea", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, "InvalidParameterValue"),
        ({"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}, "InvalidParameterValue"),
        ({"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-1"}]}, "InvalidParameterValue"),
        ({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-00000000000000000"}]}, "InvalidGroup.NotFound"),
        ({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "web"}]}, "InvalidGroupId.Malformed"),
        ({"IpProtocol": "-1"}, "MissingParameter"),
    ],
)  # fmt: skip
async def test_a_rule_that_makes_no_sense_is_refused(ec2, permission, code):
    group = await ec2.group()
    assert (await ec2.refused("authorize_security_group_ingress", GroupId=group, IpPermissions=[permission]))[0] == code


async def test_what_is_not_there_twice_or_too_much_is_refused(stage):
    ec2 = await stage.start(groups=3, rules=1)
    group = await ec2.group()
    assert (await ec2.refused("create_security_group", GroupName="web", Description="d"))[0] == "InvalidGroup.Duplicate"
    assert (await ec2.refused("create_security_group", GroupName="ü", Description="d"))[0] == "InvalidParameterValue"
    told = await ec2.refused("create_security_group", GroupName="w", Description="d", VpcId="vpc-1")
    assert told[0] == "InvalidVpcID.NotFound"
    await ec2.group("b")
    told = await ec2.refused("create_security_group", GroupName="c", Description="d")
    assert told[0] == "SecurityGroupLimitExceeded"
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    told = await ec2.refused("authorize_security_group_ingress", GroupId=group, IpPermissions=[WEB, ssh])
    assert told[0] == "RulesPerSecurityGroupLimitExceeded"
    assert (await ec2.refused("delete_security_group", GroupId=group, DryRun=True))[0] == "DryRunOperation"
    assert (await ec2.refused("describe_instances"))[0] == "NotImplemented"


async def test_groups_are_found_by_filters_a_page_at_a_time(ec2):
    names = [f"g{number}" for number in range(7)]
    groups = [await ec2.group(name) for name in names]
    await ec2("create_tags", Resources=groups[:2], Tags=[{"Key": "team", "Value": "red"}])
    await ec2("authorize_security_group_ingress", GroupId=groups[3], IpPermissions=[WEB])
    assert await ec2.named(group_name=["g?", "x"]) == names
    assert await ec2.named(**{"tag:team": ["re*"]}) == ["g0", "g1"]
    assert await ec2.named(**{"ip-permission.cidr": ["10.0.0.0/8"]}) == ["g3"]
    assert await ec2.named(group_id=[groups[5]], vpc_id=[vpc_id(ACCOUNT, REGION)]) == ["g5"]
    told = await ec2.refused("describe_security_groups", Filters=[{"Name": "colour", "Values": ["x"]}])
    assert told[0] == "InvalidParameterValue"
    first = await ec2("describe_security_groups", MaxResults=5)
    rest = await ec2("describe_security_groups", MaxResults=5, NextToken=first["NextToken"])
    seen = [group["GroupName"] for page in (first, rest) for group in page["SecurityGroups"]]
    assert (sorted(seen), "NextToken" in rest) == (["default", *names], False)


async def test_tags_are_put_listed_and_taken_away(ec2):
    group = await ec2.group()
    added = await ec2("authorize_security_group_ingress", GroupId=group, IpPermissions=[WEB])
    rule = added["SecurityGroupRules"][0]["SecurityGroupRuleId"]
    await ec2("create_tags", Resources=[group, rule], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    await ec2("delete_tags", Resources=[group], Tags=[{"Key": "a", "Value": "other"}, {"Key": "b"}])
    found = (await ec2("describe_tags"))["Tags"]
    assert [(t["ResourceType"], t["ResourceId"], t["Key"], t["Value"]) for t in found] == [
        ("security-group", group, "a", "1"),
        ("security-group-rule", rule, "a", "1"),
        ("security-group-rule", rule, "b", "2"),
    ]
    assert (await ec2.refused("create_tags", Resources=["i-1"], Tags=[{"Key": "a", "Value": "1"}]))[0] == "InvalidID"


async def test_a_session_may_what_its_role_allows_and_a_name_is_judged_as_the_group_that_it_means(stage, ec2):
    roles = await stage.store("identity", (ROLE, ACCESS_KEY))
    group = await ec2.group()
    arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/{group}"
    everything = {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}
    denied = {"Effect": "Deny", "Action": "ec2:DeleteSecurityGroup", "Resource": arn}
    key = await a_session(roles, "limited", [])
    role = roles.table(ROLE).record(ACCOUNT, "limited")
    await roles.put(
        ROLE, replace(role, inline={"own": json.dumps({"Statement": [everything, denied]})}), "role.updated.v1"
    )
    limited = Caller(ec2.port, key, SECRET, TOKEN)
    await until(lambda: stage.app._keys.authorization._keys.record(key))
    assert [g["GroupName"] for g in await limited.described(group)] == ["web"]
    for named in ({"GroupId": group}, {"GroupName": "web"}):
        code, message = await limited.refused("delete_security_group", **named)
        assert (code, arn in message) == ("UnauthorizedOperation", True)
    assert (await limited.refused("describe_instances"))[0] == "NotImplemented"
    stranger = Caller(ec2.port, "AKIANOBODY", "secret")
    assert (await stranger.refused("describe_security_groups"))[0] == "AuthFailure"


async def test_a_group_in_use_is_not_deleted(stage, ec2):
    scheduler = await stage.store("scheduler", schedulers.KINDS)
    agent = await stage.store("agent", agents.KINDS)
    by_task, by_service, by_rule, other = [await ec2.group(name) for name in ("task", "service", "rule", "other")]

    def configured(group):
        return {"awsvpcConfiguration": {"subnets": ["s"], "securityGroups": [group]}}

    task = ecs.task(network_configuration=configured(by_task))
    await scheduler.put(TASK, task, "task.placed.v1")
    service = ecs.service(1, ecs.deployment(network_configuration=configured(by_service)))
    await scheduler.put(SERVICE, service, "service.created.v1")
    pair = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": by_rule}]}
    await ec2("authorize_security_group_ingress", GroupId=other, IpPermissions=[pair])
    for group, user in ((by_task, "task t1"), (by_service, "service main/web"), (by_rule, f"security group {other}")):
        told = await ec2.refused("delete_security_group", GroupId=group)
        assert told == ("DependencyViolation", f"resource {group} has a dependent object: {user}")
    await agent.put(TASK_STATUS, ecs.status(task, "STOPPED"), "task.stopped.v1")
    await scheduler.put(SERVICE, replace(service, status="INACTIVE"), "service.inactive.v1")
    await ec2("revoke_security_group_ingress", GroupId=other, IpPermissions=[pair])
    for group in (by_task, by_service, by_rule):
        await ec2("delete_security_group", GroupId=group)


async def test_vpc_subnets_and_interfaces_are_those_of_the_nodes_and_tasks(stage, ec2):
    scheduler = await stage.store("scheduler", schedulers.KINDS)
    agent = await stage.store("agent", agents.KINDS)
    for name, zone, subnet in (("n1", "a", "10.64.0.0/24"), ("n2", "a", "10.64.1.0/24"), ("n3", "b", "10.64.2.0/24")):
        node = ecs.node(name, f"us-east-1{zone}", subnet=subnet)
        await agent.put(NODE, node, "node.registered.v1")
    group, vpc, subnet = await ec2.group(), vpc_id(ACCOUNT, REGION), subnet_id(ACCOUNT, REGION, "us-east-1a")
    given = {"awsvpcConfiguration": {"subnets": ["other", subnet], "securityGroups": [group]}}
    task = ecs.task(network_configuration=given, zone="us-east-1a")
    await scheduler.put(TASK, task, "task.placed.v1")
    network = NetworkInterface(
        private_ipv4="10.64.0.7", mac_address="02:42:0a:40:00:07", eni_id="eni-1", attachment_id="a-1", groups=[group]
    )
    await agent.put(TASK_STATUS, ecs.status(task, network=network), "task.running.v1")
    (shown,) = (await ec2("describe_vpcs"))["Vpcs"]
    assert (shown["VpcId"], shown["CidrBlock"], shown["IsDefault"]) == (vpc, "10.64.0.0/10", True)
    zones = (await ec2("describe_subnets", Filters=[{"Name": "vpc-id", "Values": [vpc]}]))["Subnets"]
    assert sorted((z["AvailabilityZone"], z["CidrBlock"], z["AvailableIpAddressCount"]) for z in zones) == [
        ("us-east-1a", "10.64.0.0/23", 505),
        ("us-east-1b", "10.64.2.0/24", 253),
    ]
    filters = [{"Name": "private-ip-address", "Values": ["10.64.0.7"]}, {"Name": "group-name", "Values": ["web"]}]
    (eni,) = (await ec2("describe_network_interfaces", Filters=filters))["NetworkInterfaces"]
    assert {name: eni[name] for name in ("NetworkInterfaceId", "SubnetId", "VpcId", "Groups", "Status")} == {
        "NetworkInterfaceId": "eni-1",
        "SubnetId": subnet,
        "VpcId": vpc,
        "Groups": [{"GroupId": group, "GroupName": "web"}],
        "Status": "in-use",
    }
    assert eni["Description"] == f"arn:aws:ecs:{REGION}:{ACCOUNT}:attachment/a-1"
    await agent.put(TASK_STATUS, ecs.status(task, "STOPPED", network=network), "task.stopped.v1")
    assert (await ec2("describe_network_interfaces"))["NetworkInterfaces"] == []
    told = await ec2.refused("describe_network_interfaces", NetworkInterfaceIds=["eni-1"])
    assert told[0] == "InvalidNetworkInterfaceID.NotFound"
    assert (await ec2.refused("describe_subnets", SubnetIds=["subnet-1"]))[0] == "InvalidSubnetID.NotFound"
