"""The registry's HTTP beside the ECR API: OCI distribution under /v2/, and layers by signed URL."""

from services.registry.routes.distribution import Distribution

__all__ = ["Distribution"]
