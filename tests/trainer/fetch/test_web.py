"""https:// and http://: data files on a web server."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.own_authority import own_authority
from support.stores.faulty_proxy import FaultyProxy
from support.stores.web_server import Request, Response, WebServer
from support.trainer_root import TrainerRoot
from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2.data import DataSource
from tunegate_trainer.data.records import read_records
from tunegate_trainer.fetch import network, web
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.process.credentials import Secret
from tunegate_trainer.process.errors import (
    CredentialsError,
    SourceNotFoundError,
    StorageError,
    UnreachableError,
    UserError,
)

ROWS = b'{"prompt": "a", "completion": "b"}\n' * 20_000
CUT = 300_000
"""Number of bytes after which a connection breaks."""
SMALL = 40_000
"""More bytes than the headers of all responses, and an incomplete block, have together."""
TOKEN, PASSWORD = "web-token-of-the-test", "web-password-of-the-test"
BASIC = f"Basic {base64.b64encode(f'reader:{PASSWORD}'.encode()).decode()}"


class Files:
    """A web server with one file."""

    def __init__(self) -> None:
        self.content = ROWS
        self.headers = {"ETag": '"1"', "Last-Modified": "Sat, 28 Nov 2026 12:00:00 GMT"}
        self.authorization: str | None = None
        """The Authorization header that the server requires."""
        self.server = WebServer(self._answer)

    def _answer(self, request: Request) -> Response:
        if self.authorization and request.headers.get("Authorization") != self.authorization:
            return Response(401)
        if request.path.startswith("/moved"):
            return Response(302, headers={"Location": request.query["to"]})
        if request.path == "/loop":
            return Response(302, headers={"Location": "/loop"})
        if not request.path.endswith("rows.jsonl") and not request.path.endswith("/export"):
            return Response(int(request.path.removeprefix("/status/") or 404))
        return Response(body=self.content, headers=self.headers)


@pytest.fixture
def files() -> Iterator[Files]:
    files = Files()
    with files.server:
        yield files


@pytest.fixture
def proxy(files: Files) -> Iterator[FaultyProxy]:
    with FaultyProxy(files.server.port) as proxy:
        yield proxy


@pytest.fixture
def root(make_root: Callable[..., TrainerRoot]) -> TrainerRoot:
    return make_root()


def content(
    root: TrainerRoot, port: int, path: str = "rows.jsonl", secret: dict[str, str] | None = None
) -> bytes:
    """Return the content of a source at the port, which is read with a Secret named ``store``."""
    for key, value in (secret or {}).items():
        file = root.path / "secrets" / "store" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value)
    source = DataSource(
        name="train", uri=f"http://127.0.0.1:{port}/{path}", secret_name="store" if secret else None
    )
    with open_source(root.context(Role.DATA), source, "data.sources[train]") as opened:
        found = opened.path.read_bytes()
        assert opened.sha256 == hashlib.sha256(found).hexdigest()
    assert not opened.path.exists()
    return found


def partial_files(root: TrainerRoot) -> list[Path]:
    return list((root.workspace / root.paths.download).rglob("*.part"))


def test_file_is_downloaded_and_removed_after_use(files, root):
    assert content(root, files.server.port) == ROWS


@pytest.mark.parametrize(
    ("secret", "authorization"),
    [
        ({"token": TOKEN}, f"Bearer {TOKEN}"),
        ({"username": "reader", "password": PASSWORD}, BASIC),
    ],
)
def test_credentials_of_the_secret_are_sent(files, root, secret, authorization):
    files.authorization = authorization
    assert content(root, files.server.port, secret=secret) == ROWS


@pytest.mark.parametrize("secret", [None, {"token": "an-old-token"}])
def test_refused_access_is_reported_without_the_token(files, root, secret):
    files.authorization = f"Bearer {TOKEN}"
    with pytest.raises(
        CredentialsError, match="refuses access: the server answered with status 401"
    ) as raised:
        content(root, files.server.port, secret=secret)
    assert ("Secret store" in raised.value.hint) == (secret is not None)
    assert "an-old-token" not in f"{raised.value} {raised.value.hint}"


def test_secret_without_a_known_key_is_named(files, root):
    with pytest.raises(CredentialsError, match="Secret store has no key username"):
        content(root, files.server.port, secret={"TOKEN": TOKEN})
    assert files.server.requests == []


def test_credentials_are_not_sent_unencrypted_to_another_machine():
    address = Address(
        "data.sources[train].uri", "http://data.invalid/rows.jsonl", secret=Secret("store", {"token": TOKEN})
    )
    with pytest.raises(UserError, match="the credentials in Secret store would be sent unencrypted"):
        web.find_data(address)


def test_credentials_are_not_sent_to_a_redirects_host(files, root):
    with WebServer(lambda _: Response(body=ROWS)) as other:
        path = f"moved?to=http://localhost:{other.port}/rows.jsonl"
        assert content(root, files.server.port, path, secret={"token": TOKEN}) == ROWS
        assert all("Authorization" not in request.headers for request in other.requests)
    assert all("Authorization" in request.headers for request in files.server.requests)


@pytest.mark.parametrize(
    ("to", "error"),
    [
        ("/loop", "the server redirects more than 5 times"),
        ("ftp://127.0.0.1/rows.jsonl", "redirects to an address that is not http:// or https://"),
    ],
)
def test_wrong_redirect_is_refused(files, root, to, error):
    with pytest.raises(UserError, match=error):
        content(root, files.server.port, f"moved?to={to}")


def test_redirect_from_https_to_http_is_refused(tmp_path, monkeypatch):
    tls, authority = own_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))

    def answer(request: Request) -> Response:
        to = {"Location": f"http://localhost:{server.port}/rows.jsonl"}
        return Response(302, headers=to) if request.path == "/moved" else Response(body=ROWS)

    with WebServer(answer, tls) as server:
        address = Address("data.sources[train].uri", f"https://localhost:{server.port}/rows.jsonl")
        assert web.find_data(address).size == len(ROWS)
        moved = replace(address, uri=f"https://localhost:{server.port}/moved")
        with pytest.raises(UserError, match="the server redirects to an address without https"):
            web.find_data(moved)


def test_direct_connections_ignore_authorities_in_the_environment(tmp_path, monkeypatch):
    _, authority = own_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    (own,) = network.tls().get_ca_certs(binary_form=True)
    assert own not in network.tls(is_direct=True).get_ca_certs(binary_form=True)
    own_authority(tmp_path)
    assert network.tls().get_ca_certs(binary_form=True) != [own], "a renewed authority is read again"
    monkeypatch.delenv("SSL_CERT_FILE")
    assert own not in network.tls().get_ca_certs(binary_form=True), "the variable is read each time"


def test_broken_download_resumes(proxy, root):
    proxy.break_after(CUT)
    assert content(root, proxy.port) == ROWS
    assert proxy.served < len(ROWS) + SMALL


def test_next_attempt_resumes_the_download(proxy, root):
    proxy.break_after(CUT, then=proxy.go_down)
    with pytest.raises(UnreachableError, match="6 attempts failed in a row"):
        content(root, proxy.port)
    proxy.come_up()
    assert content(root, proxy.port) == ROWS
    assert proxy.served < len(ROWS) + SMALL


def test_next_attempt_downloads_a_changed_file_from_the_start(files, proxy, root):
    proxy.break_after(CUT, then=proxy.go_down)
    with pytest.raises(UnreachableError):
        content(root, proxy.port)
    proxy.come_up()
    files.content, files.headers = ROWS.upper(), {"ETag": '"2"'}
    assert content(root, proxy.port) == ROWS.upper()
    assert partial_files(root) == []


def test_file_that_changes_during_the_download_is_an_error(files, proxy, root):
    def change() -> None:
        files.content, files.headers = ROWS.upper(), {"ETag": '"2"'}

    proxy.break_after(CUT, then=change)
    with pytest.raises(StorageError, match="changed while it was downloaded"):
        content(root, proxy.port)


@pytest.mark.parametrize(
    ("headers", "resumes"),
    [
        ({}, False),
        ({"ETag": 'W/"1"'}, False),
        ({"ETag": 'W/"1"', "Last-Modified": "Sat, 28 Nov 2026 12:00:00 GMT"}, True),
        ({"Last-Modified": "Sat, 28 Nov 2026 12:00:00 GMT"}, True),
    ],
)
def test_download_resumes_only_if_the_server_names_a_version(files, proxy, root, headers, resumes):
    files.headers = headers
    proxy.break_after(CUT)
    assert content(root, proxy.port) == ROWS
    assert (proxy.served < len(ROWS) + SMALL) == resumes


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"1"', "Last-Modified": "Sat, 28 Nov 2026 12:00:00 GMT"},
        {"Last-Modified": "Sat, 28 Nov 2026 12:00:00 GMT"},
    ],
)
def test_download_resumes_if_the_rest_comes_without_its_time(files, proxy, root, headers):
    files.headers, files.server.hides_times = headers, True
    proxy.break_after(CUT)
    assert content(root, proxy.port) == ROWS
    assert proxy.served < len(ROWS) + SMALL


def test_server_without_ranges_sends_the_file_from_the_start(files, proxy, root):
    files.server.ignores_ranges = True
    proxy.break_after(CUT)
    assert content(root, proxy.port) == ROWS


def test_empty_file_is_read(files, root):
    files.content = b""
    assert content(root, files.server.port) == b""


@pytest.mark.parametrize(
    ("path", "kind", "error"),
    [
        ("status/404", SourceNotFoundError, "status/404 does not exist"),
        ("status/410", SourceNotFoundError, "status/410 does not exist"),
        ("status/403", CredentialsError, "the server answered with status 403"),
        ("status/400", UserError, "the server answered with status 400"),
        ("status/503", UnreachableError, "the server answered with status 503"),
    ],
)
def test_status_of_the_server_is_reported(files, root, path, kind, error):
    with pytest.raises(kind, match=error):
        content(root, files.server.port, path)


def test_server_that_hides_the_size_of_a_file_is_refused(files, root):
    files.server.hides_sizes = files.server.ignores_ranges = True
    with pytest.raises(UserError, match="the server does not report the size of the file"):
        content(root, files.server.port)


def test_table_without_name_ending_is_recognized_by_content_type(files, root):
    files.content = b"prompt,completion\na,b\n"
    files.headers = {"Content-Type": "text/csv; charset=utf-8"}
    source = DataSource(name="train", uri=f"http://127.0.0.1:{files.server.port}/export?id=3")
    with open_source(root.context(Role.DATA), source, "data.sources[train]") as opened:
        (record,) = read_records(opened.path, "data.sources[train]")
    assert record.fields == {"prompt": "a", "completion": "b"}
