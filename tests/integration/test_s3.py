"""The client of S3 against a server of it, and with boto3 as the judge of what it wrote."""

from __future__ import annotations

import os
from pathlib import Path

import aiohttp
import boto3
import pytest
from botocore.config import Config
from yarl import URL

from services.shared.s3 import (
    Part,
    S3Away,
    S3Client,
    S3Denied,
    S3Error,
    S3NotFound,
    S3Refused,
    S3Settings,
    S3Taken,
)
from services.shared.s3.bucket import SMALLEST_PART
from tests.builders.seaweed import BUCKET, KEY, READER, SECRET, Seaweed

STRANGE = "a key/with +signs/ümläut & %25?=#.txt"


@pytest.fixture(scope="module")
def name() -> str:
    return BUCKET


@pytest.fixture
async def bucket(seaweed: Seaweed, name: str):
    client = S3Client(seaweed.settings())
    yield client.bucket(name)
    await client.close()


@pytest.fixture(scope="module")
def boto(seaweed: Seaweed):
    return boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}),
    )


async def content(body) -> bytes:
    async with body:
        return b"".join([chunk async for chunk in body])


async def test_what_is_put_is_there_for_others_too(bucket, boto, name):
    etag = await bucket.put(STRANGE, b"content", metadata={"said": "hello"})
    theirs = boto.get_object(Bucket=name, Key=STRANGE)
    assert (theirs["Body"].read(), theirs["ETag"], theirs["Metadata"]) == (b"content", etag, {"said": "hello"})
    found = await bucket.head(STRANGE)
    assert (found.size, found.etag, found.metadata) == (7, etag, {"said": "hello"})
    assert found.modified == theirs["LastModified"].timestamp()


async def test_what_others_put_is_read_whole_or_in_part(bucket, boto, name):
    data = os.urandom(300_000)
    boto.put_object(Bucket=name, Key="theirs", Body=data)
    assert await bucket.read("theirs") == data
    assert await content(bucket.get("theirs", 100, 199)) == data[100:200]
    async with bucket.get("theirs", 299_000) as body:
        assert (body.size, body.total) == (1000, 300_000)
        assert b"".join([chunk async for chunk in body]) == data[299_000:]
    with pytest.raises(S3Error, match="no more than 1000 are taken"):
        await bucket.read("theirs", limit=1000)
    with pytest.raises(S3Refused) as beyond:
        await content(bucket.get("theirs", 300_000))
    assert beyond.value.status == 416


async def test_content_that_comes_in_chunks_is_put_as_it_comes(bucket):
    async def chunks():
        for number in range(40):
            yield bytes([number]) * 10_000

    await bucket.put("chunks", chunks, 400_000)
    assert await bucket.read("chunks") == b"".join(bytes([n]) * 10_000 for n in range(40))
    await bucket.put("nothing", b"")
    assert await bucket.read("nothing") == b""


async def test_parts_become_an_object_when_they_are_completed(bucket):
    parts = [os.urandom(SMALLEST_PART), os.urandom(1000)]
    upload = await bucket.begin("parts")
    put = [await bucket.put_part("parts", upload, number, data) for number, data in enumerate(parts, 1)]
    assert await bucket.parts("parts", upload) == put
    assert [(each.key, each.id) for each in await bucket.unfinished("parts")] == [("parts", upload)]
    with pytest.raises(S3NotFound):
        await bucket.head("parts")
    etag = await bucket.complete("parts", upload, put)
    assert (await bucket.head("parts")).etag == etag
    assert await bucket.read("parts") == b"".join(parts)
    assert await bucket.unfinished("parts") == []


async def test_an_upload_that_is_aborted_leaves_nothing(bucket):
    upload = await bucket.begin("aborted")
    part = await bucket.put_part("aborted", upload, 1, b"data")
    await bucket.abort("aborted", upload)
    await bucket.abort("aborted", upload)
    assert await bucket.unfinished("aborted") == []
    with pytest.raises(S3NotFound):
        await bucket.complete("aborted", upload, [part])
    with pytest.raises(S3NotFound):
        await bucket.put_part("aborted", upload, 2, b"more")


