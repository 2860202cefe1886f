"""ECR as boto3 sees it: a client, and a push by the API alone."""

from __future__ import annotations

import asyncio
import functools

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from tests.builders.images import digest_of
from tests.builders.registry import KEY, SECRET


class Boto:
    """boto3's client, a thread a call."""

    def __init__(self, port: int, key: str = KEY, token: str | None = None) -> None:
        self.client = boto3.client(
            "ecr",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=SECRET,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def __getattr__(self, operation: str):
        async def call(**members):
            return await asyncio.to_thread(functools.partial(getattr(self.client, operation), **members))

        return call

    async def refused(self, operation: str, **members) -> str:
        """The code of the error that this call ends with."""
        with pytest.raises(botocore.exceptions.ClientError) as error:
            await getattr(self, operation)(**members)
        self.message = error.value.response["Error"]["Message"]
        return error.value.response["Error"]["Code"]


async def upload(ecr: Boto, name: str, data: bytes, parts: int = 1) -> str:
    upload_id = (await ecr.initiate_layer_upload(repositoryName=name))["uploadId"]
    step = -(-len(data) // parts)
    for first in range(0, len(data), step):
        part = data[first : first + step]
        last = first + len(part) - 1
        await ecr.upload_layer_part(
            repositoryName=name, uploadId=upload_id, partFirstByte=first, partLastByte=last, layerPartBlob=part
        )
    digest = digest_of(data)
    done = await ecr.complete_layer_upload(repositoryName=name, uploadId=upload_id, layerDigests=[digest])
    assert done["layerDigest"] == digest
    return digest


async def put(ecr: Boto, name: str, image, tag: str | None = None):
    for data in image.blobs.values():
        if not await available(ecr, name, digest_of(data)):
            await upload(ecr, name, data)
    tagged = {"imageTag": tag} if tag else {}
    return (await ecr.put_image(repositoryName=name, imageManifest=image.manifest.decode(), **tagged))["image"]


async def available(ecr: Boto, name: str, digest: str) -> bool:
    found = await ecr.batch_check_layer_availability(repositoryName=name, layerDigests=[digest])
    return found["layers"][0]["layerAvailability"] == "AVAILABLE"
