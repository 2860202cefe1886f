"""Tasks are held to their security groups: an agent against a real NATS and a runtime in memory."""

import pytest
from msgspec.structs import replace

from contracts.records.agent import TASK_STATUS, NetworkInterface, TaskStatus
from contracts.records.network import SECURITY_GROUP, SecurityGroup, SecurityGroupRule, default_group
from contracts.records.scheduler import TASK
from services.agent.ports import PacketRule, PacketRules, RuntimeFailure
from services.shared.state import Store
from tests.builders.waiting import until
from tests.integration.test_agent import ACCOUNT, REGION, Stage

SHOP = {"name": "web", "image": "shop:1"}
WEB, DB = "sg-00000000", "sg-11111111"
OUT = SecurityGroupRule(id="sgr-0", egress=True, protocol="-1", cidr="0.0.0.0/0")
HTTP = SecurityGroupRule(id="sgr-1", egress=False, protocol="tcp", from_port=80, to_port=80, cidr="10.0.0.0/8")
OF_WEB = SecurityGroupRule(id="sgr-2", egress=False, protocol="tcp", from_port=5432, to_port=5432, group=WEB)
LET_OUT = PacketRule("-1")
LET_IN = PacketRule("tcp", 80, 80, "10.0.0.0/8")


def group(group_id, *rules):
    return SecurityGroup(account=ACCOUNT, region=REGION, id=group_id, name=group_id, description="d", rules=[*rules])


def of_web(*addresses):
    return PacketRules([PacketRule("tcp", 5432, 5432, "", WEB)], [LET_OUT], {WEB: list(addresses)})


def elsewhere(state, address="10.0.9.9", groups=(WEB,)):
    """What another node's agent says of a task."""
    network = NetworkInterface(private_ipv4=address, groups=list(groups))
    where = {"account": ACCOUNT, "region": REGION, "cluster": "main", "node": "n2", "task": "t9"}
    return TaskStatus(**where, last_status=state, network=network)


@pytest.fixture
async def stage(nats_platform, tmp_path):
    made = Stage(nats_platform, tmp_path / "data")
    await made.open()
    made.groups = await Store.open(await nats_platform.bus("network"), (SECURITY_GROUP,))
    made.others = await Store.open(await nats_platform.bus("agent"), (TASK_STATUS,))
    yield made
    await made.close()
    await made.groups.close()
    await made.others.close()


async def has(stage, record):
    await stage.groups.put(SECURITY_GROUP, record, "security_group.created.v1")


async def in_force(stage, wanted, task_id="t1"):
    await until(lambda: stage.runtime.packets.get(task_id) == wanted)


async def test_the_rules_are_in_force_before_the_first_container_starts(stage):
    await has(stage, group(WEB, OUT, HTTP))
    await stage.agent()
    await stage.task("t1", SHOP, groups=[WEB])
    status = await stage.reached("t1", "RUNNING")
    assert stage.runtime.packets == {"t1": PacketRules([LET_IN], [LET_OUT])}
    calls = [what for what, _ in stage.runtime.calls if what != "pull"]
    assert calls[:3] == ["create_sandbox", "protect", "create"]
    assert (status.network.groups, status.version) == ([WEB], 1)


async def test_a_task_in_the_default_group_costs_nothing_until_that_is_changed(stage):
    await stage.agent()
    await stage.task("t1", SHOP, groups=[])
    await stage.task("t2", SHOP)
    for task in ("t1", "t2"):
        await stage.reached(task, "RUNNING")
    assert "protect" not in [what for what, _ in stage.runtime.calls]
    default = default_group(ACCOUNT, REGION)
    await has(stage, replace(default, rules=[OUT, HTTP]))
    await in_force(stage, PacketRules([LET_IN], [LET_OUT]))
    await stage.groups.put(SECURITY_GROUP, default, "security_group.authorized.v1")
    await in_force(stage, None)
    assert list(stage.runtime.packets) == ["t1"]


