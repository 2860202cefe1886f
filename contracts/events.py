"""The domain events: what can happen to each kind of entity. Past tense, with a version.

An event is no message of its own: it is the header `Event` of the message that changes the entity, which NATS copies
into the EVENTS stream. A change that old readers of an event would misread is a new version, beside the old one.
"""

from __future__ import annotations

from typing import Any

from contracts.kinds import Kind
from contracts.records.agent import NODE, TASK_STATUS
from contracts.records.app_runner_gateway import APP_SERVICE, AUTO_SCALING, INGRESS, SCALING_DEFAULT, TARGET
from contracts.records.autoscaler import SCALABLE_TARGET, SCALING_ACTIVITY, SCALING_POLICY, SCHEDULED_ACTION
from contracts.records.discovery import DISCOVERY_SERVICE, INSTANCE, NAMESPACE, OPERATION
from contracts.records.events import WEBHOOK
from contracts.records.identity import ACCESS_KEY, ACTIVATION, MANAGED_NODE, PARAMETER, POLICY, ROLE, SECRET
from contracts.records.kms import KMS_ALIAS, KMS_GRANT, KMS_KEY
from contracts.records.monitor import LOG_GROUP, LOG_STREAM, METRIC_ALARM
from contracts.records.network import SECURITY_GROUP
from contracts.records.registry import (
    BACKFILL,
    BACKFILL_RESULT,
    CREATION_TEMPLATE,
    IMAGE,
    IMAGE_REPLICATION,
    IMAGE_TAG,
    PEER,
    PEER_GRANT,
    PULL_THROUGH_RULE,
    REGISTRY_SETTINGS,
    REPOSITORY,
    SIGNING_PROFILE,
)
from contracts.records.scanner import GATE_OVERRIDE, IMAGE_SCAN, SCAN_GATE, SUPPRESSION
from contracts.records.scheduler import (
    ACCOUNT_SETTING,
    CAPACITY_PROVIDER,
    CLUSTER,
    CONTAINER_INSTANCE,
    GATEWAY,
    SERVICE,
    SPOT_RECLAIM,
    TASK,
    TASK_DEFINITION,
)

