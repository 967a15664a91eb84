"""Folders with the files of a data set, at every scheme that has folders."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from support.stores.model_hub import ModelHub, Repository
from support.stores.model_store import ModelStore
from support.stores.s3_server import BUCKET, S3Server
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import printable
from tunegate_api.v1alpha2.data import DataSource
from tunegate_trainer.fetch import folder, hub, s3
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.main import main
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import (
    BadDataError,
    CredentialsError,
    SourceNotFoundError,
    UnreachableError,
    UserError,
)

pytestmark = pytest.mark.model

LARGE = 150_000
"""Size in bytes of a file whose download tests interrupt."""


@dataclass
class Place:
    """A folder of a data set on a server."""

    uri: str
    put: Callable[[dict[str, bytes]], None]
    """Makes these the only files of the folder."""
    store: ModelStore
    context: Context

    def open(self, *, uri: str | None = None, sha256: str | None = None):
        source = DataSource(name="train", uri=uri or self.uri, sha256=sha256, secret_name="store")
        return open_source(self.context, source, "data.sources[train]")

    def use_secret(self, secret: dict[str, str]) -> None:
        mounted = self.context.root / "secrets" / "store"
        mounted.mkdir(parents=True, exist_ok=True)
        for key, value in secret.items():
            (mounted / key).write_text(value)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    context = Context(Role.DATA, root=tmp_path / "trainer")
    context.paths = Workspace("a-job")
    return context


@pytest.fixture
def hf_place(hf_store: ModelStore, model_hub: ModelHub, context: Context) -> Place:
    def put(files: dict[str, bytes]) -> None:
        stored = {f"data/{name}": content for name, content in files.items()}
        model_hub.repositories["datasets/org/orders"] = Repository(stored, is_private=True)

    place = Place("hf://datasets/org/orders/data", put, hf_store, context)
    place.use_secret(hf_store.secret)
    return place


@pytest.fixture
def s3_place(s3_store: ModelStore, s3_server: S3Server, context: Context) -> Place:
    def put(files: dict[str, bytes]) -> None:
        s3_server.check_credentials(False)
        listed = s3_server.client.list_objects_v2(Bucket=BUCKET, Prefix="sets/", MaxKeys=1000)
        for entry in listed.get("Contents", []):
            s3_server.client.delete_object(Bucket=BUCKET, Key=entry["Key"])
        for name, content in files.items():
            s3_server.put(f"sets/orders/{name}", content)
        s3_server.check_credentials(True)

    place = Place(f"s3://{BUCKET}/sets/orders/", put, s3_store, context)
    place.use_secret(s3_store.secret)
    return place


@pytest.fixture(params=["hf", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(f"{request.param}_place")


def rows(start: int, count: int) -> list[dict[str, str]]:
    return [{"prompt": f"mug {i}", "completion": f"{i}"} for i in range(start, start + count)]


def parquet(start: int, count: int) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(start, count)), sink)
    return sink.getvalue().to_pybytes()


def contents(path: Path) -> dict[str, bytes]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def local_digest(path: Path, files: dict[str, bytes]) -> str:
    """Return the digest of a local folder with these files."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    with open_source(
        Context(Role.DATA), DataSource(name="train", uri=f"file://{path}"), "data.sources[train]"
    ) as source:
        return source.sha256


def names_listed(uri: str, place: Place) -> list[str]:
    address = Address("data.sources[train].uri", uri, secret=place.context.secret("store"))
    return [file.name for file in (hub if uri.startswith("hf") else s3).find_data(address).files]


def test_job_reads_the_rows_of_all_shards(place, make_job, tmp_path):
    shards = {f"train-0000{i}-of-00002.parquet": parquet(30 * i, 30) for i in range(2)}
    files = {**shards, "README.md": b"# Orders\n", ".gitattributes": b"*.parquet filter=lfs\n"}
    place.put(files)
    root = make_job(place.store.source(), place.store.secret, train={"uri": place.uri, "secretName": "store"})
    assert main(["data"]) == ExitCode.OK
    data = root.report(Role.DATA).plan.data
    assert data.train.rows + data.dev.rows + data.test.rows == 60
    assert data.source_sha256 == local_digest(tmp_path / "copy", files)
    assert list((root.workspace / root.paths.download).glob("*")) == []


def test_folder_has_files_and_digest_of_its_local_copy(place, tmp_path):
    files = {"b.jsonl": b"{}\n", "a/b.jsonl": b"{}\n" * 9_000, "a/c/d.jsonl": b"", "README.md": b"#"}
    hidden = {".gitattributes": b"x", "a/.cache/lock": b"x", "a/.hidden.jsonl": b"{}"}
    place.put({**files, **hidden})
    with place.open() as source:
        assert contents(source.path) == files
    assert source.sha256 == local_digest(tmp_path / "copy", {**files, **hidden})
    assert not source.path.exists()