async def test_a_changed_rule_acts_on_the_tasks_that_run(stage):
    await has(stage, group(WEB, OUT))
    await stage.agent()
    await stage.task("t1", SHOP, groups=[WEB])
    await in_force(stage, PacketRules([], [LET_OUT]))
    await has(stage, group(WEB, HTTP))
    await in_force(stage, PacketRules([LET_IN], []))
    await stage.groups.delete(SECURITY_GROUP, (ACCOUNT, REGION, WEB), "security_group.deleted.v1")
    await in_force(stage, PacketRules([], []))


async def test_a_rule_that_names_a_group_follows_its_members(stage):
    await has(stage, group(WEB, OUT))
    await has(stage, group(DB, OUT, OF_WEB))
    await stage.others.put(TASK_STATUS, elsewhere("PENDING"), "task.pending.v1")
    await stage.agent()
    await stage.task("t1", SHOP, groups=[DB])
    await in_force(stage, of_web("10.0.9.9"))
    await stage.task("t2", SHOP, groups=[WEB])
    own = (await stage.reached("t2", "RUNNING")).network.private_ipv4
    await in_force(stage, of_web(own, "10.0.9.9"))
    await stage.others.put(TASK_STATUS, elsewhere("STOPPED"), "task.stopped.v1")
    await in_force(stage, of_web(own))
    await stage.ask_stop("t2")
    await in_force(stage, of_web())


async def test_who_is_let_in_by_its_group_is_known_before_it_runs(stage):
    await has(stage, group(WEB, OUT))
    await has(stage, group(DB, OF_WEB))
    await stage.agent()
    await stage.task("t1", SHOP, groups=[WEB])
    assert (await stage.reached("t1", "RUNNING")).version == 2  # PENDING, with its address, was the first


async def test_the_next_agent_works_the_rules_out_anew(stage):
    await has(stage, group(WEB, OUT))
    first = await stage.agent()
    await stage.task("t1", SHOP, groups=[WEB])
    await in_force(stage, PacketRules([], [LET_OUT]))
    await stage.reached("t1", "RUNNING")
    stage.kill(first)
    await has(stage, group(WEB, HTTP))
    assert stage.runtime.packets["t1"] == PacketRules([], [LET_OUT])
    await stage.agent()
    await in_force(stage, PacketRules([LET_IN], []))


async def test_a_task_whose_rules_cannot_be_put_in_force_does_not_start(stage):
    await has(stage, group(WEB, OUT))
    stage.runtime.packets_error = RuntimeFailure("no nftables here")
    await stage.agent()
    await stage.task("t1", SHOP, groups=[WEB])
    status = await stage.reached("t1", "STOPPED")
    assert (status.stop_code, status.stopped_reason) == (
        "TaskFailedToStart",
        "ResourceInitializationError: no nftables here",
    )
    assert stage.runtime.running() == []


async def test_what_could_not_be_changed_is_tried_again(stage):
    await has(stage, group(WEB, OUT))
    await stage.agent()
    await stage.task("t1", SHOP, groups=[WEB])
    await stage.reached("t1", "RUNNING")
    stage.runtime.packets_error = RuntimeFailure("not now")
    await has(stage, group(WEB, HTTP))
    await until(lambda: stage.runtime.calls.count(("protect", "t1")) >= 2)
    stage.runtime.packets_error = None
    await in_force(stage, PacketRules([LET_IN], []))


async def test_a_task_behind_the_gateway_hears_the_machine_by_any_group(stage):
    await has(stage, group(WEB, OUT))
    task = await stage.task("t1", SHOP, groups=[WEB])
    await stage.tasks.put(TASK, replace(task, drain_s=1.0), "task.placed.v1")
    await stage.agent()
    await in_force(stage, PacketRules([PacketRule("-1", cidr="10.0.0.1/32")], [LET_OUT]))
