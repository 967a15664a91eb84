"""The interface of schemes, and a scheme that is added to the table with one line."""

import hashlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from tunegate_api.contract.process import Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.data import DataSource
from tunegate_api.v1alpha2.finetunejob import ModelSource
from tunegate_trainer.fetch import DATA_SCHEMES, MODEL_SCHEMES, RemoteFiles, RemoteModels
from tunegate_trainer.fetch.address import Address, Choose, RemoteFile, RemoteModel, Stream
from tunegate_trainer.fetch.checksum import Checksum
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.models.resolve import resolve_model
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.process.files import verify

ROW = b'{"prompt": "a", "completion": "b"}\n'


@dataclass(frozen=True)
class Memory:
    """A scheme that these tests add: it reads files from memory."""

    files: dict[str, bytes]

    def pinned(self, address: Address) -> str | None:
        return address.revision

    def find_model(self, address: Address, choose: Choose) -> RemoteModel:
        return RemoteModel(tuple(map(self._file, choose(list(self.files)))), revision=address.revision)

    def find_data(self, address: Address) -> RemoteFile:
        if address.rest not in self.files:
            raise address.not_found(f"there is no {address.uri}")
        return self._file(address.rest)

    def _file(self, name: str) -> RemoteFile:
        content = self.files[name]
        checksum = Checksum("sha256", hashlib.sha256(content).hexdigest())
        return RemoteFile(name, len(content), checksum, partial(self._read, content))

    @contextmanager
    def _read(self, content: bytes, start: int) -> Iterator[Stream]:
        yield Stream(start, iter([content[start:]]))


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", sorted(MODEL_SCHEMES))
def test_every_scheme_of_models_has_the_methods_of_its_interface(name):
    for method in ("pinned", "find_model"):
        found = getattr(MODEL_SCHEMES[name](), method)
        assert parameters(found) == parameters(getattr(RemoteModels, method))[1:]


@pytest.mark.parametrize("name", sorted(DATA_SCHEMES))
def test_every_scheme_of_data_has_the_methods_of_its_interface(name):
    assert parameters(DATA_SCHEMES[name]().find_data) == parameters(RemoteFiles.find_data)[1:]


def test_scheme_added_with_one_line_provides_models_and_files(make_root, tiny_model, monkeypatch):
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    memory = Memory({**files, "rows.jsonl": ROW})
    monkeypatch.setitem(MODEL_SCHEMES, "memory", lambda: memory)
    monkeypatch.setitem(DATA_SCHEMES, "memory", lambda: memory)
    root = make_root()
    context = root.context(Role.DATA)
    source = ModelSource.model_construct(uri="memory://tiny", revision="1", secret_name=None)
    plan = resolve_model(context, source)
    assert plan.revision == "1"
    assert verify(root.workspace / Workspace.base_model(plan.digest)) == []
    rows = DataSource.model_construct(uri="memory://rows.jsonl")
    with open_source(context, rows, "data.sources[train]") as source:
        assert source.path.name == "rows.jsonl"
        assert source.path.read_bytes() == ROW
        assert source.sha256 == hashlib.sha256(ROW).hexdigest()
    assert not source.path.exists()


def test_data_address_with_an_unknown_scheme_is_refused(tmp_path):
    source = DataSource.model_construct(uri="memory://rows.jsonl")
    context = Context(Role.DATA, root=tmp_path)
    with (
        pytest.raises(UserError, match="memory:// is not supported here"),
        open_source(context, source, "data.sources[train]"),
    ):
        pass
