"""Which cluster a node is of."""

from __future__ import annotations

import pytest

from contracts.records.identity import ManagedNode
from contracts.records.scheduler import ContainerInstance
from services.scheduler.decisions.membership import of_cluster, taken_out
from services.scheduler.decisions.placement import candidate_of
from tests.builders.ecs import ACCOUNT, REGION, node

WHERE = (ACCOUNT, REGION, "main")


def managed(status: str = "ACTIVE") -> ManagedNode:
    return ManagedNode(
        account=ACCOUNT,
        region=REGION,
        activation="a",
        slot=1,
        node="mi-1",
        cluster="main",
        secret_digest="",
        registered_at=1.0,
        status=status,
    )


def instance(status: str, session: str = "s1") -> ContainerInstance:
    return ContainerInstance(account=ACCOUNT, region=REGION, cluster="main", node="n1", status=status, session=session)


def test_a_node_of_the_platform_is_of_every_cluster_and_an_external_one_of_its_own():
    assert of_cluster(None, WHERE) and of_cluster(managed(), WHERE)
    for other in (("1", REGION, "main"), (ACCOUNT, "eu-west-1", "main"), (ACCOUNT, REGION, "other")):
        assert not of_cluster(managed(), other)


@pytest.mark.parametrize(
    ("external", "made_of_it", "session", "out"),
    [
        (None, None, "s1", False),
        (None, instance("DRAINING"), "s1", False),
        (None, instance("INACTIVE"), "s1", True),
        (None, instance("INACTIVE"), "s2", False),
        (managed(), None, "s1", False),
        (managed(), instance("INACTIVE"), "s2", True),
        (managed("INACTIVE"), None, "s1", True),
    ],
)
def test_who_was_taken_out_is_in_again_with_a_new_session_unless_it_is_external(external, made_of_it, session, out):
    assert taken_out(external, made_of_it, node(session=session)) is out


def test_what_an_agent_says_of_its_kind_counts_for_the_platform_s_own_alone():
    own = candidate_of(node("n1", capacity_kind="EC2"), external=False, spot=True, connected=True)
    joined = candidate_of(node("mi-1", capacity_kind="EC2"), external=True, spot=True, connected=True)
    stranger = candidate_of(node("mi-2", capacity_kind="EXTERNAL"), external=False, spot=True, connected=True)
    assert [(c.kind, c.usable) for c in (own, joined, stranger)] == [
        ("EC2", True),
        ("EXTERNAL", True),
        ("EXTERNAL", False),
    ]
    assert ("ecs.capability.external" in joined.attributes, "ecs.capability.external" in own.attributes) == (
        True,
        False,
    )
