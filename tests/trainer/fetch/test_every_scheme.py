"""Conformance tests for every remote scheme: downloads are complete, verified, resumable and cached."""

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support.stores.model_store import ModelStore
from support.trainer_root import TrainerRoot
from support.waiting import eventually
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer.fetch import MODEL_SCHEMES
from tunegate_trainer.fetch.download import PART
from tunegate_trainer.main import main
from tunegate_trainer.process import files
from tunegate_trainer.process.files import verify

pytestmark = pytest.mark.model

WEIGHTS = "model.safetensors"
CUT = 200_000
"""Number of bytes after which a connection breaks: about half of the weights, and all files before them."""
SMALL = 60_000
"""A size in bytes that is more than that of all files except the weights."""


@pytest.fixture(params=sorted(MODEL_SCHEMES))
def store(request) -> ModelStore:
    """A server of each scheme for models in the table. A new scheme needs a fixture SCHEME_store."""
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def job(make_job) -> Callable[..., TrainerRoot]:
    """Make a job whose data role fetches the store's model, with its Secret or another one."""

    def make(store: ModelStore, secret: dict[str, str] | None = None, **changes: str) -> TrainerRoot:
        return make_job(store.source(**changes), store.secret if secret is None else secret)

    return make


def model_folder(root: TrainerRoot) -> Path:
    plan = root.report(Role.DATA).plan
    assert plan is not None
    return root.workspace / Workspace.base_model(plan.model.digest)


def failure(root: TrainerRoot) -> Failure:
    found = root.report(Role.DATA).failure
    assert found is not None
    return found


def test_model_is_fetched_and_its_revision_recorded(store, job, tiny_model):
    root = job(store)
    assert main(["data"]) == ExitCode.OK
    folder = model_folder(root)
    assert verify(folder) == []
    assert (folder / WEIGHTS).read_bytes() == (tiny_model / WEIGHTS).read_bytes()
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "tokenizer.json"} <= names
    assert not names & {"pytorch_model.bin", "README.md"}, "unneeded or unsafe files"
    assert root.report(Role.DATA).plan.model.revision == store.recorded
    assert not (root.workspace / root.paths.download / "model").exists()


def test_unneeded_files_of_a_model_are_not_downloaded(store, job, model_files):
    job(store)
    assert main(["data"]) == ExitCode.OK
    assert store.proxy.served < len(model_files[WEIGHTS]) + len(model_files["pytorch_model.bin"])


def test_secret_appears_in_no_file_or_log(store, job, capfd):
    root = job(store)
    assert main(["data"]) == ExitCode.OK
    shutil.rmtree(root.path / "secrets")
    written = [path.read_bytes() for path in root.path.rglob("*") if path.is_file()]
    captured = capfd.readouterr()
    for key, value in store.secret.items():
        if key not in ("AWS_REGION", "AWS_ENDPOINT_URL", "username"):
            assert not any(value.encode() in content for content in written)
            assert value not in captured.out + captured.err


def test_refused_credentials_are_reported_with_the_secrets_name(store, job, capfd):
    root = job(store, store.wrong_secret)
    assert main(["data"]) == ExitCode.CREDENTIALS
    found = failure(root)
    assert found.reason == Reason.CREDENTIALS
    assert found.message.startswith(f"model.uri: {store.uri} refuses access: ")
    assert "Secret store" in found.hint
    text = capfd.readouterr().err + found.model_dump_json()
    changed = [value for key, value in store.wrong_secret.items() if value != store.secret[key]]
    assert not [value for value in changed if value in text]


def test_missing_model_is_not_found(store, job):
    missing = store.uri.replace("tiny", "huge")
    root = job(store, uri=missing)
    assert main(["data"]) == ExitCode.NOT_FOUND
    assert missing in failure(root).message


def test_broken_download_resumes_in_the_same_pod(store, job, model_files):
    root = job(store)
    store.proxy.break_after(CUT)
    assert main(["data"]) == ExitCode.OK
    assert verify(model_folder(root)) == []
    assert store.proxy.served < len(model_files[WEIGHTS]) + SMALL, "the download did not resume"


def test_server_is_asked_again_after_its_requested_wait(store, job, caplog):
    caplog.set_level("WARNING")
    root = job(store)
    store.proxy.answer_next("503 Service Unavailable", "Retry-After: 1")
    assert main(["data"]) == ExitCode.OK
    assert "model.uri: the server answered with status 503; retrying in 1 s" in caplog.text
    assert verify(model_folder(root)) == []


def test_next_pod_resumes_the_download(store, job, model_files):
    root = job(store)
    store.proxy.break_after(CUT, then=store.proxy.go_down)
    assert main(["data"]) == ExitCode.UNREACHABLE
    assert failure(root).reason == Reason.UNREACHABLE
    assert "6 attempts failed in a row" in failure(root).message
    store.proxy.come_up()
    before = store.proxy.served
    assert main(["data", "--attempt", "2"]) == ExitCode.OK
    assert verify(model_folder(root)) == []
    rest = len(model_files[WEIGHTS]) - CUT + SMALL + SMALL  # an incomplete chunk is lost
    assert store.proxy.served - before < rest, "the download did not resume"


