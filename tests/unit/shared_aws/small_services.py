"""Small AwsServices, one or more for each protocol: they answer what they are asked with, so that a test sees it."""

from __future__ import annotations

from typing import Any

from contracts.aws import cloudwatch, ecr, ecs, eks, iam, logs, secretsmanager, servicediscovery, ssm, sts
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.errors import AccessDenied, AwsError, StateUnavailable

NOON = 1_700_000_000.0


class Clusters(AwsService):
    """Half of a small ECS: it remembers who called."""

    api = ecs.API

    def __init__(self) -> None:
        self.calls: list[tuple[RequestContext, Any]] = []

    async def create_cluster(
        self, context: RequestContext, request: ecs.CreateClusterRequest
    ) -> ecs.CreateClusterResponse:
        self.calls.append((context, request))
        name = request.cluster_name or "default"
        return ecs.CreateClusterResponse(cluster=ecs.Cluster(cluster_name=name, tags=request.tags))

    async def describe_clusters(
        self, context: RequestContext, request: ecs.DescribeClustersRequest
    ) -> ecs.DescribeClustersResponse:
        self.calls.append((context, request))
        raise AwsError("ClusterNotFoundException", "Cluster not found.")

    async def delete_cluster(self, context: RequestContext, request: ecs.DeleteClusterRequest) -> None:
        raise StateUnavailable()

    async def list_clusters(self, context: RequestContext, request: ecs.ListClustersRequest) -> None:
        raise RuntimeError("a fault of our own")

    async def list_tasks(self, context: RequestContext, request: ecs.ListTasksRequest) -> None:
        raise AccessDenied()


class TaskDefinitions(AwsService):
    """The other half."""

    api = ecs.API

    async def register_task_definition(
        self, context: RequestContext, request: ecs.RegisterTaskDefinitionRequest
    ) -> ecs.RegisterTaskDefinitionResponse:
        definition = ecs.TaskDefinition(
            family=request.family, container_definitions=request.container_definitions, registered_at=NOON
        )
        return ecs.RegisterTaskDefinitionResponse(task_definition=definition)


class Registry(AwsService):
    api = ecr.API

    async def create_repository(
        self, context: RequestContext, request: ecr.CreateRepositoryRequest
    ) -> ecr.CreateRepositoryResponse:
        repository = ecr.Repository(repository_name=request.repository_name, created_at=NOON)
        return ecr.CreateRepositoryResponse(repository=repository)

    async def upload_layer_part(
        self, context: RequestContext, request: ecr.UploadLayerPartRequest
    ) -> ecr.UploadLayerPartResponse:
        if request.layer_part_blob != b"\x00layer\xff":
            raise AwsError("InvalidLayerPartException", "wrong part", lastValidByteReceived=7)
        return ecr.UploadLayerPartResponse(last_byte_received=request.part_last_byte)


class Tokens(AwsService):
    api = sts.API

    async def get_caller_identity(
        self, context: RequestContext, request: sts.GetCallerIdentityRequest
    ) -> sts.GetCallerIdentityResponse:
        return sts.GetCallerIdentityResponse(
            user_id=context.user_id, account=context.account, arn=context.principal_arn
        )

    async def assume_role(self, context: RequestContext, request: sts.AssumeRoleRequest) -> sts.AssumeRoleResponse:
        credentials = sts.Credentials(
            access_key_id="ASIAROADSTEAD0000003", secret_access_key="s", session_token="<&>", expiration=NOON
        )
        return sts.AssumeRoleResponse(credentials=credentials, source_identity=request.source_identity)

    async def assume_role_with_web_identity(
        self, context: RequestContext, request: sts.AssumeRoleWithWebIdentityRequest
    ) -> sts.AssumeRoleWithWebIdentityResponse:
        return sts.AssumeRoleWithWebIdentityResponse(audience=f"anonymous:{context.account}")


