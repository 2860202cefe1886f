"""GPUs of a node: what the setting says, what a container gets."""

import pytest

from contracts.records.scheduler import Task
from services.agent.decisions.members import PlanError, gpus_of
from services.agent.decisions.plan import container_spec, given_environment, plan_task
from services.agent.ports import Image

CONTAINER = {"name": "train", "image": "busybox", "resourceRequirements": [{"type": "GPU", "value": "2"}]}


def task(**members) -> Task:
    return Task(
        account="1", region="r", cluster="c", node="n", id="t", task_definition="w:1", desired_status="RUNNING",
        created_at=1.0, **members,
    )  # fmt: skip


def test_the_setting_names_the_device_files_of_each():
    assert gpus_of("") == {}
    assert gpus_of("g0=/dev/nvidia0, g1=/dev/nvidia1+/dev/nvidiactl") == {
        "g0": ["/dev/nvidia0"],
        "g1": ["/dev/nvidia1", "/dev/nvidiactl"],
    }
    for wrong in ("g0", "g0=", "=/dev/x", "g0=dev/x"):
        with pytest.raises(ValueError, match="gpus"):
            gpus_of(wrong)


def test_a_container_gets_what_was_reserved_for_it_and_is_told():
    plan = plan_task(task(gpus={"train": ["g0", "g1"]}), {"containerDefinitions": [CONTAINER]}, {}, "")
    (container,) = plan.containers
    environment = given_environment(plan, container, "x", metadata=False)
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "g0,g1"
    spec = container_spec(plan, container, Image("busybox", "sha256:0", 1), environment, ["/dev/nvidia0"])
    assert spec.devices == ["/dev/nvidia0"]


def test_one_for_which_nothing_was_reserved_does_not_run_without():
    with pytest.raises(PlanError, match="no GPU was reserved"):
        plan_task(task(), {"containerDefinitions": [CONTAINER]}, {}, "")
