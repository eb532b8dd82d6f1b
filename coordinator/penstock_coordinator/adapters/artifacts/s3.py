"""The store in a bucket of S3, or of what speaks like it.

    PREFIX/sha256/ab/cd/<hex>             the bytes
    PREFIX/sha256/ab/cd/<hex>.verified    beside what came in parts: they were read and have the digest
    PREFIX/blobs/<name>                   what the coordinator keeps for itself

What fits into one part is sent by one PUT whose signature names the SHA-256 of its content: S3 itself refuses other
bytes. S3 knows no SHA-256 of what comes in parts, so those are read once when they are complete, and count as there
only with the mark beside them. What is there is never overwritten.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from penstock_coordinator.ports import Dependency, DependencyState, Unavailable
from penstock_coordinator.ports.artifacts import (
    PARTS_PAGE,
    AlreadyThere,
    Digest,
    PartsMissing,
    PartUrl,
    SignedUrl,
    StoredObject,
    TooLarge,
    UnknownUpload,
    Upload,
    WrongDigest,
    checked_name,
    hex_of,
    is_digest,
    part_size_of,
    parts_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from types_aiobotocore_s3.client import S3Client

PART_BYTES = 16 << 20
URL_SECONDS = 15 * 60
READ_BYTES = 4 << 20
WHOLE = "put"
"""In place of an upload id: it is one PUT."""
_VERIFIED = ".verified"
_CONFIG = AioConfig(
    signature_version="s3v4",
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "max_attempts": 3},
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload"})


class BadBucketUrl(Exception):
    """The text says how it is written."""


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str
    prefix: str
    """Empty, or with a slash at its end."""
    endpoint: str | None = None
    region: str | None = None

    @classmethod
    def parse(cls, url: str) -> Bucket:
        """Of s3://bucket/prefix?endpoint=https://host:port&region=name. Raises `BadBucketUrl`."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or set(query) - {"endpoint", "region"}:
            raise BadBucketUrl(
                "write s3://bucket/prefix?endpoint=https://host:port&region=name; only the bucket is needed, and"
                " credentials are given as AWS names them (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            )
        prefix = parts.path.strip("/")
        endpoint, region = (query.get(name, [None])[0] for name in ("endpoint", "region"))
        return cls(parts.netloc, f"{prefix}/" if prefix else "", endpoint, region)


class S3ArtifactStore:
    """Made by `open_s3_store`."""

    def __init__(self, client: S3Client, bucket: Bucket, stack: contextlib.AsyncExitStack, part_bytes: int) -> None:
        self._client = client
        self._bucket = bucket.name
        self._prefix = bucket.prefix
        self._stack = stack
        self._part_bytes = part_bytes
        self._completing: dict[str, asyncio.Lock] = {}

    # --- uploads

    async def find(self, digest: Digest) -> StoredObject | None:
        with _away():
            head = await self._head(self._key(digest))
            if head is None or (_came_in_parts(head) and await self._head(self._key(digest) + _VERIFIED) is None):
                return None
            return StoredObject(digest, head["ContentLength"], int(head["LastModified"].timestamp() * 1e6))

    async def _head(self, key: str) -> Any | None:
        try:
            return await self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if _is_absent(error):
                return None
            raise

    async def begin(self, digest: Digest, size: int, media_type: str, upload_id: str = "") -> Upload:
        part_size = part_size_of(size, self._part_bytes)
        with _away():
            if size <= part_size:
                url = await self._whole_url(digest, size, media_type)
                return Upload(WHOLE, part_size, (PartUrl(1, 0, size, url),))
            there = await self._there(digest, upload_id, part_size) if upload_id else None
            if there is None:
                upload_id, there = await self._create(digest, media_type), {}
            missing = [part for part in parts_of(size, part_size) if there.get(part[0]) != part[2]][:PARTS_PAGE]
            urls = [PartUrl(*part, await self._part_url(digest, upload_id, part[0], part[2])) for part in missing]
            return Upload(upload_id, part_size, tuple(urls))

    async def _create(self, digest: Digest, media_type: str) -> str:
        content_type = media_type or "application/octet-stream"
        made = await self._client.create_multipart_upload(
            Bucket=self._bucket, Key=self._key(digest), ContentType=content_type
        )
        return made["UploadId"]

    async def _there(self, digest: Digest, upload_id: str, part_size: int) -> dict[int, int] | None:
        """Sizes by number; None: there is no such upload."""
        try:
            return {number: size async for number, size, _ in self._parts(digest, upload_id)}
        except ClientError as error:
            if _is_no_upload(error):
                return None
            raise

    async def _parts(self, digest: Digest, upload_id: str) -> AsyncIterator[tuple[int, int, str]]:
        """(number, size, etag) of what came."""
        pages = self._client.get_paginator("list_parts")
        async for page in pages.paginate(Bucket=self._bucket, Key=self._key(digest), UploadId=upload_id):
            for part in page.get("Parts", []):
                yield part["PartNumber"], part["Size"], part["ETag"]

    async def _whole_url(self, digest: Digest, size: int, media_type: str) -> SignedUrl:
        checksum = base64.b64encode(bytes.fromhex(hex_of(digest))).decode()
        content_type = media_type or "application/octet-stream"
        parameters: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": self._key(digest),
            "ContentType": content_type,
            "ContentLength": size,
            "ChecksumSHA256": checksum,
        }
        url = await self._client.generate_presigned_url("put_object", parameters, URL_SECONDS)
        return SignedUrl(url, (("Content-Type", content_type), ("x-amz-checksum-sha256", checksum)))

    async def _part_url(self, digest: Digest, upload_id: str, number: int, size: int) -> SignedUrl:
        parameters: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": self._key(digest),
            "UploadId": upload_id,
            "PartNumber": number,
            "ContentLength": size,
        }
        return SignedUrl(await self._client.generate_presigned_url("upload_part", parameters, URL_SECONDS))

    async def complete(self, digest: Digest, upload_id: str, etag: str | None = None) -> int:
        lock = self._completing.setdefault(digest, asyncio.Lock())
        try:
            async with lock:
                return await self._complete(digest, upload_id, etag)
        finally:
            if not lock.locked():
                self._completing.pop(digest, None)

    async def _complete(self, digest: Digest, upload_id: str, etag: str | None) -> int:
        if (there := await self.find(digest)) is not None:
            if upload_id != WHOLE:
                await self.abort(digest, upload_id)
            if etag is not None and (upload_id != WHOLE or not await self._has_etag(digest, etag)):
                raise AlreadyThere
            return there.size
        if upload_id == WHOLE:
            raise PartsMissing
        with _away():
            await self._join(digest, upload_id)
            key = self._key(digest)
            size = await self._check(key, digest)
            if size is None:
                await self._client.delete_object(Bucket=self._bucket, Key=key)
                raise WrongDigest
            await self._client.put_object(Bucket=self._bucket, Key=key + _VERIFIED, Body=b"")
            return size

    async def _has_etag(self, digest: Digest, etag: str) -> bool:
        """S3 tells it to whoever has sent all of the bytes, and to nobody by their SHA-256."""
        with _away():
            head = await self._head(self._key(digest))
        return bool(etag) and head is not None and head["ETag"].strip('"') == etag.strip('"')

    async def _join(self, digest: Digest, upload_id: str) -> None:
        try:
            parts = sorted([part async for part in self._parts(digest, upload_id)])
            sizes = [size for _, size, _ in parts]
            whole = [number for number, _, _ in parts] == list(range(1, len(parts) + 1))
            if not parts or not whole or len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]:
                raise PartsMissing
            await self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key(digest),
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": number, "ETag": etag} for number, _, etag in parts]},
            )
        except ClientError as error:
            if _is_no_upload(error):
                raise UnknownUpload from None
            if _code(error) in ("InvalidPart", "InvalidPartOrder", "EntityTooSmall"):
                raise PartsMissing from None
            raise

    async def _check(self, key: str, digest: Digest) -> int | None:
        """Read all of it, a piece at a time: its size, or None if it has another digest."""
        made, size = hashlib.sha256(), 0
        answer = await self._client.get_object(Bucket=self._bucket, Key=key)
        body = answer["Body"]
        async with body:
            hashing: asyncio.Future[None] | None = None
            while chunk := await body.read(READ_BYTES):
                if hashing is not None:
                    await hashing
                hashing = asyncio.ensure_future(asyncio.to_thread(made.update, chunk))
                size += len(chunk)
            if hashing is not None:
                await hashing
        return size if made.hexdigest() == hex_of(digest) else None

    async def abort(self, digest: Digest, upload_id: str) -> None:
        if upload_id == WHOLE:
            return
        with _away():
            try:
                await self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key(digest), UploadId=upload_id
                )
            except ClientError as error:
                if not _is_no_upload(error):
                    raise

    async def remove_uploads(self, before: int) -> int:
        removed = 0
        with _away():
            pages = self._client.get_paginator("list_multipart_uploads")
            async for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}sha256/"):
                for upload in page.get("Uploads", []):
                    if upload["Initiated"].timestamp() * 1e6 < before:
                        await self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        removed += 1
        return removed

    # --- bytes

    def _key(self, digest: Digest) -> str:
        name = hex_of(digest)
        return f"{self._prefix}sha256/{name[:2]}/{name[2:4]}/{name}"

    async def sign_download(self, digest: Digest) -> SignedUrl:
        parameters = {"Bucket": self._bucket, "Key": self._key(digest)}
        with _away():
            return SignedUrl(await self._client.generate_presigned_url("get_object", parameters, URL_SECONDS))

    async def get(self, digest: Digest, limit: int) -> bytes | None:
        return await self._read(self._key(digest), limit)

    async def _read(self, key: str, limit: int) -> bytes | None:
        with _away():
            try:
                answer = await self._client.get_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if _is_absent(error):
                    return None
                raise
            body = answer["Body"]
            async with body:
                if answer["ContentLength"] > limit:
                    raise TooLarge
                return await body.read()

    async def read(self, digest: Digest, offset: int, size: int) -> bytes | None:
        if size <= 0:
            return b""
        wanted = f"bytes={offset}-{offset + size - 1}"
        with _away():
            try:
                answer = await self._client.get_object(Bucket=self._bucket, Key=self._key(digest), Range=wanted)
            except ClientError as error:
                if _code(error) == "InvalidRange":
                    return b""
                if _is_absent(error):
                    return None
                raise
            body = answer["Body"]
            async with body:
                return (await body.read())[:size]

    async def put(self, content: bytes, media_type: str = "application/octet-stream") -> Digest:
        made = hashlib.sha256(content)
        digest = "sha256:" + made.hexdigest()
        with _away():
            await self._client.put_object(
                Bucket=self._bucket,
                Key=self._key(digest),
                Body=content,
                ContentType=media_type,
                ChecksumSHA256=base64.b64encode(made.digest()).decode(),
            )
        return digest

    async def objects(self, after: Digest | None, limit: int) -> list[StoredObject]:
        found: list[StoredObject] = []
        start = "" if after is None else self._key(after)
        with _away():
            pages = self._client.get_paginator("list_objects_v2")
            async for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}sha256/", StartAfter=start):
                for each in page.get("Contents", []):
                    digest = "sha256:" + each["Key"].rpartition("/")[2]
                    if is_digest(digest):
                        at = int(each["LastModified"].timestamp() * 1e6)
                        found.append(StoredObject(digest, each["Size"], at))
                    if len(found) == limit:
                        return found
        return found

    async def delete(self, digest: Digest) -> None:
        """The mark first: bytes without it are not there."""
        with _away():
            for key in (self._key(digest) + _VERIFIED, self._key(digest)):
                await self._client.delete_object(Bucket=self._bucket, Key=key)

    async def write_blob(self, name: str, content: bytes) -> None:
        with _away():
            await self._client.put_object(Bucket=self._bucket, Key=self._blob(name), Body=content)

    async def read_blob(self, name: str, limit: int) -> bytes | None:
        return await self._read(self._blob(name), limit)

    async def delete_blob(self, name: str) -> None:
        with _away():
            await self._client.delete_object(Bucket=self._bucket, Key=self._blob(name))

    async def probe(self) -> None:
        """By a read of what is not there, as its answer tells more than that of a HEAD: a bucket that is gone and
        credentials that are not known are no answer, and a refusal for want of the right to list is one."""
        with _away():
            try:
                answer = await self._client.get_object(Bucket=self._bucket, Key=self._blob("probe"))
            except ClientError as error:
                if _code(error) not in ("NoSuchKey", "AccessDenied"):
                    raise
                return
            answer["Body"].close()

    def _blob(self, name: str) -> str:
        return f"{self._prefix}blobs/{checked_name(name)}"

    def dependency(self) -> Dependency:
        return Dependency("artifacts", DependencyState.CLOSED)

    async def aclose(self) -> None:
        await self._stack.aclose()


async def open_s3_store(url: str, part_bytes: int = PART_BYTES) -> S3ArtifactStore:
    """Nothing is asked of the bucket yet. Raises `BadBucketUrl`."""
    bucket = Bucket.parse(url)
    stack = contextlib.AsyncExitStack()
    session = aioboto3.Session(region_name=bucket.region)
    client = await stack.enter_async_context(session.client("s3", endpoint_url=bucket.endpoint, config=_CONFIG))
    return S3ArtifactStore(client, bucket, stack, part_bytes)


def _came_in_parts(head: Any) -> bool:
    return "-" in head["ETag"]


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _is_no_upload(error: ClientError) -> bool:
    """Servers differ in what they call an id that they did not make."""
    return _is_absent(error) or _code(error) in ("InvalidArgument", "InvalidRequest", "400")


def _is_absent(error: ClientError) -> bool:
    return _code(error) in _ABSENT


@contextlib.contextmanager
def _away() -> Iterator[None]:
    """What S3 and the way to it fail with is `Unavailable`: what was asked is right."""
    try:
        yield
    except ClientError as error:
        raise Unavailable(f"artifacts: S3 answered {_code(error)}") from error
    except (BotoCoreError, HTTPClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"artifacts: {type(error).__name__}") from error