async def test_parts_that_are_too_small_or_not_there_make_no_object(bucket):
    upload = await bucket.begin("small")
    small = [await bucket.put_part("small", upload, number, b"data") for number in (1, 2)]
    for parts in (small, [Part(7, '"0"')]):
        with pytest.raises(S3Refused):
            await bucket.complete("small", upload, parts)
    with pytest.raises(S3NotFound):
        await bucket.head("small")


async def test_a_listing_has_all_pages_in_order(bucket):
    keys = [f"list/{number:02}" for number in range(7)]
    for key in keys:
        await bucket.put(key, b"x")
    page = await bucket.page("list/", most=3)
    assert ([each.key for each in page.entries], bool(page.next)) == (keys[:3], True)
    assert [e.key for e in (await bucket.page("list/", most=3, next=page.next)).entries] == keys[3:6]
    assert [each.key async for each in bucket.list("list/")] == keys
    assert [each.key async for each in bucket.list("list/", after="list/04")] == keys[5:]
    assert (await bucket.page("li", delimiter="/")).prefixes == ("list/",)
    await bucket.delete_many([*keys, "list/was-never-there"])
    assert [each.key async for each in bucket.list("list/")] == []


async def test_a_copy_is_made_on_the_server(bucket, monkeypatch):
    data = os.urandom(2 * SMALLEST_PART + 17)
    await bucket.put(STRANGE, data)
    await bucket.copy(bucket, STRANGE, "copy", len(data))
    assert await bucket.read("copy") == data
    monkeypatch.setattr("services.shared.s3.bucket.LARGEST_COPY", 1000)
    monkeypatch.setattr("services.shared.s3.bucket.COPIED_PART", SMALLEST_PART)
    await bucket.copy(bucket, STRANGE, "copy of parts", len(data))
    assert await bucket.read("copy of parts") == data
    with pytest.raises(S3NotFound):
        await bucket.copy(bucket, "not-there", "copy", 1)


async def test_what_must_be_new_is_not_written_over(bucket):
    await bucket.put("once", b"first", new=True)
    with pytest.raises(S3Taken):
        await bucket.put("once", b"second", new=True)
    assert await bucket.read("once") == b"first"


async def test_a_presigned_url_is_good_for_whoever_has_it(bucket):
    await bucket.put(STRANGE, b"content")
    url = bucket.url(STRANGE, 60)
    async with aiohttp.ClientSession() as session:
        async with session.get(URL(url, encoded=True)) as answer:
            assert await answer.read() == b"content"
        async with session.get(URL(url.replace("X-Amz-Expires=60", "X-Amz-Expires=61"), encoded=True)) as answer:
            assert answer.status == 403


async def test_errors_say_what_is_wrong(bucket, seaweed, name):
    with pytest.raises(S3NotFound):
        await bucket.read("not-there")
    await bucket.delete("not-there")
    cases = [
        ({"access_key_id": READER}, name, S3Denied),
        ({"secret_access_key": "wrong"}, name, S3Denied),
        ({}, "no-such-bucket", S3NotFound),
        ({"endpoint": "http://127.0.0.1:1", "attempts": 2}, name, S3Away),
    ]
    for settings, where, kind in cases:
        client = S3Client(seaweed.settings(**settings))
        with pytest.raises(kind) as error:
            await client.bucket(where).put("key", b"data")
        assert where in str(error.value)
        assert SECRET not in f"{error.value}{client.settings}{client.settings.credentials}"
        if settings.get("access_key_id") != READER:
            with pytest.raises(kind):
                await client.bucket(where).check()
        await client.close()


def test_the_secret_may_be_in_a_file(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("a secret\n")
    settings = S3Settings(access_key_id="id", secret_access_key_file=str(file))
    assert settings.credentials.secret == "a secret"
