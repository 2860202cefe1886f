"""Objects in S3 that identity reads for tasks, as their roles may: against a real S3 server, over a real NATS."""

import base64
import socket

import msgspec
import pytest

from contracts.rpc.identity import RESOLVE_SECRETS, ResolveSecrets
from services.identity.handlers.injection import LARGEST_FILES
from services.shared.bus import CommandRefused
from services.shared.s3 import S3Client
from services.shared.sealing import Asker
from tests.builders.seaweed import READER, Seaweed
from tests.integration.test_identity_iam import TRUST_TASKS, allow, doors

FILE = "DB_HOST=db.local\n"


@pytest.fixture(scope="module")
def bucket(seaweed: Seaweed) -> str:
    return seaweed.bucket()


class Stage:
    """An agent that asks identity for files as the role `files`."""

    def __init__(self, door, agent, s3, bucket) -> None:
        self.door, self._agent, self._s3, self.bucket = door, agent, s3, bucket

    async def put(self, key: str, content: bytes = FILE.encode()) -> str:
        """An object; its ARN."""
        await self._s3.bucket(self.bucket).put(key, content)
        return f"arn:aws:s3:::{self.bucket}/{key}"

    async def role(self, *statements) -> None:
        await self.door.role("files", *statements, trust=TRUST_TASKS)

    async def files(self, *arns: str) -> dict[str, str]:
        asker = Asker()
        request = ResolveSecrets(
            role_arn="arn:aws:iam::000000000000:role/files",
            task="t1",
            account="000000000000",
            region="us-east-1",
            values_from=[],
            environment_files=list(arns),
            public_key=base64.b64encode(asker.public).decode(),
        )
        reply = await self._agent.call(RESOLVE_SECRETS, request, 30)
        return msgspec.json.decode(asker.open(base64.b64decode(reply.sealed), "t1"))

    async def why(self, *arns: str) -> str:
        """What is said against it."""
        with pytest.raises(CommandRefused) as refused:
            await self.files(*arns)
        assert refused.value.code == "ResourceInitializationError"
        said = "failed to download env files: service call has been retried 1 time(s): "
        assert refused.value.message.startswith(said), refused.value.message
        return refused.value.message.removeprefix(said)


@pytest.fixture
async def staged(nats_platform, tmp_path, seaweed, bucket):
    """Makes stages, with an S3 of these settings; None: without one."""
    writer, agent = S3Client(seaweed.settings()), await nats_platform.bus("agent")

    async def stage(door) -> Stage:
        return Stage(door, agent, writer, bucket)

    yield stage
    await writer.close()


@pytest.fixture
async def stage(nats_platform, tmp_path, seaweed, staged):
    async with doors(nats_platform, tmp_path, seaweed.settings(access_key_id=READER)) as door:
        yield await staged(door)


async def test_files_are_read_as_the_role_may_and_come_sealed(stage):
    first, second = await stage.put("a/shop.env"), await stage.put("b.env", b"")
    bucket = f"arn:aws:s3:::{stage.bucket}"
    await stage.role(allow("s3:GetObject", f"{bucket}/*"), allow("s3:GetBucketLocation", bucket))
    assert await stage.files(first, second) == {first: FILE, second: ""}


async def test_a_role_that_may_not_is_refused_naming_what_it_lacks(stage):
    arn = await stage.put("mine.env")
    bucket = f"arn:aws:s3:::{stage.bucket}"
    await stage.role(allow("s3:GetObject", f"{bucket}/other.env"), allow("s3:GetBucketLocation", bucket))
    assert await stage.why(arn) == (
        "operation error S3: GetObject, https response error StatusCode: 403, api error AccessDenied: User: "
        "arn:aws:sts::000000000000:assumed-role/files/t1 is not authorized to perform: s3:GetObject on resource: "
        f"{arn} because no identity-based policy allows the s3:GetObject action"
    )
    await stage.door.root("iam").delete_role_policy(RoleName="files", PolicyName="own")
    assert f"not authorized to perform: s3:GetBucketLocation on resource: {bucket}" in await stage.why(arn)


@pytest.mark.parametrize("way", ["open/../mine.env", "open/./a.env", "open//a.env", "../other/a.env", "/mine.env"])
async def test_a_key_that_a_server_could_take_for_another_is_none(stage, way):
    await stage.put("mine.env")
    bucket = f"arn:aws:s3:::{stage.bucket}"
    await stage.role(allow("s3:GetObject", f"{bucket}/*"), allow("s3:GetBucketLocation", bucket))
    assert await stage.why(f"{bucket}/{way}") == f"unable to parse bucket and key from the s3 ARN {bucket}/{way}"


async def test_what_is_not_there_is_no_text_or_too_large_is_told(stage):
    await stage.role(allow("s3:*"))
    nobody = f"arn:aws:s3:::{stage.bucket}/none.env"
    said = await stage.why(nobody)
    assert said.startswith("operation error S3: GetObject, https response error StatusCode: 404, api error NoSuchKey: ")
    assert await stage.why("arn:aws:s3:::no") == "unable to parse bucket and key from the s3 ARN arn:aws:s3:::no"
    binary = await stage.put("binary.env", b"A=\xff")
    assert await stage.why(binary) == f"{binary} is not UTF-8"
    half = b"A=" + b"a" * (LARGEST_FILES // 2)
    files = [await stage.put(f"{n}.env", half) for n in range(2)]
    assert "are taken" in await stage.why(*files)
    assert len(await stage.files(files[0])) == 1


async def test_without_an_s3_it_is_said_how_to_have_one(nats_platform, tmp_path, staged):
    async with doors(nats_platform, tmp_path) as door:
        stage = await staged(door)
        arn = await stage.put("shop.env")
        await stage.role(allow("s3:*"))
        assert await stage.why(arn) == "there is no S3 here: set ROADSTEAD_S3_ENDPOINT and its keys for identity"


async def test_an_s3_that_is_away_is_told_of(nats_platform, tmp_path, staged, seaweed):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = seaweed.settings(endpoint=f"http://127.0.0.1:{nobody.getsockname()[1]}", attempts=1)
        async with doors(nats_platform, tmp_path, away) as door:
            stage = await staged(door)
            await stage.role(allow("s3:*"))
            arn = f"arn:aws:s3:::{stage.bucket}/shop.env"
            assert (await stage.why(arn)).startswith("operation error S3: GetObject, api error ")
