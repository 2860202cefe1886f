"""Services by the Cloud Map namespace that they are found in.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListServicesByNamespace.html
"""

from __future__ import annotations

from contracts.aws import ecs
from contracts.records.discovery import Namespace
from services.scheduler.api.base import EcsBase
from services.scheduler.decisions import names
from services.scheduler.decisions.pages import page
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

USUAL_PAGE = 10


class Namespaces(EcsBase):
    """ListServicesByNamespace."""

    async def list_services_by_namespace(
        self, context: RequestContext, request: ecs.ListServicesByNamespaceRequest
    ) -> ecs.ListServicesByNamespaceResponse:
        """The services of all clusters whose registry (serviceRegistries) is a Cloud Map service of the namespace (its
        name or ARN). Raises NamespaceNotFoundException."""
        self.world.require_connection()
        where = (context.account, context.region)
        namespace = self._namespace(context, request.namespace)
        inside = {s.id for s in self.world.discovery_services.records(*where) if s.namespace == namespace.id}
        arns = sorted(
            names.arn(*where, "service", service.cluster, service.name)
            for service in self.world.services.records(*where)
            if service.status != "INACTIVE"
            and any(
                names.last_part(registry.get("registryArn") or "") in inside
                for registry in service.request.get("serviceRegistries") or ()
            )
            and self.world.shown(*where, service.cluster)
        )
        shown, token = page(arns, request.next_token, request.max_results or USUAL_PAGE)
        return ecs.ListServicesByNamespaceResponse(service_arns=shown, next_token=token)

    def _namespace(self, context: RequestContext, reference: str) -> Namespace:
        wanted = names.last_part(reference)
        for namespace in self.world.namespaces.records(context.account, context.region):
            if wanted == (namespace.id if reference.startswith("arn:") else namespace.name):
                return namespace
        raise AwsError("NamespaceNotFoundException", "The specified namespace wasn't found.")
