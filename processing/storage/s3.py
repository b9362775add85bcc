"""A home in an S3 bucket."""

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from processing.aws_client import client, code_of, refusal
from processing.errors import BadInput, Conflict, FraudlineError, NotFound
from processing.storage.home import Entry, Home
from processing.storage.scratch import scratch_folder

ADDRESS = re.compile(r"s3://([^/]+)(?:/(.*))?", re.DOTALL)
MISSING_CODES = ("NoSuchKey", "404", "NotFound")
CHANGED_CODES = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "OperationAborted")
DELETE_BATCH = 1000  # the most objects that one call can delete


class S3Home(Home):
    """A home in S3. Safe for threads. Every method raises FraudlineError if AWS refuses or does not answer."""

    def __init__(self, address: str) -> None:
        match = ADDRESS.fullmatch(address)
        if not match:
            raise BadInput(f"{address!r} names no bucket; write s3://bucket/prefix")
        self.bucket, prefix = match[1], (match[2] or "").strip("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{self.bucket}/{prefix}".rstrip("/")

    @cached_property
    def _s3(self) -> Any:
        return client("s3")

    def _key(self, key: str) -> str:
        """The key in the bucket. Raises BadInput for a key outside the home."""
        normalized = posixpath.normpath(key) if key else ""
        if normalized.startswith(("/", "../")) or normalized == "..":
            raise BadInput(f"the key {key!r} points outside the home {self.url}")
        slash = "/" if key.endswith("/") else ""
        return self.prefix + ("" if normalized == "." else normalized + slash)

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        with self._aws_errors("GetObject", key):
            response = self._s3.get_object(Bucket=self.bucket, Key=self._key(key))
            return response["Body"].read(), response["ETag"]

    def write(self, key: str, data: bytes) -> None:
        with self._aws_errors("PutObject", key):
            self._s3.put_object(Bucket=self.bucket, Key=self._key(key), Body=data)

    def write_if(self, key: str, data: bytes, tag: str | None) -> None:
        from botocore.exceptions import ClientError

        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        with self._aws_errors("PutObject", key):
            try:
                self._s3.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, **condition)
            except ClientError as error:
                if code_of(error) not in (*CHANGED_CODES, *MISSING_CODES):
                    raise
                # The first writer may have been an attempt of this call whose response was lost.
                retried = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
                if not (retried and self._holds(key, data)):
                    raise Conflict(f"{key} was changed by another writer; nothing was written") from error

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self.read(key) == data
        except NotFound:
            return False

    def entries(self, prefix: str) -> list[Entry]:
        entries = []
        for page in self._pages(prefix):
            for item in page.get("Contents", []):
                if not item["Key"].endswith("/"):  # the AWS console creates these for empty folders
                    key = item["Key"].removeprefix(self.prefix)
                    entries.append(Entry(key, item["Size"], item["LastModified"].timestamp(), item["ETag"]))
        return sorted(entries, key=lambda entry: entry.key)

    def folders(self, prefix: str) -> list[str]:
        full_prefix = self._key(prefix)
        pages = self._pages(prefix, Delimiter="/")
        folders = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
        return sorted(name.removeprefix(full_prefix).rstrip("/") for name in folders)

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        pages = self._s3.get_paginator("list_objects_v2")
        with self._aws_errors("ListObjectsV2", prefix):
            yield from pages.paginate(Bucket=self.bucket, Prefix=self._key(prefix), **options)

    def move(self, source: str, target: str) -> None:
        self._copy(source, target)
        self.delete(source)

    def delete(self, key: str) -> None:
        with self._aws_errors("DeleteObject", key):
            self._s3.delete_object(Bucket=self.bucket, Key=self._key(key))

    def remove(self, prefix: str) -> None:
        keys = [item["Key"] for page in self._pages(prefix) for item in page.get("Contents", [])]
        for start in range(0, len(keys), DELETE_BATCH):
            objects = [{"Key": key} for key in keys[start : start + DELETE_BATCH]]
            with self._aws_errors("DeleteObjects", prefix):
                response = self._s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
            for failure in response.get("Errors", []):
                raise FraudlineError(
                    f"{failure['Key']} in the bucket {self.bucket} was not removed: {failure.get('Message')}"
                )

    def claim(self, entry: Entry, key: str) -> None:
        from botocore.exceptions import ClientError

        with self._aws_errors("CopyObject", entry.key):
            try:  # the original stays until `finish`, so `release` need not restore it
                self._copy_if(entry, key)
            except ClientError as error:
                if code_of(error) in CHANGED_CODES:
                    raise Conflict(f"{entry.key} was replaced meanwhile") from error
                raise

    def finish(self, entry: Entry, claimed: str, key: str) -> None:
        from botocore.exceptions import ClientError

        self.move(claimed, key)
        original = {"Bucket": self.bucket, "Key": self._key(entry.key), "IfMatch": entry.tag}
        with self._aws_errors("DeleteObject", entry.key):
            try:
                self._s3.head_object(**original)  # for a store without conditional deletes
                self._s3.delete_object(**original)
            except ClientError as error:
                if code_of(error) not in (*CHANGED_CODES, *MISSING_CODES):  # replaced or gone: nothing to remove
                    raise

    def release(self, claimed: str, key: str) -> str:
        self.delete(claimed)
        return key

    def copy(self, source: str, target: str) -> None:
        self._copy(source, target)

    def key_of(self, address: str) -> str:
        """The key of an address in this home. Raises BadInput for one outside."""
        if not address.startswith(f"{self.url}/"):
            raise BadInput(f"{address!r} is not in the home {self.url}")
        return address.removeprefix(f"{self.url}/")

    def _copy(self, source: str, target: str) -> None:
        source_object = {"Bucket": self.bucket, "Key": self._key(source)}
        with self._aws_errors("CopyObject", source):  # copies in parts if it is too large for one call
            self._s3.copy(source_object, self.bucket, self._key(target))

    def _copy_if(self, entry: Entry, target: str) -> None:
        """Copy an object if it has not changed since it was listed."""
        source_object = {"Bucket": self.bucket, "Key": self._key(entry.key)}
        condition = {"CopySourceIfMatch": entry.tag}
        self._s3.copy(source_object, self.bucket, self._key(target), ExtraArgs=condition)

    def upload(self, path: Path, key: str) -> None:
        with self._aws_errors("PutObject", key):
            self._s3.upload_file(str(path), self.bucket, self._key(key))

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        with scratch_folder("s3") as folder:
            path = folder / (posixpath.basename(key) or "file")
            self.download(key, path)
            yield path

    def download(self, key: str, path: Path) -> None:
        """Write an object to a local file. Raises NotFound."""
        with self._aws_errors("GetObject", key):
            self._s3.download_file(self.bucket, self._key(key), str(path))

    @contextmanager
    def _aws_errors(self, call: str, key: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        what = f"{self._key(key) or 'everything'} in the bucket {self.bucket}"
        try:
            yield
        except ClientError as error:
            if code_of(error) in MISSING_CODES:
                raise NotFound(f"{key} does not exist in the home {self.url}") from None
            raise FraudlineError(refusal(error, f"s3:{call}", what, self._grants())) from error
        except (BotoCoreError, Boto3Error) as error:
            raise FraudlineError(refusal(error.__context__ or error, f"s3:{call}", what, self._grants())) from error

    def _grants(self) -> str:
        return f"that the role may use {self.url}/* and list {self.bucket} (else a missing object looks forbidden)"
