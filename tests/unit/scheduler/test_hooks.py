"""What is made of a lifecycle hook's answers, and what it is told."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.records.scheduler import SERVICE, DeploymentStage, HookRun
from services.scheduler.controllers.hooks import HookController
from services.scheduler.decisions import hooks
from services.scheduler.decisions.rollback import Failure, given_up
from services.shared.errors import AwsError
from tests.builders.rollouts import Drive

RUN = HookRun(id="h", target_type="AWS_LAMBDA", status="IN_PROGRESS", expires_at=1000.0, target="http://x/", tries=2)


@pytest.mark.parametrize(
    ("answer", "status", "next_at", "details"),
    [
        ({"hookStatus": "SUCCEEDED"}, "SUCCEEDED", 0.0, None),
        ({"hookStatus": "FAILED"}, "FAILED", 0.0, None),
        ({"hookStatus": "IN_PROGRESS"}, "IN_PROGRESS", 130.0, None),
        ({"hookStatus": "IN_PROGRESS", "callBackDelay": 60}, "IN_PROGRESS", 160.0, None),
        ({"hookStatus": "IN_PROGRESS", "callBackDelay": 0}, "IN_PROGRESS", 101.0, None),
        ({"hookStatus": "IN_PROGRESS", "hookDetails": {"a": 1}}, "IN_PROGRESS", 130.0, {"a": 1}),
        ({"hookStatus": "IN_PROGRESS", "callBackDelay": "soon"}, "FAILED", 0.0, None),
        ({"hookStatus": "IN_PROGRESS", "callBackDelay": True}, "FAILED", 0.0, None),
        ({"hookStatus": "IN_PROGRESS", "callBackDelay": -1}, "FAILED", 0.0, None),
        ({"hookStatus": "succeeded"}, "FAILED", 0.0, None),
        ({}, "FAILED", 0.0, None),
        (None, "FAILED", 0.0, None),
        (["SUCCEEDED"], "FAILED", 0.0, None),
    ],
)
def test_an_answer_decides_a_hook_or_says_when_to_ask_again(answer, status, next_at, details):
    after = hooks.answered(RUN, answer, 100.0)
    assert (after.status, after.next_at, after.details, after.tries) == (status, next_at, details, 0)
    assert bool(after.reason) == (status == "FAILED")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda s: st.dictionaries(st.text(), s)))
def test_no_answer_makes_it_fail_to_decide(answer):
    delayed = {"hookStatus": "IN_PROGRESS", "callBackDelay": answer}
    for given_answer in (answer, delayed):
        after = hooks.answered(RUN, given_answer, 100.0)
        assert after.status in ("SUCCEEDED", "FAILED") or 101.0 <= after.next_at < float("inf")


def test_one_that_can_not_be_reached_is_asked_again_with_growing_waits_and_has_then_failed():
    run, waits = replace(RUN, tries=0), []
    while run.status == "IN_PROGRESS":
        run = hooks.unanswered(run, "refused", 100.0)
        waits.append(run.next_at - 100.0)
    assert (waits[:-1], run.status, run.reason) == (
        [1.0, 2.0, 4.0, 8.0], "FAILED", "It could not be reached 5 times: refused.",
    )  # fmt: skip


def test_a_hook_has_timed_out_when_its_time_is_up_and_what_is_decided_stays_so():
    found = hooks.timed_out([RUN, replace(RUN, status="SUCCEEDED")], 1000.0)
    assert [run.status for run in found] == ["TIMED_OUT", "SUCCEEDED"]
    assert hooks.timed_out([RUN], 999.9) == [RUN]
    assert (hooks.failed(found), hooks.failed([replace(found[0], timeout_action="CONTINUE")])) == (found[0], None)


def test_a_hook_is_told_where_the_traffic_goes_and_on_the_way_back_of_the_deployment_that_failed():
    hook = {"hookTargetArn": "http://x/", "lifecycleStages": ["PRODUCTION_TRAFFIC_SHIFT"], "hookDetails": 7}
    drive = Drive(strategy="LINEAR", linearConfiguration={"stepPercent": 12.5}, lifecycleHooks=[hook])
    drive.run()
    drive.decide_hook = lambda run: None
    drive.update("ecs-svc/2", "web:2")
    drive.run(lambda: drive.stage == "PRODUCTION_TRAFFIC_SHIFT")
    (run,) = drive.service.deployments[0].stage.hooks
    start = "arn:aws:ecs:us-east-1:000000000000:"
    blue, green = f"{start}service-revision/main/web/d1", f"{start}service-revision/main/web/2"
    told = {
        "executionDetails": {
            "testTrafficWeights": {},
            "productionTrafficWeights": {green: 12.5, blue: 87.5},
            "serviceArn": f"{start}service/main/web",
            "targetServiceRevisionArn": green,
        },
        "executionId": run.id,
        "lifecycleStage": "PRODUCTION_TRAFFIC_SHIFT",
        "resourceArn": f"{start}service-deployment/main/web/2",
        "hookDetails": 7,
    }
    assert hooks.payload(drive.service, run) == told
    deployments, _ = given_up(drive.service, Failure("stopped", "stopped", "Stop"), drive.now)
    back = replace(drive.service, deployments=deployments)
    (again,) = back.deployments[0].stage.hooks
    told["executionDetails"]["productionTrafficWeights"] = {blue: 100, green: 0}
    assert hooks.payload(back, again) == {**told, "executionId": again.id}
    assert again.id != run.id


@pytest.mark.parametrize(
    ("target", "good"),
    [
        ("http://127.0.0.1:8080/hook", True),
        ("https://hooks.example/a?b=c", True),
        ("http://[::1]/", True),
        ("http://", False),
        ("http://:80/", False),
        ("http://x:0/", False),
        ("http://x:99999/", False),
        ("http://[::1/", False),
        ("file:///etc/passwd", False),
        ("gopher://x/", False),
        ("", False),
    ],
)
def test_a_target_is_an_http_url(target, good):
    hook = {"hookTargetArn": target, "lifecycleStages": ["POST_SCALE_UP"]}
    try:
        hooks.check([hook])
    except AwsError as error:
        assert (good, error.code) == (False, "InvalidParameterException")
    else:
        assert good


async def test_a_controller_that_ends_has_let_go_of_whom_it_asks():
    stage = DeploymentStage(name="PRE_SCALE_UP", since=0.0, strategy="BLUE_GREEN", hooks=[RUN])
    record = Drive(strategy="BLUE_GREEN").service
    record = replace(record, deployments=[replace(record.deployments[0], stage=stage)])
    table = SimpleNamespace(
        all_keys=lambda: [SERVICE.key_of(record)],
        record=lambda *key: record,
        get=lambda *key: SimpleNamespace(record=record, trace=None),
    )
    world = SimpleNamespace(services=table, clock=lambda: 100.0)
    asked, let_go = asyncio.Event(), asyncio.Event()

    class Slow:
        async def ask(self, url, payload):
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(20):
                    await asyncio.sleep(0)  # a connection takes a moment to close
                let_go.set()

    running = asyncio.create_task(HookController(world, Slow(), lambda: True).run())
    await asked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert let_go.is_set()
