"""Fixtures for fetch tests: a server of each scheme with the tiny model, and a job that fetches it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from support.stores.faulty_proxy import FaultyProxy
from support.stores.model_hub import COMMIT, TOKEN, ModelHub, Repository
from support.stores.model_store import ModelStore
from support.stores.oci_registry import PASSWORD, USER, OciRegistry
from support.stores.s3_server import BUCKET, S3Server
from support.trainer_root import TrainerRoot
from tunegate_trainer.fetch import network

MakeJob = Callable[..., TrainerRoot]
ROWS = "".join(f'{{"prompt": "order {i}", "completion": "{i}"}}\n' for i in range(100))


@pytest.fixture(autouse=True)
def _retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "FIRST_PAUSE", 0)
    monkeypatch.setattr(network, "LONGEST_PAUSE", 0)
    # Other tests set it before the client is imported, but the data role needs it unset.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_TOKEN", "HF_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def model_files(tiny_model: Path) -> dict[str, bytes]:
    """The files of the tiny model as uploaded, including unsafe weights that must not be loaded."""
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    return files | {"README.md": b"# tiny", "pytorch_model.bin": b"pickle" * 20_000}


@pytest.fixture
def model_hub(model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    """A model hub with the tiny model as ``org/tiny``, set as the client's endpoint."""
    hub = ModelHub({"org/tiny": Repository(dict(model_files))})
    with hub.cdn, hub.server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server.port}")
        yield hub


@pytest.fixture
def hf_store(model_hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelStore]:
    model_hub.repositories["org/tiny"].is_private = True
    with FaultyProxy(model_hub.server.port) as api, FaultyProxy(model_hub.cdn.port) as files:
        model_hub.cdn_port = files.port
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{api.port}")
        yield ModelStore(
            "hf://org/tiny",
            HubProxies(api, files),
            model_hub,
            secret={"HF_TOKEN": TOKEN},
            wrong_secret={"HF_TOKEN": "an-old-token"},
            revision="v1",
            recorded=COMMIT,
            pinned={"revision": COMMIT},
        )


class HubProxies:
    """The proxies of the hub's API and of its file host. Connections to files break; both can go down."""

    def __init__(self, api: FaultyProxy, files: FaultyProxy) -> None:
        self._api, self._files = api, files
        self.break_after, self.answer_next = files.break_after, api.answer_next

    @property
    def served(self) -> int:
        return self._api.served + self._files.served

    def go_down(self) -> None:
        self._api.go_down()
        self._files.go_down()

    def come_up(self) -> None:
        self._api.come_up()
        self._files.come_up()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def s3_store(s3_server: S3Server, model_files: dict[str, bytes]) -> Iterator[ModelStore]:
    s3_server.check_credentials(False)
    for name, content in model_files.items():
        s3_server.put(f"team/tiny/{name}", content)
    s3_server.check_credentials(True)
    with FaultyProxy(s3_server.port) as proxy:
        secret = s3_server.secret | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
        wrong = secret | {"AWS_SECRET_ACCESS_KEY": "an0ther-k3y"}
        yield ModelStore(f"s3://{BUCKET}/team/tiny", proxy, s3_server, secret=secret, wrong_secret=wrong)


@pytest.fixture
def registry() -> Iterator[OciRegistry]:
    """An empty registry without authentication."""
    registry = OciRegistry()
    with registry.server:
        yield registry


@pytest.fixture
def oci_store(registry: OciRegistry, model_files: dict[str, bytes]) -> Iterator[ModelStore]:
    registry.login = "Bearer"
    digest = registry.push("v1", *(registry.push_file(name, c) for name, c in model_files.items()))
    with FaultyProxy(registry.server.port) as proxy:
        registry.public_port = proxy.port
        name = f"oci://127.0.0.1:{proxy.port}/models/tiny"
        yield ModelStore(
            f"{name}:v1",
            proxy,
            registry,
            secret={"username": USER, "password": PASSWORD},
            wrong_secret={"username": USER, "password": "guessed"},
            recorded=digest,
            pinned={"uri": f"{name}@{digest}"},
        )


@pytest.fixture
def make_job(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    """Make the root of a job whose data role fetches ``model``, with a Secret named ``store``."""

    def make(
        model: dict[str, Any], secret: dict[str, str] | None = None, train: dict[str, Any] | None = None
    ) -> TrainerRoot:
        root = TrainerRoot(
            tmp_path / "root",
            inputs={"orders/train.jsonl": ROWS},
            spec={
                "model": model,
                "data": {
                    "goal": "StyleOrFormat",
                    "sources": [{"name": "train", **(train or {"configMap": "orders"})}],
                    "sizePolicy": "Warn",
                    "heldOut": {"fraction": "20%"},
                },
            },
        ).write_for_data(tiny_model)
        for key, value in (secret or {}).items():
            file = root.path / "secrets" / "store" / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(value)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        return root

    return make
