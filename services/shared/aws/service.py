"""What a service that implements an AWS API looks like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from contracts.aws.model import Api
from services.shared.aws.context import RequestContext

#: An operation bound to its service: the output Struct, or None where the model has none.
OperationMethod = Callable[[RequestContext, Any], Awaitable[Any]]


class AwsService:
    """The base of a class that implements an API, or part of it: one coroutine method an operation.

    The method's name is the operation's in snake_case (as in boto3), its arguments the context and the input
    Struct, its result the output Struct, or None where the model has no output. Several such classes can be
    mixed into one. What the class does not have is answered with 501.

        class Clusters(AwsService):
            api = ecs.API

            async def create_cluster(
                self, context: RequestContext, request: ecs.CreateClusterRequest
            ) -> ecs.CreateClusterResponse: ...
    """

    api: ClassVar[Api]


def operation_methods(service: AwsService) -> dict[str, OperationMethod]:
    """The operations a service implements, by name."""
    found = {name: getattr(service, op.method, None) for name, op in service.api.operations.items()}
    return {name: method for name, method in found.items() if method is not None}
