"""``s3://``: folders and files in object stores with the S3 API.

Without a Secret, the client looks for credentials in its usual places: the environment, a profile, or a web
identity that the cluster gives the pod's service account.
"""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ResponseStreamingError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.loaders import Loader, create_loader
from botocore.session import get_session

from tunegate_trainer.fetch.address import (
    Address,
    Choose,
    RemoteFile,
    RemoteFolder,
    RemoteModel,
    Stream,
)
from tunegate_trainer.fetch.checksum import Checksum
from tunegate_trainer.fetch.folder import MAX_FILES, choose_files
from tunegate_trainer.fetch.network import TransientError, check_status, with_retries
from tunegate_trainer.process.errors import CredentialsError, SourceNotFoundError, StorageError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import HeadObjectOutputTypeDef

KEY_ID, KEY, SESSION_TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
ENDPOINT, REGION = "AWS_ENDPOINT_URL", "AWS_REGION"
_CHUNK = 1 << 16
"""Bytes per chunk. An incomplete chunk is lost when a connection breaks."""
_SHOWN = 8
"""Maximum number of names in an error."""
_DIGEST = 32
"""Number of hexadecimal digits in an MD5 checksum."""
_EXPIRED = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired")
_CONNECTION_ERRORS = (BotoConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError)
_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)


def pinned(address: Address) -> str | None:
    """Return None: an S3 address never names a version of its content, because only objects have versions,
    not folders."""
    del address
    return None


def find_model(address: Address, choose: Choose) -> RemoteModel:
    """Return the files directly below s3://BUCKET/PREFIX."""
    bucket = _Bucket.of(address)
    folder = address.rest.partition("/")[2].strip("/")
    prefix = f"{folder}/" if folder else ""
    names = with_retries(address.field, lambda: bucket.names(prefix))
    if not names:
        raise address.not_found(
            f"{address.uri} is empty or does not exist",
            "it must be a folder with config.json and safetensors files",
        )
    return RemoteModel(tuple(bucket.file(prefix + name) for name in choose(names)))


def find_data(address: Address) -> RemoteFile | RemoteFolder:
    """Return the file s3://BUCKET/KEY, or the folder s3://BUCKET/PREFIX/ with all objects whose keys begin
    with PREFIX/."""
    bucket, key = _Bucket.of(address), address.rest.partition("/")[2]
    if key and not key.endswith("/"):
        try:
            return bucket.file(key)
        except SourceNotFoundError:
            raise bucket.missing(key) from None
    listed = bucket.below(key, MAX_FILES + 1)
    names = choose_files(address, listed)
    if not names:
        what = "has only hidden files" if listed else "has no files"
        raise address.not_found(f"{address.uri} {what}", bucket.nearest(key))
    return RemoteFolder(tuple(bucket.file_in_folder(key, name) for name in names))


@dataclass(frozen=True)
class _Bucket:
    address: Address
    name: str
    client: "S3Client"

    @classmethod
    def of(cls, address: Address) -> "_Bucket":
        return cls(address, address.rest.partition("/")[0], _client(address))

    def names(self, prefix: str) -> list[str]:
        """Return the names of objects directly below a prefix."""
        names: list[str] = []
        with _refusals(self.address, self.name):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix, Delimiter="/"
            )
            for page in pages:
                names += [entry["Key"].removeprefix(prefix) for entry in page.get("Contents", [])]
        return [name for name in names if name]

    def below(self, prefix: str, most: int) -> list[str]:
        """Return the keys that begin with ``prefix``, without it, but at most ``most`` keys. The objects with
        which tools mark folders, whose keys end with a slash, are left out."""
        return with_retries(self.address.field, lambda: list(islice(self._below(prefix), most)))

    def _below(self, prefix: str) -> Iterator[str]:
        with _refusals(self.address, self.name):
            for page in self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix
            ):
                keys = [entry["Key"] for entry in page.get("Contents", [])]
                yield from (key.removeprefix(prefix) for key in keys if not key.endswith("/"))

    def missing(self, key: str) -> SourceNotFoundError:
        """Return the error for a key that does not exist."""
        uri = self.address.uri
        with suppress(CredentialsError):  # the credentials may be for this key only
            if self.below(f"{key}/", 1):
                return self.address.not_found(
                    f"{uri} is a folder", f"end the address with a slash to use the whole folder: {uri}/"
                )
        return self.address.not_found(f"{uri} does not exist", self.nearest(_parent(key)))

    def nearest(self, prefix: str) -> str:
        """Return a hint with names in the folder ``prefix`` or, if it has none, in the nearest folder above
        it. The hint is empty if the credentials do not allow to list it."""
        try:
            found = with_retries(self.address.field, partial(self._first, prefix))
        except CredentialsError:
            return ""
        if found:
            return f"s3://{self.name}/{prefix} has, for example: {', '.join(found)}"
        return self.nearest(_parent(prefix)) if prefix else f"bucket {self.name} is empty"

    def _first(self, prefix: str) -> list[str]:
        """Return a few names of files and folders directly below a prefix."""
        with _refusals(self.address, self.name):
            page = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix, Delimiter="/", MaxKeys=_SHOWN)
        keys = [entry["Key"] for entry in page.get("Contents", [])]
        keys += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        return sorted(key.removeprefix(prefix) for key in keys if key != prefix)

    def file_in_folder(self, prefix: str, name: str) -> RemoteFile:
        """Return a file of a folder. Its errors have its own address."""
        address = replace(self.address, uri=f"s3://{self.name}/{prefix}{name}")
        return replace(replace(self, address=address).file(prefix + name), name=name)

    def file(self, key: str) -> RemoteFile:
        return with_retries(self.address.field, partial(self._file, key))

    def _file(self, key: str) -> RemoteFile:
        with _refusals(self.address, self.name):
            head = self.client.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED")
            etag, checksum = head["ETag"], _checksum(head)
        if checksum is not None and checksum.kind == "md5-parts":
            with _refusals(self.address, self.name):
                checksum = self._of_parts(key, checksum.value, head["ContentLength"])
        read = partial(self._read, key, etag)
        return RemoteFile(key.rpartition("/")[2], head["ContentLength"], checksum, read, version=etag)

    def _of_parts(self, key: str, etag: str, size: int) -> Checksum | None:
        """Return the checksum of a multipart upload.

        All parts except the last must have the same size. Returns None if they do not, or if the server does
        not report the sizes of parts.
        """
        count = int(etag.partition("-")[2])
        try:
            first, last = (
                self.client.head_object(Bucket=self.name, Key=key, PartNumber=number)["ContentLength"]
                for number in (1, count)
            )
        except ClientError as error:
            _check_status(error)
            return None
        return Checksum("md5-parts", etag, first) if first * (count - 1) + last == size else None

    @contextmanager
    def _read(self, key: str, etag: str, start: int) -> Iterator[Stream]:
        with _refusals(self.address, self.name):
            response = self.client.get_object(
                Bucket=self.name, Key=key, Range=f"bytes={start}-", IfMatch=etag
            )
            body = response["Body"]
            try:
                yield Stream(start if "ContentRange" in response else 0, body.iter_chunks(_CHUNK))
            finally:
                body.close()


