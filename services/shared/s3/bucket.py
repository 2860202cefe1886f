"""The operations on a bucket."""

from __future__ import annotations

import base64
import time
from calendar import timegm
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from hashlib import md5
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import msgspec

from services.shared.aws.xml import xml_text
from services.shared.s3.body import Body, read_all
from services.shared.s3.errors import S3Error, S3NotFound, error_of, kind_of
from services.shared.s3.settings import S3Settings
from services.shared.s3.transport import Request, Source, Transport

MOST_DELETED = 1000
LARGEST_COPY = 5 * 1024**3
COPIED_PART = 1024**3
SMALLEST_PART = 5 * 1024**2
"""Of all parts of a multipart upload but the last."""
MOST_PARTS = 10_000
_META = "x-amz-meta-"
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Found(msgspec.Struct, frozen=True):
    """An object as HEAD tells of it: bytes, when it was last written (epoch seconds), metadata (lower case names)."""

    size: int
    etag: str
    modified: float
    metadata: Mapping[str, str]


class Entry(msgspec.Struct, frozen=True):
    """An object in a listing."""

    key: str
    size: int
    etag: str
    modified: float


class Page(msgspec.Struct, frozen=True):
    """Part of a listing: objects, and common prefixes where a delimiter was given. `next`: where the next one begins,
    empty at the end."""

    entries: tuple[Entry, ...]
    prefixes: tuple[str, ...]
    next: str


class Part(msgspec.Struct, frozen=True):
    """A part of a multipart upload; numbers begin with 1."""

    number: int
    etag: str
    size: int = 0


class Unfinished(msgspec.Struct, frozen=True):
    """A multipart upload that is neither complete nor aborted. `begun` in epoch seconds."""

    key: str
    id: str
    begun: float