EVENTS: dict[Kind[Any], tuple[str, ...]] = {
    CLUSTER: (
        "cluster.created.v1",
        "cluster.changed.v1",
        "cluster.tagged.v1",
        "cluster.deleted.v1",
        "cluster.removed.v1",
    ),
    TASK_DEFINITION: (
        "task_definition.registered.v1",
        "task_definition.tagged.v1",
        "task_definition.deregistered.v1",
        "task_definition.deleting.v1",
        "task_definition.deleted.v1",
    ),
    TASK: (
        "task.placed.v1",
        "task.tagged.v1",
        "task.protection_changed.v1",
        "task.stopping.v1",
        "task.interrupted.v1",
        "task.lost.v1",
        "task.removed.v1",
    ),
    SERVICE: (
        "service.created.v1",
        "service.updated.v1",
        "service.tagged.v1",
        "service.progressed.v1",
        "service.steady.v1",
        "service.draining.v1",
        "service.inactive.v1",
        "service.removed.v1",
    ),
    GATEWAY: (
        "gateway.created.v1",
        "gateway.updated.v1",
        "gateway.tagged.v1",
        "gateway.associated.v1",
        "gateway.disassociating.v1",
        "gateway.deleted.v1",
    ),
    CAPACITY_PROVIDER: (
        "capacity_provider.created.v1",
        "capacity_provider.updated.v1",
        "capacity_provider.tagged.v1",
        "capacity_provider.deleted.v1",
    ),
    CONTAINER_INSTANCE: (
        "container_instance.attributes_changed.v1",
        "container_instance.draining.v1",
        "container_instance.activated.v1",
        "container_instance.deregistered.v1",
    ),
    SPOT_RECLAIM: ("spot_reclaim.begun.v1", "spot_reclaim.ended.v1"),
    ACCOUNT_SETTING: ("account_setting.put.v1", "account_setting.deleted.v1"),
    NODE: ("node.registered.v1",),
    TASK_STATUS: (
        "task.provisioning.v1",
        "task.pending.v1",
        "task.activating.v1",
        "task.running.v1",
        "task.deactivating.v1",
        "task.stopping.v1",
        "task.deprovisioning.v1",
        "task.stopped.v1",
        "task_status.forgotten.v1",
    ),
    REPOSITORY: (
        "repository.created.v1",
        "repository.tag_mutability_changed.v1",
        "repository.scanning_changed.v1",
        "repository.policy_changed.v1",
        "repository.lifecycle_changed.v1",
        "repository.lifecycle_previewed.v1",
        "repository.lifecycle_evaluated.v1",
        "repository.tagged.v1",
        "repository.untagged.v1",
        "repository.deleted.v1",
    ),
    IMAGE: (
        "image.pushed.v1",
        "image.attached.v1",
        "image.pulled.v1",
        "image.archived.v1",
        "image.activated.v1",
        "image.signed.v1",
        "image.signing_failed.v1",
        "image.deleted.v1",
    ),
    IMAGE_TAG: ("tag.moved.v1", "tag.deleted.v1"),
    REGISTRY_SETTINGS: (
        "registry.scanning_changed.v1",
        "registry.policy_changed.v1",
        "registry.pull_exclusions_changed.v1",
        "registry.replication_changed.v1",
        "registry.account_setting_changed.v1",
        "registry.signing_changed.v1",
    ),
    BACKFILL: (
        "backfill.started.v1",
        "backfill.prepared.v1",
        "backfill.stopping.v1",
        "backfill.ended.v1",
        "backfill.forgotten.v1",
    ),
    BACKFILL_RESULT: ("backfill_result.recorded.v1", "backfill_result.forgotten.v1"),
    IMAGE_REPLICATION: ("replication.completed.v1", "replication.failed.v1", "replication.forgotten.v1"),
    PEER: ("peer.added.v1", "peer.removed.v1"),
    PEER_GRANT: ("peer_grant.made.v1", "peer_grant.removed.v1"),
    SIGNING_PROFILE: ("signing_profile.created.v1",),
    PULL_THROUGH_RULE: (
        "pull_through_rule.created.v1",
        "pull_through_rule.updated.v1",
        "pull_through_rule.deleted.v1",
    ),
    CREATION_TEMPLATE: (
        "creation_template.created.v1",
        "creation_template.updated.v1",
        "creation_template.deleted.v1",
    ),
    IMAGE_SCAN: (
        "scan.requested.v1",
        "image.scanned.v1",
        "findings.changed.v1",
        "scan.failed.v1",
        "scan.forgotten.v1",
        "sbom.stored.v1",
    ),
    SCAN_GATE: ("gate.set.v1", "gate.removed.v1"),
    GATE_OVERRIDE: ("gate.overridden.v1", "gate.override_removed.v1"),
    SUPPRESSION: ("finding.suppressed.v1", "finding.unsuppressed.v1"),
    ACCESS_KEY: ("access_key.created.v1", "access_key.deleted.v1", "session.issued.v1", "session.expired.v1"),
    ACTIVATION: ("activation.created.v1", "activation.deleted.v1"),
    MANAGED_NODE: ("managed_node.registered.v1", "managed_node.deregistered.v1"),
    ROLE: ("role.created.v1", "role.updated.v1", "role.deleted.v1"),
    POLICY: ("policy.created.v1", "policy.deleted.v1"),
    SECRET: (
        "secret.created.v1",
        "secret.updated.v1",
        "secret.scheduled.v1",
        "secret.restored.v1",
        "secret.deleted.v1",
    ),
    KMS_KEY: (
        "kms_key.created.v1",
        "kms_key.changed.v1",
        "kms_key.rotated.v1",
        "kms_key.disabled.v1",
        "kms_key.enabled.v1",
        "kms_key.deletion_scheduled.v1",
        "kms_key.deletion_cancelled.v1",
        "kms_key.deleted.v1",
    ),
    KMS_GRANT: ("kms_grant.created.v1", "kms_grant.retired.v1", "kms_grant.revoked.v1"),
    KMS_ALIAS: ("kms_alias.created.v1", "kms_alias.moved.v1", "kms_alias.deleted.v1"),
    PARAMETER: ("parameter.put.v1", "parameter.tagged.v1", "parameter.deleted.v1"),
    LOG_GROUP: ("log_group.created.v1", "log_group.changed.v1", "log_group.deleted.v1"),
    LOG_STREAM: ("log_stream.created.v1", "log_stream.deleted.v1"),
    METRIC_ALARM: (
        "alarm.put.v1",
        "alarm.changed.v1",
        "alarm.state_changed.v1",
        "alarm.deleted.v1",
    ),
    NAMESPACE: ("namespace.created.v1", "namespace.updated.v1", "namespace.tagged.v1", "namespace.deleted.v1"),
    DISCOVERY_SERVICE: (
        "discovery_service.created.v1",
        "discovery_service.updated.v1",
        "discovery_service.tagged.v1",
        "discovery_service.deleted.v1",
    ),
    INSTANCE: ("instance.registered.v1", "instance.health_changed.v1", "instance.deregistered.v1"),
    OPERATION: ("operation.succeeded.v1", "operation.forgotten.v1"),
    SCALABLE_TARGET: (
        "scalable_target.registered.v1",
        "scalable_target.settled.v1",
        "scalable_target.scheduled.v1",
        "scalable_target.tagged.v1",
        "scalable_target.deregistered.v1",
    ),
    SCALING_POLICY: ("scaling_policy.put.v1", "scaling_policy.deleted.v1"),
    SCHEDULED_ACTION: ("scheduled_action.put.v1", "scheduled_action.deleted.v1"),
    SCALING_ACTIVITY: (
        "scaling_activity.decided.v1",
        "scaling_activity.started.v1",
        "scaling_activity.ended.v1",
        "scaling_activity.forgotten.v1",
    ),
    APP_SERVICE: (
        "app_service.created.v1",
        "app_service.updating.v1",
        "app_service.deploying.v1",
        "app_service.pausing.v1",
        "app_service.resuming.v1",
        "app_service.deleting.v1",
        "app_service.deployed.v1",
        "app_service.paused.v1",
        "app_service.failed.v1",
        "app_service.deleted.v1",
        "app_service.image_moved.v1",
        "app_service.named.v1",
        "app_service.tagged.v1",
        "app_service.removed.v1",
    ),
    AUTO_SCALING: ("auto_scaling.created.v1", "auto_scaling.deleted.v1", "auto_scaling.tagged.v1"),
    SCALING_DEFAULT: ("scaling_default.changed.v1",),
    SECURITY_GROUP: (
        "security_group.created.v1",
        "security_group.authorized.v1",
        "security_group.revoked.v1",
        "security_group.modified.v1",
        "security_group.tagged.v1",
        "security_group.deleted.v1",
    ),
    WEBHOOK: ("webhook.created.v1", "webhook.deleted.v1"),
    INGRESS: ("ingress.changed.v1",),
    TARGET: ("target.healthy.v1", "target.unhealthy.v1", "target.drained.v1", "target.removed.v1"),
}
"""The events of each kind, in the order of an entity's life."""

INTERNAL = ("lease.taken.v1", "term.began.v1")
"""Written by the shared parts for themselves."""