def test_folder_with_another_digest_than_the_pinned_one_is_refused(place, tmp_path):
    place.put({"rows.jsonl": b"{}\n"})
    pinned = local_digest(tmp_path / "copy", {"rows.jsonl": b"{}\n"})
    with place.open(sha256=pinned) as source:
        assert source.sha256 == pinned
    place.put({"rows.jsonl": b"{}\n", "more.jsonl": b"{}\n"})
    with (
        pytest.raises(BadDataError, match=f"the folder has sha256 .*, but the spec pins {pinned}"),
        place.open(sha256=pinned),
    ):
        pass


def test_next_attempt_downloads_only_the_missing_files(place):
    files = {name: name.encode() * LARGE for name in "abc"}
    place.put(files)
    place.store.proxy.break_after(LARGE + 50_000, then=place.store.proxy.go_down)
    with pytest.raises(UnreachableError), place.open():
        pass
    place.store.proxy.come_up()
    before = place.store.proxy.served
    with place.open() as source:
        assert contents(source.path) == files
    assert place.store.proxy.served - before < 2 * LARGE + 20_000


def test_versions_of_a_folder_that_changes_are_not_mixed(place):
    place.put(dict.fromkeys("ab", b"old" * LARGE))
    place.store.proxy.break_after(4 * LARGE, then=place.store.proxy.go_down)
    with pytest.raises(UnreachableError), place.open():
        pass
    changed = {"a": b"new" * LARGE, "b": b"old" * LARGE}
    place.put(changed)
    place.store.proxy.come_up()
    with place.open() as source:
        assert contents(source.path) == changed


def test_listing_with_several_pages_is_complete(place, model_hub, monkeypatch):
    model_hub.page_size = 2
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    files = {f"part {i}/rows+{i}.jsonl": b"{}\n" for i in range(7)}
    place.put(files)
    assert names_listed(place.uri, place) == list(files)


def test_folder_with_too_many_files_is_refused_early(place, model_hub, monkeypatch):
    model_hub.page_size = 2
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    for module in (folder, hub, s3):
        monkeypatch.setattr(module, "MAX_FILES", 3)
    place.put({f"{i}.jsonl": b"{}\n" for i in range(3)})
    assert len(names_listed(place.uri, place)) == 3
    place.put({f"{i}.jsonl": b"{}\n" for i in range(40)})
    model_hub.server.requests.clear()
    with pytest.raises(UserError, match="the folder has more than 3 files") as raised, place.open():
        pass
    assert place.uri in str(raised.value)
    assert "merge small files" in raised.value.hint
    assert len(model_hub.server.requests) < 6


def test_listing_with_a_next_page_that_repeats_is_refused(hf_place, model_hub, monkeypatch):
    monkeypatch.setattr(hub, "MAX_PAGES", 3)
    hf_place.put({f"{i}.jsonl": b"{}\n" for i in range(6)})
    model_hub.page_size = 2
    assert len(names_listed(hf_place.uri, hf_place)) == 6
    model_hub.page_size = 0
    model_hub.server.requests.clear()
    with pytest.raises(UserError, match="the list of its files has more than 3 pages") as raised:
        names_listed(hf_place.uri, hf_place)
    assert "fewer folders" in raised.value.hint
    assert len(model_hub.server.requests) == 4


def test_refused_credentials_for_a_folder_are_reported(place):
    place.put({"rows.jsonl": b"{}\n"})
    place.use_secret(place.store.wrong_secret)
    with (
        pytest.raises(CredentialsError, match=f"{place.uri} refuses access") as raised,
        place.open(),
    ):
        pass
    assert "Secret store" in raised.value.hint


def test_folder_with_only_hidden_files_is_refused_with_their_names(place):
    place.put({".gitattributes": b"x", ".cache/lock": b"x"})
    with pytest.raises(SourceNotFoundError, match="has only hidden files") as raised, place.open():
        pass
    assert ".gitattributes" in raised.value.hint


def test_missing_hub_folder_is_named_with_existing_files(hf_place):
    hf_place.put({"rows.jsonl": b"{}\n"})
    with (
        pytest.raises(SourceNotFoundError, match=r"there is no file or folder dta in org/orders") as raised,
        hf_place.open(uri="hf://datasets/org/orders/dta/"),
    ):
        pass
    assert raised.value.hint == "the repository has: data/rows.jsonl"


def test_file_missing_in_the_hubs_description_is_found(hf_place, model_hub):
    model_hub.page_size, model_hub.max_siblings = 2, 1
    hf_place.put({f"{i}.jsonl": f"{i}".encode() for i in range(7)})
    with hf_place.open(uri=f"{hf_place.uri}/5.jsonl") as source:
        assert source.path.read_bytes() == b"5"


