"""A client of S3 and of what speaks like it: objects, multipart uploads, listings. No domain words here.

    client = S3Client(S3Settings(endpoint="http://127.0.0.1:8333", access_key_id="…", secret_access_key="…"))
    bucket = client.bucket("images")
    await bucket.put("key", b"data")
    async with bucket.get("key", first=2) as body:
        async for chunk in body: …
    await client.close()

Requests are signed (signature version 4), tried again while the server is away or asks to slow down, and fail with an
error that has a type. https://docs.aws.amazon.com/AmazonS3/latest/API/
"""

from services.shared.s3.body import Body
from services.shared.s3.bucket import Bucket, Entry, Found, Page, Part, S3Client, Unfinished
from services.shared.s3.errors import S3Away, S3Denied, S3Error, S3Full, S3NotFound, S3Refused, S3Taken
from services.shared.s3.settings import S3Settings

__all__ = [
    "Body",
    "Bucket",
    "Entry",
    "Found",
    "Page",
    "Part",
    "S3Away",
    "S3Client",
    "S3Denied",
    "S3Error",
    "S3Full",
    "S3NotFound",
    "S3Refused",
    "S3Settings",
    "S3Taken",
    "Unfinished",
]
