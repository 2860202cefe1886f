"""What CreateService and UpdateService refuse, and the defaults they fill in.

https://docs.aws.amazon.com/apprunner/latest/api/API_CreateService.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from services.shared.errors import AwsError

DEFAULT_PORT = "8080"
_CPU = {"0.25 vCPU": 256, "0.5 vCPU": 512, "1 vCPU": 1024, "2 vCPU": 2048, "4 vCPU": 4096}
_MEMORY = {f"{gb} GB": int(float(gb) * 1024) for gb in ("0.5", "1", "2", "3", "4", "6", "8", "10", "12")}
#: Which memory (MiB) goes with which cpu. https://docs.aws.amazon.com/apprunner/latest/dg/architecture.html
_TOGETHER = {
    256: (512, 1024),
    512: (1024,),
    1024: (2048, 3072, 4096),
    2048: (4096, 6144),
    4096: (8192, 10240, 12288),
}
_HEALTH = {
    "Protocol": "TCP",
    "Path": "/",
    "Interval": 5,
    "Timeout": 2,
    "HealthyThreshold": 1,
    "UnhealthyThreshold": 5,
}
_ECR = re.compile(
    r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([^:@]+)(?::([^@]+))?(?:@(sha256:[0-9a-f]{64}))?\Z"
)


#: As our own registry names its images on this machine; another account's or region's have those before the name.
_LOCAL = re.compile(
    r"(?:localhost|127\.0\.0\.1)(?::\d{1,5})?/(?:(\d{12})\.([a-z]{2}(?:-[a-z]+)+-\d+)/)?"
    r"([^:@]+)(?::([^@]+))?(?:@(sha256:[0-9a-f]{64}))?\Z"
)
_HERE = ("000000000000", "us-east-1")


def invalid(message: str) -> AwsError:
    """The error for a request that makes no sense."""
    return AwsError("InvalidRequestException", message)


class EcrImage:
    """An image of a repository: by tag or by digest."""

    def __init__(self, account: str, region: str, repository: str, tag: str, digest: str) -> None:
        self.account, self.region, self.repository = account, region, repository
        self.tag, self.digest = tag, digest

    def pinned(self, digest: str) -> str:
        """The reference of this very image."""
        return f"{self.account}.dkr.ecr.{self.region}.amazonaws.com/{self.repository}@{digest}"


def ecr_image(identifier: str) -> EcrImage | None:
    """What an image identifier names, if it is of a private repository. No tag is `latest`."""
    found = _ECR.match(identifier) or _LOCAL.match(identifier)
    if found is None:
        return None
    account, region, repository, tag, digest = found.groups()
    return EcrImage(
        account or _HERE[0], region or _HERE[1], repository, "" if digest else tag or "latest", digest or ""
    )


def source(given: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A SourceConfiguration (wire form), checked, with App Runner's defaults."""
    if given.get("CodeRepository"):
        raise invalid("SourceConfiguration.CodeRepository: Roadstead builds no code yet; use ImageRepository.")
    result = {**(before or {}), **given}
    image = result.get("ImageRepository")
    if not image:
        raise invalid("SourceConfiguration must have an ImageRepository.")
    kind, identifier = image["ImageRepositoryType"], image["ImageIdentifier"]
    known = ecr_image(identifier)
    if kind == "ECR" and known is None:
        raise invalid(f"ImageRepository.ImageIdentifier: {identifier} is no image of a private ECR repository.")
    if kind == "ECR_PUBLIC" and not identifier.startswith("public.ecr.aws/"):
        raise invalid(f"ImageRepository.ImageIdentifier: {identifier} is no image of ECR Public.")
    result.setdefault("AutoDeploymentsEnabled", kind == "ECR" and known is not None and bool(known.tag))
    if result["AutoDeploymentsEnabled"] and (kind != "ECR" or known is None or not known.tag):
        raise invalid("AutoDeploymentsEnabled: only an image of a private ECR repository, by tag, can be followed.")
    image["ImageConfiguration"] = _image_configuration(image.get("ImageConfiguration") or {})
    return result


def _image_configuration(given: Mapping[str, Any]) -> dict[str, Any]:
    port = given.get("Port", DEFAULT_PORT)
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise invalid(f"ImageConfiguration.Port: {port} is no port.")
    names = [*given.get("RuntimeEnvironmentVariables", ()), *given.get("RuntimeEnvironmentSecrets", ())]
    for name in names:
        if name.startswith("AWSAPPRUNNER"):
            raise invalid(f"ImageConfiguration: names that begin with AWSAPPRUNNER are reserved ({name}).")
        if names.count(name) > 1:
            raise invalid(f"ImageConfiguration: {name} is a variable and a secret.")
    return {**given, "Port": port}


def instance(given: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An InstanceConfiguration, in ECS units and MiB as DescribeService shows them; 1 vCPU and 2 GB by default."""
    merged = {"Cpu": "1024", "Memory": "2048", **(before or {}), **given}
    cpu = _CPU.get(merged["Cpu"]) or int(merged["Cpu"])
    memory = _MEMORY.get(merged["Memory"]) or int(merged["Memory"])
    if memory not in _TOGETHER[cpu]:
        allowed = ", ".join(map(str, _TOGETHER[cpu]))
        raise invalid(f"InstanceConfiguration.Memory: {memory} does not go with Cpu {cpu}; {allowed} does.")
    return {**merged, "Cpu": str(cpu), "Memory": str(memory)}


def health_check(given: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A HealthCheckConfiguration with App Runner's defaults."""
    merged = {**_HEALTH, **(before or {}), **given}
    if not merged["Path"].startswith("/"):
        raise invalid("HealthCheckConfiguration.Path must begin with a slash.")
    return merged


def network(given: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A NetworkConfiguration: public, reaching out by itself, which is what there is."""
    merged = {
        "EgressConfiguration": {"EgressType": "DEFAULT"},
        "IngressConfiguration": {"IsPubliclyAccessible": True},
        "IpAddressType": "IPV4",
        **(before or {}),
        **given,
    }
    if merged["EgressConfiguration"].get("EgressType", "DEFAULT") != "DEFAULT":
        raise invalid("NetworkConfiguration.EgressConfiguration: Roadstead has no VPC connectors yet.")
    if not merged["IngressConfiguration"].get("IsPubliclyAccessible", True):
        raise invalid("NetworkConfiguration.IngressConfiguration: Roadstead has no private services yet.")
    if merged["IpAddressType"] != "IPV4":
        raise invalid("NetworkConfiguration.IpAddressType: Roadstead has IPV4 only.")
    return merged