class Roles(AwsService):
    api = iam.API

    async def create_role(self, context: RequestContext, request: iam.CreateRoleRequest) -> iam.CreateRoleResponse:
        role = iam.Role(
            path=request.path or "/",
            role_name=request.role_name,
            role_id="AROA1",
            arn=f"arn:aws:iam::{context.account}:role/{request.role_name}",
            create_date=NOON + 0.25,
            assume_role_policy_document=request.assume_role_policy_document,
            max_session_duration=request.max_session_duration,
            tags=request.tags,
        )
        return iam.CreateRoleResponse(role=role)

    async def delete_role(self, context: RequestContext, request: iam.DeleteRoleRequest) -> None:
        raise AwsError("NoSuchEntityException", f"The role with name {request.role_name} cannot be found.")

    async def tag_role(self, context: RequestContext, request: iam.TagRoleRequest) -> None:
        return None

    async def get_account_summary(self, context: RequestContext, request: Any) -> iam.GetAccountSummaryResponse:
        return iam.GetAccountSummaryResponse(summary_map={"Roles": 1, "Users": 2})


class Kubernetes(AwsService):
    api = eks.API

    async def create_cluster(
        self, context: RequestContext, request: eks.CreateClusterRequest
    ) -> eks.CreateClusterResponse:
        return eks.CreateClusterResponse(cluster=eks.Cluster(name=request.name, tags=request.tags, created_at=NOON))

    async def describe_cluster(
        self, context: RequestContext, request: eks.DescribeClusterRequest
    ) -> eks.DescribeClusterResponse:
        raise AwsError("ResourceNotFoundException", "No cluster found for name: x.", clusterName=request.name)

    async def list_clusters(
        self, context: RequestContext, request: eks.ListClustersRequest
    ) -> eks.ListClustersResponse:
        return eks.ListClustersResponse(clusters=[str(request.max_results)], next_token=request.next_token)

    async def untag_resource(
        self, context: RequestContext, request: eks.UntagResourceRequest
    ) -> eks.UntagResourceResponse:
        if (request.resource_arn, request.tag_keys) != ("arn:aws:eks:eu-west-1:1:cluster/x", ["a", "b&c"]):
            raise AwsError("BadRequestException", f"{request}")
        return eks.UntagResourceResponse()


class Metrics(AwsService):
    api = cloudwatch.API

    def __init__(self) -> None:
        self.data: list[cloudwatch.PutMetricDataInput] = []

    async def put_metric_data(self, context: RequestContext, request: cloudwatch.PutMetricDataInput) -> None:
        self.data.append(request)

    async def get_metric_statistics(
        self, context: RequestContext, request: cloudwatch.GetMetricStatisticsInput
    ) -> cloudwatch.GetMetricStatisticsOutput:
        point = cloudwatch.Datapoint(timestamp=request.start_time, average=1.0, unit="Count")
        return cloudwatch.GetMetricStatisticsOutput(label=request.metric_name, datapoints=[point])

    async def get_dashboard(self, context: RequestContext, request: cloudwatch.GetDashboardInput) -> None:
        raise AwsError("DashboardNotFoundError", "Dashboard does not exist")


class Names(AwsService):
    api = servicediscovery.API

    async def register_instance(
        self, context: RequestContext, request: servicediscovery.RegisterInstanceRequest
    ) -> servicediscovery.RegisterInstanceResponse:
        return servicediscovery.RegisterInstanceResponse(operation_id=request.attributes["AWS_INSTANCE_IPV4"])


class Secrets(AwsService):
    api = secretsmanager.API

    async def create_secret(self, context: RequestContext, request: secretsmanager.CreateSecretRequest) -> None:
        raise AssertionError("only asked with what it refuses")

    async def get_secret_value(
        self, context: RequestContext, request: secretsmanager.GetSecretValueRequest
    ) -> secretsmanager.GetSecretValueResponse:
        return secretsmanager.GetSecretValueResponse(secret_binary=b"\x00\xff", created_date=NOON)


class Parameters(AwsService):
    api = ssm.API

    async def put_parameter(self, context: RequestContext, request: ssm.PutParameterRequest) -> ssm.PutParameterResult:
        return ssm.PutParameterResult(version=1, tier=request.tier)


class Logs(AwsService):
    api = logs.API

    async def create_log_group(self, context: RequestContext, request: logs.CreateLogGroupRequest) -> None:
        return None

    async def start_live_tail(self, context: RequestContext, request: Any) -> None:
        raise AssertionError("an event stream is never called")


def all_services() -> list[AwsService]:
    """One of each."""
    kinds = (Clusters, TaskDefinitions, Registry, Tokens, Roles, Kubernetes, Metrics, Names, Secrets, Parameters, Logs)
    return [kind() for kind in kinds]