class S3Client:
    """One S3, with one set of keys. Raises SettingsError when the settings don't do."""

    def __init__(self, settings: S3Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._transport = Transport(settings, clock)

    def bucket(self, name: str) -> Bucket:
        """A bucket; whether it is there is not asked."""
        return Bucket(self._transport, name, self.settings.attempts)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


class Bucket:
    """A bucket. All of it raises S3Error: S3NotFound, S3Denied, S3Taken, S3Full, S3Away, S3Refused."""

    def __init__(self, transport: Transport, name: str, attempts: int) -> None:
        self._transport = transport
        self._attempts = attempts
        self.name = name

    async def check(self) -> None:
        """Whether it is there, and may be seen."""
        await self._call("HEAD")

    async def create(self) -> None:
        """Make it."""
        await self._call("PUT")

    async def head(self, key: str) -> Found:
        """What is known of an object."""
        headers, _ = await self._call("HEAD", key)
        modified = parsedate_to_datetime(headers["Last-Modified"]).timestamp() if "Last-Modified" in headers else 0.0
        metadata = {name.lower()[len(_META) :]: headers[name] for name in headers if name.lower().startswith(_META)}
        return Found(int(headers.get("Content-Length", 0)), headers.get("ETag", ""), modified, metadata)

    def get(self, key: str, first: int = 0, last: int | None = None) -> Body:
        """An object's content, or the bytes from `first` to `last`, both included: a context; iterate over it."""
        return Body(self._transport, self.name, key, first, last, self._attempts)

    async def read(self, key: str, limit: int | None = None) -> bytes:
        """A small object, whole. Raises S3Error (TooLong) when it has more than `limit` bytes."""
        async with self.get(key) as body:
            return await read_all(body, limit)

    async def put(
        self,
        key: str,
        data: Source,
        size: int | None = None,
        *,
        new: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Write an object; its ETag. `data` are bytes, or a function that gives chunks of `size` bytes in all, anew for
        each attempt. `new`: only if there is none (S3Taken) – where the server knows of conditions."""
        headers = {_META + name: value for name, value in (metadata or {}).items()}
        if new:
            headers["If-None-Match"] = "*"
        answer, _ = await self._call("PUT", key, headers=headers, body=data, size=size)
        return answer.get("ETag", "")

    async def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        try:
            await self._call("DELETE", key)
        except S3NotFound as error:
            if error.code == "NoSuchBucket":
                raise

    async def delete_many(self, keys: Iterable[str]) -> None:
        """Delete objects, a thousand a request. Raises the first error that the server told, after all."""
        every = list(keys)
        failed: S3Error | None = None
        for start in range(0, len(every), MOST_DELETED):
            some = every[start : start + MOST_DELETED]
            objects = "".join(f"<Object><Key>{xml_text(key)}</Key></Object>" for key in some)
            body = f"<Delete {_NAMESPACE}><Quiet>true</Quiet>{objects}</Delete>".encode()
            checksum = base64.b64encode(md5(body, usedforsecurity=False).digest()).decode()
            _, answer = await self._call("POST", query={"delete": ""}, headers={"Content-MD5": checksum}, body=body)
            for each in _all(_parsed(answer), "Error"):
                code = _text(each, "Code")
                message = f"{_text(each, 'Key')} can't be deleted: {_text(each, 'Message')}"
                failed = failed or kind_of(200, code)(message, code, 200)
        if failed is not None:
            raise failed

    async def page(
        self, prefix: str = "", *, delimiter: str = "", after: str = "", next: str = "", most: int = 1000
    ) -> Page:
        """Part of a listing, in the order of keys (UTF-8). `next` is a page's `next`; `after` a key to begin behind."""
        said = {"prefix": prefix, "delimiter": delimiter, "start-after": after, "continuation-token": next}
        query = {name: value for name, value in said.items() if value}
        _, answer = await self._call("GET", query={"list-type": "2", "max-keys": str(most), **query})
        root = _parsed(answer)
        entries = tuple(
            Entry(
                _text(each, "Key"),
                int(_text(each, "Size") or 0),
                _text(each, "ETag"),
                _time(_text(each, "LastModified")),
            )
            for each in _all(root, "Contents")
        )
        prefixes = tuple(_text(each, "Prefix") for each in _all(root, "CommonPrefixes"))
        return Page(entries, prefixes, _text(root, "NextContinuationToken"))

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[Entry]:
        """All objects whose keys begin so, in the order of keys."""
        page = await self.page(prefix, after=after)
        while True:
            for entry in page.entries:
                yield entry
            if not page.next:
                return
            page = await self.page(prefix, next=page.next)

    async def copy(self, source: Bucket, key: str, target: str, size: int) -> str:
        """Copy an object of so many bytes on the server; the copy's ETag. What is too large for one copy goes in parts,
        and is there when all are."""
        place = {"x-amz-copy-source": quote(f"/{source.name}/{key}", safe="/-_.~")}
        if size <= LARGEST_COPY:
            return await self._copied(target, {}, place)
        upload = await self.begin(target)
        try:
            parts = []
            for number, start in enumerate(range(0, size, COPIED_PART), 1):
                headers = {**place, "x-amz-copy-source-range": f"bytes={start}-{min(size, start + COPIED_PART) - 1}"}
                etag = await self._copied(target, {"partNumber": str(number), "uploadId": upload}, headers)
                parts.append(Part(number, etag))
            return await self.complete(target, upload, parts)
        except BaseException:
            await self.abort(target, upload)
            raise

    async def _copied(self, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
        _, answer = await self._call("PUT", key, query=query, headers=headers)
        return _text(_succeeded(answer, f"copy to {self.name}/{key}"), "ETag")

    async def begin(self, key: str, metadata: Mapping[str, str] | None = None) -> str:
        """Begin a multipart upload; its id. An attempt whose answer was lost may leave another: `unfinished`."""
        headers = {_META + name: value for name, value in (metadata or {}).items()}
        _, answer = await self._call("POST", key, query={"uploads": ""}, headers=headers)
        return _text(_parsed(answer), "UploadId")

    async def put_part(self, key: str, upload: str, number: int, data: Source, size: int | None = None) -> Part:
        """Write a part (again, if it is there): at least SMALLEST_PART but for the last one."""
        query = {"partNumber": str(number), "uploadId": upload}
        headers, _ = await self._call("PUT", key, query=query, body=data, size=size)
        return Part(number, headers.get("ETag", ""), len(data) if not callable(data) else size or 0)

    async def parts(self, key: str, upload: str) -> list[Part]:
        """The parts that are there, by number."""
        found: list[Part] = []
        marker = ""
        while True:
            query = {"uploadId": upload, **({"part-number-marker": marker} if marker else {})}
            _, answer = await self._call("GET", key, query=query)
            root = _parsed(answer)
            for each in _all(root, "Part"):
                found.append(Part(int(_text(each, "PartNumber")), _text(each, "ETag"), int(_text(each, "Size") or 0)))
            marker = _text(root, "NextPartNumberMarker")
            if _text(root, "IsTruncated") != "true" or not marker:
                return found

    async def complete(self, key: str, upload: str, parts: Sequence[Part]) -> str:
        """Make the parts an object; its ETag. S3NotFound when the upload is not there (any more): an attempt whose
        answer was lost may have completed it."""
        each = "".join(
            f"<Part><PartNumber>{p.number}</PartNumber><ETag>{xml_text(p.etag)}</ETag></Part>" for p in parts
        )
        body = f"<CompleteMultipartUpload {_NAMESPACE}>{each}</CompleteMultipartUpload>".encode()
        _, answer = await self._call("POST", key, query={"uploadId": upload}, body=body)
        return _text(_succeeded(answer, f"complete {self.name}/{key}"), "ETag")

    async def abort(self, key: str, upload: str) -> None:
        """Drop a multipart upload with its parts, if it is there."""
        try:
            await self._call("DELETE", key, query={"uploadId": upload})
        except S3NotFound as error:
            if error.code == "NoSuchBucket":
                raise

    async def unfinished(self, prefix: str = "") -> list[Unfinished]:
        """The multipart uploads that go on, or that nobody goes on with."""
        found: list[Unfinished] = []
        markers: dict[str, str] = {}
        while True:
            query = {"uploads": "", **({"prefix": prefix} if prefix else {}), **markers}
            _, answer = await self._call("GET", query=query)
            root = _parsed(answer)
            for each in _all(root, "Upload"):
                found.append(Unfinished(_text(each, "Key"), _text(each, "UploadId"), _time(_text(each, "Initiated"))))
            markers = {
                "key-marker": _text(root, "NextKeyMarker"),
                "upload-id-marker": _text(root, "NextUploadIdMarker"),
            }
            if _text(root, "IsTruncated") != "true" or not markers["key-marker"]:
                return found

    def url(self, key: str, seconds: int) -> str:
        """Where whoever has the URL may get the object for so many seconds (a week at most)."""
        return self._transport.url(self.name, key, seconds)

    async def _call(self, method: str, key: str = "", **more: Any) -> tuple[Mapping[str, str], bytes]:
        return await self._transport.call(Request(method, self.name, key, **more))


def _parsed(answer: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(answer)
    except ElementTree.ParseError as error:
        raise S3Error(f"S3 sent an answer that is no XML: {error}", "NotXml", 200) from None


def _succeeded(answer: bytes, what: str) -> ElementTree.Element:
    """Copies and completions are answered with 200 before they are done: the body tells how they ended."""
    root = _parsed(answer)
    if root.tag.rpartition("}")[2] == "Error":
        raise error_of(500 if _text(root, "Code") == "InternalError" else 200, answer, what)
    return root


def _all(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [each for each in root if each.tag.rpartition("}")[2] == name]


def _text(root: ElementTree.Element, name: str) -> str:
    return next((each.text or "" for each in _all(root, name)), "")


def _time(text: str) -> float:
    """Epoch seconds of `2026-11-27T23:52:37.123Z`, to the second."""
    return float(timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))) if text else 0.0