@pytest.mark.parametrize("path", ["", "/", "@v1", "@v1/"])
def test_address_without_a_path_is_the_whole_repository(hf_place, path):
    hf_place.put({"rows.jsonl": b"{}\n", ".hidden": b"x"})
    assert names_listed(f"hf://datasets/org/orders{path}", hf_place) == ["data/rows.jsonl"]


@pytest.mark.parametrize(
    ("uri", "where"), [("sets/nothing/", "sets/ has, for example: orders/"), ("no/such/place/", " has, ")]
)
def test_missing_bucket_folder_is_named_with_nearest_names(s3_place, uri, where):
    s3_place.put({"rows.jsonl": b"{}\n"})
    with pytest.raises(SourceNotFoundError) as raised, s3_place.open(uri=f"s3://{BUCKET}/{uri}"):
        pass
    assert str(raised.value).startswith(f"data.sources[train].uri: s3://{BUCKET}/{uri} has no files")
    assert where in raised.value.hint
    assert raised.value.hint.startswith(f"s3://{BUCKET}/")


def test_folder_of_a_bucket_without_a_slash_is_explained(s3_place):
    s3_place.put({"rows.jsonl": b"{}\n"})
    uri = s3_place.uri.removesuffix("/")
    with pytest.raises(SourceNotFoundError, match=f"{uri} is a folder") as raised, s3_place.open(uri=uri):
        pass
    assert raised.value.hint.endswith(f"{uri}/")


def test_missing_file_of_a_bucket_is_named_with_existing_names(s3_place):
    s3_place.put({"rows.jsonl": b"{}\n"})
    uri = f"{s3_place.uri}row.jsonl"
    with pytest.raises(SourceNotFoundError, match=f"{uri} does not exist") as raised, s3_place.open(uri=uri):
        pass
    assert raised.value.hint == f"{s3_place.uri} has, for example: rows.jsonl"


def test_objects_that_mark_folders_are_left_out(s3_place):
    s3_place.put({"": b"", "2024/": b"", "2024/rows.jsonl": b"{}\n"})
    assert names_listed(s3_place.uri, s3_place) == ["2024/rows.jsonl"]


def test_whole_bucket_is_a_folder(s3_place):
    s3_place.put({"rows.jsonl": b"{}\n"})
    found = names_listed(f"s3://{BUCKET}/", s3_place)
    assert "sets/orders/rows.jsonl" in found
    assert "team/tiny/config.json" in found


def test_damaged_file_of_a_bucket_folder_is_named(s3_place, s3_server):
    s3_place.put({"a.jsonl": b"{}\n", "damaged-one.jsonl": b"{}\n" * 100})
    s3_server.damage("damaged-one.jsonl")
    with (
        pytest.raises(BadDataError, match=r"damaged-one\.jsonl does not match"),
        s3_place.open(),
    ):
        pass


def test_hub_cannot_write_outside_the_folder(hf_place, model_hub, tmp_path):
    hf_place.put({})
    files = {"rows.jsonl": b"{}\n", "../../../../../evil.jsonl": b"{}\n"}
    model_hub.repositories["datasets/org/orders"].files = files
    with (
        pytest.raises(UserError, match=r"cannot be stored in a folder: \.\./.*evil\.jsonl"),
        hf_place.open(uri="hf://datasets/org/orders"),
    ):
        pass
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize(
    "name", ["../rows", "a/../../rows", "a/..", "/etc/rows", "a//rows", "./rows", "a/./rows", "a\0b", "rows"]
)
def test_name_that_is_no_place_in_the_folder_is_refused(name):
    address = Address("data.sources[train].uri", "s3://bucket/orders/")
    with pytest.raises(UserError, match="cannot be stored in a folder: ") as raised:
        folder.choose_files(address, ["rows/1.jsonl", name, "other.jsonl"])
    assert str(raised.value).endswith(f": {printable(name)}")


@pytest.mark.parametrize("partial", ["a/rows.part", "a/rows.part/1.jsonl"])
def test_name_of_a_partial_download_is_refused(partial):
    address = Address("data.sources[train].uri", "s3://bucket/orders/")
    with pytest.raises(UserError, match=r"names of partial downloads: a/rows\.part$") as raised:
        folder.choose_files(address, ["a/rows", partial, "other.part", ".x", ".x.part"])
    assert "rename" in raised.value.hint
    assert folder.choose_files(address, [partial, "other.part"]) == [partial, "other.part"]


def test_files_are_chosen_in_the_order_of_their_names():
    address = Address("data.sources[train].uri", "s3://bucket/orders/")
    assert folder.choose_files(address, ["b", "a/b", ".x", "a/.y/c", "a.b", "..."]) == ["a.b", "a/b", "b"]
