"""The registry: ECR's API and the OCI distribution API over one store of images."""
