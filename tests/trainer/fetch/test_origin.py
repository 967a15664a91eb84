"""A model that a job downloaded from servers of its owner's choice is not used by other jobs."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from safetensors.torch import load_file, save_file

from support.stores.model_hub import COMMIT, ModelHub, Repository
from support.trainer_root import TrainerRoot
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.environment import ALLOWED
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.fetch.origin import PATHS, VALUES, origin
from tunegate_trainer.main import main
from tunegate_trainer.process.credentials import Secret

pytestmark = pytest.mark.model

SOURCE = {"uri": "hf://org/tiny", "revision": COMMIT}
WEIGHTS = "model.safetensors"
FROM_ANY_SERVER = {
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"),
    *("HF_HUB_DISABLE_XET", "HF_HUB_VERBOSITY"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_EC2_METADATA_DISABLED"),
    *("AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"),
    *("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"),
}
"""Variables of hubs and object stores that do not decide which server is asked: credentials and timeouts."""


@pytest.fixture(autouse=True)
def _default_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VALUES, *PATHS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def changed_hub(model_files: dict[str, bytes], tmp_path: Path) -> Iterator[ModelHub]:
    """The hub of the first job's owner, with changed weights at the same name and commit."""
    file = tmp_path / WEIGHTS
    file.write_bytes(model_files[WEIGHTS])
    save_file({name: 0 * weights for name, weights in load_file(file).items()}, file, {"format": "pt"})
    hub = ModelHub({"org/tiny": Repository(model_files | {WEIGHTS: file.read_bytes()})})
    with hub.cdn, hub.server:
        yield hub


@pytest.fixture
def true_hub(model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    """The hub that the client asks by default."""
    hub = ModelHub({"org/tiny": Repository(dict(model_files))})
    with hub.cdn, hub.server:
        url, constants = f"http://127.0.0.1:{hub.server.port}", huggingface_hub.constants
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        yield hub


def fetched(root: TrainerRoot) -> bytes:
    """Run the data role of another job on the same volume. Return the weights that it would train."""
    shutil.rmtree(root.workspace / root.paths.job, ignore_errors=True)
    assert main(["data"]) == ExitCode.OK
    plan = root.report(Role.DATA).plan
    assert plan is not None
    return (root.workspace / Workspace.base_model(plan.model.digest) / WEIGHTS).read_bytes()


def test_other_servers_pinned_model_is_not_used_by_jobs(
    make_job: Callable[..., TrainerRoot],
    monkeypatch: pytest.MonkeyPatch,
    changed_hub: ModelHub,
    true_hub: ModelHub,
    model_files: dict[str, bytes],
) -> None:
    root = make_job(SOURCE)
    with monkeypatch.context() as environment:
        environment.setenv("HF_ENDPOINT", f"http://127.0.0.1:{changed_hub.server.port}")
        assert fetched(root) != model_files[WEIGHTS], "the attack works on the attacker's own job"
    assert fetched(root) == model_files[WEIGHTS]
    asked = len(true_hub.cdn.requests)
    assert asked
    assert fetched(root) == model_files[WEIGHTS]
    assert len(true_hub.cdn.requests) == asked, "jobs without such variables share the model"


@pytest.mark.parametrize("name", VALUES)
def test_every_variable_that_chooses_a_server_changes_the_origin(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    address = Address("model.uri", "hf://org/tiny")
    assert origin(address) == ""
    origins = set()
    for value in ("http://one", "http://other"):
        monkeypatch.setenv(name, value)
        origins.add(origin(address))
    assert len(origins - {""}) == 2
    monkeypatch.setenv(name, "")
    assert origin(address) == ""


@pytest.mark.parametrize("name", PATHS)
def test_changed_certificates_at_the_same_path_change_the_origin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    address, folder = Address("model.uri", "hf://org/tiny"), tmp_path / "certificates"
    folder.mkdir()
    for path in (folder, folder / "ca.pem"):
        monkeypatch.setenv(name, str(path))
        origins = set()
        for content in ("one", "other"):
            (folder / "ca.pem").write_text(content)
            origins.add(origin(address))
        assert len(origins) == 2
    monkeypatch.setenv(name, str(folder / "missing.pem"))
    assert origin(address) not in ("", *origins)


def test_endpoint_in_a_secret_is_part_of_the_origin() -> None:
    def of(endpoint: str) -> str:
        secret = Secret("store", {"AWS_ACCESS_KEY_ID": "any", "AWS_ENDPOINT_URL": endpoint})
        return origin(Address("model.uri", "s3://bucket/tiny", secret=secret))

    assert len({of("https://one"), of("https://other"), ""}) == 3


def test_origin_covers_every_variable_for_downloads() -> None:
    """A new variable in these groups belongs in VALUES or PATHS, or in FROM_ANY_SERVER above."""
    starts = ("Proxies.", "Certificate authorities", "A model hub:", "An object store:")
    names = {name for group in ALLOWED if group.purpose.startswith(starts) for name in group.names}
    assert len(names) > len(FROM_ANY_SERVER)
    assert names - FROM_ANY_SERVER <= {*VALUES, *PATHS}
    assert names >= FROM_ANY_SERVER
