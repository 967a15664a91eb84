"""``https://`` and ``http://``: data files on a web server.

A download is resumed only if the server names a version of the file, by a strong ETag or the time of its last
change.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from urllib.parse import unquote

import httpx2

from tunegate_trainer.fetch.address import Address, RemoteFile, Stream
from tunegate_trainer.fetch.network import (
    TIMEOUT,
    TransientError,
    check_status,
    is_loopback,
    tls,
    transient_http_errors,
    with_retries,
)
from tunegate_trainer.fetch.registry import Login
from tunegate_trainer.process.errors import StorageError

TOKEN, USER, PASSWORD = "token", "username", "password"
"""The keys of a Secret: a Bearer token, or a user and a password."""
MAX_REDIRECTS = 5

_ENDINGS = {"text/csv": ".csv", "text/tab-separated-values": ".tsv"}
"""The endings of file names by content type, for formats that are not recognized by their content."""
_LONGEST_NAME = 100
_CONTENT_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<size>\d+)")


def find_data(address: Address) -> RemoteFile:
    """Return the file at https://HOST/PATH. Its size and version are asked for with its first byte, because
    some servers, and most signed URLs, allow only GET."""

    def ask() -> RemoteFile:
        with _get(address, {"Range": "bytes=0-0"}) as response:
            size = _size(response)
            if size is None:
                raise address.wrong(
                    "the server does not report the size of the file",
                    "use a server that does, or copy the file to a bucket or a volume",
                )
            version = _FileVersion.of(response.headers)
            read = partial(_read, address, version)
            return RemoteFile(_name(address, response), size, None, read, version=version.text)

    return with_retries(address.field, ask)


@dataclass(frozen=True)
class _FileVersion:
    """What a server reports to distinguish the versions of a file. Empty if it reports nothing."""

    etag: str
    last_modified: str

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "_FileVersion":
        return cls(headers.get("ETag", ""), headers.get("Last-Modified", ""))

    def is_other(self, found: "_FileVersion") -> bool:
        """Return whether a later response is about another version. The rest of a file may come without the
        headers of the whole file (RFC 9110, section 15.3.7)."""
        pairs = ((self.etag, found.etag), (self.last_modified, found.last_modified))
        return any(before and after and before != after for before, after in pairs)

    @property
    def text(self) -> str:
        return self.etag or self.last_modified

    @property
    def validator(self) -> str:
        """The value of If-Range, with which a server sends the rest of a file only if it is unchanged."""
        return self.last_modified if self.etag.startswith("W/") else self.text


@contextmanager
def _read(address: Address, version: _FileVersion, start: int) -> Iterator[Stream]:
    is_resumed = start > 0 and version.validator
    headers = {"Range": f"bytes={start}-", "If-Range": version.validator} if is_resumed else {}
    with _get(address, headers) as response:
        if version.is_other(_FileVersion.of(response.headers)):
            raise StorageError(
                f"{address.field}: {address.uri} changed while it was downloaded",
                "do not change the file during a download",
            )
        yield Stream(_start(response, start), response.iter_raw())


def _start(response: httpx2.Response, asked: int) -> int:
    """Return the offset of the first byte in a response: 0, or the one that was ``asked`` for."""
    if response.status_code != httpx2.codes.PARTIAL_CONTENT:
        return 0
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or int(match["start"]) != asked:
        raise TransientError("the server sent another part of the file than it was asked for")
    return asked


def _size(response: httpx2.Response) -> int | None:
    """Return the size of the whole file, or None if the server does not report it."""
    content_range = response.headers.get("Content-Range", "")
    if response.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:  # it has no first byte
        return 0
    if response.status_code == httpx2.codes.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(content_range)
        return int(match["size"]) if match else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _name(address: Address, response: httpx2.Response) -> str:
    """Return a local name with the ending of the remote one, by which the file format is recognized."""
    name = unquote(PurePosixPath(httpx2.URL(address.uri).path).name)
    name = re.sub(r"[^\w.-]+", "-", name)[-_LONGEST_NAME:].lstrip(".") or "data"
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    ending = _ENDINGS.get(content_type, "")
    return name if PurePosixPath(name).suffix else name + ending


@contextmanager
def _get(address: Address, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
    """Request a file. Raises the errors that :class:`Address` creates, and :class:`TransientError`."""
    url = httpx2.URL(address.uri)

    def check_redirect(request: httpx2.Request) -> None:
        if url.scheme == "https" and request.url.scheme != "https":
            raise address.wrong("the server redirects to an address without https", "use another address")

    # Without compression, because a range of compressed content is useless.
    sent = {"Accept-Encoding": "identity", **headers, **_authorization(address, url)}
    client = httpx2.Client(
        follow_redirects=True,  # without the credentials if the redirect leads to another host
        max_redirects=MAX_REDIRECTS,
        event_hooks={"request": [check_redirect]},
        timeout=TIMEOUT,
        verify=tls(),
    )
    with transient_http_errors(), client:
        try:
            with client.stream("GET", url, headers=sent) as response:
                _check(address, response)
                yield response
        except httpx2.TooManyRedirects as error:
            raise address.wrong(f"the server redirects more than {MAX_REDIRECTS} times") from error
        except httpx2.UnsupportedProtocol as error:
            raise address.wrong(
                "the server redirects to an address that is not http:// or https://"
            ) from error


def _check(address: Address, response: httpx2.Response) -> None:
    status = response.status_code
    if status in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        raise address.refused(f"the server answered with status {status}")
    if status in (httpx2.codes.NOT_FOUND, httpx2.codes.GONE):
        raise address.not_found(f"{address.uri} does not exist")
    check_status(status, response.headers)
    is_empty = status == httpx2.codes.RANGE_NOT_SATISFIABLE
    if not response.is_success and not is_empty:
        raise address.wrong(f"the server answered with status {status}")


def _authorization(address: Address, url: httpx2.URL) -> dict[str, str]:
    secret = address.secret
    if secret is None:
        return {}
    if url.scheme != "https" and not is_loopback(url.host):
        raise address.wrong(
            f"the credentials in Secret {secret.name} would be sent unencrypted",
            "use an https:// address, or leave secretName out",
        )
    if TOKEN in secret:
        return {"Authorization": f"Bearer {secret[TOKEN]}"}
    return {"Authorization": Login(secret[USER], secret[PASSWORD]).header}