def _parent(key: str) -> str:
    """Return the prefix of the folder that contains a key or a folder."""
    parent, slash, _ = key.rstrip("/").rpartition("/")
    return parent + slash


@cache
def _loader() -> Loader:
    """Return botocore's reader for descriptions of APIs. It keeps those that it has read: that of S3 takes
    0.1 s."""
    return create_loader()


def _client(address: Address) -> "S3Client":
    secret = address.secret
    given: dict[str, Any] = {}
    if secret is not None:
        given = {
            "aws_access_key_id": secret[KEY_ID],
            "aws_secret_access_key": secret[KEY],
            "aws_session_token": secret.get(SESSION_TOKEN),
            "region_name": secret.get(REGION),
            "endpoint_url": secret.get(ENDPOINT),
        }
    # The client does not retry or verify checksums, because we do both.
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=20,
        read_timeout=60,
        response_checksum_validation="when_required",
    )
    session = get_session()
    session.register_component("data_loader", _loader())
    try:
        return cast("S3Client", session.create_client("s3", config=config, **given))
    except _NO_CREDENTIALS as error:
        raise address.refused(f"no credentials were found ({type(error).__name__})") from error
    except (ValueError, BotoCoreError) as error:
        raise address.wrong(
            f"the S3 client cannot be created ({type(error).__name__})",
            f"check {ENDPOINT}, {REGION} and the profile",
        ) from error


def _checksum(head: "HeadObjectOutputTypeDef") -> Checksum | None:
    """Return the SHA-256 of an object if it was uploaded with one, else the MD5 in its ETag.

    Returns None if the ETag is not an MD5, as for objects that are encrypted with a customer's keys.
    """
    sha256 = head.get("ChecksumSHA256", "-")  # with a dash, it is a checksum of the parts' checksums
    if "-" not in sha256 and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
        return Checksum("sha256", base64.b64decode(sha256).hex())
    etag = head["ETag"].strip('"')
    if head.get("ServerSideEncryption", "AES256") != "AES256" or head.get("SSECustomerAlgorithm"):
        return None
    digest, _, parts = etag.partition("-")
    if len(digest) != _DIGEST:
        return None
    return Checksum("md5-parts", etag) if parts else Checksum("md5", etag)


def _check_status(error: ClientError) -> int:
    """Return the status of a response. Raises :class:`TransientError` if a retry may fix it."""
    metadata: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    check_status(status, metadata.get("HTTPHeaders", {}))
    return status


@contextmanager
def _refusals(address: Address, bucket: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = _check_status(error)
        # A HEAD request has no error code, only a status, which is 400 for an expired token.
        has_token = address.secret is not None and address.secret.get(SESSION_TOKEN)
        is_expired = code in _EXPIRED or (code == "400" and has_token)
        if status in (401, 403) or is_expired:
            answer = f"status {code}" if code.isdigit() else code
            raise address.refused(f"the server answered with {answer}") from error
        if status == 404:
            what = (
                f"bucket {bucket} does not exist"
                if code == "NoSuchBucket"
                else f"{address.uri} does not exist"
            )
            raise address.not_found(what) from error
        if status == 412:
            raise StorageError(
                f"{address.field}: {address.uri} changed while it was downloaded",
                "do not change its files during a download",
            ) from error
        answer = f"status {status}" if code.isdigit() else f"status {status} {code}".rstrip()
        raise address.wrong(f"the server answered with {answer}") from error
    except _NO_CREDENTIALS as error:
        raise address.refused(f"no credentials were found ({type(error).__name__})") from error
    except ParamValidationError as error:
        raise address.wrong("this is not a valid bucket name and key", "use s3://BUCKET/KEY") from error
    except _CONNECTION_ERRORS as error:
        raise TransientError(f"the connection failed ({type(error).__name__})") from error