def test_download_resumes_after_sigterm(store, job, model_files):
    root = job(store)
    handler = signal.getsignal(signal.SIGTERM)

    def has_most() -> bool:
        parts = (root.workspace / root.paths.download).rglob(f"*{PART}")
        return max((part.stat().st_size for part in parts), default=0) > CUT / 2

    def stop() -> None:
        eventually(has_most, what="the sent bytes are on the volume")
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        store.proxy.break_after(CUT, then=stop)
        assert main(["data"]) == ExitCode.INTERRUPTED
        before = store.proxy.served
        assert main(["data", "--attempt", "2"]) == ExitCode.OK
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert store.proxy.served - before < len(model_files[WEIGHTS]) - CUT / 2 + SMALL
    assert verify(model_folder(root)) == []


def test_content_with_a_wrong_checksum_is_refused_and_removed(store, job, model_files):
    root = job(store)
    store.content.damage(WEIGHTS)
    assert main(["data"]) == ExitCode.BAD_DATA
    assert "does not match the checksum that the server reports" in failure(root).message
    assert list((root.workspace / Workspace.models).glob("*")) == []
    store.content.mend(WEIGHTS)
    before = store.proxy.served
    assert main(["data", "--attempt", "2"]) == ExitCode.OK
    assert store.proxy.served - before > len(model_files[WEIGHTS]), "the download resumed with damaged bytes"
    assert verify(model_folder(root)) == []


def test_damaged_partial_download_of_an_earlier_pod_is_not_used(store, job):
    root = job(store)
    store.proxy.break_after(CUT, then=store.proxy.go_down)
    assert main(["data"]) == ExitCode.UNREACHABLE
    (part,) = [
        path for path in (root.workspace / root.paths.download).rglob(f"*{PART}") if path.stat().st_size
    ]
    with part.open("r+b") as file:
        file.write(b"\0" * 16)
    store.proxy.come_up()
    assert main(["data", "--attempt", "2"]) == ExitCode.OK
    assert verify(model_folder(root)) == []


def test_second_job_reuses_the_downloaded_model(store, job):
    root = job(store)
    assert main(["data"]) == ExitCode.OK
    first = model_folder(root)
    shutil.rmtree(root.workspace / root.paths.job)
    before = store.proxy.served
    assert main(["data"]) == ExitCode.OK
    assert model_folder(root) == first
    assert store.proxy.served - before < SMALL
    assert root.report(Role.DATA).plan.model.revision == store.recorded


@pytest.mark.parametrize("store", ["hf", "oci"], indirect=True)
def test_pinned_model_on_the_volume_needs_no_network(store, job):
    root = job(store, **store.pinned)
    assert main(["data"]) == ExitCode.OK
    shutil.rmtree(root.workspace / root.paths.job)
    store.proxy.go_down()
    assert main(["data"]) == ExitCode.OK
    assert root.report(Role.DATA).plan.model.revision == store.recorded


@pytest.mark.parametrize("damaged", [WEIGHTS, "manifest.json"])
def test_damaged_model_on_the_volume_is_downloaded_again(store, job, tiny_model, damaged):
    root = job(store)
    assert main(["data"]) == ExitCode.OK
    folder = model_folder(root)
    (folder / damaged).write_bytes(b"lost")
    shutil.rmtree(root.workspace / root.paths.job)
    assert main(["data"]) == ExitCode.OK
    assert verify(folder) == []
    assert (folder / WEIGHTS).read_bytes() == (tiny_model / WEIGHTS).read_bytes()


def test_model_with_a_read_error_is_not_removed(store, job, monkeypatch):
    root = job(store)
    assert main(["data"]) == ExitCode.OK
    folder = model_folder(root)
    shutil.rmtree(root.workspace / root.paths.job)
    sha256_file = files.sha256_file

    def stale(path: Path) -> str:
        if path == folder / WEIGHTS:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return sha256_file(path)

    monkeypatch.setattr(files, "sha256_file", stale)
    assert main(["data"]) == ExitCode.STORAGE
    assert f"{WEIGHTS} cannot be read: Stale file handle" in failure(root).message
    monkeypatch.undo()
    assert verify(folder) == []


def test_download_larger_than_the_volume_does_not_start(store, job, monkeypatch):
    root = job(store)
    usage = shutil.disk_usage(root.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    assert main(["data"]) == ExitCode.STORAGE
    assert "the download needs 0.4 MB, but the volume has 0.1 MB free" in failure(root).message
    assert store.proxy.served < SMALL
